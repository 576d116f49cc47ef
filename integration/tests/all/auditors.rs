//! Readers of logs that others have written accept our log at every size where something changes,
//! and refuse it with one byte flipped; so does our own auditor.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use hotcell::spec::{BuildKey, Record, Sum, hex, unhex};
use hotcell_integration::{
    command::{Ended, Run},
    fake,
    grown::{self, data},
    hostile, http, paths, sdk,
    service::{self, Place, Service},
    tools,
};
use serde_json::Value;
use tempfile::TempDir;

/// One leaf; a full tile, one leaf less and one more; several, the last one of them not full. Even
/// sizes end with a record whose companion is missing.
const SIZES: [u64; 6] = [1, 255, 256, 257, 700, 701];
/// A second level with more than one tile; only in long runs.
const LONG: u64 = 70_001;

/// A service with a log of some size.
struct Grown {
    service: Service,
    place: Place,
    folder: TempDir,
}

fn serve(size: u64) -> Grown {
    let folder = paths::scratch("grown");
    let place = Place::new(folder.path(), fake::shared());
    grown::grow(&place, size);
    let service = place.serve(&[]);
    Grown {
        service,
        place,
        folder,
    }
}

impl Grown {
    fn log(&self) -> String {
        format!("{}/tlog", self.service.url())
    }

    /// `hotcell log audit`, as a user who knows nothing yet.
    fn audit(&self, what: &str) -> Ended {
        let key = self.service.verifier_key();
        let evidence = self.folder.path().join("evidence.json");
        let evidence = evidence.to_str().expect("paths of tests are UTF-8");
        drop(fs::remove_file(evidence));
        drop(fs::remove_dir_all(self.folder.path().join("state")));
        let args = [
            "log",
            "audit",
            what,
            "--verifierkey",
            key,
            "--evidence",
            evidence,
            "--json",
        ];
        self.place.run(args).wait()
    }

    /// The data folder, audited beside the service.
    fn audit_folder(&self) -> Ended {
        let data = self.place.folder.join("data");
        self.audit(data.to_str().expect("paths of tests are UTF-8"))
    }

    fn evidence(&self) -> Value {
        let text = fs::read(self.folder.path().join("evidence.json")).expect("there is evidence");
        serde_json::from_slice(&text).expect("it is a JSON document")
    }

    fn xmod(&self) -> Result<u64, String> {
        told(
            &Run::new(hostile::xmod())
                .args([&*self.log(), self.service.verifier_key()])
                .wait(),
        )
    }

    fn torchwood(&self) -> Result<u64, String> {
        let args = [&*self.log(), self.service.verifier_key()];
        told(&Run::new(hostile::torchwood()).args(args).wait())
    }

    /// Its exit code is 0 whatever it finds, and some logs that are wrong keep it waiting for ever.
    fn fsck(&self, seconds: &str) -> Result<u64, String> {
        let key = self.folder.path().join("key");
        fs::write(&key, self.service.verifier_key()).expect("the folder takes files");
        let ended = Run::new("timeout")
            .arg(seconds)
            .arg(hostile::fsck())
            .arg(format!("--storage_url={}/", self.log()))
            .arg(format!("--public_key={}", key.display()))
            .arg("--ui=false")
            .wait();
        let said = format!("{}\n{}", ended.out(), ended.err());
        let size = said.split("Successfully fsck'd log with size ").nth(1);
        let size = size.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        size.ok_or(said)
    }

    /// What all of them say.
    fn all(&self, seconds: &str) -> [(&'static str, Result<u64, String>); 3] {
        [
            ("x/mod", self.xmod()),
            ("torchwood", self.torchwood()),
            ("fsck", self.fsck(seconds)),
        ]
    }
}

fn told(ended: &Ended) -> Result<u64, String> {
    match ended.code {
        0 => Ok(ended.json()["size"].as_u64().expect("a size")),
        _ => Err(ended.err()),
    }
}

fn is_accepted(size: u64) {
    let grown = serve(size);
    for (name, said) in grown.all("120") {
        assert_eq!(said, Ok(size), "{name}");
    }
    for ended in [grown.audit(&grown.log()), grown.audit_folder()] {
        if size % 2 == 1 {
            assert_eq!(ended.code, 0, "{size}: {}", ended.err());
            let told = ended.json();
            assert_eq!(told["size"], size);
            assert_eq!(told["builds"], (size - 1) / 2);
        } else {
            let expected = format!("leaf {}: ", size - 1);
            assert_eq!(ended.code, 3, "{size}: {}", ended.err());
            assert!(ended.err().contains(&expected), "{}", ended.err());
            assert!(
                ended.err().contains("companion is missing"),
                "{}",
                ended.err()
            );
        }
    }
}

#[test]
fn readers_of_others_accept_our_log_at_every_size_where_something_changes() {
    SIZES.into_iter().for_each(is_accepted);
    if tools::is_long() {
        is_accepted(LONG);
    }
}

/// Changes a file that belongs to somebody else and is read-only.
fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file can be read");
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("its mode can change");
    fs::write(path, bytes).expect("the file can be written");
}

/// Everybody refuses the log, and our evidence names the part.
fn is_refused(grown: &Grown, part: &str, sentence: &str) {
    for (name, said) in grown.all("10") {
        assert!(
            said.is_err(),
            "{name} accepts a flipped byte in {part}: {said:?}"
        );
    }
    for (what, ended) in [
        ("address", grown.audit(&grown.log())),
        ("folder", grown.audit_folder()),
    ] {
        assert_eq!(ended.code, 3, "{what}: {}", ended.err());
        assert!(ended.err().contains(sentence), "{what}: {}", ended.err());
        let evidence = grown.evidence();
        let note = evidence["heads"][0]["note"].as_str().unwrap_or_default();
        assert!(note.contains("\u{2014} localhost "), "{what}: {evidence}");
        let parts = evidence["parts"].as_array().expect("a list");
        let shown = parts.iter().any(|shown| {
            let path = shown["path"].as_str().unwrap_or_default();
            path.ends_with(part) && shown["served_hex"] != shown["expected_hex"]
        });
        assert!(shown, "{what}: {evidence}");
    }
}

