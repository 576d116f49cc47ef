//! TLS of our own: what is spoken over it, what ends early, what the operator hears.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::io::DuplexStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    super::tls::{
        Pair, Tls,
        tests::{NOW_S, lasting},
    },
    *,
};
use crate::roles::PairText;

const NAME: &str = "build.example.org";

async fn site(text: &PairText) -> Site {
    let bench = Bench::new();
    let ledger = Arc::clone(&bench.ledger);
    let pair = Pair::parse(text, NAME, NOW_S).unwrap();
    let tls = Arc::new(Tls::new(pair).unwrap());
    Site::with_tls(bench, ledger, None, Some(tls)).await
}

/// A connection to the door, before any handshake.
fn knock(site: &Site) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let door = listen::Door {
        router: site.router.clone(),
        tls: site.app.tls.clone(),
        metrics: Arc::clone(&site.app.metrics),
    };
    let peer = SocketAddr::from(([192, 0, 2, 1], 1_000));
    drop(tokio::spawn(door.serve(
        theirs,
        peer,
        site.stop.subscribe(),
    )));
    ours
}

async fn shake(site: &Site, text: &PairText, protocols: &[&str]) -> TlsStream<DuplexStream> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(text.chain.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(NAME).unwrap();
    connector.connect(name, knock(site)).await.unwrap()
}

#[tokio::test]
async fn the_handshake_chooses_the_version_of_http() {
    let text = lasting(NAME, 4096);
    let site = site(&text).await;
    let get = "GET /robots.txt HTTP/1.1\r\nhost: build.example.org\r\nconnection: close\r\n\r\n";
    for protocols in [&["http/1.1"][..], &[], &["http/1.1", "h2"]] {
        let mut stream = shake(&site, &text, protocols).await;
        if protocols.len() < 2 {
            stream.write_all(get.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            let hsts = "strict-transport-security: max-age=31536000";
            assert!(answer.contains(hsts), "{answer}");
        } else {
            // Ours counts: it speaks frames at once, here its settings.
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            assert_eq!(head[3], 4, "SETTINGS (RFC 9113, 6.5)");
        }
    }
    assert_eq!(site.app.metrics.handshakes_failed.load(Relaxed), 0);
}

#[tokio::test]
async fn who_comes_without_tls_is_told_so_at_once() {
    let site = site(&lasting(NAME, 4096)).await;
    let mut stream = knock(&site);
    let get = b"GET / HTTP/1.1\r\nhost: build.example.org\r\n\r\n";
    stream.write_all(get).await.unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(answer.len() < 20, "an alert, or nothing: {answer:?}");
    assert_eq!(site.app.metrics.handshakes_failed.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_long_is_cut() {
    let site = site(&lasting(NAME, 4096)).await;
    for begin in [&b""[..], b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc"] {
        let mut stream = knock(&site);
        let begun = tokio::time::Instant::now();
        stream.write_all(begin).await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
        let waited = begun.elapsed();
        assert!(waited <= Duration::from_secs(11), "{waited:?}");
    }
    assert_eq!(site.app.metrics.handshakes_failed.load(Relaxed), 2);
}

#[tokio::test]
async fn the_end_of_a_certificate_is_in_health_and_metrics() {
    let site = site(&lasting(NAME, 2026)).await;
    let admin = router::admin(Arc::clone(&site.app));
    let tls = site.app.tls.as_ref().unwrap();
    // The clock of the tests stands at 2026-11-21.
    let health = site.get("/healthz").await;
    let text = health.text();
    assert!(text.starts_with("ok\n"), "{text}");
    let note = "note: the certificate expires on 2026-12-01T00:00:00Z: renew it";
    assert!(text.contains(note), "{text}");
    assert!(!site.get("/").await.text().contains("certificate"));
    tls.refuse("the key does not fit".to_owned());
    let health = site.get("/healthz").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    let text = health.text();
    for part in [
        "alarm: the certificate until 2026-12-01T00:00:00Z stays in use: the key does not fit",
        "remedy: put a certificate that fits",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let request = Request::get("/metrics")
        .header("host", "localhost")
        .body(Body::empty())
        .unwrap();
    let metrics = admin.oneshot(request).await.unwrap().into_body();
    let metrics = to_bytes(metrics, 1_000_000).await.unwrap();
    let line = "hotcell_certificate_end_time_seconds 1796083200\n";
    let metrics = std::str::from_utf8(&metrics).unwrap();
    assert!(metrics.contains(line), "{metrics}");
    site.bench.clock.advance(11 * 24 * 3_600);
    let late = site.get("/healthz").await;
    let said =
        "alarm: the certificate has expired on 2026-12-01T00:00:00Z, and the key does not fit";
    assert!(late.text().contains(said), "{}", late.text());
}

#[tokio::test]
async fn who_comes_to_the_wrong_port_is_sent_to_our_name_only() {
    let router = router::redirect("https://build.example.org:8443".to_owned());
    for (host, path) in [
        ("localhost", "/"),
        ("evil.example", "/a/b?c=d"),
        ("evil.example", "//evil.example/"),
    ] {
        let request = Request::post(path)
            .header("host", host)
            .body(Body::empty())
            .unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        let location = response.headers()[header::LOCATION].to_str().unwrap();
        assert_eq!(location, format!("https://build.example.org:8443{path}"));
    }
}
