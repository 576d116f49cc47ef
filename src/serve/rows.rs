//! Rows of the service's tables as values, and how a result is written into the log's transaction.

use rusqlite::{Transaction, params};

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
}

impl NewResult {
    /// Writes the result and ends its job. A crash before the commit leaves the job waiting, and
    /// neither result nor entry; after it, all three are done.
    pub fn insert(&self, tx: &Transaction<'_>, log_index: u64) -> rusqlite::Result<()> {
        let key = self.key.to_string();
        let built = to_json(&self.built)?;
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

/// For columns that hold JSON.
pub(super) fn to_json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
