//! What exists when, and what starts a build.

use super::*;

#[tokio::test]
async fn events_start_the_build_stream_it_and_end() {
    let site = Site::new().await;
    let stream = site.get(&format!("/{KEY}events")).await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    let text = stream.text();
    let kinds: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(
        kinds,
        [
            "reset", "queue", "phase", "phase", "module", "output", "end"
        ],
        "{text}"
    );
    assert!(
        text.contains("compiling the standard library for linux/amd64 with go1.26.8: happens once")
    );
    let ids: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .collect();
    assert_eq!(ids.len(), 6);

    let again = site.get(&format!("/{KEY}events")).await;
    assert!(again.text().contains("event: end") && again.text().contains("\"end\":\"built\""));
    assert_eq!(site.started(), 1);
}

#[tokio::test]
async fn a_stream_goes_on_behind_its_last_id() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    site.post(&format!("/{KEY}"), "").await;
    let crate::serve::queue::Standing::Underway(job) =
        site.app.queue.standing(&key()).await.unwrap()
    else {
        panic!("underway");
    };
    while job.live.snapshot().output.is_empty() {
        tokio::task::yield_now().await;
    }
    let seen = job.live.id(*job.live.subscribe().borrow());
    let rest = tokio::spawn({
        let request = Request::get(format!("/{KEY}events"))
            .header("host", "localhost")
            .header("last-event-id", seen)
            .body(Body::empty())
            .unwrap();
        let response = site.router.clone().oneshot(request).await.unwrap();
        async move { to_bytes(response.into_body(), 1_000_000).await.unwrap() }
    });
    site.bench.executor.go.send_replace(true);
    let rest = String::from_utf8(rest.await.unwrap().to_vec()).unwrap();
    let kinds: Vec<_> = rest
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .collect();
    assert_eq!(kinds, ["end"], "{rest}");
}

#[tokio::test]
async fn record_and_downloads_start_the_build_and_wait() {
    for (name, kind) in [
        ("record", "text/plain; charset=utf-8"),
        (NAME, "application/octet-stream"),
        (&format!("{NAME}.gz"), "application/octet-stream"),
    ] {
        let site = Site::new().await;
        let answer = site.get(&format!("/{KEY}{name}")).await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, kind),
            "{name}"
        );
        assert_eq!(site.started(), 1);
    }
}

#[tokio::test]
async fn downloads_are_attachments_in_a_sandbox() {
    let site = Site::new().await;
    let result = site.built().await;
    for at in [&result, &format!("/{KEY}")] {
        let binary = site.get(&format!("{at}{NAME}")).await;
        assert_eq!(binary.text(), KEY);
        let gzip = site.get(&format!("{at}{NAME}.gz")).await;
        let mut plain = String::new();
        std::io::Read::read_to_string(
            &mut flate2::read::GzDecoder::new(gzip.body.as_slice()),
            &mut plain,
        )
        .unwrap();
        assert_eq!(plain, KEY);
        for (answer, file) in [(binary, NAME.to_owned()), (gzip, format!("{NAME}.gz"))] {
            for (name, value) in [
                (
                    "content-disposition",
                    format!("attachment; filename=\"{file}\""),
                ),
                ("content-security-policy", "sandbox".to_owned()),
                ("x-content-type-options", "nosniff".to_owned()),
                ("content-length", answer.body.len().to_string()),
            ] {
                assert_eq!(answer.header(name), value);
            }
        }
    }
    let kept = site.get(&format!("{result}{NAME}")).await;
    assert!(kept.header("cache-control").contains("immutable"));
}

