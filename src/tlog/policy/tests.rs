//! Policy files, and checkpoints against them.

use super::*;
use crate::tlog::{SigningKey, WitnessSigner, testing, text::checkpoint_text};
use proptest::prelude::*;

fn log(seed: u8) -> SigningKey {
    SigningKey::from_seed("log.example.org", &[seed; 32]).unwrap()
}

fn witness(seed: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("w{seed}.example"), &[seed; 32]).unwrap()
}

/// The specification's own example: two of the Xs and one of the Ys.
fn example() -> String {
    let mut text = format!("# comment\n\nlog {}\n", log(1).verifier());
    for (name, seed) in ["X1", "X2", "X3", "Y1", "Y2", "Y3"].iter().zip(11..) {
        text += &format!("\twitness {name}  {} https://w/ \n", witness(seed).public());
    }
    text + "group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any Y1 Y2 Y3\n\
            group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
}

/// A checkpoint of seven records, signed and cosigned.
fn checkpoint(log: &SigningKey, witnesses: &[u8]) -> String {
    let tree = testing::NaiveTree::of_vectors().tree(7);
    let text = checkpoint_text(log.verifier().name(), &tree);
    let lines = witnesses.iter().map(|&seed| {
        let time_s = 1_795_000_000 + u64::from(seed);
        witness(seed).cosign(&text, time_s).unwrap()
    });
    log.sign(&text).unwrap() + &lines.collect::<String>()
}

fn accept(policy: &str, checkpoint: &str) -> Result<Accepted, CheckpointError> {
    Policy::parse(policy.as_bytes())
        .unwrap()
        .accept(checkpoint.as_bytes())
}

#[test]
fn the_quorum_of_the_specifications_example_is_what_it_says() {
    for (witnesses, enough) in [
        (&[11, 12, 14][..], true),
        (&[13, 12, 16], true),
        (&[11, 12, 13, 14, 15, 16], true),
        (&[], false),
        (&[11, 14], false),
        (&[11, 12, 13], false),
        (&[14, 15, 16], false),
        (&[11, 99, 14], false),
    ] {
        let accepted = accept(&example(), &checkpoint(&log(1), witnesses));
        assert_eq!(accepted.is_ok(), enough, "{witnesses:?}: {accepted:?}");
        if let Ok(accepted) = accepted {
            assert_eq!(accepted.cosigned.len(), witnesses.len());
            let first = accepted.cosigned.first().unwrap();
            assert!(first.time_s > 1_795_000_000 && first.witness.starts_with('X'));
            assert_eq!((accepted.tree.size, &accepted.log), (7, log(1).verifier()));
        }
    }
    let error = accept(&example(), &checkpoint(&log(1), &[11, 14])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint lacks the policy's quorum `X-and-Y`: cosigned by X1, Y1, not by X2, X3, \
         Y2, Y3"
    );
}

#[test]
fn checkpoints_of_the_vectors_are_accepted_by_their_keys() {
    let vectors = testing::vectors();
    let key = vectors["vkey"].as_str().unwrap();
    let policy = format!("log {key} https://log.example.org/\nquorum none\n");
    for vector in vectors["trees"].as_array().unwrap() {
        let accepted = accept(&policy, vector["checkpoint"].as_str().unwrap()).unwrap();
        assert_eq!(accepted.tree.size, vector["n"].as_u64().unwrap());
        assert_eq!(accepted.tree.root.to_string(), vector["root"]);
        // The other form of the same head is another text, and no checkpoint of this log.
        let note = vector["sumdb_note"].as_str().unwrap();
        let other = accept(&policy, note);
        assert!(matches!(other, Err(CheckpointError::Origin { .. })));
    }
}

