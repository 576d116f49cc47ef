//! Full tiles as files that never change, in C2SP layout: `<folder>/<level>/<xNNN/NNN>`.
//!
//! They are made from the database and can be made again from it; partial tiles are never stored.
//! Written by the appender and by start-up, read by everybody.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::Connection;

use super::{LoadError, records};
use crate::{
    store::durable,
    tlog::{
        Edge, Hash, Tile, index, leaf_hash,
        tile::{self, TILE_BYTES, WIDTH, subtree_root},
    },
};

/// Records that start-up compares with their tiles, counted from the end: a quarter of a second's
/// work. What lies before was compared when it was the end.
const RECORDS_CHECKED_MAX: u64 = 65_536;

/// The folder of full tiles.
#[derive(Debug, Clone)]
pub(super) struct Tiles {
    folder: PathBuf,
}

/// Full tiles that are published and not yet files.
pub(super) type Recent = BTreeMap<Tile, Arc<[u8]>>;

impl Tiles {
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Whether there is a tile at all.
    pub(super) fn is_empty(&self) -> bool {
        !self.folder.join("0").exists()
    }

    /// Where a full tile is.
    pub(super) fn path(&self, tile: &Tile) -> PathBuf {
        let path = tile.c2sp_path();
        self.folder
            .join(path.strip_prefix("tile/").unwrap_or(&path))
    }

    /// Reads a full tile.
    pub(super) fn read(&self, tile: &Tile) -> Result<Option<Vec<u8>>, LoadError> {
        let path = self.path(&tile.full());
        let bytes = durable::read_bounded(&path, TILE_BYTES).map_err(LoadError::io)?;
        match bytes {
            Some(bytes) if bytes.len() != TILE_BYTES => Err(LoadError::Damaged {
                what: format!("tile `{}` is cut", path.display()),
            }),
            other => Ok(other),
        }
    }

    /// Writes a full tile. A crash leaves the file or none; start-up makes it again from the
    /// database. A file with other bytes is never overwritten.
    pub(super) fn write(&self, tile: &Tile, bytes: &[u8]) -> Result<(), LoadError> {
        let path = self.path(tile);
        if let Some(parent) = path.parent() {
            durable::create_folder(parent, 0o755).map_err(LoadError::io)?;
        }
        match durable::create_or_compare(&path, bytes, durable::IMMUTABLE) {
            Err(error @ durable::DurableError::Differs { .. }) => Err(LoadError::Damaged {
                what: error.to_string(),
            }),
            other => other.map_err(LoadError::io),
        }
    }

    /// Makes every full tile of a tree of `size` that is no file yet, lowest level first.
    pub(super) fn complete(&self, db: &Connection, size: u64) -> Result<(), LoadError> {
        for tile in tile::new_tiles(0, size)
            .iter()
            .filter(|tile| tile.is_full())
        {
            if self.path(tile).exists() {
                continue;
            }
            let bytes = match tile.level().checked_sub(1) {
                None => leaves(db, tile)?,
                Some(below) => {
                    let first = tile.number() * u64::from(WIDTH);
                    self.roots(below, first, first + u64::from(WIDTH))?
                }
            };
            self.write(tile, &bytes)?;
        }
        Ok(())
    }

    /// Compares the newest records with their tiles.
    pub(super) fn check_records(&self, db: &Connection, size: u64) -> Result<(), LoadError> {
        let from = size.saturating_sub(RECORDS_CHECKED_MAX) / u64::from(WIDTH);
        for number in from..size / u64::from(WIDTH) {
            let tile = Tile::new(0, number, WIDTH).ok_or_else(too_large)?;
            if self.read(&tile)?.as_deref() != Some(&*leaves(db, &tile)?) {
                let what = format!("records and tile {number} contradict each other");
                return Err(LoadError::Damaged { what });
            }
        }
        Ok(())
    }

    /// The right edge of the tree of `size`: leaves from the database, the rest from full tiles.
    pub(super) fn edge(&self, db: &Connection, size: u64) -> Result<Edge, LoadError> {
        let mut partial = BTreeMap::new();
        for tile in tile::new_tiles(0, size)
            .into_iter()
            .filter(|tile| !tile.is_full())
        {
            let bytes = match tile.level().checked_sub(1) {
                None => leaves(db, &tile)?,
                Some(below) => {
                    let first = tile.number() * u64::from(WIDTH);
                    self.roots(below, first, first + u64::from(tile.width()))?
                }
            };
            partial.insert(tile, bytes);
        }
        Edge::from_tiles(size, |tile| partial.get(tile).cloned()).ok_or_else(too_large)
    }

    /// Roots of the full tiles `from..to` of a level: hashes of the level above.
    fn roots(&self, level: u8, from: u64, to: u64) -> Result<Vec<u8>, LoadError> {
        let mut bytes = Vec::new();
        for number in from..to {
            let tile = Tile::new(level, number, WIDTH).ok_or_else(too_large)?;
            let root = self.read(&tile)?.as_deref().and_then(subtree_root);
            let missing = || LoadError::Damaged {
                what: format!("no {}", tile.c2sp_path()),
            };
            bytes.extend_from_slice(&root.ok_or_else(missing)?.0);
        }
        Ok(bytes)
    }

    /// The hashes with these stored indexes, of the tree whose right edge is `edge`.
    pub(super) fn hashes(
        &self,
        edge: &Edge,
        recent: &Recent,
        indexes: &[u64],
    ) -> Result<Vec<Hash>, LoadError> {
        let hash = |&index: &u64| {
            let tile = Tile::in_tree(index, edge.size()).ok_or_else(too_large)?;
            let bytes = match tile.is_full() {
                true => self.full(recent, &tile)?,
                false => edge.partial(&tile).map(Arc::from),
            };
            let missing = || LoadError::Damaged {
                what: format!("no {}", tile.c2sp_path()),
            };
            bytes
                .and_then(|bytes| tile.hash(&bytes, index))
                .ok_or_else(missing)
        };
        indexes.iter().map(hash).collect()
    }

    /// A full tile from memory or disk.
    pub(super) fn full(
        &self,
        recent: &Recent,
        tile: &Tile,
    ) -> Result<Option<Arc<[u8]>>, LoadError> {
        match recent.get(&tile.full()) {
            Some(bytes) => Ok(Some(Arc::clone(bytes))),
            None => Ok(self.read(tile)?.map(Arc::from)),
        }
    }

    /// Hashes of the perfect subtrees of the first `size` records.
    pub(super) fn subtrees(
        &self,
        edge: &Edge,
        recent: &Recent,
        size: u64,
    ) -> Result<Vec<Hash>, LoadError> {
        let subtrees = index::subtrees(0, size).into_iter();
        let indexes: Vec<_> = subtrees
            .map(|(level, n)| index::stored_index(level, n))
            .collect();
        self.hashes(edge, recent, &indexes)
    }
}

/// Leaf hashes of a tile from the records.
fn leaves(db: &Connection, tile: &Tile) -> Result<Vec<u8>, LoadError> {
    let first = tile.number() * u64::from(WIDTH);
    let bodies = records::bodies(db, first, first + u64::from(tile.width()))?;
    let bytes: Vec<_> = bodies
        .iter()
        .flat_map(|body| leaf_hash(body.as_bytes()).0)
        .collect();
    let complete = bytes.len() == tile.bytes();
    let missing = || LoadError::Damaged {
        what: format!("records of {}", tile.c2sp_path()),
    };
    complete.then_some(bytes).ok_or_else(missing)
}

fn too_large() -> LoadError {
    LoadError::Damaged {
        what: "the log is larger than any log".to_owned(),
    }
}
