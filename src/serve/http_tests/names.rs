//! Rules about what the addresses of visitors are called.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::serve::{limits::rules::Rules, testing::key_of};

/// The trusted proxy.
const PROXY: [u8; 4] = [127, 0, 0, 9];

#[tokio::test(start_paused = true)]
async fn a_client_is_barred_by_what_its_address_is_called() {
    let site = Site::new().await;
    let named = || site.bench.executor.named.lock().unwrap().len();
    let ask = |last: u8, n| {
        let path = format!("/{}record", key_of(n));
        let site = &site;
        async move { site.read([198, 51, 100, last], &path, &[]).await.status }
    };
    assert_eq!(ask(13, 0).await, StatusCode::OK);
    assert_eq!(named(), 0, "nobody is looked up when no rule asks for it");
    let bad_clients = vec!["host:Crawler.example".parse().unwrap()];
    let rules = Rules {
        bad_clients,
        ..Rules::default()
    };
    site.rule(rules.clone());
    for (last, status) in [
        (13, StatusCode::FORBIDDEN), // below the name
        (14, StatusCode::OK),        // ends as the name does
        (15, StatusCode::OK),        // the resolver does not answer
        (16, StatusCode::OK),        // nor does it here, and a second is waited
        (17, StatusCode::OK),        // has no name
    ] {
        assert_eq!(ask(last, last.into()).await, status, "{last}");
    }
    // What exists is open to all, and a name is looked up once in an hour.
    assert_eq!(ask(13, 0).await, StatusCode::OK);
    assert_eq!(ask(13, 30).await, StatusCode::FORBIDDEN);
    assert_eq!(named(), 5);
    site.bench.clock.advance(3_600);
    assert_eq!(ask(13, 30).await, StatusCode::FORBIDDEN);
    assert_eq!(named(), 6);
    // Whom a trusted proxy names is who counts; the operator is never looked up.
    let far = |address| [("x-forwarded-for", address)];
    let path = format!("/{}record", key_of(31));
    let six = site.read(PROXY, &path, &far("2001:db8::1")).await;
    assert_eq!(six.status, StatusCode::FORBIDDEN);
    let mapped = site.read(PROXY, &path, &far("::ffff:198.51.100.13")).await;
    assert_eq!(mapped.status, StatusCode::FORBIDDEN);
    let operator = site.read([127, 0, 0, 1], &path, &[]).await;
    assert_eq!((operator.status, named()), (StatusCode::OK, 7));
    assert_eq!(site.app.metrics.names_unknown.load(Relaxed), 2);
}
