//! The store: SDKs and frozen standard libraries, as the supervisor itself has copied and hashed
//! them.
//!
//! Called by the supervisor only, whose current folder it is. Beside each tree lies its manifest: a
//! JSON line ([`Header`]) and one line for each file. A tree exists when both are there. New trees
//! are made in `staging`, which is emptied at every start: a crash leaves nothing else behind.
//! Trees are read again ([`mod@verify`]) once a day and after every attack; one that is not what
//! its manifest says is put away under [`quarantine`] and is no tree any more.
//! Must never chown and rename what somebody else wrote: the writer's descriptor would stay good.

mod adopt;
mod command;
mod copy;
mod freeze;
mod hash1;
mod quarantine;
mod schedule;
mod staged;
mod verify;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufRead as _, BufReader, Read as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::{
    fcntl::{Flock, FlockArg, OFlag, open},
    sys::stat::Mode,
};
use serde::{Deserialize, Serialize};

pub(crate) use adopt::adopt;
pub(crate) use command::command;
pub(crate) use freeze::freeze;
pub(crate) use hash1::digest_hex;
pub(crate) use quarantine::{known as known_put_away, put_away, remove as remove_put_away};
pub(crate) use schedule::{due, mark_sound, mark_suspect, suspects};
pub(crate) use verify::{Verdict, verify};

use crate::{
    policy::{hex, sha256_hex},
    sys::mount::{self, Attributes},
    wire::Tree,
};
use copy::Entry;
use quarantine::seconds;
use staged::Staged;

const STAGING: &str = "staging";
/// Locked by every supervisor that works in the store; holds nothing.
const LOCK: &str = "lock";
const MANIFEST: &str = "manifest";
const USED: &str = "used";
/// Its time is when the tree was last found to be what it was; see [`schedule`].
const CHECKED: &str = "checked";
/// Longest first line of a manifest.
const HEADER_BYTES_MAX: u64 = 4096;
/// Most trees that are listed; each has at least some 100 MB.
const TREES_MAX: usize = 10_000;

/// Why something in the store did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing was changed, or only in the staging folder.
    #[error("`{path}`: {source}")]
    Io { path: String, source: io::Error },
    /// The tree breaks a rule; nothing was kept of it.
    #[error("`{path}` {why}")]
    Tree { path: String, why: String },
    /// The bytes are not what was promised; nothing was kept of them.
    #[error("the tree has {got}, not {wanted}")]
    Hash { got: String, wanted: String },
}

/// Names the path of an error.
trait At<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::Io {
            path: path.as_ref().display().to_string(),
            source: error.into(),
        })
    }
}

/// Kinds of trees; also the names of their folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Sdk,
    Std,
    Go,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Sdk, Self::Std, Self::Go];

    fn word(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Std => "std",
            Self::Go => "go",
        }
    }
}

/// Name of a tree: kind and 64 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    kind: Kind,
    hex: String,
}

impl Name {
    /// The SDK with a directory hash; the caller has checked its form.
    pub(crate) fn sdk(h1_hex: String) -> Self {
        Self {
            kind: Kind::Sdk,
            hex: h1_hex,
        }
    }

    /// The frozen standard library of an SDK, a target and flags.
    pub(crate) fn std(h1: &str, goos: &str, goarch: &str, flags: &str) -> Self {
        Self {
            kind: Kind::Std,
            hex: sha256_hex(format!("{h1}\n{goos}\n{goarch}\n{flags}\n").as_bytes()),
        }
    }

    /// The go command that was made from an SDK, by a recipe.
    pub(crate) fn go(h1: &str, recipe: &str) -> Self {
        Self {
            kind: Kind::Go,
            hex: sha256_hex(format!("{h1}\n{recipe}\n").as_bytes()),
        }
    }

    /// Reads back what `Display` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, digits) = text.split_once('/')?;
        let kind = Kind::ALL.into_iter().find(|known| known.word() == kind)?;
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (digits.len() == 64 && digits.bytes().all(lower)).then(|| Self {
            kind,
            hex: digits.to_owned(),
        })
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(self.to_string())
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.folder().with_extension(extension)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.kind.word(), self.hex)
    }
}

/// First line of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// `go1.26.8`, `go1.26.8 windows/amd64`.
    pub(crate) title: String,
    /// The SDK's `h1:`, or SHA-256 of the lines that follow.
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// Says to other supervisors on the same store that this one is there, for as long as it lives.
pub(crate) struct Presence(Flock<File>);

impl Presence {
    /// Whether no other supervisor is there. Must not be asked while a tree is being made: between
    /// the two locks somebody who starts could take what is unfinished for a leftover.
    pub(crate) fn is_alone(&self) -> Result<bool, StoreError> {
        let alone = self.0.relock(FlockArg::LockExclusiveNonblock).is_ok();
        self.0.relock(FlockArg::LockShared).at(LOCK)?;
        Ok(alone)
    }
}

/// Prepares the current folder: the folders are there, and, unless somebody else works in it,
/// nothing unfinished is.
pub(crate) fn open_here() -> Result<Presence, StoreError> {
    let mut options = File::options();
    let file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(LOCK)
        .at(LOCK)?;
    let (lock, alone) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => (lock, true),
        Err((file, _)) => {
            let shared = Flock::lock(file, FlockArg::LockShared);
            (shared.map_err(|(_, errno)| errno).at(LOCK)?, false)
        }
    };
    quarantine::finish()?; // before the rest of a half-moved tree is taken for a leftover
    make_folders(alone)?;
    lock.relock(FlockArg::LockShared).at(LOCK)?;
    Ok(Presence(lock))
}

