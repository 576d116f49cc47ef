//! Failures that are remembered because they would repeat, and their list.
//!
//! Called by the queue and by the list of failures. What a failed build printed may be long and is
//! somebody else's: the list reads none of it, and the oldest failures go when there are many.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    catalogue::{Catalogue, CatalogueError, FailureRow},
    rows::to_json,
};
use crate::spec::BuildKey;

/// Most failures that are remembered, each of some 50 KB at most.
const KEPT_MAX: u32 = 20_000;
/// Longest row that earlier releases may have left.
const ROW_BYTES_MAX: u32 = 100_000;

/// A failure without what was printed.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) key: BuildKey,
    pub(super) failed_ms: u64,
    pub(super) code: String,
    pub(super) sentence: String,
}

impl Catalogue {
    /// A remembered failure of `key` under `policy`.
    pub fn failure(
        &self,
        key: String,
        policy: String,
    ) -> Result<Option<FailureRow>, CatalogueError> {
        self.look(move |db| {
            let mut query = db.prepare_cached(
                "SELECT failed_ms, failure FROM failure WHERE key = ?1 AND policy = ?2",
            )?;
            let row = query.query_row(params![key, policy], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?))
            });
            let Some((failed_ms, failure)) = row.optional()? else {
                return Ok(None);
            };
            let failure = serde_json::from_str(&failure)
                .map_err(|source| CatalogueError::Row { key, source })?;
            Ok(Some(FailureRow { failed_ms, failure }))
        })
    }

    /// Remembers a failure and ends its job, both or neither.
    pub async fn remember_failure(
        &self,
        key: String,
        policy: String,
        row: FailureRow,
    ) -> Result<(), CatalogueError> {
        self.remember(key, policy, row, KEPT_MAX).await
    }

    async fn remember(
        &self,
        key: String,
        policy: String,
        row: FailureRow,
        kept_max: u32,
    ) -> Result<(), CatalogueError> {
        self.run(move |db| {
            let FailureRow { failed_ms, failure } = &row;
            let tx = db.transaction()?;
            tx.execute(
                "INSERT OR REPLACE INTO failure (key, policy, failed_ms, code, sentence, failure)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    key,
                    policy,
                    failed_ms,
                    failure.code,
                    failure.sentence,
                    to_json(failure)?
                ],
            )?;
            tx.execute(
                "DELETE FROM failure WHERE rowid IN
                     (SELECT rowid FROM failure ORDER BY failed_ms DESC LIMIT -1 OFFSET ?1)",
                [kept_max],
            )?;
            tx.execute("DELETE FROM job WHERE key = ?1", params![key])?;
            Ok(tx.commit()?)
        })
        .await
    }

    /// Forgets a failure; says whether there was one.
    pub async fn forget_failure(&self, key: String) -> Result<bool, CatalogueError> {
        self.run(move |db| Ok(db.execute("DELETE FROM failure WHERE key = ?1", params![key])? > 0))
            .await
    }

    /// The newest failures that are remembered.
    pub(super) async fn recent_failures(&self, count: u32) -> Result<Vec<Line>, CatalogueError> {
        self.read(move |db| {
            let sql = "SELECT key, failed_ms, code, sentence FROM failure
                       ORDER BY failed_ms DESC LIMIT ?1";
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map([count], |row| {
                // A row of a version that is not known any more is of no use to anybody.
                let Ok(key) = BuildKey::parse(&row.get::<_, String>(0)?) else {
                    return Ok(None);
                };
                Ok(Some(Line {
                    key,
                    failed_ms: row.get(1)?,
                    code: row.get(2)?,
                    sentence: row.get(3)?,
                }))
            })?;
            let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
            Ok(rows.into_iter().flatten().collect())
        })
        .await
    }
}

/// Gives the table of earlier releases the columns of today, and takes away what they should not
/// have remembered.
pub(super) fn upgrade(db: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM pragma_table_info('failure') WHERE name = 'code'";
    if db.query_row(sql, [], |row| row.get::<_, i64>(0))? > 0 {
        return Ok(());
    }
    db.execute_batch(&format!(
        "BEGIN;
         ALTER TABLE failure ADD COLUMN code TEXT NOT NULL DEFAULT '';
         ALTER TABLE failure ADD COLUMN sentence TEXT NOT NULL DEFAULT '';
         DELETE FROM failure WHERE length(failure) > {ROW_BYTES_MAX};
         UPDATE failure SET code = json_extract(failure, '$.code'),
             sentence = json_extract(failure, '$.sentence');
         DELETE FROM failure WHERE code IN ('not_found', 'no_such_go');
         COMMIT;"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        build::{FailureClass, ending},
        serve::testing::key_of,
        store::db,
    };

    fn row(n: u64) -> FailureRow {
        let class = FailureClass::CannotBuild;
        FailureRow {
            failed_ms: n,
            failure: ending::failure("build_failed", class, format!("number {n}"), "mend it"),
        }
    }

    #[tokio::test]
    async fn the_oldest_go_when_there_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&folder.path().join("db")).unwrap();
        for n in 0..5_usize {
            let key = key_of(n).to_string();
            let kept = catalogue.remember(key, "p".to_owned(), row(n as u64), 3);
            kept.await.unwrap();
        }
        let lines = catalogue.recent_failures(10).await.unwrap();
        let told: Vec<_> = lines.iter().map(|line| line.sentence.as_str()).collect();
        assert_eq!(told, ["number 4", "number 3", "number 2"]);
        let of = |n| catalogue.failure(key_of(n).to_string(), "p".to_owned());
        assert!(of(1).unwrap().is_none() && of(2).unwrap().is_some());
    }

    #[tokio::test]
    async fn the_table_of_an_earlier_release_is_taken_over_without_what_may_appear() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let old = db::open(&path).unwrap();
        old.execute_batch(
            "CREATE TABLE failure (key TEXT PRIMARY KEY, policy TEXT NOT NULL,
                 failed_ms INTEGER NOT NULL, failure TEXT NOT NULL) STRICT",
        )
        .unwrap();
        for (n, code, output) in [
            (1_usize, "build_failed", 10),
            (2, "not_found", 10),
            (3, "build_failed", 200_000),
        ] {
            let mut failure = row(n as u64).failure;
            failure.code = code.to_owned();
            failure.output = crate::output::Output::from(vec![b'x'; output]);
            old.execute(
                "INSERT INTO failure VALUES (?1, 'p', ?2, ?3)",
                params![key_of(n).to_string(), n, to_json(&failure).unwrap()],
            )
            .unwrap();
        }
        drop(old);
        for _ in 0..2 {
            let catalogue = Catalogue::open(&path).unwrap();
            let lines = catalogue.recent_failures(10).await.unwrap();
            assert_eq!(lines.len(), 1);
            assert_eq!(lines[0].sentence, "number 1");
            assert_eq!(lines[0].code, "build_failed");
        }
    }
}
