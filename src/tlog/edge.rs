//! The right edge of a growing tree, kept in two ways that check each other.
//!
//! [`Edge`] has the partial tile of every level: it serves them, cuts full tiles, and knows the
//! root. [`Frontier`] has one hash per perfect subtree, computed in another way. The log signs a
//! root only when both agree, so that one flipped bit in memory or one wrong line cannot fork it.

use super::{
    HASH_BYTES, Hash, Tree, empty_root, index, node_hash,
    tile::{self, TILE_BYTES, Tile},
};

/// The partial tiles of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// Bytes of the partial tile of each level; always shorter than a full tile.
    levels: Vec<Vec<u8>>,
}

impl Edge {
    /// The edge of a tree of `size` from the bytes of its partial tiles, lowest level first.
    /// The bytes are not checked here: compare the root of [`Edge::tree`] with a signed one.
    pub fn from_tiles(size: u64, tiles: impl Fn(&Tile) -> Option<Vec<u8>>) -> Option<Self> {
        let mut levels = Vec::new();
        for level in 0_u8.. {
            let hashes = size >> (u32::from(level) * tile::HEIGHT);
            if hashes == 0 {
                break;
            }
            let width = u16::try_from(hashes & 0xff).ok()?;
            let bytes = match Tile::new(level, hashes >> tile::HEIGHT, width) {
                Some(tile) => tiles(&tile).filter(|bytes| bytes.len() == tile.bytes())?,
                None => Vec::new(), // width 0: the level has only full tiles
            };
            levels.push(bytes);
        }
        Some(Self { size, levels })
    }

    /// Number of records.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; returns the tiles that it fills, lowest level first.
    pub fn push(&mut self, leaf: Hash) -> Vec<(Tile, Vec<u8>)> {
        self.size += 1;
        let mut full = Vec::new();
        let mut hash = leaf;
        for level in 0_u8.. {
            if usize::from(level) == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let bytes = &mut self.levels[usize::from(level)];
            bytes.extend_from_slice(&hash.0);
            if bytes.len() < TILE_BYTES {
                break;
            }
            let bytes = std::mem::take(bytes);
            hash = tile::subtree_root(&bytes).expect("256 hashes");
            let number = (self.size >> (u32::from(level + 1) * tile::HEIGHT)) - 1;
            full.push((
                Tile::new(level, number, tile::WIDTH).expect("within limits"),
                bytes,
            ));
        }
        full
    }

    /// The bytes of a partial tile at the edge, cut to the asked width; nothing when the tile is
    /// full in this tree (then it is a file) or not in it.
    pub fn partial(&self, tile: &Tile) -> Option<&[u8]> {
        let hashes = self.size >> (u32::from(tile.level()) * tile::HEIGHT);
        let here = tile.number() == hashes >> tile::HEIGHT;
        self.levels
            .get(usize::from(tile.level()))
            .filter(|_| here)?
            .get(..tile.bytes())
    }

    /// Root and size.
    pub fn tree(&self) -> Tree {
        Tree {
            size: self.size,
            root: self.root(),
        }
    }

    fn root(&self) -> Hash {
        let subtrees = index::subtrees(0, self.size).into_iter().map(|(level, n)| {
            let (tile_level, level) = (level / tile::HEIGHT, level % tile::HEIGHT);
            let bytes = &self.levels[usize::try_from(tile_level).expect("few levels")];
            let start = usize::try_from((n << level) & 0xff).expect("less than 256") * HASH_BYTES;
            tile::subtree_root(&bytes[start..start + (HASH_BYTES << level)]).expect("a power of 2")
        });
        index::fold_subtrees(&subtrees.collect::<Vec<_>>()).unwrap_or_else(empty_root)
    }
}

/// Roots of the perfect subtrees of a tree, largest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a tree of `size` from the hashes of its subtrees, in the order of
    /// [`index::subtrees`]. Not checked here: compare the root with a signed one.
    pub fn from_subtrees(size: u64, roots: Vec<Hash>) -> Option<Self> {
        let fits = u32::try_from(roots.len()) == Ok(size.count_ones());
        fits.then_some(Self { size, roots })
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // As many subtrees are completed as the old size has ones at its end.
        for _ in 0..self.size.trailing_ones() {
            let left = self.roots.pop().expect("one root per bit of the size");
            hash = node_hash(&left, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// Root and size.
    pub fn tree(&self) -> Tree {
        let root = index::fold_subtrees(&self.roots).unwrap_or_else(empty_root);
        Tree {
            size: self.size,
            root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::testing::NaiveTree;

    #[test]
    fn edge_frontier_and_naive_tree_agree_at_all_sizes_to_600() {
        let naive = NaiveTree::of_vectors();
        let (mut edge, mut frontier) = (Edge::default(), Frontier::default());
        assert_eq!(
            (edge.tree(), frontier.tree()),
            (naive.tree(0), naive.tree(0))
        );
        for size in 1..=600 {
            for (tile, bytes) in edge.push(naive.leaf(size - 1)) {
                assert!(tile.is_full() && tile.is_within(size) && !tile.is_within(size - 1));
                assert_eq!(bytes, naive.tile(&tile));
            }
            frontier.push(naive.leaf(size - 1));
            assert_eq!(
                (edge.tree(), frontier.tree()),
                (naive.tree(size), naive.tree(size))
            );
            let again = Edge::from_tiles(size, |tile| Some(naive.tile(tile)));
            assert_eq!(again.as_ref(), Some(&edge), "size {size}");
        }
    }

    #[test]
    fn tiles_of_the_second_level_are_cut() {
        let mut edge = Edge::default();
        let leaf = super::super::leaf_hash(b"same\n");
        let mut full = Vec::new();
        for _ in 0..65_536 {
            full.extend(
                edge.push(leaf)
                    .into_iter()
                    .map(|(tile, _)| (tile.level(), tile.number())),
            );
        }
        let expected = (0..256).map(|n| (0, n)).chain([(1, 0)]).collect::<Vec<_>>();
        assert_eq!(full, expected);
        assert_eq!(edge.levels, [vec![], vec![], edge.levels[2].clone()]);
        assert_eq!(edge.levels[2].len(), 32);
    }

    #[test]
    fn partial_tiles_are_cut_from_the_edge_only() {
        let naive = NaiveTree::of_vectors();
        let mut edge = Edge::default();
        (0..300).for_each(|n| drop(edge.push(naive.leaf(n))));
        let tile = |level, number, width| Tile::new(level, number, width).unwrap();
        let cut = tile(0, 1, 44);
        assert_eq!(edge.partial(&cut), Some(&*naive.tile(&cut)));
        assert_eq!(
            edge.partial(&tile(0, 1, 3)),
            Some(&*naive.tile(&tile(0, 1, 3)))
        );
        assert_eq!(
            edge.partial(&tile(1, 0, 1)),
            Some(&*naive.tile(&tile(1, 0, 1)))
        );
        for no in [
            tile(0, 1, 45),
            tile(0, 0, 1),
            tile(0, 2, 1),
            tile(1, 0, 2),
            tile(2, 0, 1),
        ] {
            assert_eq!(edge.partial(&no), None, "{no:?}");
        }
    }
}
