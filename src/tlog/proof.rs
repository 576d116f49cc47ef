//! Inclusion and consistency proofs (RFC 6962, sections 2.1.1 and 2.1.2): made and checked.
//!
//! Making one is in two steps, so that hashes may come from memory, disk or network: which hashes
//! are needed ([`inclusion_indexes`], [`consistency_indexes`]), then the proof from these hashes.
//! A proof is at most 64 hashes long whatever a peer sends: longer ones fail before any work.

use super::{
    Hash, SIZE_MAX, Tree,
    index::{fold_subtrees, split_point, subtree_indexes},
    node_hash,
};

/// Most hashes of a proof: one for each level of the largest tree, and one for its start.
pub const PROOF_HASHES_MAX: usize = 64;

/// Why a proof cannot be made or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The question makes no sense: the record or the old tree is not within the tree.
    #[error("record or older tree is not within the tree")]
    Range,
    /// The given hashes are too few or too many.
    #[error("wrong number of hashes for a proof")]
    Count,
    /// The proof proves something else.
    #[error("transparency proof does not hold")]
    Wrong,
}

/// Stored indexes that an inclusion proof of record `n` in a tree of `size` is made of.
pub fn inclusion_indexes(size: u64, n: u64) -> Result<Vec<u64>, ProofError> {
    Ok(inclusion_ranges(size, n)?
        .iter()
        .flat_map(|&(lo, hi)| subtree_indexes(lo, hi))
        .collect())
}

/// The proof from the hashes at [`inclusion_indexes`], lowest level first.
pub fn inclusion(size: u64, n: u64, hashes: &[Hash]) -> Result<Vec<Hash>, ProofError> {
    fold_ranges(&inclusion_ranges(size, n)?, hashes)
}

/// Whether record `n` of `tree` has the leaf hash `leaf`.
pub fn check_inclusion(proof: &[Hash], tree: &Tree, n: u64, leaf: &Hash) -> Result<(), ProofError> {
    let sides = path(tree.size, n)?;
    if proof.len() != sides.len() {
        return Err(ProofError::Wrong);
    }
    // The path goes from the root down, the proof from the leaf up.
    let root = sides
        .iter()
        .rev()
        .zip(proof)
        .fold(*leaf, |hash, (step, other)| match step.right {
            true => node_hash(other, &hash),
            false => node_hash(&hash, other),
        });
    if root == tree.root {
        Ok(())
    } else {
        Err(ProofError::Wrong)
    }
}

/// Stored indexes that a proof of consistency between the trees of `old` and of `size` records is
/// made of.
pub fn consistency_indexes(size: u64, old: u64) -> Result<Vec<u64>, ProofError> {
    let (_, ranges) = consistency_ranges(size, old)?;
    Ok(ranges
        .iter()
        .flat_map(|&(lo, hi)| subtree_indexes(lo, hi))
        .collect())
}

/// The proof from the hashes at [`consistency_indexes`], lowest level first.
pub fn consistency(size: u64, old: u64, hashes: &[Hash]) -> Result<Vec<Hash>, ProofError> {
    fold_ranges(&consistency_ranges(size, old)?.1, hashes)
}

/// Whether `old` is a prefix of `tree`.
pub fn check_consistency(proof: &[Hash], tree: &Tree, old: &Tree) -> Result<(), ProofError> {
    let (sides, ranges) = consistency_ranges(tree.size, old.size)?;
    if proof.len() != ranges.len() {
        return Err(ProofError::Wrong);
    }
    // When the old tree is a perfect subtree of the new one its own root starts both sums;
    // otherwise the proof's first hash does.
    let (start, rest) = match ranges.len() == sides.len() {
        true => (old.root, proof),
        false => (proof[0], &proof[1..]),
    };
    let (mut old_root, mut new_root) = (start, start);
    for (step, other) in sides.iter().rev().zip(rest) {
        if step.right {
            old_root = node_hash(other, &old_root);
            new_root = node_hash(other, &new_root);
        } else {
            new_root = node_hash(&new_root, other);
        }
    }
    let holds = old_root == old.root && new_root == tree.root;
    if holds {
        Ok(())
    } else {
        Err(ProofError::Wrong)
    }
}

/// A range of leaves, without its end.
type Leaves = (u64, u64);

/// One step from the root down: which side was taken, and the leaves of the other side.
struct Step {
    right: bool,
    other: Leaves,
}

/// The way from the root of `0..size` to leaf `n`.
fn path(size: u64, n: u64) -> Result<Vec<Step>, ProofError> {
    if n >= size || size > SIZE_MAX {
        return Err(ProofError::Range);
    }
    let (mut lo, mut hi) = (0, size);
    let mut steps = Vec::new();
    while lo + 1 < hi {
        let middle = lo + split_point(hi - lo);
        let right = n >= middle;
        let other = if right { (lo, middle) } else { (middle, hi) };
        (lo, hi) = if right { (middle, hi) } else { (lo, middle) };
        steps.push(Step { right, other });
    }
    Ok(steps)
}

fn inclusion_ranges(size: u64, n: u64) -> Result<Vec<Leaves>, ProofError> {
    Ok(path(size, n)?.iter().rev().map(|step| step.other).collect())
}

