//! What can be wrong with a receipt, or with the file beside it: one sentence each.

use crate::{
    provenance::EnvelopeError,
    spec::SpecError,
    tlog::{OfflineError, policy::CheckpointError},
};

/// Why a receipt proves nothing about a file. Always a proof, signature or hash is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is no offline proof.
    #[error("the receipt is damaged")]
    Form(#[source] OfflineError),
    /// It proves that a leaf is in a log, and not what the leaf says.
    #[error("the receipt has no extra data, so it says nothing about a build; fetch it again")]
    NoExtra,
    /// The extra data is something else, or has another spelling than `get` writes.
    #[error("the receipt's extra data is malformed; fetch it again")]
    Extra,
    /// The checkpoint is not signed or cosigned as it must be.
    #[error("the receipt's checkpoint is not believed")]
    Checkpoint(#[source] CheckpointError),
    /// Leaf 0 is something else.
    #[error("leaf 0 in the receipt does not name the keys of a log")]
    KeysText,
    /// The path of leaf 0 does not lead to the root.
    #[error("leaf 0 in the receipt is not in the log")]
    KeysPath,
    /// Leaf 0 is that of another log.
    #[error("leaf 0 names another log key than the one that signed the checkpoint")]
    OtherLog,
    /// The record is none.
    #[error("the record in the receipt is malformed")]
    Record(#[source] SpecError),
    /// The path of the record does not lead to the root.
    #[error("the record in the receipt is not leaf {index} of the log")]
    RecordPath {
        /// Where the receipt says it is.
        index: u64,
    },
    /// The envelope is not signed, or is none.
    #[error("the receipt's envelope is not believed")]
    Envelope(#[source] EnvelopeError),
    /// The envelope is of another build.
    #[error("the signed statement is of another build than the record: `{key}`")]
    OtherBuild {
        /// The key in the statement, escaped.
        key: String,
    },
    /// The statement's binary is not that of the record.
    #[error("the signed statement's SHA-256 is not that of the record's sum")]
    OtherSum,
    /// The proof is of another leaf than the one after the record.
    #[error("the receipt proves leaf {index}; the companion of record {record_index} is the next")]
    Index {
        /// The leaf of the proof.
        index: u64,
        /// The leaf of the record.
        record_index: u64,
    },
    /// The path of the companion does not lead to the root.
    #[error("the log's leaf {index} is not the companion of this record and this envelope")]
    CompanionPath {
        /// The leaf of the proof.
        index: u64,
    },
    /// The file has another length.
    #[error("the file has {found} bytes, the record says {expected}")]
    Size {
        /// Of the file, or one more than `expected` when it is longer.
        found: u64,
        /// Of the record.
        expected: u64,
    },
    /// The file has another hash.
    #[error("the file is not the binary of the receipt: its SHA-256 is {found}, not {expected}")]
    Sha256 {
        /// Of the file, in hex.
        found: String,
        /// Of the companion, in hex.
        expected: String,
    },
}
