//! Numbers of stored hashes: the order in which a growing tree completes its nodes.
//!
//! The numbering is that of `golang.org/x/mod/sumdb/tlog`: each record's leaf is followed by every
//! node that it completes. Called by proofs and by the tile reader.

use super::{Hash, node_hash};

/// Number of the hash at `level` (0 = leaves) and position `n` within that level.
pub fn stored_index(level: u32, n: u64) -> u64 {
    // The node is completed by its last leaf.
    let mut n = ((n + 1) << level) - 1;
    let mut index = u64::from(level);
    while n > 0 {
        index += n;
        n >>= 1;
    }
    index
}

/// Inverse of [`stored_index`].
pub fn split_stored_index(index: u64) -> (u32, u64) {
    // Leaf n is stored at less than 2n, so the search starts below and takes a few steps only.
    let mut n = index / 2;
    let mut leaf = stored_index(0, n);
    loop {
        let next = leaf + 1 + u64::from((n + 1).trailing_zeros());
        if next > index {
            break;
        }
        n += 1;
        leaf = next;
    }
    let level = u32::try_from(index - leaf).expect("a leaf completes at most 64 nodes");
    (level, n >> level)
}

/// Number of stored hashes of a tree with `size` records.
pub fn stored_count(size: u64) -> u64 {
    let Some(last) = size.checked_sub(1) else {
        return 0;
    };
    stored_index(0, last) + 1 + u64::from(last.trailing_ones())
}

/// Largest power of two that is less than `n`, for `n` > 1.
pub(super) fn split_point(n: u64) -> u64 {
    debug_assert!(n > 1);
    1 << (63 - (n - 1).leading_zeros())
}

/// Perfect subtrees that cover `lo..hi` from left to right, as (level, position).
/// `lo` must be a multiple of the largest of them, which holds for all callers: they split trees at
/// the largest power of two below their size.
pub fn subtrees(mut lo: u64, hi: u64) -> Vec<(u32, u64)> {
    let mut out = Vec::new();
    while lo < hi {
        let level = 63 - (hi - lo).leading_zeros();
        debug_assert_eq!(lo & ((1 << level) - 1), 0);
        out.push((level, lo >> level));
        lo += 1 << level;
    }
    out
}

/// Stored indexes of the [`subtrees`] of `lo..hi`.
pub(super) fn subtree_indexes(lo: u64, hi: u64) -> Vec<u64> {
    subtrees(lo, hi)
        .into_iter()
        .map(|(level, n)| stored_index(level, n))
        .collect()
}

/// Root over perfect subtrees from left to right; nothing for no subtree.
pub fn fold_subtrees(hashes: &[Hash]) -> Option<Hash> {
    let (last, rest) = hashes.split_last()?;
    Some(
        rest.iter()
            .rev()
            .fold(*last, |right, left| node_hash(left, &right)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_order_of_completion() {
        let mut expected = 0;
        for leaf in 0..2_000_u64 {
            for level in 0..=(leaf + 1).trailing_zeros() {
                let n = leaf >> level;
                assert_eq!(stored_index(level, n), expected, "level {level}, {n}");
                assert_eq!(split_stored_index(expected), (level, n));
                expected += 1;
            }
            assert_eq!(stored_count(leaf + 1), expected);
        }
        assert_eq!(stored_count(0), 0);
    }

    #[test]
    fn largest_tree_does_not_overflow() {
        let last = super::super::SIZE_MAX - 1;
        assert_eq!(split_stored_index(stored_index(0, last)), (0, last));
        assert_eq!(split_stored_index(stored_index(48, 0)), (48, 0));
    }

    #[test]
    fn subtrees_cover_the_range() {
        assert_eq!(subtrees(0, 0), []);
        assert_eq!(subtrees(0, 7), [(2, 0), (1, 2), (0, 6)]);
        assert_eq!(subtrees(4, 7), [(1, 2), (0, 6)]);
        assert_eq!(
            (
                split_point(2),
                split_point(7),
                split_point(8),
                split_point(9)
            ),
            (1, 4, 4, 8)
        );
    }
}