#[test]
fn one_flipped_byte_in_a_tile_or_a_record_is_refused_by_everybody() {
    let grown = serve(257);
    let tile = data(&grown.place).join("tiles/0/000");
    let flip = |bytes: &mut Vec<u8>| bytes[77 * 32 + 5] ^= 1;
    change(&tile, flip);
    is_refused(&grown, "/0/000", "leaf 77: its hash in `tile/");
    change(&tile, flip);
    assert_eq!(grown.audit(&grown.log()).code, 0);
    let database = rusqlite::Connection::open(data(&grown.place).join("hotcell.db"));
    let database = database.expect("the database can be opened");
    // Appended by many at once, so that any record may lie there.
    let sql = "UPDATE log_record SET body = replace(body, ' v1.0.0 ', ' v1.0.1 ')
               WHERE id = 77 AND body LIKE '% v1.0.0 %'";
    assert_eq!(database.execute(sql, []).expect("the row changes"), 1);
    is_refused(&grown, "/0/000", "leaf 77: its hash in `tile/");
}

/// A log of builds that say they have these hashes, audited with all of them built again.
fn rebuilt(name: &str, builds: &[(&str, [u8; 32], u64)]) -> (Ended, TempDir) {
    let folder = paths::scratch(name);
    let place = Place::new(folder.path(), fake::shared());
    let record = |(module, sha256, size): &(&str, [u8; 32], u64)| {
        let key = format!("{module}@v1.0.0/linux-amd64-{}/", sdk::GO);
        let record = Record {
            key: BuildKey::parse(&key).expect("a key"),
            size: *size,
            sum: Sum::of(sha256),
        };
        (record, *sha256)
    };
    for build in builds {
        grown::append(&place, [record(build)]);
    }
    let data = folder.path().join("data").display().to_string();
    let evidence = folder.path().join("evidence.json").display().to_string();
    let args = [
        "log",
        "audit",
        &data,
        "--rebuild",
        "100",
        "--json",
        "--evidence",
        &evidence,
    ];
    (service::user().run(args).wait(), folder)
}

#[test]
fn builds_of_a_log_are_made_again_and_another_binary_is_evidence() {
    let folder = paths::scratch("rebuilt");
    let told = crate::support::build("ex.example/hello@v1.0.0", &folder.path().join("hello"), &[]);
    let told = told.json();
    let sha256 = unhex(told["sha256"].as_str().expect("a hash")).expect("64 digits");
    let size = told["size"].as_u64().expect("a size");
    let honest = ("ex.example/hello", sha256, size);
    let (ended, _folder) = rebuilt("honest", &[honest, ("ex.example/nowhere", [7; 32], 7)]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let document = ended.json();
    assert_eq!(document["rebuilt"]["same"], 1, "{document}");
    assert_eq!(document["rebuilt"]["unjudged"][0]["index"], 3, "{document}");
    let (ended, folder) = rebuilt("lying", &[("ex.example/hello", [7; 32], size)]);
    assert_eq!(ended.code, 3, "{}", ended.err());
    assert!(
        ended.err().contains("leaf 1: `ex.example/hello@v1.0.0/"),
        "{}",
        ended.err()
    );
    let text = fs::read(folder.path().join("evidence.json")).expect("there is evidence");
    let evidence: Value = serde_json::from_slice(&text).expect("it is a JSON document");
    assert_eq!(evidence["parts"][0]["served_hex"], hex(&[7; 32]));
    assert_eq!(evidence["parts"][0]["expected_hex"], hex(&sha256));
}

/// Indexes of what a follower tells until it tells of this module; then it is ended.
fn followed(place: &Place, service: &Service, module: &str) -> Vec<u64> {
    let log = format!("{}/tlog", service.url());
    let args = [
        "log",
        "follow",
        &log,
        "--verifierkey",
        service.verifier_key(),
    ];
    let mut child = place.run(args).spawn();
    let lines = BufReader::new(child.stdout.take().expect("it has a pipe")).lines();
    let mut indexes = Vec::new();
    for line in lines {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("a document");
        indexes.push(line["index"].as_u64().expect("an index"));
        if line["module"] == module {
            break;
        }
    }
    child.kill().expect("our own child can be ended");
    child.wait().expect("a child can be waited for");
    indexes
}

#[test]
fn a_follower_tells_what_is_built_while_it_waits_and_goes_on_where_it_stopped() {
    let service = service::service();
    let folder = paths::scratch("follow");
    let place = Place::new(folder.path(), fake::shared());
    let first = followed(&place, service, "ex.example/hello");
    assert_eq!(first[..2], [0, 1], "{first:?}");
    // Built while the second run waits.
    let address = service.record_url("ex.example/many20");
    let building = std::thread::spawn(move || http::get(&address).status);
    let second = followed(&place, service, "ex.example/many20");
    assert_eq!(building.join().expect("it is built"), 200);
    let mut all = [first, second].concat();
    let records = (0..all.len() as u64).map(|n| 1 + 2 * n);
    let whole: Vec<u64> = [0].into_iter().chain(records).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, whole[..all.len()], "no record is left out");
}
