//! A witness that others wrote remembers our log, and stops a fork of it; and so do two instances
//! for each other.

use std::{
    fs,
    path::{Path, PathBuf},
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
        let address = host::free_address().to_string();
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
    cosigned_by(service, NAME)
}

fn cosigned_by(service: &Service, name: &str) -> String {
    let line = format!("\n\u{2014} {name} ");
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
    let place = Place::new(first.path(), fake::shared()).stocked();
    let mut service = place.serve(&[]);
    service.builds("ex.example/hello");
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

/// One of two instances; the other one knows its address before it starts.
struct Instance {
    place: Place,
    address: String,
    name: &'static str,
}

impl Instance {
    fn new(folder: &Path, name: &'static str) -> Self {
        Self {
            place: Place::new(folder, fake::shared()).stocked(),
            address: host::free_address().to_string(),
            name,
        }
    }

    fn serve(&self, more: &[&str]) -> Service {
        let all = [&["--name", self.name], more].concat();
        self.place.serve_at(&self.address, &all)
    }
}

/// What torchwood says to the checkpoint at an address: signed by this log and this witness.
fn torchwood(folder: &Path, log: &str, witness: &str, url: &str) -> Result<u64, String> {
    let key = witness.split(' ').next().unwrap_or_default();
    let policy = folder.join("policy");
    let text = format!("log {log}\nwitness w {key}\nquorum w\n");
    fs::write(&policy, text).expect("the folder takes files");
    let run = Run::new(hostile::torchwood()).arg("-policy").arg(&policy);
    let ended = run.arg(url).wait();
    match ended.code {
        0 => Ok(ended.json()["size"].as_u64().expect("a size")),
        _ => Err(ended.err()),
    }
}

/// The one file of this name, one folder further down.
fn find(folder: &Path, name: &str) -> PathBuf {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("it can be listed").path().join(name));
    let found = paths.into_iter().find(|path| path.is_file());
    found.expect("there is such a file")
}

/// Where a witness shows what it has seen of a log.
fn seen_url(witness: &str, origin: &str) -> String {
    let url = witness.split(' ').nth(1).expect("key and address");
    let digest = Sha256::digest(origin);
    let id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{url}{id}/checkpoint")
}

