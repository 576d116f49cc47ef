//! Proofs for people without a network: `c2sp.org/tlog-proof@v1`, as text.
//!
//! Format: C2SP `tlog-proof.md` at commit 5ba5ee8 (2026-07-22). The log's service prints them,
//! `get` keeps one as a receipt, `verify` reads it. Parsing is bounded and injective; nothing in a
//! parsed proof is to be believed before its path leads to the root of a checkpoint that was
//! verified.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Hash, SIZE_MAX, note::NOTE_BYTES_MAX, proof::PROOF_HASHES_MAX, text::parse_decimal};

/// First line of the text.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Largest extra data, in bytes before base64: an envelope of 16 MiB as JSON, and what proves it.
pub const EXTRA_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Longest text, in bytes: the extra data in base64 (four bytes for three), a path of 64 lines of
/// 45 bytes, the largest note, and the fixed lines.
pub const OFFLINE_BYTES_MAX: usize = EXTRA_BYTES_MAX / 3 * 4 + NOTE_BYTES_MAX + 4 * 1024;

/// Why a text is no offline proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OfflineError {
    /// It is longer than any proof.
    #[error("it has more than {OFFLINE_BYTES_MAX} bytes")]
    TooLong,
    /// It begins with something else.
    #[error("its first line is not `{HEADER}`; this is another kind of file")]
    Header,
    /// The line `extra` is no base64, or is longer than any.
    #[error("its extra data is damaged")]
    Extra,
    /// The line `index` is missing or no number.
    #[error("its index is missing or is no number")]
    Index,
    /// A line of the path is no hash, or there are too many, or its end is missing.
    #[error("its path of hashes is damaged or cut")]
    Path,
    /// What follows the path is no text.
    #[error("its checkpoint is missing or is no text")]
    Checkpoint,
}

/// A leaf's place, the path from it to a root, and the checkpoint that signs the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfflineProof {
    /// Data of the application's own, which nothing here authenticates.
    pub extra: Option<Vec<u8>>,
    /// Index of the leaf.
    pub index: u64,
    /// The path, lowest level first (RFC 6962, section 2.1.1).
    pub path: Vec<Hash>,
    /// The signed note, verbatim.
    pub checkpoint: String,
}

impl OfflineProof {
    /// Parses a text that prints back to itself; the checkpoint is not looked at.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, OfflineError> {
        if bytes.len() > OFFLINE_BYTES_MAX {
            return Err(OfflineError::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| OfflineError::Header)?;
        let (header, mut rest) = text.split_once('\n').ok_or(OfflineError::Header)?;
        if header != HEADER {
            return Err(OfflineError::Header);
        }
        let mut extra = None;
        if let Some(line) = rest.strip_prefix("extra ") {
            let (base64, after) = line.split_once('\n').ok_or(OfflineError::Extra)?;
            let bytes = STANDARD.decode(base64).map_err(|_| OfflineError::Extra)?;
            extra = Some(bytes).filter(|bytes| bytes.len() <= EXTRA_BYTES_MAX);
            if extra.is_none() {
                return Err(OfflineError::Extra);
            }
            rest = after;
        }
        let line = rest.strip_prefix("index ").ok_or(OfflineError::Index)?;
        let (index, mut rest) = line.split_once('\n').ok_or(OfflineError::Index)?;
        let index = parse_decimal(index)
            .filter(|&index| index < SIZE_MAX)
            .ok_or(OfflineError::Index)?;
        let mut path = Vec::new();
        let checkpoint = loop {
            let (line, after) = rest.split_once('\n').ok_or(OfflineError::Path)?;
            if line.is_empty() {
                break after;
            }
            let hash = Hash::parse(line).filter(|_| path.len() < PROOF_HASHES_MAX);
            path.push(hash.ok_or(OfflineError::Path)?);
            rest = after;
        };
        if checkpoint.is_empty() || checkpoint.len() > NOTE_BYTES_MAX {
            return Err(OfflineError::Checkpoint);
        }
        Ok(Self {
            extra,
            index,
            path,
            checkpoint: checkpoint.to_owned(),
        })
    }
}