/// The way from the root of the new tree to the node that ends where the old tree ends, and the
/// ranges of the proof's hashes, lowest level first.
fn consistency_ranges(size: u64, old: u64) -> Result<(Vec<Step>, Vec<Leaves>), ProofError> {
    if old == 0 || old > size || size > SIZE_MAX {
        return Err(ProofError::Range);
    }
    let (mut lo, mut hi) = (0, size);
    let mut steps = Vec::new();
    while old != hi {
        let middle = lo + split_point(hi - lo);
        let right = old > middle;
        let other = if right { (lo, middle) } else { (middle, hi) };
        (lo, hi) = if right { (middle, hi) } else { (lo, middle) };
        steps.push(Step { right, other });
    }
    // The verifier knows the old root, so it is not sent when the node starts at 0.
    let common = (lo != 0).then_some((lo, hi));
    let ranges = common
        .into_iter()
        .chain(steps.iter().rev().map(|step| step.other))
        .collect();
    Ok((steps, ranges))
}

/// One hash per range, from the hashes of the range's subtrees.
fn fold_ranges(ranges: &[Leaves], mut hashes: &[Hash]) -> Result<Vec<Hash>, ProofError> {
    let mut proof = Vec::with_capacity(ranges.len());
    for &(lo, hi) in ranges {
        let count = super::index::subtrees(lo, hi).len();
        let (these, rest) = hashes.split_at_checked(count).ok_or(ProofError::Count)?;
        proof.push(fold_subtrees(these).ok_or(ProofError::Count)?);
        hashes = rest;
    }
    if hashes.is_empty() {
        Ok(proof)
    } else {
        Err(ProofError::Count)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing, *};
    use proptest::prelude::*;

    fn included(tree: &testing::NaiveTree, size: u64, n: u64) -> Vec<Hash> {
        inclusion(size, n, &tree.stored(&inclusion_indexes(size, n).unwrap())).unwrap()
    }

    fn consistent(tree: &testing::NaiveTree, size: u64, old: u64) -> Vec<Hash> {
        consistency(
            size,
            old,
            &tree.stored(&consistency_indexes(size, old).unwrap()),
        )
        .unwrap()
    }

    #[test]
    fn proofs_equal_the_vectors() {
        let naive = testing::NaiveTree::of_vectors();
        for vector in testing::vectors()["trees"].as_array().unwrap() {
            let size = vector["n"].as_u64().unwrap();
            let n = vector["proof_index"].as_u64().unwrap();
            let proof: String = included(&naive, size, n)
                .iter()
                .map(|hash| format!("{hash}\n"))
                .collect();
            let file = vector["tlog_proof"].as_str().unwrap();
            let head = format!("c2sp.org/tlog-proof@v1\nindex {n}\n{proof}\n");
            assert!(file.starts_with(&head), "size {size}");
            if let Some(expected) = vector["consistency_from_3"].as_array() {
                let proof: Vec<_> = consistent(&naive, size, 3)
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                assert_eq!(&proof, expected, "size {size}");
            }
        }
    }

    #[test]
    fn every_inclusion_and_consistency_of_small_trees_holds_and_nothing_else_does() {
        let naive = testing::NaiveTree::of_vectors();
        for size in 1..=70 {
            let tree = naive.tree(size);
            for n in 0..size {
                let proof = included(&naive, size, n);
                let leaf = naive.leaf(n);
                check_inclusion(&proof, &tree, n, &leaf).unwrap();
                assert!(check_inclusion(&proof, &tree, n, &naive.leaf(n + 1)).is_err());
                let old = naive.tree(n + 1);
                let proof = consistent(&naive, size, n + 1);
                check_consistency(&proof, &tree, &old).unwrap();
                let other = Tree {
                    root: naive.leaf(699),
                    ..old
                };
                assert!(check_consistency(&proof, &tree, &other).is_err());
            }
        }
    }

    #[test]
    fn questions_outside_the_tree_are_refused() {
        let tree = Tree {
            size: 5,
            root: super::super::empty_root(),
        };
        assert_eq!(
            check_inclusion(&[], &tree, 5, &tree.root),
            Err(ProofError::Range)
        );
        assert_eq!(inclusion_indexes(0, 0), Err(ProofError::Range));
        assert_eq!(inclusion_indexes(u64::MAX, 7), Err(ProofError::Range));
        assert_eq!(consistency_indexes(5, 0), Err(ProofError::Range));
        assert_eq!(consistency_indexes(5, 6), Err(ProofError::Range));
        assert_eq!(inclusion(5, 1, &[]), Err(ProofError::Count));
    }

    proptest! {
        #[test]
        fn proofs_hold_for_all_sizes_and_break_with_every_changed_hash(
            size in 1_u64..=600, pick in 0_u64..600, flip in 0_usize..64,
        ) {
            let naive = testing::NaiveTree::of_vectors();
            let (tree, n) = (naive.tree(size), pick % size);
            let mut proof = included(&naive, size, n);
            prop_assert_eq!(check_inclusion(&proof, &tree, n, &naive.leaf(n)), Ok(()));
            if !proof.is_empty() {
                let at = flip % proof.len();
                proof[at].0[flip % 32] ^= 1;
                prop_assert!(check_inclusion(&proof, &tree, n, &naive.leaf(n)).is_err());
                proof.pop();
                prop_assert!(check_inclusion(&proof, &tree, n, &naive.leaf(n)).is_err());
            }
            let old = naive.tree(n + 1);
            let mut proof = consistent(&naive, size, n + 1);
            prop_assert_eq!(check_consistency(&proof, &tree, &old), Ok(()));
            if !proof.is_empty() {
                let at = flip % proof.len();
                proof[at].0[flip % 32] ^= 1;
                prop_assert!(check_consistency(&proof, &tree, &old).is_err());
                proof.push(tree.root);
                prop_assert!(check_consistency(&proof, &tree, &old).is_err());
            }
        }
    }
}
