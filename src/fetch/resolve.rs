//! Moving names: which module holds a package, and which version `latest`, `v1` or a branch means.
//!
//! Answers are for people and pages: they are redirected to, never logged. The module's own go.mod
//! decides what is retracted, and only a verified one.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};

use super::{error::FetchError, gomod::GoMod, modules::Modules};
use crate::{
    modzip::{Archive, prefix},
    proxy::ProxyError,
    spec::{ModulePath, ModuleVersion, PackageQuery, Version},
};

/// Most modules that may hold a package; more path elements are an attempt to make us ask a lot.
const CANDIDATES_MAX: usize = 16;
/// Most versions that are told.
pub(super) const VERSIONS_MAX: usize = 1_000;
/// Most bytes of them; a message holds 64 KiB.
const VERSIONS_BYTES_MAX: usize = 40 * 1024;
/// How long warnings may keep an explicit version waiting.
const WARNINGS_TIME: Duration = Duration::from_secs(20);

/// A concrete version, and what its author says about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) module: ModuleVersion,
    pub(super) warnings: Vec<String>,
}

/// Finds module and version. Of several modules the longest path wins that holds the package.
pub(super) async fn resolve(
    modules: &Arc<Modules>,
    query: &PackageQuery,
) -> Result<Resolved, FetchError> {
    let candidates = query.candidates();
    if candidates.len() > CANDIDATES_MAX {
        return Err(FetchError::NotFound(format!(
            "`{}` has too many elements: write it as module@version/package",
            query.package
        )));
    }
    let mut tasks = JoinSet::new();
    for (order, module) in candidates.into_iter().enumerate() {
        let (modules, query) = (Arc::clone(modules), query.query.to_string());
        tasks.spawn(async move { (order, version(&modules, &module, &query).await) });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(order, _)| *order);
    let mut found = Vec::new();
    let mut absence = None;
    for (_, result) in results {
        match result {
            Ok(module) => found.push(module),
            // A longer path that cannot be asked now may be the right one.
            Err(error) if !is_missing(&error) => return Err(error),
            Err(error) => absence = Some(error),
        }
    }
    let module = match (found.len(), query.module.is_some()) {
        (0, true) => return Err(absence.unwrap_or_else(|| no_module(query))),
        (0, false) => return Err(no_module(query)),
        (1, _) => found.remove(0),
        _ => longest_holding(modules, query, found).await?,
    };
    let warnings = timeout(WARNINGS_TIME, warnings(modules, &module))
        .await
        .unwrap_or_default();
    Ok(Resolved { module, warnings })
}

fn no_module(query: &PackageQuery) -> FetchError {
    let hint = match query.query.exact() {
        Some(_) => "",
        None => "; some proxies know exact versions only, as in @v1.2.3",
    };
    FetchError::NotFound(format!(
        "the module proxy knows no module that holds `{}` at version `{}`{hint}",
        query.package, query.query
    ))
}

fn is_missing(error: &FetchError) -> bool {
    error.trouble().kind == super::wire::TroubleKind::NotFound
}

/// The first module, longest path first, whose verified zip has a Go file in the package's folder.
async fn longest_holding(
    modules: &Arc<Modules>,
    query: &PackageQuery,
    found: Vec<ModuleVersion>,
) -> Result<ModuleVersion, FetchError> {
    for module in found {
        let Some(dir) = query.dir_in(&module.path) else {
            continue;
        };
        let zip = modules.zip(&module).await?;
        let prefix = prefix(module.path.as_str(), module.version.as_str());
        let name = module.to_string();
        let holds = tokio::task::spawn_blocking(move || {
            let archive = Archive::open(&zip.file, &prefix)?;
            let folder = if dir.is_root() {
                prefix
            } else {
                format!("{prefix}{}/", dir.as_str())
            };
            let is_inside = |name: &str| {
                name.strip_prefix(&folder)
                    .is_some_and(|file| file.ends_with(".go") && !file.contains('/'))
            };
            Ok(archive.entries().iter().any(|entry| is_inside(&entry.name)))
        });
        let holds = holds.await?.map_err(|source| FetchError::Zip {
            module: name,
            source,
        })?;
        if holds {
            return Ok(module);
        }
    }
    Err(FetchError::NotFound(format!(
        "no module holds package `{}`",
        query.package
    )))
}

