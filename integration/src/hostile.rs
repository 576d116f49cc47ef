//! Builds the Go programs that are run in the place of the go command, and the helpers of tests
//! that others have written: readers of logs, a witness, an authority.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::{command::Run, paths};

/// Release of Tessera whose programs are used.
const TESSERA: &str = "v1.0.4";

/// What this process has built. One at a time, and each once: two tests may want the same program
/// at the same moment, and a file that is being executed cannot be written again.
static BUILT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A program of `integration/hostile/`, static.
pub fn program(name: &str) -> PathBuf {
    build("integration/hostile", name)
}

/// The independent client of `integration/xmod/`.
pub fn xmod() -> PathBuf {
    build("integration/xmod", ".")
}

/// The independent client of `integration/torchwood/`.
pub fn torchwood() -> PathBuf {
    build("integration/torchwood", ".")
}

/// Tessera's own check of a whole log. Its exit code is 0 whatever it finds: read what it says.
pub fn fsck() -> PathBuf {
    tessera("cmd/fsck")
}

/// A program of Tessera's module: `internal/hammer`, which loads logs, `cmd/conformance/posix`, a
/// log in a folder.
pub fn tessera(package: &str) -> PathBuf {
    let folder = paths::cache().join("programs").join(TESSERA);
    let name = package.rsplit('/').next().unwrap_or(package);
    let one = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !folder.join(name).is_file() {
        Run::new("go")
            .arg("install")
            .arg(format!(
                "github.com/transparency-dev/tessera/{package}@{TESSERA}"
            ))
            .env("GOBIN", &folder)
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-mod=readonly -buildvcs=false")
            .env("GOWORK", "off")
            .folder(paths::cache())
            .succeed();
    }
    drop(one);
    folder.join(name)
}

/// A witness by others: litewitness, of the module that `integration/witness/` names.
pub fn litewitness() -> PathBuf {
    build(
        "integration/witness",
        "filippo.io/torchwood/cmd/litewitness",
    )
}

/// An authority by others, or its name server: a program of the module that `integration/pebble/`
/// names.
pub fn pebble(program: &str) -> PathBuf {
    let package = format!("github.com/letsencrypt/pebble/v2/cmd/{program}");
    build("integration/pebble", &package)
}

fn build(module: &str, package: &str) -> PathBuf {
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let (name, package) = match package.rsplit_once('/') {
        Some((_, name)) => (name, package.to_owned()),
        None if package == "." => (module.rsplit('/').next().unwrap_or(module), ".".to_owned()),
        None => (package, format!("./{package}")),
    };
    let output = paths::cache().join("programs").join(name);
    if built.contains(&output) {
        return output;
    }
    Run::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&output)
        .arg(&package)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .folder(paths::repository().join(module))
        .succeed();
    built.insert(output.clone());
    output
}
