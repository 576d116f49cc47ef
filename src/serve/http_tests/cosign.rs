//! `/witness/…` with the real role behind it.

use hotcell_sandbox::channel::Channel;

use super::*;
use crate::{
    log::{
        RemoteSigner,
        sign::{Cosign as _, role},
    },
    tlog::{
        Hash, Note, SigningKey, Tree, WitnessKey, leaf_hash, proof,
        testing::NaiveTree,
        text::checkpoint_text,
        witness::{AddCheckpoint, REQUEST_BYTES_MAX, log_id},
    },
};

const OTHER: &str = "b.example";

fn other(seed: u8) -> SigningKey {
    SigningKey::from_seed(OTHER, &[seed; 32]).unwrap()
}

fn body(key: &SigningKey, tree: &Tree, old: u64, proof: Vec<Hash>) -> String {
    let text = checkpoint_text(key.verifier().name(), tree);
    let checkpoint = key.sign(&text).unwrap();
    let request = AddCheckpoint {
        old,
        proof,
        checkpoint,
    };
    request.to_string()
}

fn proof(naive: &NaiveTree, size: u64, old: u64) -> Vec<Hash> {
    let indexes = proof::consistency_indexes(size, old).unwrap();
    proof::consistency(size, old, &naive.stored(&indexes)).unwrap()
}

/// An instance that is a witness of `b.example`, and its key.
async fn witness() -> (Site, WitnessKey, Arc<RemoteSigner>) {
    let bench = Bench::new();
    let (ours, theirs) = Channel::pair().unwrap();
    let folder = bench.folder.path().join("sign");
    std::fs::create_dir(&folder).unwrap();
    std::thread::spawn(move || {
        role::run(&theirs, &folder, &crate::log::sign::SignStart::default())
    });
    let signer = RemoteSigner::connect(ours, None, "a.example");
    let signer = Arc::new(signer.unwrap().unwrap());
    let logs = vec![other(7).verifier().clone()];
    let key = signer.witness(&logs).unwrap();
    let cosigning = Cosigning::open(logs, Arc::clone(&signer) as _).unwrap();
    let ledger = Arc::clone(&bench.ledger);
    let site = Site::with_cosigning(bench, ledger, Some(Arc::new(cosigning))).await;
    (site, key, signer)
}

impl Site {
    /// As a program of a log does.
    async fn add(&self, body: impl Into<Body>) -> Answer {
        let request = Request::post("/witness/add-checkpoint")
            .header("host", "127.0.0.1:8000")
            .header("content-type", "text/plain");
        self.send(request.body(body.into()).unwrap()).await
    }
}

fn seen_path() -> String {
    format!("/witness/{}/checkpoint", log_id(OTHER))
}

#[tokio::test]
async fn a_head_is_cosigned_and_shown_to_monitors_and_on_the_pages() {
    let (site, key, signer) = witness().await;
    let naive = NaiveTree::of_vectors();
    let none = site.get(&seen_path()).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    let health = site.get("/healthz").await;
    let note = "note: witness of b.example (no head yet)\n";
    assert!(health.text().contains(note), "{}", health.text());
    let mut old = 0;
    for size in [5, 5, 9] {
        let proof = match old == 0 || old == size {
            true => vec![],
            false => proof(&naive, size, old),
        };
        let added = site
            .add(body(&other(7), &naive.tree(size), old, proof))
            .await;
        assert_eq!(added.status, StatusCode::OK, "{}", added.text());
        assert_eq!(added.header("content-type"), "text/plain; charset=UTF-8");
        // As a log does: the answer added to what it has signed is a note.
        let text = checkpoint_text(OTHER, &naive.tree(size));
        let signed = other(7).sign(&text).unwrap() + added.text();
        let note = Note::parse(signed.as_bytes()).unwrap();
        assert!(matches!(key.cosigned(&note), Ok(Some(_))));
        let seen = site.get(&seen_path()).await;
        assert_eq!((seen.status, seen.text()), (StatusCode::OK, &*signed));
        assert_eq!(seen.header("cache-control"), "no-cache");
        assert_eq!(signer.seen(OTHER).unwrap().unwrap().checkpoint, signed);
        old = size;
    }
    let health = site.get("/healthz").await;
    let note = "note: witness of b.example (9 records, 20";
    assert!(health.text().contains(note), "{}", health.text());
    assert!(
        site.browse("/")
            .await
            .text()
            .contains("witness of b.example (9 records")
    );
    let cosigning = site.app.cosigning.as_deref();
    let gauges = super::super::metrics::Gauges {
        verifying: 0,
        waiting: 0,
        running: 0,
        live: true,
        put_away: 0,
        certificate_end_s: None,
    };
    let metrics = site.app.metrics.text(gauges, &[], cosigning, &[]);
    for line in [
        "hotcell_cosigned_records{log=\"b.example\"} 9",
        "hotcell_cosigned_log_forked{log=\"b.example\"} 0",
        "hotcell_cosign_denied_total 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line}\n{metrics}"
        );
    }
}

