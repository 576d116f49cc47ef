//! What people see: pages, forms, failures.

use super::*;

#[tokio::test]
async fn a_page_that_is_not_built_builds_nothing_by_itself() {
    let site = Site::new().await;
    let page = site.browse(&format!("/{KEY}")).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("Build it"), "{}", page.text());
    assert!(page.text().contains("To cancel it, leave"));
    assert!(
        page.text()
            .contains(&format!("data-events=\"/{KEY}events\""))
    );
    assert_eq!((site.started(), site.app.queue.waiting()), (0, 0));
    assert_eq!(
        site.bench
            .executor
            .resolved
            .load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[tokio::test]
async fn the_button_starts_the_build_and_the_page_leads_to_the_result() {
    let site = Site::new().await;
    let started = site.post(&format!("/{KEY}"), "").await;
    assert_eq!(
        (started.status, started.header("location")),
        (StatusCode::SEE_OTHER, &*format!("/{KEY}"))
    );
    let result = site.built().await;
    let page = site.browse(&format!("/{KEY}")).await;
    assert_eq!(
        (page.status, page.header("location")),
        (StatusCode::TEMPORARY_REDIRECT, &*result)
    );
    assert_eq!(page.header("cache-control"), "no-store");
    let page = site.browse(&result).await;
    assert_eq!(page.status, StatusCode::OK);
    for part in [
        &result[result.len() - 29..result.len() - 1],
        "SHA-256",
        "number 1 of the",
        NAME,
        "h1:47DEQpj8HBSa",
        "seccomp: mode 2",
        "memory limit",
        "no cgroup v2 controller",
        "standard library 24.0 s, build 3.4 s",
        "retracted: &#60;b&#62;published by accident",
        "hotcell get example.org/m@v1.2.3/cmd/tool --target linux/amd64 --go go1.26.8",
        "--url http://127.0.0.1:8000/tlog",
        "--verifierkey localhost+5f1c2d3e+",
    ] {
        assert!(page.text().contains(part), "{part}\n{}", page.text());
    }
    assert_eq!(site.started(), 1);
}

#[tokio::test]
async fn a_page_of_a_build_that_runs_shows_it_without_a_script() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    site.post(&format!("/{KEY}"), "").await;
    while !site
        .browse(&format!("/{KEY}"))
        .await
        .text()
        .contains("in its cell")
    {
        tokio::task::yield_now().await;
    }
    let page = site.browse(&format!("/{KEY}")).await;
    assert!(
        page.text()
            .contains("<noscript><meta http-equiv=\"refresh\"")
    );
    assert!(
        page.text()
            .contains("data-phase=\"build\" data-state=\"now\""),
        "{}",
        page.text()
    );
    let other = "example.org/n@v1.0.0/windows-amd64-go1.26.8/";
    site.post(&format!("/{other}"), "").await;
    assert!(
        site.browse(&format!("/{other}"))
            .await
            .text()
            .contains("next in the queue")
    );
    let api = site.get(&format!("/api/v1/builds/{other}")).await;
    let api: serde_json::Value = serde_json::from_slice(&api.body).unwrap();
    assert_eq!(
        (api["state"].as_str(), api["place"].as_u64()),
        (Some("waiting"), Some(1))
    );
}

