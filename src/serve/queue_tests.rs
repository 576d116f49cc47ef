//! What the queue promises, with a clock moved by hand.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    admit::Observing,
    artifacts::Artifacts,
    catalogue::Catalogue,
    ledger::Health,
    limits::Asker,
    queue::{Job, Queue, QueueError, Standing},
    testing::{Bench, HOSTILE, Outcome, fails, key, key_of, operator, visitor},
};
use crate::{
    build::FailureClass,
    spec::{BuildKey, Record, Sum},
};

async fn ask(queue: &Queue, key: &BuildKey) -> Arc<Job> {
    match queue.ask(key, false, operator()).await.unwrap() {
        Standing::Underway(job) => job,
        other => panic!("not underway: {other:?}"),
    }
}

/// Waits until the executor has begun `count` builds.
async fn begun(bench: &Bench, queue: &Queue, count: usize) {
    while bench.executor.started().len() < count || queue.running() < count.min(1) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_build_is_stored_logged_and_answered() {
    let bench = Bench::new();
    let queue = bench.queue(1).await;
    let Standing::Built(row) = queue.wait(&key(), false, operator()).await.unwrap() else {
        panic!("built")
    };
    let record = bench.ledger.records.lock().unwrap()[0].clone();
    assert_eq!(
        (record.sum, record.size, row.log_index),
        (row.sum(), row.size, 1)
    );
    let artifacts = Artifacts::open(&bench.folder.path().join("artifacts"), 0).unwrap();
    assert_eq!(
        artifacts.binary(&row.sha256).unwrap().unwrap().bytes,
        row.size
    );
    assert!(bench.catalogue.jobs().await.unwrap().is_empty());
    assert!(matches!(
        queue.standing(&key()).await.unwrap(),
        Standing::Built(_)
    ));
}

#[tokio::test]
async fn identical_requests_share_one_build() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(4).await;
    let jobs: Vec<_> = (0..20)
        .map(|_| {
            tokio::spawn({
                let queue = queue.clone();
                async move { queue.wait(&key(), false, operator()).await.unwrap() }
            })
        })
        .collect();
    begun(&bench, &queue, 1).await;
    bench.executor.go.send_replace(true);
    for job in jobs {
        assert!(matches!(job.await.unwrap(), Standing::Built(_)));
    }
    assert_eq!(bench.executor.started().len(), 1);
    assert_eq!(bench.ledger.records.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn others_see_their_place_and_move_up() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    let mut jobs = Vec::new();
    for n in 0..4 {
        jobs.push(ask(&queue, &key_of(n)).await);
    }
    let places: Vec<_> = jobs.iter().map(|job| queue.place(job)).collect();
    assert_eq!(places, [0, 1, 2, 3]);
    assert!(jobs[3].live.snapshot().doing.contains("number 3"));
    bench.executor.go.send_replace(true);
    for n in 0..4 {
        assert!(matches!(
            queue.wait(&key_of(n), false, operator()).await.unwrap(),
            Standing::Built(_)
        ));
    }
    let wanted: Vec<_> = (0..4).map(|n| key_of(n).to_string()).collect();
    assert_eq!(bench.executor.started(), wanted);
}

#[tokio::test]
async fn a_restart_resumes_what_waited_and_what_ran() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    for n in 0..3 {
        ask(&queue, &key_of(n)).await;
    }
    begun(&bench, &queue, 1).await;
    queue.stop();
    assert!(matches!(
        queue.ask(&key_of(9), false, operator()).await,
        Err(QueueError::Stopping)
    ));
    drop(queue);
    assert_eq!(bench.catalogue.jobs().await.unwrap().len(), 3);

    bench.executor.go.send_replace(true);
    let queue = bench.queue(1).await;
    for n in 0..3 {
        assert!(matches!(
            queue.wait(&key_of(n), false, operator()).await.unwrap(),
            Standing::Built(_)
        ));
    }
    assert!(bench.catalogue.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_nobody_wants_is_dropped_waiting_or_running() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    bench.clock.advance(61);
    let (ran, waited, wanted) = (
        ask(&queue, &key_of(0)).await,
        ask(&queue, &key_of(1)).await,
        ask(&queue, &key_of(2)).await,
    );
    begun(&bench, &queue, 1).await;
    bench.clock.advance(59);
    queue.sweep().await.unwrap();
    assert_eq!((queue.running(), queue.waiting()), (1, 2));
    queue.renew(&wanted).await;
    bench.clock.advance(1);
    queue.sweep().await.unwrap();
    for job in [&ran, &waited] {
        let mut end = job.end.subscribe();
        let end = end.wait_for(Option::is_some).await.unwrap().clone();
        assert!(matches!(end, Some(super::queue::End::Dropped)));
    }
    bench.executor.go.send_replace(true);
    assert!(matches!(
        queue.wait(&key_of(2), false, operator()).await.unwrap(),
        Standing::Built(_)
    ));
    assert!(matches!(
        queue.standing(&key_of(1)).await.unwrap(),
        Standing::Unknown
    ));
    assert_eq!(
        bench.executor.started(),
        [key_of(0).to_string(), key_of(2).to_string()]
    );
}

#[tokio::test]
async fn nothing_is_dropped_in_the_first_minute_after_a_start() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    ask(&queue, &key_of(0)).await;
    queue.stop();
    bench.clock.advance(3_600);
    let queue = bench.queue(1).await;
    bench.clock.advance(59);
    queue.sweep().await.unwrap();
    assert_eq!(queue.running(), 1);
    bench.clock.advance(1);
    queue.sweep().await.unwrap();
    while queue.running() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(bench.catalogue.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn interest_is_durable() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    let job = ask(&queue, &key()).await;
    let before = bench.catalogue.jobs().await.unwrap()[0].interest_ms;
    bench.clock.advance(30);
    queue.renew(&job).await;
    assert_eq!(
        bench.catalogue.jobs().await.unwrap()[0].interest_ms,
        before + 30_000
    );
}

#[tokio::test]
async fn a_failure_that_would_repeat_is_remembered_until_retried() {
    let mut bench = Bench::new();
    bench
        .executor
        .set(&key(), fails(FailureClass::CannotBuild, "build_failed"));
    let queue = bench.queue(1).await;
    for _ in 0..3 {
        let Standing::Failed(row) = queue.wait(&key(), false, operator()).await.unwrap() else {
            panic!()
        };
        assert_eq!(row.failure.output.len(), HOSTILE.len());
        bench.clock.advance(3_600);
    }
    assert_eq!(bench.executor.started().len(), 1);

    assert!(queue.retry(&key(), "192.0.2.1".to_owned()).await.unwrap());
    assert!(matches!(
        queue.standing(&key()).await.unwrap(),
        Standing::Unknown
    ));
    assert!(
        !queue.retry(&key(), "192.0.2.1".to_owned()).await.unwrap(),
        "once an hour"
    );
    assert!(
        queue.retry(&key(), "192.0.2.2".to_owned()).await.unwrap(),
        "another client"
    );
    bench.clock.advance(3_600);
    assert!(
        queue.retry(&key(), "192.0.2.1".to_owned()).await.unwrap(),
        "an hour later"
    );

    drop(queue.wait(&key(), false, operator()).await.unwrap());
    bench.clock.advance(60);
    bench.policy = "cd".repeat(32);
    let queue = bench.queue(1).await;
    assert!(
        matches!(queue.standing(&key()).await.unwrap(), Standing::Unknown),
        "other policy"
    );
}

#[tokio::test]
async fn proxy_trouble_and_our_own_faults_are_tried_again_but_not_at_once() {
    let bench = Bench::new();
    let queue = bench.queue(1).await;
    for (n, outcome) in [
        fails(FailureClass::Proxy, "proxy"),
        fails(FailureClass::Internal, "internal"),
        Outcome::Panics,
        Outcome::Lie,
    ]
    .into_iter()
    .enumerate()
    {
        bench.executor.set(&key_of(n), outcome);
        for _ in 0..5 {
            let standing = queue.wait(&key_of(n), false, operator()).await.unwrap();
            assert!(matches!(standing, Standing::Failed(_)), "{n}: {standing:?}");
        }
        assert_eq!(bench.executor.started().len(), 2 * n + 1);
        bench.clock.advance(16);
        drop(queue.wait(&key_of(n), false, operator()).await.unwrap());
        assert_eq!(bench.executor.started().len(), 2 * n + 2);
    }
    assert!(bench.ledger.records.lock().unwrap().is_empty());
    assert!(bench.catalogue.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn other_bytes_than_the_log_has_are_kept_and_never_logged() {
    let bench = Bench::new();
    let queue = bench.queue(1).await;
    let logged = Record {
        key: key(),
        size: 7,
        sum: Sum::of(&[1; 32]),
    };
    bench.ledger.put(logged.clone());
    let Standing::Failed(row) = queue.wait(&key(), false, operator()).await.unwrap() else {
        panic!()
    };
    assert_eq!(
        (row.failure.code.as_str(), row.failure.class),
        ("mismatch", FailureClass::Verify)
    );
    assert_eq!(*bench.ledger.records.lock().unwrap(), [logged]);
    assert_eq!(bench.catalogue.mismatches().unwrap(), 1);
    assert!(bench.catalogue.result(&key()).unwrap().is_none());
}

#[tokio::test]
async fn a_fenced_log_starts_no_build() {
    let bench = Bench::new();
    let queue = bench.queue(1).await;
    *bench.ledger.health.lock().unwrap() = Health::Fenced {
        why: "rolled back".to_owned(),
        remedy: "run log recover".to_owned(),
    };
    assert!(matches!(
        queue.ask(&key(), false, operator()).await,
        Err(QueueError::Fenced(_))
    ));
    assert!(bench.executor.started().is_empty());
}

#[tokio::test]
async fn a_binary_that_is_gone_is_built_again_and_must_be_the_same() {
    let bench = Bench::new();
    let queue = bench.queue(1).await;
    let Standing::Built(row) = queue.wait(&key(), true, operator()).await.unwrap() else {
        panic!()
    };
    let name = crate::spec::hex(&row.sha256);
    let path = bench
        .folder
        .path()
        .join("artifacts")
        .join(&name[..2])
        .join(&name);
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        queue.wait(&key(), false, operator()).await.unwrap(),
        Standing::Built(_)
    ));
    assert!(!path.exists(), "a page needs no binary");
    assert!(matches!(
        queue.wait(&key(), true, operator()).await.unwrap(),
        Standing::Built(_)
    ));
    assert!(path.exists());
    assert_eq!(bench.executor.started().len(), 2);

    std::fs::remove_file(&path).unwrap();
    bench
        .executor
        .set(&key(), Outcome::Binary(b"other".to_vec()));
    let Standing::Failed(row) = queue.wait(&key(), true, operator()).await.unwrap() else {
        panic!()
    };
    assert_eq!(row.failure.code, "mismatch");
    let (name, policy) = (key().to_string(), bench.policy.clone());
    let kept = bench.catalogue.observation(name, policy).await.unwrap();
    assert!(kept.is_none(), "what the log contradicts is built afresh");
}

#[tokio::test]
async fn the_line_has_a_maximum() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    for n in 0..1_001 {
        ask(&queue, &key_of(n)).await;
    }
    assert!(matches!(
        queue.ask(&key_of(2_000), false, operator()).await,
        Err(QueueError::Full(1_000))
    ));
    assert!(
        matches!(
            queue.ask(&key_of(5), false, operator()).await,
            Ok(Standing::Underway(_))
        ),
        "joins"
    );
    assert_eq!(bench.executor.resolved.load(Relaxed), 0);
}

