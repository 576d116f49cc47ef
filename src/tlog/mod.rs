//! Transparency log arithmetic: hashes, tiles, proofs, signed notes, and their text forms.
//!
//! One tree serves two dialects: Go's checksum database (`golang.org/x/mod/sumdb`) and C2SP's
//! tlog-tiles. This module owns both, for the checksum database client, for our own log and for
//! `get`; and C2SP's formats for people without a network ([`offline`], [`cosignature`],
//! [`policy`]), for `verify`. It is pure: it opens no file and no connection, and it must never let
//! a hash out that was not authenticated against a signed root ([`reader`] is the only way to
//! hashes of a remote log).

pub mod cosignature;
pub mod edge;
pub mod index;
pub mod judge;
pub mod note;
pub mod offline;
pub mod policy;
pub mod proof;
pub mod reader;
pub mod text;
pub mod tile;
pub mod witness;

#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

pub use cosignature::{WitnessKey, WitnessSigner};
pub use edge::{Edge, Frontier};
pub use note::{Note, NoteError, SigningKey, VerifierKey};
pub use offline::{OfflineError, OfflineProof};
pub use policy::{Policy, PolicyError};
pub use proof::ProofError;
pub use reader::{ReadError, TilePlan, TileSource};
pub use text::TextError;
pub use tile::{Tile, TilePath};

/// Length of a hash in bytes.
pub const HASH_BYTES: usize = 32;

/// Largest tree that is worked with. Far beyond any log, and small enough that no index of a stored
/// hash (less than twice the size) and no shift can overflow 64 bits.
pub const SIZE_MAX: u64 = 1 << 48;

/// A SHA-256 hash in a Merkle tree (RFC 6962, section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// Parses canonical standard base64 with padding, as notes write it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// Takes a hash from a slice of exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Size and root of a tree: what a signed head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// Number of records.
    pub size: u64,
    /// Root hash; [`empty_root`] when there are none.
    pub root: Hash,
}

/// Hash of a record's text as a leaf.
pub fn leaf_hash(record: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]); // RFC 6962: leaves and nodes are told apart, or a node passes as a leaf
    hasher.update(record);
    Hash(hasher.finalize().into())
}

/// Hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x01]);
    hasher.update(left.0);
    hasher.update(right.0);
    Hash(hasher.finalize().into())
}

/// Root of the tree without records.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_equal_the_vectors() {
        let vectors = testing::vectors();
        assert_eq!(empty_root().to_string(), vectors["empty_root"]);
        assert_eq!(
            leaf_hash(testing::record(0).as_bytes()).to_string(),
            vectors["leaf_hash_0"]
        );
    }

    #[test]
    fn only_canonical_base64_of_32_bytes_is_a_hash() {
        let good = empty_root().to_string();
        assert_eq!(Hash::parse(&good), Some(empty_root()));
        // `V` instead of `U`: the last character's two spare bits are not zero.
        let spare = good.replace("SuFU=", "SuFV=");
        for bad in [
            "",
            "AAAA",
            good.trim_end_matches('='),
            &format!("{good}\n"),
            &spare,
        ] {
            assert_eq!(Hash::parse(bad), None, "{bad:?}");
        }
    }
}
