//! What logs and witnesses say to each other: C2SP `tlog-witness.md` v1.0.0, as text.
//!
//! Printed and read by [`crate::witness`], a log's side of it; requests are parsed by
//! [`super::judge`], a witness's. Pure and bounded; what was parsed is still a claim: nothing in it
//! was verified.

use std::fmt;

use hotcell_sandbox::wire::MESSAGE_BYTES_MAX;
use sha2::{Digest as _, Sha256};

use super::{Hash, SIZE_MAX, note::SIGNATURES_MAX, text::parse_decimal};
use crate::spec::hex;

/// Most hashes of a proof; the specification's bound.
pub const PROOF_HASHES_MAX: usize = 63;
/// Longest request in bytes: its proof has less than 3 KiB, the rest is for a checkpoint with the
/// cosignatures of others. litewitness takes as many.
pub const REQUEST_BYTES_MAX: usize = 10 * 1024;
/// Longest answer of a witness in bytes: a line of Ed25519 has less than 500 with the longest name,
/// one of ML-DSA-44 some 5,000; or the checkpoint that it saw last.
pub const ANSWER_BYTES_MAX: usize = 10 * 1024;
// Both travel between roles, at worst with each byte written as `\u0000`.
const _: () = assert!(6 * REQUEST_BYTES_MAX + 1024 < MESSAGE_BYTES_MAX);
const _: () = assert!(6 * ANSWER_BYTES_MAX + 1024 < MESSAGE_BYTES_MAX);
/// Media type of an answer that tells the size which the witness has.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// Not a request to a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed request to a witness")]
pub struct BadRequest;

/// The body of `add-checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size that the witness is thought to have cosigned last.
    pub old: u64,
    /// Proof that the checkpoint contains the log of that size; empty when `old` is 0 or the size
    /// of the checkpoint.
    pub proof: Vec<Hash>,
    /// The checkpoint with the log's signature.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// Parses a body; what prints otherwise is refused.
    ///
    /// # Errors
    /// Too long, not UTF-8, too many hashes, or not in this form.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRequest> {
        let parse = || {
            let text = std::str::from_utf8(bytes).ok()?;
            let (head, checkpoint) = text.split_once("\n\n")?;
            let mut lines = head.split('\n');
            let old = parse_decimal(lines.next()?.strip_prefix("old ")?)?;
            let proof = lines.map(Hash::parse).take(PROOF_HASHES_MAX + 1);
            let proof: Vec<Hash> = proof.collect::<Option<_>>()?;
            let fits = proof.len() <= PROOF_HASHES_MAX && old <= SIZE_MAX;
            let checkpoint = checkpoint.to_owned();
            (fits && !checkpoint.is_empty()).then_some(Self {
                old,
                proof,
                checkpoint,
            })
        };
        let short = bytes.len() <= REQUEST_BYTES_MAX;
        short.then(parse).flatten().ok_or(BadRequest)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{hash}")?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

/// The size in an answer of [`SIZE_TYPE`].
pub fn parse_size(body: &str) -> Option<u64> {
    let size = parse_decimal(body.strip_suffix('\n')?)?;
    (size <= SIZE_MAX).then_some(size)
}

/// What stands for a log in addresses: SHA-256 of its origin, in hex.
pub fn log_id(origin: &str) -> String {
    hex(&Sha256::digest(origin))
}

/// Most witnesses of one log: their lines and the log's own fit in a note, and in a request.
pub const WITNESSES_MAX: usize = 16;
const _: () = assert!(WITNESSES_MAX < SIGNATURES_MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::empty_root;
    use proptest::prelude::*;

    fn request(old: u64, hashes: usize) -> AddCheckpoint {
        AddCheckpoint {
            old,
            proof: vec![empty_root(); hashes],
            checkpoint: "log\n1\nroot\n\n\u{2014} log x\n".to_owned(),
        }
    }

    #[test]
    fn requests_print_back_up_to_the_last_hash_that_may_be() {
        for hashes in [0, 1, PROOF_HASHES_MAX] {
            let request = request(7, hashes);
            assert_eq!(
                AddCheckpoint::parse(request.to_string().as_bytes()),
                Ok(request)
            );
        }
        let long = request(7, PROOF_HASHES_MAX + 1).to_string();
        assert_eq!(AddCheckpoint::parse(long.as_bytes()), Err(BadRequest));
        let mut large = request(7, 0);
        large.checkpoint = "x".repeat(REQUEST_BYTES_MAX);
        let large = large.to_string();
        assert_eq!(AddCheckpoint::parse(large.as_bytes()), Err(BadRequest));
    }

    #[test]
    fn malformed_requests_are_refused() {
        for bad in [
            "",
            "old 1",
            "old 1\n",
            "old 1\n\n",
            "old 01\n\nx\n",
            "old -1\n\nx\n",
            "old 281474976710657\n\nx\n",
            "old  1\n\nx\n",
            "Old 1\n\nx\n",
            "old 1\nAAAA\n\nx\n",
            "old 1\r\n\r\nx\n",
        ] {
            assert_eq!(
                AddCheckpoint::parse(bad.as_bytes()),
                Err(BadRequest),
                "{bad:?}"
            );
        }
        assert_eq!(AddCheckpoint::parse(b"old 1\n\n\xff"), Err(BadRequest));
    }

    #[test]
    fn sizes_are_one_canonical_line() {
        assert_eq!(parse_size("0\n"), Some(0));
        for bad in ["", "1", "01\n", "1\n\n", "-1\n", "281474976710657\n"] {
            assert_eq!(parse_size(bad), None, "{bad:?}");
        }
        assert_eq!(log_id("").len(), 64);
    }

    proptest! {
        #[test]
        fn what_parses_prints_back(bytes in "(old [0-9]{1,3}|[A-Za-z0-9+/]{43}=|\n|x){0,9}") {
            if let Ok(parsed) = AddCheckpoint::parse(bytes.as_bytes()) {
                prop_assert_eq!(parsed.to_string(), bytes);
            }
        }
    }
}
