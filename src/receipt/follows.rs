//! What a log says of the one that it follows, in its leaf 0, and the last words of that one.
//!
//! ```text
//! follows/1 log <verifier key of the log that has ended>
//! follows/1 head <size> <root>
//! follows/1 end <base64>
//! ```
//!
//! Size and root, written as in a checkpoint, are those of the last head that the old key has
//! signed. The base64 is that of the signature line of its last checkpoint: the hash of the key in
//! four bytes, and the signature. The text that was signed follows from the rest, and is a
//! checkpoint with one extension line (C2SP tlog-checkpoint):
//!
//! ```text
//! <name of the old key>
//! <size>
//! <root>
//! ended/1 <verifier key of the log that follows>
//! ```
//!
//! So both keys say it: the old one that it has ended and who follows, the new one what it follows.
//! Neither makes anybody trust the new key: whoever has stolen the old one can name any.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::tlog::{
    Hash, Note, SIZE_MAX, Tree, VerifierKey,
    text::{checkpoint_text, parse_checkpoint, parse_decimal},
};

/// The log of a key has ended, as the key itself has signed; another one is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log `{old}` has ended at {size} records and said that `{next}` follows it. That makes \
     nobody trust the new key: get it from where you trust it, and name it with --verifierkey"
)]
pub struct Ended {
    /// Name of the key.
    pub old: String,
    /// Records of its last head.
    pub size: u64,
    /// The key that follows, as it says.
    pub next: String,
}

const LOG: &str = "follows/1 log ";
const HEAD: &str = "follows/1 head ";
const END: &str = "follows/1 end ";
/// Begins the extension line of the last checkpoint.
const ENDED: &str = "ended/1 ";
/// Bytes of a signature with the hash of its key.
const SIGNATURE_BYTES: usize = 4 + 64;

/// The log that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follows {
    /// Its key.
    pub log: VerifierKey,
    /// Its last head.
    pub tree: Tree,
    /// Of its last checkpoint: hash of the key, and signature. Nobody has verified it yet.
    signature: [u8; SIGNATURE_BYTES],
}

impl Follows {
    /// The text of the last checkpoint of a log that `next` follows; ends in a newline.
    #[must_use]
    pub fn last_words(log: &VerifierKey, tree: &Tree, next: &VerifierKey) -> String {
        format!("{}{ENDED}{next}\n", checkpoint_text(log.name(), tree))
    }

    /// The last head of `log` and the key that follows, from a checkpoint that says so and is
    /// signed by `log`; nothing from any other text.
    #[must_use]
    pub fn hear(log: &VerifierKey, checkpoint: &[u8]) -> Option<(Tree, VerifierKey)> {
        let note = Note::parse(checkpoint).ok()?;
        let text = note.verify(log).ok()?;
        let (_, tree) = parse_checkpoint(text).ok()?;
        let (_, line) = text.split_once(&format!("\n{ENDED}"))?;
        let next = VerifierKey::parse(line.strip_suffix('\n')?).ok()?;
        (Self::last_words(log, &tree, &next) == text).then_some((tree, next))
    }

    /// What `next` says of the log whose last checkpoint this is; nothing when it says another.
    #[must_use]
    pub fn new(log: &VerifierKey, checkpoint: &str, next: &VerifierKey) -> Option<Self> {
        let (tree, said) = Self::hear(log, checkpoint.as_bytes())?;
        let only = Note::parse(checkpoint.as_bytes()).ok()?.only(log).ok()?;
        let base64 = only.trim_end().rsplit(' ').next()?;
        let signature = STANDARD.decode(base64).ok()?.try_into().ok()?;
        let log = log.clone();
        (said == *next).then_some(Self {
            log,
            tree,
            signature,
        })
    }

    /// The last checkpoint, as the old key has signed it; `next` is the key of the log that says
    /// so. Verified by [`Follows::is_signed`].
    #[must_use]
    pub fn checkpoint(&self, next: &VerifierKey) -> String {
        let text = Self::last_words(&self.log, &self.tree, next);
        let (name, base64) = (self.log.name(), STANDARD.encode(self.signature));
        format!("{text}\n\u{2014} {name} {base64}\n")
    }

    /// Whether the old key has signed that `next` follows it.
    #[must_use]
    pub fn is_signed(&self, next: &VerifierKey) -> bool {
        let heard = Self::hear(&self.log, self.checkpoint(next).as_bytes());
        heard.is_some_and(|(tree, said)| tree == self.tree && said == *next)
    }

