//! `doctor` says what is, changes nothing, and knows whether a cell can be made.

use hotcell_integration::{
    command::{Ended, Run},
    fake, host, paths,
    service::{self, Place},
};
use serde_json::Value;

/// The finding of this name.
fn finding<'a>(told: &'a Value, what: &str) -> &'a Value {
    let all = told["findings"].as_array().expect("a list");
    let found = all.iter().find(|finding| finding["what"] == what);
    found.unwrap_or_else(|| panic!("no `{what}` in {told}"))
}

fn doctor(place: &Place) -> Ended {
    place.run(["doctor", "--json"]).wait()
}

/// Whatever is not well says what to do.
fn assert_complete(told: &Value) {
    for finding in told["findings"].as_array().expect("a list") {
        assert_ne!(finding["says"], "", "{finding}");
        assert_eq!(finding["state"] == "ok", finding["todo"] == "", "{finding}");
    }
}

#[test]
fn a_machine_that_builds_is_found_able_and_nothing_is_changed() {
    let place = service::user();
    let mounts = host::mounts("");
    let ended = doctor(place);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let told = ended.json();
    assert_eq!(told["cells"], true);
    assert_complete(&told);
    for what in [
        "kernel",
        "landlock",
        "seccomp",
        "overlay",
        "certificates",
        "roles",
        "cell",
        "clock",
    ] {
        assert_eq!(
            finding(&told, what)["state"],
            "ok",
            "{}",
            finding(&told, what)
        );
    }
    let cell = finding(&told, "cell")["says"].as_str().expect("a sentence");
    assert!(cell.starts_with("made with go1."), "{cell}");
    for what in ["module proxy", "checksum database"] {
        assert_eq!(
            finding(&told, what)["state"],
            "ok",
            "{}",
            finding(&told, what)
        );
    }
    assert_eq!(host::mounts(""), mounts);
}

#[test]
fn a_proxy_that_is_gone_is_told_and_does_not_hide_the_rest() {
    let folder = paths::scratch("doctor");
    let mut place = Place::new(folder.path(), fake::shared());
    let key = fake::shared().verifier_key();
    place.proxy = Some(("http://127.0.0.1:1".to_owned(), key)); // nobody listens on port 1
    let ended = doctor(&place);
    assert_eq!(ended.code, 0, "cells can be made: {}", ended.err());
    let told = ended.json();
    assert_complete(&told);
    assert_eq!(finding(&told, "module proxy")["state"], "bad");
    assert_eq!(finding(&told, "roles")["state"], "ok");
    assert_eq!(
        finding(&told, "cell")["state"],
        "warning",
        "there is no SDK yet"
    );
}

#[test]
fn a_machine_without_certificates_is_told_what_to_install() {
    let folder = paths::scratch("doctor");
    let mut place = Place::new(folder.path(), fake::shared());
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        let missing = folder.path().join("missing").display().to_string();
        place.variables.push((name.to_owned(), missing));
    }
    let ended = doctor(&place);
    let told = ended.json();
    assert_complete(&told);
    let certificates = finding(&told, "certificates");
    assert_eq!(certificates["state"], "bad", "{told}");
    let todo = certificates["todo"].as_str().expect("a sentence");
    assert!(todo.contains("ca-certificates"), "{todo}");
    assert_eq!(finding(&told, "module proxy")["state"], "bad", "{told}");
    assert!(
        ended.err().contains("No CA certificates"),
        "the role says why it ended: {}",
        ended.err()
    );
}

#[test]
fn a_machine_without_user_namespaces_is_told_so_with_a_remedy_and_exit_code_1() {
    let folder = paths::scratch("doctor");
    let place = Place::new(folder.path(), fake::shared());
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut run = Run::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(&place.program);
    let (url, key) = place.proxy.clone().expect("a fake proxy");
    run = run.args(["--goproxy", &url, "--sumdb", &key, "doctor", "--json"]);
    for name in ["HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
        run = run.env(name, folder.path());
    }
    let ended = run.wait();
    assert_eq!(ended.code, 1, "{}\n{}", ended.out(), ended.err());
    let told = ended.json();
    assert_eq!(told["cells"], false);
    assert_complete(&told);
    let user = finding(&told, "namespace user");
    assert_eq!(user["state"], "bad");
    assert!(
        user["todo"]
            .as_str()
            .is_some_and(|todo| todo.contains("sysctl -w")),
        "{user}"
    );
    assert_eq!(finding(&told, "roles")["state"], "bad", "{told}");
}

#[test]
fn an_ordinary_user_is_told_what_is_weaker() {
    if !paths::is_root() {
        return; // then the tests above were that user's
    }
    let folder = paths::scratch("doctor");
    let place = Place::new(folder.path(), fake::shared()).as_user(2_000_001);
    let ended = doctor(&place);
    let told = ended.json();
    assert_complete(&told);
    assert_eq!(ended.code, 0, "{}\n{told}", ended.err());
    assert_eq!(finding(&told, "ids")["state"], "warning");
    assert_eq!(finding(&told, "roles")["state"], "ok");
}
