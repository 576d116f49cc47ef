//! A follower tells each record once it is proved, in order, through restarts on both sides.

use std::{io, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{testing::*, *};
use crate::{
    spec::Record,
    tlog::{leaf_hash, tile::Tile},
};

/// Lines of a run that ends after `count` of them, or a minute after the last one.
async fn lines(log: &FakeLog, user: &User, from: Option<u64>, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    let tell = |told: Told<'_>| match told {
        Told::Line(_) if lines.len() == count => Err(io::ErrorKind::BrokenPipe.into()),
        Told::Line(line) => {
            lines.push(line.clone());
            Ok(())
        }
        Told::Note(_) => Err(io::ErrorKind::Interrupted.into()),
    };
    let http = Arc::new(log.table.clone());
    let state = user.state();
    let run = follow(URL, log.key(), &state, from, http, tell);
    // Of a clock that jumps when there is nothing to do: the log has no more.
    if let Ok(ended) = tokio::time::timeout(Duration::from_secs(60), run).await {
        assert!(matches!(ended, Err(FollowError::Tell(_))), "{ended:?}");
    }
    lines
}

/// The lie that ends a run, and how many lines came before.
async fn lie(log: &FakeLog, user: &User) -> (Lie, usize) {
    let mut count = 0;
    let tell = |told: Told<'_>| {
        count += usize::from(matches!(told, Told::Line(_)));
        Ok(())
    };
    let http = Arc::new(log.table.clone());
    match follow(URL, log.key(), &user.state(), None, http, tell).await {
        Err(FollowError::Audit(AuditError::Lie(lie))) => (*lie, count),
        other => panic!("{other:?}"),
    }
}

fn indexes(lines: &[Value]) -> Vec<u64> {
    lines
        .iter()
        .map(|line| line["index"].as_u64().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_second_run_goes_on_at_the_place_of_the_first() {
    let (mut log, user) = (FakeLog::new(200), User::new());
    let first = lines(&log, &user, None, 140).await;
    assert_eq!(first[0]["keys"]["log"], log.key().to_string());
    assert_eq!(first[1]["key"], key_of(0).to_string());
    assert_eq!(
        first[1]["sha256"],
        crate::spec::hex(&companion_of(0).sha256)
    );
    let expected: Vec<u64> = [0].into_iter().chain((0..139).map(|n| 1 + 2 * n)).collect();
    assert_eq!(indexes(&first), expected);
    // Kept after the first tile, whose last leaf is a record without its companion.
    log.grow(100);
    log.publish();
    let second = lines(&log, &user, None, 173).await;
    assert_eq!(
        indexes(&second),
        (127..300).map(|n| 1 + 2 * n).collect::<Vec<_>>()
    );
    assert_eq!(user.kept(&log), Some(log.head()));
    // Elsewhere on demand; a companion's number means the next record.
    for (from, begin) in [(0, 0), (1, 1), (2, 3), (511, 511), (512, 513)] {
        assert_eq!(indexes(&lines(&log, &user, Some(from), 1).await), [begin]);
    }
}

#[tokio::test(start_paused = true)]
async fn new_records_come_when_the_log_grows_and_after_its_server_was_away() {
    let (mut log, user) = (FakeLog::new(1), User::new());
    let (told, mut heard) = mpsc::channel(1000);
    let (key, state) = (log.key().clone(), user.state());
    let http = Arc::new(log.table.clone());
    let task = tokio::spawn(async move {
        let tell = |line: Told<'_>| {
            let line = match line {
                Told::Line(line) => line["index"].to_string(),
                Told::Note(note) => note,
            };
            told.try_send(line).map_err(io::Error::other)
        };
        follow(URL, &key, &state, None, http, tell).await
    });
    assert_eq!(heard.recv().await.unwrap(), "0");
    assert_eq!(heard.recv().await.unwrap(), "1");
    log.grow(2);
    log.publish();
    assert_eq!(heard.recv().await.unwrap(), "3");
    assert_eq!(heard.recv().await.unwrap(), "5");
    log.table.put_status(&format!("{URL}/latest"), 503);
    for seconds in ["1 s", "2 s", "4 s"] {
        let note = heard.recv().await.unwrap();
        assert!(
            note.contains("`latest`") && note.ends_with(seconds),
            "{note}"
        );
    }
    log.grow(1);
    log.publish();
    while let Some(note) = heard.recv().await {
        if note == "7" {
            break;
        }
    }
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_that_is_not_in_the_signed_tree() {
    let (log, user) = (FakeLog::new(350), User::new());
    let mut evil = log.elsewhere();
    let forged = Record {
        size: 666,
        ..record_of(5)
    };
    evil.leaves[11] = forged.text();
    // The text alone, then with the hash of it: the forged tile of CVE-2026-56865.
    let zero = Tile::new(0, 0, 256).unwrap();
    for (path, body) in evil.parts() {
        if path == "tile/8/data/000" {
            log.put(&path, &body);
        }
    }
    let (found, told) = lie(&log, &user).await;
    assert!(found.sentence.starts_with("leaf 11: "), "{found}");
    assert_eq!(told, 0);
    let mut tile = log.tree().tile(&zero);
    tile[11 * 32..12 * 32].copy_from_slice(&leaf_hash(forged.text().as_bytes()).0);
    log.put(&zero.sumdb_path(), &tile);
    let (found, told) = lie(&log, &user).await;
    assert!(
        found.sentence.contains("inconsistent tile") && told == 0,
        "{found}"
    );
}

#[tokio::test(start_paused = true)]
async fn forks_old_heads_and_endless_bodies_end_a_follower() {
    let (mut log, user) = (FakeLog::new(6), User::new());
    lines(&log, &user, None, 7).await;
    let old = log.elsewhere();
    old.publish();
    log.grow(1);
    log.publish();
    lines(&log, &user, None, 1).await;
    let (found, _) = lie(&old, &user).await;
    assert!(
        found.sentence.contains("rolled back") && found.heads.len() == 2,
        "{found}"
    );
    for more in [0, 3] {
        let mut fork = log.elsewhere();
        fork.leaves[13] = fork.leaves[11].clone();
        fork.grow(more);
        fork.publish();
        let (found, told) = lie(&fork, &user).await;
        assert!(
            found.sentence.contains("two histories") && told == 0,
            "{found}"
        );
    }
    log.grow(1);
    log.publish();
    for part in ["latest", "tile/8/data/000.p/17", "tile/8/0/000.p/17"] {
        log.put(part, &[b'x'; 600_000]);
        assert_eq!(lie(&log, &user).await.1, 0, "{part}");
        log.publish();
    }
}
