//! Paths of the web pages, as gobuild's, so that links keep working.

use super::{
    BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageDir, SpecError, Sum, Target,
    Variant, VersionQuery, key::split_target,
};

/// What a path below `/` asks for. First elements that are reserved never get here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `/<module>`
    Module(ModulePath),
    /// `/<module>@<version>[/<package>]`: a package without a target.
    Package {
        /// Module path.
        module: ModulePath,
        /// Version, or a moving name.
        query: VersionQuery,
        /// Directory of the package.
        dir: PackageDir,
    },
    /// `/<module>@<version>/[<package>/]<target>-<go>[-stripped]/…`
    Build {
        /// What to build; version and release may be moving names.
        build: BuildQuery,
        /// Which page of it.
        page: Page,
    },
    /// `…/<target>-<go>[-stripped]/<sum>/…`
    Result {
        /// What was built.
        key: BuildKey,
        /// Which artifact.
        sum: Sum,
        /// Which page of it.
        page: Page,
    },
}

/// A build whose version and release may still be moving names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildQuery {
    /// Module path.
    pub module: ModulePath,
    /// Version, or a moving name.
    pub query: VersionQuery,
    /// Directory of the package.
    pub dir: PackageDir,
    /// What the binary is for.
    pub target: Target,
    /// Go release, or a moving name.
    pub go: GoQuery,
    /// How it is linked.
    pub variant: Variant,
}

impl BuildQuery {
    /// The key, when nothing moves.
    #[must_use]
    pub fn exact(&self) -> Option<BuildKey> {
        let GoQuery::Exact(go) = self.go else {
            return None;
        };
        self.with(self.query.exact()?, go).ok()
    }

    /// The key for a concrete version and release.
    ///
    /// # Errors
    /// When the version's major number does not fit the module path.
    pub fn with(&self, version: super::Version, go: GoVersion) -> Result<BuildKey, SpecError> {
        Ok(BuildKey {
            module: ModuleVersion::new(self.module.clone(), version)?,
            dir: self.dir.clone(),
            target: self.target,
            go,
            variant: self.variant,
        })
    }
}

/// Pages of a build or result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The page itself; its path ends with a slash.
    Show,
    /// What the go command printed.
    Log,
    /// Server-sent events.
    Events,
    /// The line of the log.
    Record,
    /// Forget a failure.
    Retry,
    /// Redirects to the download.
    Dl,
    /// The binary.
    Download,
    /// The binary, compressed.
    DownloadGz,
}

impl Path {
    /// Longest accepted path in bytes: a key, a sum and a file name.
    pub const LEN_MAX: usize = 2 * BuildKey::LEN_MAX;

    /// Parses a path without its first slash, exactly as it came: nothing is decoded or cleaned.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = |why| SpecError::new("page", text, why);
        if text.len() > Self::LEN_MAX {
            return Err(error("it is too long"));
        }
        let Some((module, rest)) = text.split_once('@') else {
            return ModulePath::parse(text).map(Self::Module);
        };
        let module = ModulePath::parse(module)?;
        let (query, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let query = VersionQuery::parse(query)?;
        let elements: Vec<&str> = rest.split('/').collect();
        // The last element that is a target wins; a folder of that form can still be built, as
        // another target follows it.
        let found = elements.iter().rposition(|e| split_target(e).is_ok());
        let Some(at) = found else {
            if let Some(meant) = elements.iter().rfind(|e| looks_like_target(e)) {
                split_target(meant)?; // says what is wrong with it
            }
            let dir = PackageDir::parse(rest.strip_suffix('/').unwrap_or(rest))?;
            return Ok(Self::Package { module, query, dir });
        };
        let (target, go, variant) = split_target(elements[at])?;
        if at == 1 && elements[0].is_empty() {
            return Err(error("it has an empty element"));
        }
        let dir = PackageDir::parse(&elements[..at].join("/"))?;
        let go = GoQuery::parse(go)?;
        let build = BuildQuery {
            module,
            query,
            dir,
            target,
            go,
            variant,
        };
        Self::parse_page(build, &elements[at + 1..], text)
    }