#[test]
fn strangers_forgeries_and_wrong_cosignatures_are_told_apart() {
    let policy = format!(
        "log {}\nlog {}\nwitness w {}\nquorum none\n",
        log(1).verifier(),
        log(2).verifier(),
        witness(11).public()
    );
    for seed in [1, 2] {
        let accepted = accept(&policy, &checkpoint(&log(seed), &[])).unwrap();
        assert_eq!(&accepted.log, log(seed).verifier());
    }
    let error = accept(&policy, &checkpoint(&log(3), &[])).unwrap_err();
    assert!(matches!(error, CheckpointError::Unsigned { .. }), "{error}");
    let foreign = SigningKey::from_seed("other.example", &[1; 32]).unwrap();
    let error = accept(&policy, &checkpoint(&foreign, &[])).unwrap_err();
    assert!(matches!(error, CheckpointError::Origin { .. }), "{error}");
    let good = checkpoint(&log(1), &[11]);
    for (bad, is_head) in [
        (good.replacen("\n7\n", "\n8\n", 1), false),
        (good[..good.len() - 1].to_owned(), false),
        (
            good.replacen("log.example.org\n7", "log.example.org\n07", 1),
            true,
        ),
    ] {
        let error = accept(&policy, &bad).unwrap_err();
        assert_eq!(matches!(error, CheckpointError::Head), is_head, "{error}");
        assert_eq!(
            matches!(error, CheckpointError::Note(_)),
            !is_head,
            "{error}"
        );
    }
    // A wrong cosignature spoils a note even when no quorum is asked for.
    let line = witness(11).cosign("other\n", 5).unwrap();
    let error = accept(&policy, &(checkpoint(&log(1), &[]) + &line)).unwrap_err();
    let wrong = NoteError::WrongSignature {
        name: "w11.example".to_owned(),
    };
    assert_eq!(error, CheckpointError::Note(wrong));
    let line = "\u{2014} x AAAAAAAAAAAA\n";
    assert!(accept(&policy, &(good.clone() + &line.repeat(98))).is_ok());
    assert!(
        accept(&policy, &(good + &line.repeat(99))).is_err(),
        "101 signatures"
    );
}

#[test]
fn each_wrong_line_is_named_with_what_to_write() {
    let (key, other) = (
        witness(11).public().to_string(),
        witness(12).public().to_string(),
    );
    let same = WitnessSigner::from_seed("renamed", &[11; 32]).unwrap();
    let log_key = log(1).verifier().to_string();
    let line = |text: &str| match Policy::parse(text.as_bytes()) {
        Err(PolicyError::Line { number, why }) => (number, why),
        other => panic!("{text:?}: {other:?}"),
    };
    let name = |name: &str| name.to_owned();
    for (text, why) in [
        ("witnes a b".to_owned(), LineError::Keyword),
        ("a\u{0}".to_owned(), LineError::Control),
        ("quorum none\r".to_owned(), LineError::Control),
        ("a\u{7f}".to_owned(), LineError::Control),
        ("log".to_owned(), LineError::Form("log VKEY [URL]")),
        (
            format!("log {log_key} u more"),
            LineError::Form("log VKEY [URL]"),
        ),
        (
            format!("log {key}"),
            LineError::LogKey(NoteError::UnknownAlgorithm),
        ),
        (
            format!("witness w {log_key}"),
            LineError::WitnessKey(NoteError::UnknownAlgorithm),
        ),
        (
            format!("witness w {}", &key[1..]),
            LineError::WitnessKey(NoteError::MalformedKey),
        ),
        (
            format!("witness {key}"),
            LineError::Form("witness NAME VKEY [URL]"),
        ),
        (
            format!("witness none {key}"),
            LineError::Taken { name: name("none") },
        ),
        (
            format!("witness a {key}\nwitness a {other}"),
            LineError::Taken { name: name("a") },
        ),
        (
            format!("witness a {key}\nwitness b {}", same.public()),
            LineError::SameKey,
        ),
        (format!("log {log_key}\nlog {log_key}"), LineError::SameKey),
        (
            "group g".to_owned(),
            LineError::Form("group NAME any|all|NUMBER MEMBER…"),
        ),
        (
            "group g any".to_owned(),
            LineError::Threshold { members: 0 },
        ),
        (
            "group g any x".to_owned(),
            LineError::Undefined { name: name("x") },
        ),
        (
            "group g any none".to_owned(),
            LineError::Undefined { name: name("none") },
        ),
        (
            format!("witness a {key}\ngroup g 2 a"),
            LineError::Threshold { members: 1 },
        ),
        (
            format!("witness a {key}\ngroup g 0 a"),
            LineError::Threshold { members: 1 },
        ),
        (
            format!("witness a {key}\ngroup g 01 a"),
            LineError::Threshold { members: 1 },
        ),
        (
            format!("witness a {key}\ngroup g all a a"),
            LineError::Member { name: name("a") },
        ),
        (
            format!("witness a {key}\ngroup g any a\ngroup h any a"),
            LineError::Member { name: name("a") },
        ),
        (
            format!("witness a {key}\ngroup a any a"),
            LineError::Taken { name: name("a") },
        ),
        (
            format!("quorum a\nwitness a {key}"),
            LineError::Undefined { name: name("a") },
        ),
        (
            "quorum none\nquorum none".to_owned(),
            LineError::SecondQuorum,
        ),
        ("quorum".to_owned(), LineError::Form("quorum NAME")),
        (
            "quorum a\u{9b}b".to_owned(),
            LineError::Undefined {
                name: name("a\\u{9b}b"),
            },
        ),
    ] {
        let number = match why {
            LineError::Undefined { .. } if text.starts_with("quorum") => 1,
            _ => text.lines().count().max(1),
        };
        assert_eq!(line(&(text.clone() + "\n")), (number, why), "{text}");
    }
}