#[tokio::test]
async fn each_refusal_has_the_status_of_the_protocol_and_says_what_to_do() {
    let (site, ..) = witness().await;
    let naive = NaiveTree::of_vectors();
    let log = other(7);
    let unknown = SigningKey::from_seed("c.example", &[7; 32]).unwrap();
    let fork = |size| Tree {
        size,
        root: leaf_hash(b"fork"),
    };
    let first = site.add(body(&log, &naive.tree(5), 0, vec![])).await;
    assert_eq!(first.status, StatusCode::OK);
    let nine = naive.tree(9);
    for (body, status, code) in [
        (String::new(), 400, "bad_request"),
        ("old 5\n".to_owned(), 400, "bad_request"),
        ("x".repeat(REQUEST_BYTES_MAX + 1), 400, "bad_request"),
        ("x".repeat(1 << 20), 400, "bad_request"),
        (body(&log, &naive.tree(5), 6, vec![]), 400, "bad_size"),
        (body(&unknown, &nine, 0, vec![]), 404, "unknown_log"),
        (
            body(&other(8), &nine, 5, proof(&naive, 9, 5)),
            403,
            "unsigned",
        ),
        (body(&log, &nine, 5, vec![]), 422, "inconsistent"),
        (
            body(&log, &nine, 5, proof(&naive, 9, 4)),
            422,
            "inconsistent",
        ),
        (
            body(&log, &fork(9), 5, proof(&naive, 9, 5)),
            422,
            "inconsistent",
        ),
    ] {
        let answer = site.add(body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        let start = format!("{code}: ");
        assert!(answer.text().starts_with(&start), "{}", answer.text());
    }
    for (tree, old, proof) in [
        (nine, 0, vec![]),
        (nine, 4, proof(&naive, 9, 4)),
        (nine, 9, vec![]),
        (fork(9), 0, vec![]),
        (naive.tree(3), 0, vec![]),
    ] {
        let answer = site.add(body(&log, &tree, old, proof)).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert_eq!(answer.text(), "5\n");
        assert_eq!(answer.header("content-type"), "text/x.tlog.size");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(site.app.cosigning.as_ref().unwrap().denials(), 15);
    assert!(!site.app.cosigning.as_ref().unwrap().standings()[0].forked);
    // Two heads of one size with the log's signatures cannot be explained away.
    let forked = site.add(body(&log, &fork(5), 5, vec![])).await;
    assert_eq!(forked.status, StatusCode::UNPROCESSABLE_ENTITY);
    let health = site.get("/healthz").await;
    let told = "note: b.example has signed two different heads of 5 records: a fork\n";
    assert!(health.text().contains(told), "{}", health.text());
    let seen = site.get(&seen_path()).await;
    assert!(
        seen.text()
            .starts_with(&checkpoint_text(OTHER, &naive.tree(5)))
    );
}

#[tokio::test]
async fn the_addresses_are_no_modules_and_a_page_of_another_site_gets_nothing() {
    let (site, ..) = witness().await;
    let good = body(&other(7), &NaiveTree::of_vectors().tree(5), 0, vec![]);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
    ] {
        let request = Request::post("/witness/add-checkpoint")
            .header("host", "127.0.0.1:8000")
            .header(name, value)
            .body(Body::from(good.clone()));
        let answer = site.send(request.unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert!(answer.text().starts_with("other_origin: "));
    }
    assert_eq!(site.get(&seen_path()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.app.cosigning.as_ref().unwrap().denials(), 2);
    for path in [
        "/witness/",
        "/witness/x",
        "/witness/checkpoint",
        "/witness/../checkpoint",
        "/witness/add-checkpoint",
        &seen_path().to_uppercase().replace("/WITNESS/", "/witness/"),
        "/witness",
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    let elsewhere = site.ask("POST", "/witness/sign-subtree", &[]).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    let robots = site.get("/robots.txt").await;
    assert!(robots.text().contains("Disallow: /witness/\n"));
    let none = Site::new().await;
    for answer in [none.add(good).await, none.get(&seen_path()).await] {
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert!(answer.text().contains("no witness of other logs"));
    }
    assert_eq!(site.started(), 0);
}

#[tokio::test]
async fn an_instance_that_starts_is_a_witness_already_and_nothing_else() {
    let (mut site, key, _signer) = witness().await;
    let cosigning = site.app.cosigning.clone().unwrap();
    let (app, tree) = (site.router.clone(), NaiveTree::of_vectors().tree(5));
    site.router = super::super::cosign::early(cosigning);
    let added = site.add(body(&other(7), &tree, 0, vec![])).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.text());
    for path in ["/", "/healthz", "/tlog/checkpoint", &format!("/{KEY}")] {
        let early = site.browse(path).await;
        assert_eq!(early.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(early.header("retry-after"), "30");
        assert!(early.text().starts_with("busy: the service is starting"));
    }
    let denied = site.add("").await;
    assert_eq!(denied.status, StatusCode::BAD_REQUEST);
    site.router = app;
    let seen = site.get(&seen_path()).await;
    let note = Note::parse(&seen.body).unwrap();
    assert!(matches!(key.cosigned(&note), Ok(Some(_))));
}

#[tokio::test]
async fn many_at_once_are_answered_one_after_the_other_and_not_as_fast_as_they_come() {
    let (site, ..) = witness().await;
    let naive = NaiveTree::of_vectors();
    let mut all = tokio::task::JoinSet::new();
    for size in 1..30 {
        let head = body(&other(7), &naive.tree(size), 0, vec![]);
        let request = Request::post("/witness/add-checkpoint").header("host", "127.0.0.1");
        let request = request.body(Body::from(head)).unwrap();
        let router = site.router.clone();
        all.spawn(async move { router.oneshot(request).await.unwrap().status() });
    }
    let answers = all.join_all().await;
    let count = |status: StatusCode| answers.iter().filter(|one| **one == status).count();
    assert_eq!(count(StatusCode::OK), 1, "{answers:?}");
    assert_eq!(count(StatusCode::CONFLICT), 28, "{answers:?}");
    let begun = std::time::Instant::now();
    let size = site.app.cosigning.as_ref().unwrap().standings()[0]
        .last
        .unwrap()
        .0;
    for size in size..size + 5 {
        let (old, tree) = (size, naive.tree(size + 1));
        let head = body(&other(7), &tree, old, proof(&naive, size + 1, old));
        assert_eq!(site.add(head).await.status, StatusCode::OK);
    }
    assert!(begun.elapsed() >= std::time::Duration::from_millis(200));
}
