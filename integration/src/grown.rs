//! Logs of a chosen size, made by the appender of the program itself, for those who read logs.

use std::{
    fs,
    os::unix::fs::lchown,
    path::{Path, PathBuf},
};

use hotcell::{
    log::{Log, LogConfig, NewEntry},
    roles::SERVE_ID,
    spec::{BuildKey, Record, Sum},
    tlog::{Frontier, leaf_hash},
};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::{http, paths, service::Place};

/// Entries that wait for the appender at the same time.
const AT_ONCE: usize = 500;

/// Where `serve` in this place keeps its log.
pub fn data(place: &Place) -> PathBuf {
    place.folder.join("data").join(LogConfig::FOLDER)
}

/// The `n`th record, without its companion.
pub fn record(n: u64) -> (Record, [u8; 32]) {
    let key = format!("ex.example/grown{n}@v1.0.0/linux-amd64-go1.26.8/");
    let sha256: [u8; 32] = Sha256::digest(&key).into();
    let record = Record {
        key: BuildKey::parse(&key).expect("a key"),
        size: 1000 + n,
        sum: Sum::of(&sha256),
    };
    (record, sha256)
}

/// The `n`th record as an entry.
pub fn entry(n: u64) -> NewEntry {
    submission(record(n))
}

fn submission((record, sha256): (Record, [u8; 32])) -> NewEntry {
    NewEntry {
        record,
        sha256,
        provenance_sha256: [9; 32],
        with: Box::new(|_, _| Ok(())),
    }
}

/// Makes a log of `size` leaves in the folder of a place that has none yet, for `serve` to open.
///
/// The appender makes leaf 0 and then two leaves for each build. For an even size a record without
/// its companion is laid into the database with a head that nobody has signed yet, as a crash
/// leaves them; the start of `serve` signs it. Readers of logs must accept it, an auditor of builds
/// must not.
pub fn grow(place: &Place, size: u64) {
    let builds = size.saturating_sub(1) / 2;
    append(place, (0..builds).map(record));
    if size > 0 && size.is_multiple_of(2) {
        lay_record(&LogConfig::of(&data(place)).database, builds);
    }
    give_to_serve(place);
}

/// Makes a log of these records, in any order, and their companions, or adds them to one.
pub fn append(place: &Place, records: impl IntoIterator<Item = (Record, [u8; 32])>) {
    let config = LogConfig::of(&data(place));
    http::runtime().block_on(async {
        let log = Log::open_local(&config, &place.folder.join("sign"), "localhost");
        let log = log.expect("a new log can be made");
        let mut tasks = tokio::task::JoinSet::new();
        for entry in records.into_iter().map(submission) {
            if tasks.len() == AT_ONCE {
                tasks.join_next().await;
            }
            let log = log.clone();
            tasks.spawn(async move {
                log.append(entry).await.expect("the log takes entries");
            });
        }
        tasks.join_all().await;
    });
    give_to_serve(place);
}

/// One more record, with an unsigned head over it.
fn lay_record(database: &Path, n: u64) {
    let db = Connection::open(database).expect("the database can be opened");
    let record = record(n).0;
    let add = "INSERT INTO log_record SELECT max(id) + 1, ?1 FROM log_record";
    db.execute(add, [record.text()])
        .expect("the database takes rows");
    let add = "INSERT INTO log_key SELECT ?1, max(id) FROM log_record";
    db.execute(add, [record.key.to_string()])
        .expect("the database takes rows");
    let mut frontier = Frontier::default();
    let mut leaves = db
        .prepare("SELECT body FROM log_record ORDER BY id")
        .expect("there are records");
    let texts = leaves.query_map([], |row| row.get::<_, String>(0));
    for text in texts.expect("they can be read") {
        frontier.push(leaf_hash(text.expect("a text").as_bytes()));
    }
    let tree = frontier.tree();
    let head = "INSERT INTO log_head (size, root) VALUES (?1, ?2)";
    db.execute(head, rusqlite::params![tree.size, tree.root.0])
        .expect("the database takes rows");
}

/// Gives all that a test has laid into the data folder to the user of `serve`.
pub fn give_to_serve(place: &Place) {
    if paths::is_root() {
        give(&data(place));
    }
}

/// Gives the data folder to the user of `serve`, which only a service started as root has.
fn give(path: &Path) {
    lchown(path, Some(SERVE_ID), Some(SERVE_ID)).expect("root can give away");
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().expect("it has a type").is_dir() {
            give(&entry.path());
        } else {
            lchown(entry.path(), Some(SERVE_ID), Some(SERVE_ID)).expect("root can give away");
        }
    }
}
