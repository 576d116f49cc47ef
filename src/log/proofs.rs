//! Proofs for people without a network, made from the published head.

use super::{LoadError, Log, Snapshot, records};
use crate::{
    receipt::Draft,
    spec::BuildKey,
    tlog::{Hash, OfflineProof, ProofError, proof},
};

impl Log {
    /// Proves that a leaf is in the published checkpoint; nothing when it is not. May block on the
    /// disk for a moment.
    pub fn proof(&self, index: u64) -> Result<Option<OfflineProof>, LoadError> {
        let published = self.0.state.published();
        let within = index < published.tree.size;
        within.then(|| self.prove(&published, index)).transpose()
    }

    /// All of a build's receipt but its envelope, under one head; nothing when the published log
    /// does not have the build. May block on the disk for a moment.
    pub fn draft(&self, key: &BuildKey) -> Result<Option<Draft>, LoadError> {
        let (found, first) = {
            let db = self.reader();
            (
                records::find(&db, &key.to_string())?,
                records::bodies(&db, 0, 1)?,
            )
        };
        // The head is taken after the record, as for a lookup.
        let published = self.0.state.published();
        let visible = found.filter(|(index, ..)| index + 1 < published.tree.size);
        let (Some((record_index, record, companion)), Some(keys)) =
            (visible, first.into_iter().next())
        else {
            return Ok(None);
        };
        Ok(Some(Draft {
            proof: self.prove(&published, record_index + 1)?,
            companion,
            record,
            record_index,
            record_path: self.path(&published, record_index)?,
            keys,
            keys_path: self.path(&published, 0)?,
        }))
    }

    fn prove(&self, published: &Snapshot, index: u64) -> Result<OfflineProof, LoadError> {
        Ok(OfflineProof {
            extra: None,
            index,
            path: self.path(published, index)?,
            checkpoint: self.0.state.checkpoint(published).to_string(),
        })
    }

    fn path(&self, published: &Snapshot, index: u64) -> Result<Vec<Hash>, LoadError> {
        let impossible = |error: ProofError| LoadError::Damaged {
            what: format!("no proof of leaf {index}: {error}"),
        };
        let size = published.tree.size;
        let indexes = proof::inclusion_indexes(size, index).map_err(impossible)?;
        let tiles = &self.0.state.tiles;
        let hashes = tiles.hashes(&published.edge, &published.recent, &indexes)?;
        proof::inclusion(size, index, &hashes).map_err(impossible)
    }
}
