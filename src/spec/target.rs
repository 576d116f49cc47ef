//! Operating system and architecture that a binary is for.

use std::fmt;

use super::SpecError;

/// A pair that some Go release of the last years can build for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    goos: &'static str,
    goarch: &'static str,
}

/// `go tool dist list` of Go 1.26, and the pairs that Go 1.21 still had. Whether the chosen release
/// can build a pair without cgo, the go command says itself.
const KNOWN: [(&str, &[&str]); 15] = [
    ("aix", &["ppc64"]),
    ("android", &["386", "amd64", "arm", "arm64"]),
    ("darwin", &["amd64", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm", "arm64", "riscv64"]),
    ("illumos", &["amd64"]),
    ("ios", &["amd64", "arm64"]),
    ("js", &["wasm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle",
            "ppc64", "ppc64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm", "arm64"]),
    (
        "openbsd",
        &["386", "amd64", "arm", "arm64", "mips64", "ppc64", "riscv64"],
    ),
    ("plan9", &["386", "amd64", "arm"]),
    ("solaris", &["amd64"]),
    ("wasip1", &["wasm"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

impl Target {
    /// The machine that this program runs on.
    pub const HOST: Self = Self {
        goos: "linux",
        goarch: if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        },
    };

    /// Finds a pair.
    ///
    /// # Errors
    /// When no Go release knows it.
    pub fn new(goos: &str, goarch: &str) -> Result<Self, SpecError> {
        Self::all()
            .find(|target| target.goos == goos && target.goarch == goarch)
            .ok_or_else(|| {
                let text = format!("{goos}/{goarch}");
                SpecError::new(
                    "target",
                    &text,
                    "Go does not know it: see `go tool dist list`",
                )
            })
    }

    /// Parses `linux/amd64`, as people write it, or `linux-amd64`, as keys have it.
    ///
    /// # Errors
    /// See [`Target::new`].
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let parts = text.split_once('/').or_else(|| text.split_once('-'));
        let (goos, goarch) =
            parts.ok_or_else(|| SpecError::new("target", text, "write it as linux/amd64"))?;
        Self::new(goos, goarch)
    }

    /// All pairs, sorted.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN
            .iter()
            .flat_map(|(goos, archs)| archs.iter().map(|goarch| Self { goos, goarch }))
    }

    /// `GOOS`
    #[must_use]
    pub fn goos(self) -> &'static str {
        self.goos
    }

    /// `GOARCH`
    #[must_use]
    pub fn goarch(self) -> &'static str {
        self.goarch
    }

    /// What the go command appends to a binary's name.
    #[must_use]
    pub fn exe_suffix(self) -> &'static str {
        if self.goos == "windows" { ".exe" } else { "" }
    }
}

impl fmt::Display for Target {
    /// `linux-amd64`, as in keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.goos, self.goarch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_targets_print_back() {
        for target in Target::all() {
            assert_eq!(Target::parse(&target.to_string()), Ok(target));
        }
        assert_eq!(
            Target::parse("linux/arm64").unwrap().to_string(),
            "linux-arm64"
        );
        assert!(Target::all().any(|target| target == Target::HOST));
    }

    #[test]
    fn unknown_targets_are_refused() {
        for bad in [
            "",
            "linux",
            "linux-",
            "-amd64",
            "linux/amd64/x",
            "Linux/amd64",
            "temple-os",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
