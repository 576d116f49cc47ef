//! Addresses of gobuild that have another form here, and what a client has kept.

use std::sync::atomic::Ordering::Relaxed;

use super::*;

#[tokio::test]
async fn links_of_gobuild_lead_to_our_pages_and_to_no_other_site() {
    let site = Site::new().await;
    for (from, to) in [
        ("/?m=example.org/m", "/example.org/m"),
        (
            "/?m=https://example.org/m@v1.2.3/",
            "/example.org/m@v1.2.3/",
        ),
        ("/?m=example.org/m&other=x", "/example.org/m"),
        (
            "/?m=https://hc.example/example.org/m@v1.2.3/linux-arm64-go1.26.0",
            "/example.org/m@v1.2.3/linux-arm64-go1.26.0/",
        ),
        ("/m/example.org/m", "/example.org/m"),
        ("/example.org/m/", "/example.org/m"),
        (&format!("/b/{KEY}"), &format!("/{KEY}")),
        (&format!("/b/{KEY}dl"), &format!("/{KEY}dl")),
        (
            &format!("/{}", KEY.trim_end_matches('/')),
            &format!("/{KEY}"),
        ),
    ] {
        let answer = site.get(from).await;
        let got = (answer.status, answer.header("location"));
        assert_eq!(got, (StatusCode::TEMPORARY_REDIRECT, to), "{from}");
        assert_eq!(answer.header("cache-control"), "no-store", "{from}");
    }
    for from in [
        "/?m=//attacker.example/x",
        "/?m=%5C%5Cattacker.example",
        "/?m=/example.org/m",
        "/m//attacker.example/x",
        "/b/https://attacker.example/x",
        "/r/",
    ] {
        let answer = site.get(from).await;
        assert_eq!(answer.header("location"), "", "{from}");
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{from}");
    }
    // A person gets the form back, with what they typed.
    let page = site.browse("/?m=%3Cscript%3Ealert(1)").await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.text().contains("alert(1)") && !page.text().contains("<script>alert"));
    assert_eq!(site.get("/?m=").await.status, StatusCode::OK);
    assert_eq!(site.get("/?other=x").await.status, StatusCode::OK);
    assert_eq!(site.get("/?m=%FF").await.status, StatusCode::BAD_REQUEST);
    let moved = site.post(&format!("/b/{KEY}"), "").await;
    assert_eq!(moved.status, StatusCode::BAD_REQUEST);
    assert_eq!(site.started(), 0);
}

#[tokio::test]
async fn nobody_is_asked_about_files_of_other_web_servers() {
    let site = Site::new().await;
    for path in ["/wp-login.php", "/sitemap.xml", "/index.html", "/.env"] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text().starts_with("not_found: "), "{path}");
    }
    assert_eq!(site.bench.executor.resolved.load(Relaxed), 0);
    site.get("/get.sh").await;
    assert_ne!(site.bench.executor.resolved.load(Relaxed), 0);
}

#[tokio::test]
async fn a_download_that_the_client_has_is_not_sent_again() {
    let site = Site::new().await;
    let result = site.built().await;
    for name in [NAME.to_owned(), format!("{NAME}.gz")] {
        let path = format!("{result}{name}");
        let first = site.get(&path).await;
        let tag = first.header("etag").to_owned();
        assert_eq!(first.status, StatusCode::OK);
        for kept in [&tag, &format!("\"x\", W/{tag}"), "*"] {
            let again = site.ask("GET", &path, &[("if-none-match", kept)]).await;
            assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{kept}");
            assert!(again.body.is_empty());
            assert_eq!(again.header("etag"), tag);
            for field in ["cache-control", "content-security-policy"] {
                assert_eq!(again.header(field), first.header(field), "{field}");
            }
        }
        for other in ["\"x\"", "", &tag[1..], "\u{ff}"] {
            let again = site.ask("GET", &path, &[("if-none-match", other)]).await;
            assert_eq!(
                (again.status, again.body),
                (StatusCode::OK, first.body.clone())
            );
        }
    }
}
