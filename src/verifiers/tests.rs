//! What verifiers may say, and what becomes of it; time is tokio's own, which a test moves.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{
    Quorum, Said, Signer, Verifier,
    ask::{Answered, ask},
    quorum::{Judged, Verdict},
    testing::{Script, verifier},
};
use crate::{
    build::{Built, CellSummary},
    output::Output,
    provenance::{
        Builder, Run,
        observation::{
            OBSERVATION_BYTES_MAX, key_text, observation,
            tests::{public, signed},
        },
    },
    spec::BuildKey,
    tlog::SigningKey,
};

const KEY: &str = "example.org/m@v1.2.3/cmd/tool/linux-amd64-go1.26.8/";

fn key() -> BuildKey {
    BuildKey::parse(KEY).unwrap()
}

fn statement(key: &BuildKey, byte: u8) -> Vec<u8> {
    let built = Built {
        sha256: [byte; 32],
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
    };
    let run = Run {
        builder: Builder::Instance("peer.example"),
        finished_ms: 0,
    };
    observation(key, &built, run).unwrap()
}

fn said(status: u16, body: &str) -> Result<Said, String> {
    Ok(Said {
        status,
        body: body.to_owned(),
    })
}

/// The envelope of the key of `seed`, as the address of observations answers it.
fn with_envelope(envelope: Vec<u8>) -> Result<Said, String> {
    let envelope = String::from_utf8(envelope).unwrap();
    said(
        200,
        &serde_json::json!({ "envelope": envelope }).to_string(),
    )
}

/// A verifier whose key follows from `seed` got bits that are all `byte`.
fn bits(seed: u8, byte: u8) -> Result<Said, String> {
    with_envelope(signed(seed, &statement(&key(), byte)))
}

fn building() -> Result<Said, String> {
    said(202, "{}")
}

fn down() -> Result<Said, String> {
    Err("it did not answer: connection refused".to_owned())
}

/// Judges bits that are all 7 with verifiers 1, 2, … that give these answers.
async fn judge(needed: usize, answers: Vec<Vec<Result<Said, String>>>) -> Judged {
    let verifiers = (1..).zip(&answers).map(|(seed, _)| verifier(seed));
    let verifiers = verifiers.collect();
    let quorum = Quorum::new(verifiers, needed, Arc::new(Script::new(answers)));
    let asking = Arc::new(quorum).ask(&key());
    asking.judge(&[7; 32], 5).await.0
}

