//! `verify` on files: exit codes, whose key counts, what a person reads.

use std::fs;

use super::*;
use crate::{
    receipt::{
        testing::{FakeLog, KEY, binary},
        tests::lies,
    },
    tlog::WitnessSigner,
};

/// A user's folder with a binary, its receipt and nothing else.
struct User {
    folder: tempfile::TempDir,
    log: FakeLog,
}

impl User {
    fn new() -> Self {
        let user = Self {
            folder: tempfile::tempdir().unwrap(),
            log: FakeLog::new("build.example.org", 5, 6),
        };
        user.put("tool", &binary(5));
        user.put("tool.receipt", user.log.receipt(5).as_bytes());
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        durable::replace(&self.path(name), bytes, durable::PUBLIC).unwrap();
    }

    fn key(&self) -> String {
        self.log.signing.verifier().to_string()
    }

    /// The command with the log's key.
    fn command(&self) -> Verify {
        Verify {
            file: self.path("tool"),
            receipt: None,
            policy: None,
            verifierkey: vec![self.key()],
            against: Vec::new(),
            json: false,
        }
    }

    fn code(&self, command: &Verify) -> u8 {
        let verified = command.verify(|| Ok(self.path("state")));
        verified.map_or_else(|stop| stop.code, |_| 0)
    }

    fn stop(&self, command: &Verify) -> Stop {
        let verified = command.verify(|| Ok(self.path("state")));
        verified.map(|_| "it verified").unwrap_err()
    }
}

