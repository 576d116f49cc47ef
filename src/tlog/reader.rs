//! The verified tile reader: hashes of a remote log, authenticated against a root that is signed.
//!
//! The algorithm is that of x/mod's `TileHashReader` as of v0.40.0. Before, and in other
//! implementations still, the loop that authenticates the tiles after those of the tree hash began
//! at the number of subtrees instead of the number of *tiles* that hold them; since subtrees share
//! tiles, the next tiles were never checked and a forged one was believed (CVE-2026-56865).
//! Here the two lists cannot be confused: the second begins where the first was cut off.

use std::{collections::HashMap, future::Future};

use super::{
    Hash, SIZE_MAX, Tree, index,
    index::{fold_subtrees, subtree_indexes},
    leaf_hash, proof,
    tile::{Tile, subtree_root},
};

/// Where tiles come from: a server, or a cache in front of it. Nothing that it gives is believed.
pub trait TileSource {
    /// Why tiles cannot be had.
    type Error;

    /// The bytes of each tile, in this order. A source that has only the full tile cuts it.
    fn read_tiles(
        &self,
        tiles: &[Tile],
    ) -> impl Future<Output = Result<Vec<Vec<u8>>, Self::Error>> + Send;

    /// Told of tiles that were authenticated; only these may go into a cache.
    fn save_tiles(&self, tiles: &[Tile], data: &[Vec<u8>]) {
        let _ = (tiles, data);
    }
}

/// Why no hash comes out.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The tiles could not be had; says nothing about the log.
    #[error("cannot read tiles of the log")]
    Source(#[source] E),
    /// The tiles do not belong to the signed tree: the server lies, or its disk does.
    #[error("inconsistent tile: the log's server and its signed head contradict each other")]
    Inconsistent,
    /// The hashes asked for are not in the tree.
    #[error("not in a tree of {size} records")]
    NotInTree {
        /// Of the tree.
        size: u64,
    },
    /// The record or older tree is not in the tree that was signed: a lie, provable with the heads.
    #[error("the log's signed head does not contain {what}")]
    NotContained {
        /// What is missing.
        what: String,
    },
}

/// Which tiles are needed for some hashes of a tree, and how they are authenticated.
#[derive(Debug)]
pub struct TilePlan {
    tree: Tree,
    tiles: Vec<Tile>,
    order: HashMap<Tile, usize>,
    /// Stored index and tile of each perfect subtree of the tree, left to right.
    subtrees: Vec<(u64, usize)>,
    /// Tiles before this one hold the subtrees, all others follow their parents.
    first_child: usize,
    /// Stored index and tile of each hash that was asked for.
    wanted: Vec<(u64, usize)>,
}

impl TilePlan {
    /// Plans the reading of the hashes with these stored indexes; nothing when one is not in the
    /// tree.
    pub fn new(tree: Tree, indexes: &[u64]) -> Option<Self> {
        if tree.size > SIZE_MAX {
            return None;
        }
        let mut plan = Self {
            tree,
            tiles: Vec::new(),
            order: HashMap::new(),
            subtrees: Vec::new(),
            first_child: 0,
            wanted: Vec::new(),
        };
        for index in subtree_indexes(0, tree.size) {
            let tile = Tile::in_tree(index, tree.size)?;
            let at = plan.add(tile);
            plan.subtrees.push((index, at));
        }
        plan.first_child = plan.tiles.len();
        for &index in indexes {
            if index >= index::stored_index(0, tree.size) {
                return None;
            }
            let at = plan.add_with_parents(Tile::in_tree(index, tree.size)?)?;
            plan.wanted.push((index, at));
        }
        Some(plan)
    }

    /// The tiles to read, in this order.
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    fn add(&mut self, tile: Tile) -> usize {
        let next = self.tiles.len();
        let at = *self.order.entry(tile).or_insert(next);
        if at == next {
            self.tiles.push(tile);
        }
        at
    }

    /// Adds a tile after all of its parents up to one that is there already.
    fn add_with_parents(&mut self, tile: Tile) -> Option<usize> {
        let mut missing = Vec::new();
        let mut above = tile;
        while !self.order.contains_key(&above) {
            // Only full tiles have parents, and the tiles with subtrees are there already.
            if !above.is_full() {
                return None;
            }
            missing.push(above);
            above = above.parent(1, self.tree.size)?;
        }
        for tile in missing.into_iter().rev() {
            self.add(tile);
        }
        self.order.get(&tile).copied()
    }