#[test]
fn files_that_are_cut_too_long_or_without_a_quorum_are_refused() {
    let parse = |text: &str| Policy::parse(text.as_bytes()).map(drop);
    assert_eq!(parse(""), Err(PolicyError::NoQuorum));
    assert_eq!(parse("# nothing\n"), Err(PolicyError::NoQuorum));
    assert_eq!(parse("quorum none"), Err(PolicyError::Cut));
    assert_eq!(parse("quorum none\n"), Ok(()));
    let long = format!("quorum none\n#{}\n", "x".repeat(POLICY_BYTES_MAX));
    assert_eq!(parse(&long), Err(PolicyError::TooLong));
    let with = |count: u8| {
        let lines = (0..count).map(|n| format!("log {}\n", log(n).verifier()));
        parse(&(lines.collect::<String>() + "quorum none\n"))
    };
    let most = u8::try_from(DEFINED_MAX).unwrap();
    assert_eq!(with(most), Ok(()));
    let why = LineError::TooMany;
    assert_eq!(
        with(most + 1),
        Err(PolicyError::Line {
            number: DEFINED_MAX + 1,
            why
        })
    );
}

#[test]
fn names_are_bytes_and_a_witness_alone_can_be_the_quorum() {
    let key = witness(11).public().to_string();
    let text = [
        b"witness \xff\xe2\x84\xaa ",
        key.as_bytes(),
        b"\nquorum \xff\xe2\x84\xaa\n",
    ];
    let policy = Policy::parse(&text.concat()).unwrap();
    assert!(policy.logs().is_empty() && policy.quorum().is_some());
    let policy = policy.with_logs(vec![log(1).verifier().clone()]);
    let accept = |witnesses: &[u8]| policy.accept(checkpoint(&log(1), witnesses).as_bytes());
    assert!(accept(&[11]).is_ok() && accept(&[12]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        words in "((log|witness|group|quorum|none|any|all|a|1|[ \t\n])( |\n)){0,30}",
    ) {
        let _refused = Policy::parse(&bytes);
        let _refused = Policy::parse(words.as_bytes());
    }
}
