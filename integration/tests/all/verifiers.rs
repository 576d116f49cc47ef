//! Instances that verify each other's builds, and verifiers that are down, slow or lie.

use std::{
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_integration::{
    fake::{
        self,
        verifier::{Manner, Verifier, statement},
    },
    host, http, paths, sdk,
    service::{self, Place, Service, build_path, record_path},
    tools,
};
use serde_json::Value;
use tempfile::TempDir;

/// How much longer verified builds may take than as many that nobody verifies. They wait for the
/// slowest of them and ask a few times; the rest is the noise of busy machines.
const RATIO_MAX: f64 = 3.0;
/// A failure is repeated for 15 s before it is tried again.
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Instances, and all others as verifiers of each when `verified`. In long runs their stores are
/// empty, so that what takes as long as all that a first build has to do is compared, too.
fn instances(count: usize, verified: bool) -> Vec<(TempDir, Service)> {
    let doors: Vec<_> = (0..count)
        .map(|_| Verifier::start(Manner::Honest))
        .collect();
    let folders: Vec<_> = (0..count).map(|_| paths::scratch("verifiers")).collect();
    let place = |folder: &TempDir| Place::new(folder.path(), fake::shared());
    // A first start makes the keys and nothing else.
    let key = |folder| place(folder).serve(&[]).statement_key();
    let keys: Vec<String> = folders.iter().map(key).collect();
    let all = folders.into_iter().enumerate().map(|(own, folder)| {
        let mut options = Vec::new();
        for other in (0..count).filter(|other| *other != own && verified) {
            let option = format!("peer{other} {} {}", keys[other], doors[other].url());
            options.extend(["--verifier".to_owned(), option]);
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let mut place = place(&folder);
        if !tools::is_long() {
            place = place.stocked();
        }
        let service = place.serve(&options);
        doors[own].set_behind(service.url());
        (folder, service)
    });
    all.collect()
}

/// Asks all of them for the same record at once; how long it takes until the last one has it.
fn all_at_once(services: &[(TempDir, Service)], module: &str) -> Duration {
    let begin = Instant::now();
    let records: Vec<String> = thread::scope(|scope| {
        let asked = services.iter().map(|(_, service)| {
            scope.spawn(move || {
                let answer = http::get(&service.record_url(module));
                let trace = || format!("{}\n{}", answer.text(), service.trace());
                assert_eq!(answer.status, 200, "{}", trace());
                answer.text()
            })
        });
        let asked: Vec<_> = asked.collect();
        let records = asked.into_iter().map(|one| one.join().expect("a record"));
        records.collect()
    });
    assert!(records.iter().all(|record| *record == records[0]));
    begin.elapsed()
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

/// What verifiers said, as the provenance of this build has it.
fn seen(service: &Service, module: &str) -> Vec<Value> {
    let path = build_path(module);
    let proof = format!("{}/tlog/proof/by-key{path}", service.url());
    let proof = http::get(&proof).text();
    let extra = proof.lines().find_map(|line| line.strip_prefix("extra "));
    let extra = STANDARD.decode(extra.expect("a receipt")).expect("base64");
    let extra: Value = serde_json::from_slice(&extra).expect("JSON");
    let statement = statement(extra["envelope"].as_str().expect("an envelope"));
    let list = &statement["predicate"]["runDetails"]["byproducts"];
    let list = list.as_array().expect("a list").iter();
    list.filter(|one| one["name"] == "observation")
        .cloned()
        .collect()
}

#[test]
fn instances_that_verify_each_other_are_done_within_about_one_build() {
    // Times are compared of what takes long: a first build, or one of a large module, of which
    // three at once would be ten minutes of work.
    for (count, long, is_timed) in match tools::is_long() {
        true => [(2, "ex.example/hello", true), (3, "ex.example/hello", true)],
        false => [(2, "ex.example/big", true), (3, "ex.example/hello", false)],
    } {
        let short = "ex.example/many1";
        let strangers = instances(count, false);
        let alone = all_at_once(&strangers, long);
        let short_alone = all_at_once(&strangers, short);
        drop(strangers);
        let peers = instances(count, true);
        let verified = all_at_once(&peers, long);
        let short_verified = all_at_once(&peers, short);
        let ratios = (ratio(verified, alone), ratio(short_verified, short_alone));
        let told = format!(
            "{count} instances at once, {long}: {alone:.1?} alone, {verified:.1?} verified, \
             ratio {:.2}; {short}: {short_alone:.1?}, {short_verified:.1?}, ratio {:.2}",
            ratios.0, ratios.1
        );
        #[expect(clippy::print_stderr, reason = "shown with --nocapture")]
        {
            eprintln!("{told}");
        }
        for (_, service) in &peers {
            let seen = seen(service, long);
            assert_eq!(seen.len(), count - 1, "{seen:?}");
            assert!(seen.iter().all(|one| one["annotations"]["agrees"] == true));
            let metrics = http::get(&format!("{}/healthz", service.url())).text();
            assert!(metrics.contains("a build is published when"), "{metrics}");
        }
        assert!(!is_timed || ratios.0 < RATIO_MAX, "{told}");
    }
}

/// An instance that this verifier, and perhaps nobody at a closed port, verify.
fn verified_by(place: &Place, verifier: &Verifier, dead: bool, more: &[&str]) -> Service {
    let option = verifier.option("peer");
    let key = "0".repeat(63);
    let nobody = format!("dead ed25519:{key}1 http://127.0.0.1:9");
    let mut options = vec!["--verifier", &option];
    if dead {
        options.extend(["--verifier", &nobody]);
    }
    options.extend(more);
    place.serve(&options)
}

#[test]
fn a_verifier_that_says_nothing_that_counts_holds_the_record_back() {
    let folder = paths::scratch("verified");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let verifier = Verifier::start(Manner::Agrees);
    let service = verified_by(&place, &verifier, false, &[]);
    verifier.set_behind(service.url());
    service.builds("ex.example/hello");
    let agreed = seen(&service, "ex.example/hello");
    assert_eq!(agreed[0]["annotations"]["verifier"], "peer", "{agreed:?}");
    let size = || {
        let checkpoint = http::get(&format!("{}/tlog/checkpoint", service.url())).text();
        checkpoint.lines().nth(1).unwrap_or_default().to_owned()
    };
    let before = size();
    for (manner, module, status, words) in [
        (
            Manner::Lies,
            "many2",
            502,
            &["verifier_mismatch", "peer got SHA-256 0707"][..],
        ),
        (
            Manner::Garbage,
            "many3",
            503,
            &["verifiers_unavailable", "no observation"],
        ),
        (
            Manner::Honest,
            "many4",
            503,
            &["verifiers_unavailable", "not signed by its key"],
        ),
        (
            Manner::Endless,
            "many5",
            503,
            &["verifiers_unavailable", "no text of at most"],
        ),
        (
            Manner::Refuses,
            "many6",
            503,
            &["verifiers_unavailable", "build_failed: no?[31m"],
        ),
    ] {
        verifier.set_manner(manner);
        let answer = http::get(&service.record_url(&format!("ex.example/{module}")));
        assert_eq!(answer.status, status, "{manner:?}: {}", answer.text());
        for word in words {
            assert!(answer.text().contains(word), "{word}: {}", answer.text());
        }
        let retry = answer.header("retry-after");
        assert_eq!(retry.is_empty(), status == 502, "{manner:?}: {retry}");
        assert_eq!(size(), before, "{manner:?}: something was logged");
    }
    let health = http::get(&format!("{}/healthz", service.url())).text();
    assert!(health.contains("verifiers with other bits: 1"), "{health}");
    // Nothing is lost: what was held back is published when the verifier agrees.
    verifier.set_manner(Manner::Agrees);
    for module in ["many2", "many3"] {
        let url = service.record_url(&format!("ex.example/{module}"));
        let record = host::wait_for(AGAIN_MAX, || (http::get(&url).status == 200).then_some(()));
        assert!(record.is_some(), "{module}: {}", service.trace());
    }
    let modules = ["many2", "many3"].map(|module| format!("ex.example/{module}@v1.0.0"));
    for module in modules {
        let trace = service.trace();
        let ended = trace.matches(&format!("runs: {module}")).count();
        assert!(
            ended >= 2,
            "{module} was built once and verified again: {ended}"
        );
    }
}

#[test]
fn verifiers_that_are_not_needed_may_be_down_or_slow() {
    let folder = paths::scratch("quorum");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let verifier = Verifier::start(Manner::Agrees);
    let mut service = verified_by(&place, &verifier, true, &["--verifiers-quorum", "1"]);
    verifier.set_behind(service.url());
    service.builds("ex.example/hello");
    assert_eq!(seen(&service, "ex.example/hello").len(), 1);
    assert_eq!(service.stop(), 0);
    // All are needed when nothing else is said.
    let verifier = Verifier::start(Manner::Agrees);
    let mut service = verified_by(&place, &verifier, true, &[]);
    verifier.set_behind(service.url());
    let answer = http::get(&service.record_url("ex.example/many7"));
    let text = answer.text();
    assert_eq!(answer.status, 503, "{text}");
    for word in [
        "1 of the 2 verifiers",
        "agreed: peer",
        "dead gave no observation",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(service.stop(), 0);
    // What was built then needs no second build, and one that never answers is not waited for.
    let (slow, quick) = (
        Verifier::start(Manner::Silent),
        Verifier::start(Manner::Honest),
    );
    let other = paths::scratch("other");
    let peer = Place::new(other.path(), fake::shared())
        .stocked()
        .serve(&[]);
    quick.set_behind(peer.url());
    let quick = format!("quick {} {}", peer.statement_key(), quick.url());
    // A log of gobuild's form is another kind of verifier.
    let log = format!("log {} {}/tlog", peer.verifier_key(), peer.url());
    let needed = ["--verifiers-quorum", "2"];
    let more = [["--verifier", &quick], ["--verifier", &log], needed].concat();
    let service = verified_by(&place, &slow, false, &more);
    slow.set_behind(service.url());
    service.builds("ex.example/many7");
    let page = format!("{}{}", peer.url(), record_path("ex.example/many7"));
    assert_eq!(http::get(&page).status, 200, "the peer has it too now");
}

#[test]
fn a_person_asks_instances_what_they_get_and_is_told_whose_word_it_is() {
    let service = service::service();
    let folder = paths::scratch("against");
    let place = Place::new(folder.path(), fake::shared());
    let tlog = format!("{}/tlog", service.url());
    let spec = "ex.example/hello@v1.0.0";
    let get = ["get", spec, "--go", sdk::GO, "--url", &tlog];
    place
        .run(get)
        .args(["--verifierkey", service.verifier_key()])
        .succeed();
    let against = |url: &str| place.run(["verify", "hello", "--against", url]).wait();
    let door = |manner| {
        let door = Verifier::start(manner);
        door.set_behind(service.url());
        door.url()
    };
    let pinned = |key: &str| format!("{key}@{}", service.url());
    let stranger = format!("ed25519:{}1", "0".repeat(63));
    for (url, code, words) in [
        (
            service.url(),
            0,
            &["got the same bits", "not known before"][..],
        ),
        (
            pinned(&service.statement_key()),
            0,
            &["got the same bits", "that you gave"],
        ),
        (
            pinned(&stranger),
            4,
            &["gave no answer", "not signed by its key"],
        ),
        (
            door(Manner::Lies),
            3,
            &["GOT OTHER BITS: 0707", "not known before"],
        ),
        (
            door(Manner::Garbage),
            4,
            &["gave no answer", "no observation"],
        ),
        ("http://127.0.0.1:9".to_owned(), 4, &["gave no answer"]),
    ] {
        let ended = against(&url);
        let said = format!("{}\n{}", ended.out(), ended.err());
        assert_eq!(ended.code, code, "{url}: {said}");
        for word in words {
            assert!(said.contains(word), "{url}: {word} in {said}");
        }
        assert!(
            said.contains("companion leaf"),
            "the receipt counts: {said}"
        );
    }
    // Without a log: the bits that were built here, and the unsigned statement beside them.
    let own = service::user().folder.join("against");
    let ended = service::user().build(spec, &own, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let own = own.display().to_string();
    let (honest, liar) = (service.url(), door(Manner::Lies));
    for (urls, code) in [(vec![&honest], 0), (vec![&honest, &liar], 3)] {
        let verify = place.run(["verify", &own, "--json", "--against"]);
        let ended = verify.args(urls).wait();
        assert_eq!(ended.code, code, "{}", ended.err());
        let json = ended.json();
        assert_eq!(json["receipt"], Value::Null);
        assert_eq!(json["against"][0]["answer"], "same");
    }
}
