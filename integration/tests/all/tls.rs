//! TLS of the service itself, with the real program and clients that others have written.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hotcell_integration::{
    authority::{self, Authority, first},
    command::Run,
    fake::{self, Proxy, proxy::Fault, set::hello},
    host, http, paths, sdk,
    service::{Place, Service, build_path},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::refused;

/// What a signal does, and what is seen of it, on two busy cores.
const HEARD_MAX: Duration = Duration::from_secs(30);
/// A user that exists nowhere.
const NOBODY: u32 = 54_323;
const TLS: [&str; 4] = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];

/// A folder with a pair for `localhost`, and who has signed it.
fn signed(folder: &Path) -> Authority {
    let authority = Authority::default();
    authority::put(folder, &authority.pair("localhost"));
    fs::write(folder.join("ca.pem"), authority.pem()).expect("the folder takes files");
    authority
}

fn url(service: &Service, path: &str) -> String {
    format!("https://localhost:{}{path}", service.address().port())
}

/// curl, which trusts the authority in `folder` only.
fn curl(folder: &Path, options: &[&str], url: &str) -> String {
    let run = Run::new("curl").args(["-sS", "--max-time", "30", "--cacert"]);
    let run = run.arg(folder.join("ca.pem")).args(options).arg(url);
    run.succeed().out()
}

fn hang_up(service: &Service) {
    let pid = Pid::from_raw(i32::try_from(service.pid()).expect("a pid is positive"));
    kill(pid, Signal::SIGHUP).expect("our own child takes signals");
}

/// The certificate that new connections see.
fn shown(authority: &Authority, service: &Service) -> Vec<u8> {
    let connected = http::runtime().block_on(authority.connect(service.address(), "http/1.1"));
    let stream = connected.expect("the handshake succeeds");
    let chain = stream.get_ref().1.peer_certificates();
    chain.expect("there is one")[0].to_vec()
}

fn wait(what: &str, service: &Service, look: impl Fn() -> bool) {
    let seen = host::wait_for(HEARD_MAX, || look().then_some(()));
    assert!(seen.is_some(), "{what}\n{}", service.trace());
}

#[test]
fn clients_of_others_and_get_come_by_tls_and_a_renewal_cuts_nobody_off() {
    let folder = paths::scratch("tls");
    let folder = folder.path();
    let authority = signed(folder);
    let modules = ["proof", "slow"].map(|name| hello(&format!("tls.example/{name}")));
    let proxy = Proxy::start(modules.into());
    proxy.fault("/tls.example/slow/@v/v1.0.0.zip", Fault::Stalled);
    let mut place = Place::new(folder, &proxy).stocked();
    let mut service = place.serve(&TLS);
    for (option, version) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let form = [
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            option,
        ];
        assert_eq!(curl(folder, &form, &url(&service, "/")), version);
    }
    for version in [&["--tlsv1.3"][..], &["--tls-max", "1.2"]] {
        let said = curl(folder, version, &url(&service, "/healthz"));
        assert!(said.starts_with("ok\n"), "{version:?}: {said}");
    }
    // Who does not know the authority.
    let bare = Run::new("curl").args(["-sS", &url(&service, "/")]).wait();
    assert_eq!(bare.code, 60, "{}", bare.err());

    let ca = folder.join("ca.pem").display().to_string();
    place.variables.push(("SSL_CERT_FILE".to_owned(), ca));
    let log = url(&service, "/tlog");
    let key = service.verifier_key().to_owned();
    let got = place.run([
        "get",
        "--verifierkey",
        &key,
        "--url",
        &log,
        "--go",
        sdk::GO,
        "tls.example/proof@v1.0.0",
    ]);
    got.succeed();
    assert!(folder.join("proof").is_file());

    let events = folder.join("events.txt");
    let mut stream = Command::new("curl")
        .args(["-sSN", "--http2", "--cacert"])
        .arg(folder.join("ca.pem"))
        .arg(url(
            &service,
            &format!("{}events", build_path("tls.example/slow")),
        ))
        .stdout(fs::File::create(&events).expect("the folder takes files"))
        .stderr(Stdio::null())
        .spawn()
        .expect("curl starts");
    let streamed = || fs::read_to_string(&events).unwrap_or_default();
    wait("the stream begins", &service, || {
        streamed().contains("event: ")
    });

    let renewed = authority.pair("localhost");
    assert_ne!(shown(&authority, &service), first(&renewed.0).to_vec());
    authority::put(folder, &renewed);
    hang_up(&service);
    wait("the new one is shown", &service, || {
        shown(&authority, &service) == first(&renewed.0).to_vec()
    });
    assert!(service.trace().contains("a new certificate is in use"));

    // Key and certificate of two renewals.
    let (other, _) = authority.pair("localhost");
    authority::put(folder, &(other, renewed.1.clone()));
    hang_up(&service);
    let health = || curl(folder, &[], &url(&service, "/healthz"));
    wait("health tells of it", &service, || {
        let said = health();
        said.starts_with("not ok\n") && said.contains("stays in use: the key does not fit")
    });
    assert_eq!(shown(&authority, &service), first(&renewed.0).to_vec());
    assert!(health().contains("remedy: "), "{}", health());
    fs::remove_file(folder.join("key.pem")).expect("it is there");
    hang_up(&service);
    wait("health tells of it", &service, || {
        health().contains("key.pem` cannot be read")
    });
    authority::put(folder, &renewed);
    hang_up(&service);
    wait("all is well", &service, || health().starts_with("ok\n"));

    let still = stream.try_wait().expect("our own child");
    assert!(still.is_none(), "{still:?}: {}", streamed());
    let role = service.role("certificate");
    assert_eq!(role.len(), 1, "{role:?}");
    let status = host::status(role[0]);
    assert_eq!(status["CapEff"], "0000000000000000");
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(service.stop(), 0);
    let ended = stream.wait().expect("our own child");
    assert!(ended.success(), "the stream ends in order: {ended}");
    assert!(host::process(role[0]).is_none());
}

