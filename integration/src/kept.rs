//! A service that has built two modules and logged neither: what it is asked for next is one
//! append, without a build, and the same each time.
//!
//! The append fills a tile up and has the database take over what is in its write-ahead log, so
//! that its calls are all that an append can make. Each module is built for real, once.

use std::{ffi::OsString, fs, path::PathBuf, sync::OnceLock, time::Duration};

use hotcell::log::LogConfig;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    command::Run,
    fake, grown, host, http, paths, sdk,
    service::{self, Place, Service},
};

/// What is built and not in the log.
pub const MODULE: &str = "ex.example/many0";
/// The same, to ask for afterwards.
pub const OTHER: &str = "ex.example/many1";
/// Leaves before the append: with two more the first tile is full.
pub const LEAVES: u64 = 255;
/// Pages in the write-ahead log before the append. The job takes a few, the append some more, and
/// at 1,000 the append moves them (<https://www.sqlite.org/c3ref/wal_autocheckpoint.html>).
const WAL_PAGES: u64 = 990;
/// A page of it with its header (<https://www.sqlite.org/fileformat2.html#walformat>).
const PAGE_BYTES: u64 = 24 + 4096;
/// Longest build on a busy machine.
const BUILD_MAX: Duration = Duration::from_mins(5);

/// What `serve` and `sign` have at that moment; made once.
fn state() -> &'static PathBuf {
    static STATE: OnceLock<PathBuf> = OnceLock::new();
    STATE.get_or_init(|| {
        let place = Place::new(&service::warm("kept"), fake::shared()).stocked();
        let mut service = place.serve(&[]);
        let url = format!("{}/api/v1/observations", service.url());
        for module in [MODULE, OTHER] {
            let key = format!("{module}@v1.0.0/linux-amd64-{}/", sdk::GO);
            let question = format!("{{\"key\": \"{key}\"}}");
            let built = host::wait_for(BUILD_MAX, || {
                let answer = http::post_json(&url, question.as_bytes());
                (answer.status == 200).then_some(())
            });
            assert!(built.is_some(), "not built: {}", service.trace());
        }
        assert_eq!(service.stop(), 0);
        grown::append(&place, (0..(LEAVES - 1) / 2).map(grown::record));
        place.folder
    })
}

/// Folders of one test, put back to that moment as often as it likes.
#[derive(Debug)]
pub struct Kept {
    folder: TempDir,
    /// Where the service runs.
    pub place: Place,
}

impl Kept {
    /// Makes them.
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        let folder = paths::scratch("kept");
        let place = Place::new(folder.path(), fake::shared());
        let kept = Self { folder, place };
        kept.put_back();
        kept
    }

    /// A file in them.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts log and signer back to the moment before the append. No service may run.
    pub fn put_back(&self) {
        drop(fs::remove_file(self.path("trace.txt")));
        for (name, parent) in [("data/serve", "data"), ("sign", "")] {
            drop(fs::remove_dir_all(self.path(name)));
            fs::create_dir_all(self.path(parent)).expect("ours");
            let (from, to) = (state().join(name), self.path(parent));
            Run::new("cp").arg("-a").args([from, to]).succeed();
        }
    }

    /// Has more modules kept, with the same bits: what is asked for next are so many appends. No
    /// service may run.
    pub fn multiply(&self, modules: impl IntoIterator<Item = String>) {
        let mut db = Connection::open(self.database()).expect("the database can be opened");
        let all = db.transaction().expect("nobody else writes");
        for module in modules {
            let add = "INSERT INTO observation (key, policy, built_ms, built)
                       SELECT replace(key, ?1, ?2), policy, built_ms, replace(built, ?1, ?2)
                       FROM observation WHERE key LIKE ?1 || '@%'";
            all.execute(add, [MODULE, &module]).expect("rows like it");
        }
        all.commit().expect("the database takes rows");
    }

    /// Starts the service and brings its write-ahead log to the edge.
    pub fn serve(&self) -> Service {
        let service = self.place.serve(&[]);
        let database = self.database();
        let wal = database.with_extension("db-wal");
        let db = Connection::open(&database).expect("the database can be opened");
        let set = |name: &str, value: i64| {
            let set = db.pragma_update(None, name, value);
            set.expect("the database takes it");
        };
        set("wal_autocheckpoint", 0);
        set("synchronous", 0); // these pages promise nothing
        let version = db.query_row("PRAGMA user_version", [], |row| row.get(0));
        let version: i64 = version.expect("there is one");
        while fs::metadata(&wal).map_or(0, |wal| wal.len()) < WAL_PAGES * PAGE_BYTES {
            set("user_version", version); // one page each
        }
        service
    }

    /// Its database.
    pub fn database(&self) -> PathBuf {
        LogConfig::of(&grown::data(&self.place)).database
    }

    /// Files beside the tile that the append fills up.
    pub fn tiles(&self) -> Vec<OsString> {
        let folder = LogConfig::of(&grown::data(&self.place)).tiles.join("0");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).collect()
    }

    /// Whether that tile is there, and nothing of its making.
    pub fn has_tile(&self) -> bool {
        self.tiles() == ["000"]
    }

    /// Audits the log in its folder, with its keys' own command.
    pub fn audit(&self) {
        let data = self.path("data").display().to_string();
        let audit = self.place.run(["log", "audit", &data]).wait();
        assert_eq!(audit.code, 0, "{}", audit.err());
    }
}
