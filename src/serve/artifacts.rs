//! Binaries on disk, named by their SHA-256, and their compressed form.
//!
//! The queue stages a file for the executor and adopts it; downloads open what is there. A file has
//! its final name only after its bytes were copied, hashed and synced, and is never changed again.
//! What is left in `incoming/` after a crash belongs to no build and is removed at start.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

use crate::spec::hex;

/// Bytes read at a time; a compromise between calls and memory.
const CHUNK: usize = 64 * 1024;

/// A binary could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file has other bytes than the build said; it was deleted.
    #[error("the binary has SHA-256 {found}, the build said {said}")]
    Differs {
        /// What was found.
        found: String,
        /// What was said.
        said: String,
    },
    /// Nothing has its final name that is not complete.
    #[error("cannot use the binary at `{}`", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The folder of all binaries; cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: Arc<PathBuf>,
    room_min: u64,
    /// One compression at a time; who wants the same file finds it when its turn comes.
    compressing: Arc<Mutex<()>>,
}

/// A file that a build writes to; removed when dropped.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // A copy that was installed has moved away; a leftover is removed at the next start.
        let _gone = fs::remove_file(&self.path);
    }
}

/// A binary to be read, with its length.
#[derive(Debug)]
pub struct Opened {
    /// Read only.
    pub file: File,
    /// In bytes.
    pub bytes: u64,
}

impl Artifacts {
    /// Opens the folder, creates what is missing, empties what a crash left. Builds begin only
    /// while its file system has `room_min` free bytes.
    pub fn open(folder: &Path, room_min: u64) -> Result<Self, ArtifactError> {
        let incoming = folder.join("incoming");
        fs::create_dir_all(&incoming).map_err(at(&incoming))?;
        for entry in fs::read_dir(&incoming).map_err(at(&incoming))? {
            let path = entry.map_err(at(&incoming))?.path();
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(Self {
            folder: Arc::new(folder.to_owned()),
            room_min,
            compressing: Arc::default(),
        })
    }

    /// Free bytes of the file system, when there are too few for another build: its binary and its
    /// entry in the log are to fit, and the disk is not ours alone.
    pub fn lacks_room(&self) -> Result<Option<u64>, ArtifactError> {
        let (free, _) = self.space()?;
        Ok((free < self.room_min).then_some(free))
    }

    /// Free bytes of the file system, and all.
    pub fn space(&self) -> Result<(u64, u64), ArtifactError> {
        let stat = nix::sys::statvfs::statvfs(self.folder.as_path());
        let stat = stat.map_err(|error| at(&self.folder)(error.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
        Ok((bytes(stat.blocks_available()), bytes(stat.blocks())))
    }

    /// A new empty file for job `job`.
    pub fn stage(&self, job: u64) -> Result<(Staged, File), ArtifactError> {
        let path = self.folder.join("incoming").join(job.to_string());
        // A file of the same job is that of an attempt which was ended; nobody reads it.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        Ok((Staged { path }, file))
    }

    /// Copies a staged file while hashing it, makes the copy durable, gives it its final name.
    ///
    /// A copy, because the staged file's descriptor is in the hands of the role that wrote it.
    /// A crash before the rename leaves a file in `incoming/`; after it, a complete binary that a
    /// later build of the same bytes finds in place.
    pub fn adopt(&self, staged: &Staged, sha256: [u8; 32]) -> Result<(), ArtifactError> {
        let own = Staged {
            path: staged.path.with_extension("own"),
        };
        let found = copy(&staged.path, &own.path).map_err(at(&own.path))?;
        if found != sha256 {
            return Err(ArtifactError::Differs {
                found: hex(&found),
                said: hex(&sha256),
            });
        }
        let path = self.path(&sha256);
        if path.exists() {
            Ok(())
        } else {
            install(&own.path, &path)
        }
    }

    /// Opens a binary, if it is still there.
    pub fn binary(&self, sha256: &[u8; 32]) -> Result<Option<Opened>, ArtifactError> {
        open(&self.path(sha256))
    }

    /// Opens the compressed form of a binary, if it was made already.
    pub fn compressed(&self, sha256: &[u8; 32]) -> Result<Option<Opened>, ArtifactError> {
        open(&self.path(sha256).with_extension("gz"))
    }

    /// Opens the compressed form of a binary; makes it, once, which takes seconds.
    pub fn gzip(&self, sha256: &[u8; 32]) -> Result<Option<Opened>, ArtifactError> {
        if let Some(opened) = self.compressed(sha256)? {
            return Ok(Some(opened));
        }
        let compressing = self.compressing.lock();
        let _one_at_a_time = compressing.unwrap_or_else(PoisonError::into_inner);
        let path = self.path(sha256).with_extension("gz");
        if let Some(opened) = open(&path)? {
            return Ok(Some(opened));
        }
        let Some(mut binary) = self.binary(sha256)? else {
            return Ok(None);
        };
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| at(&path)(io::Error::other(error)))?;
        let staged = Staged {
            path: self.folder.join("incoming").join(hex(&suffix)),
        };
        compress(&mut binary.file, &staged.path).map_err(at(&staged.path))?;
        install(&staged.path, &path)?;
        open(&path)
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        let name = hex(sha256);
        self.folder.join(&name[..2]).join(name)
    }
}

/// Moves a synced file to its final name and makes the name durable.
fn install(from: &Path, to: &Path) -> Result<(), ArtifactError> {
    let folder = to.parent().expect("a final name has a folder");
    let above = folder
        .parent()
        .expect("a folder of binaries lies in their root");
    fs::create_dir_all(folder).map_err(at(folder))?;
    fs::rename(from, to).map_err(at(to))?;
    for folder in [folder, above] {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(at(folder))?;
    }
    Ok(())
}

fn open(path: &Path) -> Result<Option<Opened>, ArtifactError> {
    match File::open(path) {
        Ok(file) => {
            let bytes = file.metadata().map_err(at(path))?.len();
            Ok(Some(Opened { file, bytes }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error)),
    }
}

/// Copies, syncs and hashes.
fn copy(from: &Path, to: &Path) -> io::Result<[u8; 32]> {
    let mut from = File::open(from)?;
    let mut to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o444)
        .open(to)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => break,
            read => {
                hasher.update(&chunk[..read]);
                to.write_all(&chunk[..read])?;
            }
        }
    }
    to.sync_all()?;
    Ok(hasher.finalize().into())
}

