//! Finds the directory of a zip and reads its entries.

use std::{fs::File, os::unix::fs::FileExt as _};

use super::{
    DIRECTORY_BYTES_MAX, ENTRIES_MAX, ZipError,
    reader::{Entry, as_length},
    records::{
        CENTRAL, CENTRAL_BYTES, DEFLATED, END, END_BYTES, END64, END64_BYTES, FLAG_DESCRIPTOR,
        FLAG_UTF8, FLAGS_LEVEL, Fields, LOCATOR, LOCATOR_BYTES, STORED, Shared,
    },
};

/// `version needed to extract` for zip64 (4.4.3.2); nothing newer is needed.
const VERSION_MAX: u16 = 45;
/// Extra fields that could say something else than the header: zip64 sizes, Unicode name, Unicode
/// comment (4.6.8, 4.6.9).
const EXTRA_REFUSED: [u16; 3] = [0x0001, 0x7075, 0x6375];

/// Where the directory is.
pub(super) struct Directory {
    pub(super) at: u64,
    bytes: u64,
    count: u64,
}

pub(super) fn read_at(file: &File, at: u64, length: usize) -> Result<Vec<u8>, ZipError> {
    let mut buffer = vec![0; length];
    file.read_exact_at(&mut buffer, at)
        .map_err(ZipError::Read)?;
    Ok(buffer)
}

/// Finds the directory from the end record, which must be the very last bytes of the file.
pub(super) fn find_directory(file: &File, length: u64) -> Result<Directory, ZipError> {
    let end_at = length
        .checked_sub(END_BYTES as u64)
        .ok_or(ZipError::End("too short"))?;
    let bytes = read_at(file, end_at, END_BYTES)?;
    let fields = Fields(&bytes);
    if fields.u32(0) != END {
        return Err(ZipError::End("no end record in the last 22 bytes"));
    }
    if fields.u16(20) != 0 {
        return Err(ZipError::End("comment"));
    }
    if fields.u16(4) != 0 || fields.u16(6) != 0 {
        return Err(ZipError::End("several disks"));
    }
    if fields.u16(8) != fields.u16(10) {
        return Err(ZipError::End("two counts of entries"));
    }
    // Fewer entries never need the zip64 form: a module is far below its other bounds.
    if fields.u16(10) == u16::MAX {
        return find_directory_64(file, end_at, &fields);
    }
    let directory = Directory {
        at: fields.u32(16).into(),
        bytes: fields.u32(12).into(),
        count: fields.u16(10).into(),
    };
    check_directory(directory, end_at)
}

/// The form with 64-bit numbers, exactly as `archive/zip` writes it when there are 65,535 entries
/// or more: every number that could be in both records is at its maximum in the old one.
fn find_directory_64(file: &File, end_at: u64, end: &Fields<'_>) -> Result<Directory, ZipError> {
    let record_at = end_at
        .checked_sub((END64_BYTES + LOCATOR_BYTES) as u64)
        .ok_or(ZipError::End("no zip64 end record"))?;
    let bytes = read_at(file, record_at, END64_BYTES + LOCATOR_BYTES)?;
    let (record, locator) = (Fields(&bytes[..END64_BYTES]), Fields(&bytes[END64_BYTES..]));
    if record.u32(0) != END64 || locator.u32(0) != LOCATOR {
        return Err(ZipError::End("no zip64 end record"));
    }
    let expected_locator =
        locator.u32(4) == 0 && locator.u64(8) == record_at && locator.u32(16) == 1;
    let expected_record = record.u64(4) == (END64_BYTES - 12) as u64
        && record.u32(16) == 0
        && record.u32(20) == 0
        && record.u64(24) == record.u64(32)
        && record.u64(32) >= u64::from(u16::MAX);
    if !expected_locator || !expected_record {
        return Err(ZipError::End("zip64 end record is malformed"));
    }
    for (old, new) in [(end.u32(12), record.u64(40)), (end.u32(16), record.u64(48))] {
        if old != u32::MAX && u64::from(old) != new {
            return Err(ZipError::End("the two end records differ"));
        }
    }
    let directory = Directory {
        at: record.u64(48),
        bytes: record.u64(40),
        count: record.u64(32),
    };
    check_directory(directory, record_at)
}

