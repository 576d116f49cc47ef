//! The life of a log: keys made ahead, a beginning that nobody mistakes, proofs of what is in it,
//! and an end, after which one other log follows and the old key never signs again.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use hotcell::{
    log::{LocalSigner, LogConfig, SignError, Signer as _},
    roles::SIGN_ID,
    tlog::VerifierKey,
};
use hotcell_integration::{
    command::{Ended, Run},
    fake, grown, hostile, http, paths,
    rewound::{head, health, leaves},
    service::Place,
};

use crate::support::refused;

/// The log that follows.
const NEXT: &str = "next.example";

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

fn copy(from: &Path, to: &Path) {
    Run::new("cp").arg("-a").args([from, to]).succeed();
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
    assert_eq!(meta.mode() & 0o777, 0o600);
    assert!(!paths::is_root() || meta.uid() == SIGN_ID, "{}", meta.uid());
    assert!(made.err().contains(&parse(&key).id()), "{}", made.err());
    let again = log(&place, &["keygen", "--sign-dir", &sign]);
    refused("a second key", &again, 1, &[&key, "signed nothing yet"]);
    let mut service = place.serve(&[]);
    assert_eq!(service.verifier_key(), key);
    assert_eq!(service.stop(), 0);

    // The data is gone: an empty folder is a new log with a new key, and what the old one was for
    // is said. `log init` begins nothing.
    fs::rename(path("data"), path("lost")).expect("ours");
    drop(fs::remove_file(path("trace.txt")));
    let mut beside = place.serve(&[]);
    assert_ne!(beside.verifier_key(), key);
    let said = beside.trace();
    assert_eq!(beside.stop(), 0);
    for part in [&*key, "log recover", "log succeed"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    fs::remove_dir_all(path("data")).expect("ours");
    let init = at(&place, &["init"], &[]);
    refused(
        "init",
        &init,
        1,
        &[&key, "head of 1 records", "log recover"],
    );
    fs::rename(path("lost"), path("data")).expect("ours");
    let init = at(&place, &["init"], &[]);
    refused("init", &init, 1, &[&key, "is not empty", "log succeed"]);
    // Tiles without a database are something of a log, too.
    let tiles = LogConfig::of(&path("other").join(LogConfig::FOLDER)).tiles;
    fs::create_dir_all(tiles.join("0")).expect("ours");
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
    let audited = line(&log(&place, &["audit", &text("other")]));
    assert_eq!(audited.lines().count(), 6, "{audited}");
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

#[test]
fn a_log_whose_data_is_lost_ends_and_one_other_follows() {
    let folder = paths::scratch("succeed");
    let (place, old) = place(folder.path(), 3);
    let path = |name: &str| folder.path().join(name);
    copy(&path("data"), &path("older"));
    grown::append(&place, (3..5).map(grown::record));
    copy(&path("data"), &path("whole"));
    let whole = at(&place, &["succeed", NEXT], &[]);
    refused(
        "whole",
        &whole,
        1,
        &["log recover --from", "--although-whole"],
    );
    let same = at(&place, &["succeed", "localhost"], &[]);
    refused("no other name", &same, 2, &["localhost"]);
    {
        let service = place.serve(&[]);
        assert_eq!(head(&service).0, leaves(5));
        let busy = at(&place, &["succeed", NEXT, "--although-whole"], &[]);
        refused("in use", &busy, 1, &["stop the service"]);
    }
    fs::remove_dir_all(path("data")).expect("ours");
    copy(&path("older"), &path("data"));
    let done = at(&place, &["succeed", NEXT], &[]);
    let key = line(&done);
    assert!(
        done.err().contains("an older copy was restored"),
        "{}",
        done.err()
    );
    assert!(key.starts_with(&format!("{NEXT}+")), "{key}");
    assert_eq!(line(&at(&place, &["succeed", NEXT], &[])), key);
    // What was left lies aside, whole, and nobody can write it by accident.
    let id = parse(&old).id();
    let aside = path("data").join(format!("ended-{}", &id[..16]));
    assert_eq!(
        log(&place, &["audit", &aside.display().to_string()]).code,
        0
    );
    let mode = fs::metadata(LogConfig::of(&aside).database)
        .expect("it is there")
        .mode();
    assert_eq!(mode & 0o222, 0);
    // Both sizes are told: that of the head that was signed, not of the copy that was left.
    let data = path("data").display().to_string();
    let audit = log(&place, &["audit", "--json", &data]).json();
    assert_eq!(audit["follows"]["key"], *old);
    assert_eq!(audit["follows"]["size"], leaves(5));
    let mut service = place.serve(&["--name", NEXT]);
    assert_eq!(service.verifier_key(), key);
    let said = format!("it follows {old}, which has ended at {} records", leaves(5));
    for page in [health(&service), http::get(&service.url()).text()] {
        let page = page.replace("&#43;", "+").replace("&#x2B;", "+");
        assert!(page.contains(&said), "{page}");
    }
    assert_eq!(service.stop(), 0);
    grown::append(&place, (0..1).map(grown::record)); // it takes entries, under the new key
    let audit = log(&place, &["audit", &data]);
    assert!(
        line(&audit).contains(&format!("follows\t{old}")),
        "{}",
        audit.out()
    );
    let mut service = place.serve(&["--name", NEXT]);
    // Who knows the old key only hears what has happened, and nothing is fetched or believed.
    let url = format!("{}/tlog", service.url());
    let spec = ["get", "ex.example/grown0@v1.0.0", "--go", "go1.26.8"];
    let get = [&spec[..], &["--verifierkey", &old, "--url", &url]].concat();
    for (what, told) in [
        ("get", place.run(get).wait()),
        (
            "audit",
            log(&place, &["audit", &url, "--verifierkey", &old]),
        ),
        (
            "proof",
            log(&place, &["proof", &url, "0", "--verifierkey", &old]),
        ),
    ] {
        refused(
            what,
            &told,
            1,
            &["has ended at 11 records", &key, "--verifierkey"],
        );
        assert_eq!(told.out(), "", "{what}");
    }
    assert_eq!(service.stop(), 0);

    // Its name follows one log, whatever another folder holds.
    let name = [
        "succeed",
        NEXT,
        "--data",
        &path("older").display().to_string(),
    ];
    let sign = path("sign").display().to_string();
    let twice = log(&place, &[&name[..], &["--sign-dir", &sign]].concat());
    refused("twice", &twice, 1, &["has begun", "log recover"]);
    assert!(
        LogConfig::of(&path("older").join(LogConfig::FOLDER))
            .database
            .is_file()
    );
    // The old log comes back whole: it is read, and its key signs nothing.
    fs::rename(path("data"), path("new")).expect("ours");
    copy(&path("whole"), &path("data"));
    let service = place.serve(&[]);
    let said = health(&service);
    assert!(
        said.contains("log: fenced") && said.contains(&key),
        "{said}"
    );
    assert_eq!(
        (head(&service).0, service.verifier_key()),
        (leaves(5), &*old)
    );
}

#[test]
fn an_end_that_was_interrupted_leaves_the_old_log_or_the_new_one_and_never_two() {
    let folder = paths::scratch("interrupted");
    let (place, old) = place(folder.path(), 2);
    let path = |name: &str| folder.path().join(name);
    let old = parse(&old);
    // Only the new key was made: the old log goes on.
    let next = LocalSigner::generate(&path("sign"), NEXT).expect("there is none");
    let next = next.verifier().clone();
    let mut service = place.serve(&[]);
    assert!(
        health(&service).contains("log: live"),
        "{}",
        health(&service)
    );
    assert_eq!(service.verifier_key(), old.to_string());
    assert_eq!(service.stop(), 0);
    // It has ended, and nothing else was done.
    let signer = LocalSigner::open(&path("sign"), &old).expect("it can be opened");
    signer.expect("it is there").end(&next).expect("it ends");
    let mut service = place.serve(&[]);
    let said = health(&service);
    assert!(
        said.contains("has ended") && said.contains("log succeed"),
        "{said}"
    );
    assert_eq!(service.stop(), 0);
    let other = at(&place, &["succeed", "other.example"], &[]);
    refused(
        "another one",
        &other,
        1,
        &[&next.to_string(), "log succeed next.example"],
    );
    // Its data was set aside, or was lost before, and no log begins under either name by itself.
    copy(&path("data"), &path("left"));
    copy(&path("sign"), &path("ended"));
    fs::remove_dir_all(path("data").join(LogConfig::FOLDER)).expect("ours");
    for name in ["localhost", NEXT] {
        let said = place.try_serve(&["--name", name]).expect_err("it begins");
        assert!(
            said.contains("has ended") || said.contains("which ended"),
            "{said}"
        );
    }
    for left in [false, true] {
        fs::remove_dir_all(path("data")).expect("ours");
        fs::remove_dir_all(path("sign")).expect("ours");
        copy(&path("ended"), &path("sign"));
        if left {
            copy(&path("left"), &path("data"));
        }
        // The same command line as before finishes it, with the same key.
        assert_eq!(line(&at(&place, &["succeed", NEXT], &[])), next.to_string());
        let data = path("data").display().to_string();
        let audit = log(&place, &["audit", "--json", &data]).json();
        assert_eq!(audit["follows"]["key"], old.to_string());
        let aside = path("data").join(format!("ended-{}", &old.id()[..16]));
        assert_eq!(aside.is_dir(), left);
        let signer = LocalSigner::open(&path("sign"), &old).expect("it can be opened");
        let refused = signer.expect("it is there").last();
        assert!(matches!(refused, Err(SignError::Ended { .. })));
    }
    let service = place.serve(&["--name", NEXT]);
    assert_eq!(service.verifier_key(), next.to_string());
}

#[test]
fn somebody_without_root_makes_begins_proves_and_ends_a_log_with_files_of_his_own() {
    let folder = paths::scratch("own-log");
    let place = Place::new(folder.path(), fake::shared());
    let place = match paths::is_root() {
        true => place.as_user(54_321),
        false => place,
    };
    let key = line(&log(&place, &["keygen", "--name", "old.example"]));
    assert_eq!(line(&log(&place, &["init", "--name", "old.example"])), key);
    let proof = log(&place, &["proof", "data", "0", "--verifierkey", &key]);
    assert!(line(&proof).starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nold.example\n"));
    let done = log(&place, &["succeed", NEXT, "--although-whole", "--json"]);
    assert_eq!(done.json()["follows"]["key"], *key);
    let next = done.json()["key"].as_str().expect("a key").to_owned();
    let aside = format!("data/ended-{}", &parse(&key).id()[..16]);
    assert!(line(&log(&place, &["audit", &aside])).contains("leaves\t1"));
    assert!(line(&log(&place, &["audit", "data"])).contains(&format!("follows\t{key}")));
    let state = folder
        .path()
        .join("state/hotcell/sign")
        .join(parse(&next).id());
    assert!(state.join("log.key").is_file());
}
