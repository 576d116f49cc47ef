//! Observations, and services that verify each other's builds through their own addresses.

use std::sync::{OnceLock, atomic::Ordering::Relaxed};

use super::{log_paths::real_log, *};
use crate::{
    build::BoxFuture,
    provenance::observation::{Observation, tests::public},
    serve::{
        queue::Standing,
        testing::{Outcome, key_of},
    },
    tlog::SigningKey,
    verifiers::{Carrier, Quorum, Said, Verifier, testing::verifier},
};

const PATH: &str = "/api/v1/observations";

impl Site {
    async fn observe(&self, key: &str) -> Answer {
        let question = serde_json::json!({ "key": key }).to_string();
        let request = Request::post(PATH)
            .header("host", "127.0.0.1:8000")
            .header("accept", "application/json")
            .body(Body::from(question));
        self.send(request.unwrap()).await
    }

    /// Asks until it is built.
    async fn observed(&self, key: &str) -> Observation {
        loop {
            let answer = self.observe(key).await;
            if answer.status == StatusCode::OK {
                let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                let envelope = body["envelope"].as_str().unwrap().as_bytes();
                let seed = self.bench.ledger.seed.load(Relaxed);
                return Observation::open(envelope, &public(seed)).unwrap();
            }
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text());
        }
    }

    fn records(&self) -> usize {
        self.bench.ledger.records.lock().unwrap().len()
    }
}

