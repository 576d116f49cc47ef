//! Why an audit did not end well, and the evidence of a lie.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{
    get::state::StateError,
    log::ArchiveError,
    proxy::GetError as HttpError,
    receipt::Ended,
    spec::hex,
    store::durable::{self, DurableError},
    tlog::{NoteError, VerifierKey},
};

/// Why an audit ended early.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The key is none.
    #[error("the verifier key is malformed; copy it from where you trust it, not from the log")]
    Key(#[source] NoteError),
    /// Nobody has said which key the log has.
    #[error("{why}; name the key with --verifierkey, from where you trust it, not from the log")]
    NoKey {
        /// Why none was found.
        why: String,
    },
    /// The address is none.
    #[error("`{url}` is no address of a log; write https://NAME/tlog")]
    Url {
        /// As given.
        url: String,
    },
    /// The log contradicts its key, itself, or what it has shown before.
    #[error("{0}")]
    Lie(Box<Lie>),
    /// The log does not answer, or is busy.
    #[error("cannot read `{path}` of the log")]
    Unavailable {
        /// Which part.
        path: String,
        /// Why.
        source: HttpError,
    },
    /// The data folder cannot be read.
    #[error("cannot read the data folder")]
    Folder(#[source] ArchiveError),
    /// The log of the key has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The log does not have what was asked for.
    #[error("the log has no {what}; its signed head has {size} leaves")]
    NotInLog {
        /// What was asked for.
        what: String,
        /// Leaves of the head.
        size: u64,
    },
    /// More leaves than one audit takes.
    #[error("the log has {size} leaves, an audit takes {max} at most")]
    TooLarge {
        /// Of the log.
        size: u64,
        /// What fits into memory.
        max: u64,
    },
    /// The sample holds more builds than one audit makes.
    #[error("{count} builds would have to be made again; choose a smaller percentage")]
    SampleTooLarge {
        /// Builds in the sample.
        count: u64,
    },
    /// What this user knows about the log is gone, damaged, or cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

impl AuditError {
    /// Exit code: 1 failed here, 2 usage, 3 the log is wrong, 4 try later.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Key(_) | Self::NoKey { .. } | Self::Url { .. } | Self::SampleTooLarge { .. } => 2,
            Self::Lie(_) => 3,
            Self::Unavailable { .. } => 4,
            Self::Folder(ArchiveError::NoLog { .. }) => 2,
            Self::Folder(ArchiveError::Damaged(_)) => 3,
            Self::Folder(_) | Self::TooLarge { .. } | Self::NotInLog { .. } | Self::Ended(_) => 1,
            Self::State(error) if error.is_io() => 1,
            Self::State(_) => 3,
        }
    }
}

impl From<Lie> for AuditError {
    fn from(lie: Lie) -> Self {
        Self::Lie(Box::new(lie))
    }
}

impl From<ArchiveError> for AuditError {
    fn from(error: ArchiveError) -> Self {
        Self::Folder(error)
    }
}

/// What a log got wrong, and the bytes that show it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lie {
    /// Names the leaf, tile or key.
    pub sentence: String,
    /// Signed heads, as they were shown: where from, and the whole note.
    pub heads: Vec<(String, String)>,
    /// Other parts.
    pub exhibits: Vec<Exhibit>,
}

/// Bytes of one part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exhibit {
    /// Path below the log's address, or what it is.
    pub path: String,
    /// As it was served or stored; nothing when there was none, or it had no end.
    pub served: Option<Vec<u8>>,
    /// As it follows from the rest of the log; nothing when that says nothing about it.
    pub expected: Option<Vec<u8>>,
}

impl std::fmt::Display for Lie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Lie {
    /// Without evidence yet.
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            ..Self::default()
        }
    }

    /// With a part as it was served, and as it should be.
    pub(super) fn with(
        mut self,
        path: String,
        served: Option<&[u8]>,
        expected: Option<&[u8]>,
    ) -> Self {
        self.exhibits.push(Exhibit {
            path,
            served: served.map(<[u8]>::to_vec),
            expected: expected.map(<[u8]>::to_vec),
        });
        self
    }

    /// With a signed head.
    pub(super) fn with_head(mut self, from: impl Into<String>, note: impl Into<String>) -> Self {
        self.heads.push((from.into(), note.into()));
        self
    }

    /// The document that others can check: whoever has the log's key can verify the heads, and
    /// compute everything else from them.
    pub fn json(&self, key: Option<&VerifierKey>, log: &str) -> serde_json::Value {
        let heads = self
            .heads
            .iter()
            .map(|(from, note)| json!({ "from": from, "note": note }));
        let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| hex(bytes));
        let exhibits = self.exhibits.iter().map(|exhibit| {
            json!({
                "path": exhibit.path,
                "served_hex": bytes(&exhibit.served),
                "expected_hex": bytes(&exhibit.expected),
            })
        });
        json!({
            "what": self.sentence,
            "log": log,
            "key": key.map(ToString::to_string),
            "heads": heads.collect::<Vec<_>>(),
            "parts": exhibits.collect::<Vec<_>>(),
        })
    }

    /// Writes the evidence to `path`, or to a name of its own in this folder; it replaces an older
    /// file of the name as a whole.
    pub fn keep(
        &self,
        key: Option<&VerifierKey>,
        log: &str,
        path: Option<&Path>,
    ) -> Result<PathBuf, DurableError> {
        use sha2::{Digest as _, Sha256};
        let text = format!("{:#}\n", self.json(key, log));
        let path = path.map_or_else(
            || {
                let name = hex(&Sha256::digest(&text)[..8]);
                PathBuf::from(format!("hotcell-evidence-{name}.json"))
            },
            Path::to_owned,
        );
        durable::replace(&path, text.as_bytes(), durable::PUBLIC)?;
        Ok(path)
    }
}
