//! Cosigning the heads of other logs, as `serve` sees it: what can be asked, what comes back.
//!
//! Implemented by [`super::RemoteSigner`], which asks the role. Whoever calls this must never tell
//! anybody a cosignature that did not come from it.

use serde::{Deserialize, Serialize};

use crate::{log::SignError, tlog::judge::Denied};

/// Most logs of one witness, those included that it cosigned once and is no longer asked for: it
/// must never forget one.
pub const LOGS_MAX: usize = 64;

/// A head of another log with a cosignature that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosigned {
    /// Origin of the log.
    pub origin: String,
    /// Its records.
    pub size: u64,
    /// When it was cosigned, in seconds since 1970.
    pub time_s: u64,
    /// The cosignature: a line of a note.
    pub line: String,
    /// The checkpoint with the log's own signature and this line.
    pub checkpoint: String,
}

/// Why this instance cannot be a witness of these logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "unfit", rename_all = "snake_case")]
pub enum Unfit {
    /// A witness is somebody else.
    #[error(
        "`{origin}` is the name of this log itself, and a log is no witness of its own: take it \
         from --witness-log, or choose another --name for one of the two before its first start"
    )]
    Own {
        /// Name of both.
        origin: String,
    },
    /// A log is known by its name.
    #[error("--witness-log names two keys of `{origin}`: leave the one that is the log's")]
    Twice {
        /// Name of both.
        origin: String,
    },
    /// A log never changes its key.
    #[error(
        "`{origin}` was cosigned under another key: a log with a new key is a new log and needs a \
         new name; take this one from --witness-log"
    )]
    OtherKey {
        /// Name of the log.
        origin: String,
    },
    /// A witness never forgets a log.
    #[error("a witness remembers {LOGS_MAX} logs at most, also those that it cosigned once")]
    Many,
}

/// Nothing was cosigned.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// For a reason that is told to whoever asked.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// Ours. The head may be remembered; it can be offered again.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A witness of other logs.
pub trait Cosign: Send + Sync + 'static {
    /// Cosigns the head of this request (`add-checkpoint` of C2SP tlog-witness); it is remembered
    /// durably before the answer. May block on the disk.
    ///
    /// # Errors
    /// See [`CosignError`].
    fn cosign(&self, body: &str) -> Result<Cosigned, CosignError>;

    /// What was cosigned last for the log of this origin. May block for a moment.
    ///
    /// # Errors
    /// When the memory cannot be asked.
    fn seen(&self, origin: &str) -> Result<Option<Cosigned>, SignError>;
}
