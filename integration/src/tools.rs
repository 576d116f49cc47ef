//! Judges by others that come from a registry of their own, which a machine may not reach.

use std::{env, io::Write as _, path::PathBuf};

use crate::{command::Run, paths};

/// Release of gobuild whose client is run.
const GOBUILD: &str = "v0.0.48";

/// Whether this is a run of `integration/run --long`: more rounds, from empty stores.
#[must_use]
pub fn is_long() -> bool {
    env::var_os("HOTCELL_TEST_LONG").is_some()
}

/// Runs the steps that fetch a tool. False when one fails: then the test that wants the tool cannot
/// judge, and that is said where nobody hides it; with `HOTCELL_TEST_LONG` it is a failure.
///
/// # Panics
/// In a long run, when a step fails.
#[must_use]
pub fn fetched(tool: &str, steps: &[Run]) -> bool {
    let failed = steps.iter().find_map(|step| {
        let ended = step.wait();
        (ended.code != 0).then(|| ended.err())
    });
    let Some(why) = failed else { return true };
    assert!(!is_long(), "{tool} cannot be fetched: {why}");
    not_judged(tool, &why);
    false
}

/// The program of gobuild: `HOTCELL_TEST_GOBUILD`, else built by the Go command, where the module
/// proxy serves it. Some do not, for good, so that this fails no long run.
pub fn gobuild() -> Option<PathBuf> {
    if let Some(program) = env::var_os("HOTCELL_TEST_GOBUILD") {
        return Some(program.into());
    }
    let folder = paths::cache().join("programs").join(GOBUILD);
    let install = Run::new("go")
        .arg("install")
        .arg(format!("github.com/mjl-/gobuild@{GOBUILD}"))
        .env("GOBIN", &folder)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .env("GOWORK", "off")
        .folder(paths::cache());
    let program = folder.join("gobuild");
    if !program.is_file() {
        let ended = install.wait();
        if ended.code != 0 {
            not_judged("gobuild", &ended.err());
            return None;
        }
    }
    Some(program)
}

fn not_judged(tool: &str, why: &str) {
    // Not by `eprintln!`, which is shown for tests that fail only.
    let said = format!("NOT JUDGED by {tool}, which cannot be fetched here: {why}\n");
    std::io::stderr()
        .write_all(said.as_bytes())
        .expect("stderr takes it");
}
