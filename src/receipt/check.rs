//! The checks, from the checkpoint down to the file.

use sha2::{Digest as _, Sha256};

use super::{KeysLeaf, Receipt, ReceiptError};
use crate::{
    provenance::{self, Claims},
    spec::{Companion, Record, Sum, hex},
    tlog::{Policy, leaf_hash, policy::Accepted, proof},
};

/// What a receipt proves.
#[derive(Debug, Clone)]
pub struct Proved {
    /// The record.
    pub record: Record,
    /// Its companion, the leaf after it: binds all 256 bits of the binary's hash.
    pub companion: Companion,
    /// The checkpoint that covers both.
    pub checkpoint: Accepted,
    /// What the log's signed statement says about the build.
    pub claims: Claims,
}

impl Receipt {
    /// Checks everything that can be checked without the binary, by the keys of `policy` alone.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, policy: &Policy) -> Result<Proved, ReceiptError> {
        let (proof, extra) = (&self.proof, &self.extra);
        let accepted = policy.accept(proof.checkpoint.as_bytes());
        let checkpoint = accepted.map_err(ReceiptError::Checkpoint)?;
        let is_leaf = |index, text: &str, path| {
            proof::check_inclusion(path, &checkpoint.tree, index, &leaf_hash(text.as_bytes()))
        };

        is_leaf(0, &extra.keys.text, &extra.keys.path.0).map_err(|_| ReceiptError::KeysPath)?;
        let keys = KeysLeaf::parse(&extra.keys.text)?;
        if keys.log != checkpoint.log {
            return Err(ReceiptError::OtherLog);
        }

        let (record_index, index) = (extra.record_index, proof.index);
        is_leaf(record_index, &extra.record, &extra.record_path.0).map_err(|_| {
            ReceiptError::RecordPath {
                index: record_index,
            }
        })?;
        let record = Record::parse(&extra.record).map_err(ReceiptError::Record)?;

        let envelope = extra.envelope.as_bytes();
        let statement = provenance::open(envelope, &keys.statement);
        let statement = statement.map_err(ReceiptError::Envelope)?;
        let claims = Claims::parse(&statement).map_err(ReceiptError::Envelope)?;
        let key = record.key.to_string();
        if claims.key != key || claims.name != record.key.download_name() {
            return Err(ReceiptError::OtherBuild {
                key: claims.key.escape_debug().to_string(),
            });
        }
        if Sum::of(&claims.sha256) != record.sum {
            return Err(ReceiptError::OtherSum);
        }

        if record_index.checked_add(1) != Some(index) {
            return Err(ReceiptError::Index {
                index,
                record_index,
            });
        }
        let companion = Companion {
            key: record.key.clone(),
            record_index,
            sha256: claims.sha256,
            provenance_sha256: Sha256::digest(envelope).into(),
        };
        is_leaf(index, &companion.text(), &proof.path)
            .map_err(|_| ReceiptError::CompanionPath { index })?;
        Ok(Proved {
            record,
            companion,
            checkpoint,
            claims,
        })
    }
}

impl Proved {
    /// Whether a file of this size and hash is the binary.
    ///
    /// # Errors
    /// It is another one.
    pub fn is_binary(&self, sha256: &[u8; 32], size: u64) -> Result<(), ReceiptError> {
        let expected = self.record.size;
        if size != expected {
            return Err(ReceiptError::Size {
                found: size,
                expected,
            });
        }
        if *sha256 != self.companion.sha256 {
            return Err(ReceiptError::Sha256 {
                found: hex(sha256),
                expected: hex(&self.companion.sha256),
            });
        }
        Ok(())
    }
}
