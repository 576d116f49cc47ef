//! Tiles of height 8 and their two path forms.
//!
//! Checksum database: `tile/8/<level>/<number>[.p/<width>]`, `tile/8/data/…`. C2SP tlog-tiles:
//! `tile/<level>/<number>[.p/<width>]`, `tile/entries/…`. The grammars do not collide: an element
//! that is not the last of a C2SP number starts with `x` and has three digits, a level never does.

use std::fmt;

use super::{HASH_BYTES, Hash, SIZE_MAX, index, node_hash};

/// Height of all our tiles; the checksum database and tlog-tiles both fix it at 8.
pub const HEIGHT: u32 = 8;
/// Hashes (or records) of a full tile.
pub const WIDTH: u16 = 256;
/// Bytes of a full tile.
pub const TILE_BYTES: usize = WIDTH as usize * HASH_BYTES;
/// Longest accepted path, in bytes: six levels of `x123/` and the rest fit twice.
const PATH_BYTES_MAX: usize = 64;
/// Highest level that a tree of [`SIZE_MAX`] records has, plus one.
const LEVEL_END: u8 = 7;

/// A tile of hashes, full or partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    level: u8,
    number: u64,
    width: u16,
}

impl Tile {
    /// A tile with `width` of at most 256 hashes; nothing when no tree within limits has it.
    pub fn new(level: u8, number: u64, width: u16) -> Option<Self> {
        let sane = level < LEVEL_END && number <= SIZE_MAX && (1..=WIDTH).contains(&width);
        sane.then_some(Self {
            level,
            number,
            width,
        })
    }

    /// The tile that stores the hash with this index, just wide enough for it.
    fn of_index(index: u64) -> (Self, std::ops::Range<usize>) {
        let (level, n) = index::split_stored_index(index);
        let (tile_level, level) = (level / HEIGHT, level % HEIGHT);
        let number = (n << level) >> HEIGHT;
        let first = (n << level) & u64::from(WIDTH - 1);
        let start = usize::try_from(first).expect("less than 256");
        let end = start + (1 << level);
        let width = u16::try_from(end).expect("at most 256");
        let tile_level = u8::try_from(tile_level).expect("an index of 64 bits has few levels");
        (
            Self {
                level: tile_level,
                number,
                width,
            },
            start * HASH_BYTES..end * HASH_BYTES,
        )
    }

    /// The tile that stores the hash with this index, as wide as a tree of `size` has it.
    pub fn in_tree(index: u64, size: u64) -> Option<Self> {
        Self::of_index(index).0.parent(0, size)
    }

    /// The `k`th tile above, as wide as a tree of `size` records has it.
    pub(super) fn parent(self, k: u8, size: u64) -> Option<Self> {
        let level = self.level.checked_add(k)?;
        let number = self.number.checked_shr(u32::from(k) * HEIGHT).unwrap_or(0);
        let hashes = size.checked_shr(u32::from(level) * HEIGHT).unwrap_or(0);
        let rest = hashes
            .checked_sub(number << HEIGHT)
            .filter(|&rest| rest > 0)?;
        let width = u16::try_from(rest).unwrap_or(WIDTH).min(WIDTH);
        Some(Self {
            level,
            number,
            width,
        })
    }

    /// Level of the tile, 0 for leaves.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Position within the level.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Number of hashes, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it has all 256 hashes, and so will never change.
    pub fn is_full(&self) -> bool {
        self.width == WIDTH
    }

    /// The same tile with all 256 hashes.
    pub fn full(self) -> Self {
        Self {
            width: WIDTH,
            ..self
        }
    }

    /// Length in bytes.
    pub fn bytes(&self) -> usize {
        usize::from(self.width) * HASH_BYTES
    }

    /// Whether a tree of `size` records has (at least) these hashes.
    pub fn is_within(&self, size: u64) -> bool {
        self.parent(0, size)
            .is_some_and(|tile| tile.width >= self.width)
    }

    /// Path in the form of the checksum database, from `tile/` on.
    pub fn sumdb_path(&self) -> String {
        format!(
            "tile/8/{}/{}",
            self.level,
            NumberPath(self.number, self.width)
        )
    }

    /// Path in the form of C2SP tlog-tiles, from `tile/` on.
    pub fn c2sp_path(&self) -> String {
        format!(
            "tile/{}/{}",
            self.level,
            NumberPath(self.number, self.width)
        )
    }

