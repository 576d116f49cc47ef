//! Leaf 0 of a log: the keys of everything after it.

use super::{Ended, Follows, ReceiptError};
use crate::{
    spec::{hex, unhex},
    tlog::VerifierKey,
};

/// Longest text, in bytes: two keys, whose names have at most 255 bytes, and four other lines.
const TEXT_BYTES_MAX: usize = 2048;

/// The leaf that a log begins with: lines `key/1 log <vkey>` and `key/1 dsse ed25519:<64 hex>`;
/// after them those of [`Follows`], when it follows another log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysLeaf {
    /// Signs the heads.
    pub log: VerifierKey,
    /// Signs the envelopes.
    pub statement: [u8; 32],
    /// The log that it follows.
    pub follows: Option<Follows>,
}

impl KeysLeaf {
    /// The text that is hashed into the log.
    #[must_use]
    pub fn text(&self) -> String {
        let statement = hex(&self.statement);
        let follows = self
            .follows
            .as_ref()
            .map_or_else(String::new, Follows::text);
        let log = &self.log;
        format!("key/1 log {log}\nkey/1 dsse ed25519:{statement}\n{follows}")
    }

    /// What whoever knows the key `old` can learn from leaf 0 of another log, which nobody has to
    /// believe: that the log of `old` has ended with this head, and that `old` has signed that this
    /// other key follows. It makes nobody trust that key.
    #[must_use]
    pub fn end_of(old: &VerifierKey, leaf: &str) -> Option<Ended> {
        let keys = Self::parse(leaf).ok()?;
        let follows = keys.follows.filter(|follows| follows.log == *old)?;
        follows.is_signed(&keys.log).then(|| Ended {
            old: old.name().to_owned(),
            size: follows.tree.size,
            next: keys.log.to_string(),
        })
    }

    /// Parses a text that prints back to itself.
    ///
    /// # Errors
    /// It is no leaf of keys.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let parse = || {
            let rest = text.strip_prefix("key/1 log ")?;
            let (log, statement) = rest.split_once("\nkey/1 dsse ed25519:")?;
            let (statement, rest) = statement.split_once('\n')?;
            let follows = match rest {
                "" => None,
                lines => Some(Follows::parse(lines)?),
            };
            Some(Self {
                log: VerifierKey::parse(log).ok()?,
                statement: unhex(statement)?,
                follows,
            })
        };
        let parsed = (text.len() <= TEXT_BYTES_MAX).then(parse).flatten();
        parsed
            .filter(|keys| keys.text() == text)
            .ok_or(ReceiptError::KeysText)
    }
}
