//! The Go project's own packages accept our log.

use std::fs;

use hotcell_integration::{
    command::{Ended, Run},
    hostile, http, paths, sdk, service,
};

fn xmod(url: &str, key: &str, more: &[&str]) -> Ended {
    Run::new(hostile::xmod())
        .arg(format!("{url}/tlog"))
        .arg(key)
        .args(more)
        .wait()
}

fn key(module: &str) -> String {
    format!("{module}@v1.0.0/linux-amd64-{}/", sdk::GO)
}

#[test]
fn an_independent_client_accepts_every_record_and_every_head() {
    let service = service::service();
    let folder = paths::scratch("xmod");
    let (url, verifier) = (service.url(), service.verifier_key());
    let old = folder.path().join("old");
    fs::write(&old, http::get(&format!("{url}/tlog/latest")).body).expect("the folder takes files");
    // A lookup builds when needed, so the log grows between both heads.
    let old_path = old.to_str().expect("paths of tests are UTF-8");
    let keys = [
        key("ex.example/hello"),
        key("ex.example/many20"),
        key("ex.example/UpperCase/Tool"),
    ];
    let mut args = vec!["-old", old_path];
    args.extend(keys.iter().map(String::as_str));
    let ended = xmod(&url, verifier, &args);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let again = xmod(&url, verifier, &args);
    let told = again.json();
    let records = told["records"].as_array().expect("a list of records");
    let text = |index: usize| records[index].as_str().unwrap_or_default().to_owned();
    assert!(
        text(0).starts_with(&format!("key/1 log {verifier}\n")),
        "{}",
        text(0)
    );
    assert!(text(0).contains("\nkey/1 dsse ed25519:"), "{}", text(0));
    let hello =
        (0..records.len()).find(|index| text(*index).starts_with("ex.example/hello v1.0.0 / "));
    let hello = hello.expect("the record of a finished build");
    assert!(
        text(hello).ends_with(" \n"),
        "a plain record ends with a space: {}",
        text(hello)
    );
    let companion = format!("attest/1 {} {hello} sha256:", keys[0]);
    assert!(
        text(hello + 1).starts_with(&companion),
        "{}",
        text(hello + 1)
    );
}

#[test]
fn every_binary_is_where_clients_of_gobuild_look_for_it() {
    let service = service::service();
    let folder = paths::scratch("xmod");
    let got = folder.path().to_str().expect("paths of tests are UTF-8");
    let go = sdk::GO;
    let keys = [
        key("ex.example/hello"),
        format!("ex.example/UpperCase/Tool@v1.0.0/linux-amd64-{go}-stripped/"),
        format!("ex.example/commands@v1.0.0/cmd/one/linux-amd64-{go}/"),
        format!("ex.example/major/v2@v2.0.0/linux-amd64-{go}/"),
        format!("ex.example/old@v2.0.0+incompatible/linux-amd64-{go}/"),
    ];
    let mut args = vec!["-get", got];
    args.extend(keys.iter().map(String::as_str));
    let ended = xmod(&service.url(), service.verifier_key(), &args);
    assert_eq!(ended.code, 0, "{}", ended.err());
    for name in ["hello", "Tool", "one", "v2", "old"] {
        let printed = Run::new(folder.path().join(name)).succeed();
        assert_eq!(printed.err(), "hello\n", "{name}");
    }
}

#[test]
fn an_independent_client_refuses_another_key_and_another_history() {
    let service = service::service();
    let folder = paths::scratch("xmod");
    let other = hotcell_integration::fake::shared().verifier_key();
    assert_eq!(xmod(&service.url(), &other, &[]).code, 1);
    let note = http::get(&format!("{}/tlog/latest", service.url())).text();
    // Another root of the same size: the third line begins with another letter.
    let mut lines: Vec<String> = note.lines().map(|line| format!("{line}\n")).collect();
    let other_letter = if lines[2].starts_with('A') { "B" } else { "A" };
    lines[2].replace_range(..1, other_letter);
    let forged = lines.concat();
    assert_ne!(forged, note);
    let old = folder.path().join("old");
    fs::write(&old, forged).expect("the folder takes files");
    let old = old.to_str().expect("paths of tests are UTF-8");
    assert_eq!(
        xmod(&service.url(), service.verifier_key(), &["-old", old]).code,
        1
    );
}

#[test]
fn what_cannot_be_looked_up_is_404_and_no_record_is_made() {
    let service = service::service();
    for path in [
        "lookup/ex.example/nowhere@v1.0.0/linux-amd64-go1.26.8/",
        "lookup/ex.example/hello@v1.0.0/linux-amd64-go1.26.8",
        "lookup/ex.example/hello@v1.0.0//linux-amd64-go1.26.8/",
        "tile/8/0/999",
        "tile/8/0/000.p/0",
        "tile/8/9/000",
        "tile/8/0/x000/000",
        "tile/0/0/000",
    ] {
        let answer = http::get(&format!("{}/tlog/{path}", service.url()));
        assert!(
            [400, 404].contains(&answer.status),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert!(service.lives());
}