fn compress(from: &mut File, to: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(to)?;
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::default());
    io::copy(from, &mut gzip)?;
    let mut file = gzip.finish()?;
    file.flush()?;
    file.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ArtifactError + '_ {
    move |source| ArtifactError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn sha256(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    #[test]
    fn a_binary_gets_its_name_only_when_its_bytes_are_right() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path(), 0).unwrap();
        let good = sha256(b"binary");
        let (staged, mut file) = artifacts.stage(1).unwrap();
        file.write_all(b"binarx").unwrap();
        let refused = artifacts.adopt(&staged, good);
        assert!(
            matches!(refused, Err(ArtifactError::Differs { .. })),
            "{refused:?}"
        );
        assert!(artifacts.binary(&good).unwrap().is_none());

        let (staged, mut file) = artifacts.stage(1).unwrap();
        file.write_all(b"binary").unwrap();
        artifacts.adopt(&staged, good).unwrap();
        drop(staged);
        let mut opened = artifacts.binary(&good).unwrap().unwrap();
        let mut bytes = Vec::new();
        opened.file.read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.as_slice(), opened.bytes), (&b"binary"[..], 6));
        assert_eq!(
            fs::read_dir(folder.path().join("incoming"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn the_compressed_form_is_made_once_and_holds_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path(), 0).unwrap();
        let bytes = vec![7_u8; 200_000];
        let (staged, mut file) = artifacts.stage(1).unwrap();
        file.write_all(&bytes).unwrap();
        artifacts.adopt(&staged, sha256(&bytes)).unwrap();
        let sum = sha256(&bytes);
        assert!(artifacts.compressed(&sum).unwrap().is_none());
        let files = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| artifacts.gzip(&sum).unwrap().unwrap().file))
                .collect();
            all.into_iter()
                .map(|one| one.join().unwrap())
                .collect::<Vec<_>>()
        });
        // Who comes meanwhile gets the one file that is made, not another one in its place.
        let inode = |file: &File| file.metadata().unwrap().ino();
        assert!(files.iter().all(|file| inode(file) == inode(&files[0])));
        for _ in 0..2 {
            let gzip = artifacts.gzip(&sha256(&bytes)).unwrap().unwrap();
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(gzip.file)
                .read_to_end(&mut plain)
                .unwrap();
            assert!(plain == bytes && gzip.bytes < 10_000);
        }
        assert!(artifacts.gzip(&[0; 32]).unwrap().is_none());
    }

    #[test]
    fn what_a_crash_left_is_removed_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path(), 0).unwrap();
        let (staged, file) = artifacts.stage(9).unwrap();
        std::mem::forget((staged, file));
        drop(Artifacts::open(folder.path(), 0).unwrap());
        assert_eq!(
            fs::read_dir(folder.path().join("incoming"))
                .unwrap()
                .count(),
            0
        );
    }
}