fn make_folders(alone: bool) -> Result<(), StoreError> {
    for kind in Kind::ALL {
        let folder = kind.word();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .at(folder)?;
        for entry in fs::read_dir(folder).at(folder)? {
            if !alone {
                break; // what looks unfinished may be in the making
            }
            let path = entry.at(folder)?.path();
            let stem = path.with_extension("");
            let whole = stem.is_dir() && stem.with_extension(MANIFEST).is_file();
            if !whole {
                delete(&path)?; // half of a tree: a crash between two renames, or in a removal
            }
        }
    }
    if alone {
        delete(Path::new(STAGING))?;
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(STAGING)
        .at(STAGING)
}

/// Deletes a file or a tree of ours; one that is not there is no error.
fn delete(path: &Path) -> Result<(), StoreError> {
    let deleted = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match deleted {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at(path),
    }
}

/// What is known about a tree, if it exists.
pub(crate) fn header(name: &Name) -> Option<Header> {
    let file = File::open(name.beside(MANIFEST)).ok()?;
    let mut line = String::new();
    BufReader::new(file.take(HEADER_BYTES_MAX))
        .read_line(&mut line)
        .ok()?;
    let folder = name.folder().is_dir();
    folder.then(|| serde_json::from_str(&line).ok()).flatten()
}

/// A detached, read-only mount of a tree; of a go command the one file of its tree is shown.
pub(crate) fn mount(name: &Name, attributes: Attributes) -> Result<OwnedFd, StoreError> {
    let (path, kind) = match name.kind {
        Kind::Go => (name.folder().join(command::FILE), OFlag::empty()),
        Kind::Sdk | Kind::Std => (name.folder(), OFlag::O_DIRECTORY),
    };
    let flags = kind | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let source = open(&path, flags, Mode::empty()).at(&path)?;
    let detached = mount::clone_tree(source.as_fd(), c"").at(&path)?;
    let wanted = attributes.and(Attributes::READ_ONLY);
    mount::restrict(detached.as_fd(), wanted).at(&path)?;
    Ok(detached)
}

/// Notes that a tree was used now; lost in a crash, which only makes it look older.
pub(crate) fn mark_used(name: &Name) -> Result<(), StoreError> {
    mark(name, USED)
}

fn mark(name: &Name, extension: &str) -> Result<(), StoreError> {
    let path = name.beside(extension);
    let file = File::create(&path).at(&path)?;
    file.set_modified(SystemTime::now()).at(&path)
}

/// Names of all that has a manifest, readable or not.
fn names() -> Result<Vec<Name>, StoreError> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let folder = kind.word();
        for entry in fs::read_dir(folder).at(folder)? {
            let path = entry.at(folder)?.path();
            if path.extension().is_some_and(|it| it == MANIFEST) {
                all.extend(Name::parse(&path.with_extension("").to_string_lossy()));
            }
        }
    }
    Ok(all)
}

/// Seconds since 1970 of a mark; 0 when there is none.
fn marked(name: &Name, extension: &str) -> u64 {
    let marked = fs::metadata(name.beside(extension)).and_then(|meta| meta.modified());
    marked.map_or(0, seconds)
}

/// All trees, those that were put away last.
pub(crate) fn trees() -> Result<Vec<Tree>, StoreError> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let folder = kind.word();
        for entry in fs::read_dir(folder).at(folder)? {
            let entry = entry.at(folder)?;
            let Some(name) = Name::parse(&entry.path().to_string_lossy()) else {
                continue;
            };
            let Some(header) = header(&name) else {
                continue;
            };
            all.push(Tree {
                name: name.to_string(),
                title: header.title,
                digest: header.digest,
                bytes: header.bytes,
                used_s: marked(&name, USED),
                checked_s: marked(&name, CHECKED),
                put_away: None,
            });
            if all.len() == TREES_MAX {
                return Ok(all);
            }
        }
    }
    all.append(&mut quarantine::list()?);
    Ok(all)
}

/// One file of an SDK that was adopted.
pub(crate) fn read_file(name: &Name, path: &str, bytes_max: u64) -> Result<String, StoreError> {
    let path = name.folder().join(path);
    let mut text = String::new();
    let file = File::open(&path).at(&path)?;
    file.take(bytes_max).read_to_string(&mut text).at(&path)?;
    Ok(text)
}

/// Deletes a tree that no cell uses.
pub(crate) fn remove(name: &Name) -> Result<(), StoreError> {
    let away = Path::new(STAGING).join(format!("removed-{}", name.hex));
    // The manifest goes first: a folder without one is deleted at the next start.
    delete(&name.beside(MANIFEST))?;
    delete(&name.beside(USED))?;
    delete(&name.beside(CHECKED))?;
    fs::rename(name.folder(), &away).at(name.folder())?;
    delete(&away)
}

/// Lines of a manifest, sorted by path.
fn lines(entries: &mut [Entry]) -> String {
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    entries
        .iter()
        .map(|entry| {
            let Entry {
                path,
                mode,
                bytes,
                sha256,
            } = entry;
            format!("{} {mode:04o} {bytes} {path}\n", hex(sha256))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_back_to_themselves() {
        let name = Name::std("h1:x", "linux", "amd64", "-trimpath");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        let name = Name::go("h1:x", "recipe");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        for text in ["", "sdk/", "sdk/..", "std/0", "other/0", "/sdk", "sdk"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
        assert_eq!(Name::parse(&format!("sdk/{}", "A".repeat(64))), None);
        assert_eq!(Name::parse(&format!("sdk/{}/x", "a".repeat(64))), None);
    }
}
