//! Receipts: one text that proves, without a network, what a binary was built from and that a log
//! says so.
//!
//! A receipt is a C2SP tlog-proof of the companion's leaf. Its extra data is compact JSON:
//! `{"record","record_index","record_path","envelope","keys":{"text","path"}}`: the record with its
//! path, the DSSE envelope as stored, and leaf 0, which names the key of the envelope, all under
//! the one checkpoint. The companion itself is not in it: record and envelope say what it must be.
//! The log's service prints receipts, `get` keeps them, `verify` checks them, each with this code.
//! It is pure, and it must never take a key for the checkpoint from a receipt.

mod check;
mod error;
mod follows;
mod keys;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod tests;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use sha2::{Digest as _, Sha256};

use crate::{
    spec::Companion,
    tlog::{Hash, OfflineProof, offline::OFFLINE_BYTES_MAX, proof::PROOF_HASHES_MAX},
};
pub use check::Proved;
pub use error::ReceiptError;
pub use follows::{Ended, Follows};
pub use keys::KeysLeaf;

/// Longest receipt, in bytes.
pub const RECEIPT_BYTES_MAX: usize = OFFLINE_BYTES_MAX;
/// What is added to a binary's name.
pub const SUFFIX: &str = ".receipt";

/// A parsed receipt. Nothing of it is to be believed before [`Receipt::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Of the companion; its extra data is in `extra`.
    proof: OfflineProof,
    extra: Extra,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    record: String,
    record_index: u64,
    record_path: Path,
    envelope: String,
    keys: Keys,
}

/// Leaf 0 and its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    text: String,
    path: Path,
}

/// Everything of a receipt that the log has, under one head: all but the envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Of the companion, without extra data.
    pub proof: OfflineProof,
    /// Text of the companion.
    pub companion: String,
    /// Text of the record.
    pub record: String,
    /// Index of the record.
    pub record_index: u64,
    /// Path of the record.
    pub record_path: Vec<Hash>,
    /// Text of leaf 0.
    pub keys: String,
    /// Path of leaf 0.
    pub keys_path: Vec<Hash>,
}

impl Draft {
    /// The receipt with the envelope that the companion names; with another one, or none, the
    /// companion's proof alone, which is no receipt.
    pub fn finish(self, envelope: Option<Vec<u8>>) -> OfflineProof {
        let named = Companion::parse(&self.companion).map(|companion| companion.provenance_sha256);
        let fits = |bytes: &Vec<u8>| named == Ok(Sha256::digest(bytes).into());
        let envelope = envelope
            .filter(fits)
            .and_then(|it| String::from_utf8(it).ok());
        let Some(envelope) = envelope else {
            return self.proof;
        };
        let extra = Extra {
            record: self.record,
            record_index: self.record_index,
            record_path: Path(self.record_path),
            envelope,
            keys: Keys {
                text: self.keys,
                path: Path(self.keys_path),
            },
        };
        OfflineProof {
            extra: Some(extra.json()),
            ..self.proof
        }
    }
}

impl Receipt {
    /// Parses a receipt that prints back to itself.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let mut proof = OfflineProof::parse(bytes).map_err(ReceiptError::Form)?;
        let json = proof.extra.take().ok_or(ReceiptError::NoExtra)?;
        let extra: Extra = serde_json::from_slice(&json).map_err(|_| ReceiptError::Extra)?;
        // One receipt, one text: spaces and other spellings of a string are refused.
        let same = extra.json() == json;
        same.then_some(Self { proof, extra })
            .ok_or(ReceiptError::Extra)
    }

    /// The checkpoint, which nobody has verified yet.
    pub fn checkpoint(&self) -> &str {
        &self.proof.checkpoint
    }
}

impl Extra {
    fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers serialize")
    }
}

/// A path of hashes, as base64 in a JSON list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Path(Vec<Hash>);

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Hash::to_string))
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PathVisitor)
    }
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = Path;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {PROOF_HASHES_MAX} hashes in base64")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Path, A::Error> {
        let mut path = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            let hash = Hash::parse(&text).filter(|_| path.len() < PROOF_HASHES_MAX);
            path.push(hash.ok_or_else(|| serde::de::Error::custom("no path of hashes"))?);
        }
        Ok(Path(path))
    }
}
