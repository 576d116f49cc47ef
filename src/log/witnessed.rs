//! What witnesses need of the log, and what they give it.
//!
//! Called by [`crate::witness`]. Nothing here ever holds the appender back: cosignatures are rows
//! of their own, written over a connection of their own, after the head was published.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use rusqlite::Connection;

use super::{Health, LoadError, Log, Snapshot, State, fence::Fence, records};
use crate::{
    store::db,
    tlog::{Hash, ProofError, Tree, VerifierKey, empty_root, index, proof},
};

/// Cosignatures of one head.
#[derive(Debug, Default)]
pub(super) struct Cosigned {
    size: u64,
    /// Lines by key of the witness.
    lines: BTreeMap<String, String>,
}

impl Cosigned {
    /// Those that were kept with the head of `size`.
    pub(super) fn load(db: &Connection, size: u64) -> Result<Self, LoadError> {
        let lines = records::lines(db, size)?.into_iter().collect();
        Ok(Self { size, lines })
    }
}

impl State {
    /// The checkpoint of a snapshot with the cosignatures that it has by now.
    pub(super) fn checkpoint(&self, published: &Snapshot) -> Arc<str> {
        let cosigned = self.cosigned.lock().unwrap_or_else(PoisonError::into_inner);
        if cosigned.size != published.tree.size || cosigned.lines.is_empty() {
            return Arc::clone(&published.checkpoint);
        }
        let mut text = published.checkpoint.to_string();
        cosigned.lines.values().for_each(|line| text += line);
        text.into()
    }
}

/// What is offered to a witness.
#[derive(Debug)]
pub struct Offer {
    /// Size and root of the newest published head.
    pub tree: Tree,
    /// Its checkpoint, with our signature and no other.
    pub checkpoint: Arc<str>,
    /// Proof that it contains the log of the size that the witness has.
    pub proof: Vec<Hash>,
}

impl Log {
    /// The key of the log.
    pub fn key(&self) -> &VerifierKey {
        &self.0.key
    }

    /// The newest head with the proof that it contains the log of `old` records; nothing when it is
    /// smaller. May block on the disk for a moment.
    pub fn offer(&self, old: u64) -> Result<Option<Offer>, LoadError> {
        let published = self.0.state.published();
        let tree = published.tree;
        if old > tree.size {
            return Ok(None);
        }
        let proof = match old == 0 || old == tree.size {
            true => Vec::new(),
            false => {
                let impossible = |error: ProofError| LoadError::Damaged {
                    what: format!("no proof of its first {old} records: {error}"),
                };
                let indexes = proof::consistency_indexes(tree.size, old).map_err(impossible)?;
                let tiles = &self.0.state.tiles;
                let hashes = tiles.hashes(&published.edge, &published.recent, &indexes)?;
                proof::consistency(tree.size, old, &hashes).map_err(impossible)?
            }
        };
        Ok(Some(Offer {
            tree,
            checkpoint: Arc::clone(&published.checkpoint),
            proof,
        }))
    }

    /// Root of the first `size` records; nothing when there are fewer. May block on the disk for a
    /// moment.
    pub fn root(&self, size: u64) -> Result<Option<Hash>, LoadError> {
        let published = self.0.state.published();
        if size > published.tree.size {
            return Ok(None);
        }
        let tiles = &self.0.state.tiles;
        let subtrees = tiles.subtrees(&published.edge, &published.recent, size)?;
        Ok(Some(
            index::fold_subtrees(&subtrees).unwrap_or_else(empty_root),
        ))
    }

    /// Keeps a cosignature of the head of `size`, whose line was verified, and shows it with the
    /// checkpoint while that head is the newest. A crash before the commit loses the line; the
    /// witness is asked again. May block on the disk.
    pub fn keep_cosignature(&self, witness: &str, size: u64, line: &str) -> Result<(), LoadError> {
        let db = db::open(&self.0.database).map_err(LoadError::io)?;
        records::keep_line(&db, witness, size, line)?;
        let state = &self.0.state;
        let mut cosigned = state
            .cosigned
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if size > cosigned.size {
            *cosigned = Cosigned::default();
            cosigned.size = size;
        }
        if size == cosigned.size {
            cosigned.lines.insert(witness.to_owned(), line.to_owned());
        }
        Ok(())
    }

    /// The largest head that a witness cosigned, as far as this data folder knows. May block on the
    /// disk for a moment.
    pub fn cosigned(&self, witness: &str) -> Result<u64, LoadError> {
        Ok(records::cosigned(&self.reader(), witness)?)
    }

    /// Takes no more entries until the service is started again: somebody has seen another log with
    /// our signature. Reads go on.
    pub fn alarm(&self, why: String, remedy: String) {
        let state = &self.0.state;
        if let Health::Live = state.health() {
            tracing::error!("the log is fenced: {why}; {remedy}");
        }
        let _first_stays = state.alarmed.set(Fence { why, remedy });
    }
}
