//! What can go wrong with the log, by what the caller does about it.

use std::{error::Error, path::PathBuf};

use super::{Kept, SignError, kept};
use crate::store::db;

/// Why an entry was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The log has other bytes for this key. Nothing was logged; a person must look.
    #[error("the log has another record for this key: `{}`", existing.trim_end())]
    Conflict {
        /// The record that is there.
        existing: String,
    },
    /// The entry contradicts itself. Nothing was logged.
    #[error("the entry is malformed: {why}")]
    Invalid {
        /// What is wrong.
        why: &'static str,
    },
    /// The log only reads until an operator has acted. Nothing was logged.
    #[error("the log takes no entries: {why}")]
    Fenced {
        /// Why.
        why: String,
    },
    /// The caller's own rows were refused. Nothing was logged.
    #[error("cannot write the rows of the entry")]
    Rows(#[source] rusqlite::Error),
    /// Whether it was appended is not known; the same entry may be offered again.
    #[error("the appender had to start again; whether the entry was logged is not known")]
    Unknown,
}

/// The log cannot be opened. Nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database cannot be opened.
    #[error("cannot open the database of the log")]
    Database(#[from] db::DbError),
    /// The data folder has tiles and no log: its database is gone.
    #[error(
        "`{}` has tiles of a log, but the database is empty: restore the database, or fill it up \
         from any copy with `hotcell log recover`; when there is none, `hotcell log succeed` \
         begins a log that follows it. `hotcell log init` begins one that has nothing to do with \
         it, in an empty folder",
        folder.display()
    )]
    Orphaned {
        /// Folder of the tiles.
        folder: PathBuf,
    },
    /// The data folder has no log, the signers' folder remembers one of this name that has ended.
    #[error(
        "the data folder has no log, but the signers' folder has the key {}: run `hotcell log \
         succeed` again to finish what it began, or choose another --name, or another --sign-dir",
        kept::list(kept)
    )]
    Remembered {
        /// The keys of this name.
        kept: Vec<Kept>,
    },
    /// The data folder is that of another log than was meant.
    #[error("the data folder has the log `{key}`")]
    OtherLog {
        /// Its key.
        key: String,
    },
    /// Another process appends to this log.
    #[error("another process uses this log")]
    Locked,
    /// A new log needs a signer that has signed nothing yet.
    #[error("cannot begin a new log")]
    Begin(#[source] Box<dyn Error + Send + Sync>),
    /// The signer's folder is unusable.
    #[error("cannot use the signer")]
    Signer(#[from] SignError),
    /// The state cannot be read or verified.
    #[error("cannot load the log")]
    Load(#[from] LoadError),
}

/// The log's own state cannot be read or verified.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database cannot be read or written.
    #[error("cannot use the database of the log")]
    Database(#[from] rusqlite::Error),
    /// A file cannot be read or written.
    #[error("cannot use a file of the log")]
    Io(#[source] Box<dyn Error + Send + Sync>),
    /// Records, tiles and head contradict each other.
    #[error("the log is damaged: {what}; restore it, do not delete anything")]
    Damaged {
        /// What does not fit.
        what: String,
    },
    /// Another process has appended since.
    #[error("another process has appended to this log")]
    Overtaken,
    /// The signer did not sign.
    #[error("the head was not signed")]
    Unsigned(#[source] SignError),
    /// Only in tests: the process is to be thought dead.
    #[cfg(test)]
    #[error("killed")]
    Killed,
}

impl OpenError {
    /// What it means that there is no signer for a log that is to be opened or begun.
    pub(super) fn begin(error: SignError) -> Self {
        match error {
            SignError::Taken { kept } => Self::Remembered { kept },
            other => Self::Signer(other),
        }
    }
}

impl LoadError {
    pub(super) fn io(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Io(Box::new(error))
    }
}