#[tokio::test]
async fn a_database_of_before_verifiers_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hotcell.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE job (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,
         created_ms INTEGER NOT NULL, interest_ms INTEGER NOT NULL) STRICT;
         INSERT INTO job (key, created_ms, interest_ms) VALUES ('k', 1, 2);",
    )
    .unwrap();
    drop(old);
    for _ in 0..2 {
        let jobs = Catalogue::open(&path).unwrap().jobs().await.unwrap();
        assert!(jobs[0].publish, "what waited was for the log");
        assert_eq!(jobs[0].client, "");
    }
}

#[tokio::test]
async fn a_job_for_another_instance_stays_one_over_a_restart_until_somebody_wants_it_published() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    let Observing::Underway(_) = queue.observe(&key(), operator()).await.unwrap() else {
        panic!("underway")
    };
    begun(&bench, &queue, 1).await;
    queue.stop();
    assert!(!bench.catalogue.jobs().await.unwrap()[0].publish);
    let queue = bench.queue(1).await;
    begun(&bench, &queue, 2).await;
    let job = ask(&queue, &key()).await;
    assert!(bench.catalogue.jobs().await.unwrap()[0].publish);
    bench.executor.go.send_replace(true);
    job.ended().await;
    let standing = queue.standing(&key()).await.unwrap();
    assert!(matches!(standing, Standing::Built(_)), "{standing:?}");
}