fn check_directory(directory: Directory, end_at: u64) -> Result<Directory, ZipError> {
    if directory.bytes > DIRECTORY_BYTES_MAX {
        return Err(ZipError::TooManyEntries);
    }
    match directory.at.checked_add(directory.bytes) {
        Some(end) if end == end_at => Ok(directory),
        Some(end) if end < end_at => Err(ZipError::Gap { at: end }),
        _ => Err(ZipError::End("directory reaches beyond the end record")),
    }
}

/// Walks the directory to its end, whatever number of entries the end record says.
pub(super) fn read_directory(file: &File, directory: &Directory) -> Result<Vec<Entry>, ZipError> {
    let bytes = read_at(file, directory.at, as_length(directory.bytes))?;
    let mut rest: &[u8] = &bytes;
    let mut entries = Vec::new();
    let mut found = 0;
    while !rest.is_empty() {
        let (entry, after) = read_central(rest)?;
        rest = after;
        found += 1;
        if entries.len() < ENTRIES_MAX {
            entries.push(entry);
        }
    }
    if found != directory.count {
        return Err(ZipError::Count {
            said: directory.count,
            found,
        });
    }
    if found > ENTRIES_MAX as u64 {
        return Err(ZipError::TooManyEntries);
    }
    Ok(entries)
}

fn read_central(bytes: &[u8]) -> Result<(Entry, &[u8]), ZipError> {
    let cut = ZipError::Directory("cut off");
    let Some((header, rest)) = bytes.split_at_checked(CENTRAL_BYTES) else {
        return Err(cut);
    };
    let fields = Fields(header);
    if fields.u32(0) != CENTRAL {
        return Err(ZipError::Directory("bytes that are no entry"));
    }
    let shared = Shared::read(&fields, 6);
    let Some((name, rest)) = rest.split_at_checked(shared.name_bytes.into()) else {
        return Err(cut);
    };
    let Some((extra, rest)) = rest.split_at_checked(shared.extra_bytes.into()) else {
        return Err(cut);
    };
    let name = std::str::from_utf8(name).map_err(|_| ZipError::Name {
        name: String::from_utf8_lossy(name).as_ref().into(),
        why: "not UTF-8",
    })?;
    check_features(name, &fields, &shared, extra)?;
    let entry = Entry {
        name: name.to_owned(),
        size: shared.size.into(),
        crc: shared.crc,
        header_at: fields.u32(42).into(),
        data_at: 0, // known when the local header has been read
        shared,
    };
    Ok((entry, rest))
}

/// Refuses what no module zip needs.
fn check_features(
    name: &str,
    central: &Fields<'_>,
    shared: &Shared,
    extra: &[u8],
) -> Result<(), ZipError> {
    let known = FLAG_DESCRIPTOR | FLAG_UTF8 | FLAGS_LEVEL;
    let refused = [
        (
            shared.version_needed & 0xff > VERSION_MAX,
            "a newer zip version",
        ),
        (
            shared.flags & !known != 0,
            "encryption or another unknown flag",
        ),
        (
            !matches!(shared.method, STORED | DEFLATED),
            "an unknown compression method",
        ),
        (
            shared.method == STORED && shared.compressed != shared.size,
            "two sizes without compression",
        ),
        (
            !name.is_ascii() && shared.flags & FLAG_UTF8 == 0,
            "a name in an unknown character set",
        ),
        (central.u16(32) != 0, "a comment"),
        (central.u16(34) != 0, "several disks"),
        (
            !are_extras_harmless(extra),
            "an extra field that contradicts the header",
        ),
        (
            [shared.size, shared.compressed, central.u32(42)].contains(&u32::MAX),
            "64-bit sizes",
        ),
    ];
    match refused.into_iter().find(|(is_refused, _)| *is_refused) {
        Some((_, what)) => Err(ZipError::Feature {
            name: name.into(),
            what,
        }),
        None => Ok(()),
    }
}

/// Extra fields are a sequence of identifier, length, data (4.5.1).
pub(super) fn are_extras_harmless(mut extra: &[u8]) -> bool {
    while let Some((header, rest)) = extra.split_at_checked(4) {
        let fields = Fields(header);
        let Some((_, after)) = rest.split_at_checked(fields.u16(2).into()) else {
            return false;
        };
        if EXTRA_REFUSED.contains(&fields.u16(0)) {
            return false;
        }
        extra = after;
    }
    extra.is_empty()
}
