//! The keys that lie in a signers' folder: whether a new log may have a name, and what a person is
//! told about those that are there.
//!
//! Read by the role `sign` without their locks, so that a service may run on any of them. It must
//! never take a key with a past for a new one.

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

use super::{memory, signer::SignError};
use crate::{
    store::durable::{self, SECTOR_BYTES},
    tlog::{SigningKey, VerifierKey},
};

/// Keys of one folder that are looked at; in the message that names them each has at most 1,100
/// bytes, of 64 KiB.
pub(super) const KEYS_MAX: usize = 50;
/// Longest secret key as text, in bytes: its name and 66 more.
const KEY_BYTES_MAX: usize = 512;

/// A key of a signers' folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Its verifier key.
    pub key: String,
    /// Records of the head that it signed last; nothing when its memory is damaged.
    pub size: Option<u64>,
    /// The key of the log that follows, when this one has ended.
    pub next: Option<String>,
    /// The key of a log in this folder that has ended, when this one follows it.
    pub follows: Option<String>,
}

impl Kept {
    /// Whether a log with no past can begin with it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.size == Some(0) && self.follows.is_none()
    }

    /// Whether it is that of a log that has ended, or of one that follows such a log.
    #[must_use]
    pub fn is_succession(&self) -> bool {
        self.next.is_some() || self.follows.is_some()
    }

    /// Whether it has this name.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.key.split('+').next() == Some(name)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (self.size, &self.next, &self.follows) {
            (None, ..) => write!(f, "`{key}`, whose memory is damaged"),
            (Some(size), Some(next), _) => {
                write!(
                    f,
                    "`{key}`, which ended at {size} records; `{next}` follows it"
                )
            }
            (Some(0), None, Some(old)) => {
                write!(f, "`{key}`, which is to follow `{old}`, that has ended")
            }
            (Some(0), None, None) => write!(f, "`{key}`, which has signed nothing yet"),
            (Some(size), None, _) => {
                write!(f, "`{key}`, which has signed a head of {size} records")
            }
        }
    }
}

/// All in one line, for people.
#[must_use]
pub fn list(kept: &[Kept]) -> String {
    let all: Vec<_> = kept.iter().map(ToString::to_string).collect();
    all.join("; ")
}

/// All keys of a folder; none when there is no such folder.
pub(super) fn all(folder: &Path) -> Result<Vec<Kept>, SignError> {
    let entries = match folder.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SignError::io(error)),
    };
    let mut kept = Vec::new();
    for entry in entries {
        let path = entry.map_err(SignError::io)?.path();
        let Some(key) = key(&path)? else {
            continue;
        };
        if kept.len() == KEYS_MAX {
            let text = format!("there are more than {KEYS_MAX} keys in the signers' folder");
            return Err(SignError::io(std::io::Error::other(text)));
        }
        let last = durable::read_bounded(&path.join("last"), SECTOR_BYTES);
        let last = last
            .ok()
            .flatten()
            .and_then(|it| String::from_utf8(it).ok());
        let last =
            last.and_then(|text| memory::parse(&format!("{}\n", text.trim_end_matches('\n'))));
        let next = last.as_ref().and_then(|(_, next)| next.as_ref());
        kept.push(Kept {
            key: key.to_string(),
            size: last.as_ref().map(|(tree, _)| tree.size),
            next: next.map(ToString::to_string),
            follows: None,
        });
    }
    kept.sort_by(|one, other| one.key.cmp(&other.key));
    let ended: Vec<_> = kept
        .iter()
        .filter(|one| one.next.is_some())
        .cloned()
        .collect();
    for one in &mut kept {
        let old = ended.iter().find(|old| old.next.as_ref() == Some(&one.key));
        one.follows = old.map(|old| old.key.clone());
    }
    Ok(kept)
}

/// The key of a folder that a signer made; nothing for any other.
fn key(folder: &Path) -> Result<Option<VerifierKey>, SignError> {
    let path = folder.join("log.key");
    let text = match durable::read_bounded(&path, KEY_BYTES_MAX) {
        Ok(text) => text.and_then(|text| String::from_utf8(text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => None,
        Err(error) => return Err(SignError::io(error)),
    };
    let key = text.and_then(|text| SigningKey::parse(text.trim_end()).ok());
    let key = key.map(|key| key.verifier().clone());
    Ok(key.filter(|key| folder.file_name().is_some_and(|name| *name == *key.id())))
}