    /// Its three lines.
    pub(super) fn text(&self) -> String {
        let Self {
            log,
            tree,
            signature,
        } = self;
        let (size, root, end) = (tree.size, tree.root, STANDARD.encode(signature));
        format!("{LOG}{log}\n{HEAD}{size} {root}\n{END}{end}\n")
    }

    /// Parses three lines; the caller compares with what they print.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (log, rest) = text.strip_prefix(LOG)?.split_once('\n')?;
        let (head, rest) = rest.strip_prefix(HEAD)?.split_once('\n')?;
        let (size, root) = head.split_once(' ')?;
        let end = rest.strip_prefix(END)?.strip_suffix('\n')?;
        let size = parse_decimal(size).filter(|size| (1..=SIZE_MAX).contains(size))?;
        let root = Hash::parse(root)?;
        Some(Self {
            log: VerifierKey::parse(log).ok()?,
            tree: Tree { size, root },
            signature: STANDARD.decode(end).ok()?.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        receipt::KeysLeaf,
        tlog::{SigningKey, leaf_hash, text::is_record},
    };

    const TREE: Tree = Tree {
        size: 17,
        root: Hash([7; 32]),
    };

    fn key(name: &str, seed: u8) -> SigningKey {
        SigningKey::from_seed(name, &[seed; 32]).unwrap()
    }

    fn ended() -> (SigningKey, SigningKey, String) {
        let (old, new) = (key("old.example", 1), key("new.example", 2));
        let text = Follows::last_words(old.verifier(), &TREE, new.verifier());
        let checkpoint = old.sign(&text).unwrap();
        (old, new, checkpoint)
    }

    #[test]
    fn both_keys_say_it_and_it_prints_back() {
        let (old, new, checkpoint) = ended();
        let follows = Follows::new(old.verifier(), &checkpoint, new.verifier()).unwrap();
        assert_eq!(follows.checkpoint(new.verifier()), checkpoint);
        assert!(follows.is_signed(new.verifier()));
        let leaf = KeysLeaf {
            log: new.verifier().clone(),
            statement: [9; 32],
            follows: Some(follows),
        };
        let text = leaf.text();
        assert!(is_record(&text), "{text}");
        assert!(text.contains("\nfollows/1 log old.example+"), "{text}");
        assert_eq!(KeysLeaf::parse(&text).unwrap(), leaf);
        let told = KeysLeaf::end_of(old.verifier(), &text);
        let ended = told.expect("the old key has signed it");
        assert_eq!(
            (ended.size, ended.next),
            (TREE.size, new.verifier().to_string())
        );
        assert!(KeysLeaf::end_of(new.verifier(), &text).is_none());
        for (from, to) in [
            ("head 17", "head 017"),
            ("head 17", "head 0"),
            ("follows/1 end ", "follows/1 end A"),
            ("follows/1 head", "follows/2 head"),
            ("follows/1 log old", "follows/1 log 0ld"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert!(KeysLeaf::parse(&bad).is_err(), "{bad}");
        }
        for end in text.match_indices('\n').map(|(at, _)| at).skip(2) {
            assert_eq!(
                KeysLeaf::parse(&text[..=end]).is_ok(),
                end + 1 == text.len()
            );
        }
    }

    #[test]
    fn another_key_head_or_successor_is_heard_by_nobody() {
        let (old, new, checkpoint) = ended();
        let (old, new) = (old.verifier(), new.verifier());
        let third = key("third.example", 3);
        assert_eq!(
            Follows::hear(old, checkpoint.as_bytes()),
            Some((TREE, new.clone()))
        );
        assert!(Follows::new(old, &checkpoint, third.verifier()).is_none());
        assert!(Follows::hear(new, checkpoint.as_bytes()).is_none());
        let forged = third.sign(&Follows::last_words(old, &TREE, third.verifier()));
        assert!(Follows::hear(old, forged.unwrap().as_bytes()).is_none());
        let follows = Follows::new(old, &checkpoint, new).unwrap();
        assert!(!follows.is_signed(third.verifier()));
        let root = leaf_hash(b"x");
        let tree = Tree { root, ..TREE };
        assert!(!Follows { tree, ..follows }.is_signed(new));
    }

    #[test]
    fn a_checkpoint_that_goes_on_says_nothing() {
        let (old, new, _) = ended();
        let goes_on = old.sign(&checkpoint_text("old.example", &TREE)).unwrap();
        assert!(Follows::hear(old.verifier(), goes_on.as_bytes()).is_none());
        let words = Follows::last_words(old.verifier(), &TREE, new.verifier());
        let more = old.sign(&format!("{words}more\n")).unwrap();
        assert!(Follows::hear(old.verifier(), more.as_bytes()).is_none());
    }
}