    /// The hash with this index from the tile's bytes; nothing when it is not there.
    pub(crate) fn hash(&self, data: &[u8], index: u64) -> Option<Hash> {
        let (tile, range) = Self::of_index(index);
        let here = (tile.level, tile.number) == (self.level, self.number);
        (here && tile.width <= self.width).then(|| data.get(range).and_then(subtree_root))?
    }

    /// Index of the hash over this full tile, which its parent stores.
    pub(super) fn root_index(&self) -> u64 {
        index::stored_index((u32::from(self.level) + 1) * HEIGHT, self.number)
    }
}

/// Root over 2^k hashes one after another.
pub fn subtree_root(data: &[u8]) -> Option<Hash> {
    let count = data.len() / HASH_BYTES;
    if !count.is_power_of_two() || !data.len().is_multiple_of(HASH_BYTES) {
        return None;
    }
    let mut hashes: Vec<_> = data
        .chunks_exact(HASH_BYTES)
        .filter_map(Hash::from_slice)
        .collect();
    while hashes.len() > 1 {
        hashes = hashes
            .chunks_exact(2)
            .map(|pair| node_hash(&pair[0], &pair[1]))
            .collect();
    }
    hashes.pop()
}

/// Any tile that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TilePath {
    /// Hashes; the same bytes in both forms.
    Hashes(Tile),
    /// Records in the form of the checksum database; level of the tile is 0.
    Data(Tile),
    /// Records in the form of C2SP; level of the tile is 0.
    Entries(Tile),
}

impl TilePath {
    /// Parses a path after `tile/`, in either form; accepted only if it prints back to itself.
    pub fn parse(path: &str) -> Option<Self> {
        if path.len() > PATH_BYTES_MAX {
            return None;
        }
        let (first, rest) = path.split_once('/')?;
        let is_number = |text: &str| text.starts_with('x') || text.get(..3).is_some_and(is_digits);
        let (level, number) = match rest.split_once('/') {
            Some((level, number)) if first == "8" && !is_number(level) => (level, number),
            _ if first == "data" => return None, // this word belongs to the other form
            _ => (first, rest),
        };
        let tile = |level: u8| {
            let (number, width) = parse_number(number)?;
            Tile::new(level, number, width)
        };
        let parsed = match level {
            "data" => Self::Data(tile(0)?),
            "entries" => Self::Entries(tile(0)?),
            level => Self::Hashes(tile(level.parse().ok()?)?),
        };
        parsed.forms().any(|form| form == path).then_some(parsed)
    }

    /// The path in each form that has this tile, after `tile/`.
    fn forms(&self) -> impl Iterator<Item = String> {
        let (sumdb, c2sp) = match self {
            Self::Hashes(tile) => (Some(tile.sumdb_path()), Some(tile.c2sp_path())),
            Self::Data(tile) => (Some(data_path(tile)), None),
            Self::Entries(tile) => (None, Some(entries_path(tile))),
        };
        sumdb
            .into_iter()
            .chain(c2sp)
            .map(|path| path["tile/".len()..].to_owned())
    }
}

/// Path of the records of a leaf tile in the form of the checksum database, from `tile/` on.
pub fn data_path(tile: &Tile) -> String {
    format!("tile/8/data/{}", NumberPath(tile.number, tile.width))
}

/// Path of the records of a leaf tile in the form of C2SP, from `tile/` on.
pub fn entries_path(tile: &Tile) -> String {
    format!("tile/entries/{}", NumberPath(tile.number, tile.width))
}

/// A tile's number in groups of three digits, all but the last with an `x`, and its width when it
/// is partial: 1234067 is `x001/x234/067`.
struct NumberPath(u64, u16);

impl fmt::Display for NumberPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number, width) = *self;
        let mut groups = vec![number % 1000];
        let mut rest = number / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if width == WIDTH {
            Ok(())
        } else {
            write!(f, ".p/{width}")
        }
    }
}

fn parse_number(text: &str) -> Option<(u64, u16)> {
    let (number, width) = match text.split_once(".p/") {
        Some((number, width)) => (number, width.parse().ok().filter(|&width| width < WIDTH)?),
        None => (text, WIDTH),
    };
    let group = |total: u64, group: &str| {
        let digits = group.strip_prefix('x').unwrap_or(group);
        let value: u64 = digits.parse().ok().filter(|_| is_digits(digits))?;
        total.checked_mul(1000)?.checked_add(value)
    };
    Some((number.split('/').try_fold(0, group)?, width))
}

