//! Builds the Go programs that are run in the place of the go command, and the helpers of tests.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::{command::Run, paths};

/// A program of `integration/hostile/`, static.
pub fn program(name: &str) -> PathBuf {
    build("integration/hostile", name)
}

/// The independent client of `integration/xmod/`.
pub fn xmod() -> PathBuf {
    build("integration/xmod", ".")
}

fn build(module: &str, package: &str) -> PathBuf {
    // One at a time: two tests may want the same program at once.
    static ONE: Mutex<()> = Mutex::new(());
    let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = if package == "." { "xmod" } else { package };
    let output = paths::cache().join("programs").join(name);
    Run::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&output)
        .arg(format!("./{package}"))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .folder(paths::repository().join(module))
        .succeed();
    drop(one);
    output
}
