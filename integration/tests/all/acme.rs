//! `serve --acme` with an authority that others have written, and with one that means no good.

use std::{
    cell::RefCell,
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use hotcell_integration::{
    authority::{self, Authority},
    command::Run,
    fake,
    host::{self, free_address},
    http, paths,
    pebble::{Pebble, age_attempts},
    service::{Place, Service},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, client::TlsStream};

const NAME: &str = "builds.example.test";
/// A whole conversation on two busy cores, some waits of a second among it.
const GOT_MAX: Duration = Duration::from_secs(60);
const DAYS_90_S: u64 = 90 * 24 * 3_600;

/// A place that trusts Pebble, and the address at which Pebble looks for its service.
fn place(folder: &Path, life_s: u64) -> (Place, SocketAddr, Pebble) {
    let address = free_address();
    let pebble = Pebble::start(address.port(), life_s);
    let mut place = Place::new(folder, fake::shared());
    let trust = ("SSL_CERT_FILE".to_owned(), pebble.trust());
    place.variables.push(trust);
    (place, address, pebble)
}

fn serve(place: &Place, address: SocketAddr, directory: &str, more: &[&str]) -> Service {
    let options = ["--name", NAME, "--acme", directory];
    let service = place.serve_at(&address.to_string(), &[&options, more].concat());
    assert_eq!(service.address(), address);
    service
}

fn connect(
    root: &CertificateDer<'static>,
    address: SocketAddr,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    http::runtime().block_on(authority::connect(root, NAME, address, protocol))
}

/// The certificate that visitors see who trust this root; nothing when they see none.
fn shown(root: &CertificateDer<'static>, address: SocketAddr) -> Option<Vec<u8>> {
    let stream = connect(root, address, "http/1.1").ok()?;
    Some(stream.get_ref().1.peer_certificates()?[0].to_vec())
}

fn wait<T>(what: &str, service: &Service, time_max: Duration, look: impl Fn() -> Option<T>) -> T {
    let seen = host::wait_for(time_max, look);
    seen.unwrap_or_else(|| panic!("{what}\n{}", service.trace()))
}

fn curl(root: &Path, address: SocketAddr, path: &str) -> Run {
    let resolve = format!("{NAME}:{}:127.0.0.1", address.port());
    let url = format!("https://{NAME}:{}{path}", address.port());
    let run = Run::new("curl").args(["-sS", "--max-time", "30", "--resolve", &resolve]);
    run.arg("--cacert").arg(root).arg(url)
}

/// A request on a connection that is kept.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let request = format!("GET /robots.txt HTTP/1.1\r\nhost: {NAME}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it lives");
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") || !answer.ends_with(b"\n") {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.expect("it lives");
        assert!(count > 0, "it ended after {answer:?}");
        answer.extend_from_slice(&part[..count]);
    }
    String::from_utf8(answer).expect("a text")
}

#[test]
fn a_certificate_comes_by_itself_and_a_restart_asks_nobody() {
    let folder = paths::scratch("acme");
    let (place, address, mut pebble) = place(folder.path(), DAYS_90_S);
    let (root, root_file) = pebble.root();
    let directory = pebble.directory();
    let plain = free_address();
    let (contact, redirect) = (
        "--acme-contact=you@example.org",
        format!("--redirect={plain}"),
    );
    let mut service = serve(&place, address, &directory, &[contact, &redirect]);
    let first = wait("a certificate", &service, GOT_MAX, || shown(&root, address));
    for version in ["--http1.1", "--http2"] {
        let page = curl(&root_file, address, "/").arg(version).succeed().out();
        assert!(page.contains("<h1"), "{page}");
    }
    let health = curl(&root_file, address, "/healthz").succeed().out();
    assert!(health.starts_with("ok\n"), "{health}");
    assert!(!health.contains("certificate"), "{health}");
    let moved = http::get(&format!("http://{plain}/a"));
    let url = format!("https://{NAME}:{}/a", address.port());
    assert_eq!(
        (moved.status, moved.header("location")),
        (308, url.as_str())
    );

    // Nothing is pending: who comes as an authority gets nothing.
    let refused = connect(&root, address, "acme-tls/1").expect_err("there is nothing to see");
    let refused = format!("{refused:?}");
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");

    // What is kept is the service's alone, and the key is of this certificate only.
    let kept = folder.path().join("data/serve/acme");
    let run = Run::new("find").arg(&kept).args(["-type", "f"]).succeed();
    let files: Vec<String> = run.out().lines().map(str::to_owned).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let mode = fs::metadata(file)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let told = service.trace();
    assert!(
        told.contains("a new certificate is in use, until "),
        "{told}"
    );
    assert!(!told.contains("\"level\":\"ERROR\""), "{told}");
    assert_eq!(pebble.given(), 1);
    let accounts = pebble.said("POST /sign-me-up");
    assert!(accounts > 0);
    assert_eq!(service.stop(), 0);

    // It has its certificate at once, also when there is no authority.
    let asked = pebble.said("POST ");
    let mut service = serve(&place, address, &directory, &[contact]);
    assert_eq!(shown(&root, address), Some(first.clone()));
    assert_eq!(pebble.said("POST "), asked);
    assert_eq!(service.stop(), 0);
    pebble.end();
    let mut service = serve(&place, address, &directory, &[contact]);
    assert_eq!(shown(&root, address), Some(first));
    hang_up(&service);
    wait("it is looked at", &service, GOT_MAX, || {
        service
            .trace()
            .contains("the certificate is as before")
            .then_some(())
    });
    assert_eq!(service.stop(), 0);
}

