//! The operator's page: what it shows, and to whom.

use super::*;
use crate::serve::{limits::rules::Rules, testing::key_of};

impl Site {
    /// A request to the admin address.
    async fn operate(&self, method: &str, path: &str, host: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let mut request = request.header("host", host).body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer([127, 0, 0, 1].into()));
        let admin = router::admin(Arc::clone(&self.app));
        let (head, body) = admin.oneshot(request).await.unwrap().into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: to_bytes(body, 10_000_000).await.unwrap().to_vec(),
        }
    }
}

const HOST: &str = "127.0.0.1:8001";

#[tokio::test]
async fn the_operators_page_shows_what_goes_on_and_public_pages_do_not() {
    let site = Site::new().await;
    let empty = site.operate("GET", "/", HOST).await;
    assert!(
        empty.text().contains("Nobody was refused"),
        "{}",
        empty.text()
    );
    site.built().await;
    let ours = fails(FailureClass::Internal, "fault_of_ours");
    site.bench.executor.set(&key_of(8), ours);
    site.get(&format!("/{}record", key_of(8))).await;
    site.tell.send_modify(|told| {
        told.notes = vec!["moves <b>soon</b>".to_owned()];
        told.rules = Rules {
            deny: vec!["bad.example/*".parse().unwrap()],
            bad_clients: vec!["network:192.0.2.0/28".parse().unwrap()],
            rates: vec!["retry=7/77".parse().unwrap()],
            withdrawn: vec![format!("{KEY} <i>an order</i>").parse().unwrap()],
            ..Rules::default()
        };
    });
    for _ in 0..3 {
        let request = Request::get(format!("/{}record", key_of(9))).header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        site.send_from([192, 0, 2, 7], request).await;
    }
    site.bench.executor.go.send_replace(false);
    for (n, peer) in [(1, [198, 51, 100, 1]), (2, [198, 51, 100, 2])] {
        let request = Request::post(format!("/{}", key_of(n)))
            .header("host", "localhost")
            .header("sec-fetch-site", "same-origin");
        let asked = site
            .send_from(peer, request.body(Body::empty()).unwrap())
            .await;
        assert_eq!(asked.status, StatusCode::SEE_OTHER);
    }
    site.bench.clock.advance(90);
    let page = site.operate("GET", "/", HOST).await;
    let text = page.text();
    for part in [
        "1 of 1 building, 0 waiting for verifiers, 1 waiting",
        "<td>runs</td>",
        "<td>waits, 1</td>",
        "<td>198.51.100.1</td>",
        "<td>198.51.100.2</td>",
        "<td>1 min 30 s</td>",
        "fault_of_ours",
        "Internal",
        "example.org/m/cmd/tool",
        "<dt>3 times</dt><dd><code>192.0.2.7</code></dd>",
        "module denied: bad.example/*",
        "client that may only read: network:192.0.2.0/28",
        "rate of retry: 7 at once, then one in 77 s",
        "&#60;i&#62;an order",
        "moves &#60;b&#62;soon",
        "go1.26.8 <code class=\"hash\">sdk/ab</code>",
        "250.0 MB",
        "log: live",
        "<dt>Memory</dt>",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for path in [
        "/",
        "/-/instance",
        "/-/failures",
        "/healthz",
        "/api/v1/health",
    ] {
        let public = site.get(path).await;
        for secret in ["198.51.100", "192.0.2.", "bad.example"] {
            assert!(!public.text().contains(secret), "{path}: {secret}");
        }
    }
    assert_eq!(site.get("/metrics").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_operators_page_is_as_strict_as_public_ones_and_changes_nothing() {
    let site = Site::new().await;
    let page = site.operate("GET", "/", HOST).await;
    let public = site.browse("/-/instance").await;
    for name in [
        "content-security-policy",
        "x-content-type-options",
        "x-frame-options",
        "referrer-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
    ] {
        assert_eq!(page.header(name), public.header(name), "{name}");
        assert!(!page.header(name).is_empty(), "{name}");
    }
    assert_eq!(page.header("cache-control"), "no-store");
    for host in [
        "evil.example:8001",
        "127.0.0.1.evil.example",
        "0.0.0.0:8001",
        "",
    ] {
        for path in ["/", "/metrics", "/healthz", "/static/hotcell.css"] {
            let rebound = site.operate("GET", path, host).await;
            assert_eq!(rebound.status.as_u16(), 421, "{host} {path}");
            assert!(!rebound.text().contains("Verifier key"), "{host}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let answer = site.operate(method, "/", HOST).await;
        assert_eq!(answer.status.as_u16(), 405, "{method}");
        assert_eq!(answer.header("allow"), "GET,HEAD");
    }
    for (path, status) in [("/static/hotcell.css", 200), ("/example.org/m", 404)] {
        let answer = site.operate("GET", path, HOST).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
    }
}
