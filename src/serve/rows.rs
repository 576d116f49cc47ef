//! Rows of the service's tables as values, and how a result is written into the log's transaction.

use rusqlite::{Connection, Row, Transaction, params};

use super::code;
use crate::{
    build::{Built, Failure},
    spec::{BuildKey, Sum},
};

/// A job that waits or runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Place in line.
    pub id: u64,
    /// What to build.
    pub key: String,
    /// When it was first asked for.
    pub created_ms: u64,
    /// When somebody last showed interest.
    pub interest_ms: u64,
    /// Whether somebody wants it in the log, not only another instance its bits.
    pub publish: bool,
    /// Whose turn it takes.
    pub client: String,
}

/// A build that is in the log.
#[derive(Debug, Clone)]
pub struct ResultRow {
    /// What was built.
    pub key: BuildKey,
    /// Index of its record in the log.
    pub log_index: u64,
    /// SHA-256 of the binary.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
    /// When.
    pub built_ms: u64,
    /// What the build said.
    pub built: Built,
}

impl ResultRow {
    /// The short hash that records and URLs carry.
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum::of(&self.sha256)
    }
}

/// A result before it has an index.
#[derive(Debug, Clone)]
pub struct NewResult {
    /// What was built.
    pub key: BuildKey,
    /// When.
    pub built_ms: u64,
    /// What the build said.
    pub built: Built,
    /// DSSE envelope of the provenance.
    pub envelope: Vec<u8>,
    /// Verifiers that got the same bits, by the names that the operator gave them.
    pub agreed: Vec<String>,
}

impl NewResult {
    /// Writes the result and ends its job. A crash before the commit leaves the job waiting, and
    /// neither result nor entry; after it, all three are done.
    pub fn insert(&self, tx: &Transaction<'_>, log_index: u64) -> rusqlite::Result<()> {
        let key = self.key.to_string();
        let row = Built {
            code: None, // has a table of its own, so that no page reads it in vain
            ..self.built.clone()
        };
        let built = to_json(&row)?;
        let sum = Sum::of(&self.built.sha256).to_string();
        tx.execute(
            "INSERT INTO result (key, log_index, sum, sha256, size, built_ms, built, envelope)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (key) DO NOTHING",
            params![
                key,
                log_index,
                sum,
                self.built.sha256,
                self.built.size,
                self.built_ms,
                built,
                self.envelope
            ],
        )?;
        if tx.changes() > 0 {
            let line = Recent {
                key: self.key.clone(),
                sum,
                size: self.built.size,
                built_ms: self.built_ms,
            };
            add_package(tx, &line)?;
        }
        code::insert(tx, &key, &self.built)?;
        for verifier in &self.agreed {
            tx.execute(
                "INSERT OR IGNORE INTO agreement (result, verifier)
                 SELECT id, ?2 FROM result WHERE key = ?1",
                params![key, verifier],
            )?;
        }
        tx.execute("DELETE FROM job WHERE key = ?1", params![key])?;
        tx.execute("DELETE FROM failure WHERE key = ?1", params![key])?;
        tx.execute("DELETE FROM observation WHERE key = ?1", params![key])?;
        Ok(())
    }
}

/// A failure that is remembered.
#[derive(Debug, Clone)]
pub struct FailureRow {
    /// When.
    pub failed_ms: u64,
    /// Why.
    pub failure: Failure,
}

/// A line of "recent builds".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recent {
    /// What was built.
    pub key: BuildKey,
    /// Its sum.
    pub sum: String,
    /// Size in bytes.
    pub size: u64,
    /// When.
    pub built_ms: u64,
}

/// Key, sum, size and time of a result; nothing when the key is none that this version knows.
pub(super) fn recent_row(row: &Row<'_>) -> rusqlite::Result<Option<Recent>> {
    let (sum, size, built_ms) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let key = BuildKey::parse(&row.get::<_, String>(0)?).ok();
    Ok(key.map(|key| Recent {
        key,
        sum,
        size,
        built_ms,
    }))
}

/// Notes the newest result of its package.
pub(super) fn add_package(db: &Connection, line: &Recent) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO package_line (path, key, sum, size, built_ms)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let (path, key) = (line.key.package(), line.key.to_string());
    let mut query = db.prepare_cached(sql)?;
    query.execute(params![path, key, line.sum, line.size, line.built_ms])?;
    let sql = "INSERT OR IGNORE INTO package_word (word, path) VALUES (?1, ?2)";
    let mut query = db.prepare_cached(sql)?;
    for word in words(&path) {
        query.execute(params![word, path])?;
    }
    Ok(())
}

/// Bytes of a word that are kept; what a search has beyond is compared with the path itself.
pub(super) const WORD_BYTES: usize = 64;
/// Words of one path that are kept.
const WORDS_MAX: usize = 32;

/// What a path can be found by: itself, and the rest of it from each of its words on.
pub(super) fn words(path: &str) -> Vec<String> {
    let path = path.to_ascii_lowercase();
    let bytes = path.as_bytes();
    let begins = |at: &usize| {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        before.is_none_or(|before| !before.is_ascii_alphanumeric())
            && bytes[*at].is_ascii_alphanumeric()
    };
    let starts = (0..bytes.len()).filter(begins).take(WORDS_MAX);
    let cut = |at| path.get(at..path.len().min(at + WORD_BYTES));
    starts.filter_map(cut).map(str::to_owned).collect()
}

/// For columns that hold JSON.
pub(super) fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_by_each_of_its_words() {
        assert_eq!(
            words("github.com/Foo/bar-baz_x"),
            [
                "github.com/foo/bar-baz_x",
                "com/foo/bar-baz_x",
                "foo/bar-baz_x",
                "bar-baz_x",
                "baz_x",
                "x",
            ]
        );
        let long = format!("a.b/{}", "x-".repeat(200));
        let all = words(&long);
        assert_eq!(all.len(), WORDS_MAX);
        assert!(all.iter().all(|word| word.len() <= WORD_BYTES));
    }
}
