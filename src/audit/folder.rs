//! A log in the data folder of `serve`, read beside it. Reading a file may block for a moment: an
//! audit does nothing else meanwhile.

use super::{
    error::AuditError,
    source::{Answer, Part, Source, boxed},
};
use crate::{
    log::{Archive, StoredHead},
    proxy::Boxed,
    spec::BuildKey,
    tlog::{
        Tile, TileSource, leaf_hash,
        text::data_tile,
        tile::{WIDTH, subtree_root},
    },
};

/// The folder, and the head that is audited: a service may append meanwhile.
pub(super) struct Folder {
    archive: Archive,
    note: String,
    checkpoint: String,
}

impl Folder {
    pub(super) fn new(archive: Archive, note: String, checkpoint: String) -> Self {
        Self {
            archive,
            note,
            checkpoint,
        }
    }

    fn part(&self, part: Part) -> Result<Answer, AuditError> {
        let bytes = match part {
            Part::Note => Some(self.note.clone().into_bytes()),
            Part::Checkpoint => Some(self.checkpoint.clone().into_bytes()),
            Part::Data(tile) => Some(self.leaves(&tile)?),
            Part::C2sp(tile) => self.archive.tile(&tile)?,
            Part::Entries(_) | Part::Sumdb(_) => None,
        };
        Ok(match bytes {
            Some(bytes) if bytes.len() > part.bytes_max() => Answer::TooLong,
            Some(bytes) => Answer::Bytes(bytes),
            None => Answer::Missing,
        })
    }

    fn leaves(&self, tile: &Tile) -> Result<Vec<u8>, AuditError> {
        let first = tile.number() * u64::from(WIDTH);
        let texts = self
            .archive
            .leaves(first, first + u64::from(tile.width()))?;
        Ok(data_tile(texts.iter().map(String::as_str)))
    }
}

impl Folder {
    /// Where the database has the record of a build.
    pub(super) fn record_index(&self, key: &BuildKey) -> Result<Option<u64>, AuditError> {
        Ok(self.archive.index(&key.to_string())?)
    }

    /// The hashes of a tile: its file, or made from what lies below it. The recursion ends at the
    /// leaves; no tree has more than eight levels of tiles.
    fn hashes(&self, tile: &Tile) -> Result<Vec<u8>, AuditError> {
        if tile.is_full()
            && let Some(bytes) = self.archive.tile(tile)?
        {
            return Ok(bytes);
        }
        let first = tile.number() * u64::from(WIDTH);
        let end = first + u64::from(tile.width());
        let Some(below) = tile.level().checked_sub(1) else {
            let texts = self.archive.leaves(first, end)?;
            let hashes = texts.iter().flat_map(|text| leaf_hash(text.as_bytes()).0);
            return Ok(hashes.collect());
        };
        let mut hashes = Vec::with_capacity(tile.bytes());
        for number in first..end {
            let full = Tile::new(below, number, WIDTH);
            let root = match full {
                Some(full) => subtree_root(&self.hashes(&full)?),
                None => None,
            };
            // Without it the tile is too short, which its reader judges.
            hashes.extend(root.iter().flat_map(|root| root.0));
        }
        Ok(hashes)
    }
}

/// For proofs, which are made from the hashes of a tree; whoever reads them verifies them.
impl TileSource for Folder {
    type Error = AuditError;

    async fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, AuditError> {
        tiles.iter().map(|tile| self.hashes(tile)).collect()
    }
}

impl Source for Folder {
    fn read(&self, part: Part) -> Boxed<'_, Result<Answer, AuditError>> {
        boxed(async move { self.part(part) })
    }

    fn keeps(&self, part: &Part) -> bool {
        match part {
            Part::Note | Part::Checkpoint | Part::Data(_) => true,
            Part::C2sp(tile) => tile.is_full(),
            Part::Entries(_) | Part::Sumdb(_) => false,
        }
    }

    fn may_lack_tiles(&self) -> bool {
        true
    }

    fn heads_after(&self, size: u64) -> Result<Vec<StoredHead>, AuditError> {
        Ok(self.archive.heads_after(size)?)
    }

    fn keys(&self, from: u64, to: u64) -> Result<Option<Vec<(u64, String)>>, AuditError> {
        Ok(Some(self.archive.keys(from, to)?))
    }
}
