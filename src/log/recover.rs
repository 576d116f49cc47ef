//! Fills an older copy of a log up to a head that was signed: the way out of a rollback.
//!
//! Called by `hotcell log recover`, never by a service. What is missing comes from anybody: nothing
//! of it is believed, it is added when the whole has the root of a head that the log's key signed,
//! else nothing is. The next start has the signer sign that head once more, which it does only when
//! it contains what it signed last.

use std::fs::File;

use nix::fcntl::Flock;
use rusqlite::Connection;

use super::{
    LoadError, LogConfig, OpenError, records,
    startup::{checked_edge, lock, open_database},
    tiles::Tiles,
};
use crate::{
    spec::Record,
    tlog::{Edge, Tree, VerifierKey, leaf_hash, text::is_record},
};

/// Why nothing was added.
#[derive(Debug, thiserror::Error)]
pub enum RefillError {
    /// The folder is not that of an older copy of this log.
    #[error("`{found}` is the key of the log in this folder")]
    OtherLog {
        /// The key that it names.
        found: String,
    },
    /// A leaf that no log of ours has.
    #[error("leaf {index} is none of a log of builds: {why}")]
    Leaf {
        /// Which.
        index: u64,
        /// What is wrong.
        why: String,
    },
    /// The records that are here are not the first ones of the log that was signed.
    #[error(
        "the {here} records of this folder and those that were given do not have the signed root \
         of {} records: one of both is not a copy of this log",
        signed.size
    )]
    Root {
        /// Leaves that were here before.
        here: u64,
        /// The head that was signed.
        signed: Tree,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be read or written.
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl From<rusqlite::Error> for RefillError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Load(error.into())
    }
}

/// An older copy that is being filled up. Dropped before [`Refill::finish`], it is as it was.
#[derive(Debug)]
pub struct Refill {
    db: Connection,
    edge: Edge,
    old: Tree,
    /// Held until all is done: no service may append meanwhile.
    _lock: Flock<File>,
}

impl Refill {
    /// Opens and verifies what is there; an empty folder becomes one of the log of `key`.
    ///
    /// # Errors
    /// When a service runs on it, when it is damaged or is another log's.
    pub fn begin(config: &LogConfig, key: &VerifierKey) -> Result<Self, RefillError> {
        let db = open_database(config)?;
        let lock = lock(config)?;
        db.execute_batch("BEGIN IMMEDIATE")?;
        match records::key(&db)? {
            Some(found) if found != key.to_string() => {
                return Err(RefillError::OtherLog { found });
            }
            Some(_) => {}
            None => records::set_key(&db, &key.to_string())?,
        }
        let head = records::head(&db)?.map(|head| head.tree);
        let old = head.unwrap_or_else(|| Edge::default().tree());
        // Of an empty folder too: tiles of what is to come may lie there.
        let edge = checked_edge(&db, &Tiles::new(&config.tiles), &old)?;
        Ok(Self {
            db,
            edge,
            old,
            _lock: lock,
        })
    }

    /// Leaves that are here.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Adds the next leaf.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn push(&mut self, text: &str) -> Result<(), RefillError> {
        let index = self.edge.size();
        let leaf = |why: String| RefillError::Leaf { index, why };
        if !is_record(text) {
            return Err(leaf("it is no text of a log".to_owned()));
        }
        // Leaf 0 names keys, then come a record and its companion, again and again.
        if index % 2 == 1 {
            let record = Record::parse(text).map_err(|error| leaf(error.to_string()))?;
            if !records::add_key(&self.db, &record.key.to_string(), index)? {
                let why = format!("there is a record of `{}` before it", record.key);
                return Err(leaf(why));
            }
        }
        records::add(&self.db, index, text)?;
        self.edge.push(leaf_hash(text.as_bytes()));
        Ok(())
    }

    /// Keeps all of it, durably, when it has the root of `signed`; and both notes of that head,
    /// verified by the caller, if there are any: a log that has to stay fenced can be read then.
    ///
    /// # Errors
    /// When it has another one; then the folder is as it was.
    pub fn finish(self, signed: &Tree, notes: Option<(&str, &str)>) -> Result<(), RefillError> {
        if self.edge.tree() != *signed {
            let (here, signed) = (self.old.size, *signed);
            return Err(RefillError::Root { here, signed });
        }
        if signed.size > self.old.size && !records::advance(&self.db, &self.old, signed)? {
            return Err(LoadError::Overtaken.into());
        }
        if let Some((note, checkpoint)) = notes
            && signed.size > self.old.size
        {
            records::set_notes(&self.db, signed, note, checkpoint)?;
        }
        Ok(self.db.execute_batch("COMMIT")?)
    }
}
