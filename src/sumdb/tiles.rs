//! Tiles of the checksum database: from memory, from the disk cache, from the database.
//!
//! Nothing here is believed: the reader authenticates all tiles of each proof, wherever they come
//! from, and says which may be kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::task::JoinSet;

use super::Inner;
use crate::{
    proxy::ProxyError,
    tlog::{Tile, TileSource},
};

/// Tiles that are kept in memory, at most 8 KiB each; all are dropped when it is full.
const MEMORY_TILES_MAX: usize = 2048;

/// Why a tile cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TileError {
    /// It cannot be fetched.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// It has the wrong length.
    #[error("tile `{0}` has the wrong length")]
    Length(String),
}

/// Keeps full tiles beyond the life of the process.
pub trait TileCache: Send + Sync {
    /// A tile by its name, if it is there.
    fn get(&self, name: &str) -> Option<Vec<u8>>;
    /// Keeps it, if possible.
    fn put(&self, name: &str, bytes: &[u8]);
}

pub(super) struct Tiles {
    cache: Arc<dyn TileCache>,
    /// Of the database, so that two of them can share the cache.
    id: String,
    memory: Mutex<HashMap<Tile, Vec<u8>>>,
}

impl Tiles {
    pub(super) fn new(cache: Arc<dyn TileCache>, id: String) -> Self {
        Self {
            cache,
            id,
            memory: Mutex::default(),
        }
    }

    fn name(&self, tile: &Tile) -> String {
        format!("{} {}", self.id, tile.sumdb_path())
    }

    fn known(&self, tile: &Tile) -> Option<Vec<u8>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = memory.get(tile) {
            return Some(bytes.clone());
        }
        drop(memory);
        let bytes = tile
            .is_full()
            .then(|| self.cache.get(&self.name(tile)))
            .flatten()?;
        (bytes.len() == tile.bytes()).then_some(bytes)
    }

    fn keep(&self, tile: &Tile, bytes: &[u8]) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.contains_key(tile) {
            return;
        }
        if memory.len() >= MEMORY_TILES_MAX {
            memory.clear();
        }
        memory.insert(*tile, bytes.to_vec());
        drop(memory);
        if tile.is_full() {
            self.cache.put(&self.name(tile), bytes);
        }
    }
}

/// Reads tiles for one proof.
pub(super) struct Source {
    pub(super) inner: Arc<Inner>,
    /// Nothing from memory or disk: what is there did not fit together.
    pub(super) fresh: bool,
}

impl TileSource for Source {
    type Error = TileError;

    async fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, TileError> {
        let mut found = vec![None; tiles.len()];
        let mut fetches = JoinSet::new();
        for (at, tile) in tiles.iter().enumerate() {
            found[at] = if self.fresh {
                None
            } else {
                self.inner.tiles.known(tile)
            };
            if found[at].is_none() {
                let (inner, tile) = (Arc::clone(&self.inner), *tile);
                fetches.spawn(async move { (at, inner.fetch_tile(tile).await) });
            }
        }
        while let Some(joined) = fetches.join_next().await {
            // A task that panicked leaves a hole, which is the wrong length below.
            if let Ok((at, fetched)) = joined {
                found[at] = Some(fetched?);
            }
        }
        let hole = |tile: &Tile| TileError::Length(tile.sumdb_path());
        found
            .into_iter()
            .zip(tiles)
            .map(|(bytes, tile)| bytes.ok_or_else(|| hole(tile)))
            .collect()
    }

    fn save_tiles(&self, tiles: &[Tile], data: &[Vec<u8>]) {
        for (tile, bytes) in tiles.iter().zip(data) {
            self.inner.tiles.keep(tile, bytes);
        }
    }
}

impl Inner {
    /// A partial tile may be gone once the full one exists (C2SP tlog-tiles); then that is cut.
    async fn fetch_tile(&self, tile: Tile) -> Result<Vec<u8>, TileError> {
        let full = tile.full();
        let mut bytes = match self.get(&tile.sumdb_path(), full.bytes() as u64).await {
            Err(ProxyError::Missing { .. }) if !tile.is_full() => {
                let mut bytes = self.get(&full.sumdb_path(), full.bytes() as u64).await?;
                if bytes.len() == full.bytes() {
                    bytes.truncate(tile.bytes());
                }
                bytes
            }
            result => result?,
        };
        if bytes.len() != tile.bytes() {
            return Err(TileError::Length(tile.sumdb_path()));
        }
        bytes.shrink_to_fit();
        Ok(bytes)
    }
}
