//! Why nothing was fetched, sorted by exit code.

use std::path::PathBuf;

use super::state::StateError;
use crate::{
    proxy::GetError as HttpError,
    receipt::{Ended, ReceiptError},
    spec::SpecError,
    store::durable::DurableError,
    tlog::{NoteError, ReadError},
};

/// Why nothing was fetched. No file has the binary's name.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// A part of the request is malformed.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No module can hold the package.
    #[error("no module path is a prefix of this package; write module@version/package")]
    NoModule,
    /// The key is none.
    #[error("the verifier key is malformed; copy it from the instance's own page")]
    Key(#[source] NoteError),
    /// The address is none.
    #[error("`{url}` is no address of a log; write https://NAME/tlog")]
    Url {
        /// As given.
        url: String,
    },
    /// The instance cannot build this, or does not know it.
    #[error("the instance has no such build")]
    Refused(#[source] HttpError),
    /// The instance does not hand it out any more; what the log says of it is still true.
    #[error("the instance has withdrawn this build")]
    Withdrawn(#[source] HttpError),
    /// The instance does not answer, or is busy.
    #[error("cannot reach the instance's {what}")]
    Unavailable {
        /// Which part.
        what: &'static str,
        /// Why.
        source: HttpError,
    },
    /// The answer is not that of a log.
    #[error("the instance's {what} is malformed")]
    Malformed {
        /// Which part.
        what: &'static str,
    },
    /// The head is not signed by the key.
    #[error("the instance's signed head is wrong")]
    Note(#[source] NoteError),
    /// The log of the key has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// Tiles and head contradict each other, or the record is not in the log.
    #[error("the log contradicts itself")]
    Proof(#[source] ReadError<std::convert::Infallible>),
    /// Two signed heads exclude each other.
    #[error(
        "the log shows two histories: both signed heads are in `{}`; show them to others, and do \
         not use this instance",
        evidence.display()
    )]
    Fork {
        /// The file with both notes.
        evidence: PathBuf,
    },
    /// The head is older than one that was seen, and its server does not know the newer one.
    #[error(
        "the instance shows a head of {shown} records and cannot show that it belongs to the one \
         of {seen} that this user has seen: it was rolled back, or is an old copy"
    )]
    OldHead {
        /// Records of the head that was shown.
        shown: u64,
        /// Records of the head that was seen before.
        seen: u64,
    },
    /// The record is that of something else.
    #[error("the log's record does not fit: {what}")]
    OtherRecord {
        /// What does not fit.
        what: String,
    },
    /// The companion is missing or is that of something else.
    #[error("the record has no companion that fits: {what}; a log of gobuild needs --gobuild")]
    NoCompanion {
        /// What does not fit.
        what: &'static str,
    },
    /// The receipt proves nothing, or something else.
    #[error("the instance's receipt is wrong")]
    Receipt(#[source] ReceiptError),
    /// The receipt is that of another build.
    #[error("the instance's receipt is of another build: `{key}`")]
    OtherReceipt {
        /// Of which.
        key: String,
    },
    /// The download is something else.
    #[error("the download is not the binary of the record: {what}")]
    OtherBinary {
        /// What does not fit.
        what: String,
    },
    /// What is known about the log is gone or damaged.
    #[error(transparent)]
    State(#[from] StateError),
    /// The binary or its receipt cannot be written.
    #[error("cannot write the binary or its receipt")]
    Write(#[source] DurableError),
}

impl GetError {
    /// Exit code: 1 refused or failed, 2 usage, 3 a proof, signature or hash is wrong, 4 try later.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Spec(_) | Self::NoModule | Self::Key(_) | Self::Url { .. } => 2,
            Self::Refused(_) | Self::Withdrawn(_) | Self::Ended(_) | Self::Write(_) => 1,
            Self::Unavailable { .. } => 4,
            Self::State(error) if error.is_io() => 1,
            Self::State(_)
            | Self::Malformed { .. }
            | Self::Note(_)
            | Self::Proof(_)
            | Self::Fork { .. }
            | Self::OldHead { .. }
            | Self::OtherRecord { .. }
            | Self::NoCompanion { .. }
            | Self::Receipt(_)
            | Self::OtherReceipt { .. }
            | Self::OtherBinary { .. } => 3,
        }
    }
}
