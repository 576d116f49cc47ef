//! The key of a build: everything that decides its bits, and the key of its record in a log.

use std::fmt;

use super::{GoVersion, ModulePath, ModuleVersion, PackageDir, SpecError, Target};

/// How the binary is linked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// With symbol table and debug information.
    #[default]
    Plain,
    /// Linked with `-s`: without both.
    Stripped,
}

impl Variant {
    /// The variant of a record: empty or `stripped`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Stripped => "stripped",
        }
    }

    /// The suffix of keys and file names: empty or `-stripped`.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Stripped => "-stripped",
        }
    }
}

/// What one build is made from.
///
/// Prints as the key of the log:
/// `<module>@<version>/[<package>/]<goos>-<goarch>-<goversion>[-stripped]/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BuildKey {
    /// Module and version.
    pub module: ModuleVersion,
    /// Directory of the main package.
    pub dir: PackageDir,
    /// What the binary is for.
    pub target: Target,
    /// The SDK.
    pub go: GoVersion,
    /// How it is linked.
    pub variant: Variant,
}

impl BuildKey {
    /// Writes what it is made of into a JSON object, the same names wherever a build is told.
    pub fn tell(&self, object: &mut serde_json::Value) {
        object["module"] = self.module.path.as_str().into();
        object["version"] = self.module.version.as_str().into();
        object["package"] = self.package().into();
        object["goos"] = self.target.goos().into();
        object["goarch"] = self.target.goarch().into();
        object["goversion"] = self.go.to_string().into();
        object["variant"] = self.variant.as_str().into();
    }

    /// Longest accepted key in bytes: path, version, directory and target at their own maxima.
    pub const LEN_MAX: usize = 800;

    /// Parses a key; only what prints back to the same text is one.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let error = |why| SpecError::new("build key", text, why);
        if text.len() > Self::LEN_MAX {
            return Err(error("it is too long"));
        }
        let body = text
            .strip_suffix('/')
            .ok_or_else(|| error("it does not end with a slash"))?;
        let (path, rest) = body
            .split_once('@')
            .ok_or_else(|| error("it has no version"))?;
        let mut parts = rest.splitn(2, '/');
        let version = parts.next().unwrap_or_default();
        let rest = parts.next().ok_or_else(|| error("it has no target"))?;
        let (dir, last) = rest.rsplit_once('/').unwrap_or(("", rest));
        if rest.starts_with('/') {
            return Err(error("it has an empty element"));
        }
        let (target, go, variant) = parse_target(last)?;
        let key = Self {
            module: ModuleVersion::parse(path, version)?,
            dir: PackageDir::parse(dir)?,
            target,
            go,
            variant,
        };
        debug_assert_eq!(key.to_string(), text, "a key prints back to itself");
        Ok(key)
    }

    /// Import path of the main package.
    #[must_use]
    pub fn package(&self) -> String {
        self.dir.package(&self.module.path)
    }

    /// Name of the binary without suffix: last element of the package that is no major version.
    #[must_use]
    pub fn name(&self) -> &str {
        name(&self.module.path, &self.dir)
    }

    /// File name in `GOPATH/bin`, as the go command writes it.
    #[must_use]
    pub fn binary_name(&self) -> String {
        format!("{}{}", self.name(), self.target.exe_suffix())
    }

    /// File name for people: `age-v1.2.1-go1.26.8[-stripped][.exe]`.
    #[must_use]
    pub fn download_name(&self) -> String {
        let (version, go) = (&self.module.version, self.go);
        let (variant, exe) = (self.variant.suffix(), self.target.exe_suffix());
        format!("{}-{version}-{go}{variant}{exe}", self.name())
    }

    /// Target, release and variant as in keys: `linux-amd64-go1.26.8[-stripped]`.
    #[must_use]
    pub fn target_text(&self) -> String {
        format!("{}-{}{}", self.target, self.go, self.variant.suffix())
    }
}

/// Name of the binary of a package, as the go command finds it.
pub(super) fn name<'a>(module: &'a ModulePath, dir: &'a PackageDir) -> &'a str {
    if dir.is_root() {
        return module.base_name();
    }
    let dir = dir.as_str();
    let base = match dir.rsplit_once('/') {
        Some((parent, last)) if is_major(last) => parent,
        _ if is_major(dir) => return module.base_name(),
        _ => dir,
    };
    base.rsplit('/').next().unwrap_or(base)
}

impl fmt::Display for BuildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.module)?;
        if !self.dir.is_root() {
            write!(f, "{}/", self.dir)?;
        }
        write!(f, "{}/", self.target_text())
    }
}

