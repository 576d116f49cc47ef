//! Limits that hold without cgroup v2, and what the report says of those that need it.
//!
//! What needs cgroup v2 is tried by `integration/vm-tests`, on a kernel that surely has it.

use std::{collections::BTreeSet, path::Path};

use hotcell_integration::{hostile, paths, service};
use serde_json::Value;

use crate::support::{in_cell, printed};

/// Runs a bomb under the policy with low limits; returns its document and what was said.
fn bomb(name: &str) -> (Value, String) {
    let policy = paths::repository().join("integration/data/bombs.toml");
    let policy = policy.to_str().expect("paths of tests are UTF-8");
    let program = hostile::program("bomb");
    let ended = in_cell(service::user(), &["--policy", policy], &program, &[name]).wait();
    (ended.json(), ended.err())
}

fn texts(report: &Value, list: &str, key: Option<&str>) -> BTreeSet<String> {
    let items = report[list].as_array().into_iter().flatten();
    let text = items.map(|item| key.map_or(item, |key| &item[key]).as_str());
    text.flatten().map(str::to_owned).collect()
}

#[test]
fn a_limit_that_is_reached_ends_a_cell_with_its_own_verdict_and_numbers() {
    for (name, code, key, limit) in [
        ("disk", "disk", "limit_bytes", 67_108_864),
        ("inodes", "inodes", "limit", 3_000),
        ("spin", "cpu", "limit_s", 3),
        ("tick", "wall", "limit_ms", 30_000),
    ] {
        let (document, said) = bomb(name);
        let ending = &document["ending"];
        assert_eq!(ending["code"], code, "{name}: {said}");
        assert_eq!(ending[key], limit, "{name}: {ending}");
        let ran = document["report"]["wall_ms"].as_u64().expect("a number");
        assert!(ran <= 31_000, "{name} ran for {ran} ms");
    }
    let (document, _) = bomb("disk");
    let peak = document["report"]["scratch_peak_bytes"].as_u64();
    assert_eq!(peak, Some(67_108_864), "the peak is reported");
}

#[test]
fn silence_and_floods_end_a_cell() {
    for (name, why, number) in [("stop", "silence", "8 s"), ("output", "output", "262144")] {
        let (document, said) = bomb(name);
        assert_eq!(document["ending"]["why"], why, "{name}: {said}");
        assert!(said.contains(number), "{name}: {said}");
        assert!(said.contains(&format!("[{why}]")), "{name}: {said}");
    }
}

#[test]
fn limits_that_are_refused_by_the_kernel_are_told_to_the_program() {
    let (document, _) = bomb("sparse");
    let said = document["output"].as_str().unwrap_or_default();
    assert!(said.contains("made 2147483648"), "up to the limit: {said}");
    assert!(said.contains("file too large"), "not beyond: {said}");
    let (document, _) = bomb("files");
    let said = document["output"].as_str().unwrap_or_default();
    assert!(said.contains("too many open files"), "{said}");
}

#[test]
fn the_report_says_what_was_read_back() {
    let program = hostile::program("bomb");
    let ended = in_cell(service::user(), &[], &program, &["crash"]).succeed();
    assert!(printed(&ended).contains("signal: aborted"));
    let report = &ended.json()["report"];
    let in_force = texts(report, "in_force", None);
    for part in [
        "all nosuid, nodev, nosymfollow",
        "descriptors: 0, 1, 2;",
        "attempts by init: 11, all refused",
        "user namespaces inside: none",
        "keyrings: a new one, as init says",
        "processors, no core dumps",
    ] {
        let there = in_force.iter().any(|phrase| phrase.contains(part));
        assert!(there, "{part}: {in_force:?}");
    }
    let grouped = in_force
        .iter()
        .any(|phrase| phrase.starts_with("control group: "));
    let missing = texts(report, "not_in_force", Some("what"));
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let unified = controllers.is_ok_and(|text| text.contains("memory"));
    if paths::is_root() {
        assert_eq!(grouped, unified, "{in_force:?}");
    }
    for limit in [
        "memory limit",
        "process limit of the whole cell",
        "cpu share",
    ] {
        assert!(grouped || missing.contains(limit), "{limit}: {missing:?}");
    }
    let steps = report["setup_us"].as_array().expect("a list");
    let names: Vec<_> = steps.iter().filter_map(|step| step[0].as_str()).collect();
    for step in ["plan", "clone3", "places", "landlock", "readback", "total"] {
        assert!(names.contains(&step), "{step}: {names:?}");
    }
}

#[test]
fn a_service_that_requires_limits_starts_only_where_all_are_in_force() {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers");
    let all = controllers.unwrap_or_default();
    let all: BTreeSet<&str> = all.split_whitespace().collect();
    let unified = ["memory", "pids", "cpu"]
        .iter()
        .all(|name| all.contains(name));
    let folder = paths::scratch("require-limits");
    let place = service::Place::real(folder.path());
    let free = "127.0.0.1:0";
    if unified && paths::is_root() {
        let mut service = place.serve(&["--require-limits"]);
        assert_eq!(service.stop(), 0);
        return;
    }
    let data = Path::new("data");
    let ended = place
        .run([
            "serve",
            "--require-limits",
            "--listen",
            free,
            "--admin",
            free,
            "--data",
        ])
        .arg(data)
        .arg("--sign-dir")
        .arg(folder.path().join("sign"))
        .wait();
    assert_ne!(ended.code, 0, "{}", ended.err());
    assert!(
        ended.err().contains("memory limit is not in force"),
        "{}",
        ended.err()
    );
}
