//! Module paths and package directories, by the rules of x/mod's `module` package.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    SpecError,
    version::{Version, is_number},
};

/// A module path such as `github.com/BurntSushi/toml`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModulePath(String);

impl ModulePath {
    /// Longest accepted path in bytes; the file systems that hold caches end at 255 per name.
    pub const LEN_MAX: usize = 255;

    /// Parses a path by the rules of `module.CheckPath`
    /// (<https://pkg.go.dev/golang.org/x/mod/module#CheckPath>).
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        Self::check(text).map_err(|why| SpecError::new("module path", text, why))?;
        Ok(Self(text.to_owned()))
    }

    fn check(text: &str) -> Result<(), &'static str> {
        check_length(text, Self::LEN_MAX)?;
        let first = text.split('/').next().unwrap_or_default();
        if !first.contains('.') {
            return Err("its first element has no dot");
        }
        if !first
            .bytes()
            .all(|b| matches!(b, b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z'))
        {
            return Err("its first element is no lower-case host name");
        }
        for element in text.split('/') {
            check_element(element, false)?;
            if element.starts_with('.') {
                return Err("an element starts with a dot");
            }
        }
        split_major(text).map(|_| ())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path as the module proxy protocol wants it: every upper-case letter becomes `!` and the
    /// lower-case letter (<https://go.dev/ref/mod#goproxy-protocol>).
    #[must_use]
    pub fn escaped(&self) -> String {
        escape_upper(&self.0)
    }

    /// Reads the escaped form back.
    ///
    /// # Errors
    /// An upper-case letter, a `!` without a lower-case letter, or no module path.
    pub fn parse_escaped(text: &str) -> Result<Self, SpecError> {
        let plain = unescape_upper(text)
            .ok_or_else(|| SpecError::new("escaped module path", text, "its escapes are wrong"))?;
        Self::parse(&plain)
    }

    /// The last element that is not a major version: what Go calls a root package's binary.
    #[must_use]
    pub fn base_name(&self) -> &str {
        let (prefix, major) = split_major(&self.0).expect("checked by parse");
        let base = if major.starts_with('/') {
            prefix
        } else {
            &self.0
        };
        base.rsplit('/').next().unwrap_or(base)
    }
}

impl fmt::Display for ModulePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A module at a version whose major numbers agree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModuleVersion {
    /// Module path.
    pub path: ModulePath,
    /// Version.
    pub version: Version,
}

impl ModuleVersion {
    /// Joins both by the rule of `module.CheckPathMajor`: `/v2` has `v2.…` only, no suffix has
    /// `v0.…`, `v1.…` or `+incompatible`.
    ///
    /// # Errors
    /// When the numbers differ.
    pub fn new(path: ModulePath, version: Version) -> Result<Self, SpecError> {
        let (_, major) = split_major(path.as_str()).expect("checked by parse");
        let wanted = major
            .trim_start_matches(['/', '.'])
            .trim_end_matches("-unstable");
        let plain = matches!(version.major(), "v0" | "v1");
        let fits = match (wanted, version.is_incompatible()) {
            ("", incompatible) => plain != incompatible,
            // gopkg.in serves v0.0.0 pseudo-versions under every major number
            (wanted, false) => {
                version.major() == wanted
                    || (major.starts_with('.') && version.as_str().starts_with("v0.0.0-"))
            }
            (wanted, true) => major.starts_with('.') && version.major() == wanted,
        };
        if fits {
            return Ok(Self { path, version });
        }
        let text = format!("{path}@{version}");
        Err(SpecError::new(
            "module version",
            &text,
            "the major version does not fit the path",
        ))
    }

    /// Parses both.
    ///
    /// # Errors
    /// See [`ModulePath::parse`], [`Version::parse`], [`ModuleVersion::new`].
    pub fn parse(path: &str, version: &str) -> Result<Self, SpecError> {
        Self::new(ModulePath::parse(path)?, Version::parse(version)?)
    }
}

impl fmt::Display for ModuleVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.path, self.version)
    }
}

