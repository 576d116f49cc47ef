//! The slow, obvious tree that everything else is compared with, and the vectors.

use sha2::{Digest, Sha256};

use super::{Hash, Tree, empty_root, leaf_hash, node_hash};
use crate::tlog::{Tile, index};

/// Vectors made with x/mod v0.42.0 and torchwood v0.9.0.
pub(crate) fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("testdata/vectors.json")).unwrap()
}

/// Record `i` of the vectors.
pub(crate) fn record(i: u64) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let digest = Sha256::digest(format!("binary {i}"));
    let sum = URL_SAFE_NO_PAD.encode(&digest[..20]);
    let variant = if i % 3 == 2 { "stripped" } else { "" };
    let size = 1000 + i;
    format!("example.com/mod{i} v1.{i}.0 /cmd/tool linux amd64 go1.26.1 {size} 0{sum} {variant}\n")
}

/// A tree that recomputes everything from its leaves.
#[derive(Clone)]
pub(crate) struct NaiveTree {
    pub(crate) leaves: Vec<Hash>,
}

impl NaiveTree {
    pub(crate) fn of_vectors() -> Self {
        static LEAVES: std::sync::OnceLock<Vec<Hash>> = std::sync::OnceLock::new();
        let make = || (0..700).map(|i| leaf_hash(record(i).as_bytes())).collect();
        Self {
            leaves: LEAVES.get_or_init(make).clone(),
        }
    }

    pub(crate) fn leaf(&self, n: u64) -> Hash {
        self.leaves[usize::try_from(n).unwrap()]
    }

    /// RFC 6962's definition, word for word.
    pub(crate) fn range(&self, lo: u64, hi: u64) -> Hash {
        match hi - lo {
            0 => empty_root(),
            1 => self.leaf(lo),
            n => {
                let k = (n - 1).checked_ilog2().map_or(1, |log| 1 << log);
                node_hash(&self.range(lo, lo + k), &self.range(lo + k, hi))
            }
        }
    }

    pub(crate) fn tree(&self, size: u64) -> Tree {
        Tree {
            size,
            root: self.range(0, size),
        }
    }

    pub(crate) fn stored(&self, indexes: &[u64]) -> Vec<Hash> {
        let one = |&i: &u64| {
            let (level, n) = index::split_stored_index(i);
            self.range(n << level, (n + 1) << level)
        };
        indexes.iter().map(one).collect()
    }

    /// Bytes of a tile.
    pub(crate) fn tile(&self, tile: &Tile) -> Vec<u8> {
        let (level, first) = (u32::from(tile.level()) * 8, tile.number() * 256);
        let hash = |n| self.range(n << level, (n + 1) << level);
        (first..first + u64::from(tile.width()))
            .flat_map(|n| hash(n).0)
            .collect()
    }
}
