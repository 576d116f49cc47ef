//! Archives that unpack elsewhere (class 6): hostile module zips, given to the reader of this
//! program. No cell can make them; whoever fetches modules meets them.

use std::{
    fs::File,
    io::{self, Write as _},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::{Attempt, Lock, Row, Verdict};
use crate::modzip;

/// Folder that all entries of a good zip lie in.
const PREFIX: &str = "selftest.example/m@v1.0.0/";

/// What is wrong with a zip.
struct Zip {
    names: &'static [&'static str],
    /// Upper half of the external attributes: the mode of a file on Unix.
    mode: u32,
    flags: u16,
    /// Added to the number of entries in the end record.
    more: u16,
    before: &'static [u8],
    after: &'static [u8],
}

const GOOD: Zip = Zip {
    names: &["go.mod"],
    mode: 0o100_644,
    flags: 0,
    more: 0,
    before: b"",
    after: b"",
};

const fn named(names: &'static [&'static str]) -> Zip {
    Zip { names, ..GOOD }
}

const ROWS: [(&str, &str, Zip); 14] = [
    (
        "archive-parent",
        "a name with `..`",
        named(&["../../../etc/evil"]),
    ),
    (
        "archive-middle",
        "a name with `..` in its middle",
        named(&["a/../../../evil"]),
    ),
    (
        "archive-absolute",
        "a name from the root",
        named(&["//etc/evil"]),
    ),
    (
        "archive-backslash",
        "a name with backslashes",
        named(&["..\\..\\evil"]),
    ),
    ("archive-drive", "a name with a drive", named(&["c:evil"])),
    ("archive-nul", "a name with a NUL", named(&["go.mod\0evil"])),
    ("archive-device", "the name of a device", named(&["aux.go"])),
    ("archive-dot", "a name that is a dot", named(&["./."])),
    (
        "archive-twice",
        "two entries with one name",
        named(&["a.go", "a.go"]),
    ),
    (
        "archive-case",
        "two names that differ in case only",
        named(&["a.go", "A.go"]),
    ),
    (
        "archive-within",
        "a file that is also a folder",
        named(&["a", "a/b"]),
    ),
    (
        "archive-symlink",
        "a symbolic link",
        Zip {
            mode: 0o120_777,
            ..GOOD
        },
    ),
    (
        "archive-encrypted",
        "an encrypted entry",
        Zip { flags: 1, ..GOOD },
    ),
    (
        "archive-count",
        "more entries than its end says",
        Zip { more: 1, ..GOOD },
    ),
];

const HIDDEN: [(&str, &str, Zip); 2] = [
    (
        "archive-front",
        "bytes before its first entry",
        Zip {
            before: b"evil",
            ..GOOD
        },
    ),
    (
        "archive-back",
        "bytes after its end",
        Zip {
            after: b"evil",
            ..GOOD
        },
    ),
];

/// Tries all of them.
///
/// # Errors
/// When the kernel makes no file.
pub(super) fn attempts() -> io::Result<Vec<Attempt>> {
    // Without this the refusals below would show nothing.
    let control = modzip::hash_zip(&write(&GOOD)?, PREFIX).is_ok();
    let mut all = Vec::new();
    for &(id, what, ref zip) in ROWS.iter().chain(&HIDDEN) {
        let row = Row {
            id,
            class: 6,
            lock: Lock::Nothing,
            what,
        };
        let judged = |verdict, by| Attempt::of(&row, verdict, by, "host");
        let read = modzip::hash_zip(&write(zip)?, PREFIX);
        all.push(match (control, read) {
            (false, _) => judged(Verdict::Unjudged, None).detail("a good zip is refused too"),
            // The only mode of an entry that is read is none: files are written anew.
            (true, Ok(_)) if zip.mode != GOOD.mode && is_plain(&rewritten(zip)?) => {
                judged(Verdict::Stopped, Some("zips are written anew"))
                    .detail("what is stored is a regular file")
            }
            (true, Ok(_)) => judged(Verdict::Escaped, None),
            (true, Err(error)) => {
                judged(Verdict::Stopped, Some("module zip checks")).detail(error.to_string())
            }
        });
    }
    for attempt in &mut all {
        attempt.what = format!("a module zip with {}", attempt.what);
    }
    Ok(all)
}