/// Directory of a package within its module: clean, relative, empty for the root.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageDir(String);

impl PackageDir {
    /// Longest accepted directory in bytes.
    pub const LEN_MAX: usize = 255;

    /// Parses a directory by the rules of `module.CheckImportPath`; empty is the root.
    ///
    /// # Errors
    /// Empty or dotted elements, foreign characters.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if !text.is_empty() {
            check_import(text, Self::LEN_MAX)
                .map_err(|why| SpecError::new("package directory", text, why))?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The directory as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the module's root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Import path of the package.
    #[must_use]
    pub fn package(&self, module: &ModulePath) -> String {
        if self.is_root() {
            module.to_string()
        } else {
            format!("{module}/{}", self.0)
        }
    }
}

impl fmt::Display for PackageDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Import path of a package, in a module or in the standard library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImportPath(String);

impl ImportPath {
    /// Longest accepted path in bytes: that of a module, a slash, and a directory in it.
    pub const LEN_MAX: usize = ModulePath::LEN_MAX + 1 + PackageDir::LEN_MAX;

    /// Parses a path by the rules of `module.CheckImportPath`.
    ///
    /// # Errors
    /// Empty or dotted elements, foreign characters.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        check_import(text, Self::LEN_MAX)
            .map_err(|why| SpecError::new("import path", text, why))?;
        Ok(Self(text.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ImportPath {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        Self::parse(&text)
    }
}

impl From<ImportPath> for String {
    fn from(path: ImportPath) -> Self {
        path.0
    }
}

pub(super) fn check_length(text: &str, max: usize) -> Result<(), &'static str> {
    match text {
        "" => Err(super::EMPTY),
        text if text.len() > max => Err("it is too long"),
        text if text.starts_with('-') => Err("it starts with a dash"),
        _ => Ok(()),
    }
}

fn check_import(text: &str, len_max: usize) -> Result<(), &'static str> {
    check_length(text, len_max)?;
    text.split('/').try_for_each(|e| check_element(e, true))
}

/// One element of a module or import path, as x/mod's `checkElem`.
pub(super) fn check_element(element: &str, import: bool) -> Result<(), &'static str> {
    if element.is_empty() {
        return Err("it has an empty element (a slash at an end, or two in a row)");
    }
    if element.bytes().all(|b| b == b'.') {
        return Err("an element consists of dots");
    }
    if element.ends_with('.') {
        return Err("an element ends with a dot");
    }
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b) || (import && b == b'+');
    if !element.bytes().all(ok) {
        return Err("it has a character that is not allowed there");
    }
    let short = element.split('.').next().unwrap_or(element);
    if RESERVED.iter().any(|name| name.eq_ignore_ascii_case(short)) {
        return Err("an element is a reserved file name on Windows");
    }
    match short.rsplit_once('~') {
        Some((_, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Err("an element looks like a Windows short name")
        }
        _ => Ok(()),
    }
}

/// Reserved file names of Windows, as x/mod's `badWindowsNames`.
const RESERVED: [&str; 22] = [
    "CON", "PRN", "AUX", "NUL", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8",
    "COM9", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9",
];

/// Splits off `/v2` (or `.v2` of gopkg.in); `Err` for a suffix that is no major version.
fn split_major(path: &str) -> Result<(&str, &str), &'static str> {
    if path.starts_with("gopkg.in/") {
        return split_gopkg_in(path);
    }
    let Some(at) = path.rfind("/v") else {
        return Ok((path, ""));
    };
    let digits = &path[at + 2..];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok((path, ""));
    }
    if digits.contains('.') || digits.starts_with('0') || digits == "1" {
        return Err("its last element is no major version: write /v2, /v3, …");
    }
    Ok(path.split_at(at))
}

