//! The log as the service sees it: a small trait, so that tests can make it refuse.
//!
//! The queue appends through it, the pages and `/tlog/` read through it. Order, signing and crash
//! states are the log's own business.

use std::sync::Arc;

use tokio::sync::watch;

pub use crate::log::{Found, Health, WithEntry};
use crate::{
    build::{BoxFuture, Built},
    log::{self, Log},
    provenance::{self, Builder, Seen, observation},
    receipt::Draft,
    spec::{BuildKey, Record},
    tlog::OfflineProof,
};

/// What becomes a record and its companion.
pub struct Entry {
    /// The record.
    pub record: Record,
    /// SHA-256 of the binary.
    pub sha256: [u8; 32],
    /// SHA-256 of the stored envelope.
    pub provenance_sha256: [u8; 32],
    /// Rows that are written with it or not at all.
    pub with: WithEntry,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log has other bytes for this key. Nothing was logged; a person must look.
    #[error("the log has another record for this key: `{}`", existing.trim_end())]
    Conflict {
        /// The record that is there.
        existing: String,
    },
    /// The log only reads until an operator has acted.
    #[error("the log takes no entries: {why}")]
    Fenced {
        /// Why.
        why: String,
    },
    /// Whether it was appended is not known; the same entry may be offered again.
    #[error("cannot append to the log")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log")]
pub struct ReadError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The log.
pub trait Ledger: Send + Sync + 'static {
    /// The DSSE envelope with the provenance of a build and what verifiers said of it, in the form
    /// that is stored and hashed.
    fn envelope<'a>(
        &'a self,
        key: &'a BuildKey,
        built: &'a Built,
        finished_ms: u64,
        seen: &'a [Seen],
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>>;

    /// The DSSE envelope with our observation of a build, which is in no log. The same build gives
    /// the same bytes.
    fn observation<'a>(
        &'a self,
        key: &'a BuildKey,
        built: &'a Built,
        finished_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>>;

    /// Appends a record and its companion; the same record again gives the old index.
    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<u64, AppendError>>;

    /// Finds a record. May block on the disk for a moment.
    fn lookup(&self, key: &BuildKey) -> Result<Option<Found>, ReadError>;

    /// The newest signed head as a C2SP checkpoint.
    fn checkpoint(&self) -> Arc<str>;

    /// The newest signed head in the form of the checksum database.
    fn latest(&self) -> Arc<str>;

    /// A tile by its path after `tile/`. May block on the disk for a moment.
    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError>;

    /// A proof of one leaf under the newest checkpoint. May block on the disk for a moment.
    fn proof(&self, index: u64) -> Result<Option<OfflineProof>, ReadError>;

    /// A build's receipt without its envelope. May block on the disk for a moment.
    fn draft(&self, key: &BuildKey) -> Result<Option<Draft>, ReadError>;

    /// Size of the newest signed head, for those who wait until it grows.
    fn sizes(&self) -> watch::Receiver<u64>;

    /// Texts of leaves `from..to`, as far as a signed head covers them. May block on the disk.
    fn leaves(&self, from: u64, to: u64) -> Result<Vec<String>, ReadError>;

    /// `name+hash+key`, as clients are given it.
    fn verifier_key(&self) -> String;

    /// Whether it takes entries.
    fn health(&self) -> Health;
}

/// The log of this machine.
impl Ledger for Log {
    fn envelope<'a>(
        &'a self,
        key: &'a BuildKey,
        built: &'a Built,
        finished_ms: u64,
        seen: &'a [Seen],
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>> {
        Box::pin(async move {
            let run = run(self, finished_ms);
            let statement = provenance::statement(key, built, run, seen);
            sign(self, statement).await
        })
    }

    fn observation<'a>(
        &'a self,
        key: &'a BuildKey,
        built: &'a Built,
        finished_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>> {
        Box::pin(async move {
            let run = run(self, finished_ms);
            sign(self, observation::observation(key, built, run)).await
        })
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<u64, AppendError>> {
        let Entry {
            record,
            sha256,
            provenance_sha256,
            with,
        } = entry;
        let entry = log::NewEntry {
            record,
            sha256,
            provenance_sha256,
            with,
        };
        Box::pin(async move { Ok(Self::append(self, entry).await?) })
    }

    fn lookup(&self, key: &BuildKey) -> Result<Option<Found>, ReadError> {
        Self::lookup(self, key).map_err(|error| ReadError(Box::new(error)))
    }

    fn checkpoint(&self) -> Arc<str> {
        Self::checkpoint(self)
    }

    fn latest(&self) -> Arc<str> {
        Self::latest(self)
    }

    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError> {
        Self::tile(self, path).map_err(|error| ReadError(Box::new(error)))
    }

    fn proof(&self, index: u64) -> Result<Option<OfflineProof>, ReadError> {
        Self::proof(self, index).map_err(|error| ReadError(Box::new(error)))
    }

    fn draft(&self, key: &BuildKey) -> Result<Option<Draft>, ReadError> {
        Self::draft(self, key).map_err(|error| ReadError(Box::new(error)))
    }

    fn sizes(&self) -> watch::Receiver<u64> {
        Self::sizes(self)
    }

    fn leaves(&self, from: u64, to: u64) -> Result<Vec<String>, ReadError> {
        Self::leaves(self, from, to).map_err(|error| ReadError(Box::new(error)))
    }

    fn verifier_key(&self) -> String {
        Self::verifier_key(self).to_owned()
    }

    fn health(&self) -> Health {
        Self::health(self)
    }
}

fn run(log: &Log, finished_ms: u64) -> provenance::Run<'_> {
    let name = Log::verifier_key(log).split('+').next().unwrap_or_default();
    provenance::Run {
        builder: Builder::Instance(name),
        finished_ms,
    }
}

/// Has the signer wrap a statement, where waiting for it may block.
async fn sign(
    log: &Log,
    statement: Result<Vec<u8>, provenance::NoDirHash>,
) -> Result<Vec<u8>, AppendError> {
    let statement = statement.map_err(|error| AppendError::Failed(Box::new(error)))?;
    let log = log.clone();
    let signed = tokio::task::spawn_blocking(move || Log::envelope(&log, &statement)).await;
    let signed = signed.map_err(|error| AppendError::Failed(Box::new(error)))?;
    Ok(signed?)
}

impl From<log::AppendError> for AppendError {
    fn from(error: log::AppendError) -> Self {
        match error {
            log::AppendError::Conflict { existing } => Self::Conflict { existing },
            log::AppendError::Fenced { why } => Self::Fenced { why },
            other => Self::Failed(Box::new(other)),
        }
    }
}
