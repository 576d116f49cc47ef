//! The database of `serve`: one SQLite file, opened the same way by everybody.
//!
//! Called by the log (its own connection for writing, one for reading) and by the service's
//! catalogue. WAL, so that readers never wait; `synchronous=FULL`, so that a commit that returned
//! survives a power cut.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::durable::{self, DurableError};

/// Version of the schema; an older program must not write to a newer file.
const SCHEMA_VERSION: i64 = 2;
/// What leads from each version to the next, the first from an empty file.
const STEPS: [&str; 2] = [include_str!("schema.sql"), include_str!("schema-2.sql")];
const _: () = assert!(STEPS.len() as i64 == SCHEMA_VERSION);
/// How long a statement waits for another connection's transaction; those are short.
const BUSY: Duration = Duration::from_secs(10);

/// The database cannot be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// SQLite refused.
    #[error("cannot open the database")]
    Sqlite(#[from] rusqlite::Error),
    /// It was written by a newer version of this program.
    #[error("the database has schema version {found}, this program knows {SCHEMA_VERSION}")]
    Newer {
        /// What it has.
        found: i64,
    },
    /// The file system does not allow WAL, without which readers and writers would block.
    #[error("the database cannot use write-ahead logging here")]
    NoWal,
}

/// Opens the database and creates what is missing. A crash in the middle leaves the schema that was
/// there, or the newest.
pub fn open(path: &Path) -> Result<Connection, DbError> {
    let mut db = Connection::open(path)?;
    db.busy_timeout(BUSY)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(DbError::NoWal);
    }
    db.pragma_update(None, "synchronous", "FULL")?;
    set_up(&db)?;
    let version = |db: &Connection| db.query_row("PRAGMA user_version", [], |row| row.get(0));
    if version(&db)? != SCHEMA_VERSION {
        let tx = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        // Once more, now that nobody else can be at it.
        let found: i64 = version(&tx)?;
        let steps = usize::try_from(found).ok().and_then(|at| STEPS.get(at..));
        for step in steps.ok_or(DbError::Newer { found })? {
            tx.execute_batch(step)?;
        }
        tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        tx.commit()?;
    }
    Ok(db)
}

fn set_up(db: &Connection) -> rusqlite::Result<()> {
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?; // a damaged page is an error, not an answer
    // What SQLite needs to undo one entry of a transaction goes to a file in /var/tmp as soon as it
    // is more than 64 KiB, some 16 pages. `serve` may open none there, and the entry is refused.
    db.pragma_update(None, "temp_store", "MEMORY")?;
    // A statement keeps its plan: else SQLite plans it anew for each key that is looked up.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Has the disk take over what is in the write-ahead log, as it can be read now: what a process
/// that was killed left there, and the name of its file, which SQLite syncs without looking at the
/// outcome. No lock of SQLite's is on this file, so that it may be closed again.
pub fn sync_wal(path: &Path) -> Result<(), DurableError> {
    durable::sync(&path.with_extension("db-wal"))
}

/// Moves all of the write-ahead log to the database and begins it anew; false when a reader is in
/// the way. After a failed sync nothing else will do: frames are chained by their checksums, and
/// one that the page cache dropped, be it older than the commit that was told so, ends the log
/// there after a power cut, with all that was answered later.
pub fn begin_wal_anew(path: &Path) -> Result<bool, DbError> {
    Ok(empty_wal(&open(path)?)?)
}

fn empty_wal(db: &Connection) -> rusqlite::Result<bool> {
    let busy: bool = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    Ok(!busy)
}

/// Opens a database that is there for reading, whoever else writes to it.
pub fn open_to_read(path: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "query_only", true)?;
    set_up(&db)?;
    match db.query_row("PRAGMA user_version", [], |row| row.get(0))? {
        // The log's tables are the same in all versions so far.
        1..=SCHEMA_VERSION => Ok(db),
        found => Err(DbError::Newer { found }),
    }
}

/// Connections for reading. A thread that has to wait for another one's three pages costs more than
/// the pages do, so there is one for each processor.
#[derive(Debug)]
pub struct Readers {
    others: Vec<Mutex<Connection>>,
    last: Mutex<Connection>,
}

impl Readers {
    /// Each has a cache of 2 MiB.
    const MAX: usize = 16;