#[test]
fn a_pair_that_visitors_would_refuse_is_refused_at_the_start_and_by_testconfig() {
    let folder = paths::scratch("tls");
    let authority = signed(folder.path());
    let place = Place::new(folder.path(), fake::shared());
    let file = folder.path().join("hotcell.toml");
    let line = "\ntls-cert = 'cert.pem'\ntls-key = 'key.pem'\nlisten = '127.0.0.1:0'\n";
    fs::write(&file, line).expect("the folder takes files");
    let tested = place.run(["testconfig", "hotcell.toml"]).succeed();
    assert!(tested.out().contains("with TLS"), "{}", tested.out());
    let (good, key) = authority.pair("localhost");
    let other = authority.pair("other.example");
    let mode = |mode| {
        let key = folder.path().join("key.pem");
        fs::set_permissions(key, fs::Permissions::from_mode(mode)).expect("it is our file");
    };
    for (pair, key_mode, part) in [
        (
            (good.clone(), other.1.clone()),
            0o600,
            "the key does not fit",
        ),
        (other, 0o600, "not for `localhost` but for other.example"),
        ((String::new(), key.clone()), 0o600, "cert.pem` is empty"),
        (
            (good.clone(), good.clone()),
            0o600,
            "`openssl pkey` writes one",
        ),
        (
            (good.clone(), key.clone()),
            0o644,
            "key.pem` has the mode 644",
        ),
    ] {
        authority::put(folder.path(), &pair);
        mode(key_mode);
        let tested = place.run(["testconfig", "hotcell.toml"]).wait();
        refused(
            "testconfig",
            &tested,
            2,
            &["hotcell.toml:2: tls-cert: ", part],
        );
        let started = place.run(["serve", "--config", "hotcell.toml", "--admin=127.0.0.1:0"]);
        let sign = folder.path().join("sign").display().to_string();
        let started = started.args(["--sign-dir", &sign]).wait();
        refused("serve", &started, 2, &[part]);
    }
    for (option, part) in [
        ("--tls-cert=cert.pem", "needs --tls-key"),
        ("--tls-key=key.pem", "needs --tls-cert"),
        ("--redirect=127.0.0.1:0", "needs --tls-cert"),
    ] {
        let started = place.run(["serve", option]).wait();
        refused(option, &started, 2, &[part]);
    }
}

