//! The log as a whole: what is answered stays, what is signed never forks, whatever breaks when.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use sha2::{Digest, Sha256};

use super::{fault::Step, *};
use crate::{
    spec::{Companion, Sum, hex},
    tlog::{Hash, Note, SIZE_MAX, testing::NaiveTree, text::parse_tree},
};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn config(&self) -> LogConfig {
        let data = self.0.path().join("data");
        LogConfig {
            database: data.join("hotcell.db"),
            tiles: data.join("tile"),
        }
    }

    fn sign(&self) -> PathBuf {
        self.0.path().join("sign")
    }

    fn open(&self) -> Result<Log, OpenError> {
        Log::open_local(&self.config(), &self.sign(), "log.example.org")
    }

    fn database(&self) -> Connection {
        Connection::open(self.config().database).unwrap()
    }
}

fn key(n: usize) -> BuildKey {
    BuildKey::parse(&format!(
        "example.com/mod{n}@v1.0.0/cmd/tool/linux-amd64-go1.26.8/"
    ))
    .unwrap()
}

fn entry_of(n: usize, binary: &str) -> NewEntry {
    let sha256: [u8; 32] = Sha256::digest(binary).into();
    NewEntry {
        record: Record {
            key: key(n),
            size: 1000,
            sum: Sum::of(&sha256),
        },
        sha256,
        provenance_sha256: [9; 32],
        with: Box::new(|_, _| Ok(())),
    }
}

fn entry(n: usize) -> NewEntry {
    entry_of(n, &format!("binary {n}"))
}

fn healthy(log: &Log) -> bool {
    log.health() == Health::Live
}

/// Checks everything that the log shows against the plainest tree, from what it serves alone.
fn audit(log: &Log) -> Tree {
    let key = VerifierKey::parse(log.verifier_key()).unwrap();
    let note = Note::parse(log.latest().as_bytes()).unwrap();
    let tree = parse_tree(note.verify(&key).unwrap()).unwrap();
    assert_eq!(tree, log.tree());
    let mut texts = Vec::new();
    for tile in crate::tlog::tile::new_tiles(0, tree.size)
        .iter()
        .filter(|t| t.level() == 0)
    {
        let path = crate::tlog::tile::data_path(tile);
        let bytes = log.tile(&path[5..]).unwrap().unwrap();
        let records = text::parse_data_tile(&bytes, tile.width()).unwrap();
        texts.extend(records.into_iter().map(str::to_owned));
    }
    let naive = NaiveTree {
        leaves: texts
            .iter()
            .map(|text| crate::tlog::leaf_hash(text.as_bytes()))
            .collect(),
    };
    assert_eq!(naive.tree(tree.size), tree);
    for tile in crate::tlog::tile::new_tiles(0, tree.size) {
        let bytes = log.tile(&tile.sumdb_path()[5..]).unwrap().unwrap();
        assert_eq!(bytes, naive.tile(&tile), "{tile:?}");
        assert_eq!(log.tile(&tile.c2sp_path()[5..]).unwrap().unwrap(), bytes);
    }
    assert!(texts[0].starts_with(&format!("key/1 log {key}\nkey/1 dsse ed25519:")));
    let mut seen = HashMap::new();
    for (n, pair) in texts[1..].chunks(2).enumerate() {
        let index = 1 + 2 * n as u64;
        let record = Record::parse(&pair[0]).unwrap();
        let companion = Companion::parse(&pair[1]).unwrap();
        assert_eq!(
            (companion.record_index, &companion.key),
            (index, &record.key)
        );
        assert_eq!(Sum::of(&companion.sha256), record.sum);
        assert_eq!(
            seen.insert(record.key.to_string(), index),
            None,
            "two records for one key"
        );
        let found = log.lookup(&record.key).unwrap().unwrap();
        assert_eq!((found.index, &found.record), (index, &pair[0]));
    }
    tree
}

