//! A lock file holds every input; what differs from it ends with exit code 3.

use std::{fs, path::Path};

use hotcell_integration::{paths, sdk, service};
use serde_json::{Value, json};

use crate::support::{build, refused};

fn plan(spec: &str, lock: &Path) -> Value {
    let lock_path = lock.to_str().expect("paths of tests are UTF-8");
    service::user()
        .run(["plan", spec, "--go", sdk::GO, "-o", lock_path])
        .succeed();
    let text = fs::read(lock).expect("the lock file is there");
    serde_json::from_slice(&text).expect("it is JSON")
}

fn build_locked(lock: &Value, folder: &Path, more: &[&str]) -> hotcell_integration::command::Ended {
    let path = folder.join("changed.lock");
    fs::write(&path, lock.to_string()).expect("the folder takes files");
    let mut args = vec!["--locked", path.to_str().expect("paths of tests are UTF-8")];
    args.extend_from_slice(more);
    build("", &folder.join("locked"), &args)
}

#[test]
fn a_locked_build_gives_the_same_bits() {
    let folder = paths::scratch("plan");
    let lock = plan("ex.example/tidy@v1.0.0", &folder.path().join("lock"));
    assert_eq!(lock["modules"].as_array().map(Vec::len), Some(3), "{lock}");
    let free = build("ex.example/tidy@v1.0.0", &folder.path().join("free"), &[]);
    let locked = build_locked(&lock, folder.path(), &[]);
    assert_eq!(locked.code, 0, "{}", locked.err());
    assert_eq!(locked.json()["sha256"], free.json()["sha256"]);
    assert_eq!(locked.json()["sdk_h1"], lock["sdk_h1"]);
}

#[test]
fn a_changed_hash_ends_with_exit_code_3() {
    let folder = paths::scratch("plan");
    let lock = plan("ex.example/tidy@v1.0.0", &folder.path().join("lock"));
    let wrong = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    for number in 0..3 {
        for hash in ["h1", "go_mod_h1"] {
            let mut changed = lock.clone();
            let place = &mut changed["modules"][number][hash];
            if place.is_null() {
                continue;
            }
            *place = json!(wrong);
            let ended = build_locked(&changed, folder.path(), &[]);
            refused(
                &format!("{hash} of module {number}"),
                &ended,
                3,
                &["hotcell: "],
            );
        }
    }
    let mut changed = lock.clone();
    changed["sdk_h1"] = json!(wrong);
    refused(
        "SDK",
        &build_locked(&changed, folder.path(), &[]),
        3,
        &["SDK"],
    );
}

#[test]
fn a_missing_module_ends_with_exit_code_3() {
    let folder = paths::scratch("plan");
    let lock = plan("ex.example/tidy@v1.0.0", &folder.path().join("lock"));
    for number in 0..3 {
        let mut changed = lock.clone();
        let gone = changed["modules"]
            .as_array_mut()
            .expect("a list")
            .remove(number);
        let ended = build_locked(&changed, folder.path(), &[]);
        refused(&gone.to_string(), &ended, 3, &["hotcell: "]);
    }
}

#[test]
fn another_policy_ends_with_exit_code_3() {
    let folder = paths::scratch("plan");
    let lock = plan("ex.example/hello@v1.0.0", &folder.path().join("lock"));
    let policy = paths::repository().join("policies/build.toml");
    let policy = fs::read_to_string(policy).expect("the policy is in the repository");
    let other = folder.path().join("build.toml");
    fs::write(&other, format!("{policy}\n# Another one.\n")).expect("the folder takes files");
    let more = [
        "--policy",
        other.to_str().expect("paths of tests are UTF-8"),
    ];
    let ended = build_locked(&lock, folder.path(), &more);
    refused("policy", &ended, 3, &["policy differs"]);
}

#[test]
fn a_lock_file_that_is_none_is_a_usage_error() {
    let folder = paths::scratch("plan");
    for lock in [json!({}), json!([]), json!({"lock": 2}), json!("x")] {
        let ended = build_locked(&lock, folder.path(), &[]);
        refused(&lock.to_string(), &ended, 2, &["lock file", "hint: "]);
    }
}
