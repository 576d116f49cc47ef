//! The cache of verified files, named by their hashes.
//!
//! A file appears under its final name only after all of it was verified and is on disk. Several
//! processes of one user may share the folder.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use crate::{spec::hex, sumdb::TileCache};

/// Longest text that is kept in the cache: a record of the checksum database, or a tile.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Most sentences that wait; they have one cause.
const TOLD_MAX: usize = 100;

/// What the cache holds; each kind has its own folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// go.mod files by the hash in their `h1:`.
    GoMod,
    /// Canonical zips by the hash in their `h1:`.
    Zip,
    /// Proven hashes by module and version.
    Sums,
    /// Authenticated tiles of the checksum database.
    Tile,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::GoMod, Self::Zip, Self::Sums, Self::Tile];

    /// Whether a reader checks the content anyway. Then it need not be on disk before its name is:
    /// what a power cut leaves of it is fetched again.
    fn checks_itself(self) -> bool {
        self != Self::Zip
    }

    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::GoMod => "mod",
            Self::Zip => "zip",
            Self::Sums => "sums",
            Self::Tile => "tile",
        }
    }
}

/// Name of a file: 64 hex digits.
pub(super) type Name = String;

/// Name for something that has no hash of its own.
pub(super) fn name_of(text: &str) -> Name {
    hex(&Sha256::digest(text))
}

/// The folder.
#[derive(Debug)]
pub(super) struct Cache {
    root: PathBuf,
    /// Sentences for a person that nobody has taken yet.
    told: Mutex<Vec<String>>,
    /// Rings when there is one.
    pub(super) bell: tokio::sync::Notify,
}