#[tokio::test]
async fn entries_are_there_when_they_are_answered_and_after_a_restart() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    assert_eq!(audit(&log).size, 1);
    for n in 0..3 {
        assert_eq!(log.append(entry(n)).await.unwrap(), 1 + 2 * n as u64);
        assert_eq!(audit(&log).size, 3 + 2 * n as u64);
    }
    let (head, name) = (log.latest(), log.verifier_key().to_owned());
    drop(log);
    let log = folder.open().unwrap();
    assert_eq!(
        (log.latest(), log.verifier_key(), log.health()),
        (head, &*name, Health::Live)
    );
    audit(&log);
    assert_eq!(log.lookup(&key(77)).unwrap(), None);
}

#[tokio::test]
async fn the_same_bytes_again_give_the_old_index_and_other_bytes_are_never_logged() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    let called = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let count = Arc::clone(&called);
        let with: WithEntry = Box::new(move |_, index| {
            count.fetch_add(1, Ordering::Relaxed);
            assert_eq!(index, 1);
            Ok(())
        });
        assert_eq!(log.append(NewEntry { with, ..entry(5) }).await.unwrap(), 1);
    }
    assert_eq!(called.load(Ordering::Relaxed), 2);
    let other = log.append(entry_of(5, "other")).await;
    assert!(matches!(other, Err(AppendError::Conflict { existing }) if existing.contains("mod5")));
    // Same 160 bits, other 256: only the companion can tell.
    let mut twin = entry(5);
    twin.sha256[31] ^= 1;
    assert!(matches!(
        log.append(twin).await,
        Err(AppendError::Conflict { .. })
    ));
    let mut wrong = entry(6);
    wrong.sha256[0] ^= 1;
    assert!(matches!(
        log.append(wrong).await,
        Err(AppendError::Invalid { .. })
    ));
    assert_eq!(audit(&log).size, 3);
}

#[tokio::test]
async fn rows_of_the_caller_are_written_with_the_entry_or_not_at_all() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    folder
        .database()
        .execute_batch("CREATE TABLE mine (i INTEGER PRIMARY KEY)")
        .unwrap();
    let insert = |i: u64| -> WithEntry {
        Box::new(move |tx, index| {
            tx.execute("INSERT INTO mine VALUES (?1)", [index + 100])?;
            tx.execute("INSERT INTO mine VALUES (?1)", [i]).map(drop)
        })
    };
    log.append(NewEntry {
        with: insert(7),
        ..entry(0)
    })
    .await
    .unwrap();
    let (bad, good) = tokio::join!(
        log.append(NewEntry {
            with: insert(7),
            ..entry(1)
        }),
        log.append(NewEntry {
            with: insert(8),
            ..entry(2)
        }),
    );
    assert!(matches!(bad, Err(AppendError::Rows(_))));
    assert_eq!(good.unwrap(), 3);
    assert_eq!(audit(&log).size, 5);
    let count = "SELECT count(*) FROM mine";
    assert_eq!(
        folder
            .database()
            .query_row(count, [], |row| row.get::<_, i64>(0))
            .unwrap(),
        4
    );
}

#[tokio::test]
async fn many_at_once_are_logged_once_each_and_full_tiles_become_files() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..600 {
        let log = log.clone();
        tasks.spawn(async move { log.append(entry(n % 300)).await.unwrap() });
    }
    let mut indexes: Vec<_> = tasks.join_all().await;
    indexes.sort_unstable();
    indexes.dedup();
    assert_eq!(indexes.len(), 300);
    assert_eq!(audit(&log).size, 601);
    drop(log);
    let tile = folder.config().tiles.join("0/000");
    assert_eq!(std::fs::metadata(&tile).unwrap().len(), 8192);
    // A lost tile is made again from the records; a changed one is never believed.
    std::fs::remove_file(&tile).unwrap();
    let log = folder.open().unwrap();
    assert!(tile.exists());
    audit(&log);
    drop(log);
    let mut bytes = std::fs::read(&tile).unwrap();
    bytes[77] ^= 4;
    crate::store::durable::replace(&tile, &bytes, 0o444).unwrap();
    assert!(matches!(
        folder.open(),
        Err(OpenError::Load(LoadError::Damaged { .. }))
    ));
}

