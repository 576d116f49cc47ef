//! Files that are there completely or not at all.
//!
//! Every write goes to a temporary file in the same folder, is synced, gets its name by a rename or
//! a link, and the folder is synced. A crash leaves the old state or the new one, and perhaps a
//! temporary file (`.NAME.HEX.tmp`), which [`remove_leftovers`] takes away. A failed sync is final:
//! the page cache may have dropped the bytes, so nobody may retry on the same descriptor; here the
//! temporary file is removed and the caller is told.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::spec::hex;

/// Mode of files that anybody may read.
pub const PUBLIC: u32 = 0o644;
/// Mode of files that never change.
pub const IMMUTABLE: u32 = 0o444;
/// Mode of files that hold a secret.
pub const SECRET: u32 = 0o600;
/// Mode of programs.
pub const PROGRAM: u32 = 0o755;

/// A file was not written.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// Nothing has the final name that was not there before.
    #[error("cannot write `{}`", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is a file of this name already; it was not touched.
    #[error("`{}` is there already", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// There is a file of this name with other bytes; it was not touched.
    #[error("`{}` has other bytes than it must have", path.display())]
    Differs {
        /// Which file.
        path: PathBuf,
    },
}

/// A file that has no final name yet; removed when dropped.
#[derive(Debug)]
pub struct Staged {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Staged {
    /// Opens an empty file beside the final `path`. It is secret until it gets its name.
    pub fn new(path: &Path) -> Result<Self, DurableError> {
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| at(path)(io::Error::other(error)))?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| at(path)(io::ErrorKind::InvalidFilename.into()))?;
        let temporary = path.with_file_name(format!(".{name}.{}.tmp", hex(&suffix)));
        let options = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(SECRET)
            .clone();
        let file = options.open(&temporary).map_err(at(path))?;
        Ok(Self {
            file,
            temporary,
            path: path.to_owned(),
        })
    }

    /// Gives the file its mode and name; an older file of this name is replaced.
    /// A crash leaves the older file or the new one.
    pub fn replace(self, mode: u32) -> Result<(), DurableError> {
        self.sync(mode)?;
        fs::rename(&self.temporary, &self.path).map_err(at(&self.path))?;
        sync_parent(&self.path)
    }

    /// Gives the file its mode and name if no file has it. A crash leaves no file or the new one,
    /// and perhaps its temporary name as a second link.
    pub fn create(self, mode: u32) -> Result<(), DurableError> {
        self.sync(mode)?;
        match fs::hard_link(&self.temporary, &self.path) {
            Ok(()) => sync_parent(&self.path), // dropping self removes the temporary name
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(DurableError::Exists {
                    path: self.path.clone(),
                })
            }
            Err(error) => Err(at(&self.path)(error)),
        }
    }

    fn sync(&self, mode: u32) -> Result<(), DurableError> {
        let done = || {
            self.file.set_permissions(Permissions::from_mode(mode))?;
            self.file.sync_all()
        };
        done().map_err(at(&self.path))
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; a leftover is harmless.
        let _gone = fs::remove_file(&self.temporary);
    }
}

/// Writes a file that must not be there yet.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    staged(path, bytes)?.create(mode)
}

/// Writes a file, or replaces it as a whole.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    staged(path, bytes)?.replace(mode)
}

/// Writes a file that never changes; one that is there already must have the same bytes.
pub fn create_or_compare(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    match write_new(path, bytes, mode) {
        Err(DurableError::Exists { .. }) => {}
        other => return other,
    }
    let same = match read_bounded(path, bytes.len()) {
        Ok(there) => there.is_some_and(|there| there == bytes),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => false,
        Err(error) => return Err(at(path)(error)),
    };
    if same {
        Ok(())
    } else {
        Err(DurableError::Differs {
            path: path.to_owned(),
        })
    }
}

fn staged(path: &Path, bytes: &[u8]) -> Result<Staged, DurableError> {
    let mut staged = Staged::new(path)?;
    staged.write_all(bytes).map_err(at(path))?;
    Ok(staged)
}

/// Reads a file of at most `bytes_max` bytes; nothing when there is none.
pub fn read_bounded(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    let fits = bytes.len() <= bytes_max;
    if fits {
        Ok(Some(bytes))
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

/// Creates a folder and all that are missing above it, each synced into its parent.
pub fn create_folder(path: &Path, mode: u32) -> Result<(), DurableError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        create_folder(parent, mode)?;
    }
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(at(path)(error)),
        Ok(()) => sync_parent(path),
    }
}

/// Removes temporary files that a crash left in a folder. No other process may be writing there.
pub fn remove_leftovers(folder: &Path) -> Result<(), DurableError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

/// Bytes that a disk writes as a whole or not at all; none in use has smaller sectors.
pub const SECTOR_BYTES: usize = 512;

/// A short text that is overwritten in place: one sync for each, where [`replace`] needs two.
///
/// A power cut leaves the older text or the new one, as a sector is never written in part (SQLite
/// trusts in the same, <https://www.sqlite.org/psow.html>).
#[derive(Debug)]
pub struct Sector {
    file: File,
    path: PathBuf,
}