impl Cache {
    /// Opens or makes the folder and deletes what a crash has left behind.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root.join("tmp"))?;
        let cache = Self {
            root: root.to_path_buf(),
            told: Mutex::default(),
            bell: tokio::sync::Notify::new(),
        };
        cache.delete_abandoned()?;
        Ok(cache)
    }

    /// A temporary file belongs to somebody as long as it is locked.
    fn delete_abandoned(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let path = entry?.path();
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if file.try_lock().is_ok() {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, kind: Kind, name: &str) -> PathBuf {
        self.root.join(kind.folder()).join(&name[..2]).join(name)
    }

    /// Opens a file for reading and marks it as used.
    pub(super) fn get(&self, kind: Kind, name: &Name) -> io::Result<Option<File>> {
        match File::open(self.path(kind, name)) {
            Ok(file) => {
                file.set_modified(SystemTime::now())?; // oldest files go first
                Ok(Some(file))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The content of a small file.
    pub(super) fn get_small(&self, kind: Kind, name: &Name) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.get(kind, name)? else {
            return Ok(None);
        };
        let mut content = Vec::new();
        file.take(SMALL_BYTES_MAX).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// A file without a final name.
    pub(super) fn temporary(&self) -> io::Result<Temporary> {
        loop {
            let (path, file) = self.new_file()?;
            file.lock()?; // until it is closed; see `delete_abandoned`
            if file.metadata()?.nlink() > 0 {
                return Ok(Temporary { file, path });
            }
            // Another process took it for abandoned before it was locked.
        }
    }

    fn new_file(&self) -> io::Result<(PathBuf, File)> {
        let number = getrandom::u64().map_err(io::Error::other)?;
        let path = self.root.join(format!("tmp/{number:016x}"));
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok((path, file))
    }

    /// Gives a verified file its final name and opens it for reading.
    pub(super) fn publish(&self, new: Temporary, kind: Kind, name: &Name) -> io::Result<File> {
        let path = self.path(kind, name);
        let folder = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(folder)?;
        new.file.set_permissions(Permissions::from_mode(0o444))?;
        if !kind.checks_itself() {
            new.file.sync_all()?;
        }
        // A crash before this line leaves a temporary file, after it a verified one; either is
        // whole. That the name may be lost with the power costs a download and nothing else.
        fs::rename(&new.path, &path)?;
        File::open(path)
    }

    /// Keeps a small verified text.
    pub(super) fn put(&self, kind: Kind, name: &Name, content: &[u8]) -> io::Result<File> {
        let mut new = self.temporary()?;
        new.file.write_all(content)?;
        self.publish(new, kind, name)
    }

    /// Has a sentence told to a person.
    pub(super) fn tell(&self, sentence: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX {
            told.push(sentence);
        }
        drop(told);
        self.bell.notify_one();
    }

    /// The sentences that nobody has taken yet.
    pub(super) fn take_told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Bytes of all files with a final name.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(self.files()?.iter().map(|file| file.bytes).sum())
    }

    /// Deletes the files that were not used for longest until at most `bytes_max` are left, but
    /// none of `in_use`.
    pub(super) fn shrink(&self, bytes_max: u64, in_use: &HashSet<Name>) -> io::Result<()> {
        let mut files = self.files()?;
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        files.sort_by_key(|file| file.used);
        for file in files {
            if bytes <= bytes_max {
                break;
            }
            let name = file.path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| in_use.contains(name)) {
                continue;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => bytes -= file.bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => bytes -= file.bytes,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn files(&self) -> io::Result<Vec<CachedFile>> {
        let mut files = Vec::new();
        for kind in Kind::ALL {
            let Ok(folders) = fs::read_dir(self.root.join(kind.folder())) else {
                continue;
            };
            for folder in folders {
                for entry in fs::read_dir(folder?.path())? {
                    let entry = entry?;
                    // Gone since: another process has cleaned up.
                    let Ok(metadata) = entry.metadata() else {
                        continue;
                    };
                    let used = metadata.modified()?;
                    files.push(CachedFile {
                        path: entry.path(),
                        bytes: metadata.len(),
                        used,
                    });
                }
            }
        }
        Ok(files)
    }
}

pub(super) struct CachedFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    used: SystemTime,
}

/// A file that is deleted unless it is published.
#[derive(Debug)]
pub(super) struct Temporary {
    /// Its content.
    pub(super) file: File,
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After `publish` there is nothing under this name any more.
        let _gone = fs::remove_file(&self.path);
    }
}

impl TileCache for Cache {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.get_small(Kind::Tile, &name_of(name)).ok().flatten()
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        // A tile that cannot be kept is fetched again.
        if let Err(error) = self.put(Kind::Tile, &name_of(name), bytes) {
            tracing::warn!(%error, "cannot keep a tile of the checksum database");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        (folder, cache)
    }

    #[test]
    fn a_file_has_its_name_only_after_it_was_published() {
        let (folder, cache) = cache();
        let name = name_of("x");
        let mut new = cache.temporary().unwrap();
        new.file.write_all(b"content").unwrap();
        assert!(cache.get(Kind::Zip, &name).unwrap().is_none());
        cache.publish(new, Kind::Zip, &name).unwrap();
        assert_eq!(
            cache.get_small(Kind::Zip, &name).unwrap().unwrap(),
            b"content"
        );
        assert!(cache.get(Kind::GoMod, &name).unwrap().is_none());
        drop(cache.temporary().unwrap());
        assert_eq!(fs::read_dir(folder.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn what_a_crash_left_is_deleted_and_what_is_in_work_is_not() {
        let (folder, cache) = cache();
        let in_work = cache.temporary().unwrap();
        File::create(folder.path().join("tmp/1-1")).unwrap();
        Cache::open(folder.path()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path().join("tmp")).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].as_ref().unwrap().path(), in_work.path);
    }

    #[test]
    fn the_least_recently_used_file_goes_first_and_one_in_use_stays() {
        let (_folder, cache) = cache();
        let names: Vec<_> = ["a", "b", "c"].iter().map(|text| name_of(text)).collect();
        for (age, name) in names.iter().enumerate() {
            let file = cache.put(Kind::Zip, name, &[0; 100]).unwrap();
            let hours = Duration::from_secs(3600 * (10 - age as u64));
            file.set_modified(SystemTime::now() - hours).unwrap();
        }
        assert_eq!(cache.bytes().unwrap(), 300);
        cache.get(Kind::Zip, &names[1]).unwrap().unwrap(); // the newest now
        cache
            .shrink(250, &HashSet::from([names[0].clone()]))
            .unwrap();
        let there = |at: usize| cache.path(Kind::Zip, &names[at]).exists();
        assert_eq!([there(0), there(1), there(2)], [true, true, false]);
        cache.shrink(0, &HashSet::new()).unwrap();
        assert_eq!(cache.bytes().unwrap(), 0);
    }
}
