//! Cached files are read again: before each use, a part of them every minute, all on request.
//!
//! A go.mod and a zip are named by their hash, so each proves itself; a zip must also be, byte for
//! byte, the canonical form of what it holds. Records and tiles of the checksum database are only
//! compared with the disk, as whoever uses them checks them. What differs is put away under
//! `quarantine`, with a reason beside it, and never used again: the next use fetches it afresh.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use hotcell_sandbox::{
    direct::{Reader, Uncached},
    wire::Check,
};
use sha2::{Digest as _, Sha256};

use super::cache::{Cache, Kind};
use crate::{
    modzip::{Archive, ZipError, h1_of_go_mod, rewrite},
    spec::hex,
};

/// How often a part of the cache is read.
pub(super) const ROUND_EVERY: Duration = Duration::from_secs(60);
/// So many rounds read everything once: a day, as the supervisor does with its store.
const ROUNDS: u64 = 24 * 60;
/// Folder of what differs.
const QUARANTINE: &str = "quarantine";
/// Files that are kept as evidence; later ones leave their reason only.
const KEPT_MAX: usize = 100;
/// Sentences that are told; more files than these mean one cause.
const TOLD_MAX: usize = 100;
/// Longest reason that is read back.
const REASON_BYTES_MAX: u64 = 4096;

/// What reading a file has shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Every byte is what it was; the reason why only the page cache was read, if so.
    Sound(Option<&'static str>),
    /// Another file than the one that was kept.
    Differs(String),
}

/// What a check of many files has shown.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) check: Check,
    /// One sentence for each file that was put away.
    pub(super) put_away: Vec<String>,
}

/// Whether an open file is what its name says. The file's position is at its start afterwards.
pub(super) fn is_named(kind: Kind, name: &str, mut file: &File) -> io::Result<bool> {
    file.rewind()?;
    let same = match kind {
        Kind::GoMod => {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            h1_of_go_mod(&content).hex() == name
        }
        Kind::Zip => match canonical_hash(file) {
            Ok(hash) => hash.is_some_and(|hash| hash == name),
            // Ends too early, or the disk cannot give it back; anything else is our own trouble.
            Err(ZipError::Read(error)) if !is_lost(&error) => return Err(error),
            Err(_) => false,
        },
        Kind::Sums | Kind::Tile => true,
    };
    file.rewind()?;
    Ok(same)
}

fn is_lost(error: &io::Error) -> bool {
    let number = error.raw_os_error();
    error.kind() == io::ErrorKind::UnexpectedEof || number == Some(libc::EIO)
}

/// The hash of a canonical zip; nothing when the file is not exactly that.
fn canonical_hash(file: &File) -> Result<Option<String>, ZipError> {
    let Some(prefix) = prefix_of(file).map_err(ZipError::Read)? else {
        return Ok(None);
    };
    let archive = Archive::open(file, &prefix)?;
    let length = file.metadata().map_err(ZipError::Read)?.len();
    let mut same = Same {
        file,
        at: 0,
        buffer: Vec::new(),
    };
    let hashed = rewrite(&archive, &mut same)?;
    Ok((same.at == length).then(|| hashed.h1.hex()))
}

/// `<module>@<version>/`, from the name of the first entry (APPNOTE 4.3.7).
fn prefix_of(file: &File) -> io::Result<Option<String>> {
    const HEADER_BYTES: usize = 30;
    let mut head = vec![0; HEADER_BYTES + crate::modzip::NAME_BYTES_MAX];
    let count = file.read_at(&mut head, 0)?;
    let length = usize::from(u16::from_le_bytes([head[26], head[27]]));
    let name = head[..count].get(HEADER_BYTES..HEADER_BYTES + length);
    let name = name.and_then(|name| std::str::from_utf8(name).ok());
    Ok(name.and_then(|name| {
        let version = name.find('@')?;
        let slash = name[version..].find('/')?;
        Some(name[..=version + slash].to_owned())
    }))
}

/// Takes exactly the bytes that a file has.
struct Same<'a> {
    file: &'a File,
    at: u64,
    buffer: Vec<u8>,
}

impl Write for Same<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.resize(bytes.len(), 0);
        self.file.read_exact_at(&mut self.buffer, self.at)?;
        if self.buffer != bytes {
            return Err(io::Error::other("not the canonical form"));
        }
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a file through the page cache and past it.
fn verify(kind: Kind, name: &str, file: &File, reader: &mut Reader) -> io::Result<Verdict> {
    let named = is_named(kind, name, file)?;
    let mut cached = Sha256::new();
    io::copy(&mut &*file, &mut Hashing(&mut cached))?;
    let mut disk = Sha256::new();
    let past = reader.read(file, |part| disk.update(part))?;
    let same = match past {
        Uncached::Not(why) if named => return Ok(Verdict::Sound(Some(why))),
        Uncached::Not(_) => true,
        Uncached::Read => cached.finalize() == disk.finalize(),
    };
    Ok(match (named, same) {
        (true, true) => Verdict::Sound(None),
        (false, true) => Verdict::Differs("has other bytes than its name says".to_owned()),
        (_, false) => Verdict::Differs("has other bytes in the page cache than on disk".to_owned()),
    })
}