impl Sector {
    /// Opens a file that is there; nothing when there is none.
    pub fn open(path: &Path) -> Result<Option<Self>, DurableError> {
        let path = path.to_owned();
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Ok(Some(Self { file, path })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// What a new file must hold: `text`, filled up with newlines.
    ///
    /// # Panics
    /// When the text is longer than a sector: whoever writes one knows its parts.
    #[must_use]
    pub fn image(text: &str) -> [u8; SECTOR_BYTES] {
        let mut image = [b'\n'; SECTOR_BYTES];
        image[..text.len()].copy_from_slice(text.as_bytes());
        image
    }

    /// The text without what fills it up; nothing when it is longer, or no text.
    pub fn read(&self) -> Result<Option<String>, DurableError> {
        let mut bytes = [0; SECTOR_BYTES + 1];
        let mut filled = 0;
        loop {
            let read = self.file.read_at(&mut bytes[filled..], filled as u64);
            match read.map_err(at(&self.path))? {
                0 => break,
                count => filled += count,
            }
        }
        let text = std::str::from_utf8(&bytes[..filled]).ok();
        let text = text.filter(|_| filled <= SECTOR_BYTES);
        Ok(text.map(|text| format!("{}\n", text.trim_end_matches('\n'))))
    }

    /// Overwrites the text, durably. After an error either text may be there, and what is read is
    /// not what a disk has: write again, or believe nothing.
    pub fn write(&self, text: &str) -> Result<(), DurableError> {
        let written = self.file.write_all_at(&Self::image(text), 0);
        written
            .and_then(|()| self.file.sync_data())
            .map_err(at(&self.path))
    }
}

/// Syncs a file that others write, and its name: after a kill, what was written is there to be read
/// and may be nowhere but in the page cache.
pub fn sync(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|file| file.sync_data())
        .map_err(at(path))?;
    sync_parent(path)
}

/// Syncs the folder of a file, so that its name survives.
fn sync_parent(path: &Path) -> Result<(), DurableError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = parent.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DurableError + '_ {
    move |source| DurableError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(name)
            .map(Result::unwrap)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_written_once_and_then_only_replaced_on_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"one", SECRET).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            SECRET
        );
        let again = write_new(&path, b"two", PUBLIC);
        assert!(matches!(again, Err(DurableError::Exists { .. })));
        create_or_compare(&path, b"one", PUBLIC).unwrap();
        for other in ["", "two", "one and more"] {
            let differs = create_or_compare(&path, other.as_bytes(), PUBLIC);
            assert!(
                matches!(differs, Err(DurableError::Differs { .. })),
                "{other}"
            );
            assert_eq!(fs::read(&path).unwrap(), b"one");
        }
        replace(&path, b"three", PUBLIC).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn a_dropped_file_leaves_nothing_and_leftovers_go() {
        let folder = tempfile::tempdir().unwrap();
        let mut staged = Staged::new(&folder.path().join("a")).unwrap();
        staged.write_all(b"half").unwrap();
        assert_eq!(names(folder.path()).len(), 1);
        drop(staged);
        assert_eq!(names(folder.path()), [""; 0]);
        let leftover = Staged::new(&folder.path().join("a")).unwrap();
        std::mem::forget(leftover);
        write_new(&folder.path().join("b"), b"", PUBLIC).unwrap();
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names(folder.path()), ["b"]);
    }

    #[test]
    fn a_folder_that_is_a_file_or_missing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"", PUBLIC).unwrap();
        assert!(create_folder(&path.join("b"), 0o700).is_err());
        assert!(write_new(&folder.path().join("no/such"), b"", PUBLIC).is_err());
        create_folder(&folder.path().join("x/y/z"), 0o700).unwrap();
        create_folder(&folder.path().join("x/y/z"), 0o700).unwrap();
    }

    #[test]
    fn a_sector_keeps_its_length_and_gives_back_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(Sector::open(&path).unwrap().is_none());
        write_new(&path, &Sector::image("one\n"), SECRET).unwrap();
        let sector = Sector::open(&path).unwrap().unwrap();
        for text in ["longer than one\n2\n", "x\n"] {
            sector.write(text).unwrap();
            assert_eq!(sector.read().unwrap().unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().len(), SECTOR_BYTES as u64);
        }
        let damages = [&b"\xff\n"[..], &[b'x'; SECTOR_BYTES + 1], b""];
        for (damage, text) in damages.into_iter().zip([None, None, Some("\n")]) {
            replace(&path, damage, SECRET).unwrap();
            let sector = Sector::open(&path).unwrap().unwrap();
            assert_eq!(sector.read().unwrap().as_deref(), text);
        }
    }

    #[test]
    fn reading_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read_bounded(&path, 3).unwrap(), None);
        write_new(&path, b"four", PUBLIC).unwrap();
        assert_eq!(read_bounded(&path, 4).unwrap().unwrap(), b"four");
        let error = read_bounded(&path, 3).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
