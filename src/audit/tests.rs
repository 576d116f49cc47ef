//! Every lie that a log can tell is found, named and shown; an honest one is never accused.

use std::sync::Arc;

use super::{testing::*, *};
use crate::{
    log::{Log, LogConfig, NewEntry},
    spec::{Companion, Record, Sum},
    tlog::{SigningKey, Tile, leaf_hash, text::tree_text, tile},
};

/// Whoever tells this lie gets exit code 3 and evidence with a signed head, and no head is kept.
async fn is_a_lie(log: &FakeLog, user: &User, lie: &str) -> Lie {
    let before = user.kept(log);
    let error = log.audit(user).await.expect_err(lie);
    assert_eq!(error.exit_code(), 3, "{lie}: {error:?}");
    assert_eq!(user.kept(log), before, "{lie}");
    let AuditError::Lie(found) = error else {
        panic!("{lie}: {error:?}")
    };
    *found
}

#[tokio::test]
async fn honest_logs_are_as_they_were_signed_and_their_head_is_kept() {
    for builds in [0, 1, 127, 128, 255, 350] {
        let (mut log, user) = (FakeLog::new(builds), User::new());
        let audited = log.audit(&user).await.unwrap();
        assert_eq!(audited.tree, log.head());
        assert_eq!((audited.builds, audited.warnings.len()), (builds as u64, 0));
        assert_eq!(audited.sample.len(), builds);
        assert_eq!(user.kept(&log), Some(log.head()));
        assert_eq!(audited.json()["size"], 1 + 2 * builds);
        // Again, and after it has grown: the kept head is a prefix.
        log.audit(&user).await.unwrap();
        log.grow(130);
        log.publish();
        assert_eq!(log.audit(&user).await.unwrap().heads, 3);
        assert_eq!(user.kept(&log), Some(log.head()));
    }
}

#[tokio::test]
async fn a_log_that_grew_and_dropped_its_partial_tiles_is_honest() {
    let (mut log, user) = (FakeLog::new(100), User::new());
    let heads = log.parts();
    log.grow(300);
    let log = log.elsewhere();
    for (path, body) in log.parts() {
        if !path.contains(".p/") || path.contains("/1/") || path.contains("003") {
            log.put(&path, &body);
        }
    }
    // Heads of 201 leaves; of their partial tiles only the full ones are there.
    for (path, body) in &heads[..2] {
        log.put(path, body);
    }
    assert_eq!(log.audit(&user).await.unwrap().tree.size, 201);
}

#[tokio::test]
async fn one_flipped_bit_in_anything_that_is_served_is_found() {
    let (log, user) = (FakeLog::new(140), User::new());
    for (path, body) in log.parts() {
        for at in [0, body.len() / 2, body.len() - 1] {
            let mut flipped = body.clone();
            flipped[at] ^= 1;
            log.put(&path, &flipped);
            let lie = is_a_lie(&log, &user, &path).await;
            let evidence = lie.json(Some(log.key()), URL);
            let named = lie.exhibits.iter().any(|exhibit| exhibit.path == path)
                || lie.heads.iter().any(|(from, _)| *from == path);
            assert!(named, "{path} at {at}: {evidence}");
            assert!(!lie.heads.is_empty(), "{path}: {evidence}");
        }
        log.put(&path, &body);
    }
    log.audit(&user).await.unwrap();
}

#[tokio::test]
async fn the_forged_tile_of_cve_2026_56865_is_refused_in_every_consistent_disguise() {
    // A tree of 701 has subtrees that share tiles, so that the flawed readers never saw tile 0/000.
    let (log, user) = (FakeLog::new(350), User::new());
    let mut evil = log.elsewhere();
    evil.leaves[11] = Record {
        size: 666,
        ..record_of(5)
    }
    .text();
    let zero = Tile::new(0, 0, 256).unwrap();
    let forged = evil.tree().tile(&zero);
    // The tile alone.
    log.put(&zero.sumdb_path(), &forged);
    let lie = is_a_lie(&log, &user, "tile").await;
    assert!(
        lie.sentence
            .starts_with("leaf 11: its hash in `tile/8/0/000`"),
        "{lie}"
    );
    // The tile, and every form of the leaf.
    for (path, body) in evil.parts() {
        if path.ends_with("/000") {
            log.put(&path, &body);
        }
    }
    let lie = is_a_lie(&log, &user, "tile and leaf").await;
    assert!(
        lie.sentence.starts_with("`tile/8/1/000.p/2`: its hash 0 "),
        "{lie}"
    );
    // Everything but what is signed.
    for (path, body) in &evil.parts()[2..] {
        log.put(path, body);
    }
    let lie = is_a_lie(&log, &user, "everything").await;
    assert!(
        lie.sentence
            .starts_with("the first 701 leaves do not have the root"),
        "{lie}"
    );
}