fn hang_up(service: &Service) {
    let pid = Pid::from_raw(i32::try_from(service.pid()).expect("a pid is positive"));
    kill(pid, Signal::SIGHUP).expect("our own child takes signals");
}

#[test]
fn it_is_renewed_in_time_and_nobody_is_cut_off() {
    let folder = paths::scratch("acme");
    let (place, address, pebble) = place(folder.path(), 30);
    let (root, _) = pebble.root();
    let service = serve(&place, address, &pebble.directory(), &[]);
    let first = wait("a certificate", &service, GOT_MAX, || shown(&root, address));
    let got = Instant::now();
    let kept = connect(&root, address, "http/1.1").expect("it shows one");
    let kept = RefCell::new(kept);
    let answer = || http::runtime().block_on(ask(&mut kept.borrow_mut()));
    let renewed = wait("a renewal", &service, GOT_MAX, || {
        std::thread::sleep(Duration::from_millis(500));
        assert!(answer().starts_with("HTTP/1.1 200"));
        shown(&root, address).filter(|now| *now != first)
    });
    let waited = got.elapsed();
    assert!(waited > Duration::from_secs(10), "{waited:?}");
    assert!(waited < Duration::from_secs(30), "{waited:?}");
    assert!(answer().starts_with("HTTP/1.1 200"));
    let kept = kept.into_inner();
    let chain = kept.get_ref().1.peer_certificates();
    let chain = chain.expect("there is one");
    assert_eq!(chain[0].to_vec(), first);
    assert_ne!(renewed, first);
    // Another account for the second one would be one too many.
    assert!(service.trace().matches("there is an account at ").count() == 1);
}

#[test]
fn an_authority_that_is_gone_or_refuses_is_told_by_health_and_pages_are_served() {
    let folder = paths::scratch("acme");
    let (mut place, address, mut pebble) = place(folder.path(), 30);
    let (root, root_file) = pebble.root();
    let service = serve(&place, address, &pebble.directory(), &[]);
    let first = wait("a certificate", &service, GOT_MAX, || shown(&root, address));
    // Names lead to where nobody listens, and what was validated before is forgotten.
    pebble.end();
    pebble.begin();
    pebble.resolve_to("127.0.0.2");
    let health = || curl(&root_file, address, "/healthz").succeed().out();
    let told = |part: &str| {
        wait(part, &service, GOT_MAX, || {
            let said = health();
            let both = said.contains(part) && said.contains("; next try at 20");
            both.then_some(said)
        })
    };
    let said = told("cannot be renewed: the authority does not know our account");
    // With half of its life left that is not yet worth an alarm.
    assert!(said.starts_with("ok\n"), "{said}");
    assert_eq!(shown(&root, address), Some(first));
    drop(service);

    // Somebody's first certificate, and the authority finds nobody.
    let fresh = paths::scratch("acme");
    fresh.path().clone_into(&mut place.folder);
    let mut service = serve(&place, address, &pebble.directory(), &[]);
    let (new_root, new_root_file) = pebble.root();
    let why = format!("the authority has not found this service as `{NAME}`, port 443: ");
    wait("it is not found", &service, GOT_MAX, || {
        service.trace().contains(&why).then_some(())
    });
    let trace = service.trace();
    assert!(trace.contains("Failed to connect"), "{trace}");
    assert_eq!(service.stop(), 0);

    // After more failures the next try is hours away; whoever asks for one waits for a minute, and
    // that is over.
    age_attempts(fresh.path());
    pebble.resolve_to("127.0.0.1");
    let mut service = serve(&place, address, &pebble.directory(), &[]);
    hang_up(&service);
    wait("a certificate", &service, GOT_MAX, || {
        shown(&new_root, address)
    });
    let said = curl(&new_root_file, address, "/healthz").succeed().out();
    assert!(said.starts_with("ok\n"), "{said}");
    assert_eq!(service.stop(), 0);
}