    /// Authenticates all tiles against the tree's root; the hashes in the order they were asked
    /// for, or nothing when any byte of any tile is wrong.
    pub fn verify(&self, data: &[Vec<u8>]) -> Option<Vec<Hash>> {
        let sane = data.len() == self.tiles.len()
            && self
                .tiles
                .iter()
                .zip(data)
                .all(|(tile, bytes)| bytes.len() == tile.bytes());
        if !sane {
            return None;
        }
        let hash = |&(index, at): &(u64, usize)| self.tiles[at].hash(&data[at], index);

        // First the tiles of the subtrees, against the root: together the subtrees cover every hash
        // of these tiles.
        let subtrees = self.subtrees.iter().map(hash).collect::<Option<Vec<_>>>()?;
        let root = fold_subtrees(&subtrees).unwrap_or_else(super::empty_root);
        if root != self.tree.root {
            return None;
        }
        // Then each other tile against its parent, which comes before it.
        for (tile, bytes) in self.tiles.iter().zip(data).skip(self.first_child) {
            let parent = *self.order.get(&tile.parent(1, self.tree.size)?)?;
            let expected = self.tiles[parent].hash(&data[parent], tile.root_index())?;
            if subtree_root(bytes)? != expected {
                return None;
            }
        }
        self.wanted.iter().map(hash).collect()
    }
}

/// Reads hashes by their stored indexes; every one is authenticated against the root of `tree`.
pub async fn read_hashes<S: TileSource + Sync>(
    tree: Tree,
    indexes: &[u64],
    source: &S,
) -> Result<Vec<Hash>, ReadError<S::Error>> {
    let size = tree.size;
    let plan = TilePlan::new(tree, indexes).ok_or(ReadError::NotInTree { size })?;
    if plan.tiles().is_empty() {
        return plan.verify(&[]).ok_or(ReadError::Inconsistent);
    }
    let data = source
        .read_tiles(plan.tiles())
        .await
        .map_err(ReadError::Source)?;
    let hashes = plan.verify(&data).ok_or(ReadError::Inconsistent)?;
    source.save_tiles(plan.tiles(), &data);
    Ok(hashes)
}

/// Checks that record `index` of `tree` is `text`, to the byte.
pub async fn check_record<S: TileSource + Sync>(
    tree: Tree,
    index: u64,
    text: &[u8],
    source: &S,
) -> Result<(), ReadError<S::Error>> {
    if index >= tree.size.min(SIZE_MAX) {
        return Err(ReadError::NotInTree { size: tree.size });
    }
    let hashes = read_hashes(tree, &[index::stored_index(0, index)], source).await?;
    let contained = hashes == [leaf_hash(text)];
    contained
        .then_some(())
        .ok_or_else(|| ReadError::NotContained {
            what: format!("this text as record {index}"),
        })
}

/// Checks that `older` is a prefix of `newer`. An empty tree is a prefix of every tree.
pub async fn check_prefix<S: TileSource + Sync>(
    older: Tree,
    newer: Tree,
    source: &S,
) -> Result<(), ReadError<S::Error>> {
    if older.size > newer.size || newer.size > SIZE_MAX {
        return Err(ReadError::NotInTree { size: newer.size });
    }
    let hashes = read_hashes(newer, &subtree_indexes(0, older.size), source).await?;
    let root = fold_subtrees(&hashes).unwrap_or_else(super::empty_root);
    let contained = root == older.root && (older.size != newer.size || older.root == newer.root);
    contained
        .then_some(())
        .ok_or_else(|| ReadError::NotContained {
            what: format!("its earlier signed head of {} records", older.size),
        })
}

