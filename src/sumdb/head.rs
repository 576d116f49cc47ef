//! The newest signed head of the checksum database, on disk.
//!
//! One file `latest` that is replaced as a whole under a lock, so that two processes of one user
//! can share it, and an empty file `used` beside it. A `latest` that has vanished while `used` is
//! there is an error, never a new beginning.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::tlog::{Note, Tree, VerifierKey, text::parse_tree};

/// Longest note that is read; real ones have 200 bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// Why the head cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk. The head on it is the old one or the new one, never a part.
    #[error("cannot read or write `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There was one.
    #[error(
        "`{}` has vanished: restore it, or delete its folder to trust the checksum database anew",
        path.display()
    )]
    Vanished {
        /// Which file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "`{}` is damaged: restore it, or delete its folder to trust the checksum database anew",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// The head on disk and a copy in memory.
pub(super) struct HeadStore {
    folder: PathBuf,
    current: Mutex<Option<Tree>>,
}

impl HeadStore {
    /// Reads the head that was kept, if the database was used before.
    pub(super) fn open(folder: PathBuf, key: &VerifierKey) -> Result<Self, StateError> {
        fs::create_dir_all(&folder).map_err(io_at(&folder))?;
        let current = Mutex::new(read(&folder, key)?);
        Ok(Self { folder, current })
    }

    /// The newest head known in this process.
    pub(super) fn current(&self) -> Option<Tree> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the head `known` by one that was proven to extend it. `false` when another process
    /// has replaced it meanwhile; then [`Self::current`] is that process's head.
    pub(super) fn replace(
        &self,
        known: Option<Tree>,
        tree: Tree,
        note: &[u8],
        key: &VerifierKey,
    ) -> Result<bool, StateError> {
        let lock_path = self.folder.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&lock_path);
        let lock = lock.map_err(io_at(&lock_path))?;
        lock.lock().map_err(io_at(&lock_path))?; // until the file is closed
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let on_disk = read(&self.folder, key)?;
        if on_disk != known {
            *current = on_disk;
            return Ok(false);
        }
        write(&self.folder, note)?;
        *current = Some(tree);
        Ok(true)
    }
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |source| StateError::Io {
        path: path.clone(),
        source,
    }
}

fn read(folder: &Path, key: &VerifierKey) -> Result<Option<Tree>, StateError> {
    let path = folder.join("latest");
    let mut note = Vec::new();
    match File::open(&path) {
        Ok(file) => {
            file.take(NOTE_BYTES_MAX)
                .read_to_end(&mut note)
                .map_err(io_at(&path))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let used = fs::exists(folder.join("used")).map_err(io_at(&path))?;
            return if used {
                Err(StateError::Vanished { path })
            } else {
                Ok(None)
            };
        }
        Err(error) => return Err(io_at(&path)(error)),
    }
    let parse = || {
        let note = Note::parse(&note).ok()?;
        parse_tree(note.verify(key).ok()?).ok()
    };
    parse().map(Some).ok_or(StateError::Damaged { path })
}

fn write(folder: &Path, note: &[u8]) -> Result<(), StateError> {
    let (new, path) = (folder.join("latest.new"), folder.join("latest"));
    let mut file = File::create(&new).map_err(io_at(&new))?;
    file.write_all(note)
        .and_then(|()| file.sync_all())
        .map_err(io_at(&new))?;
    // A crash before this line leaves the old head, after it the new one.
    fs::rename(&new, &path).map_err(io_at(&path))?;
    // Comes second: a crash in between is a first contact that is forgotten with its mark.
    let used = folder.join("used");
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&used)
        .map_err(io_at(&used))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_at(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{SigningKey, empty_root, leaf_hash, text::tree_text};

    fn head(size: u64) -> (Tree, Vec<u8>, VerifierKey) {
        let key = SigningKey::from_seed("sum.test", &[7; 32]).unwrap();
        let root = if size == 0 {
            empty_root()
        } else {
            leaf_hash(&size.to_be_bytes())
        };
        let tree = Tree { size, root };
        let note = key.sign(&tree_text(&tree)).unwrap();
        (tree, note.into_bytes(), key.verifier().clone())
    }

    #[test]
    fn a_head_survives_and_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let (one, note, key) = head(1);
        let store = HeadStore::open(folder.path().join("x"), &key).unwrap();
        assert_eq!(store.current(), None);
        let other = HeadStore::open(folder.path().join("x"), &key).unwrap();
        assert!(store.replace(None, one, &note, &key).unwrap());
        // The other one believes that it is the first: it is told, and sees the head.
        let (two, note, _) = head(2);
        assert!(!other.replace(None, two, &note, &key).unwrap());
        assert_eq!(other.current(), Some(one));
        assert!(other.replace(Some(one), two, &note, &key).unwrap());
        let again = HeadStore::open(folder.path().join("x"), &key).unwrap();
        assert_eq!(again.current(), Some(two));
    }

    #[test]
    fn a_vanished_or_damaged_head_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (one, note, key) = head(1);
        let store = HeadStore::open(folder.path().to_path_buf(), &key).unwrap();
        store.replace(None, one, &note, &key).unwrap();
        let path = folder.path().join("latest");
        let open = || HeadStore::open(folder.path().to_path_buf(), &key);
        for content in [
            &b""[..],
            &note[..note.len() - 1],
            b"go.sum database tree\n1\n",
        ] {
            File::create(&path).unwrap().write_all(content).unwrap();
            assert!(matches!(open(), Err(StateError::Damaged { .. })));
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(open(), Err(StateError::Vanished { .. })));
        let (two, note, _) = head(2);
        assert!(store.replace(Some(one), two, &note, &key).is_err());
    }
}