#[test]
fn an_honest_receipt_says_what_it_proves() {
    let user = User::new();
    let command = user.command();
    let verified = command.verify(|| unreachable!("a key was given")).unwrap();
    let text = verified.text();
    for line in [
        &format!("build     {KEY}"),
        &format!("log       {}", user.key()),
        "record    leaf 11, companion leaf 12, of 13 leaves",
        "modules   1",
        "quorum    none asked for",
        "built     2026-11-21T09:24:59Z by https://build.example.org/",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let sdk = "\nsdk       golang.org/toolchain@v0.0.1-go1.26.8.";
    assert!(text.contains(sdk), "{text}");
    let json = verified.json();
    assert_eq!((&json["key"], &json["size"]), (&json!(KEY), &json!(900)));
    assert_eq!(
        (&json["log_index"], &json["log_size"]),
        (&json!(11), &json!(13))
    );
    assert_eq!(
        (&json["cosigned"], &json["quorum"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(json["policy"]["name"], "build");
    assert_eq!(json["dependencies"].as_array().unwrap().len(), 3);
}

#[test]
fn every_lie_ends_with_code_3_and_its_sentence() {
    let user = User::new();
    let command = user.command();
    assert_eq!(user.code(&command), 0);
    for (lie, text, why) in lies() {
        user.put("tool.receipt", text.as_bytes());
        let stop = user.stop(&command);
        assert_eq!(stop.code, Stop::WRONG, "{lie}: {}", stop.text);
        let long = stop.text.contains("more than");
        assert!(stop.text.starts_with(&why) || long, "{lie}: {}", stop.text);
    }
}

#[test]
fn another_file_ends_with_code_3() {
    let user = User::new();
    let command = user.command();
    let good = binary(5);
    let mut flipped = good.clone();
    flipped[450] ^= 1;
    for (bytes, why) in [
        (
            &flipped[..],
            "the file is not the binary of the receipt: its SHA-256 is ",
        ),
        (&good[1..], "the file has 899 bytes, the record says 900"),
        (b"", "the file has 0 bytes, the record says 900"),
        (
            &[&good[..], &good].concat(),
            "the file has 901 bytes, the record says 900",
        ),
    ] {
        user.put("tool", bytes);
        let stop = user.stop(&command);
        assert_eq!(stop.code, Stop::WRONG);
        assert!(stop.text.starts_with(why), "{}", stop.text);
        assert!(
            stop.hint
                .is_some_and(|hint| hint.starts_with("do not run it"))
        );
    }
}

#[test]
fn what_cannot_be_read_ends_with_code_1_and_names_the_file() {
    let user = User::new();
    for name in ["tool", "tool.receipt"] {
        let command = user.command();
        let bytes = fs::read(user.path(name)).unwrap();
        fs::remove_file(user.path(name)).unwrap();
        let stop = user.stop(&command);
        assert_eq!(stop.code, Stop::FAILED);
        assert!(
            stop.text.contains(&*user.path(name).to_string_lossy()),
            "{}",
            stop.text
        );
        user.put(name, &bytes);
    }
    let other = Verify {
        receipt: Some(user.path("tool")),
        ..user.command()
    };
    assert_eq!(user.code(&other), Stop::WRONG, "the binary is no receipt");
    let folder = Verify {
        file: user.path(""),
        receipt: Some(user.path("tool.receipt")),
        ..user.command()
    };
    assert_eq!(user.code(&folder), Stop::FAILED);
    let missing = Verify {
        verifierkey: vec![],
        policy: Some(user.path("nothing")),
        ..user.command()
    };
    assert_eq!(user.code(&missing), Stop::FAILED);
}

#[test]
fn keys_come_from_the_user_and_never_from_the_receipt() {
    let user = User::new();
    let nobody = Verify {
        verifierkey: vec![],
        ..user.command()
    };
    let stop = user.stop(&nobody);
    assert_eq!(stop.code, Stop::USAGE);
    assert!(stop.hint.unwrap().contains("--verifierkey KEY"));
    // A stranger's log with the same name, complete and honest by itself.
    let stranger = FakeLog::new("build.example.org", 9, 6);
    let own = user.path("state").join(user.log.signing.verifier().id());
    fs::create_dir_all(&own).unwrap();
    durable::replace(
        &own.join("key"),
        format!("{}\n", user.key()).as_bytes(),
        0o600,
    )
    .unwrap();
    assert_eq!(user.code(&nobody), 0);
    user.put("tool.receipt", stranger.receipt(5).as_bytes());
    assert_eq!(user.code(&nobody), Stop::WRONG);
    let both = Verify {
        verifierkey: vec![user.key(), stranger.signing.verifier().to_string()],
        ..user.command()
    };
    assert_eq!(user.code(&both), 0);
    let bad = Verify {
        verifierkey: vec!["a+b".to_owned()],
        ..user.command()
    };
    assert_eq!(user.code(&bad), Stop::USAGE);
}

#[test]
fn a_policy_says_which_logs_and_witnesses_are_enough() {
    let user = User::new();
    let witness = WitnessSigner::from_seed("w.example", &[3; 32]).unwrap();
    let command = Verify {
        verifierkey: vec![],
        policy: Some(user.path("policy")),
        ..user.command()
    };
    let put = |text: String| user.put("policy", text.as_bytes());
    let (log, cosigner) = (user.key(), witness.public().to_string());
    put(format!(
        "log {log}\nwitness \u{9b}w {cosigner}\nquorum \u{9b}w\n"
    ));
    let stop = user.stop(&command);
    assert_eq!(stop.code, Stop::WRONG);
    let why = "the receipt's checkpoint is not believed: the checkpoint lacks the policy's quorum \
               `\\u{9b}w`: cosigned by nobody, not by \\u{9b}w";
    assert_eq!(stop.text, why);
    let line = witness.cosign(&user.log.head(), 1_795_253_100).unwrap();
    user.put("tool.receipt", (user.log.receipt(5) + &line).as_bytes());
    let text = command
        .verify(|| unreachable!("a log was given"))
        .unwrap()
        .text();
    assert!(
        text.contains("cosigned  2026-11-21T09:25:00Z by \\u{9b}w\n"),
        "{text}"
    );
    // Without logs it speaks about those that this user knows, which are none.
    put("quorum none\n".to_owned());
    assert_eq!(user.code(&command), Stop::USAGE);
    for bad in [
        "",
        "quorum none",
        "log x\nquorum none\n",
        &"#".repeat(POLICY_BYTES_MAX + 1),
    ] {
        put(bad.to_owned());
        assert_eq!(user.code(&command), Stop::USAGE, "{bad:.20}");
    }
}
