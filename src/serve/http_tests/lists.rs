//! Pages that lead through what was built.

use super::*;

const STRIPPED: &str = "example.org/m@v1.2.3/cmd/tool/linux-amd64-go1.26.8-stripped/";

#[tokio::test]
async fn a_search_finds_packages_by_any_word_and_takes_what_people_paste() {
    let site = Site::new().await;
    let empty = site.browse("/-/search?q=tool").await;
    assert_eq!(empty.status, StatusCode::OK);
    assert!(
        empty.text().contains("was built here yet"),
        "{}",
        empty.text()
    );
    let result = site.built().await;
    for asked in [
        "tool",
        "M/CMD/TOO",
        "example.org%2Fm%40v9.9.9",
        "https%3A%2F%2Fpkg.go.dev%2Fexample.org%2Fm%2Fcmd%2Ftool%3Ftab%3Dversions",
    ] {
        let page = site.browse(&format!("/-/search?q={asked}")).await;
        assert!(
            page.text().contains(&format!("href=\"{result}\"")),
            "{asked}: {}",
            page.text()
        );
    }
    for asked in ["", "%25", "_ool", "%27%20OR%201=1--", "other"] {
        let page = site.browse(&format!("/-/search?q={asked}")).await;
        assert_eq!(page.status, StatusCode::OK, "{asked}");
        assert!(!page.text().contains(&result), "{asked}: {}", page.text());
    }
    let page = site.browse("/-/search?q=%3Cb%3Ex%00").await;
    assert!(!page.text().contains("<b>x"), "{}", page.text());
    assert_eq!(site.started(), 1);
}

