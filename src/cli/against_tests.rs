//! `verify --against`: exit codes, whose key counts, what a person reads.

use super::*;
use crate::{
    build::{Built, CellSummary},
    output::Output,
    provenance::{
        Builder, Run, observation,
        observation::{Observation, tests::public},
        statement,
    },
};

const KEY: &str = "example.org/m@v1.2.3/cmd/tool/linux-amd64-go1.26.8/";

fn built() -> Built {
    Built {
        sha256: [7; 32],
        size: 5,
        modules: Vec::new(),
        sdk_h1: "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
        cell: CellSummary {
            policy_sha256: "ab".repeat(32),
            ..CellSummary::default()
        },
        timings_ms: Vec::new(),
        output: Output::default(),
        warnings: Vec::new(),
        code: None,
    }
}

const RUN: Run<'static> = Run {
    builder: Builder::Local,
    finished_ms: 0,
};

fn instance(text: &str) -> Instance {
    Instance::parse(text).unwrap()
}

/// An instance that got bits that are all `byte`.
fn got(url: &str, byte: u8) -> (Instance, Answered) {
    let key = BuildKey::parse(KEY).unwrap();
    let mut built = built();
    built.sha256 = [byte; 32];
    let text = observation::observation(&key, &built, RUN).unwrap();
    let envelope = observation::tests::signed(1, &text);
    let observed = Observed {
        observation: Observation::open(&envelope, &public(1)).unwrap(),
        key: public(1),
        envelope,
    };
    (instance(url), Answered::Observed(Box::new(observed)))
}

fn silent(url: &str) -> (Instance, Answered) {
    (instance(url), Answered::Nothing("it is down".to_owned()))
}

fn words(all: Vec<(Instance, Answered)>) -> Words {
    let subject = Subject {
        key: BuildKey::parse(KEY).unwrap(),
        sha256: [7; 32],
        size: 5,
    };
    Words { subject, all }
}

#[test]
fn other_bits_are_3_silence_is_4_and_only_all_together_is_0() {
    let (a, b) = ("https://a.example/", "https://b.example/");
    for (all, code) in [
        (vec![got(a, 7), got(b, 7)], 0),
        (vec![got(a, 7), got(b, 8)], 3),
        (vec![silent(a), got(b, 8)], 3),
        (vec![got(a, 7), silent(b)], 4),
        (vec![silent(a), silent(b)], 4),
    ] {
        let words = words(all);
        let ended = words.check().map_or_else(|stop| stop.code, |()| 0);
        assert_eq!(ended, code, "{}", words.text());
    }
}

#[test]
fn a_key_that_nobody_gave_is_told_as_such() {
    let pinned = format!("{}@https://b.example/", key_text(&public(1)));
    let words = words(vec![got("https://a.example/", 8), got(&pinned, 7)]);
    let text = words.text();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("https://a.example/ GOT OTHER BITS: 0808"));
    assert!(lines[1].contains("not known before"), "{text}");
    assert!(lines[2].contains("https://b.example/ got the same bits"));
    assert!(lines[3].contains("that you gave"), "{text}");
    let json = words.json();
    assert_eq!(
        (&json[0]["answer"], &json[1]["answer"]),
        (&"other".into(), &"same".into())
    );
    assert_eq!(json[0]["key_was_given"], false);
    assert_eq!(json[1]["key_was_given"], true);
}

#[test]
fn instances_are_addresses_with_or_without_a_key() {
    assert!(instance("http://127.0.0.1:8000").key.is_none());
    let key = key_text(&[5; 32]);
    let pinned = instance(&format!("{key}@https://a.example/x@y"));
    assert_eq!(pinned.key, Some([5; 32]));
    assert_eq!(pinned.url.path(), "/x@y");
    for bad in [
        "",
        "a.example",
        "http://a.example/",
        "https://user@a.example/",
        "ed25519:00@https://a.example/",
        &format!("{key}@http://a.example/"),
        &key,
    ] {
        assert!(Instance::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_unsigned_statement_says_what_to_ask_for_and_must_be_about_this_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tool");
    assert!(unsigned(&file, &[7; 32]).unwrap().is_none());
    let key = BuildKey::parse(KEY).unwrap();
    let text = statement(&key, &built(), RUN, &[]).unwrap();
    durable::replace(&provenance_of(&file), &text, durable::PUBLIC).unwrap();
    assert_eq!(unsigned(&file, &[7; 32]).unwrap(), Some(key));
    let other = unsigned(&file, &[8; 32]).unwrap_err();
    assert_eq!(other.code, Stop::WRONG);
    durable::replace(&provenance_of(&file), b"{}", durable::PUBLIC).unwrap();
    assert_eq!(unsigned(&file, &[7; 32]).unwrap_err().code, Stop::WRONG);
}

#[test]
fn few_instances_are_asked_and_one_that_is_not_there_is_told() {
    let subject = words(Vec::new()).subject;
    let many = vec![instance("http://127.0.0.1:1"); VERIFIERS_MAX + 1];
    let refused = ask_all(subject, &many).unwrap_err();
    assert_eq!(refused.code, Stop::USAGE);
}
