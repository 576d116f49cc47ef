//! The hash `h1:` of `golang.org/x/mod/sumdb/dirhash`: SHA-256 over a sorted list of file hashes.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

/// An `h1:` hash. Its text form is canonical: it parses only what it prints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct H1([u8; 32]);

/// The text is no `h1:` hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no h1: hash")]
pub struct NotH1;

impl H1 {
    /// Parses `h1:` with 44 characters of base64.
    ///
    /// # Errors
    /// [`NotH1`] for anything else, base64 that is not canonical included.
    pub fn parse(text: &str) -> Result<Self, NotH1> {
        let encoded = text
            .strip_prefix("h1:")
            .filter(|rest| rest.len() == 44)
            .ok_or(NotH1)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NotH1)?;
        bytes.try_into().map(Self).map_err(|_| NotH1)
    }

    /// The 32 bytes in hex; a file name.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "h1:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for H1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// Makes an [`H1`] from files that come in the order of their names.
#[derive(Default)]
pub struct DirectoryHash {
    all: Sha256,
    file: Option<(String, Sha256)>,
}

impl DirectoryHash {
    /// Begins the next file. Names must come sorted by their bytes.
    pub fn start(&mut self, name: &str) {
        self.close();
        self.file = Some((name.to_owned(), Sha256::new()));
    }

    /// Some more bytes of the file.
    pub fn content(&mut self, chunk: &[u8]) {
        if let Some((_, hash)) = &mut self.file {
            hash.update(chunk);
        }
    }

    /// The hash of all.
    #[must_use]
    pub fn finish(mut self) -> H1 {
        self.close();
        H1(self.all.finalize().into())
    }

    fn close(&mut self) {
        if let Some((name, hash)) = self.file.take() {
            self.all.update(hex(&hash.finalize()));
            self.all.update("  ");
            self.all.update(name);
            self.all.update("\n");
        }
    }
}

/// The hash of a go.mod file in the checksum database (`modfetch.goModSum`).
#[must_use]
pub fn h1_of_go_mod(content: &[u8]) -> H1 {
    let mut hash = DirectoryHash::default();
    hash.start("go.mod");
    hash.content(content);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_mod_has_the_hash_that_go_gives_it() {
        // From the checksum database: rsc.io/quote v1.5.2/go.mod
        let content = b"module \"rsc.io/quote\"\n\nrequire \"rsc.io/sampler\" v1.3.0\n";
        let h1 = h1_of_go_mod(content);
        assert_eq!(
            h1.to_string(),
            "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0="
        );
        assert_eq!(H1::parse(&h1.to_string()), Ok(h1));
    }

    #[test]
    fn only_what_prints_back_to_itself_is_a_hash() {
        let good = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0=";
        let padding = "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr1="; // trailing bits set
        assert!(H1::parse(good).is_ok());
        for text in [
            "",
            "h1:",
            padding,
            &good[3..],
            &format!("{good}="),
            &good.replace('=', ""),
        ] {
            assert_eq!(H1::parse(text), Err(NotH1), "{text:?}");
        }
    }
}