/// What a query means for one module.
async fn version(
    modules: &Modules,
    path: &ModulePath,
    query: &str,
) -> Result<ModuleVersion, FetchError> {
    let fit = |version| ModuleVersion::new(path.clone(), version);
    if let Ok(exact) = Version::parse(query) {
        // What was proven once exists for ever, whatever the proxy says today.
        if let Ok(module) = fit(exact.clone())
            && modules.is_proven(&module)?
        {
            return Ok(module);
        }
    }
    let version = match query {
        "latest" => latest(modules, path, |_| true).await?,
        _ if is_line(query) => {
            let line = format!("{query}.");
            latest(modules, path, |version| version.as_str().starts_with(&line)).await?
        }
        _ => modules.info(path, query).await?,
    };
    Ok(fit(version)?)
}

/// `v1` or `v1.2`.
fn is_line(query: &str) -> bool {
    let Some(numbers) = query.strip_prefix('v') else {
        return false;
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.split('.').count() < 3 && numbers.split('.').all(is_number)
}

/// The newest release that its newest go.mod does not retract, else the newest pre-release.
async fn latest(
    modules: &Modules,
    path: &ModulePath,
    wanted: impl Fn(&Version) -> bool,
) -> Result<Version, FetchError> {
    let all = match modules.proxy.list(path).await {
        Err(ProxyError::Missing { .. }) => Vec::new(),
        result => result?,
    };
    let all = without_incompatible(modules, path, all).await?;
    let Some(newest) = newest(&all, |_| true) else {
        let version = modules.proxy.latest(path).await?;
        return if wanted(&version) {
            Ok(version)
        } else {
            Err(none_matches(path))
        };
    };
    let says = match ModuleVersion::new(path.clone(), newest) {
        Ok(module) => GoMod::parse(&modules.go_mod(&module).await?.1)?,
        Err(_) => GoMod::default(),
    };
    newest_of(&all, &wanted, &says).ok_or_else(|| none_matches(path))
}

fn none_matches(path: &ModulePath) -> FetchError {
    FetchError::NotFound(format!("`{path}` has no version that matches"))
}

fn newest_of(all: &[Version], wanted: &impl Fn(&Version) -> bool, says: &GoMod) -> Option<Version> {
    newest(all, |version| {
        wanted(version) && says.retraction(version).is_none()
    })
    .or_else(|| newest(all, wanted))
}

/// The newest release, else the newest pre-release.
fn newest(all: &[Version], wanted: impl Fn(&Version) -> bool) -> Option<Version> {
    let key = |version: &&Version| (!version.is_prerelease(), (*version).clone());
    all.iter()
        .filter(|version| wanted(version))
        .max_by_key(key)
        .cloned()
}

/// As in go, `v2.0.0+incompatible` does not count once the newest compatible version has a go.mod.
async fn without_incompatible(
    modules: &Modules,
    path: &ModulePath,
    all: Vec<Version>,
) -> Result<Vec<Version>, FetchError> {
    let (incompatible, compatible): (Vec<_>, Vec<_>) =
        all.into_iter().partition(Version::is_incompatible);
    let newest = newest(&compatible, |_| true);
    let module = newest.and_then(|version| ModuleVersion::new(path.clone(), version).ok());
    let has_go_mod = match (incompatible.is_empty(), module) {
        (true, _) => true,
        (false, None) => false,
        (false, Some(module)) => {
            // What the proxy makes up for a module without go.mod.
            modules.go_mod(&module).await?.1 != format!("module {path}\n").as_bytes()
        }
    };
    Ok(if has_go_mod {
        compatible
    } else {
        [compatible, incompatible].concat()
    })
}

/// Deprecation and retraction, from the newest go.mod. Nothing when that cannot be had: an explicit
/// version works without.
async fn warnings(modules: &Modules, module: &ModuleVersion) -> Vec<String> {
    let Ok(all) = modules.proxy.list(&module.path).await else {
        return Vec::new();
    };
    warnings_of(modules, &module.path, &all, Some(&module.version)).await
}

async fn warnings_of(
    modules: &Modules,
    path: &ModulePath,
    all: &[Version],
    version: Option<&Version>,
) -> Vec<String> {
    let newest = newest(all, |_| true);
    let newest = newest.and_then(|version| ModuleVersion::new(path.clone(), version).ok());
    let Some(newest) = newest else {
        return Vec::new();
    };
    let Ok((_, content)) = modules.go_mod(&newest).await else {
        return Vec::new();
    };
    let Ok(says) = GoMod::parse(&content) else {
        return Vec::new();
    };
    let deprecated = says
        .deprecated
        .as_ref()
        .map(|why| format!("`{path}` is deprecated: {why}"));
    let retracted = version.and_then(|version| {
        let why = &says.retraction(version)?.why;
        let why = if why.is_empty() {
            "no reason given"
        } else {
            why
        };
        Some(format!(
            "`{path}@{version}` was retracted by its author: {why}"
        ))
    });
    deprecated.into_iter().chain(retracted).collect()
}

/// All versions, newest first, and the warnings that hold for the whole module.
pub(super) async fn versions(
    modules: &Modules,
    path: &ModulePath,
) -> Result<(Vec<String>, Vec<String>), FetchError> {
    let mut all = match modules.proxy.list(path).await {
        Ok(all) if !all.is_empty() => all,
        Ok(_) => vec![modules.proxy.latest(path).await?],
        Err(missing @ ProxyError::Missing { .. }) => match modules.proxy.latest(path).await {
            Ok(version) => vec![version],
            Err(ProxyError::Missing { .. }) => return Err(missing.into()),
            Err(error) => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    let warnings = warnings_of(modules, path, &all, None).await;
    all.sort_by(|one, other| other.cmp(one));
    let mut bytes = 0;
    let fits = |version: &String| {
        bytes += version.len() + 4; // quotes, comma
        bytes <= VERSIONS_BYTES_MAX
    };
    let all = all
        .iter()
        .map(ToString::to_string)
        .take(VERSIONS_MAX)
        .take_while(fits)
        .collect();
    Ok((all, warnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(text: &str) -> Vec<Version> {
        text.split(' ')
            .map(|version| Version::parse(version).unwrap())
            .collect()
    }

    #[test]
    fn latest_is_the_newest_release_that_is_not_retracted_else_a_pre_release() {
        let says = GoMod::parse(b"retract (\n v1.3.0\n [v1.0.0, v1.1.0]\n)\n").unwrap();
        let latest = |text: &str| {
            newest_of(&versions(text), &|_| true, &says)
                .unwrap()
                .to_string()
        };
        assert_eq!(latest("v1.2.0 v1.3.0 v1.10.0 v2.0.0-rc.1"), "v1.10.0");
        assert_eq!(latest("v1.2.0 v1.3.0 v1.4.0-rc.1"), "v1.2.0");
        assert_eq!(latest("v1.1.0 v1.3.0 v1.4.0-rc.1"), "v1.4.0-rc.1");
        assert_eq!(latest("v1.0.0 v1.1.0"), "v1.1.0"); // all retracted: with a warning
    }

    #[test]
    fn lines_are_told_from_versions_and_branches() {
        for (query, expected) in [
            ("v1", true),
            ("v1.2", true),
            ("v1.2.3", false),
            ("v1x", false),
            ("main", false),
            ("v", false),
        ] {
            assert_eq!(is_line(query), expected, "{query}");
        }
    }
}