#[test]
fn two_instances_are_witnesses_of_each_other_and_a_fork_of_one_is_refused_and_told() {
    let [first, second, third] = ["alpha", "beta", "fork"].map(paths::scratch);
    let alpha = Instance::new(first.path(), "alpha");
    let beta = Instance::new(second.path(), "beta");
    // What each of them prints is what the other one has to be told.
    let keys = [&alpha, &beta].map(|instance| instance.serve(&[]).verifier_key().to_owned());
    let itself = alpha.place.run(["serve", "--witness-log", &keys[0]]);
    let itself = itself.args(["--listen", &alpha.address, "--admin", "127.0.0.1:0"]);
    let itself = itself.args(["--sign-dir", "sign"]).wait();
    assert_eq!(itself.code, 2, "{}", itself.err());
    let no_witness = "a log is no witness of its own";
    assert!(itself.err().contains(no_witness), "{}", itself.err());
    let as_witness = |service: &Service| service.witness().to_owned();
    let of_alpha = as_witness(&alpha.serve(&["--witness-log", &keys[1]]));
    // Beta comes first and finds nobody; alpha, with the key that it had, is found later.
    let of_two = ["--witness-log", &keys[0], "--witness", &of_alpha];
    let mut two = beta.serve(&of_two);
    let of_beta = as_witness(&two);
    let options = ["--witness-log", &keys[1], "--witness", &of_beta];
    let mut one = alpha.serve(&options);
    assert_eq!(one.witness(), of_alpha);
    assert_eq!(size(&cosigned_by(&one, "beta/witness")), "1");
    assert_eq!(size(&cosigned_by(&two, "alpha/witness")), "1");
    one.builds("ex.example/hello");
    two.builds("ex.example/many20");
    for (service, log, own, name) in [
        (&one, 0, &of_alpha, "beta/witness"),
        (&two, 1, &of_beta, "alpha/witness"),
    ] {
        let other = if log == 0 { &of_beta } else { &of_alpha };
        let origin = ["alpha", "beta"][log];
        assert_eq!(size(&cosigned_by(service, name)), "3");
        for url in [
            format!("{}/tlog/checkpoint", service.url()),
            seen_url(other, origin),
        ] {
            let judged = |witness| torchwood(third.path(), &keys[log], witness, &url);
            assert_eq!(judged(other), Ok(3), "{url}");
            judged(own).unwrap_err();
        }
        let health = http::get(&format!("{}/healthz", service.url())).text();
        let others = ["beta", "alpha"][log];
        let told = format!("note: witness of {others} (3 records, ");
        assert!(health.contains(&told), "{health}");
    }
    // What a witness has cosigned survives its death, and it does not begin anew without it.
    two.kill_9();
    let seen = find(&second.path().join("sign"), "witness.seen");
    let aside = second.path().join("aside");
    fs::rename(&seen, &aside).expect("the file can be moved");
    let lost = beta.place.run(["serve", "--sign-dir", "sign"]);
    let lost = lost.args(["--listen", &beta.address, "--admin", "127.0.0.1:0"]);
    let lost = lost.args(["--witness-log", &keys[0]]).wait();
    assert_eq!(lost.code, 1, "{}", lost.err());
    let restore = "restore the newest copy of --sign-dir";
    assert!(lost.err().contains(restore), "{}", lost.err());
    fs::rename(&aside, &seen).expect("the file can be moved");
    let mut two = beta.serve(&of_two);
    let health = http::get(&format!("{}/healthz", two.url())).text();
    assert!(health.contains("witness of alpha (3 records, "), "{health}");
    assert_eq!(one.stop(), 0);
    let copy_of_alpha = third.path().join("place");
    fs::create_dir(&copy_of_alpha).expect("the folder takes folders");
    for name in ["data", "sign"] {
        copy(&first.path().join(name), &copy_of_alpha.join(name));
    }
    // Both at the same moment, as after a power cut: each hears of the other before it goes on.
    assert_eq!(two.stop(), 0);
    let (mut one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| alpha.serve(&options));
        let two = beta.serve(&of_two);
        (one.join().expect("alpha starts"), two)
    });
    for service in [&one, &two] {
        let trace = service.trace();
        assert!(!trace.contains("nothing came in"), "{trace}");
    }
    one.builds("ex.example/many20");
    assert_eq!(size(&cosigned_by(&one, "beta/witness")), "5");
    assert_eq!(one.stop(), 0);
    // The copy goes on differently, with the key of alpha, and then asks beta.
    let place = Place::new(&copy_of_alpha, fake::shared());
    let mut fork = place.serve(&[]);
    fork.builds("ex.example/UpperCase/Tool");
    assert_eq!(fork.stop(), 0);
    let fork = place.serve(&["--witness", &of_beta]);
    let health = http::get(&format!("{}/healthz", fork.url()));
    let text = health.text();
    assert_eq!(health.status, 503, "{text}");
    let fenced =
        "witness beta/witness shows a checkpoint of 5 records with our signature that this";
    assert!(text.contains(fenced), "{text}");
    let told = http::get(&format!("{}/healthz", two.url())).text();
    let alarm = "note: alpha has signed two different heads of 5 records: a fork";
    assert!(told.contains(alarm), "{told}");
    let seen = seen_url(&of_beta, "alpha");
    assert_eq!(torchwood(third.path(), &keys[0], &of_beta, &seen), Ok(5));
    let root = |url: &str| http::get(url).text().lines().nth(2).map(str::to_owned);
    let forked = format!("{}/tlog/checkpoint", fork.url());
    assert_ne!(root(&forked), root(&seen));
    assert!(!http::get(&forked).text().contains("beta/witness"));
}