fn split_gopkg_in(path: &str) -> Result<(&str, &str), &'static str> {
    const WHY: &str = "a gopkg.in path ends with .v and a number";
    let bare = path.strip_suffix("-unstable").unwrap_or(path);
    let at = bare.rfind(".v").ok_or(WHY)?;
    if !is_number(&bare[at + 2..]) {
        return Err(WHY);
    }
    Ok(path.split_at(at))
}

pub(super) fn escape_upper(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_uppercase() {
            escaped.push('!');
        }
        escaped.push(c.to_ascii_lowercase());
    }
    escaped
}

/// The inverse of [`escape_upper`]; `None` when the text is not its result.
pub(super) fn unescape_upper(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '!' => plain.push(
                chars
                    .next()
                    .filter(char::is_ascii_lowercase)?
                    .to_ascii_uppercase(),
            ),
            'A'..='Z' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_paths_follow_the_rules_of_x_mod() {
        for good in [
            "filippo.io/age",
            "github.com/BurntSushi/toml",
            "gopkg.in/yaml.v3",
            "gopkg.in/check.v1-unstable",
            "example.com/a/v2",
            "example.com/v2x",
            "rsc.io",
            "example.com/a~b",
        ] {
            assert_eq!(ModulePath::parse(good).unwrap().as_str(), good);
        }
        let long = format!("a.b/{}", "x".repeat(255));
        for bad in [
            "",
            "-a.b",
            "a",
            "localhost/x",
            "A.com/x",
            "a.b/",
            "/a.b",
            "a.b//c",
            "a.b/../c",
            "a.b/./c",
            "a.b/c.",
            "a.b/.c",
            "a.b/c d",
            "a.b/c@v1",
            "a.b/%41",
            "a.b/!x",
            "a.b/v1",
            "a.b/v0",
            "a.b/v02",
            "a.b/v2.0",
            "gopkg.in/yaml",
            "a.b/con",
            "a.b/NUL.txt",
            "a.b/x~1",
            "a.b/é",
            "a.b/x\0",
            "a.b/x+y",
            &long,
        ] {
            assert!(ModulePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn major_versions_agree() {
        for (path, version, fits) in [
            ("a.b/c", "v1.0.0", true),
            ("a.b/c", "v2.0.0", false),
            ("a.b/c", "v2.0.0+incompatible", true),
            ("a.b/c", "v1.0.0+incompatible", false),
            ("a.b/c/v2", "v2.1.0", true),
            ("a.b/c/v2", "v1.1.0", false),
            ("a.b/c/v2", "v2.1.0+incompatible", false),
            ("gopkg.in/yaml.v3", "v3.0.1", true),
            ("gopkg.in/yaml.v3", "v2.0.1", false),
        ] {
            assert_eq!(
                ModuleVersion::parse(path, version).is_ok(),
                fits,
                "{path}@{version}"
            );
        }
    }

    #[test]
    fn upper_case_is_escaped_and_read_back() {
        let path = ModulePath::parse("github.com/Azure/go-SDK").unwrap();
        assert_eq!(path.escaped(), "github.com/!azure/go-!s!d!k");
        assert_eq!(ModulePath::parse_escaped(&path.escaped()).unwrap(), path);
        for bad in [
            "github.com/Azure",
            "github.com/!",
            "github.com/!1",
            "github.com/!!a",
        ] {
            assert!(ModulePath::parse_escaped(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_base_name_skips_the_major_version() {
        for (path, base) in [
            ("a.b/tool/v2", "tool"),
            ("a.b/tool", "tool"),
            ("gopkg.in/yaml.v3", "yaml.v3"),
            ("rsc.io", "rsc.io"),
        ] {
            assert_eq!(ModulePath::parse(path).unwrap().base_name(), base);
        }
    }

    #[test]
    fn package_directories_are_clean() {
        for good in ["", "cmd/age", "cmd/.hidden", "a+b"] {
            assert!(PackageDir::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "/", "cmd/", "/cmd", "cmd//x", "..", "cmd/../x", "-x", "a b", "a%2f", "a\\b",
        ] {
            assert!(PackageDir::parse(bad).is_err(), "{bad}");
        }
    }
}
