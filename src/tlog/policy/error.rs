//! Why a policy is none, and why a checkpoint is not believed; each says what to do.

use super::{DEFINED_MAX, POLICY_BYTES_MAX};
use crate::tlog::NoteError;

/// Why a file is no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is longer than any policy.
    #[error("the policy has more than {POLICY_BYTES_MAX} bytes")]
    TooLong,
    /// A file that was cut could say less than it was meant to.
    #[error("the policy's last line has no newline at its end: it may be cut")]
    Cut,
    /// No rule says which witnesses are enough.
    #[error("the policy has no quorum: add `quorum NAME`, or `quorum none` for no cosignature")]
    NoQuorum,
    /// A line is wrong.
    #[error("line {number} of the policy: {why}")]
    Line {
        /// Which, counted from 1.
        number: usize,
        /// Why.
        why: LineError,
    },
}

/// Why a line of a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A control character other than tab.
    #[error("it has a control character; only tabs are allowed")]
    Control,
    /// It is none of the four.
    #[error("it begins with none of `log`, `witness`, `group`, `quorum`")]
    Keyword,
    /// Too few words, or too many.
    #[error("write it as `{0}`")]
    Form(&'static str),
    /// The key of a log.
    #[error("this is no Ed25519 key of a log (`name+hash+base64`, type 1)")]
    LogKey(#[source] NoteError),
    /// The key of a witness.
    #[error("this is no Ed25519 key of a witness (`name+hash+base64`, type 4)")]
    WitnessKey(#[source] NoteError),
    /// The key, under whatever name, is there already.
    #[error("this key is there already; remove one of the two lines")]
    SameKey,
    /// The name is defined, or is `none`.
    #[error("the name `{name}` is taken; choose another one")]
    Taken {
        /// Which.
        name: String,
    },
    /// The name is not defined above.
    #[error("the name `{name}` is not defined above this line")]
    Undefined {
        /// Which.
        name: String,
    },
    /// The name is a member of a group already.
    #[error("`{name}` is a member of a group already; it may count once only")]
    Member {
        /// Which.
        name: String,
    },
    /// The number of members that must agree makes no sense.
    #[error("write how many members must agree: `any`, `all`, or a number from 1 to {members}")]
    Threshold {
        /// How many there are.
        members: usize,
    },
    /// There is one already.
    #[error("there is a quorum already; remove one of the two lines")]
    SecondQuorum,
    /// More than anybody has.
    #[error("there are more than {DEFINED_MAX} of these")]
    TooMany,
}

/// Why a checkpoint is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no note, or a signature of a known key is wrong.
    #[error("the checkpoint's signatures are wrong")]
    Note(#[source] NoteError),
    /// Its text is no head.
    #[error("the checkpoint is malformed")]
    Head,
    /// It is of a log that nobody named.
    #[error("the checkpoint is of the log `{origin}`, for which no key is given")]
    Origin {
        /// Its first line.
        origin: String,
    },
    /// It is not signed by any key that was given for its log.
    #[error("the checkpoint is not signed by any key that is given for the log `{origin}`")]
    Unsigned {
        /// Its first line.
        origin: String,
    },
    /// Too few witnesses cosigned it.
    #[error(
        "the checkpoint lacks the policy's quorum `{quorum}`: cosigned by {}, not by {}",
        list(cosigned),
        list(missing)
    )]
    Quorum {
        /// Name of the quorum.
        quorum: String,
        /// Names of witnesses that cosigned.
        cosigned: Vec<String>,
        /// Names of those that did not.
        missing: Vec<String>,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    }
}