#[tokio::test]
async fn tiles_of_every_earlier_size_are_cut_and_nothing_else_is_served() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    for n in 0..130 {
        log.append(entry(n)).await.unwrap();
    }
    assert_eq!(audit(&log).size, 261);
    for path in [
        "8/0/000.p/1",
        "0/000.p/255",
        "8/0/001.p/5",
        "8/data/000.p/7",
        "entries/000",
    ] {
        assert!(log.tile(path).unwrap().is_some(), "{path}");
    }
    for path in [
        "8/0/001.p/6",
        "8/0/001",
        "8/0/002.p/1",
        "8/2/000.p/1",
        "x",
        "8/data/001",
    ] {
        assert_eq!(log.tile(path).unwrap(), None, "{path}");
    }
    let full = log.tile("0/000").unwrap().unwrap();
    assert_eq!(log.tile("8/0/000.p/3").unwrap().unwrap(), full[..96]);
}

#[test]
fn one_appender_at_a_time() {
    let folder = Folder::new();
    let _log = folder.open().unwrap();
    // The signer's own lock speaks first; without it the data folder's does.
    assert!(matches!(
        folder.open(),
        Err(OpenError::Signer(SignError::Locked))
    ));
    assert!(matches!(
        Log::open(&folder.config(), None),
        Err(OpenError::Locked)
    ));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_restored_backup_starts_fenced_and_reads() {
    let folder = Folder::new();
    let (data, backup) = (folder.0.path().join("data"), folder.0.path().join("backup"));
    let log = folder.open().unwrap();
    log.append(entry(0)).await.unwrap();
    drop(log);
    copy(&data, &backup);
    let log = folder.open().unwrap();
    log.append(entry(1)).await.unwrap();
    drop(log);
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    let log = folder.open().unwrap();
    assert!(matches!(log.health(), Health::Fenced { why, .. } if why.contains("older copy")));
    assert_eq!(audit(&log).size, 3);
    assert!(matches!(
        log.append(entry(2)).await,
        Err(AppendError::Fenced { .. })
    ));
}

#[tokio::test]
async fn a_log_whose_signer_is_gone_or_forgot_starts_fenced_and_a_new_one_is_never_made_silently() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    log.append(entry(0)).await.unwrap();
    let key = VerifierKey::parse(log.verifier_key()).unwrap();
    drop(log);
    let elsewhere = folder.0.path().join("elsewhere");
    let log = Log::open_local(&folder.config(), &elsewhere, "log.example.org").unwrap();
    assert!(matches!(log.health(), Health::Fenced { why, .. } if why.contains("no signer")));
    assert_eq!((audit(&log).size, elsewhere.exists()), (3, false));
    assert!(log.envelope(b"{}").is_err());
    drop(log);
    // The database is gone, the tiles are not: refused before a key is made.
    std::fs::create_dir_all(folder.config().tiles.join("0")).unwrap();
    for name in ["hotcell.db", "hotcell.db-wal", "hotcell.db-shm"] {
        let _maybe = std::fs::remove_file(folder.config().database.with_file_name(name));
    }
    assert!(matches!(folder.open(), Err(OpenError::Orphaned { .. })));
    // A fresh data folder under a key with a past is no new log.
    std::fs::remove_dir_all(folder.config().tiles).unwrap();
    let signer = LocalSigner::open(&folder.sign(), &key).unwrap().unwrap();
    let opened = Log::open(&folder.config(), Some(Arc::new(signer)));
    assert!(matches!(opened, Err(OpenError::Begin(_))));
}

#[tokio::test]
async fn a_fork_of_the_data_folder_is_fenced() {
    let folder = Folder::new();
    let (data, backup) = (folder.0.path().join("data"), folder.0.path().join("backup"));
    let log = folder.open().unwrap();
    let signer_folder = folder
        .sign()
        .join(VerifierKey::parse(log.verifier_key()).unwrap().id());
    drop(log);
    copy(&data, &backup);
    copy(&signer_folder, &folder.0.path().join("signer-backup"));
    let log = folder.open().unwrap();
    log.append(entry(1)).await.unwrap();
    drop(log);
    // The other history, made with a copy of the signer's folder, is as long but not the same.
    let (one, last) = (
        folder.0.path().join("one"),
        std::fs::read(signer_folder.join("last")),
    );
    std::fs::rename(&data, &one).unwrap();
    copy(&backup, &data);
    copy(&folder.0.path().join("signer-backup"), &signer_folder);
    let log = folder.open().unwrap();
    log.append(entry(2)).await.unwrap();
    drop(log);
    crate::store::durable::replace(&signer_folder.join("last"), &last.unwrap(), 0o600).unwrap();
    let log = folder.open().unwrap();
    assert!(matches!(log.health(), Health::Fenced { why, .. } if why.contains("fork")));
}