fn is_digits(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Tiles, full and partial, that a tree of `new` records has and one of `old` has not.
pub fn new_tiles(old: u64, new: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for level in 0..LEVEL_END {
        let shift = u32::from(level) * HEIGHT;
        let (old, new) = (old >> shift, new >> shift);
        if old == new {
            continue;
        }
        let full = (old >> HEIGHT..new >> HEIGHT).map(|number| (number, WIDTH));
        let width = u16::try_from(new & u64::from(WIDTH - 1)).expect("less than 256");
        let partial = (width > 0).then_some((new >> HEIGHT, width));
        tiles.extend(full.chain(partial).map(|(number, width)| Tile {
            level,
            number,
            width,
        }));
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::testing;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn tiles_and_both_paths_equal_the_vectors() {
        let naive = testing::NaiveTree::of_vectors();
        for vector in testing::vectors()["trees"].as_array().unwrap() {
            let tiles = new_tiles(0, vector["n"].as_u64().unwrap());
            let expected = vector["tiles"].as_array().unwrap();
            assert_eq!(tiles.len(), expected.len());
            for (tile, expected) in tiles.iter().zip(expected) {
                assert_eq!(tile.sumdb_path(), expected["sumdb_path"]);
                assert_eq!(tile.c2sp_path(), expected["c2sp_path"]);
                let hex: String = Sha256::digest(naive.tile(tile))
                    .iter()
                    .map(|b| format!("{b:02x}"))
                    .collect();
                assert_eq!(hex, expected["sha256"]);
            }
        }
    }

    #[test]
    fn only_new_tiles_are_new() {
        let count = |old, new| new_tiles(old, new).len();
        assert_eq!(
            (count(0, 0), count(1, 1), count(100, 101), count(255, 257)),
            (0, 0, 1, 3)
        );
        assert_eq!((count(256, 300), count(0, 70_000)), (1, 274 + 2 + 1));
    }

    #[test]
    fn paths_of_both_forms_are_told_apart() {
        let tile = |level, number, width| Tile::new(level, number, width).unwrap();
        for (path, expected) in [
            ("8/0/000", TilePath::Hashes(tile(0, 0, 256))),
            ("0/000", TilePath::Hashes(tile(0, 0, 256))),
            (
                "8/1/x001/x234/067.p/12",
                TilePath::Hashes(tile(1, 1_234_067, 12)),
            ),
            (
                "1/x001/x234/067.p/12",
                TilePath::Hashes(tile(1, 1_234_067, 12)),
            ),
            ("8/data/x001/000", TilePath::Data(tile(0, 1000, 256))),
            ("entries/000.p/1", TilePath::Entries(tile(0, 0, 1))),
        ] {
            assert_eq!(TilePath::parse(path), Some(expected), "{path}");
        }
    }

    #[test]
    fn paths_that_do_not_print_back_are_refused() {
        let long = "x001/".repeat(20);
        for path in [
            "",
            "8",
            "8/",
            "8/0",
            "8/0/",
            "8/0/0",
            "8/0/00",
            "8/0/0000",
            "8/0/x000/000",
            "8/00/000",
            "8/+1/000",
            "8/0/000.p/0",
            "8/0/000.p/256",
            "8/0/000.p/01",
            "8/0/000.p/",
            "8/0/001/002",
            "8/0/x001",
            "8/-1/000",
            "7/0/000",
            "8/7/000",
            "7/000",
            "8/000",
            "data/000",
            "8/entries/000",
            "8/0/000/",
            "/8/0/000",
            "8/0/000.p/1/2",
            "8/0/0é0",
            "é/000",
            "8/0/+12",
            &format!("8/0/{long}000"),
            "8/0/x999/x999/x999/x999/x999/x999/999",
        ] {
            assert_eq!(TilePath::parse(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn paths_print_back(level in 0_u8..7, number in 0_u64..1 << 40, width in 1_u16..=256) {
            let tile = Tile::new(level, number, width).unwrap();
            for path in [tile.sumdb_path(), tile.c2sp_path()] {
                prop_assert_eq!(TilePath::parse(&path[5..]), Some(TilePath::Hashes(tile)));
            }
            prop_assert_eq!(TilePath::parse(&data_path(&tile)[5..]).is_some(), true);
        }

        #[test]
        fn no_path_makes_the_parser_panic(path in "(8/|x|data|entries|[0-9é./xp]){0,12}") {
            let parsed = TilePath::parse(&path);
            prop_assert!(parsed.is_none_or(|tile| tile.forms().any(|form| form == path)));
        }
    }
}
