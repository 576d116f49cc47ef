//! Signing: what the log needs of the holder of the keys, and what the holder demands.
//!
//! The signer is the last line against a fork: it builds the texts itself from size and root,
//! remembers the last head that it signed, and signs another one only with a proof that it contains
//! the last. It must never sign bytes that it was given, apart from a statement under the
//! statement's own key.

use super::{kept, kept::Kept, sign::Unfit};
use crate::tlog::{Hash, Tree, VerifierKey};

/// A head with its two notes, same key, same tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// Size and root.
    pub tree: Tree,
    /// Signed note in the form of the checksum database.
    pub note: String,
    /// Signed note in the form of a C2SP checkpoint.
    pub checkpoint: String,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The head is smaller than the last, or does not contain it: a rollback or a fork.
    #[error(
        "the signer last signed a head of {last} records and got no proof that the head of {size} \
         records contains it"
    )]
    Refused {
        /// Records of the last signed head.
        last: u64,
        /// Records of the refused head.
        size: u64,
    },
    /// What the signer remembers is missing or damaged; it must not guess.
    #[error("the signer's memory of the last signed head is missing or damaged: {what}")]
    StateLost {
        /// Which part.
        what: String,
    },
    /// The log has ended for good; nothing was signed.
    #[error("this log has ended at {size} records; `{next}` follows it")]
    Ended {
        /// Records of its last head.
        size: u64,
        /// Key of the log that follows.
        next: String,
    },
    /// There is no log that could end, or it would follow itself; nothing was changed.
    #[error("a log ends when it has signed something, and another name follows it")]
    Nothing,
    /// A key of this name lies there and has a past, or is not to be replaced; nothing was made.
    #[error("the signers' folder has the key {}", kept::list(kept))]
    Taken {
        /// The keys of this name.
        kept: Vec<Kept>,
    },
    /// It cannot be a witness of the logs that were named; nothing was changed.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Another process holds the signer's state.
    #[error("another process uses the signer's folder")]
    Locked,
    /// The process with the keys has ended or answers no more. Whether the head was remembered is
    /// not known; only a start of the whole service helps.
    #[error("the process that holds the keys is gone")]
    Gone,
    /// Whether the head was remembered is not known; the same head may be offered again.
    #[error("cannot use the signer's folder")]
    Io(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SignError {
    pub(super) fn io(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Io(Box::new(error))
    }
}

/// The holder of the log's key and of the key for statements.
pub trait Signer: Send + Sync + 'static {
    /// Public key of the log.
    fn verifier(&self) -> &VerifierKey;

    /// Public key for statements (Ed25519).
    fn statement_key(&self) -> [u8; 32];

    /// The last head that was signed; of size 0 before the first. [`SignError::Ended`] for a log
    /// that has ended.
    fn last(&self) -> Result<Tree, SignError>;

    /// Signs a head. `proof` is that of consistency with [`Signer::last`], empty for the same head
    /// (which is signed again, with the same signatures) or when there is none yet.
    /// The head is remembered durably before a signature leaves, where a backup of the data folder
    /// does not reach.
    fn sign(&self, tree: Tree, proof: &[Hash]) -> Result<SignedHead, SignError>;

    /// Signs an in-toto statement with the key for statements, as DSSE demands.
    fn sign_statement(&self, statement: &[u8]) -> Result<[u8; 64], SignError>;
}