#[tokio::test]
async fn log_and_dl_exist_for_finished_builds_only() {
    let site = Site::new().await;
    for name in ["log", "dl", "retry"] {
        let early = site.get(&format!("/{KEY}{name}")).await;
        assert_eq!(early.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
    }
    assert_eq!(site.started(), 0);
    let result = site.built().await;
    for at in [&result, &format!("/{KEY}")] {
        let dl = site.get(&format!("{at}dl")).await;
        assert_eq!(dl.header("location"), format!("{result}{NAME}"));
        assert_eq!(site.get(&format!("{at}log")).await.status, StatusCode::OK);
        assert_eq!(
            site.get(&format!("{at}record")).await.status,
            StatusCode::OK
        );
        let retry = site.get(&format!("{at}retry")).await;
        assert_eq!(retry.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

#[tokio::test]
async fn moving_names_redirect_to_concrete_ones_and_are_not_kept() {
    let site = Site::new().await;
    let firefox = (
        "user-agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/140.0",
    );
    for (from, to) in [
        (
            "/example.org/m@latest/cmd/tool/linux-amd64-go1.26.8/",
            format!("/{KEY}"),
        ),
        (
            "/example.org/m@v1.2.3/cmd/tool/linux-amd64-latest/record",
            format!("/{KEY}record"),
        ),
        (
            "/example.org/m@latest/cmd/tool/linux-amd64-go1.26.latest/events",
            format!("/{KEY}events"),
        ),
        (
            "/example.org/m@latest/cmd/tool/linux-amd64-latest/tool-latest-latest.gz",
            format!("/{KEY}{NAME}.gz"),
        ),
        (
            "/example.org/m@latest/cmd/tool",
            "/example.org/m@v1.2.3/cmd/tool/windows-amd64-go1.26.8/".to_owned(),
        ),
    ] {
        let answer = site.ask("GET", from, &[firefox]).await;
        let got = (
            answer.status,
            answer.header("location"),
            answer.header("cache-control"),
        );
        assert_eq!(
            got,
            (StatusCode::TEMPORARY_REDIRECT, &*to, "no-store"),
            "{from}"
        );
    }
    assert_eq!(site.started(), 0);
    for (from, status) in [
        ("/example.org/m@v0.0.9/cmd/tool/linux-amd64-go1.26.8/", 200),
        ("/example.org/m@main/cmd/x", 500),
    ] {
        // The fake resolver knows no branches: `main` ends it in a panic, and only it.
        let answer = tokio::spawn({
            let router = site.router.clone();
            let request = Request::get(from)
                .header("host", "localhost")
                .body(Body::empty())
                .unwrap();
            async move { router.oneshot(request).await.unwrap().status().as_u16() }
        });
        match answer.await {
            Ok(got) => assert_eq!(got, status, "{from}"),
            Err(_) => panic!("{from}"),
        }
    }
}

#[tokio::test]
async fn a_result_is_found_under_its_own_sum_only() {
    let site = Site::new().await;
    let other = Sum::of(&[9; 32]);
    for name in ["", "events"] {
        let early = site.get(&format!("/{KEY}{other}/{name}")).await;
        assert_eq!(early.header("location"), format!("/{KEY}{name}"));
    }
    for name in ["log", "dl", "retry"] {
        let early = site.get(&format!("/{KEY}{other}/{name}")).await;
        assert_eq!(early.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(site.started(), 0);
    for name in ["record", NAME, ""] {
        let wrong = site.get(&format!("/{KEY}{other}/{name}")).await;
        assert_eq!(wrong.status, StatusCode::NOT_FOUND, "{name}");
        assert!(wrong.text().starts_with("other_sum: "));
    }
}

#[tokio::test]
async fn streams_end_when_the_service_stops_and_the_job_waits_for_the_next_start() {
    let site = Site::new().await;
    site.bench.executor.go.send_replace(false);
    let request = Request::get(format!("/{KEY}events"))
        .header("host", "localhost")
        .body(Body::empty());
    let response = site.router.clone().oneshot(request.unwrap()).await.unwrap();
    site.stop.send_replace(true);
    site.app.queue.stop();
    let text = to_bytes(response.into_body(), 100_000).await.unwrap();
    assert!(!String::from_utf8_lossy(&text).contains("\"end\":\"built\""));
    assert_eq!(site.bench.catalogue.jobs().await.unwrap().len(), 1);
}