#[tokio::test]
async fn hostile_output_is_harmless_on_page_stream_and_log() {
    let site = Site::new().await;
    site.bench
        .executor
        .set(&key(), fails(FailureClass::CannotBuild, "build_failed"));
    let stream = site.get(&format!("/{KEY}events")).await;
    let page = site.browse(&format!("/{KEY}")).await;
    let log = site.get(&format!("/{KEY}log")).await;
    let refusal = site.get(&format!("/{KEY}record")).await;
    assert_eq!(
        (page.status, refusal.status),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND)
    );
    for (what, answer) in [
        ("stream", &stream),
        ("page", &page),
        ("log", &log),
        ("text", &refusal),
    ] {
        let text = answer.text();
        assert!(
            text.chars()
                .all(|c| (c >= ' ' && c != '\u{202e}') || c == '\n' || c == '\t'),
            "{what}"
        );
        assert!(text.contains("x1b]0;pwned"), "{what} shows it: {text}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    assert!(!page.text().contains("<script>alert") && page.text().contains("&lt;script&gt;alert"));
    assert_eq!(
        stream.text().matches("event: end\n").count(),
        1,
        "{}",
        stream.text()
    );
    assert!(log.header("content-type").starts_with("text/plain"));

    site.bench.executor.outcomes.lock().unwrap().clear();
    let built = Site::new().await;
    let result = built.built().await;
    let page = built.browse(&result).await;
    assert!(!page.text().contains("<script>alert") && page.text().contains("&lt;script&gt;alert"));
    assert!(
        !page
            .text()
            .contains(['\u{1b}', '\u{7}', '\r', '\0', '\u{202e}'])
    );
}

#[tokio::test]
async fn failures_have_their_status_code_and_sentence() {
    for (class, status) in [
        (FailureClass::CannotBuild, 404),
        (FailureClass::BadSpec, 400),
        (FailureClass::Proxy, 502),
        (FailureClass::Verify, 502),
        (FailureClass::Busy, 503),
        (FailureClass::Internal, 500),
    ] {
        let site = Site::new().await;
        site.bench.executor.set(&key(), fails(class, "some_code"));
        for path in [
            format!("/{KEY}record"),
            format!("/tlog/lookup/{KEY}"),
            format!("/{KEY}{NAME}"),
        ] {
            let text = site.get(&path).await;
            assert_eq!(text.status.as_u16(), status, "{path}");
            assert!(
                text.text()
                    .starts_with("some_code: the module does not compile")
            );
            let json = site
                .ask("GET", &path, &[("accept", "application/json")])
                .await;
            let json: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
            assert_eq!(json["code"], "some_code");
            assert_eq!(json["remedy"], "fix line 3");
            assert_eq!(text.header("retry-after").is_empty(), status != 503);
        }
        let page = site.browse(&format!("/{KEY}")).await;
        assert_eq!(page.status.as_u16(), status);
        assert_eq!(page.header("retry-after").is_empty(), status != 503);
        for part in [
            "some_code",
            "the module does not compile",
            "fix line 3",
            "Try again",
        ] {
            assert!(page.text().contains(part), "{part}");
        }
        assert_eq!(site.started(), 1);
    }
}

#[tokio::test]
async fn a_failure_is_forgotten_by_a_post_once_an_hour() {
    let site = Site::new().await;
    site.bench
        .executor
        .set(&key(), fails(FailureClass::CannotBuild, "build_failed"));
    site.get(&format!("/{KEY}record")).await;
    let form = site.browse(&format!("/{KEY}retry")).await;
    assert_eq!(form.status, StatusCode::OK);
    assert!(form.text().contains(&format!("action=\"/{KEY}retry\"")));
    assert_eq!(site.started(), 1, "a GET forgets nothing");
    site.bench.executor.outcomes.lock().unwrap().clear();
    assert_eq!(
        site.post(&format!("/{KEY}retry"), "").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        site.get(&format!("/{KEY}record")).await.status,
        StatusCode::OK
    );
    let again = site.post(&format!("/{KEY}retry"), "").await;
    assert_eq!(again.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_release_that_does_not_exist_is_the_builds_own_failure() {
    let site = Site::new().await;
    let key = BuildKey::parse("example.org/m@v1.0.0/linux-amd64-go1.99.0/").unwrap();
    site.bench
        .executor
        .set(&key, fails(FailureClass::CannotBuild, "not_found"));
    let answer = site.get(&format!("/{key}record")).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(answer.text().starts_with("not_found: "));
}

#[tokio::test]
async fn the_form_resolves_starts_and_leads_to_the_page() {
    let site = Site::new().await;
    let spec = "spec=example.org%2Fm%40latest%2Fcmd%2Ftool&target=linux%2Famd64&go=";
    let answer = site.post("/", spec).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (StatusCode::SEE_OTHER, &*format!("/{KEY}"))
    );
    site.built().await;
    assert_eq!(site.started(), 1);
    let stripped = site.post("/", &format!("{spec}1.26.8&stripped=yes")).await;
    assert!(
        stripped
            .header("location")
            .ends_with("linux-amd64-go1.26.8-stripped/")
    );
    // A pasted page of a build says what the form still says as it was shown.
    let pasted = "spec=https%3A%2F%2Fhc.example%2Fexample.org%2Fm%40v1.2.3%2Fcmd%2Ftool%2F\
                  windows-amd64-go1.25.3-stripped%2F";
    for (rest, wanted) in [
        (
            "&target=linux%2Famd64&go=",
            "windows-amd64-go1.25.3-stripped/",
        ),
        (
            "&target=darwin%2Farm64&go=1.26.8",
            "darwin-arm64-go1.26.8-stripped/",
        ),
    ] {
        let answer = site.post("/", &format!("{pasted}{rest}")).await;
        let to = answer.header("location");
        assert_eq!(to, format!("/example.org/m@v1.2.3/cmd/tool/{wanted}"));
    }

    for (form, status, part) in [
        ("spec=%3Cscript%3E%1b", 400, "&#60;script&#62;"),
        (
            "spec=example.org%2Fm%40v1.9.9%2Fx",
            404,
            "the module does not compile: fix line 3",
        ),
        (
            "spec=example.org%2Fm%40v0.0.9%2Fx",
            502,
            "the module does not compile",
        ),
        (
            "spec=example.org%2Fm&target=linux%2Fz80",
            400,
            "is no target",
        ),
        ("target=linux%2Famd64", 400, "the form cannot be read"),
    ] {
        let page = site.post("/", form).await;
        assert_eq!(page.status.as_u16(), status, "{form}");
        assert!(
            page.text().contains(part) && !page.text().contains("<script>"),
            "{}",
            page.text()
        );
    }
    let large = site
        .post("/", &format!("spec={}", "a".repeat(100_000)))
        .await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn home_and_module_pages_show_what_was_built() {
    let site = Site::new().await;
    let home = site.browse("/").await;
    assert!(home.text().contains("Nothing has been built here yet"));
    let result = site.built().await;
    for path in ["/", "/example.org/m", "/example.org/m@v1.2.3"] {
        let page = site.browse(path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(
            page.text().contains(&format!("href=\"{result}\"")),
            "{path}"
        );
    }
    let home = site.browse("/").await;
    for part in [
        "localhost+5f1c2d3e",
        "rollback protection: this disk only",
        "0 of 1 building",
    ] {
        assert!(home.text().contains(part), "{part}");
    }
    let module = site.browse("/example.org/m").await;
    assert!(module.text().contains("href=\"/example.org/m@v1.2.0\""));
    assert!(module.text().contains("deprecated: use &#60;m/v2&#62;"));
    let other = site.browse("/example.org/mm").await;
    assert!(!other.text().contains(&result), "only its own builds");
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    let site = Site::new().await;
    let result = site.built().await;
    for path in [
        "/",
        "/nothing",
        "/healthz",
        "/robots.txt",
        "/static/hotcell.js",
        "/tlog/latest",
        "/favicon.ico",
        &result,
        &format!("{result}log"),
        &format!("/api/v1/builds/{KEY}"),
    ] {
        let answer = site.browse(path).await;
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'none'"),
            "{path}"
        );
        assert!(
            !answer.header("content-security-policy").contains("unsafe"),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert!(!answer.header("cache-control").is_empty(), "{path}");
        if answer.header("content-type").starts_with("text/html") {
            let html = answer.text();
            assert!(
                !html.contains("style=") && !html.contains("onclick"),
                "{path}"
            );
            assert!(html.contains("<html lang=\"en\">") && html.contains("<main id=\"main\">"));
            assert!(
                !html.contains("http://") || html.contains("127.0.0.1:8000/tlog"),
                "{path}"
            );
        }
    }
    let etag = site
        .get("/static/hotcell.css")
        .await
        .header("etag")
        .to_owned();
    let again = site
        .ask("GET", "/static/hotcell.css", &[("if-none-match", &etag)])
        .await;
    assert_eq!(again.status, StatusCode::NOT_MODIFIED);
}
