//! The life of a log: keys made ahead, a beginning that nobody mistakes, proofs of what is in it,
//! and an end, after which one other log follows and the old key never signs again.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use hotcell::{log::LogConfig, roles::SIGN_ID, tlog::VerifierKey};
use hotcell_integration::{
    command::{Ended, Run},
    fake, grown, hostile, paths,
    service::Place,
};
use nix::unistd::geteuid;

use crate::support::refused;

/// `hotcell log COMMAND …`
fn log(place: &Place, args: &[&str]) -> Ended {
    place.run([&["log"], args].concat()).wait()
}

/// The same with the folders of the place.
fn at(place: &Place, command: &[&str], more: &[&str]) -> Ended {
    let folder = |name: &str| place.folder.join(name).display().to_string();
    let (data, sign) = (folder("data"), folder("sign"));
    let folders = ["--data", &data, "--sign-dir", &sign];
    log(place, &[command, &folders, more].concat())
}

/// The one line that a command printed.
fn line(ended: &Ended) -> String {
    assert_eq!(ended.code, 0, "{}", ended.err());
    ended.out().trim().to_owned()
}

fn parse(key: &str) -> VerifierKey {
    VerifierKey::parse(key).expect("a verifier key")
}

/// A place with a log of so many builds, and its key.
fn place(folder: &Path, builds: u64) -> (Place, String) {
    let place = Place::new(folder, fake::shared());
    grown::append(&place, (0..builds).map(grown::record));
    let data = place.folder.join("data").display().to_string();
    let audit = log(&place, &["audit", "--json", &data]);
    let key = audit.json()["key"].as_str().expect("a key").to_owned();
    (place, key)
}

#[test]
fn a_log_begins_with_the_key_that_was_made_for_it_and_never_beside_another_one() {
    let folder = paths::scratch("begin");
    let place = Place::new(folder.path(), fake::shared());
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let sign = text("sign");
    let made = log(&place, &["keygen", "--sign-dir", &sign]);
    let key = line(&made);
    let secret = path("sign").join(parse(&key).id()).join("log.key");
    let meta = fs::metadata(&secret).expect("it is there");
    let owner = match geteuid().is_root() {
        true => SIGN_ID,
        false => geteuid().as_raw(),
    };
    assert_eq!((meta.mode() & 0o777, meta.uid()), (0o600, owner));
    assert!(made.err().contains(&parse(&key).id()), "{}", made.err());
    let again = log(&place, &["keygen", "--sign-dir", &sign]);
    refused("a second key", &again, 1, &[&key, "signed nothing yet"]);
    let mut service = place.serve(&[]);
    assert_eq!(service.verifier_key(), key);
    assert_eq!(service.stop(), 0);

    // The data is gone: nothing begins in its place by itself, and nothing by `log init` either.
    fs::rename(path("data"), path("lost")).expect("ours");
    let said = place.try_serve(&[]).expect_err("a second log has begun");
    for part in [&*key, "log recover", "log succeed", "log init"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let init = at(&place, &["init"], &[]);
    refused(
        "init",
        &init,
        1,
        &[&key, "head of 1 records", "log recover"],
    );
    fs::remove_dir_all(path("data")).expect("ours");
    fs::rename(path("lost"), path("data")).expect("ours");
    let init = at(&place, &["init"], &[]);
    refused("init", &init, 1, &[&key, "is not empty", "log succeed"]);
    // Tiles without a database are something of a log, too.
    fs::create_dir_all(
        LogConfig::of(&path("other").join(LogConfig::FOLDER))
            .tiles
            .join("0"),
    )
    .expect("ours");
    let other = [
        "init",
        "--data",
        &text("other"),
        "--sign-dir",
        &text("other-sign"),
    ];
    refused(
        "tiles",
        &log(&place, &other),
        1,
        &["tiles of a log", "log recover"],
    );
    fs::remove_dir_all(path("other")).expect("ours");
    let begun = line(&log(&place, &other));
    assert_ne!(begun, key);
    assert_eq!(
        line(&log(&place, &["audit", &text("other")]))
            .lines()
            .count(),
        6
    );
    let mut service = place.serve(&[]);
    assert_eq!(service.verifier_key(), key);
    assert_eq!(service.stop(), 0);
}

#[test]
fn a_proof_of_any_record_is_accepted_by_others_and_what_is_not_there_is_said() {
    let folder = paths::scratch("proof");
    let (place, key) = place(folder.path(), 140);
    let service = place.serve(&[]);
    let url = format!("{}/tlog", service.url());
    let data = place.folder.join("data").display().to_string();
    let (file, leaf) = (folder.path().join("proof"), folder.path().join("leaf"));
    let build = grown::record(130).0.key.to_string();
    for (from, which) in [(&url, "262"), (&url, "0"), (&data, "280"), (&data, &*build)] {
        let json = ["proof", from, which, "--verifierkey", &key, "--json"];
        let told = log(&place, &json).json();
        fs::write(&leaf, told["text"].as_str().expect("a text")).expect("ours");
        let output = file.display().to_string();
        let done = log(
            &place,
            &["proof", from, which, "--verifierkey", &key, "-o", &output],
        );
        assert_eq!(
            (done.code, done.out()),
            (0, String::new()),
            "{}",
            done.err()
        );
        let written = fs::read_to_string(&file).expect("it was written");
        assert_eq!(told["proof"], written, "{from} {which}");
        let judge = |leaf: &Path, key: &str| {
            let run = Run::new(hostile::torchwood())
                .arg("-proof")
                .args([&*file, leaf]);
            run.arg(key).wait()
        };
        let accepted = judge(&leaf, &key);
        assert_eq!(accepted.code, 0, "{from} {which}: {}", accepted.err());
        assert_ne!(judge(&file, &key).code, 0, "another text was accepted");
    }
    let missing = grown::record(140).0.key.to_string();
    for (from, which) in [
        (&url, "281"),
        (&url, &*missing),
        (&data, "281"),
        (&data, &*missing),
    ] {
        let absent = log(&place, &["proof", from, which, "--verifierkey", &key]);
        refused(which, &absent, 1, &["the log has no", "281 leaves"]);
    }
    let other = parse(&key)
        .to_string()
        .replacen("localhost", "localhosu", 1);
    refused(
        "no key",
        &log(&place, &["proof", &url, "0", "--verifierkey", &other]),
        2,
        &[],
    );
    refused("no leaf", &log(&place, &["proof", &url, "x"]), 2, &[]);
}
