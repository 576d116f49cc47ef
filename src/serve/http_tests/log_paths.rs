//! The log's addresses, health and counters.

use sha2::{Digest as _, Sha256};

use super::{super::testing::Outcome, *};
use crate::{
    log::{Log, LogConfig},
    receipt::Receipt,
    spec::{Companion, hex},
    tlog::{OfflineProof, Policy, VerifierKey, leaf_hash, proof},
};

pub(super) fn real_log(bench: &Bench) -> Log {
    let config = LogConfig {
        database: bench.folder.path().join("hotcell.db"),
        tiles: bench.folder.path().join("tiles"),
    };
    Log::open_local(&config, &bench.folder.path().join("sign"), "localhost").unwrap()
}

#[tokio::test]
async fn the_real_log_holds_record_companion_and_result_together() {
    let bench = Bench::new();
    let log = real_log(&bench);
    let site = Site::with(bench, Arc::new(log.clone())).await;
    let found = site.get(&format!("/tlog/lookup/{KEY}")).await;
    assert!(
        found
            .text()
            .starts_with("1\nexample.org/m v1.2.3 /cmd/tool linux amd64 go1.26.8 51 ")
    );
    assert!(
        found
            .text()
            .ends_with(site.get("/tlog/latest").await.text())
    );
    let data = site.get("/tlog/tile/8/data/000.p/3").await;
    let companion = data.text().split("\n\n").nth(2).unwrap().to_owned() + "\n";
    let companion = Companion::parse(&companion).unwrap();
    let db = crate::store::db::open(&site.bench.folder.path().join("hotcell.db")).unwrap();
    let envelope: Vec<u8> = db
        .query_row("SELECT envelope FROM result", [], |row| row.get(0))
        .unwrap();
    assert_eq!(
        hex(&companion.provenance_sha256),
        hex(&Sha256::digest(&envelope))
    );
    assert_eq!(companion.sha256, <[u8; 32]>::from(Sha256::digest(KEY)));
    assert_eq!(companion.record_index, 1);
    let result = site.built().await;
    let page = site.browse(&result).await;
    assert!(page.text().contains("number 1 of the") && page.text().contains(log.verifier_key()));
    assert!(
        site.get("/tlog/checkpoint")
            .await
            .text()
            .starts_with("localhost\n3\n")
    );
    assert_eq!(site.started(), 1);
}

#[tokio::test]
async fn the_real_log_refuses_other_bytes_for_a_key() {
    let bench = Bench::new();
    let log = real_log(&bench);
    let site = Site::with(bench, Arc::new(log)).await;
    let result = site.built().await;
    let binary = site.get(&format!("{result}{NAME}")).await.body;
    let name = hex(&Sha256::digest(&binary));
    let path = site
        .bench
        .folder
        .path()
        .join("artifacts")
        .join(&name[..2])
        .join(&name);
    std::fs::remove_file(path).unwrap();
    site.bench
        .executor
        .set(&key(), Outcome::Binary(b"other".to_vec()));
    let answer = site.get(&format!("{result}{NAME}")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.text().starts_with("mismatch: "), "{}", answer.text());
    let latest = site.get("/tlog/latest").await;
    assert!(latest.text().starts_with("go.sum database tree\n3\n"));
    assert!(site.get("/healthz").await.text().contains("mismatches: 1"));
}

