//! Copies a tree that somebody else wrote into files of our own, and hashes what was copied.
//!
//! Called in a worker process for SDKs and frozen caches. Walks by descriptor, one name at a time:
//! no link is followed, nothing outside the tree is opened, nothing but regular files with one name
//! and folders is accepted. What was hashed is what was written, whatever the writer still does.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    dir::Dir,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::{
        stat::{Mode, SFlag, fchmod, fstat, futimens, mkdirat},
        time::TimeSpec,
    },
};
use sha2::{Digest as _, Sha256};

use super::{At as _, StoreError};

/// Deepest folder; an SDK has 14.
pub(super) const DEPTH_MAX: usize = 32;
/// Most files and folders; an SDK has 17,000, a frozen cache 3,000.
const ENTRIES_MAX: usize = 100_000;
/// Most bytes of all files; an SDK has 270 MB, a frozen cache 170 MB.
const BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Longest path.
const PATH_BYTES_MAX: usize = 1024;

/// A file that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

/// What becomes of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Take {
    /// Copied with this mode; a folder's mode is ours.
    With(u32),
    /// Left behind.
    Skip,
    /// Not expected there: the whole tree is refused.
    Refuse,
}

/// How a tree is copied.
pub(super) struct Rules {
    /// Decides by path; `true` for folders.
    pub(super) take: fn(&str, bool) -> Take,
    /// Time of change that every file gets.
    pub(super) modified_s: Option<i64>,
}

struct Walk<'a> {
    rules: &'a Rules,
    entries: Vec<Entry>,
    seen: usize,
    bytes: u64,
    buffer: Vec<u8>,
}

/// Copies everything below `from` into the empty folder `to`.
pub(super) fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    rules: &Rules,
) -> Result<Vec<Entry>, StoreError> {
    let mut walk = Walk {
        rules,
        entries: Vec::new(),
        seen: 0,
        bytes: 0,
        buffer: vec![0; 256 * 1024],
    };
    walk.folder(from, to, "", 0)?;
    Ok(walk.entries)
}

fn refuse<T>(path: &str, why: &str) -> Result<T, StoreError> {
    Err(StoreError::Tree {
        path: path.to_owned(),
        why: why.to_owned(),
    })
}

/// Opens one name of a folder without following anything.
pub(super) fn open_beneath(at: BorrowedFd<'_>, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    openat2(at, name, how)
}

impl Walk<'_> {
    fn folder(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        path: &str,
        depth: usize,
    ) -> Result<(), StoreError> {
        if depth > DEPTH_MAX {
            return refuse(path, "lies too deep");
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(from, ".", flags, Mode::empty())
            .at(path)?
            .iter()
        {
            let entry = entry.at(path)?;
            let Ok(name) = entry.file_name().to_str() else {
                return refuse(path, "holds a name that is not UTF-8");
            };
            if name != "." && name != ".." {
                self.seen += 1;
                if self.seen > ENTRIES_MAX {
                    return refuse(path, "has too many files");
                }
                names.push(name.to_owned());
            }
        }
        for name in names {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}/{name}")
            };
            if path.len() > PATH_BYTES_MAX || name.contains(char::is_control) {
                return refuse(&path, "has a name that is too long or not text");
            }
            self.entry(from, to, &name, &path, depth)?;
        }
        fchmod(to, Mode::from_bits_truncate(0o555)).at(path)
    }

    fn entry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &str,
        path: &str,
        depth: usize,
    ) -> Result<(), StoreError> {
        // Opened once; everything below is asked of the descriptor. A pipe must not block us.
        let source = open_beneath(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK).at(path)?;
        let stat = fstat(&source).at(path)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let folder = kind == SFlag::S_IFDIR;
        if !folder && (kind != SFlag::S_IFREG || stat.st_nlink != 1) {
            return refuse(path, "is no regular file with one name");
        }
        match (self.rules.take)(path, folder) {
            Take::Skip => Ok(()),
            Take::Refuse => refuse(path, "does not belong there"),
            Take::With(_) if folder => {
                mkdirat(to, name, Mode::from_bits_truncate(0o700)).at(path)?;
                let target = open_beneath(to, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
                let target = target.at(path)?;
                self.folder(source.as_fd(), target.as_fd(), path, depth + 1)
            }
            Take::With(mode) => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                let target = openat(to, name, flags, Mode::from_bits_truncate(0o600)).at(path)?;
                self.file(source, target, path, mode)
            }
        }
    }

    fn file(
        &mut self,
        source: OwnedFd,
        target: OwnedFd,
        path: &str,
        mode: u32,
    ) -> Result<(), StoreError> {
        let (mut source, mut target) = (File::from(source), File::from(target));
        let mut sha256 = Sha256::new();
        let mut bytes = 0_u64;
        loop {
            let count = source.read(&mut self.buffer).at(path)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            self.bytes += count as u64;
            if self.bytes > BYTES_MAX {
                return refuse(path, "makes the tree too large");
            }
            sha256.update(&self.buffer[..count]);
            target.write_all(&self.buffer[..count]).at(path)?;
        }
        if let Some(seconds) = self.rules.modified_s {
            let time = TimeSpec::new(seconds, 0);
            futimens(&target, &time, &time).at(path)?;
        }
        fchmod(&target, Mode::from_bits_truncate(mode)).at(path)?;
        self.entries.push(Entry {
            path: path.to_owned(),
            mode,
            bytes,
            sha256: sha256.finalize().into(),
        });
        Ok(())
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