/// Answers every request with this body, by TLS, for as long as the tests run.
fn answering(authority: &Authority, head: &str, body: &str) -> SocketAddr {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let (chain, key) = authority.pair("127.0.0.1");
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("it is PEM");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_no_client_auth()
        .with_single_cert(vec![authority::first(&chain)], key)
        .expect("they fit");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {head}\r\nreplay-nonce: n\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    http::runtime().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("loopback has a free port");
        let address = listener.local_addr().expect("it has an address");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let _some = stream.read(&mut [0; 16_384]).await;
                let _gone = stream.write_all(answer.as_bytes()).await;
                let _gone = stream.shutdown().await;
            }
        });
        address
    })
}

#[test]
fn an_authority_that_sends_elsewhere_is_refused_and_nobody_else_is_reached() {
    let folder = paths::scratch("acme");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), open).expect("it is our folder");
    let authority = Authority::default();
    let trust = folder.path().join("ca.pem");
    fs::write(&trust, authority.pem()).expect("the folder takes files");
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    elsewhere.set_nonblocking(true).expect("it is a socket");
    let other = elsewhere.local_addr().expect("it has an address");
    let urls = |base: &str| {
        format!(r#"{{"newNonce":"{base}/n","newAccount":"{base}/a","newOrder":"{base}/o"}}"#)
    };
    let location = format!("302 Found\r\nlocation: https://{other}/dir");
    for (head, body, part) in [
        (
            "200 OK",
            urls(&format!("https://{other}")),
            "asks no other host",
        ),
        (
            "200 OK",
            urls(&format!("http://{other}")),
            "asks no other host",
        ),
        (location.as_str(), String::new(), "answers with status 302"),
        ("200 OK", "x".repeat(40_000), "at most 32768 bytes"),
        (
            "503 Busy",
            "<html>sorry".to_owned(),
            "status 503: <html>sorry",
        ),
    ] {
        let directory = format!("https://{}/dir", answering(&authority, head, &body));
        let mut place = Place::new(folder.path(), fake::shared());
        let trust = ("SSL_CERT_FILE".to_owned(), trust.display().to_string());
        place.variables.push(trust);
        let mut service = serve(&place, free_address(), &directory, &[]);
        wait(part, &service, GOT_MAX, || {
            service.trace().contains(part).then_some(())
        });
        assert_eq!(service.stop(), 0);
        // Each with a trace of its own.
        fs::remove_file(folder.path().join("trace.txt")).expect("it is there");
    }
    let reached = elsewhere.accept();
    assert!(reached.is_err(), "{reached:?}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_starts() {
    let folder = paths::scratch("acme");
    let place = Place::new(folder.path(), fake::shared());
    for (options, part) in [
        (
            &["--acme", "letsencrypt"][..],
            "--name localhost: it must be a host name",
        ),
        (
            &["--acme", "http://127.0.0.1/dir", "--name", NAME],
            "is no authority",
        ),
        (&["--acme-contact", "a@b.example"], "it needs --acme"),
        (
            &[
                "--acme",
                "letsencrypt",
                "--name",
                NAME,
                "--tls-cert",
                "c",
                "--tls-key",
                "k",
            ],
            "leave out --tls-cert",
        ),
        (
            &[
                "--acme",
                "letsencrypt",
                "--acme-contact",
                "you",
                "--name",
                NAME,
            ],
            "you@example.org",
        ),
    ] {
        let started = place.run([&["serve"][..], options].concat()).wait();
        crate::support::refused(&options.join(" "), &started, 2, &[part]);
    }
    let file = folder.path().join("hotcell.toml");
    let write = |text: &str| fs::write(&file, text).expect("the folder takes files");
    write(&format!(
        "acme = 'letsencrypt'\nname = '{NAME}'\nlisten = '[::]:443'\n"
    ));
    let said = place.run(["testconfig", "hotcell.toml"]).succeed().out();
    assert!(said.contains("with TLS by acme-v02."), "{said}");
    write("acme = 'letsencript'\nacme-contact = 'x'\n");
    let tested = place.run(["testconfig", "hotcell.toml"]).wait();
    let parts = ["hotcell.toml:1: acme: ", "hotcell.toml:2: acme-contact: "];
    crate::support::refused("testconfig", &tested, 2, &parts);
}
