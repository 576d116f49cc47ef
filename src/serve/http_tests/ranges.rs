//! Parts of downloads.

use super::*;

#[tokio::test]
async fn a_download_that_broke_off_goes_on_where_it_was() {
    let site = Site::new().await;
    let path = format!("{}{NAME}", site.built().await);
    let first = site.get(&path).await;
    let (tag, all) = (first.header("etag").to_owned(), first.body.len());
    assert_eq!(first.header("accept-ranges"), "bytes");
    let half = all / 2;
    let rest = format!("bytes={half}-");
    for headers in [
        &[("range", rest.as_str())][..],
        &[("range", &rest), ("if-range", &tag)],
    ] {
        let part = site.ask("GET", &path, headers).await;
        assert_eq!(part.status, StatusCode::PARTIAL_CONTENT);
        let range = format!("bytes {half}-{}/{all}", all - 1);
        assert_eq!(part.header("content-range"), range);
        assert_eq!(part.header("content-length"), (all - half).to_string());
        assert_eq!(part.body, first.body[half..]);
        for field in ["etag", "cache-control", "content-security-policy"] {
            assert_eq!(part.header(field), first.header(field), "{field}");
        }
    }
    let head = site.ask("HEAD", &path, &[("range", &rest)]).await;
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(head.header("content-length"), all.to_string());
    let both = [("range", rest.as_str()), ("if-none-match", &tag)];
    let kept = site.ask("GET", &path, &both).await;
    assert_eq!(kept.status, StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn whoever_has_another_file_or_asks_for_much_gets_all_of_it() {
    let site = Site::new().await;
    let path = format!("{}{NAME}", site.built().await);
    let all = site.get(&path).await.body;
    for headers in [
        &[("range", "bytes=0-1"), ("if-range", "\"other\"")][..],
        &[("range", "bytes=0-1,3-4")],
        &[("range", "lines=0-1")],
    ] {
        let answer = site.ask("GET", &path, headers).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::OK, &all));
        assert_eq!(answer.header("content-range"), "");
    }
    let gzip = format!("{path}.gz");
    let answer = site.ask("GET", &gzip, &[("range", "bytes=0-1")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("accept-ranges"), "");
}

#[tokio::test]
async fn bytes_that_a_download_does_not_have_are_refused_and_not_kept() {
    let site = Site::new().await;
    let path = format!("{}{NAME}", site.built().await);
    let all = site.get(&path).await.body.len();
    let range = format!("bytes={all}-");
    let answer = site.ask("GET", &path, &[("range", &range)]).await;
    assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(answer.header("content-range"), format!("bytes */{all}"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.text().starts_with("bad_range"), "{}", answer.text());
}
