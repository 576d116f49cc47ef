//! What one client may ask for, and who counts as one.

use super::*;
use std::sync::atomic::Ordering::Relaxed;

use crate::serve::{
    limits::{Class, budget::Budget},
    testing::key_of,
};

impl Site {
    /// A request of a browser on our own page, over a connection from `peer`.
    async fn click(&self, peer: [u8; 4], forwarded: Option<&str>, path: &str) -> Answer {
        let mut request = Request::post(path)
            .header("host", "localhost")
            .header("sec-fetch-site", "same-origin");
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        self.send_from(peer, request.body(Body::empty()).unwrap())
            .await
    }
}

const PROXY: [u8; 4] = [127, 0, 0, 9];

#[tokio::test]
async fn visitors_behind_a_trusted_proxy_are_told_apart_and_others_cannot_choose_who_they_are() {
    let site = Site::new().await;
    let fails = fails(FailureClass::CannotBuild, "build_failed");
    site.bench.executor.set(&key(), fails);
    let retry = format!("/{KEY}retry");
    for (peer, forwarded, status) in [
        (PROXY, Some("198.51.100.1"), 303),
        (PROXY, Some("198.51.100.2"), 303),
        (PROXY, Some("203.0.113.9, 198.51.100.2"), 429),
        (PROXY, Some("garbage"), 303),
        (PROXY, Some("other garbage"), 429),
        ([192, 0, 2, 1], Some("198.51.100.3"), 303),
        ([192, 0, 2, 1], Some("198.51.100.4"), 429),
    ] {
        let answer = site.click(peer, forwarded, &retry).await;
        assert_eq!(answer.status.as_u16(), status, "{peer:?} {forwarded:?}");
    }
}

fn record_of(n: usize) -> String {
    format!("/{}record", key_of(n))
}

impl Site {
    async fn fetch(&self, peer: [u8; 4], path: &str) -> Answer {
        let request = Request::get(path).header("host", "localhost");
        self.send_from(peer, request.body(Body::empty()).unwrap())
            .await
    }
}

