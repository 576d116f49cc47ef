//! The page of a module: its commands are listed when somebody presses a button, and once.

use super::*;

fn listed(site: &Site) -> Vec<String> {
    site.bench.executor.listed.lock().unwrap().clone()
}

#[tokio::test]
async fn a_page_lists_nothing_by_itself_and_its_button_lists_once() {
    let site = Site::new().await;
    for path in ["/example.org/m", "/example.org/m@v1.2.3"] {
        let page = site.browse(path).await;
        assert_eq!(page.status, StatusCode::OK);
        let button = "action=\"/example.org/m@v1.2.3\" data-now>";
        assert!(page.text().contains(button), "{}", page.text());
    }
    assert!(listed(&site).is_empty());
    for _ in 0..2 {
        let done = site.post("/example.org/m@v1.2.3", "").await;
        let to = (done.status, done.header("location"));
        assert_eq!(to, (StatusCode::SEE_OTHER, "/example.org/m@v1.2.3"));
    }
    assert_eq!(listed(&site), ["example.org/m@v1.2.3"]);
    for path in ["/example.org/m", "/example.org/m@v1.2.3"] {
        let page = site.browse(path).await;
        for part in [
            "href=\"/example.org/m@v1.2.3/linux-amd64-latest/\"",
            "href=\"/example.org/m@v1.2.3/cmd/tool/linux-amd64-latest/\"",
            "M &#60;b&#62;does&#60;/b&#62; it.",
        ] {
            assert!(page.text().contains(part), "{part}\n{}", page.text());
        }
        assert!(!page.text().contains("data-now"));
    }
    // What was listed outlives the service.
    let catalogue =
        crate::serve::catalogue::Catalogue::open(&site.bench.folder.path().join("hotcell.db"));
    let kept = catalogue.unwrap().listed("example.org/m@v1.2.3".to_owned());
    assert_eq!(kept.unwrap().unwrap().unwrap().len(), 2);
}

#[tokio::test]
async fn a_module_with_one_command_leads_to_it_and_moving_names_lead_to_versions() {
    let site = Site::new().await;
    site.post("/example.org/one@v1.2.3", "").await;
    let page = site.browse("/example.org/one@v1.2.3").await;
    assert_eq!(
        (page.status, page.header("location")),
        (
            StatusCode::TEMPORARY_REDIRECT,
            "/example.org/one@v1.2.3/cmd/only/linux-amd64-latest/"
        )
    );
    let page = site.browse("/example.org/one@latest").await;
    assert_eq!(
        (
            page.status,
            page.header("location"),
            page.header("cache-control")
        ),
        (
            StatusCode::TEMPORARY_REDIRECT,
            "/example.org/one@v1.2.3",
            "no-store"
        )
    );
    let page = site.browse("/example.org/one").await;
    assert!(page.text().contains("Only is alone."), "{}", page.text());
}

#[tokio::test]
async fn a_library_is_told_so_and_what_cannot_be_listed_is_not_tried_by_itself() {
    let site = Site::new().await;
    site.post("/example.org/none@v1.2.3", "").await;
    let page = site.browse("/example.org/none@v1.2.3").await;
    assert!(page.text().contains("it is a library"), "{}", page.text());
    let refused = site.post("/example.org/ill@v1.2.3", "").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert!(refused.text().contains("bad_module"), "{}", refused.text());
    let page = site.browse("/example.org/ill@v1.2.3").await;
    assert!(
        page.text().contains("could not be listed"),
        "{}",
        page.text()
    );
    assert!(page.text().contains("Try again") && !page.text().contains("data-now"));
    site.bench.clock.advance(61); // until then the answer is that of a moment ago
    site.post("/example.org/ill@v1.2.3", "").await;
    assert_eq!(listed(&site).len(), 3);
}

#[tokio::test]
async fn a_listing_counts_like_a_build_and_only_our_own_pages_ask_for_it() {
    let site = Site::new().await;
    let path = "/example.org/m@v1.2.3";
    let origin = [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ];
    let refused = site.ask("POST", path, &origin).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert!(listed(&site).is_empty());
    let ask = |n: usize| {
        let path = format!("/example.org/m{n}@v1.2.3");
        let request = Request::builder().method("POST").uri(path);
        let request = request.header("host", "127.0.0.1:8000");
        let request = request.header("sec-fetch-site", "same-origin");
        site.send_from([192, 0, 2, 1], request.body(Body::empty()).unwrap())
    };
    for n in 0..30 {
        assert_eq!(ask(n).await.status, StatusCode::SEE_OTHER, "{n}");
    }
    let limited = ask(30).await;
    assert_eq!(limited.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.header("retry-after"), "10");
    assert_eq!(ask(3).await.status, StatusCode::SEE_OTHER); // is there already
    assert_eq!(listed(&site).len(), 30);
}

#[tokio::test]
async fn a_version_is_enough_where_the_proxy_has_no_list_of_them() {
    let site = Site::new().await;
    for path in ["/example.org/unlisted", "/example.org/unlisted@v1.2.3"] {
        let page = site.browse(path).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text());
        let button = "action=\"/example.org/unlisted@v1.2.3\" data-now>";
        assert!(page.text().contains(button), "{}", page.text());
    }
    let page = site.browse("/example.org/unlisted@v1.9.9").await;
    assert_eq!(page.status, StatusCode::NOT_FOUND);
}
