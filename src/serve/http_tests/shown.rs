//! The page of a result is made once for many visitors, and anew whenever something has changed.

use super::*;
use crate::serve::limits::rules::Rules;

/// Puts other text in the place of each page that was made.
fn mark(site: &Site) {
    let (made, _) = site.app.shown.get(KEY).expect("it was made");
    let marked = axum::body::Bytes::from_static(b"<p>made before</p>");
    site.app.shown.keep(KEY.to_owned(), made, marked);
}

async fn is_new(site: &Site, result: &str) -> bool {
    let page = site.browse(result).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    let is_new = page.text() != "<p>made before</p>";
    mark(site);
    is_new
}

/// The page becomes the same again, soon: a build is not over with its answer, its binary is
/// compressed after it.
async fn settle(site: &Site, result: &str) {
    let mut same = 0;
    for _ in 0..100 {
        same = if is_new(site, result).await {
            0
        } else {
            same + 1
        };
        if same == 3 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("it is made anew each time");
}

#[tokio::test]
async fn a_page_of_a_result_is_made_anew_when_something_has_changed_and_only_then() {
    let site = Site::new().await;
    let result = site.built().await;
    assert!(is_new(&site, &result).await);
    settle(&site, &result).await;
    // Another target is built, which the page tells.
    let other = KEY.replace("linux", "freebsd");
    assert_eq!(
        site.get(&format!("/{other}record")).await.status,
        StatusCode::OK
    );
    assert!(is_new(&site, &result).await);
    settle(&site, &result).await;
    // The operator withdraws it, for another reason than before, and gives it back.
    for reason in ["a court", "another court"] {
        let withdrawn = format!("{KEY} {reason}");
        site.rule(Rules {
            withdrawn: vec![withdrawn.parse().unwrap()],
            ..Rules::default()
        });
        let page = site.browse(&result).await;
        assert!(page.text().contains(reason), "{}", page.text());
    }
    site.rule(Rules::default());
    assert!(!site.browse(&result).await.text().contains("court"));
    // Whoever sees us under another name is told that one.
    mark(&site);
    let named = [("host", "build.example.org"), ("accept", "text/html")];
    let page = site.ask("GET", &result, &named).await;
    assert!(page.text().contains("http://build.example.org/tlog"));
    let page = site.browse(&result).await;
    assert!(page.text().contains("http://127.0.0.1:8000/tlog"));
    // Under another sum there is no page, whatever was made.
    let wrong = result.replace(
        result.trim_end_matches('/').rsplit('/').next().unwrap(),
        "0AAAAAAAAAAAAAAAAAAAAAAAAAAA",
    );
    assert_eq!(site.browse(&wrong).await.status, StatusCode::NOT_FOUND);
}
