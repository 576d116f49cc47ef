//! What a signer remembers: the last head that may have been signed, and whether the log has ended.
//!
//! Read and written by [`super::LocalSigner`] alone, in one sector of its file `last`:
//! `go.sum database tree`, size and root as a head has them, and for a log that has ended one more
//! line, `ended/1 <verifier key of the log that follows>`. It must never lose either, and a log
//! that has ended must never be anything else again.

use super::signer::SignError;
use crate::{
    store::durable::{SECTOR_BYTES, Sector},
    tlog::{
        Tree, VerifierKey, empty_root,
        note::NAME_BYTES_MAX,
        text::{parse_tree, tree_text},
    },
};

/// Begins the line of a log that has ended.
const ENDED: &str = "ended/1 ";
// Three lines of a head (a size has 20 digits, a root 44 letters), and a key after `ended/1`: its
// name, eight digits, 44 letters; and a newline.
const _: () = assert!(21 + 21 + 45 + 8 + NAME_BYTES_MAX + 10 + 44 < SECTOR_BYTES);

/// The last head that may have been signed.
#[derive(Debug)]
pub(super) struct Memory {
    file: Sector,
    tree: Tree,
    /// The log that follows, when this one has ended.
    next: Option<VerifierKey>,
    /// False after a write that may or may not have reached the disk: nothing is signed before one
    /// has, not even the same head once more.
    durable: bool,
}

impl Memory {
    /// The text of a signer that has signed nothing yet.
    pub(super) fn fresh() -> String {
        tree_text(&Tree {
            size: 0,
            root: empty_root(),
        })
    }

    pub(super) fn recall(file: Sector) -> Result<Self, SignError> {
        let lost = || SignError::StateLost {
            what: "last".to_owned(),
        };
        let text = file.read().map_err(SignError::io)?.ok_or_else(lost)?;
        let (tree, next) = parse(&text).ok_or_else(lost)?;
        Ok(Self {
            file,
            tree,
            next,
            durable: false, // written by a process that was killed, perhaps, before its sync
        })
    }

    pub(super) fn tree(&self) -> Tree {
        self.tree
    }

    /// The log that follows; nothing for one that goes on.
    pub(super) fn next(&self) -> Option<&VerifierKey> {
        self.next.as_ref()
    }

    /// Refuses everything for a log that has ended.
    pub(super) fn goes_on(&self) -> Result<(), SignError> {
        match &self.next {
            None => Ok(()),
            Some(next) => Err(SignError::Ended {
                size: self.tree.size,
                next: next.to_string(),
            }),
        }
    }

    /// Remembers a head that contains the last one.
    pub(super) fn keep(&mut self, tree: Tree) -> Result<(), SignError> {
        if tree == self.tree && self.durable {
            return Ok(());
        }
        // Also when the write fails: then either of both may be what the disk has.
        (self.tree, self.durable) = (tree, false);
        self.write()
    }

    /// Remembers that the log ends with the last head. A crash leaves a log that goes on, or one
    /// that has ended: one sector is written as a whole.
    pub(super) fn end(&mut self, next: &VerifierKey) -> Result<(), SignError> {
        // Also when the write fails: from here on nothing is signed by this process.
        self.next = Some(next.clone());
        self.write()
    }

    fn write(&mut self) -> Result<(), SignError> {
        let text = text(&self.tree, self.next.as_ref());
        self.file.write(&text).map_err(SignError::io)?;
        self.durable = true;
        Ok(())
    }
}

fn text(tree: &Tree, next: Option<&VerifierKey>) -> String {
    let ended = next.map_or_else(String::new, |next| format!("{ENDED}{next}\n"));
    format!("{}{ended}", tree_text(tree))
}

/// Parses a text that prints back to itself: the last head, and the log that follows.
pub(super) fn parse(written: &str) -> Option<(Tree, Option<VerifierKey>)> {
    let tree = parse_tree(written).ok()?;
    let rest = written.strip_prefix(&tree_text(&tree))?;
    let next = match rest {
        "" => None,
        line => {
            let key = line.strip_prefix(ENDED)?.strip_suffix('\n')?;
            Some(VerifierKey::parse(key).ok()?)
        }
    };
    let sane = (tree.size == 0) == (tree.root == empty_root()) && (tree.size > 0 || next.is_none());
    (sane && text(&tree, next.as_ref()) == written).then_some((tree, next))
}