/// Reads an inclusion proof of record `n`.
pub async fn read_inclusion<S: TileSource + Sync>(
    tree: Tree,
    n: u64,
    source: &S,
) -> Result<Vec<Hash>, ReadError<S::Error>> {
    let outside = |_| ReadError::NotInTree { size: tree.size };
    let indexes = proof::inclusion_indexes(tree.size, n).map_err(outside)?;
    let hashes = read_hashes(tree, &indexes, source).await?;
    proof::inclusion(tree.size, n, &hashes).map_err(outside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{index::stored_index, testing::NaiveTree};

    struct Server {
        tree: NaiveTree,
        forge: Option<(Tile, usize)>,
    }

    impl TileSource for Server {
        type Error = std::convert::Infallible;

        async fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Self::Error> {
            let read = |tile: &Tile| {
                let mut bytes = self.tree.tile(tile);
                match self.forge {
                    Some((forged, at)) if forged == *tile => bytes[at] ^= 1,
                    _ => {}
                }
                bytes
            };
            Ok(tiles.iter().map(read).collect())
        }
    }

    fn server() -> Server {
        Server {
            tree: NaiveTree::of_vectors(),
            forge: None,
        }
    }

    #[tokio::test]
    async fn forged_tile_in_a_tree_of_700_is_refused() {
        // Size 700 has subtrees 512 (in tile 1/000.p/2), 128, 32, 16, 8 and 4 (all in 0/002.p/188):
        // six subtrees in two tiles. The flawed loop begins at tile 6 and never sees tile 0/000.
        let mut server = server();
        let tree = server.tree.tree(700);
        let leaf = stored_index(0, 5);
        let plan = TilePlan::new(tree, &[leaf]).unwrap();
        assert!(plan.subtrees.len() > plan.tiles.len());
        let tile = Tile::new(0, 0, 256).unwrap();
        server.forge = Some((tile, 5 * 32));
        let read = read_hashes(tree, &[leaf], &server).await;
        assert!(matches!(read, Err(ReadError::Inconsistent)));
        let forged = server.tree.leaf(5);
        server.forge = None;
        assert_eq!(read_hashes(tree, &[leaf], &server).await.unwrap(), [forged]);
    }

    #[tokio::test]
    async fn a_flipped_bit_anywhere_in_any_read_tile_is_noticed() {
        let mut server = server();
        for size in [1, 3, 255, 256, 257, 300, 512, 600, 700] {
            let tree = server.tree.tree(size);
            for n in [0, size / 2, size - 1] {
                let plan = TilePlan::new(tree, &[stored_index(0, n)]).unwrap();
                for tile in plan.tiles() {
                    for at in (0..tile.bytes()).step_by(31 * 7) {
                        server.forge = Some((*tile, at));
                        let read = read_hashes(tree, &[stored_index(0, n)], &server).await;
                        assert!(
                            matches!(read, Err(ReadError::Inconsistent)),
                            "size {size}, record {n}, {} byte {at}",
                            tile.sumdb_path()
                        );
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn every_stored_hash_reads_back() {
        let server = server();
        for size in [0, 1, 2, 7, 255, 256, 257, 600] {
            let tree = server.tree.tree(size);
            let all: Vec<_> = (0..index::stored_count(size)).collect();
            let hashes = read_hashes(tree, &all, &server).await.unwrap();
            assert_eq!(hashes, server.tree.stored(&all), "size {size}");
            let outside = read_hashes(tree, &[stored_index(0, size)], &server).await;
            assert!(matches!(outside, Err(ReadError::NotInTree { .. })));
        }
    }

    #[tokio::test]
    async fn records_and_older_heads_are_checked() {
        let server = server();
        let tree = server.tree.tree(700);
        let record = crate::tlog::testing::record(5);
        check_record(tree, 5, record.as_bytes(), &server)
            .await
            .unwrap();
        let swapped = check_record(tree, 6, record.as_bytes(), &server).await;
        assert!(matches!(swapped, Err(ReadError::NotContained { .. })));
        for size in [0, 1, 255, 256, 257, 511, 699, 700] {
            check_prefix(server.tree.tree(size), tree, &server)
                .await
                .unwrap();
            let fork = Tree {
                size,
                root: leaf_hash(b"fork"),
            };
            let fork = check_prefix(fork, tree, &server).await;
            assert!(
                matches!(fork, Err(ReadError::NotContained { .. })),
                "size {size}"
            );
        }
        let shrunk = check_prefix(tree, server.tree.tree(600), &server).await;
        assert!(matches!(shrunk, Err(ReadError::NotInTree { size: 600 })));
        let proof = read_inclusion(tree, 350, &server).await.unwrap();
        proof::check_inclusion(&proof, &tree, 350, &server.tree.leaf(350)).unwrap();
    }

    #[test]
    fn tiles_of_wrong_length_or_number_are_refused() {
        let naive = NaiveTree::of_vectors();
        let plan = TilePlan::new(naive.tree(300), &[stored_index(0, 299)]).unwrap();
        let mut data: Vec<_> = plan.tiles().iter().map(|tile| naive.tile(tile)).collect();
        assert!(plan.verify(&data).is_some());
        data[0].pop();
        assert!(plan.verify(&data).is_none());
        assert!(plan.verify(&[]).is_none());
    }
}
