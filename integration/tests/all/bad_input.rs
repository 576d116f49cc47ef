//! Whatever comes in from outside is refused with a clear error, and nothing is written.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use hotcell_integration::{
    fake::{self, Fault},
    host, http, paths, sdk, service,
};

use crate::support::{build, refused};

/// Longest answer to a request that is refused.
const ANSWER_MAX: Duration = Duration::from_secs(40);

#[test]
fn a_bad_spec_on_the_command_line_is_a_usage_error() {
    let folder = paths::scratch("bad");
    let long = format!("ex.example/{}@v1.0.0", "a/".repeat(2000));
    let place = service::user();
    for spec in [
        "",
        " ",
        "@",
        "hello",
        "ex.example/hello@",
        "@v1.0.0",
        "ex.example/../hello@v1.0.0",
        "ex.example/./hello@v1.0.0",
        "ex.example//hello@v1.0.0",
        "/ex.example/hello@v1.0.0",
        "ex.example/hello/@v1.0.0",
        "ex.example/he\u{1b}llo@v1.0.0",
        "ex.example/hello@v1.0.0\n",
        "ex.example/hel\u{202e}lo@v1.0.0",
        "ex.example/hello@v1.0.0@v1.0.0",
        "ex.example/hello@../v1",
        "ex.example/hello@v1.0.0/../../x",
        "ex.example/!hello@v1.0.0",
        "ex.example/hello%2e@v1.0.0",
        "ex.example/h?llo@v1.0.0",
        "ex.example/hello@v1.0.0 --version",
        "file:///etc/passwd@v1.0.0",
        "ex.example/hello.@v1.0.0",
        "ex.example/con@v1.0.0",
        &long,
    ] {
        let output = folder.path().join("binary");
        let started = Instant::now();
        let ended = place
            .run(["build", "-o"])
            .arg(&output)
            .args(["--go", sdk::GO, "--", spec])
            .wait();
        refused(&format!("{spec:.60?}"), &ended, 2, &[]);
        let shown = ended.err();
        assert!(
            !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
            "{shown:?}"
        );
        assert!(
            shown.len() < 4000,
            "an error is short: {} bytes",
            shown.len()
        );
        assert!(
            started.elapsed() < ANSWER_MAX && !output.exists(),
            "{spec:.60?}"
        );
    }
    assert!(
        host::tree(folder.path()).is_empty(),
        "{:?}",
        host::tree(folder.path())
    );
}

#[test]
fn unknown_targets_and_go_releases_are_refused() {
    let folder = paths::scratch("bad");
    for (option, value, code) in [
        ("--target", "linux/z80", 2),
        ("--target", "linux", 2),
        ("--target", "../..", 2),
        ("--target", "Linux/amd64", 2),
        ("--go", "1.26.8", 2),
        ("--go", "go1.26.8.linux-amd64", 2),
        ("--go", "go1.026.8", 2),
        ("--go", "../go1.26.8", 2),
        ("--go", "go1.99.0", 1),
        ("--go", "go1.20.13", 1),
        ("--go", "go1.13.1", 1),
    ] {
        let output = folder.path().join("binary");
        let mut args = vec![option, value];
        if option == "--target" {
            args.extend(["--go", sdk::GO]);
        }
        let ended = build("ex.example/hello@v1.0.0", &output, &args);
        let what = format!("{option} {value}");
        assert!(
            [1, 2].contains(&ended.code),
            "{what}: {}: {}",
            ended.code,
            ended.err()
        );
        refused(&what, &ended, ended.code, &["hotcell: "]);
        assert_eq!(ended.code, code, "{what}: {}", ended.err());
    }
}

#[test]
fn bad_paths_are_refused_by_the_service_with_a_sentence() {
    let service = service::service();
    let records = http::get(&format!("{}/tlog/latest", service.url())).body;
    let target = format!("linux-amd64-{}", sdk::GO);
    let long = format!("/ex.example/{}@v1.0.0/{target}/record", "a".repeat(5000));
    for path in [
        format!("/ex.example/../hello@v1.0.0/{target}/record"),
        format!("/ex.example/%2e%2e/hello@v1.0.0/{target}/record"),
        format!("/ex.example//hello@v1.0.0/{target}/record"),
        format!("/ex.example/%00hello@v1.0.0/{target}/record"),
        format!("/ex.example/h%0aello@v1.0.0/{target}/record"),
        format!("/ex.example/h%1bello@v1.0.0/{target}/record"),
        format!("/ex.example/!hello@v1.0.0/{target}/record"),
        format!("/ex.example/%21hello@v1.0.0/{target}/record"),
        format!("/ex.example/h%ffello@v1.0.0/{target}/record"),
        "/ex.example/hello@v1.0.0/linux-z80-go1.26.8/record".to_owned(),
        "/ex.example/hello@v1.0.0/linux-amd64-go1.99.0/record".to_owned(),
        "/ex.example/hello@v1.0.0/linux-amd64-go1.26/record".to_owned(),
        "/ex.example/hello@v1.0.0/linux-amd64-go1.26.8-striped/record".to_owned(),
        "/static/../../../../etc/passwd".to_owned(),
        "/static/..%2f..%2f..%2fetc/passwd".to_owned(),
        "/.well-known/x".to_owned(),
        long,
    ] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        let answer = http::raw(service.address(), request.as_bytes(), ANSWER_MAX);
        let status = http::raw_status(&answer);
        let title: String = path.chars().take(80).collect();
        assert!([400, 404, 414].contains(&status), "{title}: {status}");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(body.trim().len() > 10, "{title}: a sentence: {text}");
    }
    let after = http::get(&format!("{}/tlog/latest", service.url())).body;
    // Other tests may add records; a head of the same size must be the same head.
    assert!(after.len() >= records.len() && service.lives());
}

