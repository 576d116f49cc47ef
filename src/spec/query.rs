//! What a person types: SPEC in both forms, with versions that may still move.

use std::fmt;

use super::{ModulePath, SpecError, Version, module};

/// A version, or a name that means one today: `latest`, `v1`, `v1.2`, a branch, a commit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionQuery(String);

impl VersionQuery {
    /// Longest accepted text in bytes.
    pub const LEN_MAX: usize = Version::LEN_MAX;

    /// Parses a query. A branch with a slash in its name cannot be asked for.
    ///
    /// # Errors
    /// Empty, too long, or with characters that no version, branch or commit here may have.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let ok = |b: u8| b.is_ascii_alphanumeric() || b"-._~+".contains(&b);
        module::check_length(text, Self::LEN_MAX)
            .and_then(
                |()| match text.bytes().all(ok) && text.bytes().any(|b| b != b'.') {
                    true => Ok(()),
                    false => Err("write a version such as v1.2.1, or latest"),
                },
            )
            .map_err(|why| SpecError::new("version", text, why))?;
        Ok(Self(text.to_owned()))
    }

    /// The query as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The concrete version, when it is one.
    #[must_use]
    pub fn exact(&self) -> Option<Version> {
        Version::parse(&self.0).ok()
    }
}

impl fmt::Display for VersionQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A package and a version, from `module@version/package` or `package@version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageQuery {
    /// The module, when the text says where it ends.
    pub module: Option<ModulePath>,
    /// Import path of the package.
    pub package: String,
    /// The version, `latest` when the text has none.
    pub query: VersionQuery,
}

impl PackageQuery {
    /// Longest accepted text in bytes.
    pub const LEN_MAX: usize = super::BuildKey::LEN_MAX;

    /// Parses both forms of SPEC; without `@` the version is `latest`.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text.len() > Self::LEN_MAX {
            return Err(SpecError::new("package", text, "it is too long"));
        }
        let text = text.strip_prefix("https://").unwrap_or(text);
        let (before, after) = text.split_once('@').unwrap_or((text, "latest"));
        match after.split_once('/') {
            Some((query, dir)) => {
                let module = ModulePath::parse(before)?;
                let dir = super::PackageDir::parse(dir.strip_suffix('/').unwrap_or(dir))?;
                let query = VersionQuery::parse(query)?;
                Ok(Self {
                    package: dir.package(&module),
                    module: Some(module),
                    query,
                })
            }
            None => {
                check_package(before)?;
                let query = VersionQuery::parse(after)?;
                Ok(Self {
                    module: None,
                    package: before.to_owned(),
                    query,
                })
            }
        }
    }

    /// All modules that may hold the package, longest first: the order in which Go asks.
    #[must_use]
    pub fn candidates(&self) -> Vec<ModulePath> {
        if let Some(module) = &self.module {
            return vec![module.clone()];
        }
        let ends = self.package.match_indices('/').map(|(at, _)| at);
        let mut ends: Vec<_> = ends.chain([self.package.len()]).collect();
        ends.reverse();
        ends.iter()
            .filter_map(|end| ModulePath::parse(&self.package[..*end]).ok())
            .collect()
    }

    /// Directory of the package within a module that holds it.
    #[must_use]
    pub fn dir_in(&self, module: &ModulePath) -> Option<super::PackageDir> {
        let rest = self.package.strip_prefix(module.as_str())?;
        let dir = if rest.is_empty() {
            rest
        } else {
            rest.strip_prefix('/')?
        };
        super::PackageDir::parse(dir).ok()
    }
}

impl fmt::Display for PackageQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => {
                let dir = self
                    .package
                    .strip_prefix(module.as_str())
                    .unwrap_or_default();
                write!(f, "{module}@{}{dir}", self.query)
            }
            None => write!(f, "{}@{}", self.package, self.query),
        }
    }
}

/// An import path: like a module path, but any element may start with a dot or hold a plus.
fn check_package(text: &str) -> Result<(), SpecError> {
    let first = text.split('/').next().unwrap_or_default();
    let check = module::check_length(text, ModulePath::LEN_MAX + super::PackageDir::LEN_MAX)
        .and_then(|()| {
            text.split('/')
                .try_for_each(|e| module::check_element(e, true))
        })
        .and_then(
            |()| match first.contains('.') && ModulePath::parse(first).is_ok() {
                true => Ok(()),
                false => Err("its first element is no host name; write module@version/package"),
            },
        );
    // gopkg.in alone is no module, but a package path may start with it
    let check = if first == "gopkg.in" && check.is_err() {
        Ok(())
    } else {
        check
    };
    check.map_err(|why| SpecError::new("package", text, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood() {
        let a = PackageQuery::parse("filippo.io/age@v1.2.1/cmd/age").unwrap();
        assert_eq!(a.module.as_ref().unwrap().as_str(), "filippo.io/age");
        assert_eq!(a.package, "filippo.io/age/cmd/age");
        let b = PackageQuery::parse("filippo.io/age/cmd/age@v1.2.1").unwrap();
        assert_eq!((b.module.clone(), &b.package), (None, &a.package));
        let names: Vec<_> = b.candidates().iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "filippo.io/age/cmd/age",
                "filippo.io/age/cmd",
                "filippo.io/age",
                "filippo.io"
            ]
        );
        let module = ModulePath::parse("filippo.io/age").unwrap();
        assert_eq!(b.dir_in(&module).unwrap().as_str(), "cmd/age");
        assert_eq!(b.dir_in(&ModulePath::parse("filippo.io/ag").unwrap()), None);
    }

    #[test]
    fn without_a_version_the_newest_is_meant() {
        let query = PackageQuery::parse("rsc.io/2fa").unwrap();
        assert_eq!(query.query.as_str(), "latest");
        assert_eq!(query.to_string(), "rsc.io/2fa@latest");
    }

    #[test]
    fn nonsense_is_refused() {
        let long = format!("a.b/{}", "x/".repeat(500));
        for bad in [
            "",
            "@",
            "age@v1.2.1",
            "a.b@",
            "a.b@/x",
            "a.b@v1.0.0/../x",
            "a.b@v1@v2",
            "a.b/../c@v1",
            "a.b@v1.0.0/x y",
            "a.b\u{1b}[0m@v1",
            "-a.b@v1",
            "a.b@-v1",
            "a.b//c@v1",
            &long,
            "a.b@..",
        ] {
            assert!(PackageQuery::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn queries_tell_exact_versions_from_moving_names() {
        for (text, exact) in [
            ("v1.2.3", true),
            ("v1.2", false),
            ("latest", false),
            ("main", false),
        ] {
            assert_eq!(
                VersionQuery::parse(text).unwrap().exact().is_some(),
                exact,
                "{text}"
            );
        }
    }
}
