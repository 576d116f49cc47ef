//! Keeping of a go command that a cell without hostile input has made.
//!
//! Its tree is one folder with one file. Called in a worker of the supervisor. Must never keep a
//! program that would look for an interpreter, which no cell has, nor another one than is pinned.

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::FileExt as _,
    },
    path::Path,
};

use super::{
    At as _, Header, Name, Staged, StoreError,
    copy::{self, Rules, Take},
    lines,
};
use crate::policy::hex;

/// Name of the file; the one that `go build` was told.
pub(super) const FILE: &str = "go";
/// Program headers that are looked at; Go's linker writes 7.
const SEGMENTS_MAX: u16 = 64;

/// Copies the only file of `from` into the store.
///
/// # Errors
/// When there is anything else, it is not static, or not what `pinned` (SHA-256 in hex) says.
pub(crate) fn command(
    from: BorrowedFd<'_>,
    name: &Name,
    title: &str,
    pinned: Option<&str>,
) -> Result<(), StoreError> {
    let wrong = |why: &str| {
        Err(StoreError::Tree {
            path: title.to_owned(),
            why: why.to_owned(),
        })
    };
    let (staged, to) = Staged::new(name)?;
    let rules = Rules {
        take,
        modified_s: None,
    };
    let mut entries = copy::copy(from, to.as_fd(), &rules)?;
    let [entry] = &entries[..] else {
        return wrong("has no file");
    };
    if !is_static(&staged.folder.join(FILE))? {
        return wrong("is no static program");
    }
    let (digest, bytes) = (hex(&entry.sha256), entry.bytes);
    if let Some(pinned) = pinned
        && pinned != digest
    {
        return Err(StoreError::Hash {
            got: digest,
            wanted: pinned.to_owned(),
        });
    }
    let header = Header {
        title: title.to_owned(),
        digest,
        bytes,
        files: 1,
    };
    staged.publish(name, &header, &lines(&mut entries))
}

fn take(path: &str, folder: bool) -> Take {
    if path == FILE && !folder {
        Take::With(0o555)
    } else {
        Take::Refuse
    }
}

/// Whether a file is a 64-bit ELF program without interpreter and dynamic section (elf(5)).
fn is_static(path: &Path) -> Result<bool, StoreError> {
    const PT_DYNAMIC: u32 = 2;
    const PT_INTERP: u32 = 3;
    let file = File::open(path).at(path)?;
    let mut head = [0; 64];
    if file.read_exact_at(&mut head, 0).is_err() || !head.starts_with(b"\x7fELF\x02\x01") {
        return Ok(false);
    }
    let table = u64::from_le_bytes(head[32..40].try_into().expect("eight bytes"));
    let size = u16::from_le_bytes([head[54], head[55]]);
    let count = u16::from_le_bytes([head[56], head[57]]);
    if size != 56 || count == 0 || count > SEGMENTS_MAX {
        return Ok(false);
    }
    for index in 0..u64::from(count) {
        let mut kind = [0; 4];
        let at = table.checked_add(index * u64::from(size));
        let read = at.map(|at| file.read_exact_at(&mut kind, at).is_ok());
        let kind = u32::from_le_bytes(kind);
        if read != Some(true) || kind == PT_DYNAMIC || kind == PT_INTERP {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF head with these kinds of segments.
    fn program(kinds: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    fn judge(bytes: &[u8]) -> bool {
        use std::io::Write as _;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        is_static(file.path()).unwrap()
    }

    #[test]
    fn only_whole_programs_without_interpreter_are_static() {
        assert!(judge(&program(&[6, 1, 1])));
        assert!(!judge(&program(&[6, 3, 1])), "an interpreter");
        assert!(!judge(&program(&[6, 1, 2])), "a dynamic section");
        assert!(!judge(&program(&[])), "no segment");
        assert!(!judge(b"#!/bin/sh\n"));
        let cut = program(&[1, 1]);
        assert!(!judge(&cut[..100]), "cut off");
    }

    #[test]
    fn nothing_but_the_go_command_is_kept() {
        assert_eq!(take("go", false), Take::With(0o555));
        for (path, folder) in [("go", true), ("gofmt", false), ("linux_amd64/go", false)] {
            assert_eq!(take(path, folder), Take::Refuse, "{path}");
        }
    }
}