impl fmt::Display for OfflineProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Note, VerifierKey, leaf_hash, proof, testing, text::parse_checkpoint};
    use proptest::prelude::*;

    #[test]
    fn proofs_equal_the_vectors_and_hold() {
        let vectors = testing::vectors();
        let key = VerifierKey::parse(vectors["vkey"].as_str().unwrap()).unwrap();
        for vector in vectors["trees"].as_array().unwrap() {
            let text = vector["tlog_proof"].as_str().unwrap();
            let parsed = OfflineProof::parse(text.as_bytes()).unwrap();
            assert_eq!(parsed.to_string(), text);
            assert_eq!(parsed.index, vector["proof_index"].as_u64().unwrap());
            assert_eq!(
                (&*parsed.checkpoint, &parsed.extra),
                (vector["checkpoint"].as_str().unwrap(), &None)
            );
            let note = Note::parse(parsed.checkpoint.as_bytes()).unwrap();
            let (_, tree) = parse_checkpoint(note.verify(&key).unwrap()).unwrap();
            let leaf = leaf_hash(testing::record(parsed.index).as_bytes());
            proof::check_inclusion(&parsed.path, &tree, parsed.index, &leaf).unwrap();
        }
    }

    fn text() -> String {
        let vectors = testing::vectors();
        let text = vectors["trees"][3]["tlog_proof"].as_str().unwrap();
        text.replacen("index", "extra aGk=\nindex", 1)
    }

    #[test]
    fn each_damaged_part_is_named() {
        let good = text();
        let parsed = OfflineProof::parse(good.as_bytes()).unwrap();
        assert_eq!(parsed.extra.as_deref(), Some(&b"hi"[..]));
        let hash = parsed.path[0].to_string();
        let many = format!("{hash}\n").repeat(PROOF_HASHES_MAX + 1 - parsed.path.len());
        for (bad, error) in [
            (String::new(), OfflineError::Header),
            (good.replace("@v1", "@v2"), OfflineError::Header),
            (good.replace("@v1\n", "@v1\r\n"), OfflineError::Header),
            (good.replace("aGk=", "aGk"), OfflineError::Extra),
            (good.replace("aGk=", "aGl="), OfflineError::Extra),
            (good.replace("extra ", "Extra "), OfflineError::Index),
            (good.replace("index ", "index 0"), OfflineError::Index),
            (good.replace("index ", "index +"), OfflineError::Index),
            (
                good.replace("index ", "index 9999999999999999999"),
                OfflineError::Index,
            ),
            (good.replace(&hash, &hash[1..]), OfflineError::Path),
            (
                good.replacen(&hash, &format!("{many}{hash}"), 1),
                OfflineError::Path,
            ),
            (
                good.split("\n\n").next().unwrap().to_owned(),
                OfflineError::Path,
            ),
            (
                good.split("\n\n").next().unwrap().to_owned() + "\n\n",
                OfflineError::Checkpoint,
            ),
            (
                good.clone() + &"x".repeat(NOTE_BYTES_MAX),
                OfflineError::Checkpoint,
            ),
        ] {
            assert_eq!(
                OfflineProof::parse(bad.as_bytes()),
                Err(error),
                "{bad:.200}"
            );
        }
        let huge = vec![b'x'; OFFLINE_BYTES_MAX + 1];
        assert_eq!(OfflineProof::parse(&huge), Err(OfflineError::TooLong));
        assert_eq!(OfflineProof::parse(b"\xff\n"), Err(OfflineError::Header));
    }

    proptest! {
        #[test]
        fn what_parses_prints_back(at in 0_usize..2000, byte: u8) {
            let mut bytes = text().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(parsed) = OfflineProof::parse(&bytes) {
                prop_assert_eq!(parsed.to_string().into_bytes(), bytes);
            }
        }
    }
}