#[tokio::test]
async fn a_receipt_of_the_real_log_proves_its_binary() {
    let bench = Bench::new();
    let log = real_log(&bench);
    let site = Site::with(bench, Arc::new(log.clone())).await;
    let path = format!("/tlog/proof/by-key/{KEY}");
    let none = site.get(&path).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    assert!(none.text().starts_with("not_found: "), "{}", none.text());
    assert_eq!(site.started(), 0, "a proof builds nothing");
    let result = site.built().await;
    site.get(&format!("/tlog/lookup/{}", KEY.replace("v1.2.3", "v1.2.4")))
        .await;
    let found = site.get(&path).await;
    assert_eq!(
        (found.status, found.header("content-type")),
        (StatusCode::OK, "text/plain; charset=UTF-8")
    );
    assert_eq!(found.header("cache-control"), "no-cache");
    let key = VerifierKey::parse(log.verifier_key()).unwrap();
    let receipt = Receipt::parse(&found.body).unwrap();
    let proved = receipt.check(&Policy::of_logs(vec![key])).unwrap();
    assert_eq!(proved.checkpoint.tree, log.tree());
    let binary = site.get(&format!("{result}{NAME}")).await.body;
    let sha256 = Sha256::digest(&binary).into();
    assert_eq!(proved.is_binary(&sha256, binary.len() as u64), Ok(()));
    // An envelope that is not the companion's makes no receipt.
    let db = crate::store::db::open(&site.bench.folder.path().join("hotcell.db")).unwrap();
    db.execute("UPDATE result SET envelope = X'00'", [])
        .unwrap();
    let alone = OfflineProof::parse(&site.get(&path).await.body).unwrap();
    assert_eq!((alone.extra, alone.index), (None, 2));
}

