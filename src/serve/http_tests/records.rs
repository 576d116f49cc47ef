//! New leaves as an event stream.

use tokio_stream::StreamExt as _;

use super::*;

/// Opens the stream and reads the first events, as text; then the reader goes away.
async fn read(site: &Site, path: &str, headers: &[(&str, &str)], until: &str) -> String {
    let mut request = Request::get(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).unwrap();
    let response = site.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let mut body = response.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains(until) {
        let chunk = body.next().await.unwrap().unwrap();
        text += std::str::from_utf8(&chunk).unwrap();
    }
    text
}

#[tokio::test]
async fn leaves_are_told_from_where_the_reader_was_and_when_the_log_grows() {
    const PATH: &str = "/api/v1/records/events";
    let site = Site::new().await;
    let all = read(&site, &format!("{PATH}?from=0"), &[], "leaf 2").await;
    let ids: Vec<_> = all
        .lines()
        .filter(|line| line.starts_with("id: "))
        .collect();
    assert_eq!(ids, ["id: 0", "id: 1", "id: 2"]);
    assert!(
        all.contains("event: leaf\n") && all.contains(r#"data: {"index":1,"text":"leaf 1\n"}"#)
    );
    // The header counts more than the query, which a browser repeats.
    let last = [("last-event-id", "1")];
    let rest = read(&site, &format!("{PATH}?from=0"), &last, "leaf 2").await;
    assert!(!rest.contains("leaf 1"), "{rest}");
    let grow = async {
        tokio::task::yield_now().await;
        site.bench.ledger.sizes.send_replace(5);
    };
    let (new, ()) = tokio::join!(read(&site, PATH, &[], "leaf 4"), grow);
    assert!(!new.contains("leaf 2"), "{new}");
    // A log of more leaves than one reading has.
    site.bench.ledger.sizes.send_replace(300);
    let many = read(&site, &format!("{PATH}?from=10"), &[], "leaf 299").await;
    assert_eq!(many.matches("event: leaf").count(), 290);
}

#[tokio::test]
async fn what_is_no_index_is_refused_and_streams_end_with_the_service() {
    let site = Site::new().await;
    for bad in ["x", "-1", "01", "99999999999999999999", ""] {
        let answer = site
            .get(&format!("/api/v1/records/events?from={bad}"))
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    site.stop.send_replace(true);
    let ended = site.get("/api/v1/records/events?from=0").await;
    assert_eq!(ended.status, StatusCode::OK);
}
