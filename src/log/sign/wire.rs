//! Messages between the log and the role `sign`: one answer for each question, in order.
//!
//! The first message of the socket is the one of every role
//! ([`hotcell_sandbox::channel::Channel::send_start`]). The role is asked to sign a size and a root
//! and never a text, apart from statements, which it wraps itself, and checkpoints of other logs,
//! which it verifies.

use hotcell_sandbox::wire::MESSAGE_BYTES_MAX;
use serde::{Deserialize, Serialize};

use super::{CosignError, Cosigned, LOGS_MAX, Unfit};
use crate::{
    log::{Kept, SignError},
    tlog::{Hash, Tree, judge::Denied, note::NAME_BYTES_MAX},
};

/// Bytes of a statement in one message: as base64 they leave room for the rest of it.
pub(super) const PART_BYTES_MAX: usize = 45_000;
/// Longest statement in bytes; an envelope has 16 MiB at most, and a third of it is base64.
pub(super) const STATEMENT_BYTES_MAX: usize = 12 * 1024 * 1024;

// The keys of all witnessed logs fit in one message: name, eight digits, base64 of 33 bytes.
const _: () = assert!(LOGS_MAX * (2 * NAME_BYTES_MAX + 64) + 1024 < MESSAGE_BYTES_MAX);

/// How the role is to run.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignStart {
    /// Whether the asker is the person that the keys belong to, who can list them, make one ahead
    /// of its log, and end a log. A `serve` that was taken over must not.
    pub operator: bool,
}

/// Size and root on their way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    size: u64,
    root: String,
}

impl Head {
    pub(super) fn new(tree: &Tree) -> Self {
        let root = tree.root.to_string();
        Self {
            size: tree.size,
            root,
        }
    }

    pub(super) fn tree(&self) -> Option<Tree> {
        let root = Hash::parse(&self.root)?;
        let known = self.size <= crate::tlog::SIZE_MAX;
        known.then_some(Tree {
            size: self.size,
            root,
        })
    }
}

/// What is asked for. [`Ask::Open`], [`Ask::Create`] or [`Ask::Generate`] comes first, and once;
/// before it only [`Ask::Keys`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// Open the state of a key: [`Answer::Opened`] or [`Answer::None`].
    Open { key: String },
    /// Take the keys of this name that were never used, or make new ones: [`Answer::Opened`] or
    /// [`Answer::Taken`]; `beside` keys of the same name that have a past, when none has ended.
    Create { name: String, beside: bool },
    /// The operator's: make new keys, when there are none of this name: as [`Ask::Create`].
    Generate { name: String },
    /// The operator's: which keys there are: [`Answer::Keys`].
    Keys,
    /// The operator's: end the log, which `next` follows: [`Answer::End`].
    End { next: String },
    /// The last signed head: [`Answer::Head`].
    Last,
    /// Sign a head: [`Answer::Signed`].
    Sign { head: Head, proof: Vec<String> },
    /// A part of a statement: [`Answer::Done`], after the last one [`Answer::Statement`].
    Statement { base64: String, more: bool },
    /// Be a witness of the logs with these keys, once: [`Answer::Witness`] or [`Answer::Unfit`].
    Witness { logs: Vec<String> },
    /// Cosign the head in the body of an `add-checkpoint`: [`Answer::Cosigned`] or
    /// [`Answer::Denied`].
    Cosign { body: String },
    /// The head of a log that was cosigned last: [`Answer::Cosigned`] or [`Answer::None`].
    Seen { origin: String },
}

/// What the role says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "answer", rename_all = "snake_case")]
pub(super) enum Answer {
    Opened { key: String, statement_key: String },
    Head { head: Head },
    None,
    Signed { note: String, checkpoint: String },
    Statement { base64: String },
    Done,
    Witness { key: String },
    Cosigned { cosigned: Cosigned },
    Denied { why: Denied },
    Unfit { why: Unfit },
    Keys { kept: Vec<Kept> },
    Taken { kept: Vec<Kept> },
    End { head: Head, checkpoint: String },
    Ended { size: u64, next: String },
    Nothing,
    Refused { last: u64, size: u64 },
    StateLost { what: String },
    Locked,
    Failed { why: String },
}

impl From<SignError> for Answer {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Refused { last, size } => Self::Refused { last, size },
            SignError::StateLost { what } => Self::StateLost { what },
            SignError::Locked => Self::Locked,
            SignError::Unfit(why) => Self::Unfit { why },
            SignError::Ended { size, next } => Self::Ended { size, next },
            SignError::Nothing => Self::Nothing,
            SignError::Taken { kept } => Self::Taken { kept },
            SignError::Gone | SignError::Io(_) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Self::Failed {
                    why: cause.unwrap_or_else(|| error.to_string()),
                }
            }
        }
    }
}

impl From<CosignError> for Answer {
    fn from(error: CosignError) -> Self {
        match error {
            CosignError::Denied(why) => Self::Denied { why },
            CosignError::Sign(error) => error.into(),
        }
    }
}

impl Answer {
    /// The error that an answer stands for; any other answer that nobody asked for is one too.
    pub(super) fn error(self) -> SignError {
        match self {
            Self::Refused { last, size } => SignError::Refused { last, size },
            Self::StateLost { what } => SignError::StateLost { what },
            Self::Locked => SignError::Locked,
            Self::Unfit { why } => SignError::Unfit(why),
            Self::Ended { size, next } => SignError::Ended { size, next },
            Self::Nothing => SignError::Nothing,
            Self::Taken { kept } => SignError::Taken { kept },
            Self::Failed { why } => SignError::Io(why.into()),
            other => SignError::Io(format!("the signer answered {other:?}").into()),
        }
    }
}
