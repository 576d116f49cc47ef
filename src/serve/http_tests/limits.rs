//! What one client may ask for, and who counts as one.

use super::*;

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
