//! Go before 1.21, whose own go command is linked dynamically and cannot run in a cell.

use std::sync::{Mutex, PoisonError};

use hotcell_integration::{
    hostile, known, paths,
    service::{Place, warm},
    tools,
};

use serde_json::Value;

use crate::{known_sums::check, support::printed};

/// What is made once for a release is made by one test at a time.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn old_releases_make_the_bits_that_everybody_else_gets() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::real(&warm("real"));
    let mut rows = known::old_rows();
    // One that uses `go install` and one that uses `go get`; all lines with `--long`.
    let bare = if tools::is_long() { usize::MAX } else { 1 };
    rows.extend(known::bare_rows().into_iter().take(bare));
    assert!(rows.len() >= 2, "two releases are known");
    for row in rows {
        check(&place, &row, false);
    }
}

#[test]
fn the_go_command_of_an_old_release_is_the_pinned_one_and_stays_as_it_is() {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Place::real(&warm("real"));
    let folder = paths::scratch("old");
    let spec = "rsc.io/2fa@v1.2.0";
    let go = ["--go", "go1.20.14"];
    let built = |name: &str| {
        let ended = place.build(spec, &folder.path().join(name), &go);
        assert_eq!(ended.code, 0, "{}", ended.err());
        ended.json()
    };
    let before = built("before");
    assert_eq!(before["cell"]["policy"], "legacy-go");
    let pins = std::fs::read_to_string(paths::repository().join("toolchains/linux-amd64.toml"));
    let pins = pins.expect("the pins can be read");
    let pin = pins
        .lines()
        .find_map(|line| line.strip_prefix("\"go1.20.14\" = \"")?.strip_suffix('"'))
        .expect("the release is pinned");
    let in_force = before["cell"]["in_force"].to_string();
    assert!(
        in_force.contains(&format!("go1.20.14 go command: {pin}")),
        "{in_force}"
    );
    // A program in its place can neither write nor remove it, nor run what else lies there.
    let ended = place
        .run(["cell", "run", "--json", "--go", "go1.20.14", "--"])
        .arg(hostile::program("inspect"))
        .args([
            "change=/sdk/bin/go",
            "write=/sdk/bin/go",
            "remove=/sdk/bin/go",
            "write=/sdk/bin/new",
            "exec=/sdk/bin/gofmt",
        ]);
    let report = printed(&ended.succeed());
    let report: Value = serde_json::from_str(&report).expect("a report");
    let tried = report["Written"].as_object().expect("attempts");
    assert_eq!(tried.len(), 5, "{tried:?}");
    for (what, said) in tried {
        let said = said.as_str().unwrap_or("done");
        let refused = ["read-only", "permission", "busy", "denied"];
        assert!(
            refused.iter().any(|word| said.contains(word)),
            "{what}: {said}"
        );
    }
    assert_eq!(built("after")["sha256"], before["sha256"]);
}