#[tokio::test]
async fn an_observation_is_built_signed_and_kept_and_nothing_is_logged() {
    let site = Site::new().await;
    let seen = site.observed(KEY).await;
    assert_eq!(seen.key, key());
    assert_eq!((site.records(), site.started()), (0, 1));
    // The answer comes before the job is over.
    while let Standing::Underway(_) = site.app.queue.standing(&key()).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let page = site.browse(&format!("/{KEY}")).await;
    assert!(page.text().contains("Not built yet"), "{}", page.text());
    assert_eq!(site.observed(KEY).await, seen);
    // Who wants it published gets the same bits without a second build.
    let record = site.get(&format!("/{KEY}record")).await;
    let record = Record::parse(record.text()).unwrap();
    assert_eq!(record.sum, Sum::of(&seen.sha256));
    assert_eq!((site.records(), site.started()), (1, 1));
    assert_eq!(site.observed(KEY).await, seen);
    assert!(site.bench.catalogue.jobs().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_build_that_goes_on_is_told_and_not_made_twice() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    let answer = site.observe(KEY).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.header("retry-after"), "1");
    assert!(answer.text().contains("\"running\""), "{}", answer.text());
    let path = format!("/{KEY}record");
    let (record, seen) = tokio::join!(site.get(&path), async {
        site.bench.executor.go.send_replace(true);
        site.observed(KEY).await
    });
    let record = Record::parse(record.text()).unwrap();
    assert_eq!(record.sum, Sum::of(&seen.sha256));
    assert_eq!((site.records(), site.started()), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_observed_is_refused_with_its_code() {
    let site = Site::new().await;
    let fails = fails(FailureClass::CannotBuild, "build_failed");
    site.bench.executor.set(&key(), fails);
    let answer = site.observe(KEY).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().contains("build_failed"), "{}", answer.text());
    for key in ["", "x", "example.org/m@latest/linux-amd64-go1.26.8/"] {
        assert_eq!(site.observe(key).await.status, StatusCode::BAD_REQUEST);
    }
    for body in ["", "{}", "key", "{\"key\":7}", "{\"key\":\"x\",\"more\":1}"] {
        let answer = site.post(PATH, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let long = site.post(PATH, &"x".repeat(100_000)).await;
    assert_eq!(long.status, StatusCode::PAYLOAD_TOO_LARGE);
    let foreign = [
        ("sec-fetch-site", "cross-site"),
        ("origin", "https://evil.example"),
    ];
    let answer = site.ask("POST", PATH, &foreign).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert_eq!(site.get(PATH).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(site.started(), 1);
}

/// Services that know each other by their routers.
#[derive(Default)]
struct Links(Vec<OnceLock<Router>>);

/// Service number `own`, whose verifiers are all the others in their order.
struct Link {
    links: Arc<Links>,
    own: usize,
}

impl Carrier for Link {
    fn ask<'a>(
        &'a self,
        verifier: usize,
        key: &'a BuildKey,
    ) -> BoxFuture<'a, Result<Said, String>> {
        let at = if verifier < self.own {
            verifier
        } else {
            verifier + 1
        };
        Box::pin(async move {
            let router = self.links.0[at].get().ok_or("it is down")?;
            let question = serde_json::json!({ "key": key.to_string() }).to_string();
            let request = Request::post(PATH)
                .header("host", "localhost")
                .body(Body::from(question))
                .unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 100_000).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            Ok(Said { status, body })
        })
    }

    fn read<'a>(
        &'a self,
        _: usize,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(u16, Vec<u8>), String>> {
        Box::pin(async move {
            let router = self.links.0[1].get().ok_or("it is down")?;
            let request = Request::get(format!("/tlog/{path}")).header("host", "localhost");
            let request = request.body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            let body = to_bytes(response.into_body(), 100_000).await.unwrap();
            Ok((status, body.to_vec()))
        })
    }
}

/// A service that this log, of this key, verifies as gobuild's logs do.
async fn verified_by_log(key: &str, log: Option<&Site>) -> Site {
    let links = Links(vec![OnceLock::new(), OnceLock::new()]);
    if let Some(log) = log {
        drop(links.0[1].set(log.router.clone()));
    }
    let link = Link {
        links: Arc::new(links),
        own: 0,
    };
    let text = format!("gobuild {key} https://peer.example/tlog");
    let verifiers = vec![Verifier::parse(&text).unwrap()];
    let mut bench = Bench::new();
    let quorum = Quorum::new(verifiers, 1, Arc::new(link));
    let state = bench.folder.path().join("verifiers");
    bench.quorum = Arc::new(quorum.with_state(state));
    let ledger = Arc::clone(&bench.ledger);
    Site::with(bench, ledger).await
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_down_is_asked_again_for_a_moment() {
    let key = SigningKey::from_seed("g.example", &[1; 32]).unwrap();
    let ours = verified_by_log(&key.verifier().to_string(), None).await;
    let answer = ours.get(&format!("/{KEY}record")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("it is down"), "{}", answer.text());
}

#[tokio::test]
async fn a_log_of_gobuilds_form_verifies_with_proven_records() {
    let peer = || {
        let bench = Bench::new();
        let log = real_log(&bench);
        (bench, log)
    };
    let path = format!("/{KEY}record");
    let (bench, log) = peer();
    let key = log.verifier_key().to_owned();
    let honest = Site::with(bench, Arc::new(log)).await;
    let ours = verified_by_log(&key, Some(&honest)).await;
    let answer = ours.get(&path).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let envelope = ours.bench.catalogue.envelope(&super::key()).await.unwrap();
    let envelope = String::from_utf8(envelope.unwrap()).unwrap();
    assert!(envelope.contains("gobuild"), "{envelope}");
    let (bench, log) = peer();
    let other_key = log.verifier_key().to_owned();
    let lie = Outcome::Binary(b"other bits".to_vec());
    bench.executor.set(&super::key(), lie);
    let liar = Site::with(bench, Arc::new(log)).await;
    for (log, status, word) in [
        (&liar, 502, "gobuild got sum 0"),
        (&honest, 503, "signed head is wrong"),
    ] {
        let ours = verified_by_log(&other_key, Some(log)).await;
        let answer = ours.get(&path).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        assert!(answer.text().contains(word), "{word}: {}", answer.text());
        assert_eq!(ours.records(), 0);
    }
}

/// `count` services, each verified by all others.
async fn linked(count: u8, needed: usize) -> Vec<Site> {
    let links = Arc::new(Links((0..count).map(|_| OnceLock::new()).collect()));
    let mut sites = Vec::new();
    for own in 0..count {
        let others = (0..count).filter(|other| *other != own);
        let verifiers = others.map(|other| verifier(other + 1)).collect();
        let mut bench = Bench::new();
        bench.ledger.seed.store(own + 1, Relaxed);
        let link = Link {
            links: Arc::clone(&links),
            own: own.into(),
        };
        bench.quorum = Arc::new(Quorum::new(verifiers, needed, Arc::new(link)));
        let ledger = Arc::clone(&bench.ledger);
        let site = Site::with(bench, ledger).await;
        drop(links.0[usize::from(own)].set(site.router.clone()));
        sites.push(site);
    }
    sites
}

#[tokio::test]
async fn services_that_verify_each_other_build_at_once_and_do_not_wait_for_each_other() {
    for count in [2, 3] {
        let sites = linked(count, 9).await;
        for site in &sites {
            site.bench.executor.go.send_replace(false);
        }
        let path = format!("/{KEY}record");
        let all = futures(&sites, |_| path.clone());
        let release = async {
            for site in &sites {
                while site.started() == 0 {
                    tokio::task::yield_now().await;
                }
            }
            for site in &sites {
                site.bench.executor.go.send_replace(true);
            }
        };
        let (answers, ()) = tokio::join!(all, release);
        for (site, answer) in sites.iter().zip(answers) {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            assert_eq!((site.started(), site.records()), (1, 1));
            let envelope = site.bench.catalogue.envelope(&key()).await.unwrap();
            let envelope = String::from_utf8(envelope.unwrap()).unwrap();
            assert_eq!(envelope.matches("peer").count() + 1, usize::from(count));
            let page = site.browse(&site.built().await).await;
            let (_, told) = page.text().split_once("<dt>Same bits</dt>").unwrap();
            let (told, _) = told.split_once("</dd>").unwrap();
            assert_eq!(told.matches("<strong>peer").count() + 1, usize::from(count));
        }
    }
}

/// With one place for a build each, a service that held it while it waits for its verifier would
/// keep the other one from building what it is asked about.
#[tokio::test]
async fn other_keys_at_the_same_time_do_not_hold_each_others_places() {
    let sites = linked(2, 1).await;
    let answers = futures(&sites, |at| format!("/{}record", key_of(at))).await;
    for (site, answer) in sites.iter().zip(answers) {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!((site.started(), site.records()), (2, 1));
    }
}

async fn futures(sites: &[Site], path: impl Fn(usize) -> String) -> Vec<Answer> {
    let mut all = tokio::task::JoinSet::new();
    for (at, site) in sites.iter().enumerate() {
        let (router, path) = (site.router.clone(), path(at));
        all.spawn(async move {
            let request = Request::get(path).header("host", "localhost");
            let response = router.oneshot(request.body(Body::empty()).unwrap()).await;
            let (head, body) = response.unwrap().into_parts();
            let body = to_bytes(body, 100_000).await.unwrap().to_vec();
            (at, head.status, head.headers, body)
        });
    }
    let mut answers = all.join_all().await;
    answers.sort_by_key(|(at, ..)| *at);
    let answers = answers
        .into_iter()
        .map(|(_, status, headers, body)| Answer {
            status,
            headers,
            body,
        });
    answers.collect()
}

#[tokio::test]
async fn a_verifier_with_other_bits_stops_the_record_and_is_kept_for_a_person() {
    let sites = linked(2, 1).await;
    let [ours, liar] = &sites[..] else {
        panic!("two")
    };
    let lie = Outcome::Binary(b"other bits".to_vec());
    liar.bench.executor.set(&key(), lie);
    let answer = ours.get(&format!("/{KEY}record")).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    for part in [
        "verifier_mismatch",
        "peer2 got SHA-256",
        "nothing was logged",
    ] {
        assert!(answer.text().contains(part), "{part}: {}", answer.text());
    }
    assert_eq!((ours.records(), ours.started()), (0, 1));
    let health = ours.get("/healthz").await;
    for part in [
        "verifiers with other bits: 1",
        "note: verifier peer2 has other bits",
    ] {
        assert!(health.text().contains(part), "{part}: {}", health.text());
    }
    // Asked again later, without a second build; the liar has come to its senses.
    ours.bench.clock.advance(60);
    let honest = Outcome::Binary(key().to_string().into_bytes());
    liar.bench.executor.set(&key(), honest);
    liar.bench
        .catalogue
        .forget_observation(KEY.to_owned())
        .await
        .unwrap();
    let answer = ours.get(&format!("/{KEY}record")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!((ours.records(), ours.started()), (1, 1));
}

#[tokio::test]
async fn one_of_two_verifiers_is_enough_when_the_operator_says_so() {
    let sites = linked(3, 1).await;
    let lie = Outcome::Binary(b"other bits".to_vec());
    sites[1].bench.executor.set(&key(), lie);
    let answer = sites[0].get(&format!("/{KEY}record")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    // The other one is told to a person whether it came in time or not.
    while sites[0].bench.catalogue.disagreements().unwrap() == 0 {
        tokio::task::yield_now().await;
    }
}
