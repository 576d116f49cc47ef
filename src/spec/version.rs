//! Canonical semantic versions, as modules have them.

use std::{cmp::Ordering, fmt};

use super::{
    SpecError,
    module::{escape_upper, unescape_upper},
};

/// A canonical version such as `v1.2.3-rc.1` or `v2.0.0+incompatible`; never a moving name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Version(String);

impl Version {
    /// Longest accepted text in bytes; pseudo-versions have about 40.
    pub const LEN_MAX: usize = 128;

    /// Parses a canonical semantic version with its `v`.
    ///
    /// # Errors
    /// Moving names, short forms (`v1`, `v1.2`), leading zeros and build metadata are refused.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = |why| SpecError::new("version", text, why);
        if text.len() > Self::LEN_MAX {
            return Err(error("it is longer than 128 bytes"));
        }
        let rest = text
            .strip_prefix('v')
            .ok_or_else(|| error("it does not start with `v`"))?;
        let rest = rest.strip_suffix("+incompatible").unwrap_or(rest);
        let (core, pre) = match rest.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (rest, None),
        };
        if core.split('.').count() != 3 || !core.split('.').all(is_number) {
            return Err(error(
                "write three numbers without leading zeros, as in v1.2.3",
            ));
        }
        if pre.is_some_and(|pre| !pre.split('.').all(is_identifier)) {
            return Err(error("its pre-release part is not canonical"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The version as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as the module proxy protocol wants it.
    #[must_use]
    pub fn escaped(&self) -> String {
        escape_upper(&self.0)
    }

    /// Reads the escaped form of the proxy protocol back.
    ///
    /// # Errors
    /// Wrong escapes, or no canonical version.
    pub fn parse_escaped(text: &str) -> Result<Self, SpecError> {
        let plain = unescape_upper(text)
            .ok_or_else(|| SpecError::new("escaped version", text, "its escapes are wrong"))?;
        Self::parse(&plain)
    }

    /// Whether it is older than the release of the same number.
    #[must_use]
    pub fn is_prerelease(&self) -> bool {
        self.parts().1.is_some()
    }

    /// `v1`, `v2`, …
    #[must_use]
    pub fn major(&self) -> &str {
        self.0.split('.').next().unwrap_or(&self.0)
    }

    /// Whether it is a version of a module without go.mod beyond v1.
    #[must_use]
    pub fn is_incompatible(&self) -> bool {
        self.0.ends_with("+incompatible")
    }

    fn parts(&self) -> (Vec<&str>, Option<&str>) {
        let rest = self.0.strip_prefix('v').unwrap_or(&self.0);
        let rest = rest.strip_suffix("+incompatible").unwrap_or(rest);
        match rest.split_once('-') {
            Some((core, pre)) => (core.split('.').collect(), Some(pre)),
            None => (rest.split('.').collect(), None),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for Version {
    /// Precedence of <https://semver.org/#spec-item-11>; equal precedence is ordered by text.
    fn cmp(&self, other: &Self) -> Ordering {
        let ((core, pre), (other_core, other_pre)) = (self.parts(), other.parts());
        let by_core = core
            .iter()
            .zip(&other_core)
            .map(|(a, b)| compare_numbers(a, b))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal);
        let by_pre = match (pre, other_pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => compare_prerelease(a, b),
        };
        by_core.then(by_pre).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

pub(super) fn is_number(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits && (text == "0" || !text.starts_with('0'))
}

fn is_identifier(text: &str) -> bool {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    ok && (!text.bytes().all(|b| b.is_ascii_digit()) || is_number(text))
}

/// Compares canonical decimal numbers of any length.
fn compare_numbers(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn compare_prerelease(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (is_number(a), is_number(b)) {
                (true, true) => compare_numbers(a, b),
                (true, false) => Ordering::Less,
                (false, true) => Ordering::Greater,
                (false, false) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_canonical() {
        for good in [
            "v0.0.0",
            "v1.2.3",
            "v1.2.3-rc.1",
            "v0.0.0-20240101000000-abcdefabcdef",
            "v2.0.0+incompatible",
            "v1.0.0-RC1",
        ] {
            assert_eq!(Version::parse(good).unwrap().as_str(), good);
        }
        let long = format!("v1.0.0-{}", "x".repeat(Version::LEN_MAX));
        for bad in [
            "",
            "latest",
            "v1",
            "v1.2",
            "1.2.3",
            "v01.2.3",
            "v1.2.3+meta",
            "v1.2.3-",
            "v1.2.3-01",
            "v1.2.3.4",
            "v1.2.3-a..b",
            "v1.2.3 ",
            &long,
        ] {
            assert!(Version::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_are_ordered_by_precedence() {
        let ordered = [
            "v0.9.0",
            "v1.0.0-1",
            "v1.0.0-2",
            "v1.0.0-10",
            "v1.0.0-alpha",
            "v1.0.0-alpha.1",
            "v1.0.0-beta",
            "v1.0.0",
            "v1.2.0",
            "v1.10.0",
        ];
        let versions: Vec<_> = ordered.iter().map(|t| Version::parse(t).unwrap()).collect();
        assert!(versions.is_sorted());
    }
}