/// Parses `linux-amd64-go1.26.8[-stripped]`.
fn parse_target(text: &str) -> Result<(Target, GoVersion, Variant), SpecError> {
    let (target, go, variant) = split_target(text)?;
    Ok((target, GoVersion::parse(go)?, variant))
}

/// Splits a target element; the release is left as text, as it may be a moving name.
pub(super) fn split_target(text: &str) -> Result<(Target, &str, Variant), SpecError> {
    let (body, variant) = match text.strip_suffix("-stripped") {
        Some(body) => (body, Variant::Stripped),
        None => (text, Variant::Plain),
    };
    let mut parts = body.splitn(3, '-');
    let (Some(goos), Some(goarch), Some(go)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(SpecError::new(
            "target",
            text,
            "write it as linux-amd64-go1.26.8",
        ));
    };
    Ok((Target::new(goos, goarch)?, go, variant))
}

/// `v2`, `v3`, … as `go install` skips it when it names a binary.
fn is_major(element: &str) -> bool {
    let digits = element.strip_prefix('v').unwrap_or_default();
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !digits.starts_with('0')
        && digits != "1"
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_key() -> impl Strategy<Value = BuildKey> {
        let text = (
            "[a-z]{1,8}\\.[a-z]{2,3}(/[A-Za-z][A-Za-z0-9_]{0,8}){0,3}",
            "v[01]\\.[1-9]?[0-9]\\.[1-9]?[0-9](-[a-z]{1,5}\\.[1-9])?",
            "([a-zA-Z+_][a-z0-9]{0,6}(/[a-z][a-z0-9+]{0,6}){0,2})?",
            proptest::sample::select(Target::all().collect::<Vec<_>>()),
            (21_u16..40, 0_u16..20),
            any::<bool>(),
        );
        text.prop_filter_map(
            "reserved names",
            |(path, version, dir, target, go, stripped)| {
                Some(BuildKey {
                    module: ModuleVersion::parse(&path, &version).ok()?,
                    dir: PackageDir::parse(&dir).ok()?,
                    target,
                    go: GoVersion::parse(&format!("go1.{}.{}", go.0, go.1)).ok()?,
                    variant: if stripped {
                        Variant::Stripped
                    } else {
                        Variant::Plain
                    },
                })
            },
        )
    }

    proptest! {
        #[test]
        fn a_key_prints_and_parses_back(key in any_key()) {
            prop_assert_eq!(BuildKey::parse(&key.to_string()), Ok(key));
        }

        #[test]
        fn what_parses_prints_back_to_itself(text in "[ -~]{0,60}") {
            if let Ok(key) = BuildKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn damaged_keys_print_back_or_are_refused(
            key in any_key(), at in 0_usize..80, c in "[ -~]",
        ) {
            let mut text = key.to_string();
            text.insert_str(at.min(text.len()), &c);
            if let Ok(key) = BuildKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }

    #[test]
    fn only_canonical_keys_are_keys() {
        let good = "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8/";
        assert_eq!(BuildKey::parse(good).unwrap().to_string(), good);
        for bad in [
            "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8",
            "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26/",
            "filippo.io/age@v1.2.1//cmd/age/linux-amd64-go1.26.8/",
            "filippo.io/age@v1.2.1//linux-amd64-go1.26.8/",
            "filippo.io/age@v1.2.1/cmd/../age/linux-amd64-go1.26.8/",
            "filippo.io/age@latest/cmd/age/linux-amd64-go1.26.8/",
            "filippo.io/age@v1.2.1/cmd/age/linux-z80-go1.26.8/",
            "filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8-stripped-stripped/",
            "filippo.io/age@v1.2.1/",
            "/filippo.io/age@v1.2.1/linux-amd64-go1.26.8/",
            "filippo.io/%61ge@v1.2.1/linux-amd64-go1.26.8/",
            "",
        ] {
            assert!(BuildKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_of_binaries_are_those_of_the_go_command() {
        for (key, name) in [
            ("a.b/tool@v1.0.0/linux-amd64-go1.26.8/", "tool"),
            ("a.b/tool/v2@v2.0.0/windows-amd64-go1.26.8/", "tool.exe"),
            ("a.b/tool/v2@v2.0.0/cmd/x/linux-amd64-go1.26.8/", "x"),
            ("a.b/tool@v1.0.0/cmd/x/v3/linux-amd64-go1.26.8/", "x"),
            ("a.b/tool@v1.0.0/v3/linux-amd64-go1.26.8/", "tool"),
        ] {
            assert_eq!(BuildKey::parse(key).unwrap().binary_name(), name);
        }
        let key = BuildKey::parse("a.b/t@v1.0.0/windows-amd64-go1.26.8-stripped/").unwrap();
        assert_eq!(key.download_name(), "t-v1.0.0-go1.26.8-stripped.exe");
    }
}
