//! Is a tree still what its manifest says? Read through the page cache and, where the file system
//! can, past it.
//!
//! Called in a worker process, which ends with the check. Walks by descriptor and follows nothing.
//! Names, kinds, lengths and modes are what the kernel's own tables say; contents are read twice.
//! The manifest proves itself: an SDK's name is the hash over it, a frozen cache's digest as well.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, BorrowedFd},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::OFlag,
    sys::stat::{Mode, SFlag, fstat},
    unistd::geteuid,
};
use sha2::{Digest as _, Sha256};

use super::{
    Header, Kind, MANIFEST, Name, StoreError, adopt,
    copy::{DEPTH_MAX, Entry, open_beneath},
    hash1, lines,
};
use crate::{
    direct::{Reader, Uncached},
    policy::{hex, sha256_hex},
    wire::Check,
};

/// Longest manifest: 100,000 files with paths of some 200 bytes are 30 MB.
const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Mode of every folder.
const FOLDER_MODE: u32 = 0o555;

/// What a check found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Every byte is what was adopted.
    Sound(Check),
    /// The first difference, in a sentence without a full stop.
    Differs(String),
}

/// Why a check stops.
enum Stop {
    /// The tree is not what it was.
    Differs(String),
    /// The check cannot be made; says nothing about the tree.
    Failed(StoreError),
}

fn differs<T>(path: &str, what: &str) -> Result<T, Stop> {
    Err(Stop::Differs(format!("`{path}` {what}")))
}

/// A disk that cannot give back what it was given has lost it; everything else is our own trouble.
fn trouble(path: &str) -> impl Fn(io::Error) -> Stop {
    move |error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EIO | Errno::EUCLEAN | Errno::EBADMSG | Errno::ENOENT | Errno::ENODATA) => {
            Stop::Differs(format!("`{path}` cannot be read: {error}"))
        }
        _ => Stop::Failed(StoreError::Io {
            path: path.to_owned(),
            source: error,
        }),
    }
}

