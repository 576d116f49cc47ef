//! Sums of real builds, made elsewhere by others.

use serde::Deserialize;

/// A row of `data/known-sums.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct Known {
    /// Module path.
    pub module: String,
    /// Version.
    pub version: String,
    /// Package within the module, with a slash in front.
    pub dir: String,
    /// Target.
    pub goos: String,
    /// Target.
    pub goarch: String,
    /// Go release.
    pub goversion: String,
    /// Empty, or `stripped`.
    pub variant: String,
    /// Size of the binary.
    pub size: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
    /// Its sum as records have it.
    pub sum: String,
}

/// All rows on Go 1.21 and newer, whose SDKs are used as they are.
pub fn rows() -> Vec<Known> {
    all().filter(|row| minor(&row.goversion) >= 21).collect()
}

/// All rows on older Go that everybody can make. The row on go1.14.7 is none: its compiler wrote
/// other bytes when it ran concurrently, which depends on the number of processors, and this
/// row was made so. `GO19CONCURRENTCOMPILATION=0` is there for that reason; [`bare_rows`] has the
/// same build with it.
pub fn old_rows() -> Vec<Known> {
    all()
        .filter(|row| minor(&row.goversion) < 21 && row.goversion != "go1.14.7")
        .collect()
}

/// Programs made with old releases by the SDK's own go command where a C library is at hand: with
/// `go get` or `go install -trimpath -ldflags=-buildid=`, `CGO_ENABLED=0` and
/// `GO19CONCURRENTCOMPILATION=0`. One with go1.14.7, another with the newest of each line.
pub fn bare_rows() -> Vec<Known> {
    serde_json::from_str(include_str!("../data/old-sums.json")).expect("old-sums.json parses")
}

fn all() -> impl Iterator<Item = Known> {
    let text = include_str!("../data/known-sums.json");
    let rows: Vec<Known> = serde_json::from_str(text).expect("known-sums.json parses");
    rows.into_iter()
}

fn minor(go: &str) -> u32 {
    go.split('.')
        .nth(1)
        .and_then(|part| part.parse().ok())
        .expect("a Go release has two parts")
}

impl Known {
    /// `module@version/package`, the form of links and log keys.
    pub fn spec(&self) -> String {
        let dir = self.dir.trim_end_matches('/');
        format!("{}@{}{dir}", self.module, self.version)
    }

    /// Arguments of `build` for this row.
    pub fn args(&self) -> Vec<String> {
        let target = format!("{}/{}", self.goos, self.goarch);
        let mut args = vec![
            self.spec(),
            "--go".into(),
            self.goversion.clone(),
            "--target".into(),
            target,
        ];
        if self.variant == "stripped" {
            args.push("--stripped".into());
        }
        args
    }

    /// For messages.
    pub fn title(&self) -> String {
        self.args().join(" ")
    }
}
