//! Go releases.

use std::fmt;

use super::SpecError;

/// A Go release such as `go1.26.8`; candidates and development versions are not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoVersion {
    minor: u16,
    patch: u16,
}

impl GoVersion {
    /// Oldest release that may stand in a log: before it, the working folder leaks into binaries.
    pub const OLDEST_LOGGED: Self = Self {
        minor: 13,
        patch: 3,
    };
    /// From this release on `bin/go` is static and runs in a cell as it is.
    pub const STATIC_SINCE: Self = Self {
        minor: 21,
        patch: 0,
    };

    /// The newest line of releases that this program knows anything about.
    pub const NEWEST_KNOWN: Self = Self {
        minor: 26,
        patch: 0,
    };

    /// Parses the name of a release. From Go 1.21 on the first one of a line has its `.0`
    /// (<https://go.dev/doc/toolchain#version>), before it has none.
    ///
    /// # Errors
    /// `go1.21`, `1.26.8`, `go1.27rc1`, `latest` and the like.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = |why| SpecError::new("Go release", text, why);
        const FORM: &str = "write it as go1.26.8 or latest";
        let rest = text.strip_prefix("go1.").ok_or_else(|| error(FORM))?;
        if rest.contains("rc") || rest.contains("beta") {
            return Err(error("candidates are not built"));
        }
        let mut numbers = rest.split('.');
        let minor = numbers.next().and_then(number).ok_or_else(|| error(FORM))?;
        let patch = match numbers.next() {
            None => 0,
            Some(patch) => number(patch).ok_or_else(|| error(FORM))?,
        };
        let version = Self { minor, patch };
        if numbers.next().is_some() {
            return Err(error(FORM));
        }
        if version.to_string() != text {
            return Err(error(
                "from go1.21.0 on a release has three numbers, before it no `.0`",
            ));
        }
        Ok(version)
    }

    /// The number after `go1.`
    #[must_use]
    pub fn minor(self) -> u16 {
        self.minor
    }

    /// Version of the module `golang.org/toolchain` that holds this SDK for a host, such as
    /// `v0.0.1-go1.26.8.linux-amd64`.
    #[must_use]
    pub fn toolchain_version(self, host: super::Target) -> String {
        format!("v0.0.1-{self}.{host}")
    }
}

fn number(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (canonical && digits && text.len() <= 4).then(|| text.parse().ok())?
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.patch == 0 && self.minor < 21 {
            write!(f, "go1.{}", self.minor)
        } else {
            write!(f, "go1.{}.{}", self.minor, self.patch)
        }
    }
}

/// A release, or a name for the newest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GoQuery {
    /// The newest release.
    Latest,
    /// `go1.26.latest`: the newest of one line.
    Line(u16),
    /// Exactly this one.
    Exact(GoVersion),
}

impl GoQuery {
    /// Parses `latest`, `go1.26.latest` or a release.
    ///
    /// # Errors
    /// See [`GoVersion::parse`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let line = text
            .strip_prefix("go1.")
            .and_then(|rest| rest.strip_suffix(".latest"));
        match line.and_then(number) {
            Some(minor) => Ok(Self::Line(minor)),
            None => GoVersion::parse(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for GoQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Line(minor) => write!(f, "go1.{minor}.latest"),
            Self::Exact(version) => version.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_print_back() {
        for good in [
            "go1.13.3",
            "go1.20",
            "go1.20.14",
            "go1.21.0",
            "go1.26.8",
            "go1.99.0",
        ] {
            assert_eq!(GoVersion::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "",
            "go1",
            "go2.1.0",
            "go1.21",
            "go1.20.0",
            "1.26.8",
            "go1.026.8",
            "go1.26.08",
            "go1.26.8.1",
            "go1.27rc1",
            "go1.27.0-rc1",
            "go1.26.",
            "latest",
            "go1.99999.0",
        ] {
            assert!(GoVersion::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moving_names_are_queries() {
        for good in ["latest", "go1.26.latest", "go1.26.8"] {
            assert_eq!(GoQuery::parse(good).unwrap().to_string(), good);
        }
        for bad in ["go1.latest", "go1.26.8.latest", "Latest", "go1.x.latest"] {
            assert!(GoQuery::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn releases_are_ordered_by_number() {
        let v = |t| GoVersion::parse(t).unwrap();
        assert!(v("go1.9") < v("go1.13.3") && v("go1.26.10") > v("go1.26.9"));
        assert!(GoVersion::OLDEST_LOGGED < GoVersion::STATIC_SINCE);
    }
}