    /// Opens a database that is there.
    ///
    /// # Errors
    /// As [`open_to_read`].
    pub fn open(path: &Path) -> Result<Self, DbError> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let open = || open_to_read(path).map(Mutex::new);
        let others = (1..processors.min(Self::MAX)).map(|_| open());
        Ok(Self {
            others: others.collect::<Result<_, _>>()?,
            last: open()?,
        })
    }

    /// The first that nobody uses, as its cache knows the most; waits when there is none.
    pub fn free(&self) -> MutexGuard<'_, Connection> {
        for reader in &self.others {
            match reader.try_lock() {
                Ok(reader) => return reader,
                Err(TryLockError::Poisoned(reader)) => return reader.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_twice_keeps_everything_and_a_newer_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let db = open(&path).unwrap();
        db.execute("INSERT INTO log_record VALUES (0, 'x')", [])
            .unwrap();
        let other = open(&path).unwrap();
        let body: String = other
            .query_row("SELECT body FROM log_record", [], |r| r.get(0))
            .unwrap();
        assert_eq!(body, "x");
        let full: i64 = other
            .query_row("PRAGMA synchronous", [], |row| row.get(0))
            .unwrap();
        assert_eq!(full, 2);
        let newer = SCHEMA_VERSION + 1;
        db.pragma_update(None, "user_version", newer).unwrap();
        assert!(matches!(open(&path), Err(DbError::Newer { found }) if found == newer));
    }

    #[test]
    fn a_file_of_the_first_version_is_brought_up_to_date_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        old.execute("INSERT INTO log_record VALUES (0, 'x')", [])
            .unwrap();
        drop(old);
        for _ in 0..2 {
            let db = open(&path).unwrap();
            let one = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(one("PRAGMA user_version"), SCHEMA_VERSION);
            assert_eq!(one("SELECT count(*) FROM log_record"), 1);
            assert_eq!(one("SELECT count(*) FROM log_cosignature"), 0);
        }
    }

    #[test]
    fn an_upgrade_that_fails_leaves_the_version_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STEPS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        // A view in the place of a table: the step cannot make its own.
        old.execute_batch("CREATE VIEW log_cosignature AS SELECT 1")
            .unwrap();
        assert!(matches!(open(&path), Err(DbError::Sqlite(_))));
        let found: i64 = old
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .unwrap();
        assert_eq!(found, 1);
    }

    #[test]
    fn undoing_much_of_a_transaction_needs_no_file_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let db = open(&path).unwrap();
        let fill = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999)
                    INSERT INTO log_record SELECT i, hex(zeroblob(50)) FROM n";
        db.execute_batch(fill).unwrap();
        let files = || {
            let links = std::fs::read_dir("/proc/self/fd").unwrap();
            let target = |link: std::io::Result<std::fs::DirEntry>| {
                let target = std::fs::read_link(link.unwrap().path());
                target.unwrap_or_default().display().to_string()
            };
            links
                .map(target)
                .filter(|name| name.starts_with("/var/tmp/"))
                .count()
        };
        db.execute_batch("BEGIN; SAVEPOINT entry; UPDATE log_record SET body = 'x'")
            .unwrap();
        assert_eq!(files(), 0);
        db.execute_batch("ROLLBACK TO entry; COMMIT").unwrap();
        let count = "SELECT count(*) FROM log_record WHERE body = 'x'";
        let changed: i64 = db.query_row(count, [], |row| row.get(0)).unwrap();
        assert_eq!(changed, 0);
    }

    #[test]
    fn a_write_ahead_log_begins_anew_unless_somebody_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hotcell.db");
        let wal_bytes = || {
            std::fs::metadata(path.with_extension("db-wal"))
                .unwrap()
                .len()
        };
        let db = open(&path).unwrap();
        let add = "INSERT INTO log_record VALUES (?1, 'x')";
        db.execute(add, [0]).unwrap();
        sync_wal(&path).unwrap();
        assert!(wal_bytes() > 0);
        assert!(begin_wal_anew(&path).unwrap());
        assert_eq!(wal_bytes(), 0);
        db.execute(add, [1]).unwrap();
        let reader = open(&path).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let count = |db: &Connection| {
            let sql = "SELECT count(*) FROM log_record";
            db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        assert_eq!(count(&reader), 2);
        db.busy_timeout(Duration::ZERO).unwrap();
        assert!(!empty_wal(&db).unwrap());
        drop(reader);
        assert!(begin_wal_anew(&path).unwrap());
        assert_eq!(count(&db), 2);
    }

    #[test]
    fn a_file_that_is_no_database_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        crate::store::durable::write_new(&path, &[b'x'; 4096], 0o600).unwrap();
        assert!(matches!(open(&path), Err(DbError::Sqlite(_))));
        assert_eq!(std::fs::read(&path).unwrap(), [b'x'; 4096]);
    }
}