struct Hashing<'a>(&'a mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Cache {
    /// Reads the files after `cursor`, in the order of their paths, until a day's share of all
    /// bytes was read; moves the cursor.
    pub(super) fn check_part(&self, cursor: &mut PathBuf) -> io::Result<Round> {
        let mut files = self.files()?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let all: u64 = files.iter().map(|file| file.bytes).sum();
        let first = files.partition_point(|file| file.path <= *cursor);
        files.rotate_left(first);
        let mut bytes = 0;
        let end = files.iter().position(|file| {
            let full = bytes > all / ROUNDS;
            bytes += file.bytes;
            full
        });
        files.truncate(end.unwrap_or(files.len()));
        if let Some(last) = files.last() {
            cursor.clone_from(&last.path);
        }
        let paths: Vec<PathBuf> = files.into_iter().map(|file| file.path).collect();
        self.check_files(&paths)
    }

    /// Reads every file.
    pub(super) fn check_all(&self) -> io::Result<Round> {
        let paths: Vec<PathBuf> = self.files()?.into_iter().map(|file| file.path).collect();
        self.check_files(&paths)
    }

    fn check_files(&self, paths: &[PathBuf]) -> io::Result<Round> {
        let mut round = Round::default();
        let mut reader = Reader::default();
        for path in paths {
            let Some((kind, name)) = Self::kind_and_name(path) else {
                continue;
            };
            let Ok(file) = File::open(path) else {
                continue; // gone since: another process has cleaned up
            };
            let bytes = file.metadata()?.len();
            match verify(kind, &name, &file, &mut reader)? {
                Verdict::Sound(not_past) => {
                    round.check.files += 1;
                    round.check.bytes += bytes;
                    if let Some(why) = not_past {
                        let first = || why.to_owned();
                        round.check.not_past_cache.get_or_insert_with(first);
                    }
                }
                Verdict::Differs(why) => round.put_away.push(self.put_away(kind, &name, &why)?),
            }
        }
        Ok(round)
    }

    /// Takes a file out of the cache for good and says so; returns the sentence.
    pub(super) fn put_away(&self, kind: Kind, name: &str, why: &str) -> io::Result<String> {
        let from = self.path(kind, name);
        let sentence = format!("`{}` of the module cache {why}", short(&from));
        let folder = self.root().join(QUARANTINE);
        fs::create_dir_all(&folder)?;
        let to = folder.join(format!("{}-{name}", kind.folder()));
        let mut reason = File::create(to.with_extension("reason"))?;
        reason.write_all(sentence.as_bytes())?;
        reason.sync_all()?; // first: a file without its name is fetched again, a reason stays
        let kept = fs::read_dir(&folder)?.count() / 2;
        let moved = if kept <= KEPT_MAX {
            fs::rename(&from, &to)
        } else {
            fs::remove_file(&from)
        };
        match moved {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for changed in [from.parent(), Some(&*folder)].into_iter().flatten() {
            File::open(changed)?.sync_all()?;
        }
        self.tell(sentence.clone());
        Ok(sentence)
    }

    /// Tells again what earlier processes have put away.
    pub(super) fn tell_put_away(&self) -> io::Result<()> {
        let entries = match fs::read_dir(self.root().join(QUARANTINE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let reasons = paths.filter(|path| path.extension().is_some_and(|it| it == "reason"));
        for path in reasons.take(TOLD_MAX) {
            let mut text = String::new();
            let read = File::open(&path)?
                .take(REASON_BYTES_MAX)
                .read_to_string(&mut text);
            let unread = || format!("`{}` was put away", path.display());
            self.tell(read.map_or_else(|_| unread(), |_| text));
        }
        Ok(())
    }

    fn kind_and_name(path: &Path) -> Option<(Kind, String)> {
        let name = path.file_name()?.to_str()?;
        let folder = path.parent()?.parent()?.file_name()?.to_str()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.folder() == folder)?;
        Some((kind, name.to_owned()))
    }
}

/// The last parts of a path: kind and name.
fn short(path: &Path) -> String {
    let parts: Vec<_> = path.components().rev().take(3).collect();
    let parts: PathBuf = parts.into_iter().rev().collect();
    parts.display().to_string()
}

/// A place in the order of paths that nobody can foresee: a service that is often restarted does
/// not read the same part again and again.
pub(super) fn random_cursor(root: &Path) -> PathBuf {
    let number = getrandom::u64().unwrap_or_default().to_be_bytes();
    let kind = Kind::ALL[usize::from(number[0]) % Kind::ALL.len()];
    let digits = hex(&number[1..]);
    root.join(kind.folder()).join(&digits[..2]).join(digits)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
