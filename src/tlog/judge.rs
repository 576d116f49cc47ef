//! What a witness decides about a head that is offered to it: C2SP `tlog-witness.md`, the part
//! without memory, key and clock.
//!
//! Called by the role `sign`, which cosigns and takes nobody's word, and before it by `serve`, so
//! that the role is not asked in vain. Follows v1.0.0 with the later corrections of its text: a
//! wrong signature of a known key is 403, another root for the same size is 422 (v1.0.0 had 409,
//! which says "ask again with this size").

use serde::{Deserialize, Serialize};

use super::{
    Hash, Note, Tree, VerifierKey, empty_root, proof, text::parse_checkpoint,
    witness::AddCheckpoint,
};

/// Longest text of a checkpoint that is cosigned, in bytes: three lines have less than 330, the
/// rest is for extension lines, which `tlog-checkpoint` advises against.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Why nothing is cosigned. Nothing was remembered either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "denied", rename_all = "snake_case")]
pub enum Denied {
    /// Not a request, or beyond a limit.
    #[error(
        "this is no request of tlog-witness: an old size, a proof, an empty line, a checkpoint"
    )]
    Malformed,
    /// The checkpoint is smaller than the size that the proof is to start from.
    #[error("the checkpoint has fewer records than the old size")]
    Smaller,
    /// Nobody asked this witness to know this log.
    #[error("this witness does not know the log: its operator has to add its verifier key")]
    UnknownLog,
    /// Not signed by the log, or wrongly.
    #[error("the checkpoint has no good signature of the key that this witness has for the log")]
    Unsigned,
    /// The proof starts elsewhere than at what was cosigned last.
    #[error("this witness has cosigned {size} records of the log; send a proof from there")]
    Stale {
        /// Records of the head that was cosigned last.
        size: u64,
    },
    /// The head does not contain what was cosigned last: a mistake, or a fork.
    #[error("the proof does not show that the checkpoint contains what this witness cosigned last")]
    Inconsistent,
}

/// A request whose checkpoint is signed by a log of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered<'a> {
    /// The log.
    pub log: &'a VerifierKey,
    /// What it has signed.
    pub tree: Tree,
    /// Text that it has signed, with its extension lines.
    pub text: String,
    /// The checkpoint with the signature of the log and no other.
    pub checkpoint: String,
    old: u64,
    proof: Vec<Hash>,
}

/// Reads a request and verifies the signature of its log, which must be one of `logs`.
///
/// # Errors
/// All but [`Denied::Stale`] and [`Denied::Inconsistent`], which need a memory.
pub fn open<'a>(body: &[u8], logs: &'a [VerifierKey]) -> Result<Offered<'a>, Denied> {
    let request = AddCheckpoint::parse(body).map_err(|_| Denied::Malformed)?;
    let note = Note::parse(request.checkpoint.as_bytes()).map_err(|_| Denied::Malformed)?;
    // Believed below, once the log that it names has signed it.
    let (origin, tree) = parse_checkpoint(note.text()).map_err(|_| Denied::Malformed)?;
    if note.text().len() > TEXT_BYTES_MAX {
        return Err(Denied::Malformed);
    }
    // A log is known by its origin, which is the name of its key.
    let log = logs.iter().find(|log| log.name() == origin);
    let log = log.ok_or(Denied::UnknownLog)?;
    let checkpoint = note.only(log).map_err(|_| Denied::Unsigned)?;
    if request.old > tree.size {
        return Err(Denied::Smaller);
    }
    Ok(Offered {
        log,
        tree,
        text: note.text().to_owned(),
        checkpoint,
        old: request.old,
        proof: request.proof,
    })
}

