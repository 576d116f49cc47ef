//! TLS of our own: what is spoken over it, what ends early, what the operator hears.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
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
    with(Tls::new(Pair::parse(text, NAME, NOW_S).unwrap()).unwrap()).await
}

async fn with(tls: Tls) -> Site {
    let bench = Bench::new();
    let ledger = Arc::clone(&bench.ledger);
    Site::with_tls(bench, ledger, None, Some(Arc::new(tls))).await
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
    let config = client().with_root_certificates(roots).with_no_client_auth();
    connect(site, config, NAME, protocols).await.unwrap()
}

fn client() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap()
}

async fn connect(
    site: &Site,
    mut config: ClientConfig,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<DuplexStream>> {
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    connector.connect(name, knock(site)).await
}

/// Connects as an authority, which takes any certificate and looks into it.
async fn look(
    site: &Site,
    name: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<DuplexStream>> {
    let config = client().dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(Anything));
    connect(site, config.with_no_client_auth(), name, protocols).await
}

#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
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
async fn an_authority_sees_its_challenge_while_it_is_pending_and_nobody_else_does() {
    const ACME: &[&str] = &["acme-tls/1"];
    let text = lasting(NAME, 4096);
    let site = with(Tls::of_authority(Some(Pair::parse(&text, NAME, NOW_S).unwrap())).unwrap());
    let site = site.await;
    let tls = Arc::clone(site.app.tls.as_ref().unwrap());
    let own = CertificateDer::from_pem_slice(text.chain.as_bytes()).unwrap();
    let shown = |stream: &TlsStream<DuplexStream>| {
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        (chain[0].clone(), chain.len())
    };
    look(&site, NAME, ACME).await.unwrap_err();
    let pending = tls.validate(NAME, &[7; 32]).unwrap();
    for name in [NAME, "BUILD.example.org"] {
        let mut stream = look(&site, name, ACME).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"acme-tls/1"[..]));
        let (challenge, certificates) = shown(&stream);
        assert_ne!(challenge, own);
        assert_eq!(certificates, 1);
        // id-pe-acmeIdentifier, critical, an octet string of the digest (RFC 8737, 3).
        let extension = [
            &[
                0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 0x1f, 1, 1, 0xff, 4, 34, 4, 32,
            ][..],
            &[7; 32],
        ]
        .concat();
        let has_it = challenge.windows(extension.len()).any(|at| at == extension);
        assert!(has_it, "{challenge:?}");
        // It is closed, whatever is asked.
        let _closed_already = stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await;
        let mut said = Vec::new();
        drop(stream.read_to_end(&mut said).await);
        assert!(said.is_empty(), "{said:?}");
    }
    // Another name, and another protocol beside it: not an authority.
    look(&site, "other.example.org", ACME).await.unwrap_err();
    look(&site, "192.0.2.1", ACME).await.unwrap_err();
    assert_eq!(site.app.metrics.handshakes_failed.load(Relaxed), 3);
    for protocols in [&["acme-tls/1", "http/1.1"][..], &["http/1.1"], &[]] {
        let stream = look(&site, NAME, protocols).await.unwrap();
        assert_eq!(shown(&stream).0, own, "{protocols:?}");
    }
    drop(pending);
    look(&site, NAME, ACME).await.unwrap_err();
}

#[tokio::test]
async fn without_a_certificate_handshakes_fail_and_health_says_why() {
    let site = with(Tls::of_authority(None).unwrap()).await;
    let tls = Arc::clone(site.app.tls.as_ref().unwrap());
    look(&site, NAME, &[]).await.unwrap_err();
    assert_eq!(site.app.metrics.handshakes_failed.load(Relaxed), 1);
    let health = async || site.get("/healthz").await.text().to_owned();
    let said = health().await;
    assert!(said.starts_with("not ok\n"), "{said}");
    let alarm = "alarm: no certificate yet: it is being asked for\n";
    assert!(said.contains(alarm), "{said}");
    tls.refuse("nobody is there; next try at x".to_owned());
    let said = health().await;
    for part in [
        "alarm: no certificate yet: nobody is there; next try at x\n",
        "remedy: see that the authority reaches --name on port 443",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // The clock of the tests stands at 2026-11-21, ten days before the end of this one: its sixth
    // part is far away when it is new, and near now.
    tls.offer(&lasting(NAME, 2026), NAME, NOW_S).unwrap();
    let note = "note: the certificate expires on 2026-12-01T00:00:00Z: renew it\n";
    assert!(health().await.contains(note), "{}", health().await);
    tls.refuse("nobody is there; next try at x".to_owned());
    let alarm = "alarm: the certificate until 2026-12-01T00:00:00Z cannot be renewed: nobody";
    assert!(health().await.contains(alarm), "{}", health().await);
    look(&site, NAME, &[]).await.unwrap();
}

#[tokio::test]
async fn a_renewal_that_fails_long_before_the_end_is_a_note() {
    let text = lasting(NAME, 4096);
    let site = with(Tls::of_authority(Some(Pair::parse(&text, NAME, NOW_S).unwrap())).unwrap());
    let site = site.await;
    let tls = site.app.tls.as_ref().unwrap();
    tls.refuse("nobody is there; next try at x".to_owned());
    let said = site.get("/healthz").await;
    let said = said.text();
    assert!(said.starts_with("ok\n"), "{said}");
    let note =
        "note: the certificate until 4096-12-01T00:00:00Z cannot be renewed: nobody is there";
    assert!(said.contains(note), "{said}");
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
