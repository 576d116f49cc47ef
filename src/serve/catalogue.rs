//! Jobs, results and failures in SQLite: all SQL of the service, and nothing else.
//!
//! Called by the queue and the pages. A result row is written by [`NewResult::insert`] within the
//! log's own transaction and by nobody else: there is no result without its entry in the log.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{
    build::Built,
    serve::{
        failures,
        licences::Book,
        rows::{add_package, recent_row, to_json},
    },
    spec::{BuildKey, ModulePath},
    store::db::{self, Readers},
};

/// Mismatches kept; each is an alarm, a thousand of them say no more than ten.
const MISMATCHES_MAX: i64 = 1_000;
/// Rows of `retry` kept; they only matter for an hour.
const RETRIES_MAX: i64 = 100_000;

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Nothing was changed by the failed statement.
    #[error("cannot use the database")]
    Database(#[from] rusqlite::Error),
    /// Nothing was changed.
    #[error("cannot open the database")]
    Open(#[from] db::DbError),
    /// A row holds what this version cannot read; nothing was changed.
    #[error("cannot read the row of `{key}`")]
    Row {
        /// Of which build.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The task was ended from outside.
    #[error("the database task is gone")]
    Gone,
}

pub use super::rows::{FailureRow, JobRow, NewResult, Recent, ResultRow};

/// The database; cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalogue {
    writer: Arc<Mutex<Connection>>,
    readers: Arc<Readers>,
    /// Only to see that something has changed: what it says means nothing on another connection.
    pub(super) watch: Arc<Mutex<Connection>>,
    pub(super) licences: Arc<Book>,
}

impl Catalogue {
    /// Opens the database and creates what is missing.
    pub fn open(path: &Path) -> Result<Self, CatalogueError> {
        let connection = db::open(path)?;
        connection.execute_batch(include_str!("schema.sql"))?;
        fill_packages(&connection)?;
        failures::upgrade(&connection)?;
        for (name, column) in [
            // Before verifiers all jobs were for the log.
            ("publish", "publish INTEGER NOT NULL DEFAULT 1"),
            // Before turns all clients were one.
            ("client", "client TEXT NOT NULL DEFAULT ''"),
        ] {
            let sql = "SELECT count(*) FROM pragma_table_info('job') WHERE name = ?1";
            if connection.query_row(sql, [name], |row| row.get::<_, i64>(0))? == 0 {
                connection.execute_batch(&format!("ALTER TABLE job ADD COLUMN {column}"))?;
            }
        }
        Ok(Self {
            writer: Arc::new(Mutex::new(connection)),
            readers: Arc::new(Readers::open(path)?),
            watch: Arc::new(Mutex::new(db::open_to_read(path)?)),
            licences: Arc::default(),
        })
    }

    /// Runs `work` where it may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let connection = Arc::clone(&self.writer);
        let task = tokio::task::spawn_blocking(move || work(&mut lock(&connection)));
        task.await.map_err(|_| CatalogueError::Gone)?
    }

    /// For what reads a few pages: on this thread, because handing it to another one and back takes
    /// several times as long. A disk that stalls holds up the thread.
    pub(super) fn look<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, CatalogueError>,
    ) -> Result<T, CatalogueError> {
        work(&self.readers.free())
    }

    /// As [`Catalogue::run`], for what only reads: it waits for no transaction.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, CatalogueError> + Send + 'static,
    ) -> Result<T, CatalogueError> {
        let readers = Arc::clone(&self.readers);
        let task = tokio::task::spawn_blocking(move || work(&readers.free()));
        task.await.map_err(|_| CatalogueError::Gone)?
    }

    /// Adds a job, or finds the one that is there; what is to be published stays so.
    pub async fn add_job(
        &self,
        key: String,
        now_ms: u64,
        publish: bool,
        client: String,
    ) -> Result<JobRow, CatalogueError> {
        self.run(move |db| {
            db.execute(
                "INSERT INTO job (key, created_ms, interest_ms, publish, client)
                 VALUES (?1, ?2, ?2, ?3, ?4)
                 ON CONFLICT (key) DO UPDATE SET interest_ms = excluded.interest_ms,
                 publish = max(publish, excluded.publish)",
                params![key, now_ms, publish, client],
            )?;
            let sql = "SELECT id, key, created_ms, interest_ms, publish, client FROM job
                 WHERE key = ?1";
            Ok(db.query_row(sql, params![key], job_row)?)
        })
        .await
    }

    /// Notes whose turn a job takes from now on.
    pub async fn give_job(&self, id: u64, client: String) -> Result<(), CatalogueError> {
        self.run(move |db| {
            let sql = "UPDATE job SET client = ?2 WHERE id = ?1";
            db.execute(sql, params![id, client])?;
            Ok(())
        })
        .await
    }

    /// Notes that somebody is interested in a job.
    pub async fn touch_job(&self, id: u64, now_ms: u64) -> Result<(), CatalogueError> {
        self.run(move |db| {
            let sql = "UPDATE job SET interest_ms = ?2 WHERE id = ?1";
            db.execute(sql, params![id, now_ms])?;
            Ok(())
        })
        .await
    }

    /// Forgets a job.
    pub async fn remove_job(&self, id: u64) -> Result<(), CatalogueError> {
        self.run(move |db| {
            db.execute("DELETE FROM job WHERE id = ?1", params![id])?;
            Ok(())
        })
        .await
    }

    /// All jobs in their order.
    pub async fn jobs(&self) -> Result<Vec<JobRow>, CatalogueError> {
        self.read(|db| {
            let sql = "SELECT id, key, created_ms, interest_ms, publish, client FROM job
                 ORDER BY id";
            let mut query = db.prepare(sql)?;
            let rows = query
                .query_map([], job_row)?
                .collect::<rusqlite::Result<_>>()?;
            Ok(rows)
        })
        .await
    }

    /// The result of a build, if it is in the log.
    pub fn result(&self, key: &BuildKey) -> Result<Option<ResultRow>, CatalogueError> {
        let key = key.clone();
        self.look(move |db| {
            let mut query = db.prepare_cached(
                "SELECT log_index, sha256, size, built_ms, built FROM result WHERE key = ?1",
            )?;
            let name = key.to_string();
            let row = query.query_row(params![name], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get::<_, String>(4)?,
                ))
            });
            let Some((log_index, sha256, size, built_ms, built)) = row.optional()? else {
                return Ok(None);
            };
            let built = serde_json::from_str(&built)
                .map_err(|source| CatalogueError::Row { key: name, source })?;
            Ok(Some(ResultRow {
                key,
                log_index,
                sha256,
                size,
                built_ms,
                built,
            }))
        })
    }

    /// The stored DSSE envelope of a build, if it is in the log.
    pub async fn envelope(&self, key: &BuildKey) -> Result<Option<Vec<u8>>, CatalogueError> {
        let key = key.to_string();
        self.read(move |db| {
            let sql = "SELECT envelope FROM result WHERE key = ?1";
            let mut query = db.prepare_cached(sql)?;
            let row = query.query_row(params![key], |row| row.get(0));
            Ok(row.optional()?)
        })
        .await
    }

    /// The newest results, of one module or of all.
    pub fn recent(
        &self,
        module: Option<&ModulePath>,
        count: u32,
    ) -> Result<Vec<Recent>, CatalogueError> {
        self.look(move |db| {
            // Both walk an index backwards, however many results there are.
            const OF_ALL: &str = "SELECT key, sum, size, built_ms FROM result
                 ORDER BY id DESC LIMIT ?1";
            const OF_MODULE: &str = "SELECT key, sum, size, built_ms FROM result
                 WHERE substr(key, 1, instr(key, '@') - 1) = ?2 ORDER BY id DESC LIMIT ?1";
            let mut query = db.prepare_cached(module.map_or(OF_ALL, |_| OF_MODULE))?;
            let rows = match module {
                None => query.query_map(params![count], recent_row)?,
                Some(module) => query.query_map(params![count, module.as_str()], recent_row)?,
            };
            let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// Notes a retry by `client` unless it made one after `since_ms`; says whether it may.
    pub async fn take_retry(
        &self,
        client: String,
        key: String,
        now_ms: u64,
        since_ms: u64,
    ) -> Result<bool, CatalogueError> {
        self.run(move |db| {
            let tx = db.transaction()?;
            tx.execute("DELETE FROM retry WHERE at_ms <= ?1", params![since_ms])?;
            let rows: i64 = tx.query_row("SELECT count(*) FROM retry", [], |row| row.get(0))?;
            let sql = "INSERT OR IGNORE INTO retry (client, key, at_ms) VALUES (?1, ?2, ?3)";
            let may = rows < RETRIES_MAX && tx.execute(sql, params![client, key, now_ms])? > 0;
            tx.commit()?;
            Ok(may)
        })
        .await
    }

    /// Keeps what a build said that differs from the log; says how many there are now.
    pub async fn add_mismatch(
        &self,
        key: String,
        built: Built,
        now_ms: u64,
    ) -> Result<u64, CatalogueError> {
        self.run(move |db| {
            db.execute(
                "INSERT OR IGNORE INTO mismatch (key, sha256, size, seen_ms, built)
                 SELECT ?1, ?2, ?3, ?4, ?5 WHERE (SELECT count(*) FROM mismatch) < ?6",
                params![
                    key,
                    built.sha256,
                    built.size,
                    now_ms,
                    to_json(&built)?,
                    MISMATCHES_MAX
                ],
            )?;
            Ok(db.query_row("SELECT count(*) FROM mismatch", [], |row| row.get(0))?)
        })
        .await
    }

    /// How many builds gave other bytes than the log has.
    pub fn mismatches(&self) -> Result<u64, CatalogueError> {
        self.look(|db| Ok(db.query_row("SELECT count(*) FROM mismatch", [], |row| row.get(0))?))
    }

    /// Runs a closure in a transaction, as the log does; for tests without one.
    #[cfg(test)]
    pub(crate) fn in_transaction(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let mut db = lock(&self.writer);
        let tx = db.transaction()?;
        work(&tx)?;
        tx.commit()
    }
}

/// Writes down the packages of a database that was made before they were kept.
fn fill_packages(db: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM result) AND NOT EXISTS (SELECT 1 FROM package_line)";
    if !db.query_row(sql, [], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    let tx = db.unchecked_transaction()?;
    let mut query = tx.prepare("SELECT key, sum, size, built_ms FROM result ORDER BY id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(line) = recent_row(row)? {
            add_package(&tx, &line)?;
        }
    }
    drop(rows);
    drop(query);
    tx.commit()
}

/// A poisoned lock only says that another statement's caller panicked; SQLite rolled back.
fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get(0)?,
        key: row.get(1)?,
        created_ms: row.get(2)?,
        interest_ms: row.get(3)?,
        publish: row.get(4)?,
        client: row.get(5)?,
    })
}
