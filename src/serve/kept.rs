//! SQL of what verification by others needs: builds that are kept, and who said otherwise.

use rusqlite::{OptionalExtension as _, params};

use super::{
    catalogue::{Catalogue, CatalogueError},
    job::Own,
    limits::budget::Grown,
    rows::to_json,
};
use crate::{
    build::Built,
    spec::{BuildKey, ModulePath},
};

/// Most builds kept that are not in the log; the oldest go first and are built again when needed.
const OBSERVATIONS_MAX: i64 = 10_000;
/// Disagreements kept; each is an alarm, a thousand of them say no more than ten.
const DISAGREEMENTS_MAX: i64 = 1_000;

/// A verifier's word against ours.
#[derive(Debug, Clone)]
pub struct Disagreement {
    /// Of which build.
    pub key: String,
    /// Name of the verifier.
    pub verifier: String,
    /// SHA-256 of our binary.
    pub ours: [u8; 32],
    /// Its bits: `SHA-256 …`, or `sum …`.
    pub theirs: String,
    /// What it signed.
    pub content: Vec<u8>,
}

impl Catalogue {
    /// What was built for the log since a time: all, and of one module.
    pub(super) async fn grown(
        &self,
        module: &ModulePath,
        since_ms: u64,
    ) -> Result<(Grown, Grown), CatalogueError> {
        // Keys of a module begin with its path and `@`; `A` is the next character.
        let (from, to) = (format!("{module}@"), format!("{module}A"));
        self.read(move |db| {
            let sql = "SELECT count(*), min(built_ms),
                 count(*) FILTER (WHERE key >= ?2 AND key < ?3),
                 min(built_ms) FILTER (WHERE key >= ?2 AND key < ?3)
                 FROM result WHERE built_ms > ?1";
            let mut query = db.prepare_cached(sql)?;
            let grown = query.query_row(params![since_ms, from, to], |row| {
                let grown = |count: usize, first: usize| -> rusqlite::Result<Grown> {
                    Ok(Grown {
                        count: row.get(count)?,
                        first_ms: row.get(first)?,
                    })
                };
                Ok((grown(0, 1)?, grown(2, 3)?))
            });
            Ok(grown?)
        })
        .await
    }

    /// How long the newest builds took that are in the log, in milliseconds, the newest last.
    pub(super) fn durations(&self, count: usize) -> Result<Vec<u64>, CatalogueError> {
        self.look(|db| {
            let sql = "SELECT key, built FROM result ORDER BY id DESC LIMIT ?1";
            let mut query = db.prepare(sql)?;
            let mut rows = query.query(params![count])?;
            let mut durations = Vec::new();
            while let Some(row) = rows.next()? {
                let (key, built) = (row.get(0)?, row.get::<_, String>(1)?);
                let built: Built = serde_json::from_str(&built)
                    .map_err(|source| CatalogueError::Row { key, source })?;
                durations.push(built.timings_ms.iter().map(|(_, ms)| ms).sum());
            }
            durations.reverse();
            Ok(durations)
        })
    }

    /// A build of ours under `policy` that is kept and not in the log.
    pub async fn observation(
        &self,
        key: String,
        policy: String,
    ) -> Result<Option<Own>, CatalogueError> {
        self.read(move |db| {
            let mut query = db.prepare_cached(
                "SELECT built_ms, built FROM observation WHERE key = ?1 AND policy = ?2",
            )?;
            let row = query.query_row(params![key, policy], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?))
            });
            let Some((built_ms, built)) = row.optional()? else {
                return Ok(None);
            };
            let built = serde_json::from_str(&built)
                .map_err(|source| CatalogueError::Row { key, source })?;
            Ok(Some(Own { built, built_ms }))
        })
        .await
    }

    /// Keeps a build whose binary is stored already. A crash before leaves a binary that a later
    /// build of the same bits finds in place.
    pub async fn keep_observation(
        &self,
        key: String,
        policy: String,
        own: Own,
    ) -> Result<(), CatalogueError> {
        self.run(move |db| {
            let tx = db.transaction()?;
            tx.execute(
                "INSERT OR REPLACE INTO observation (key, policy, built_ms, built)
                 VALUES (?1, ?2, ?3, ?4)",
                params![key, policy, own.built_ms, to_json(&own.built)?],
            )?;
            tx.execute(
                "DELETE FROM observation WHERE id <= (SELECT max(id) FROM observation) - ?1",
                params![OBSERVATIONS_MAX],
            )?;
            Ok(tx.commit()?)
        })
        .await
    }

    /// Forgets a build that is kept, so that the next one begins afresh.
    pub async fn forget_observation(&self, key: String) -> Result<(), CatalogueError> {
        self.run(move |db| {
            db.execute("DELETE FROM observation WHERE key = ?1", params![key])?;
            Ok(())
        })
        .await
    }

    /// A job that was for another instance is to be published as well.
    pub async fn publish_job(&self, id: u64) -> Result<(), CatalogueError> {
        self.run(move |db| {
            db.execute("UPDATE job SET publish = 1 WHERE id = ?1", params![id])?;
            Ok(())
        })
        .await
    }

    /// Verifiers that got the same bits before a result was published.
    pub(super) fn agreed(&self, key: &BuildKey) -> Result<Vec<String>, CatalogueError> {
        let key = key.to_string();
        self.look(move |db| {
            let sql = "SELECT verifier FROM result JOIN agreement ON agreement.result = result.id
                 WHERE key = ?1";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map(params![key], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Keeps what a verifier said against our bits.
    pub async fn add_disagreement(
        &self,
        new: Disagreement,
        now_ms: u64,
    ) -> Result<(), CatalogueError> {
        self.run(move |db| {
            db.execute(
                "INSERT OR IGNORE INTO disagreement
                 (key, verifier, ours, theirs, content, seen_ms)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE (SELECT count(*) FROM disagreement) < ?7",
                params![
                    new.key,
                    new.verifier,
                    new.ours,
                    new.theirs,
                    new.content,
                    now_ms,
                    DISAGREEMENTS_MAX
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// How often a verifier had other bits.
    pub fn disagreements(&self) -> Result<u64, CatalogueError> {
        self.look(|db| Ok(db.query_row("SELECT count(*) FROM disagreement", [], |row| row.get(0))?))
    }
}
