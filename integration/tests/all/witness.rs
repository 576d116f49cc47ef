//! A witness that others wrote remembers our log, and stops a fork of it.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_integration::{
    command::Run,
    fake, host, hostile, http, paths,
    service::{Place, Service},
};
use sha2::{Digest as _, Sha256};

const NAME: &str = "witness.example/w1";
/// SHA-256 of nothing: the root of a log without records.
const EMPTY: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
/// A witness answers in milliseconds; two busy cores take longer.
const WITNESSED_MAX: Duration = Duration::from_secs(60);

/// litewitness and the agent that holds its key; both end with this.
struct Litewitness {
    children: Vec<Child>,
    key: String,
    url: String,
}

impl Drop for Litewitness {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().expect("our own child can be ended");
            child.wait().expect("a child can be waited for");
        }
    }
}

fn background(program: &Path, args: &[&str], folder: &Path) -> Child {
    Command::new(program)
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

impl Litewitness {
    /// Starts it, knowing one log of no records yet.
    fn start(folder: &Path, log_key: &str) -> Self {
        let run = |program: &str, args: &[&str]| {
            let run = Run::new(program).args(args).folder(folder);
            run.env("SSH_AUTH_SOCK", "agent.sock").succeed()
        };
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", "key"],
        );
        let agent = background("ssh-agent".as_ref(), &["-D", "-a", "agent.sock"], folder);
        let mut children = vec![agent];
        host::wait_for(WITNESSED_MAX, || {
            folder.join("agent.sock").exists().then_some(())
        })
        .expect("the agent listens");
        run("ssh-add", &["-q", "key"]);
        let text = fs::read_to_string(folder.join("key.pub")).expect("a public key");
        let blob = text.split(' ').nth(1).expect("a key in base64");
        let blob = STANDARD.decode(blob).expect("a key in base64");
        let fingerprint = STANDARD.encode(Sha256::digest(&blob));
        let fingerprint = format!("SHA256:{}", fingerprint.trim_end_matches('='));
        let typed = [&[4], &blob[blob.len() - 32..]].concat(); // 4: a cosignature of Ed25519
        let hash = Sha256::digest([NAME.as_bytes(), b"\n", &typed].concat());
        let id: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = free.local_addr().expect("it has an address").to_string();
        drop(free);
        let args = [
            "-db",
            "w.db",
            "-name",
            NAME,
            "-key",
            &fingerprint,
            "-ssh-agent",
            "agent.sock",
            "-listen",
            &address,
        ];
        children.push(background(&hostile::litewitness(), &args, folder));
        let url = format!("http://{address}");
        host::wait_for(WITNESSED_MAX, || {
            std::net::TcpStream::connect(&address).ok()
        })
        .expect("the witness listens");
        let origin = log_key.split('+').next().unwrap_or_default();
        let db = rusqlite::Connection::open(folder.join("w.db")).expect("its database");
        db.execute("INSERT INTO log VALUES (?1, 0, ?2)", [origin, EMPTY])
            .expect("its tables are there");
        db.execute("INSERT INTO key VALUES (?1, ?2)", [origin, log_key])
            .expect("its tables are there");
        let key = format!("{NAME}+{id}+{}", STANDARD.encode(&typed));
        Self { children, key, url }
    }

    fn option(&self) -> String {
        format!("{} {}", self.key, self.url)
    }
}

/// The checkpoint, once it has a line of the witness.
fn cosigned(service: &Service) -> String {
    let line = format!("\n\u{2014} {NAME} ");
    let found = host::wait_for(WITNESSED_MAX, || {
        let text = http::get(&format!("{}/tlog/checkpoint", service.url())).text();
        text.contains(&line).then_some(text)
    });
    found.unwrap_or_else(|| panic!("no cosignature:\n{}", service.trace()))
}

fn size(checkpoint: &str) -> &str {
    checkpoint.lines().nth(1).unwrap_or_default()
}

fn copy(from: &Path, to: &Path) {
    Run::new("cp").arg("-a").arg(from).arg(to).succeed();
}

#[test]
fn a_witness_by_others_cosigns_each_head_and_a_fork_is_refused_and_fenced() {
    let (first, second, third) = (
        paths::scratch("log"),
        paths::scratch("fork"),
        paths::scratch("litewitness"),
    );
    let place = Place::new(first.path(), fake::shared());
    let mut service = place.serve(&[]);
    service.builds("ex.example/hello"); // before the copy, so that both are warm
    let health = http::get(&format!("{}/healthz", service.url())).text();
    assert!(
        health.contains("rollback protection: this disk only"),
        "{health}"
    );
    let witness = Litewitness::start(third.path(), service.verifier_key());
    assert_eq!(service.stop(), 0);
    for name in ["data", "sign"] {
        copy(&first.path().join(name), &second.path().join(name));
    }
    // A witness that comes late sees the whole log.
    let option = ["--witness", &witness.option()];
    let mut service = place.serve(&option);
    assert_eq!(size(&cosigned(&service)), "3");
    service.builds("ex.example/many20");
    let checkpoint = cosigned(&service);
    assert_eq!(size(&checkpoint), "5");
    let proof = http::get(&format!("{}/tlog/proof/3", service.url())).text();
    assert!(proof.ends_with(&checkpoint), "{proof}");
    let health = http::get(&format!("{}/healthz", service.url())).text();
    let protects = format!("this disk, and witnesses: {NAME} (5 records)");
    assert!(health.contains(&protects), "{health}");
    assert_eq!(service.stop(), 0);
    // The copy goes on differently while nobody looks: both of its folders agree with it.
    let place = Place::new(second.path(), fake::shared());
    let mut fork = place.serve(&[]);
    fork.builds("ex.example/UpperCase/Tool");
    assert_eq!(fork.stop(), 0);
    let fork = place.serve(&option);
    let health = http::get(&format!("{}/healthz", fork.url()));
    let text = health.text();
    assert_eq!(health.status, 503, "{text}");
    assert!(
        text.contains("log: fenced") && text.contains(NAME),
        "{text}"
    );
    assert!(
        text.contains("remedy: stop the service, keep both folders"),
        "{text}"
    );
    let checkpoint = http::get(&format!("{}/tlog/checkpoint", fork.url())).text();
    assert_eq!(size(&checkpoint), "5");
    assert!(!checkpoint.contains(NAME), "{checkpoint}");
    // It reads, it does not append.
    fork.builds("ex.example/UpperCase/Tool");
    let refused = http::get(&fork.record_url("ex.example/many20"));
    assert_ne!(refused.status, 200, "{}", refused.text());
}