/// What is stored of a zip that is accepted.
fn rewritten(zip: &Zip) -> io::Result<Vec<u8>> {
    let file = write(zip)?;
    let mut out = Vec::new();
    let archive = modzip::Archive::open(&file, PREFIX).map_err(io::Error::other)?;
    modzip::rewrite(&archive, &mut out).map_err(io::Error::other)?;
    Ok(out)
}

/// Whether every entry of a zip's directory is a file without a mode, or a regular one.
fn is_plain(bytes: &[u8]) -> bool {
    const MODE_AT: usize = 40;
    let heads = bytes
        .windows(MODE_AT + 2)
        .filter(|part| part.starts_with(b"PK\x01\x02"));
    let kinds = heads.map(|part| u16::from_le_bytes([part[MODE_AT], part[MODE_AT + 1]]) >> 12);
    let kinds: Vec<u16> = kinds.collect();
    !kinds.is_empty() && kinds.iter().all(|kind| matches!(kind, 0 | 0o10))
}

/// Writes a zip of stored entries (APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16).
fn write(zip: &Zip) -> io::Result<File> {
    const TEXT: &[u8] = b"module m\n";
    let mut crc = flate2::Crc::new();
    crc.update(TEXT);
    let size = u32::try_from(TEXT.len()).map_err(io::Error::other)?;
    let (mut body, mut directory) = (zip.before.to_vec(), Vec::new());
    for name in zip.names {
        let name = format!("{PREFIX}{name}");
        let at = u32::try_from(body.len()).map_err(io::Error::other)?;
        let length = u16::try_from(name.len()).map_err(io::Error::other)?;
        let mut middle = Vec::new();
        middle.extend(zip.flags.to_le_bytes());
        middle.extend([0; 6]); // stored; no time
        middle.extend(crc.sum().to_le_bytes());
        middle.extend(size.to_le_bytes());
        middle.extend(size.to_le_bytes());
        middle.extend(length.to_le_bytes());
        middle.extend([0; 2]); // no extra field
        body.extend(b"PK\x03\x04\x14\x00");
        body.extend(&middle);
        body.extend(name.as_bytes());
        body.extend(TEXT);
        directory.extend(b"PK\x01\x02\x14\x03\x14\x00");
        directory.extend(&middle);
        directory.extend([0; 6]); // no comment, first disk, binary
        directory.extend((zip.mode << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let count = u16::try_from(zip.names.len()).map_err(io::Error::other)? + zip.more;
    let mut end = b"PK\x05\x06\x00\x00\x00\x00".to_vec();
    end.extend(count.to_le_bytes());
    end.extend(count.to_le_bytes());
    for number in [directory.len(), body.len()] {
        end.extend(
            u32::try_from(number)
                .map_err(io::Error::other)?
                .to_le_bytes(),
        );
    }
    end.extend([0; 2]);
    let mut file = File::from(memfd_create("zip", MFdFlags::MFD_CLOEXEC)?);
    for part in [&body, &directory, &end, &zip.after.to_vec()] {
        file.write_all(part)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(zip: &Zip) -> Vec<u8> {
        use std::io::{Read as _, Seek as _};
        let mut file = write(zip).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_good_zip_is_read_and_every_bad_one_refused() {
        assert!(modzip::hash_zip(&write(&GOOD).unwrap(), PREFIX).is_ok());
        let link = ROWS
            .iter()
            .find(|(id, ..)| *id == "archive-symlink")
            .unwrap();
        assert!(
            !is_plain(&made(&link.2)),
            "the link is there before it is written anew"
        );
        assert!(is_plain(&rewritten(&link.2).unwrap()));
        for attempt in attempts().unwrap() {
            assert_eq!(attempt.verdict, Verdict::Stopped, "{}", attempt.id);
            assert!(!attempt.detail.is_empty());
        }
    }
}