#[tokio::test(start_paused = true)]
async fn all_must_agree_or_as_many_as_were_asked_for() {
    let (same, other) = (|seed| vec![bits(seed, 7)], |seed| vec![bits(seed, 8)]);
    let judged = judge(2, vec![same(1), same(2)]).await;
    assert_eq!(judged.verdict(), Verdict::Agreed);
    assert_eq!(judged.seen.len(), 2);
    let judged = judge(2, vec![same(1), other(2)]).await;
    assert_eq!(judged.verdict(), Verdict::Mismatch);
    assert_eq!(judged.differed[0].verifier, "peer2");
    let sentence = judged.sentence(&[7; 32]);
    for part in [
        &"07".repeat(32),
        "peer2 got SHA-256",
        &"08".repeat(32),
        "1 of the 2",
    ] {
        assert!(sentence.contains(part), "{part} in {sentence}");
    }
    let judged = judge(2, vec![same(1), vec![down()]]).await;
    assert_eq!(judged.verdict(), Verdict::Unavailable);
    let judged = judge(2, vec![same(1), vec![down()], same(3)]).await;
    assert_eq!(judged.verdict(), Verdict::Agreed);
    let judged = judge(2, vec![other(1), same(2), same(3)]).await;
    assert_eq!(judged.verdict(), Verdict::Agreed);
    let judged = judge(0, Vec::new()).await;
    assert_eq!(judged.verdict(), Verdict::Agreed);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_not_needed_is_not_waited_for_but_heard() {
    let answers = vec![vec![bits(1, 7)], vec![building(), building(), bits(2, 8)]];
    let quorum = Quorum::new(
        vec![verifier(1), verifier(2)],
        1,
        Arc::new(Script::new(answers)),
    );
    let board = quorum.board();
    let asking = Arc::new(quorum).ask(&key());
    let (judged, rest) = asking.judge(&[7; 32], 5).await;
    assert_eq!(
        (judged.verdict(), judged.differed.len()),
        (Verdict::Agreed, 0)
    );
    let others = rest.rest(&[7; 32], 5).await;
    assert_eq!(others[0].verifier, "peer2");
    let standings = board.standings();
    assert_eq!((standings[0].agreed, standings[1].differed), (1, 1));
    let notes = board.notes();
    assert!(notes[0].contains("when 1 of these"), "{notes:?}");
    assert_eq!(notes[1], format!("verifier peer2 has other bits of {KEY}"));
}

#[tokio::test(start_paused = true)]
async fn a_word_that_is_not_signed_by_its_key_about_this_build_counts_for_nothing() {
    let other_key = BuildKey::parse("example.org/m@v1.2.4/linux-amd64-go1.26.8/").unwrap();
    let provenance = br#"{"_type":"https://in-toto.io/Statement/v1"}"#;
    let long = "x".repeat(2 * OBSERVATION_BYTES_MAX);
    for (answer, word) in [
        (bits(2, 7), "not signed by its key"),
        (
            with_envelope(signed(1, &statement(&other_key, 7))),
            "another build",
        ),
        (with_envelope(signed(1, provenance)), "no observation"),
        (with_envelope(b"{}".to_vec()), "no observation"),
        (with_envelope(long.clone().into_bytes()), "no observation"),
        (said(200, ""), "no observation"),
        (said(200, "{\"envelope\":7}"), "no observation"),
        (said(200, &long), "no observation"),
        (said(307, ""), "no instance that verifies"),
        (said(204, ""), "no instance that verifies"),
        (said(421, "<html>"), "no instance that verifies"),
        (
            said(404, r#"{"code":"build_failed","detail":"no\u001b[31m"}"#),
            "it cannot build: build_failed: no?[31m",
        ),
        (said(404, "not here"), "it cannot build: not here"),
    ] {
        let script = Script::new(vec![vec![answer]]);
        let answered = ask(&script, 0, Some(&public(1)), &key()).await;
        let Answered::Nothing(why) = answered else {
            panic!("{word}")
        };
        assert!(why.contains(word), "{word} in {why}");
        assert_eq!(script.asked.load(Relaxed), 1, "asked once: {word}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_down_for_a_moment_is_asked_again_and_not_for_ever() {
    let busy = said(503, r#"{"code":"busy","detail":"the queue is full"}"#);
    let script = Script::new(vec![vec![down(), busy.clone(), building(), bits(1, 7)]]);
    let answered = ask(&script, 0, Some(&public(1)), &key()).await;
    assert!(matches!(answered, Answered::Observed(_)));
    for (answer, word) in [
        (down(), "connection refused"),
        (busy, "503: busy: the queue is full"),
        (said(500, "\u{1b}]0;"), "500: ?]0;"),
    ] {
        let script = Script::new(vec![vec![answer]]);
        let begin = tokio::time::Instant::now();
        let Answered::Nothing(why) = ask(&script, 0, Some(&public(1)), &key()).await else {
            panic!("{word}")
        };
        assert!(why.contains(word), "{word} in {why}");
        let waited = begin.elapsed();
        assert!(waited > Duration::from_secs(10) && waited < Duration::from_secs(60));
    }
}

#[tokio::test(start_paused = true)]
async fn who_builds_for_ever_is_given_up() {
    let answers = vec![vec![building()], vec![bits(2, 7)]];
    let quorum = Quorum::new(
        vec![verifier(1), verifier(2)],
        2,
        Arc::new(Script::new(answers)),
    );
    let quorum = quorum.with_patience(Duration::from_secs(120));
    let asking = Arc::new(quorum).ask(&key());
    let (judged, _) = asking.judge(&[7; 32], 5).await;
    assert_eq!(judged.verdict(), Verdict::Unavailable);
    assert!(judged.silent[0].1.contains("2 minutes"), "{judged:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_answers_own_one_counts_and_is_told() {
    let script = Script::new(vec![vec![bits(9, 7)]]);
    let Answered::Observed(observed) = ask(&script, 0, None, &key()).await else {
        panic!("observed")
    };
    assert_eq!(observed.key, public(9));
    assert_eq!(observed.observation.observer, "https://peer.example/");
}

#[test]
fn verifiers_are_named_by_name_key_and_an_address_that_is_theirs() {
    let key = key_text(&[5; 32]);
    for url in [
        "https://peer.example/",
        "http://127.0.0.1:8000",
        "http://[::1]:1/x",
    ] {
        let verifier = Verifier::parse(&format!(" peer-1  {key}\t{url} ")).unwrap();
        assert_eq!(verifier.signer, Signer::Instance([5; 32]));
    }
    let log = SigningKey::from_seed("g.example", &[1; 32]).unwrap();
    let log = log.verifier();
    let gobuild = Verifier::parse(&format!("g {log} https://g.example/tlog")).unwrap();
    assert!(matches!(gobuild.signer, Signer::Gobuild(_)));
    assert!(Verifier::parse(&format!("g {log} https://g.example/")).is_err());
    let long = "n".repeat(101);
    for bad in [
        String::new(),
        key.clone(),
        format!("peer {key}"),
        format!("peer {key} https://peer.example/ more"),
        format!("peer {key} http://peer.example/"),
        format!("peer {key} https://user@peer.example/"),
        format!("peer {} https://peer.example/", &key[8..]),
        format!("peer {}0 https://peer.example/", key),
        format!("pe\"er {key} https://peer.example/"),
        format!("{long} {key} https://peer.example/"),
    ] {
        assert!(Verifier::parse(&bad).is_err(), "{bad}");
    }
}