#[tokio::test]
async fn every_leaf_of_the_real_log_has_a_proof_and_nothing_else_has() {
    let bench = Bench::new();
    let log = real_log(&bench);
    let site = Site::with(bench, Arc::new(log.clone())).await;
    site.built().await;
    let data = site.get("/tlog/tile/8/data/000.p/3").await;
    let leaves: Vec<_> = data.text().split_terminator("\n\n").collect();
    for (index, leaf) in leaves.iter().enumerate() {
        let answer = site.get(&format!("/tlog/proof/{index}")).await;
        assert_eq!(answer.header("cache-control"), "no-cache");
        let parsed = OfflineProof::parse(&answer.body).unwrap();
        assert_eq!(parsed.checkpoint, site.get("/tlog/checkpoint").await.text());
        assert_eq!(parsed.extra, None);
        let leaf = leaf_hash(format!("{leaf}\n").as_bytes());
        let index = index as u64;
        proof::check_inclusion(&parsed.path, &log.tree(), index, &leaf).unwrap();
    }
    for (path, status, code) in [
        ("3", 404, "not_found"),
        ("18446744073709551615", 404, "not_found"),
        ("18446744073709551616", 400, "bad_index"),
        ("01", 400, "bad_index"),
        ("-1", 400, "bad_index"),
        ("", 400, "bad_index"),
        ("by-key", 400, "bad_index"),
        ("by-key/", 400, "bad_spec"),
        (
            "by-key/example.org/m@latest/linux-amd64-go1.26.8/",
            400,
            "bad_spec",
        ),
        (&format!("by-key/{}", "x".repeat(5000)), 400, "bad_spec"),
        (&format!("by-key/{KEY}record"), 400, "bad_spec"),
    ] {
        let answer = site.get(&format!("/tlog/proof/{path}")).await;
        assert_eq!(answer.status.as_u16(), status, "{path:.60}");
        assert!(
            answer.text().starts_with(code),
            "{path:.60}: {}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn a_lookup_asks_the_log_first_and_nobody_else() {
    let site = Site::new().await;
    let record = Record {
        key: key(),
        size: 7,
        sum: Sum::of(&[1; 32]),
    };
    site.bench.ledger.put(record.clone());
    let found = site.get(&format!("/tlog/lookup/{KEY}")).await;
    let wanted = format!(
        "1\n{}\ngo.sum database tree\n3\nhash=\n\n— localhost sig\n",
        record.text()
    );
    assert_eq!((found.status, found.text()), (StatusCode::OK, &*wanted));
    assert_eq!(found.header("content-type"), "text/plain; charset=UTF-8");
    assert_eq!(
        site.bench
            .executor
            .resolved
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
    assert_eq!(site.started(), 0);
}

#[tokio::test]
async fn a_lookup_builds_what_the_log_does_not_have() {
    let site = Site::new().await;
    let key = "github.com/Azure/x@v2.0.0+incompatible/linux-amd64-go1.26.8-stripped/";
    let found = site.get(&format!("/tlog/lookup/{key}")).await;
    assert_eq!(found.status, StatusCode::OK);
    assert!(
        found
            .text()
            .starts_with("1\ngithub.com/Azure/x v2.0.0+incompatible / linux amd64 go1.26.8 ")
    );
    assert!(found.text().contains(" stripped\n\ngo.sum database tree\n"));
    let moving = site
        .get("/tlog/lookup/example.org/m@latest/cmd/tool/linux-amd64-latest/")
        .await;
    assert_eq!(
        (moving.status, moving.header("cache-control")),
        (StatusCode::OK, "no-store")
    );
    assert!(
        moving
            .text()
            .contains("example.org/m v1.2.3 /cmd/tool linux amd64 go1.26.8 ")
    );
    let gone = site
        .get("/tlog/lookup/example.org/m@v1.9.9/linux-amd64-latest/")
        .await;
    assert_eq!(
        gone.status,
        StatusCode::OK,
        "a concrete version is asked of nobody before the build"
    );
}

#[tokio::test]
async fn heads_and_tiles_have_their_types() {
    let site = Site::new().await;
    let latest = site.get("/tlog/latest").await;
    assert_eq!(
        (
            latest.header("content-type"),
            latest.header("cache-control")
        ),
        ("text/plain; charset=UTF-8", "no-cache")
    );
    assert!(
        site.get("/tlog/checkpoint")
            .await
            .text()
            .starts_with("localhost\n3\n")
    );
    let tile = site.get("/tlog/tile/8/0/000.p/3").await;
    assert_eq!(
        (tile.header("content-type"), tile.body.len()),
        ("application/octet-stream", 96)
    );
    assert!(tile.header("cache-control").contains("immutable"));
    for (path, status) in [
        ("/tlog/tile/8/0/001", 404),
        ("/tlog/tile/../x", 404),
        ("/tlog/tile/%2e%2e/x", 400),
        ("/tlog/other", 404),
        ("/tlog", 404),
        ("/tlog/lookup/", 400),
        (&format!("/tlog/lookup/{KEY}record"), 400),
    ] {
        assert_eq!(site.get(path).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn a_fenced_log_is_said_and_reads_go_on() {
    let site = Site::new().await;
    let result = site.built().await;
    *site.bench.ledger.health.lock().unwrap() = Health::Fenced {
        why: "rolled back".to_owned(),
        remedy: "run log recover".to_owned(),
    };
    let other = site
        .get("/tlog/lookup/example.org/n@v1.0.0/linux-amd64-go1.26.8/")
        .await;
    assert_eq!(other.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(other.text().starts_with("log_fenced: ") && !other.header("retry-after").is_empty());
    assert_eq!(
        site.get(&format!("{result}{NAME}")).await.status,
        StatusCode::OK
    );
    assert_eq!(
        site.get(&format!("/tlog/lookup/{KEY}")).await.status,
        StatusCode::OK
    );
    assert!(site.browse("/").await.text().contains("Reading only"));
    let health = site.get("/healthz").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(health.text().contains("run log recover"));
}

#[tokio::test]
async fn robots_are_kept_from_what_starts_builds() {
    let site = Site::new().await;
    let robots = site.get("/robots.txt").await;
    for line in [
        "Disallow: /tlog/",
        "Disallow: /*/events$",
        "Disallow: /*/record$",
        "Disallow: /*-go1.*/*-go1.",
        "Disallow: /*-latest*/*-latest",
    ] {
        assert!(robots.text().lines().any(|found| found == line), "{line}");
    }
}

#[tokio::test]
async fn metrics_are_on_the_admin_address_only() {
    let site = Site::new().await;
    site.built().await;
    let admin = router::admin(Arc::clone(&site.app));
    let get = |path: &str| {
        Request::get(path)
            .header("host", "127.0.0.1:8001")
            .body(Body::empty())
    };
    let answer = admin
        .clone()
        .oneshot(get("/metrics").unwrap())
        .await
        .unwrap();
    assert!(
        answer.headers()[header::CONTENT_TYPE]
            .to_str()
            .unwrap()
            .contains("version=0.0.4")
    );
    let text = to_bytes(answer.into_body(), 100_000).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(
        text.contains("hotcell_builds_total{ending=\"success\"} 1"),
        "{text}"
    );
    let other = admin.oneshot(get("/-/search").unwrap()).await.unwrap();
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    assert_eq!(site.get("/metrics").await.status, StatusCode::NOT_FOUND);
}