#[test]
fn a_service_without_root_reads_the_files_that_it_may_and_no_others() {
    let folder = paths::scratch("tls");
    let mut place = Place::new(folder.path(), fake::shared());
    signed(folder.path());
    let pair = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    if paths::is_root() {
        place = place.as_user(NOBODY);
        let said = place
            .try_serve(&TLS)
            .expect_err("the key is of another user");
        assert!(
            said.contains("key.pem` cannot be read: Permission denied"),
            "{said}"
        );
        for file in &pair {
            std::os::unix::fs::chown(file, Some(NOBODY), Some(NOBODY)).expect("root can");
        }
    }
    let mut service = place.serve(&TLS);
    let said = curl(folder.path(), &[], &url(&service, "/healthz"));
    assert!(said.contains("log: live"), "{said}");
    assert_eq!(service.stop(), 0);
}

/// HEADERS of `GET /healthz`, then RST_STREAM, of one stream (RFC 9113, 6).
fn request_and_reset(stream: u32) -> Vec<u8> {
    // Indexed :method GET and :scheme https; literal :path and :authority (RFC 7541, 6).
    let block = [
        &[0x82, 0x87, 0x04, 8][..],
        b"/healthz",
        &[0x01, 9],
        b"localhost",
    ]
    .concat();
    let length = u8::try_from(block.len()).expect("it is short");
    let id = stream.to_be_bytes();
    let headers = [&[0, 0, length, 1, 5][..], &id, &block].concat();
    let reset = [&[0, 0, 4, 3, 0][..], &id, &[0, 0, 0, 8]].concat();
    [headers, reset].concat()
}

#[test]
fn who_is_slow_or_floods_is_cut_off_and_others_are_served() {
    let folder = paths::scratch("tls");
    let authority = signed(folder.path());
    let place = Place::new(folder.path(), fake::shared());
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let plain = port.local_addr().expect("it has an address");
    drop(port);
    let redirect = format!("--redirect={plain}");
    let options = [&TLS[..], &[redirect.as_str()]].concat();
    let service = place.serve(&options);

    // A handshake that does not come, beside one that does not go on.
    let knock = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(service.address()).expect("it listens");
        stream.write_all(bytes).expect("it takes bytes");
        stream
    };
    let begun = Instant::now();
    let silent = [knock(b""), knock(&[22, 3, 1, 1, 0, 1, 0, 0])];
    // Who speaks without TLS hears it at once.
    let mut answer = Vec::new();
    let mut bare = knock(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
    drop(bare.read_to_end(&mut answer));
    assert!(answer.len() < 20, "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    for mut stream in silent {
        let most = Some(Duration::from_secs(20));
        stream.set_read_timeout(most).expect("it can be set");
        drop(stream.read_to_end(&mut Vec::new()));
    }
    let waited = begun.elapsed().as_secs();
    assert!((9..=15).contains(&waited), "{waited}");

    let sent = http::runtime().block_on(async {
        let connected = authority.connect(service.address(), "h2").await;
        let mut stream = connected.expect("the handshake succeeds");
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(begin).await.expect("it takes bytes");
        let (mut from, mut to) = tokio::io::split(stream);
        let reading = tokio::spawn(async move { from.read_to_end(&mut Vec::new()).await });
        let mut sent = 0_u32;
        let flood = async {
            for number in 0..1_000_000 {
                if to
                    .write_all(&request_and_reset(2 * number + 1))
                    .await
                    .is_err()
                {
                    return;
                }
                sent += 1;
            }
        };
        drop(tokio::time::timeout(HEARD_MAX, flood).await);
        drop(reading.await);
        sent
    });
    assert!(sent < 100_000, "{sent}");

    let moved = http::get(&format!("http://{plain}/a?b=c"));
    assert_eq!(moved.status, 308);
    assert_eq!(moved.header("location"), url(&service, "/a?b=c"));
    let said = curl(folder.path(), &[], &url(&service, "/healthz"));
    assert!(said.starts_with("ok\n"), "{said}");
}
