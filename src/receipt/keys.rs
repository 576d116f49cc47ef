//! Leaf 0 of a log: the keys of everything after it.

use super::ReceiptError;
use crate::{
    spec::{hex, unhex},
    tlog::VerifierKey,
};

/// Longest text, in bytes: two lines of a key each, whose name has at most 255.
const TEXT_BYTES_MAX: usize = 1024;

/// The leaf that a log begins with: lines `key/1 log <vkey>` and `key/1 dsse ed25519:<64 hex>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysLeaf {
    /// Signs the heads.
    pub log: VerifierKey,
    /// Signs the envelopes.
    pub statement: [u8; 32],
}

impl KeysLeaf {
    /// The text that is hashed into the log.
    #[must_use]
    pub fn text(&self) -> String {
        let statement = hex(&self.statement);
        format!("key/1 log {}\nkey/1 dsse ed25519:{statement}\n", self.log)
    }

    /// Parses a text that prints back to itself.
    ///
    /// # Errors
    /// It is no leaf of keys.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let parse = || {
            let rest = text.strip_prefix("key/1 log ")?;
            let (log, statement) = rest.split_once("\nkey/1 dsse ed25519:")?;
            Some(Self {
                log: VerifierKey::parse(log).ok()?,
                statement: unhex(statement.strip_suffix('\n')?)?,
            })
        };
        let parsed = (text.len() <= TEXT_BYTES_MAX).then(parse).flatten();
        parsed
            .filter(|keys| keys.text() == text)
            .ok_or(ReceiptError::KeysText)
    }
}
