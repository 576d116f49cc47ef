//! Judges by others that come from a registry of their own, which a machine may not reach.

use std::io::Write as _;

use crate::command::Run;

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
    assert!(
        std::env::var_os("HOTCELL_TEST_LONG").is_none(),
        "{tool} cannot be fetched: {why}"
    );
    // Not by `eprintln!`, which is shown for tests that fail only.
    let said = format!("NOT JUDGED by {tool}, which cannot be fetched here: {why}\n");
    std::io::stderr()
        .write_all(said.as_bytes())
        .expect("stderr takes it");
    false
}
