//! What is kept out: foreign hosts and origins, bad paths, slow clients.

use super::*;

/// A connection to the service without a socket.
fn connect(site: &Site) -> tokio::io::DuplexStream {
    let (ours, theirs) = tokio::io::duplex(4_096);
    let peer = SocketAddr::from(([192, 0, 2, 1], 1_000));
    let door = listen::Door {
        router: site.router.clone(),
        tls: None,
        metrics: Arc::clone(&site.app.metrics),
    };
    drop(tokio::spawn(door.serve(
        theirs,
        peer,
        site.stop.subscribe(),
    )));
    ours
}

async fn answer_of(mut stream: tokio::io::DuplexStream) -> String {
    let mut bytes = Vec::new();
    // The other side may close with our bytes unread, which is an error here.
    drop(stream.read_to_end(&mut bytes).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn another_site_can_start_nothing() {
    let site = Site::new().await;
    for headers in [
        [("sec-fetch-site", "cross-site"), ("accept", "*/*")],
        [("sec-fetch-site", "same-site"), ("accept", "*/*")],
        [("origin", "http://evil.example"), ("accept", "*/*")],
    ] {
        let stream = site.ask("GET", &format!("/{KEY}events"), &headers).await;
        assert_eq!(stream.status, StatusCode::FORBIDDEN, "{headers:?}");
        for path in [format!("/{KEY}record"), format!("/tlog/lookup/{KEY}")] {
            let waiting = site.ask("GET", &path, &headers).await;
            assert_eq!(waiting.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
        }
        for path in ["/", &format!("/{KEY}"), &format!("/{KEY}retry")] {
            let post = site.ask("POST", path, &headers).await;
            assert_eq!(post.status, StatusCode::FORBIDDEN, "{path} {headers:?}");
            assert!(post.text().starts_with("other_origin: "));
        }
    }
    let bare = site.ask("POST", &format!("/{KEY}"), &[]).await;
    assert_eq!(bare.status, StatusCode::FORBIDDEN, "neither header");
    let own = [("origin", "http://127.0.0.1:8000")];
    assert_eq!(site.started(), 0);
    let own = site.ask("POST", &format!("/{KEY}"), &own).await;
    assert_eq!(own.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_foreign_host_is_refused_everywhere() {
    let site = Site::new().await;
    let admin = router::admin(Arc::clone(&site.app));
    for (path, router) in [
        ("/", &site.router),
        ("/tlog/latest", &site.router),
        ("/static/hotcell.css", &site.router),
        (KEY, &site.router),
        ("/metrics", &admin),
    ] {
        let path = if path == KEY {
            format!("/{KEY}record")
        } else {
            path.to_owned()
        };
        for host in ["evil.example", "127.0.0.1.evil.example", "169.254.169.254"] {
            let request = Request::get(&path)
                .header("host", host)
                .body(Body::empty())
                .unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(
                response.status(),
                StatusCode::MISDIRECTED_REQUEST,
                "{path} {host}"
            );
        }
    }
    assert_eq!(site.started(), 0);
    let ours = site.ask("GET", "/", &[("host", "build.example.org")]).await;
    assert_eq!(ours.status, StatusCode::OK);
}

#[tokio::test]
async fn bad_paths_are_refused_and_start_nothing() {
    let site = Site::new().await;
    let long = format!("/example.org/{}", "a/".repeat(20_000));
    for (path, status) in [
        (long.as_str(), 414),
        ("/example.org/../etc/passwd", 400),
        ("/example.org/m@v1.0.0/../../x", 400),
        ("/example.org/m@v1.0.0//linux-amd64-go1.26.8/", 400),
        ("/example.org/m%40v1.0.0/linux-amd64-go1.26.8/", 400),
        ("/example.org/%6d@v1.0.0/linux-amd64-go1.26.8/", 400),
        ("/example.org/m%0a@v1.0.0/linux-amd64-go1.26.8/record", 400),
        ("/example.org/m@v1.0.0/linux-z80-go1.26.8/record", 400),
        ("/example.org/m@v1.0.0/linux-amd64-go1.99/record", 400),
        ("/example.org/m@v1.0.0/linux-amd64-go1.26.8/other", 400),
        ("/example.org/m@v2.0.0/linux-amd64-go1.26.8/record", 400),
        ("/wp-admin/setup.php", 400),
        ("/wp-login.php", 404),
        ("/sitemap.xml", 404),
        ("/.env", 404),
        ("/.well-known/x", 404),
        ("/api/v2/x", 404),
        ("/metrics", 404),
        ("/static/../mod.rs", 404),
        ("/static/none.css", 404),
        ("/api/v1/builds/example.org", 400),
    ] {
        let answer = site.get(path).await;
        let shown = &path[..path.len().min(80)];
        assert_eq!(answer.status.as_u16(), status, "{shown}: {}", answer.text());
        assert!(answer.body.len() < 1_000, "{shown}");
        let page = site.browse(path).await;
        assert!(page.text().contains("<h1"), "{shown}");
    }
    assert_eq!(site.started(), 0);
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH"] {
        for path in ["/", "/healthz", "/tlog/latest", &format!("/{KEY}")] {
            let answer = site.ask(method, path, &[]).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_head_of_ten_megabytes_is_refused_early() {
    let site = Site::new().await;
    let (mut from, mut to) = tokio::io::split(connect(&site));
    let sent = tokio::spawn(async move {
        let mut sent = 0;
        while sent < 10_000_000 && to.write_all(&[b'a'; 1_000]).await.is_ok() {
            sent += 1_000;
        }
        sent
    });
    let mut answer = [0; 12];
    from.read_exact(&mut answer).await.unwrap();
    let status: u16 = std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap();
    assert!([400, 414, 431].contains(&status), "{status}");
    drop(from);
    assert!(sent.await.unwrap() < 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_finishes_its_head_is_cut_off() {
    let site = Site::new().await;
    let mut stream = connect(&site);
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: loc")
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    answer_of(stream).await;
    let waited = begun.elapsed().as_secs();
    assert!((19..=21).contains(&waited), "{waited}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_off() {
    let site = Site::new().await;
    let mut stream = connect(&site);
    // Many answers that nobody reads fill the buffers.
    let request = b"GET /static/hotcell.css HTTP/1.1\r\nhost: localhost\r\n\r\n";
    while tokio::time::timeout(std::time::Duration::from_secs(5), stream.write_all(request))
        .await
        .is_ok_and(|sent| sent.is_ok())
    {}
    let stalled = || {
        site.app
            .metrics
            .stalled
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    for _ in 0..70 {
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(stalled(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_in_time_is_answered_and_ends_the_connection() {
    let (sized, chunked) = ("content-length: 10000", "transfer-encoding: chunked");
    let form = "content-type: application/x-www-form-urlencoded";
    for (path, length, piece) in [
        ("/", sized, ""),
        ("/", sized, "x"),
        ("/", chunked, "1\r\nx\r\n"),
        ("/api/v1/builds", sized, ""),
        ("/api/v1/builds", sized, "x"),
        ("/api/v1/builds", chunked, "1\r\nx\r\n"),
        ("/api/v1/observations", sized, "x"),
    ] {
        let site = Site::new().await;
        let (mut from, mut to) = tokio::io::split(connect(&site));
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\norigin: http://localhost\r\n\
             {form}\r\n{length}\r\n\r\n"
        );
        to.write_all(head.as_bytes()).await.unwrap();
        let begun = tokio::time::Instant::now();
        let dripping = tokio::spawn(async move {
            while to.write_all(piece.as_bytes()).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            }
        });
        let mut answer = Vec::new();
        drop(from.read_to_end(&mut answer).await);
        let waited = begun.elapsed().as_secs();
        dripping.abort();
        let answer = String::from_utf8_lossy(&answer);
        assert!((19..=21).contains(&waited), "{path} {length}: {waited}");
        assert!(answer.starts_with("HTTP/1.1 408 "), "{path}: {answer}");
        assert!(answer.contains("slow_body"), "{path}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(site.started(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_body_of_a_foreign_page_is_not_waited_for() {
    for path in ["/", "/api/v1/builds", "/api/v1/observations"] {
        let site = Site::new().await;
        let mut stream = connect(&site);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: 10000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let begun = tokio::time::Instant::now();
        let answer = answer_of(stream).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
        assert_eq!(begun.elapsed().as_secs(), 0, "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_our_own_form() {
    let site = Site::new().await;
    for path in ["/", "/api/v1/builds", "/api/v1/observations"] {
        let answer = site.post(path, &"x".repeat(20_000)).await;
        assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{path}");
        assert!(answer.text().contains("too_large"), "{path}");
    }
    for (path, status, code) in [
        ("/static/%ff", 404, "not_found"),
        ("/api/v1/records/events?from=1&from=2", 400, "bad_query"),
        ("/api/v1/records?from=1&from=2", 400, "bad_query"),
    ] {
        let json = [("accept", "application/json")];
        let answer = site.ask("GET", path, &json).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.text().contains(code), "{path}: {}", answer.text());
    }
}