#[tokio::test]
async fn who_asks_for_too_much_is_told_when_to_come_back_and_what_exists_costs_nothing() {
    let site = Site::new().await;
    let (one, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    for n in 0..30 {
        assert_eq!(site.fetch(one, &record_of(n)).await.status, StatusCode::OK);
    }
    let refused = site.fetch(one, &record_of(30)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "10");
    let text = "limited: the limit for lookups of what is not built yet from your address is \
        reached\ncome back in 10 s; what is built already has no limit\n";
    assert_eq!(refused.text(), text);
    let lookup = site
        .fetch(one, &format!("/tlog/lookup/{}", key_of(30)))
        .await;
    assert_eq!(lookup.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(site.started(), 30);

    for _ in 0..100 {
        assert_eq!(site.fetch(one, &record_of(7)).await.status, StatusCode::OK);
    }
    let page = site.fetch(one, &format!("/{}", key_of(30))).await;
    assert_eq!(page.status, StatusCode::OK, "a page starts nothing");
    let person = site.click(one, None, &format!("/{}", key_of(31))).await;
    assert_eq!(person.status, StatusCode::SEE_OTHER, "another class");
    let answer = site.fetch(other, &record_of(30)).await;
    assert_eq!(answer.status, StatusCode::OK, "another client");
    site.bench.clock.advance(10);
    let answer = site.fetch(one, &record_of(32)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(site.app.metrics.limited_of(Class::Lookup), 2);
}

#[tokio::test]
async fn to_join_a_build_that_goes_on_costs_nothing() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    site.click([192, 0, 2, 9], None, &format!("/{KEY}")).await;
    for _ in 0..100 {
        let answer = site.click([192, 0, 2, 1], None, &format!("/{KEY}")).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn names_and_observations_have_limits_and_the_operator_has_none() {
    let site = Site::new().await;
    let name = "/api/v1/specs?spec=example.org/m@latest/cmd/tool&go=go1.26.8";
    let mut asked = 0;
    while site.fetch([192, 0, 2, 1], name).await.status == StatusCode::OK {
        asked += 1;
    }
    assert_eq!(asked, 120);
    for _ in 0..200 {
        assert_eq!(site.get(name).await.status, StatusCode::OK);
    }
    let observe = |n| {
        let question = serde_json::json!({ "key": key_of(n).to_string() }).to_string();
        let request = Request::post("/api/v1/observations").header("host", "localhost");
        site.send_from([192, 0, 2, 1], request.body(Body::from(question)).unwrap())
    };
    for n in 0..120 {
        assert_eq!(observe(n).await.status, StatusCode::OK, "{n}");
    }
    assert_eq!(observe(120).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(observe(7).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_log_grows_by_its_budget_a_day_and_what_exists_is_served() {
    let mut bench = Bench::new();
    bench.budget = Budget { all: 5, module: 2 };
    let ledger = Arc::clone(&bench.ledger);
    let site = Site::with(bench, ledger).await;
    let one = [192, 0, 2, 1];
    let version = |n: usize| format!("/example.org/m@v1.0.{n}/linux-amd64-go1.26.8/record");
    for n in 0..2 {
        assert_eq!(site.fetch(one, &version(n)).await.status, StatusCode::OK);
        site.bench.clock.advance(3_600);
    }
    let refused = site.fetch(one, &version(2)).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    let text = "limited: example.org/m has got its new records of the day\n";
    assert!(refused.text().starts_with(text), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), "3600");
    let operator = site.get(&version(2)).await;
    assert_eq!(operator.status, StatusCode::OK);
    for n in 0..2 {
        assert_eq!(site.fetch(one, &record_of(n)).await.status, StatusCode::OK);
    }
    for answer in [
        site.fetch(one, &record_of(2)).await,
        site.get(&record_of(2)).await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let text = "busy: the log has got its new records of the day\n";
        assert!(answer.text().starts_with(text), "{}", answer.text());
    }
    for path in [version(0), version(2), record_of(0)] {
        assert_eq!(site.fetch(one, &path).await.status, StatusCode::OK);
    }
    assert_eq!(site.started(), 5);
    assert_eq!(site.app.metrics.over_budget.load(Relaxed), 3);

    // What was built on the day before counts no more, after a restart neither.
    site.bench.clock.advance(22 * 3_600 - 1);
    let early = site.fetch(one, &version(3)).await;
    assert_eq!(early.header("retry-after"), "60");
    site.bench.clock.advance(1);
    assert_eq!(
        site.fetch(one, &version(3)).await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    site.bench.clock.advance(2 * 3_600);
    assert_eq!(site.fetch(one, &version(3)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_no_of_the_module_proxy_is_the_answer_for_a_moment() {
    let site = Site::new().await;
    let asked = || site.bench.executor.resolved.load(Relaxed);
    let name = |version| format!("/api/v1/specs?spec=example.org/m@{version}/cmd/tool&go=go1.26.8");
    for (version, status, kept_s) in [("v1.9.9", 404, 60), ("v0.0.9", 502, 10)] {
        let before = asked();
        for _ in 0..200 {
            let answer = site.fetch([192, 0, 2, 1], &name(version)).await;
            assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
        }
        site.bench.clock.advance(kept_s - 1);
        site.get(&name(version)).await;
        assert_eq!(asked(), before + 1, "{version}");
        site.bench.clock.advance(1);
        site.get(&name(version)).await;
        assert_eq!(asked(), before + 2, "{version}");
    }
    let before = asked();
    for _ in 0..3 {
        assert_eq!(site.get(&name("latest")).await.status, StatusCode::OK);
    }
    assert_eq!(asked(), before + 3, "a yes is not kept");
}

#[tokio::test]
async fn all_who_ask_for_a_name_at_once_share_one_question() {
    let site = Site::new().await;
    let name = "/api/v1/specs?spec=example.org/m@latest/cmd/tool&go=go1.26.8";
    let ask = |n: u8| site.fetch([192, 0, 2, n], name);
    let (one, two, three) = tokio::join!(ask(1), ask(2), ask(3));
    for answer in [one, two, three] {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(site.bench.executor.resolved.load(Relaxed), 1);
}

#[tokio::test]
async fn a_person_whose_form_is_refused_is_told_when_to_come_back() {
    let site = Site::new().await;
    let mut refused = None;
    for n in 0..200 {
        let form = format!("spec=example.org/m{n}@latest/cmd/tool&go=go1.26.8");
        let request = Request::post("/")
            .header("host", "localhost")
            .header("sec-fetch-site", "same-origin")
            .header("accept", "text/html")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form));
        let answer = site.send_from([192, 0, 2, 1], request.unwrap()).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let page = refused.expect("nobody may ask for that much");
    assert!(!page.header("retry-after").is_empty(), "{}", page.text());
    assert!(page.text().contains("<form") && page.text().contains("come back in "));
}