#[test]
fn an_url_of_10_megabytes_is_refused_early() {
    let service = service::service();
    let mut request = b"GET /".to_vec();
    request.resize(10 << 20, b'a');
    request.extend_from_slice(b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let started = Instant::now();
    let answer = http::raw(service.address(), &request, ANSWER_MAX);
    let status = http::raw_status(&answer);
    assert!([0, 400, 414, 431].contains(&status), "{status}");
    assert!(started.elapsed() < ANSWER_MAX);
    assert!(service.lives());
}

#[test]
fn slow_clients_keep_nobody_out_and_are_cut() {
    let service = service::service();
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(service.address()).expect("the service listens");
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: 127")
                .expect("the service reads");
            stream
        })
        .collect();
    let started = Instant::now();
    assert!(service.lives(), "others are answered");
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "at once: {:?}",
        started.elapsed()
    );
    let last = slow.last_mut().expect("there are 300");
    last.set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket has timeouts");
    let mut rest = Vec::new();
    // Whether it is told or just cut: the connection ends.
    let ended = last.read_to_end(&mut rest);
    let cut = ended.as_ref().is_ok_and(|_| true)
        || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(
        cut,
        "a client that sends no whole head is cut within a minute"
    );
}

#[test]
fn a_proxy_that_breaks_or_lies_is_refused_and_leaves_nothing_behind() {
    let folder = paths::scratch("bad");
    let proxy = fake::shared();
    let garbage = || Fault::Instead(b"<html>not what you asked for</html>".to_vec());
    let lookup = |name: &str| format!("/sumdb/sumdb.example/lookup/fault.example/{name}@v1.0.0");
    let file = |name: &str, kind: &str| format!("/fault.example/{name}/@v/v1.0.0.{kind}");
    let faults = [
        ("garbage-mod", file("garbage-mod", "mod"), garbage(), [3, 4]),
        ("garbage-zip", file("garbage-zip", "zip"), garbage(), [3, 4]),
        (
            "truncated-mod",
            file("truncated-mod", "mod"),
            Fault::Truncated(5),
            [4, 4],
        ),
        (
            "truncated-zip",
            file("truncated-zip", "zip"),
            Fault::Truncated(100),
            [4, 4],
        ),
        (
            "forbidden",
            file("forbidden", "zip"),
            Fault::Status(403),
            [1, 4],
        ),
        ("broken", file("broken", "zip"), Fault::Status(500), [4, 4]),
        ("endless", file("endless", "mod"), Fault::Endless, [3, 4]),
        ("sumdb-garbage", lookup("sumdb-garbage"), garbage(), [3, 4]),
        (
            "sumdb-missing",
            lookup("sumdb-missing"),
            Fault::Status(404),
            [1, 4],
        ),
        ("stalled", file("stalled", "zip"), Fault::Stalled, [4, 4]),
    ];
    for (name, path, fault, codes) in faults {
        proxy.fault(&path, fault);
        let output = folder.path().join(name);
        let ended = build(&format!("fault.example/{name}@v1.0.0"), &output, &[]);
        assert!(
            codes.contains(&ended.code),
            "{name}: {}: {}",
            ended.code,
            ended.err()
        );
        refused(name, &ended, ended.code, &["hotcell: ", "hint: "]);
        assert!(
            ended.took < Duration::from_secs(180),
            "{name} took {:?}",
            ended.took
        );
        proxy.mend(&path);
        let ended = build(&format!("fault.example/{name}@v1.0.0"), &output, &[]);
        assert_eq!(
            ended.code,
            0,
            "{name}, mended: nothing wrong was kept: {}",
            ended.err()
        );
    }
}