#[tokio::test]
async fn damaged_records_and_heads_are_refused() {
    for damage in [
        "UPDATE log_record SET body = replace(body, 'mod0', 'mod9') WHERE id = 1",
        "DELETE FROM log_record WHERE id = 2",
        "INSERT INTO log_record VALUES (3, 'x')",
        "UPDATE log_head SET root = zeroblob(32) WHERE size = 3",
        "DELETE FROM log_head",
        "UPDATE log_meta SET value = 'x'",
    ] {
        let folder = Folder::new();
        let log = folder.open().unwrap();
        log.append(entry(0)).await.unwrap();
        drop(log);
        folder.database().execute_batch(damage).unwrap();
        match folder.open() {
            Ok(log) => assert!(!healthy(&log), "{damage}"),
            Err(error) => assert!(matches!(error, OpenError::Load(_)), "{damage}: {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_disk_that_fails_for_a_while_fences_the_log_until_it_is_mended() {
    let folder = Folder::new();
    let signer: Arc<dyn Signer> =
        Arc::new(LocalSigner::create(&folder.sign(), "log.example.org").unwrap());
    let (broken, tries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (is_broken, count) = (Arc::clone(&broken), Arc::clone(&tries));
    let hook: fault::Hook = Arc::new(move |_| {
        if is_broken.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        count.fetch_add(1, Ordering::SeqCst);
        Err(LoadError::Io("no space left".into()))
    });
    let log = Log::open_with(&folder.config(), Some(signer), hook).unwrap();
    log.append(entry(0)).await.unwrap();
    broken.store(1, Ordering::SeqCst);
    assert!(matches!(
        log.append(entry(1)).await,
        Err(AppendError::Unknown)
    ));
    while tries.load(Ordering::SeqCst) < 5 {
        std::thread::yield_now(); // the appender tries again and again
    }
    assert!(matches!(log.health(), Health::Fenced { why, .. } if why.contains("no space left")));
    assert!(matches!(
        log.append(entry(1)).await,
        Err(AppendError::Fenced { .. })
    ));
    assert_eq!(audit(&log).size, 3);
    broken.store(0, Ordering::SeqCst);
    while !healthy(&log) {
        std::thread::yield_now();
    }
    log.append(entry(1)).await.unwrap();
    assert_eq!(audit(&log).size, 5);
}

/// The role `sign` in a thread of its own; the second channel can end it.
fn role(folder: &Folder) -> (Channel, Channel, std::thread::JoinHandle<()>) {
    let (ours, theirs) = Channel::pair().unwrap();
    let copy = std::os::fd::AsFd::as_fd(&ours)
        .try_clone_to_owned()
        .unwrap();
    let path = folder.sign();
    let thread = std::thread::spawn(move || {
        drop(sign::role::run(&theirs, &path, &sign::SignStart::default()))
    });
    (ours, Channel::from(copy), thread)
}

fn open_remote(folder: &Folder, channel: Channel) -> Log {
    let signer = Log::connect(&folder.config(), channel, "log.example.org").unwrap();
    Log::open(&folder.config(), signer.map(|signer| signer as _)).unwrap()
}

#[tokio::test]
async fn a_log_whose_signer_dies_is_fenced_at_once_and_goes_on_after_a_restart() {
    let folder = Folder::new();
    std::fs::create_dir(folder.sign()).unwrap();
    let (channel, end, thread) = role(&folder);
    let log = open_remote(&folder, channel);
    log.append(entry(0)).await.unwrap();
    let envelope = log.envelope(b"{}").unwrap();
    assert!(provenance::open(&envelope, &log.statement_key().unwrap()).is_ok());
    end.send(&"garbage", &[]).unwrap();
    thread.join().unwrap();
    assert!(matches!(
        log.append(entry(1)).await,
        Err(AppendError::Unknown)
    ));
    while healthy(&log) {
        std::thread::yield_now(); // the appender says why after it has given up the entry
    }
    assert!(matches!(log.health(), Health::Fenced { why, .. } if why.contains("is gone")));
    assert!(log.envelope(b"{}").is_err());
    assert_eq!(audit(&log).size, 3, "what was published is still read");
    let key = log.verifier_key().to_owned();
    drop((log, end));

    let (channel, end, thread) = role(&folder);
    let log = open_remote(&folder, channel);
    assert!(healthy(&log), "{:?}", log.health());
    assert_eq!(log.verifier_key(), key);
    log.append(entry(1)).await.unwrap();
    assert_eq!(audit(&log).size, 5);
    drop((log, end));
    thread.join().unwrap();
}

#[tokio::test]
async fn a_log_whose_appender_panics_is_fenced_and_goes_on_after_a_restart() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    log.append(entry(0)).await.unwrap();
    let mut broken = entry(1);
    broken.with = Box::new(|_, _| panic!("as told"));
    let answer = log.append(broken).await;
    assert!(matches!(answer, Err(AppendError::Unknown)), "{answer:?}");
    while healthy(&log) {
        tokio::task::yield_now().await; // the thread is still on its way out
    }
    let answer = log.append(entry(2)).await;
    assert!(
        matches!(answer, Err(AppendError::Fenced { .. })),
        "{answer:?}"
    );
    assert!(log.lookup(&key(0)).unwrap().is_some());
    drop(log);
    let log = folder.open().unwrap();
    log.append(entry(1)).await.unwrap();
    audit(&log);
}

#[test]
fn envelopes_are_signed_by_the_key_in_leaf_0() {
    let folder = Folder::new();
    let log = folder.open().unwrap();
    let envelope = log.envelope(b"{\"a\":1}").unwrap();
    let key = log.statement_key().unwrap();
    assert_eq!(provenance::open(&envelope, &key).unwrap(), b"{\"a\":1}");
    let leaf = log.tile("8/data/000.p/1").unwrap().unwrap();
    let line = format!("\nkey/1 dsse ed25519:{}\n", hex(&key));
    assert!(String::from_utf8(leaf).unwrap().contains(&line));
}

// The fault table: the signer remembers across crashes and tells what it signed.

/// A signer that writes down every head it signed and can lose the answer.
struct Witnessed {
    inner: LocalSigner,
    signed: Arc<Mutex<Vec<Tree>>>,
    faults: Arc<Faults>,
}

impl Signer for Witnessed {
    fn verifier(&self) -> &VerifierKey {
        self.inner.verifier()
    }
    fn statement_key(&self) -> [u8; 32] {
        self.inner.statement_key()
    }
    fn last(&self) -> Result<Tree, SignError> {
        self.inner.last()
    }
    fn sign(&self, tree: Tree, proof: &[Hash]) -> Result<SignedHead, SignError> {
        let lost = || SignError::Io("injected".into());
        self.faults.hit().map_err(|_| lost())?;
        let head = self.inner.sign(tree, proof)?;
        self.signed.lock().unwrap().push(tree);
        self.faults.hit().map_err(|_| lost())?;
        Ok(head)
    }
    fn sign_statement(&self, statement: &[u8]) -> Result<[u8; 64], SignError> {
        self.inner.sign_statement(statement)
    }
}

/// Fails at one point; after a kill, at every later one too: the dead do nothing.
struct Faults {
    kill: bool,
    at: usize,
    count: AtomicUsize,
}

impl Faults {
    fn fired(&self) -> bool {
        self.count.load(Ordering::SeqCst) > self.at
    }

    fn hit(&self) -> Result<(), LoadError> {
        let now = self.count.fetch_add(1, Ordering::SeqCst);
        match (self.kill, now.cmp(&self.at)) {
            (true, std::cmp::Ordering::Equal | std::cmp::Ordering::Greater) => {
                Err(LoadError::Killed)
            }
            (false, std::cmp::Ordering::Equal) => Err(LoadError::Io("injected".into())),
            _ => Ok(()),
        }
    }
}

struct Scene {
    folder: Folder,
    key: VerifierKey,
    signed: Arc<Mutex<Vec<Tree>>>,
    acked: HashMap<usize, u64>,
}

impl Scene {
    fn new() -> Self {
        let folder = Folder::new();
        let signer = LocalSigner::create(&folder.sign(), "log.example.org").unwrap();
        let key = signer.verifier().clone();
        Self {
            folder,
            key,
            signed: Arc::default(),
            acked: HashMap::new(),
        }
    }

    /// One life of the process: opens, appends `entries` two at a time, dies or not.
    async fn live(&mut self, entries: std::ops::Range<usize>, kill: bool, at: usize) -> bool {
        let faults = Arc::new(Faults {
            kill,
            at,
            count: AtomicUsize::new(0),
        });
        let inner = LocalSigner::open(&self.folder.sign(), &self.key)
            .unwrap()
            .unwrap();
        let signed = Arc::clone(&self.signed);
        let signer = Arc::new(Witnessed {
            inner,
            signed,
            faults: Arc::clone(&faults),
        });
        let hook: fault::Hook = Arc::new({
            let faults = Arc::clone(&faults);
            move |_: Step| faults.hit()
        });
        let Ok(log) = Log::open_with(&self.folder.config(), Some(signer), hook) else {
            return faults.fired();
        };
        for n in entries.step_by(2) {
            let (a, b) = tokio::join!(log.append(entry(n)), log.append(entry(n + 1)));
            for (n, answer) in [(n, a), (n + 1, b)] {
                let Ok(index) = answer else { continue };
                // Whoever has an answer finds the entry under a signed head at once.
                assert_eq!(log.lookup(&key(n)).unwrap().unwrap().index, index);
                self.acked.insert(n, index);
            }
        }
        faults.fired()
    }

    /// Opens without faults and checks that nothing answered is lost and nothing signed forked.
    async fn check(&self, point: &str) {
        let signer = LocalSigner::open(&self.folder.sign(), &self.key)
            .unwrap()
            .unwrap();
        let log = Log::open(&self.folder.config(), Some(Arc::new(signer))).unwrap();
        assert!(healthy(&log), "{point}: {:?}", log.health());
        let tree = audit(&log);
        for (n, index) in &self.acked {
            let found = log.lookup(&key(*n)).unwrap();
            assert_eq!(
                found.map(|found| found.index),
                Some(*index),
                "{point}: entry {n}"
            );
        }
        let bodies = records::bodies(&log.reader(), 0, SIZE_MAX).unwrap();
        let leaves = bodies
            .iter()
            .map(|body| crate::tlog::leaf_hash(body.as_bytes()))
            .collect();
        let naive = NaiveTree { leaves };
        for signed in self.signed.lock().unwrap().iter() {
            assert!(
                signed.size <= tree.size,
                "{point}: signed {signed:?}, has {tree:?}"
            );
            assert_eq!(
                naive.tree(signed.size),
                *signed,
                "{point}: a fork was signed"
            );
        }
        log.append(entry(9_999)).await.unwrap();
        audit(&log);
    }
}

/// Points to try; more with `HOTCELL_FAULT_POINTS`.
fn points() -> usize {
    std::env::var("HOTCELL_FAULT_POINTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(200)
}

#[tokio::test]
async fn no_crash_and_no_error_forks_the_log_or_loses_an_answer() {
    // Each point is (where it fails, how, where the next life fails, how).
    let mut fired = 0;
    for point in 0..points() {
        let (at, kill) = (point / 2 % 40, point % 2 == 0);
        let (again, kill_again) = (point / 3 % 13, point % 3 == 0);
        let mut scene = Scene::new();
        fired += usize::from(scene.live(0..8, kill, at).await);
        scene.live(4..12, kill_again, again).await;
        let name = format!("point {point}: {kill} at {at}, then {kill_again} at {again}");
        scene.check(&name).await;
    }
    assert!(
        fired * 10 >= points() * 9,
        "only {fired} points were reached"
    );
}

#[tokio::test]
async fn no_crash_around_a_full_tile_forks_the_log_or_loses_an_answer() {
    // One life fills 126 pairs; the next crosses the first tile's end at record 256.
    for at in 0..24 {
        let mut scene = Scene::new();
        scene.live(0..126, false, usize::MAX).await;
        assert!(scene.live(126..132, at % 2 == 0, at).await, "at {at}");
        scene.check(&format!("at {at}")).await;
    }
}