#[tokio::test]
async fn failures_are_listed_with_their_reason() {
    let site = Site::new().await;
    let none = site.browse("/-/failures").await;
    assert!(none.text().contains("Nothing has failed lately"));
    let fails = fails(FailureClass::CannotBuild, "build_failed");
    site.bench.executor.set(&key(), fails);
    let failed = site.get(&format!("/{KEY}record")).await;
    assert_eq!(failed.status, StatusCode::NOT_FOUND);
    let page = site.browse("/-/failures").await;
    assert!(
        page.text().contains(&format!("href=\"/{KEY}\"")),
        "{}",
        page.text()
    );
    assert!(
        page.text().contains("<code>build_failed</code>"),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn two_results_are_compared_and_lead_to_each_other() {
    let site = Site::new().await;
    let result = site.built().await;
    let alone = site.browse(&result).await;
    assert!(
        !alone.text().contains("/-/compare"),
        "nothing to compare with"
    );
    let path = format!("/-/compare?a={KEY}&b={STRIPPED}");
    let missing = site.browse(&path).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(
        missing.text().contains("is not built here"),
        "{}",
        missing.text()
    );
    assert_eq!(
        site.get(&format!("/{STRIPPED}record")).await.status,
        StatusCode::OK
    );
    let page = site.browse(&result).await;
    assert!(
        page.text().contains(&format!("value=\"{STRIPPED}\"")),
        "{}",
        page.text()
    );
    let both = site.browse(&path).await;
    assert_eq!(both.status, StatusCode::OK);
    for part in [
        &*format!("href=\"{result}\""),
        "stripped",
        "with symbols",
        "in both",
    ] {
        assert!(both.text().contains(part), "{part}: {}", both.text());
    }
    for bad in ["", "?a=x", "?a=x&b=y", &format!("?a={KEY}&b=../../x")] {
        let refused = site.browse(&format!("/-/compare{bad}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    assert_eq!(site.started(), 2, "a comparison builds nothing");
}

#[tokio::test]
async fn the_instance_says_what_it_is() {
    let site = Site::new().await;
    site.built().await;
    let page = site.browse("/-/instance").await;
    assert_eq!(page.status, StatusCode::OK);
    for part in [
        "localhost+5f1c2d3e+",
        "0 of 1 building",
        "go1.13.3",
        site.app.policy_sha256.as_str(),
    ] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    assert_eq!(site.get("/-/other").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_the_operator_says_is_shown_and_may_change() {
    let site = Site::new().await;
    assert!(!site.browse("/-/instance").await.text().contains("Contact"));
    let told = Told {
        notes: vec!["moves on <b>Friday</b>".to_owned()],
        contact: Some("abuse@build.example".to_owned()),
        ..Told::default()
    };
    site.tell.send_replace(told);
    for path in ["/", "/-/instance"] {
        let page = site.browse(path).await;
        let text = page.text();
        assert!(
            text.contains("moves on &#60;b&#62;Friday"),
            "{path}: {text}"
        );
        let shown = text.contains("abuse@build.example");
        assert_eq!(shown, path == "/-/instance", "{text}");
    }
    assert!(site.get("/healthz").await.text().contains("note: moves on"));
    site.tell.send_replace(Told::default());
    assert!(!site.browse("/").await.text().contains("Friday"));
}

#[tokio::test]
async fn packages_of_an_older_database_are_found() {
    let site = Site::new().await;
    let result = site.built().await;
    let path = site.bench.folder.path().join("hotcell.db");
    let db = crate::store::db::open(&path).unwrap();
    db.execute_batch("DELETE FROM package_line; DELETE FROM package_word")
        .unwrap();
    let gone = site.browse("/-/search?q=tool").await;
    assert!(!gone.text().contains(&result));
    drop(super::super::catalogue::Catalogue::open(&path).unwrap());
    let found = site.browse("/-/search?q=tool").await;
    assert!(found.text().contains(&result));
}

#[tokio::test]
async fn a_page_says_how_long_it_may_take_once_a_build_has_told() {
    let site = Site::new().await;
    let other = KEY.replace("linux", "freebsd");
    let page = site.browse(&format!("/{other}")).await;
    assert!(!page.text().contains("Going by other builds"));
    site.built().await;
    let page = site.browse(&format!("/{other}")).await;
    assert!(page.text().contains("Going by other builds it takes about"));
    // The next start knows it from the results: standard library 24.0 s, build 3.4 s.
    let durations = site.app.catalogue.durations(9).unwrap();
    assert_eq!(durations, [27_400]);
    let Site { bench, .. } = site;
    let ledger = Arc::clone(&bench.ledger);
    let site = Site::with(bench, ledger).await;
    let page = site.browse(&format!("/{other}")).await;
    assert!(
        page.text().contains("it takes about 27.4 s"),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn a_failure_leads_to_what_would_work() {
    for (code, about, link) in [
        (
            "needs_newer_go",
            None,
            "href=\"/example.org/m@v1.2.3/cmd/tool/linux-amd64-latest/\"",
        ),
        (
            "module_path_mismatch",
            Some("a.example/real"),
            "href=\"/a.example/real\"",
        ),
        ("module_path_mismatch", Some("/etc/x"), "Try again"),
    ] {
        let site = Site::new().await;
        let mut failure = crate::serve::testing::failure(FailureClass::CannotBuild, code);
        failure.about = Some(Box::new(crate::build::About {
            path: about.map(str::to_owned),
            ..Default::default()
        }));
        let outcome = crate::serve::testing::Outcome::Fails(Box::new(failure));
        site.bench.executor.set(&key(), outcome);
        site.get(&format!("/{KEY}record")).await;
        let page = site.browse(&format!("/{KEY}")).await;
        assert!(page.text().contains(link), "{code}: {}", page.text());
        assert!(
            !page.text().contains("href=\"//"),
            "{code}: {}",
            page.text()
        );
    }
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_stops_builds_and_no_reader() {
    let mut bench = Bench::new();
    let ledger: Arc<dyn Ledger> = Arc::clone(&bench.ledger) as _;
    let built = {
        let queue = bench.queue(1).await;
        drop(
            queue
                .wait(&key(), false, crate::serve::testing::operator())
                .await
                .unwrap(),
        );
        queue
    };
    built.stop();
    bench.room_min = u64::MAX;
    let site = Site::with(bench, ledger).await;
    assert_eq!(
        site.get(&format!("/{KEY}record")).await.status,
        StatusCode::OK
    );
    let other = KEY.replace("linux", "freebsd");
    let refused = site.get(&format!("/{other}record")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        refused.text().starts_with("no_room: "),
        "{}",
        refused.text()
    );
    assert_ne!(refused.header("retry-after"), "");
    let health = site.get("/healthz").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    for part in ["alarm: the disk is nearly full", "remedy: remove what else"] {
        assert!(health.text().contains(part), "{}", health.text());
    }
    assert_eq!(site.started(), 1);
}