/// Reads a tree below the store's folder.
///
/// # Errors
/// When the check itself cannot be made.
pub(crate) fn verify(store: BorrowedFd<'_>, name: &Name) -> Result<Verdict, StoreError> {
    match Walk::new().tree(store, name) {
        Ok(check) => Ok(Verdict::Sound(check)),
        Err(Stop::Differs(why)) => Ok(Verdict::Differs(why)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

struct Walk {
    reader: Reader,
    buffer: Vec<u8>,
    /// What the manifest has and was not seen yet.
    left: BTreeMap<String, Entry>,
    check: Check,
}

impl Walk {
    fn new() -> Self {
        Self {
            reader: Reader::default(),
            buffer: vec![0; 256 * 1024],
            left: BTreeMap::new(),
            check: Check::default(),
        }
    }

    fn tree(mut self, store: BorrowedFd<'_>, name: &Name) -> Result<Check, Stop> {
        let kind = open_beneath(
            store,
            name.kind.word(),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        );
        let kind = kind.map_err(|errno| trouble(name.kind.word())(errno.into()))?;
        let title = format!("{}.{MANIFEST}", name.hex);
        let open = |what: &str, flags| {
            open_beneath(kind.as_fd(), what, flags).map_err(|errno| trouble(what)(errno.into()))
        };
        let manifest = File::from(open(&title, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?);
        self.manifest(name, &title, &manifest)?;
        let folder = open(&name.hex, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        self.folder(folder.as_fd(), "", 0)?;
        match self.left.pop_first() {
            None => Ok(self.check),
            Some((path, _)) => differs(&path, "is missing"),
        }
    }

    /// Reads the manifest and proves it by the tree's name or digest.
    fn manifest(&mut self, name: &Name, title: &str, file: &File) -> Result<(), Stop> {
        let mut text = Vec::new();
        let read = file.take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(trouble(title))?;
        let mut disk = Sha256::new();
        let past = self.reader.read(file, |part| disk.update(part));
        match past.map_err(trouble(title))? {
            Uncached::Not(why) => self.not_past(why),
            Uncached::Read if disk.finalize() == Sha256::digest(&text) => {}
            Uncached::Read => return differs(title, "is not on the disk what it is in memory"),
        }
        let Some((header, entries)) = parse(&text) else {
            return differs(title, "cannot be read");
        };
        let mut all: Vec<Entry> = entries;
        let digest = match name.kind {
            Kind::Sdk => hash1::hash1(&adopt::prefix(&header.title), &all),
            Kind::Std => sha256_hex(lines(&mut all).as_bytes()),
            Kind::Go => all.first().map_or_else(String::new, |go| hex(&go.sha256)),
        };
        let named =
            name.kind != Kind::Sdk || hash1::digest_hex(&digest).as_ref() == Some(&name.hex);
        if digest != header.digest || !named {
            return differs(title, "does not have the hash that it had");
        }
        let entries = all.into_iter().map(|entry| (entry.path.clone(), entry));
        self.left = entries.collect();
        Ok(())
    }

    fn not_past(&mut self, why: &str) {
        let first = || why.to_owned();
        self.check.not_past_cache.get_or_insert_with(first);
    }

    fn folder(&mut self, at: BorrowedFd<'_>, path: &str, depth: usize) -> Result<(), Stop> {
        if depth > DEPTH_MAX {
            return differs(path, "lies too deep");
        }
        let failed = |errno: Errno| trouble(path)(errno.into());
        let stat = fstat(at).map_err(failed)?;
        if stat.st_mode & 0o7777 != FOLDER_MODE || stat.st_uid != geteuid().as_raw() {
            return differs(path, "has another mode or owner");
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        let mut folder = Dir::openat(at, ".", flags, Mode::empty()).map_err(failed)?;
        for entry in folder.iter() {
            let entry = entry.map_err(failed)?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => return differs(path, "holds a name that is not UTF-8"),
            }
        }
        for name in names {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            self.entry(at, &name, &path, depth)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        at: BorrowedFd<'_>,
        name: &str,
        path: &str,
        depth: usize,
    ) -> Result<(), Stop> {
        let opened = match open_beneath(at, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(opened) => opened,
            Err(Errno::ELOOP | Errno::EXDEV | Errno::ENXIO) => {
                return differs(path, "is no regular file");
            }
            Err(errno) => return Err(trouble(path)(errno.into())),
        };
        let stat = fstat(&opened).map_err(|errno| trouble(path)(errno.into()))?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFDIR {
            return self.folder(opened.as_fd(), path, depth + 1);
        }
        let Some(entry) = self.left.remove(path) else {
            return differs(path, "was not there before");
        };
        if kind != SFlag::S_IFREG || stat.st_nlink != 1 {
            return differs(path, "is no regular file with one name");
        }
        if stat.st_mode & 0o7777 != entry.mode || stat.st_uid != geteuid().as_raw() {
            return differs(path, "has another mode or owner");
        }
        if u64::try_from(stat.st_size) != Ok(entry.bytes) {
            return differs(path, "has another length");
        }
        self.content(&File::from(opened), path, &entry)
    }

    /// Reads a file through the page cache, then the same descriptor past it.
    fn content(&mut self, mut file: &File, path: &str, entry: &Entry) -> Result<(), Stop> {
        let mut cached = Sha256::new();
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => cached.update(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(trouble(path)(error)),
            }
        }
        let cached = <[u8; 32]>::from(cached.finalize()) == entry.sha256;
        let mut disk = Sha256::new();
        let past = self.reader.read(file, |part| disk.update(part));
        let disk = match past.map_err(trouble(path))? {
            Uncached::Read => Some(<[u8; 32]>::from(disk.finalize()) == entry.sha256),
            Uncached::Not(why) => {
                self.not_past(why);
                None
            }
        };
        match (cached, disk) {
            (true, None | Some(true)) => {}
            (true, Some(false)) => return differs(path, "has other bytes on the disk only"),
            (false, Some(true)) => {
                return differs(path, "has other bytes in the page cache, not on the disk");
            }
            (false, None | Some(false)) => return differs(path, "has other bytes"),
        }
        self.check.files += 1;
        self.check.bytes += entry.bytes;
        Ok(())
    }
}

/// Reads back what [`Staged::publish`](super::Staged) wrote.
fn parse(manifest: &[u8]) -> Option<(Header, Vec<Entry>)> {
    let text = std::str::from_utf8(manifest).ok()?;
    let (first, rest) = text.split_once('\n')?;
    let header: Header = serde_json::from_str(first).ok()?;
    let mut entries = Vec::new();
    for line in rest.strip_suffix('\n')?.split('\n') {
        let mut fields = line.splitn(4, ' ');
        let sha256 = unhex(fields.next()?)?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        let bytes = fields.next()?.parse().ok()?;
        entries.push(Entry {
            path: fields.next()?.to_owned(),
            mode,
            bytes,
            sha256,
        });
    }
    // One form only: what does not print back to itself was not written by us.
    (lines(&mut entries) == rest).then_some((header, entries))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
