//! What this user knows about a log: its newest head, in a folder of the log's key.
//!
//! `<state folder>/<key hash>/`: `key` (the key itself), `latest` (the note of the newest head, in
//! the form in which it was seen), `lock`, `follow` (the leaf that a follower reads next), and
//! `fork-*.txt` when two heads excluded each other. `latest` is replaced as a whole, never
//! truncated; a `latest` that is gone or damaged is an error and never a fresh start, because a
//! fresh start believes every history.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use crate::{
    spec::hex,
    store::durable::{self, DurableError},
    tlog::{
        Note, NoteError, SIZE_MAX, Tree, VerifierKey,
        note::NOTE_BYTES_MAX,
        text::{parse_checkpoint, parse_decimal, parse_tree},
    },
};

/// Folders of other keys that are looked at for one of the same name.
const OTHER_KEYS_MAX: usize = 1000;
/// Longest place of a follower, in bytes: 20 digits and a newline fit.
const PLACE_BYTES_MAX: usize = 64;

/// Longest file of a key, in bytes: a name of 255, and 60 for the rest.
const KEY_BYTES_MAX: usize = 1024;

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk.
    #[error("cannot use the state in `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk, while writing; the older state is still there.
    #[error("cannot keep the state")]
    Write(#[from] DurableError),
    /// Other processes kept newer heads again and again.
    #[error("other processes are using the state of this log; try again")]
    Busy,
    /// There was a head, and now there is none.
    #[error(
        "`{}` has vanished: restore it, or delete its folder to trust this log as on the first day",
        path.display()
    )]
    Vanished {
        /// Which file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "`{}` is damaged: restore it, or delete its folder to trust this log as on the first day",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

impl StateError {
    /// Whether it says nothing about the log.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Write(_) | Self::Busy)
    }
}

/// Why a head is not believed.
#[derive(Debug)]
pub(crate) enum BadHead {
    Note(NoteError),
    Text,
}

/// The note as text and its tree, if the key signed it: a head in the form of the checksum
/// database, or a checkpoint of the key's own log. The key signs both forms of every head.
pub(crate) fn verify(key: &VerifierKey, note: &[u8]) -> Result<(String, Tree), BadHead> {
    let parsed = Note::parse(note).map_err(BadHead::Note)?;
    let signed = parsed.verify(key).map_err(BadHead::Note)?;
    let checkpoint = || match parse_checkpoint(signed) {
        Ok((origin, tree)) if origin == key.name() => Ok(tree),
        _ => Err(BadHead::Text),
    };
    let tree = parse_tree(signed).or_else(|_| checkpoint())?;
    let text = std::str::from_utf8(note).map_err(|_| BadHead::Text)?;
    Ok((text.to_owned(), tree))
}

/// The folder of one key.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    key: VerifierKey,
}

impl State {
    /// Opens the folder of a key. On the first use of a key, warns when another key of the same
    /// name was used before.
    pub(crate) fn open(
        folder: &Path,
        key: &VerifierKey,
        warnings: &mut Vec<String>,
    ) -> Result<Self, StateError> {
        let own = folder.join(key.id());
        if !own.join("key").exists() {
            if same_name(folder, key) {
                warnings.push(format!(
                    "another key with the name `{}` was seen",
                    key.name()
                ));
            }
            durable::create_folder(&own, 0o700)?;
        }
        Ok(Self {
            folder: own,
            key: key.clone(),
        })
    }

    /// The newest head that was seen, and its note. Nothing on the first day: before the file `key`
    /// there was no head.
    pub(crate) fn latest(&self) -> Result<Option<(String, Tree)>, StateError> {
        let path = self.folder.join("latest");
        let used = self.folder.join("key").exists();
        match durable::read_bounded(&path, NOTE_BYTES_MAX) {
            Ok(Some(bytes)) => {
                let damaged = |_| StateError::Damaged { path: path.clone() };
                verify(&self.key, &bytes).map(Some).map_err(damaged)
            }
            Ok(None) if used => Err(StateError::Vanished { path }),
            Ok(None) => Ok(None),
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// Keeps a head if the one that is kept is still `known`; false when it is another.
    /// A crash leaves the older head or the newer one. On the first day `latest` comes before
    /// `key`, so that a crash in between is no vanished head.
    pub(crate) fn replace(&self, known: Option<&str>, note: &str) -> Result<bool, StateError> {
        let path = self.folder.join("lock");
        let at = |source| StateError::Io {
            path: path.clone(),
            source,
        };
        // Locked until the end of this function.
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(at)?;
        let locked = Flock::lock(file, FlockArg::LockExclusive);
        let _lock = locked.map_err(|(_, error)| at(error.into()))?;
        let now = self.latest()?;
        if now.as_ref().map(|(note, _)| note.as_str()) != known {
            return Ok(false);
        }
        durable::replace(
            &self.folder.join("latest"),
            note.as_bytes(),
            durable::SECRET,
        )?;
        let key = format!("{}\n", self.key);
        durable::replace(&self.folder.join("key"), key.as_bytes(), durable::SECRET)?;
        Ok(true)
    }

    /// The leaf that a follower reads next; nothing before its first run.
    pub(crate) fn place(&self) -> Result<Option<u64>, StateError> {
        let path = self.folder.join("follow");
        let bytes = match durable::read_bounded(&path, PLACE_BYTES_MAX) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        let place = text.strip_suffix('\n').and_then(parse_decimal);
        let place = place.filter(|place| *place <= SIZE_MAX);
        place.map(Some).ok_or(StateError::Damaged { path })
    }

    /// Keeps it. A crash leaves the older place or the newer one.
    pub(crate) fn keep_place(&self, place: u64) -> Result<(), StateError> {
        let text = format!("{place}\n");
        let path = self.folder.join("follow");
        Ok(durable::replace(&path, text.as_bytes(), durable::SECRET)?)
    }

    /// Keeps two signed heads that exclude each other: whoever has the log's key can check it.
    pub(crate) fn keep_evidence(&self, seen: &str, shown: &str) -> Result<PathBuf, StateError> {
        let text = format!(
            "Two heads, signed by {}, of which none is a prefix of the other.\n\n\
             Seen before:\n{seen}\nShown now:\n{shown}",
            self.key
        );
        let name = hex(&Sha256::digest(&text)[..8]);
        let path = self.folder.join(format!("fork-{name}.txt"));
        durable::create_or_compare(&path, text.as_bytes(), durable::IMMUTABLE)?;
        Ok(path)
    }
}

/// Whether another key of this name has a folder.
fn same_name(folder: &Path, key: &VerifierKey) -> bool {
    let mut keys = known_keys(folder).into_iter();
    keys.any(|other| other.name() == key.name() && other != *key)
}

/// Keys that this user has given to `get`, from `$XDG_STATE_HOME/hotcell`; what cannot be read is
/// left out. A key counts in the folder of its own hash only.
pub fn known_keys(folder: &Path) -> Vec<VerifierKey> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let key = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let bytes = durable::read_bounded(&entry.path().join("key"), KEY_BYTES_MAX).ok()??;
        let key = VerifierKey::parse(String::from_utf8(bytes).ok()?.trim_end()).ok()?;
        (entry.file_name().to_str() == Some(&key.id())).then_some(key)
    };
    entries.take(OTHER_KEYS_MAX).filter_map(key).collect()
}
