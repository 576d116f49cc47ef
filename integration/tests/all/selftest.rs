//! The hostile suite that operators run: nothing gets out, and it would be told if something did.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use hotcell_integration::{
    command::Ended,
    fake, host, paths, sdk,
    service::{self, Place},
};
use serde_json::Value;

/// Policy of builds with one more rule.
fn weaker(folder: &Path, more: &str) -> String {
    let text = format!(
        "format = 1\nbase = \"build\"\nwhy = \"A hole, to see that it is found.\"\n\n{more}"
    );
    let path = folder.join("weaker.toml");
    fs::write(&path, text).expect("the folder takes files");
    path.display().to_string()
}

fn selftest(place: &Place, more: &[&str]) -> Ended {
    // One at a time: each looks whether the host changed, and a weaker sandbox does change it.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let args = ["selftest", "--json", "--go", sdk::GO].iter().chain(more);
    place.run(args.copied()).wait()
}

fn attempts(ended: &Ended) -> Vec<Value> {
    let told = ended.json();
    told["attempts"].as_array().cloned().unwrap_or_default()
}

fn named<'a>(attempts: &'a [Value], id: &str) -> &'a Value {
    let found = attempts.iter().find(|one| one["id"] == id);
    found.unwrap_or_else(|| panic!("no attempt `{id}`"))
}

fn assert_nothing_escapes(ended: &Ended) {
    let all = attempts(ended);
    assert!(all.len() >= 300, "{}: {}", all.len(), ended.err());
    let verdicts = ["stopped", "not-in-force", "unjudged"];
    for attempt in &all {
        let verdict = attempt["verdict"].as_str().unwrap_or_default();
        assert!(verdicts.contains(&verdict), "{attempt}");
        let told = verdict != "stopped" || attempt["stopped_by"].is_string();
        assert!(told, "what stopped it? {attempt}");
        let silent = verdict == "unjudged" && attempt["detail"] == "";
        assert!(!silent, "why can nobody tell? {attempt}");
    }
    let classes: BTreeSet<u64> = all.iter().filter_map(|one| one["class"].as_u64()).collect();
    assert_eq!(classes, (1..=20).collect());
    assert_eq!(ended.json()["counts"]["escaped"], 0);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let judged = |who: &str| all.iter().filter(|one| one["judged_by"] == who).count();
    assert!(
        judged("supervisor") > 150,
        "most are seen by the supervisor: {}",
        judged("supervisor")
    );
    assert!(
        judged("host") > 40,
        "and many by the host: {}",
        judged("host")
    );
    let unjudged = all
        .iter()
        .filter(|one| one["verdict"] == "unjudged")
        .count();
    assert!(unjudged <= 5, "{unjudged} unjudged");
}

#[test]
fn as_root_nothing_escapes() {
    let before = host::mounts("");
    let ended = selftest(service::user(), &[]);
    assert_nothing_escapes(&ended);
    let mode = if paths::is_root() { "root" } else { "rootless" };
    assert_eq!(ended.json()["mode"], mode);
    assert_eq!(host::mounts(""), before, "mounts");
}

#[test]
fn rootless_nothing_escapes() {
    let folder = paths::scratch("selftest");
    let place = Place::new(folder.path(), fake::shared());
    let place = if paths::is_root() {
        place.as_user(54_321)
    } else {
        place
    };
    let ended = selftest(&place, &[]);
    assert_nothing_escapes(&ended);
    assert_eq!(ended.json()["mode"], "rootless");
}

#[test]
fn a_hole_in_the_filter_is_found() {
    let folder = paths::scratch("selftest");
    let hole = "[[call]]\nnames = [\"sysinfo\"]\nwhy = \"A hole in the filter.\"\n";
    let ended = selftest(service::user(), &["--policy", &weaker(folder.path(), hole)]);
    let all = attempts(&ended);
    assert_eq!(
        named(&all, "sysinfo")["verdict"],
        "escaped",
        "{}",
        ended.err()
    );
    assert_eq!(named(&all, "syslog")["verdict"], "stopped");
    assert_eq!(ended.json()["counts"]["escaped"], 1);
    assert_eq!(ended.code, 1);
}

#[test]
fn a_hole_in_the_paths_is_found() {
    let folder = paths::scratch("selftest");
    let hole = "[[path]]\npath = \"/sdk/bin/gofmt\"\nrights = [\"execute\"]\n\
                why = \"A hole in the paths.\"\n";
    let ended = selftest(service::user(), &["--policy", &weaker(folder.path(), hole)]);
    let all = attempts(&ended);
    for id in ["run-gofmt", "run-around"] {
        assert_eq!(
            named(&all, id)["verdict"],
            "escaped",
            "{id}: {}",
            ended.err()
        );
    }
    assert_eq!(named(&all, "run-tmp")["verdict"], "stopped");
    assert_eq!(ended.code, 1);
}

#[test]
fn in_another_sandbox_the_same_program_gets_further() {
    if !Path::new("/usr/bin/bwrap").exists() {
        let ended = selftest(service::user(), &["--under", "bwrap"]);
        assert_eq!(ended.code, 1);
        assert!(ended.err().contains("bubblewrap"), "{}", ended.err());
        return;
    }
    let ended = selftest(service::user(), &["--under", "bwrap"]);
    let all = attempts(&ended);
    let escaped = all.iter().filter(|one| one["verdict"] == "escaped").count();
    assert!(escaped > 50, "{escaped}: {}", ended.err());
    for id in ["sdk-write", "etc-shadow", "net-host"] {
        assert_eq!(named(&all, id)["verdict"], "stopped", "{id}");
    }
    assert_eq!(ended.code, 1);
}

#[test]
fn each_step_of_a_start_is_measured() {
    let ended = selftest(service::user(), &["--timings"]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let told = ended.json();
    let steps = told["steps"].as_array().expect("a list");
    assert!(steps.len() > 10, "{told}");
    let total = told["cell"]["p50_us"].as_u64().expect("a number");
    let network = steps.iter().find(|step| step["what"] == "network");
    let network = network.and_then(|step| step["p50_us"].as_u64());
    assert!(network.is_some_and(|part| part < total), "{told}");
}
