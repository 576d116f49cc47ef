//! What an audit reads, wherever the log lies. Nothing that comes from here is believed.

use std::future::Future;

use super::error::AuditError;
use crate::{
    log::StoredHead,
    proxy::Boxed,
    tlog::{
        Tile,
        note::NOTE_BYTES_MAX,
        tile::{self, TILE_BYTES},
    },
};

/// Longest data tile or entry bundle, in bytes: 256 leaves of a log of builds have at most 1,281
/// each.
pub(super) const BUNDLE_BYTES_MAX: usize = 512 * 1024;

/// A part of a log that has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The newest head in the form of the checksum database.
    Note,
    /// The newest head as a C2SP checkpoint.
    Checkpoint,
    /// Leaves in the form of the checksum database.
    Data(Tile),
    /// Leaves in the form of C2SP.
    Entries(Tile),
    /// Hashes, at the address that the checksum database has for them.
    Sumdb(Tile),
    /// Hashes, at the address that C2SP has for them.
    C2sp(Tile),
}

impl Part {
    /// Its path below the log's address.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Note => "latest".to_owned(),
            Self::Checkpoint => "checkpoint".to_owned(),
            Self::Data(tile) => tile::data_path(tile),
            Self::Entries(tile) => tile::entries_path(tile),
            Self::Sumdb(tile) => tile.sumdb_path(),
            Self::C2sp(tile) => tile.c2sp_path(),
        }
    }

    /// Most bytes that are read of it.
    pub(super) fn bytes_max(&self) -> usize {
        match self {
            Self::Note | Self::Checkpoint => NOTE_BYTES_MAX,
            Self::Data(_) | Self::Entries(_) => BUNDLE_BYTES_MAX,
            Self::Sumdb(_) | Self::C2sp(_) => TILE_BYTES,
        }
    }

    /// The tile; nothing for a head.
    pub(super) fn tile(&self) -> Option<Tile> {
        match self {
            Self::Note | Self::Checkpoint => None,
            Self::Data(tile) | Self::Entries(tile) | Self::Sumdb(tile) | Self::C2sp(tile) => {
                Some(*tile)
            }
        }
    }

    /// The same part of another tile.
    pub(super) fn of(&self, tile: Tile) -> Self {
        match self {
            Self::Data(_) => Self::Data(tile),
            Self::Entries(_) => Self::Entries(tile),
            Self::Sumdb(_) => Self::Sumdb(tile),
            Self::C2sp(_) => Self::C2sp(tile),
            head => *head,
        }
    }
}

/// What came of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These bytes, at most as many as the part may have.
    Bytes(Vec<u8>),
    /// There is no such part.
    Missing,
    /// More bytes than such a part may have; where it ends is not known.
    TooLong,
}

/// A log to audit.
pub(super) trait Source: Send + Sync + 'static {
    /// Reads a part.
    fn read(&self, part: Part) -> Boxed<'_, Result<Answer, AuditError>>;

    /// Whether such a part is kept here at all; what is derived from another part is not.
    fn keeps(&self, part: &Part) -> bool;

    /// Whether a full tile may be absent for a moment: its owner makes it from the leaves.
    fn may_lack_tiles(&self) -> bool {
        false
    }

    /// Heads of more than `size` leaves that were signed before, the smallest first; some of them.
    fn heads_after(&self, _size: u64) -> Result<Vec<StoredHead>, AuditError> {
        Ok(Vec::new())
    }

    /// The index by key for records `from..to`; nothing when it cannot be read as a whole.
    fn keys(&self, _from: u64, _to: u64) -> Result<Option<Vec<(u64, String)>>, AuditError> {
        Ok(None)
    }
}

/// A future that borrows a source; keeps the boxing in one place.
pub(super) fn boxed<'a, T>(work: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(work)
}