#[tokio::test]
async fn swapped_records_are_refused() {
    let (log, user) = (FakeLog::new(6), User::new());
    let mut swapped = log.elsewhere();
    swapped.leaves.swap(3, 5);
    for (path, body) in swapped.parts() {
        if path.contains("data") || path.contains("entries") {
            log.put(&path, &body);
        }
    }
    let lie = is_a_lie(&log, &user, "swapped").await;
    assert!(lie.sentence.starts_with("leaf 3: its hash in "), "{lie}");
    // In one form only.
    log.publish();
    let tile = Tile::new(0, 0, 13).unwrap();
    let bundle = &swapped
        .parts()
        .into_iter()
        .find(|(path, _)| path.contains("entries"));
    log.put(&tile::entries_path(&tile), &bundle.as_ref().unwrap().1);
    let lie = is_a_lie(&log, &user, "swapped entries").await;
    assert!(
        lie.sentence
            .starts_with("leaf 3: its text in `tile/entries/"),
        "{lie}"
    );
}

#[tokio::test]
async fn an_old_head_and_a_fork_are_refused_with_both_notes() {
    let (mut log, user) = (FakeLog::new(6), User::new());
    log.audit(&user).await.unwrap();
    let old = log.elsewhere();
    old.publish();
    log.grow(3);
    log.publish();
    log.audit(&user).await.unwrap();
    let lie = is_a_lie(&old, &user, "old head").await;
    assert!(lie.sentence.contains("rolled back"), "{lie}");
    for more in [0, 1, 200] {
        let mut fork = log.elsewhere();
        fork.leaves[7] = Record {
            size: 7,
            ..record_of(3)
        }
        .text();
        fork.grow(more);
        fork.publish();
        let lie = is_a_lie(&fork, &user, "fork").await;
        let evidence = lie.json(Some(log.key()), URL).to_string();
        for note in [log.note(), fork.note()] {
            assert!(
                evidence.contains(&serde_json::json!(note).to_string()),
                "{evidence}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn both_forms_of_the_head_are_of_one_log_and_one_history() {
    let (log, user) = (FakeLog::new(6), User::new());
    let mut other = log.elsewhere();
    other.leaves[12] = "x\n".to_owned();
    log.put("checkpoint", other.checkpoint().as_bytes());
    let lie = is_a_lie(&log, &user, "another root").await;
    assert!(
        lie.sentence.contains("two histories") && lie.heads.len() == 2,
        "{lie}"
    );
    let mut behind = log.elsewhere();
    behind.leaves.truncate(11);
    log.put("checkpoint", behind.checkpoint().as_bytes());
    is_a_lie(&log, &user, "checkpoint left behind").await;
    log.publish();
    log.put("latest", behind.note().as_bytes());
    is_a_lie(&log, &user, "note left behind").await;
    log.publish();
    for text in ["other.example.org\n13\n", "go.sum database tree\n13\n"] {
        let text = format!("{text}{}\n", log.head().root);
        log.put("checkpoint", log.signing.sign(&text).unwrap().as_bytes());
        is_a_lie(&log, &user, "another origin").await;
    }
    // The other key of the same name.
    let signing = Arc::new(SigningKey::from_seed("log.example.org", &[6; 32]).unwrap());
    let stranger = FakeLog {
        signing,
        ..log.elsewhere()
    };
    log.put("checkpoint", stranger.checkpoint().as_bytes());
    is_a_lie(&log, &user, "another key").await;
}

#[tokio::test]
async fn notes_that_are_cut_or_overloaded_are_refused() {
    let (log, user) = (FakeLog::new(6), User::new());
    let note = log.note();
    let line = note.lines().last().unwrap();
    let crowd = format!("{note}{}", format!("{line}\n").repeat(100));
    let endless = format!("{note}{}", "x".repeat(600_000));
    let empty = note.split_inclusive("\n\n").next().unwrap();
    for bad in ["", "\n", &note[..note.len() - 2], empty, &crowd, &endless] {
        for path in ["latest", "checkpoint"] {
            log.put(path, bad.as_bytes());
            is_a_lie(&log, &user, "note").await;
            log.publish();
        }
    }
    // As many as are allowed.
    log.put(
        "latest",
        format!("{note}{}", format!("{line}\n").repeat(99)).as_bytes(),
    );
    log.audit(&user).await.unwrap();
}

#[tokio::test]
async fn a_head_of_more_than_any_log_is_refused_before_anything_is_read() {
    let (log, user) = (FakeLog::new(1), User::new());
    let tree = Tree {
        size: 1 << 40,
        ..log.head()
    };
    log.put(
        "latest",
        log.signing.sign(&tree_text(&tree)).unwrap().as_bytes(),
    );
    let checkpoint = crate::tlog::text::checkpoint_text("log.example.org", &tree);
    log.put(
        "checkpoint",
        log.signing.sign(&checkpoint).unwrap().as_bytes(),
    );
    let error = log.audit(&user).await.unwrap_err();
    assert!(matches!(error, AuditError::TooLarge { .. }), "{error:?}");
    assert_eq!(log.table.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn endless_and_missing_parts_are_lies_and_a_silent_server_is_none() {
    let (log, user) = (FakeLog::new(140), User::new());
    for (path, body) in log.parts() {
        log.put(&path, &vec![b'x'; 600_000]);
        is_a_lie(&log, &user, &path).await;
        log.table.put_status(&format!("{URL}/{path}"), 404);
        let lie = is_a_lie(&log, &user, &path).await;
        assert!(lie.sentence.contains("the log has no `"), "{lie}");
        log.table.put_status(&format!("{URL}/{path}"), 503);
        let error = log.audit(&user).await.unwrap_err();
        assert_eq!(error.exit_code(), 4, "{path}: {error:?}");
        log.put(&path, &body);
    }
}

#[tokio::test]
async fn what_an_honest_looking_tree_must_not_hold_is_refused() {
    let user = User::new();
    let wrong_sum = Companion {
        sha256: [1; 32],
        ..companion_of(2)
    };
    let wrong_index = Companion {
        record_index: 3,
        ..companion_of(2)
    };
    let twin = Companion {
        key: record_of(0).key,
        record_index: 5,
        ..companion_of(0)
    };
    let cases: [(&[String], &str); 8] = [
        (&["no record\n".to_owned()], "leaf 5: "),
        (&[record_of(2).text().replace(" \n", "\n")], "leaf 5: "),
        (&[companion_of(2).text()], "leaf 5: "),
        (
            &[record_of(2).text()],
            "leaf 5: the record of `example.com/mod2",
        ),
        (
            &[record_of(2).text(), companion_of(1).text()],
            "leaf 6: no companion",
        ),
        (
            &[record_of(2).text(), wrong_index.text()],
            "leaf 6: no companion",
        ),
        (
            &[record_of(2).text(), wrong_sum.text()],
            "leaf 6: no companion",
        ),
        (
            &[record_of(0).text(), twin.text()],
            "leaf 5: there is a record of `example.com/mod0",
        ),
    ];
    for (seed, (leaves, sentence)) in cases.into_iter().enumerate() {
        let mut log = FakeLog::new(2);
        log.leaves.extend_from_slice(leaves);
        log.publish();
        let lie = is_a_lie(&log, &user, sentence).await;
        assert!(lie.sentence.starts_with(sentence), "{seed}: {lie}");
    }
    let mut log = FakeLog::new(2);
    log.leaves[0] = log.leaves[0].replace("log.example.org+", "other.example.org+");
    log.publish();
    assert!(
        is_a_lie(&log, &user, "keys")
            .await
            .sentence
            .starts_with("leaf 0: ")
    );
    log.leaves.clear();
    let (note, checkpoint) = (log.note(), log.checkpoint());
    log.put("latest", note.as_bytes());
    log.put("checkpoint", checkpoint.as_bytes());
    assert!(
        is_a_lie(&log, &user, "no leaf")
            .await
            .sentence
            .contains("leaf 0")
    );
}

#[tokio::test]
async fn the_key_comes_from_this_user_and_never_from_the_log() {
    let (log, user) = (FakeLog::new(1), User::new());
    let unknown = known_key(URL, &user.state()).unwrap_err();
    assert_eq!(unknown.exit_code(), 2);
    log.audit(&user).await.unwrap();
    assert_eq!(known_key(URL, &user.state()).unwrap(), *log.key());
    for other in ["https://example.org/tlog", "http://127.0.0.1:8000/tlog"] {
        assert_eq!(known_key(other, &user.state()).unwrap_err().exit_code(), 2);
    }
    for bad in [
        "",
        "x",
        "ftp://log.example.org/tlog",
        "https://log.example.org/tlog?x",
    ] {
        let error = known_key(bad, &user.state()).unwrap_err();
        assert!(matches!(error, AuditError::Url { .. }), "{bad}: {error:?}");
    }
    // A second key of the same name: nobody chooses for the user.
    let signing = Arc::new(SigningKey::from_seed("log.example.org", &[6; 32]).unwrap());
    let mut stranger = FakeLog {
        signing,
        ..log.elsewhere()
    };
    stranger.leaves = FakeLog::new(0).leaves;
    stranger.leaves[0] =
        stranger.leaves[0].replace(&log.key().to_string(), &stranger.key().to_string());
    stranger.publish();
    stranger.audit(&user).await.unwrap();
    assert!(known_key(URL, &user.state()).is_err());
}

#[test]
fn evidence_is_one_document_with_heads_paths_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let log = FakeLog::new(0);
    let lie = Lie::new("leaf 5: wrong")
        .with("tile/8/0/000".to_owned(), Some(&[1, 255]), Some(&[2]))
        .with("tile/entries/000".to_owned(), None, None)
        .with_head("latest", log.note());
    let path = folder.path().join("evidence.json");
    assert_eq!(lie.keep(Some(log.key()), URL, Some(&path)).unwrap(), path);
    let text = std::fs::read_to_string(path).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["what"], "leaf 5: wrong");
    assert_eq!(document["parts"][0]["served_hex"], "01ff");
    assert_eq!(document["parts"][0]["expected_hex"], "02");
    assert_eq!(document["heads"][0]["note"], log.note());
    assert_eq!(document["key"], log.key().to_string());
}

/// The data folder of a service with a real log of `builds`.
struct Data(tempfile::TempDir);

impl Data {
    async fn new(builds: usize) -> (Self, Log) {
        let data = Self(tempfile::tempdir().unwrap());
        let log = data.open();
        for n in 0..builds {
            data.append(&log, n).await;
        }
        (data, log)
    }

    fn folder(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    fn open(&self) -> Log {
        let config = LogConfig::of(&self.folder());
        Log::open_local(&config, &self.0.path().join("sign"), "log.example.org").unwrap()
    }

    async fn append(&self, log: &Log, n: usize) {
        let Companion {
            sha256,
            provenance_sha256,
            ..
        } = companion_of(n);
        let entry = NewEntry {
            record: record_of(n),
            sha256,
            provenance_sha256,
            with: Box::new(|_, _| Ok(())),
        };
        log.append(entry).await.unwrap();
    }

    async fn audit(&self) -> Result<Audited, AuditError> {
        audit_folder(&self.folder(), None, Percent::NONE).await
    }

    async fn lie(&self) -> Lie {
        match self.audit().await.unwrap_err() {
            AuditError::Lie(lie) => *lie,
            error => panic!("{error:?}"),
        }
    }

    fn sql(&self, sql: &str) {
        let db = rusqlite::Connection::open(LogConfig::of(&self.folder()).database).unwrap();
        db.execute_batch(sql).unwrap();
    }
}

#[tokio::test]
async fn a_data_folder_is_audited_beside_its_service_and_after_it() {
    let (data, log) = Data::new(130).await;
    let audited = data.audit().await.unwrap();
    assert_eq!((audited.tree, audited.builds), (log.tree(), 130));
    assert_eq!((audited.heads, audited.tiles), (131 + 2, 1));
    let key = parse_key(log.verifier_key()).unwrap();
    let other = SigningKey::from_seed("log.example.org", &[6; 32]).unwrap();
    audit_folder(&data.folder(), Some(&key), Percent::NONE)
        .await
        .unwrap();
    let error = audit_folder(&data.folder(), Some(other.verifier()), Percent::NONE).await;
    assert_eq!(error.unwrap_err().exit_code(), 3);
    // While it appends.
    let growing = async {
        for n in 130..150 {
            data.append(&log, n).await;
        }
    };
    let (audited, ()) = tokio::join!(data.audit(), growing);
    assert!(audited.unwrap().tree.size >= 261);
    drop(log);
    assert_eq!(data.audit().await.unwrap().builds, 150);
    // Named by the folder that `serve --data` was given.
    let parent = tempfile::tempdir().unwrap();
    std::fs::rename(data.folder(), parent.path().join(LogConfig::FOLDER)).unwrap();
    let found = audit_folder(parent.path(), None, Percent::NONE).await;
    assert_eq!(found.unwrap().builds, 150);
    let nothing = audit_folder(data.0.path(), None, Percent::NONE).await;
    assert_eq!(nothing.unwrap_err().exit_code(), 2);
}

#[tokio::test]
async fn every_changed_row_and_file_of_a_data_folder_is_found() {
    let (data, log) = Data::new(130).await;
    drop(log);
    let swap = |one: &str, other: &str, sentence: &'static str| {
        (one.to_owned(), other.to_owned(), sentence)
    };
    let all = "SELECT root FROM log_head WHERE size";
    let cases = [
        swap(
            "UPDATE log_record SET body = replace(body, '1000', '1001') WHERE id = 7",
            "UPDATE log_record SET body = replace(body, '1001', '1000') WHERE id = 7",
            "leaf 7: its hash in `tile/0/000`",
        ),
        swap(
            "UPDATE log_record SET body = replace(body, '1000', '1001') WHERE id = 259",
            "UPDATE log_record SET body = replace(body, '1001', '1000') WHERE id = 259",
            "the first 261 leaves do not have the root",
        ),
        swap(
            "UPDATE log_key SET record = 1000 WHERE record = 9",
            "UPDATE log_key SET record = 9 WHERE record = 1000",
            "leaf 9: the database knows its record under",
        ),
        swap(
            "INSERT INTO log_key VALUES ('x', 10)",
            "DELETE FROM log_key WHERE key = 'x'",
            "leaf 10 is no record",
        ),
        swap(
            "CREATE TABLE old AS SELECT * FROM log_head WHERE size = 11;
             UPDATE log_head SET note = NULL WHERE size = 11",
            "UPDATE log_head SET note = (SELECT note FROM old) WHERE size = 11",
            "the stored head of 11 leaves was never signed",
        ),
        swap(
            &format!("UPDATE log_head SET root = ({all} = 9) WHERE size = 11"),
            "UPDATE log_head SET root = (SELECT root FROM old) WHERE size = 11",
            "the stored head of 11 leaves is signed for another tree",
        ),
        swap(
            "UPDATE log_head SET checkpoint = note WHERE size = 11",
            "UPDATE log_head SET checkpoint = (SELECT checkpoint FROM old) WHERE size = 11",
            "`stored head of 11 leaves`: ",
        ),
    ];
    for (lie, truth, sentence) in cases {
        data.sql(&lie);
        let found = data.lie().await;
        assert!(found.sentence.starts_with(sentence), "{sentence}: {found}");
        data.sql(&truth);
    }
    let tile = LogConfig::of(&data.folder()).tiles.join("0/000");
    let bytes = std::fs::read(&tile).unwrap();
    let mut flipped = bytes.clone();
    flipped[77] ^= 4;
    let longer = [&bytes[..], b"x"].concat();
    for bad in [&flipped, &longer, &bytes[..8191].to_vec(), &Vec::new()] {
        durable::replace(&tile, bad, durable::IMMUTABLE).unwrap();
        let lie = data.lie().await;
        assert!(lie.sentence.contains("`tile/0/000`"), "{lie}");
    }
    // A file that is not there yet is no lie: the service makes it from the leaves.
    std::fs::remove_file(&tile).unwrap();
    let audited = data.audit().await.unwrap();
    assert!(audited.warnings[0].contains("1 full tiles are no files yet"));
    drop(data.open());
    assert_eq!(std::fs::read(&tile).unwrap(), bytes);
    assert!(data.audit().await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn a_build_that_comes_out_otherwise_is_evidence_against_the_log() {
    let (log, user) = (FakeLog::new(3), User::new());
    let audited = log.audit(&user).await.unwrap();
    let sampled = &audited.sample[1];
    assert_eq!((sampled.index, &sampled.record), (3, &record_of(1)));
    let lie = other_binary(sampled, &[7; 32], 999);
    assert!(
        lie.sentence.starts_with("leaf 3: `example.com/mod1@"),
        "{lie}"
    );
    assert_eq!(lie.exhibits[0].served.as_deref(), Some(&sampled.sha256[..]));
    assert_eq!(Sum::of(&sampled.sha256), record_of(1).sum);
    assert_eq!(
        leaf_hash(record_of(1).text().as_bytes()),
        log.tree().leaf(3)
    );
}