#[tokio::test]
async fn other_instances_fill_a_part_of_the_line_only() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    let mut taken = 0;
    let refused = loop {
        match queue.observe(&key_of(taken), operator()).await {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, QueueError::Full(_)) && taken < 500,
        "{taken}"
    );
    ask(&queue, &key()).await;
}

#[tokio::test]
async fn one_client_cannot_keep_all_others_waiting_and_a_restart_keeps_the_order() {
    let bench = Bench::new();
    bench.executor.go.send_replace(false);
    let queue = bench.queue(1).await;
    let asker = |address| Asker::person(visitor(address));
    let (many, few) = (asker("192.0.2.1"), asker("192.0.2.2"));
    for n in 0..8 {
        queue.ask(&key_of(n), false, many).await.unwrap();
    }
    begun(&bench, &queue, 1).await;
    for n in 10..12 {
        queue.ask(&key_of(n), false, few).await.unwrap();
    }
    let observer = Asker::observer(visitor("192.0.2.1"));
    for n in 20..23 {
        queue.observe(&key_of(n), observer).await.unwrap();
    }
    // A third one joins the last job of the first, and does not wait behind all the others.
    queue
        .ask(&key_of(7), false, asker("192.0.2.3"))
        .await
        .unwrap();
    let order = [7, 10, 20, 1, 11, 21, 2, 22, 3, 4, 5, 6];
    for (place, n) in (1..).zip(order) {
        let Standing::Underway(job) = queue.standing(&key_of(n)).await.unwrap() else {
            panic!("underway")
        };
        assert_eq!(queue.place(&job), place, "{n}");
        let said = format!("number {place} ");
        let doing = job.live.snapshot().doing;
        assert!(place < 2 || format!("{doing} ").contains(&said), "{doing}");
    }
    queue.stop();
    drop(queue);

    let queue = bench.queue(1).await;
    begun(&bench, &queue, 2).await;
    bench.executor.go.send_replace(true);
    while queue.waiting() + queue.running() > 0 {
        tokio::task::yield_now().await;
    }
    let order = [0, 0, 7, 10, 20, 1, 11, 21, 2, 22, 3, 4, 5, 6];
    let order: Vec<_> = order.iter().map(|n| key_of(*n).to_string()).collect();
    assert_eq!(bench.executor.started(), order, "the first ran twice");
}
