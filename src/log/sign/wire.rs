//! Messages between the log and the role `sign`: one answer for each question, in order.
//!
//! The first message of the socket is the one of every role
//! ([`hotcell_sandbox::channel::Channel::send_start`]). The role is asked to sign a size and a root
//! and never a text, apart from statements, which it wraps itself.

use serde::{Deserialize, Serialize};

use crate::{
    log::SignError,
    tlog::{Hash, Tree},
};

/// Bytes of a statement in one message: as base64 they leave room for the rest of it.
pub(super) const PART_BYTES_MAX: usize = 45_000;
/// Longest statement in bytes; an envelope has 16 MiB at most, and a third of it is base64.
pub(super) const STATEMENT_BYTES_MAX: usize = 12 * 1024 * 1024;

/// How the role is to run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignStart {}

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

/// What the log asks for. [`Ask::Open`] or [`Ask::Create`] comes first, and once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "ask", rename_all = "snake_case")]
pub(super) enum Ask {
    /// Open the state of a key: [`Answer::Opened`] or [`Answer::None`].
    Open { key: String },
    /// Make new keys: [`Answer::Opened`].
    Create { name: String },
    /// The last signed head: [`Answer::Head`].
    Last,
    /// Sign a head: [`Answer::Signed`].
    Sign { head: Head, proof: Vec<String> },
    /// A part of a statement: [`Answer::Done`], after the last one [`Answer::Statement`].
    Statement { base64: String, more: bool },
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
            SignError::Gone | SignError::Io(_) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                Self::Failed {
                    why: cause.unwrap_or_else(|| error.to_string()),
                }
            }
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
            Self::Failed { why } => SignError::Io(why.into()),
            other => SignError::Io(format!("the signer answered {other:?}").into()),
        }
    }
}