    fn parse_page(build: BuildQuery, rest: &[&str], text: &str) -> Result<Self, SpecError> {
        let error = |why| SpecError::new("page", text, why);
        let key = build.exact();
        let page_of = |name: &str| match name {
            "" => Ok(Page::Show),
            "log" => Ok(Page::Log),
            "events" => Ok(Page::Events),
            "record" => Ok(Page::Record),
            "retry" => Ok(Page::Retry),
            "dl" => Ok(Page::Dl),
            file => {
                let name = key.as_ref().map(BuildKey::download_name);
                match (name.as_deref(), file.strip_suffix(".gz")) {
                    (Some(name), _) if name == file => Ok(Page::Download),
                    (Some(name), Some(file)) if name == file => Ok(Page::DownloadGz),
                    _ => Err(error("there is no such page of a build")),
                }
            }
        };
        match rest {
            [] => Err(error("it does not end with a slash")),
            [page] => match Sum::parse(page) {
                Ok(_) => Err(error("it does not end with a slash")),
                Err(_) => page_of(page).map(|page| Self::Build { build, page }),
            },
            [sum, page] => {
                let (sum, page) = (Sum::parse(sum)?, page_of(page)?);
                let key = key.ok_or_else(|| error("a result has no moving names"))?;
                Ok(Self::Result { key, sum, page })
            }
            _ => Err(error("it has too many elements")),
        }
    }
}

/// `linux-z80-go1.26.8` was meant as a target: better said so than taken for a folder.
fn looks_like_target(element: &str) -> bool {
    element.split('-').count() >= 3 && element.contains("-go1.")
}

/// Path of a build's page, with its slashes.
#[must_use]
pub fn build_path(key: &BuildKey) -> String {
    format!("/{key}")
}

/// Path of a result's page, with its slashes.
#[must_use]
pub fn result_path(key: &BuildKey, sum: &Sum) -> String {
    format!("/{key}{sum}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "0kmNLJfdiAxTjF01mpxtRmsUgIOc";
    const BUILD: &str = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8/";

    #[test]
    fn every_page_of_a_build_is_found() {
        for (name, page) in [
            ("", Page::Show),
            ("log", Page::Log),
            ("events", Page::Events),
            ("record", Page::Record),
            ("retry", Page::Retry),
            ("dl", Page::Dl),
            ("age-v1.2.1-go1.26.8", Page::Download),
            ("age-v1.2.1-go1.26.8.gz", Page::DownloadGz),
        ] {
            let Path::Build { build, page: found } =
                Path::parse(&format!("{BUILD}{name}")).unwrap()
            else {
                panic!("{name} is a page of a build");
            };
            assert_eq!(
                (found, build.exact().unwrap().to_string().as_str()),
                (page, BUILD)
            );
            let path = Path::parse(&format!("{BUILD}{SUM}/{name}")).unwrap();
            assert!(
                matches!(path, Path::Result { page: found, .. } if found == page),
                "{name}"
            );
        }
    }

    #[test]
    fn moving_names_are_kept_as_they_are() {
        let path = Path::parse("filippo.io/age@latest/cmd/age/linux-amd64-latest/").unwrap();
        let Path::Build { build, .. } = path else {
            panic!("a build")
        };
        assert_eq!(
            (build.query.as_str(), build.go),
            ("latest", GoQuery::Latest)
        );
        assert_eq!(build.exact(), None);
    }

    #[test]
    fn modules_and_packages_without_target_are_found() {
        assert!(matches!(Path::parse("filippo.io/age"), Ok(Path::Module(_))));
        for text in [
            "filippo.io/age@v1.2.1/cmd/age",
            "filippo.io/age@v1.2.1/cmd/age/",
        ] {
            let Ok(Path::Package { dir, .. }) = Path::parse(text) else {
                panic!("a package")
            };
            assert_eq!(dir.as_str(), "cmd/age");
        }
        assert!(matches!(
            Path::parse("filippo.io/age@v1.2.1"),
            Ok(Path::Package { .. })
        ));
    }

    #[test]
    fn bad_paths_are_refused() {
        let long = "a".repeat(Path::LEN_MAX + 1);
        for bad in [
            "",
            "..",
            "filippo.io/../etc/passwd",
            "filippo.io/age@v1.2.1/../x",
            "filippo.io/age@v1.2.1/cmd//age/linux-amd64-go1.26.8/",
            "filippo.io/age@v1.2.1//linux-amd64-go1.26.8/",
            "filippo.io/age@v1.2.1/cmd/age/linux-z80-go1.26.8/",
            "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8",
            "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8/other-v1.2.1-go1.26.8",
            "filippo.io/age@latest/cmd/age/linux-amd64-go1.26.8/0kmNLJfdiAxTjF01mpxtRmsUgIOc/",
            "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26/",
            "filippo.io/%61ge",
            "filippo.io/a\u{0}ge",
            &format!("{BUILD}{SUM}"),
            &format!("{BUILD}{SUM}/log/x"),
            &long,
        ] {
            assert!(Path::parse(bad).is_err(), "{bad:?}");
        }
    }
}
