//! Paths of the web pages, as gobuild's, so that links keep working.

use super::{
    BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageDir, SpecError, Sum, Target,
    Variant, VersionQuery,
    key::{self, split_target},
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

    /// Whether the binary may be asked for as `file`. Names that move stand in it as in the path:
    /// `age-latest-latest`. Clients of gobuild name a binary by the last element of its path, even
    /// when that is a major version, which the go command skips.
    fn is_download(&self, file: &str) -> bool {
        let path = match self.dir.is_root() {
            true => self.module.as_str(),
            false => self.dir.as_str(),
        };
        let last = path.rsplit('/').next().unwrap_or(path);
        let (variant, exe) = (self.variant.suffix(), self.target.exe_suffix());
        let rest = format!("-{}-{}{variant}{exe}", self.query, self.go);
        let name = file.strip_suffix(rest.as_str());
        name.is_some_and(|name| name == last || name == key::name(&self.module, &self.dir))
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

impl Page {
    /// What stands behind the path of a build or a result.
    #[must_use]
    pub fn name(self, key: &BuildKey) -> String {
        let name = match self {
            Self::Show => "",
            Self::Log => "log",
            Self::Events => "events",
            Self::Record => "record",
            Self::Retry => "retry",
            Self::Dl => "dl",
            Self::Download => return key.download_name(),
            Self::DownloadGz => return format!("{}.gz", key.download_name()),
        };
        name.to_owned()
    }
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
        let page_of = |name: &str| match name {
            "" => Ok(Page::Show),
            "log" => Ok(Page::Log),
            "events" => Ok(Page::Events),
            "record" => Ok(Page::Record),
            "retry" => Ok(Page::Retry),
            "dl" => Ok(Page::Dl),
            file => match file.strip_suffix(".gz") {
                _ if build.is_download(file) => Ok(Page::Download),
                Some(file) if build.is_download(file) => Ok(Page::DownloadGz),
                _ => Err(error("there is no such page of a build")),
            },
        };
        match rest {
            [] => Err(error("it does not end with a slash")),
            [page] => match Sum::parse(page) {
                Ok(_) => Err(error("it does not end with a slash")),
                Err(_) => page_of(page).map(|page| Self::Build { build, page }),
            },
            [sum, page] => {
                let (sum, page) = (Sum::parse(sum)?, page_of(page)?);
                let key = build.exact();
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

/// Where an address leads that has another form here: `/m/…`, `/b/…` and `/r/…` are what gobuild
/// had first, the page of a module may end with slashes, and that of a build or a result may lack
/// its last one, which programs for mail cut off. `path` is without its first slash.
#[must_use]
pub fn moved(path: &str) -> Option<String> {
    let old = ["m/", "b/", "r/"].iter();
    let rest = old.filter_map(|old| path.strip_prefix(old)).next();
    let rest = rest.unwrap_or(path);
    let rest = match rest.contains('@') {
        true => rest,
        false => rest.trim_end_matches('/'),
    };
    // What is parsed leads to no other host.
    if let Ok(Path::Build { page, .. } | Path::Result { page, .. }) =
        Path::parse(&format!("{rest}/"))
        && page == Page::Show
    {
        return Some(format!("/{rest}/"));
    }
    (rest != path && Path::parse(rest).is_ok()).then(|| format!("/{rest}"))
}

/// Endings of files that programs look for on any web server. None is that of a domain below which
/// anybody has modules; `sh`, `py`, `rs`, `pl` and `md` are endings of countries.
const FILES: [&str; 23] = [
    "php", "xml", "html", "htm", "txt", "png", "ico", "env", "asp", "aspx", "jsp", "cgi", "json",
    "js", "css", "map", "gz", "zip", "bak", "sql", "git", "yml", "yaml",
];

/// Whether a path names a file that no module is, as `wp-login.php`: nobody has to be asked about
/// it. `path` is without its first slash.
#[must_use]
pub fn is_file(path: &str) -> bool {
    let ending = path.rsplit_once('.').map(|(_, ending)| ending);
    let is_known = |ending: &str| FILES.iter().any(|file| ending.eq_ignore_ascii_case(file));
    !path.contains(['/', '@']) && ending.is_some_and(is_known)
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
    fn downloads_have_the_names_that_clients_of_gobuild_make() {
        let named = |text: &str| match Path::parse(text) {
            Ok(Path::Build { page, .. } | Path::Result { page, .. }) => Some(page),
            _ => None,
        };
        let major = "a.b/tool/v2@v2.0.0/windows-amd64-go1.26.8-stripped/";
        let moving = "a.b/tool/v2@latest/cmd/x/linux-amd64-go1.26.latest/";
        for (start, name, page) in [
            (major, "tool-v2.0.0-go1.26.8-stripped.exe", Page::Download),
            (major, "v2-v2.0.0-go1.26.8-stripped.exe", Page::Download),
            (
                major,
                "v2-v2.0.0-go1.26.8-stripped.exe.gz",
                Page::DownloadGz,
            ),
            (moving, "x-latest-go1.26.latest", Page::Download),
            (moving, "x-latest-go1.26.latest.gz", Page::DownloadGz),
        ] {
            assert_eq!(named(&format!("{start}{name}")), Some(page), "{name}");
        }
        let result = format!("{major}{SUM}/v2-v2.0.0-go1.26.8-stripped.exe.gz");
        assert_eq!(named(&result), Some(Page::DownloadGz));
        for (start, name) in [
            (major, "v2-v2.0.0-go1.26.8.exe"),
            (major, "-v2.0.0-go1.26.8-stripped.exe"),
            (major, "v3-v2.0.0-go1.26.8-stripped.exe"),
            (moving, "x-v2.0.0-go1.26.latest"),
            (moving, "v2-latest-go1.26.latest"),
        ] {
            assert_eq!(named(&format!("{start}{name}")), None, "{name}");
        }
    }

    #[test]
    fn old_addresses_lead_on_and_to_no_other_host() {
        let result = format!("{BUILD}{SUM}/");
        for (old, new) in [
            ("m/filippo.io/age", "filippo.io/age"),
            ("m/filippo.io/age/", "filippo.io/age"),
            ("filippo.io/age/", "filippo.io/age"),
            ("filippo.io/age//", "filippo.io/age"),
            (&format!("b/{BUILD}"), BUILD),
            (&format!("b/{BUILD}log"), &format!("{BUILD}log")),
            (&format!("r/{result}"), &result),
        ] {
            assert_eq!(moved(old), Some(format!("/{new}")), "{old}");
        }
        for other in [
            "",
            "filippo.io/age",
            BUILD,
            &result,
            "m/",
            "m//attacker.example/x",
            "b/m/filippo.io/age",
            "r/\\attacker.example/x",
            "x/filippo.io/age",
            "b/filippo.io/../age@v1.2.1",
        ] {
            assert_eq!(moved(other), None, "{other}");
        }
    }

    #[test]
    fn a_page_without_its_last_slash_leads_to_the_page() {
        let result = format!("{BUILD}{SUM}/");
        for page in [
            BUILD,
            &result,
            "example.org/m@v1.0.0/linux-amd64-go1.27.4/",
            "example.org/m@latest/linux-amd64-latest-stripped/",
        ] {
            let cut = page.strip_suffix('/').unwrap();
            assert_eq!(moved(cut), Some(format!("/{page}")), "{cut}");
            assert_eq!(moved(&format!("b/{cut}")), Some(format!("/{page}")));
            assert_eq!(moved(page), None, "{page}");
            for other in ["/", "\\", "x/", "//attacker.example/"] {
                assert_eq!(moved(&format!("{other}{cut}")), None, "{other}{cut}");
            }
        }
        for other in [
            "example.org/m@v1.0.0",
            "example.org/m@v1.0.0/cmd/x",
            "example.org/m@v1.0.0/linux-z80-go1.26.8",
            "example.org/m@v1.0.0/linux-amd64-go1.26",
            &format!("{BUILD}log"),
            &format!("{BUILD}log/x"),
            &format!("example.org/m@latest/linux-amd64-go1.26.8/{SUM}"),
        ] {
            assert_eq!(moved(other), None, "{other}");
        }
    }

    #[test]
    fn files_of_other_web_servers_are_told_from_modules() {
        for file in [
            "wp-login.php",
            "sitemap.xml",
            "index.html",
            ".env",
            "x.PHP",
            "backup.tar.gz",
        ] {
            assert!(is_file(file), "{file}");
        }
        for other in [
            "",
            "php",
            "mvdan.cc/sh",
            "get.sh",
            "docs.rs",
            "example.md",
            "example.org/index.html",
            "index.html@latest",
            "example.org/m.git",
        ] {
            assert!(!is_file(other), "{other}");
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