impl Offered<'_> {
    /// Whether this head may follow `last`, the one that was cosigned last; of size 0 before the
    /// first.
    ///
    /// # Errors
    /// [`Denied::Stale`] or [`Denied::Inconsistent`].
    pub fn follows(&self, last: &Tree) -> Result<(), Denied> {
        if self.old != last.size {
            return Err(Denied::Stale { size: last.size });
        }
        let empty = self.tree.size > 0 || self.tree.root == empty_root();
        let contains = match self.old {
            0 => self.proof.is_empty(), // every log contains the empty one
            _ => proof::check_consistency(&self.proof, &self.tree, last).is_ok(),
        };
        (empty && contains)
            .then_some(())
            .ok_or(Denied::Inconsistent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tlog::{SigningKey, leaf_hash, testing::NaiveTree, text::checkpoint_text};

    const NAME: &str = "log.example.org";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(NAME, &[seed; 32]).unwrap()
    }

    fn proof(naive: &NaiveTree, size: u64, old: u64) -> Vec<Hash> {
        let indexes = proof::consistency_indexes(size, old).unwrap();
        proof::consistency(size, old, &naive.stored(&indexes)).unwrap()
    }

    fn body(old: u64, proof: Vec<Hash>, checkpoint: &str) -> Vec<u8> {
        let checkpoint = checkpoint.to_owned();
        let request = AddCheckpoint {
            old,
            proof,
            checkpoint,
        };
        request.to_string().into_bytes()
    }

    fn signed(tree: &Tree) -> String {
        key(7).sign(&checkpoint_text(NAME, tree)).unwrap()
    }

    #[test]
    fn a_request_is_opened_with_the_signature_of_the_known_key_alone() {
        let naive = NaiveTree::of_vectors();
        let logs = [key(7).verifier().clone()];
        let tree = naive.tree(9);
        let stranger = key(8).sign(&checkpoint_text(NAME, &tree)).unwrap();
        let line = stranger.split_once("\n\n").unwrap().1;
        let both = signed(&tree) + line;
        let offered = open(&body(0, vec![], &both), &logs).unwrap();
        assert_eq!((offered.tree, offered.log), (tree, &logs[0]));
        assert_eq!(offered.checkpoint, signed(&tree));
        let extended = key(7).sign(&(checkpoint_text(NAME, &tree) + "more\n"));
        let extended = extended.unwrap();
        let offered = open(&body(0, vec![], &extended), &logs).unwrap();
        assert!(offered.text.ends_with("\nmore\n"), "{offered:?}");
        assert_eq!(offered.checkpoint, extended);
    }

    #[test]
    fn each_mistake_has_its_own_answer() {
        let naive = NaiveTree::of_vectors();
        let logs = [key(7).verifier().clone()];
        let tree = naive.tree(9);
        let good = signed(&tree);
        let foreign = key(8).sign(&checkpoint_text(NAME, &tree)).unwrap();
        let other = key(7).sign(&checkpoint_text("other.example", &tree));
        let long = format!("{}{}\n", checkpoint_text(NAME, &tree), "x".repeat(1000));
        let long = key(7).sign(&long).unwrap();
        let broken = good.replace("\n9\n", "\n8\n");
        let wrong = signed(&naive.tree(8))
            .split_once("\n\n")
            .unwrap()
            .1
            .to_owned();
        let no_tree = key(7).sign("log.example.org\n9\n").unwrap();
        for (text, denied) in [
            ("", Denied::Malformed),
            ("log.example.org\n9\n", Denied::Malformed),
            (&no_tree, Denied::Malformed),
            (&long, Denied::Malformed),
            (&other.unwrap(), Denied::UnknownLog),
            (&foreign, Denied::Unsigned),
            (&broken, Denied::Unsigned),
            // One good line does not excuse a wrong one of the same key.
            (&(good.clone() + &wrong), Denied::Unsigned),
        ] {
            assert_eq!(open(&body(0, vec![], text), &logs), Err(denied), "{text}");
        }
        assert_eq!(open(&body(10, vec![], &good), &logs), Err(Denied::Smaller));
        assert_eq!(open(&body(0, vec![], &good), &[]), Err(Denied::UnknownLog));
        assert_eq!(open(b"\xff", &logs), Err(Denied::Malformed));
        for denied in [Denied::Smaller, Denied::Stale { size: 7 }] {
            let text = serde_json::to_string(&denied).unwrap();
            assert_eq!(serde_json::from_str::<Denied>(&text).unwrap(), denied);
        }
    }

    #[test]
    fn a_head_follows_what_it_contains_and_nothing_else() {
        let naive = NaiveTree::of_vectors();
        let logs = [key(7).verifier().clone()];
        let fork = |size| Tree {
            size,
            root: leaf_hash(b"fork"),
        };
        let inconsistent = Err(Denied::Inconsistent);
        let stale = |size| Err(Denied::Stale { size });
        for (tree, old, proof, last, expected) in [
            (naive.tree(0), 0, vec![], naive.tree(0), Ok(())),
            (fork(0), 0, vec![], naive.tree(0), inconsistent),
            (naive.tree(9), 0, vec![], naive.tree(0), Ok(())),
            (
                naive.tree(9),
                0,
                proof(&naive, 9, 5),
                naive.tree(0),
                inconsistent,
            ),
            (naive.tree(9), 9, vec![], naive.tree(9), Ok(())),
            (fork(9), 9, vec![], naive.tree(9), inconsistent),
            (
                naive.tree(9),
                9,
                proof(&naive, 9, 5),
                naive.tree(9),
                inconsistent,
            ),
            (naive.tree(9), 5, proof(&naive, 9, 5), naive.tree(5), Ok(())),
            (naive.tree(9), 5, proof(&naive, 9, 5), fork(5), inconsistent),
            (fork(9), 5, proof(&naive, 9, 5), naive.tree(5), inconsistent),
            (naive.tree(9), 5, vec![], naive.tree(5), inconsistent),
            (
                naive.tree(9),
                5,
                proof(&naive, 9, 5),
                naive.tree(6),
                stale(6),
            ),
            (naive.tree(9), 0, vec![], naive.tree(12), stale(12)),
            (naive.tree(9), 9, vec![], naive.tree(12), stale(12)),
            (fork(9), 5, proof(&naive, 9, 5), naive.tree(0), stale(0)),
        ] {
            let request = body(old, proof, &signed(&tree));
            let offered = open(&request, &logs).unwrap();
            assert_eq!(offered.follows(&last), expected, "{tree:?} {old} {last:?}");
        }
    }

    proptest! {
        #[test]
        fn only_the_true_proof_from_the_last_size_is_followed(
            last in 0_u64..60, more in 0_u64..60, old in 0_u64..60, from in 1_u64..60,
        ) {
            let naive = NaiveTree::of_vectors();
            let logs = [key(7).verifier().clone()];
            let size = last + more;
            let (old, from) = (old.min(size), from.min(size));
            let given = match old == 0 || from == 0 {
                true => vec![],
                false => proof(&naive, size, from),
            };
            let request = body(old, given.clone(), &signed(&naive.tree(size)));
            let offered = open(&request, &logs).unwrap();
            let followed = offered.follows(&naive.tree(last));
            if old != last {
                prop_assert_eq!(followed, Err(Denied::Stale { size: last }));
            } else if old == 0 || given == proof(&naive, size, old) {
                prop_assert_eq!(followed, Ok(()));
            } else {
                prop_assert_eq!(followed, Err(Denied::Inconsistent));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), cut in 0_usize..400) {
            let logs = [key(7).verifier().clone()];
            let good = body(0, vec![], &signed(&NaiveTree::of_vectors().tree(9)));
            let _denied = open(&bytes, &logs);
            let mut mixed = good[..cut.min(good.len())].to_vec();
            mixed.extend(bytes);
            if mixed != good {
                prop_assert!(open(&mixed, &logs).is_err());
            }
        }
    }
}
