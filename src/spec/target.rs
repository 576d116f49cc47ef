//! Operating system and architecture that a binary is for.

use std::fmt;

use super::{GoVersion, SpecError};

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

/// Lines of Go releases, first and last, that build a pair which not all of them build.
const LINES: [(&str, &str, u16, u16); 13] = [
    ("darwin", "arm64", 16, u16::MAX),
    ("freebsd", "arm64", 14, u16::MAX),
    ("freebsd", "riscv64", 20, 25),
    ("linux", "loong64", 19, u16::MAX),
    ("linux", "riscv64", 14, u16::MAX),
    ("openbsd", "mips64", 16, 22),
    ("openbsd", "ppc64", 22, u16::MAX),
    ("openbsd", "riscv64", 23, u16::MAX),
    ("wasip1", "wasm", 21, u16::MAX),
    ("windows", "arm", 13, 25),
    ("windows", "arm64", 17, u16::MAX),
    ("ios", "amd64", 16, u16::MAX),
    // No binary without a C compiler (`MustLinkExternal` of `internal/platform`).
    ("ios", "arm64", 1, 0),
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

    /// The pairs that a release builds without a C compiler, as far as is known; sorted.
    pub fn of(go: GoVersion) -> impl Iterator<Item = Self> {
        let fits = move |target: &Self| {
            let mut lines = LINES.iter();
            let line = lines.find(|line| (line.0, line.1) == (target.goos, target.goarch));
            let has_line =
                line.is_none_or(|(_, _, first, last)| (*first..=*last).contains(&go.minor()));
            has_line && (target.goos != "android" || target.goarch == "arm64")
        };
        Self::all().filter(fits)
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
    fn a_release_has_the_targets_that_it_builds_without_c() {
        let of = |go: &str| {
            let all = Target::of(GoVersion::parse(go).unwrap());
            all.map(|target| target.to_string()).collect::<Vec<_>>()
        };
        // `go tool dist list` of Go 1.26 without what needs a C compiler.
        let newest = of("go1.26.8");
        assert_eq!(newest.len(), 43, "{newest:?}");
        for (target, first, last) in [
            ("windows-arm", "go1.25.0", "go1.26.0"),
            ("freebsd-riscv64", "go1.25.0", "go1.26.0"),
        ] {
            assert!(of(first).iter().any(|one| one == target), "{target}");
            assert!(!of(last).iter().any(|one| one == target), "{target}");
        }
        let oldest = of("go1.13.3");
        for later in [
            "linux-riscv64",
            "wasip1-wasm",
            "windows-arm64",
            "linux-loong64",
        ] {
            assert!(newest.iter().any(|one| one == later), "{later}");
            assert!(!oldest.iter().any(|one| one == later), "{later}");
        }
        for never in ["ios-arm64", "android-amd64"] {
            assert!(!newest.iter().any(|one| one == never), "{never}");
        }
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
