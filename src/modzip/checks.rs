//! What the entries of a module zip must be like, together: they cover the file, their names are
//! allowed and differ, their sizes are within the limits.

use std::fs::File;

use super::{
    GO_MOD_BYTES_MAX, LICENSE_BYTES_MAX, NAME_BYTES_MAX, TOTAL_BYTES_MAX, ZipError,
    directory::{are_extras_harmless, read_at},
    names::{Collisions, check_file_path},
    reader::Entry,
    records::{DESCRIPTOR, DESCRIPTOR_BYTES, FLAG_DESCRIPTOR, Fields, LOCAL, LOCAL_BYTES, Shared},
};

/// Reads every local header and descriptor; together with the data they must cover the file from
/// its first byte to the directory.
pub(super) fn check_coverage(
    file: &File,
    entries: &mut [Entry],
    directory_at: u64,
) -> Result<(), ZipError> {
    let mut at = 0;
    for entry in entries {
        if entry.header_at != at {
            return Err(ZipError::Gap { at });
        }
        entry.data_at = at + check_local(file, entry, directory_at)?;
        let data_end = entry.data_at + u64::from(entry.shared.compressed);
        at = data_end;
        if entry.shared.flags & FLAG_DESCRIPTOR != 0 {
            at += DESCRIPTOR_BYTES as u64;
        }
        if at > directory_at {
            return Err(ZipError::Gap {
                at: entry.header_at,
            });
        }
        if at > data_end {
            check_descriptor(file, entry, data_end)?;
        }
    }
    if at == directory_at {
        Ok(())
    } else {
        Err(ZipError::Gap { at })
    }
}

/// Compares the local header with the directory; returns its length.
fn check_local(file: &File, entry: &Entry, directory_at: u64) -> Result<u64, ZipError> {
    let differ = |what| ZipError::Headers {
        name: entry.name.as_str().into(),
        what,
    };
    let fixed_end = entry.header_at + LOCAL_BYTES as u64;
    if fixed_end + entry.name.len() as u64 > directory_at {
        return Err(ZipError::Gap {
            at: entry.header_at,
        });
    }
    let header = read_at(file, entry.header_at, LOCAL_BYTES)?;
    let fields = Fields(&header);
    if fields.u32(0) != LOCAL {
        return Err(ZipError::Gap {
            at: entry.header_at,
        });
    }
    let local = Shared::read(&fields, 4);
    let mut expected = Shared {
        extra_bytes: local.extra_bytes,
        ..entry.shared
    };
    if entry.shared.flags & FLAG_DESCRIPTOR != 0 {
        // The one form that Go's writer makes: nothing here, everything in the descriptor.
        (expected.crc, expected.compressed, expected.size) = (0, 0, 0);
    }
    if local != expected {
        return Err(differ(
            "sizes, checksum, flags, method, time or length of the name",
        ));
    }
    let variable = read_at(
        file,
        fixed_end,
        entry.name.len() + usize::from(local.extra_bytes),
    )?;
    let (name, extra) = variable.split_at(entry.name.len());
    if name != entry.name.as_bytes() {
        return Err(differ("name"));
    }
    if !are_extras_harmless(extra) {
        return Err(differ("extra field"));
    }
    Ok((LOCAL_BYTES + variable.len()) as u64)
}

fn check_descriptor(file: &File, entry: &Entry, at: u64) -> Result<(), ZipError> {
    let bytes = read_at(file, at, DESCRIPTOR_BYTES)?;
    let fields = Fields(&bytes);
    let found = [fields.u32(0), fields.u32(4), fields.u32(8), fields.u32(12)];
    let shared = &entry.shared;
    if found == [DESCRIPTOR, shared.crc, shared.compressed, shared.size] {
        return Ok(());
    }
    Err(ZipError::Headers {
        name: entry.name.as_str().into(),
        what: "descriptor after the data",
    })
}

/// Names, in sorted order.
pub(super) fn check_names(entries: &[Entry], prefix: &str) -> Result<(), ZipError> {
    let mut collisions = Collisions::default();
    let mut before = None;
    for entry in entries {
        let name = entry.name.as_str();
        let wrong = |why| ZipError::Name {
            name: name.into(),
            why,
        };
        if before == Some(name) {
            return Err(ZipError::Twice {
                name: name.into(),
                other: name.into(),
            });
        }
        before = Some(name);
        if name.len() > NAME_BYTES_MAX {
            return Err(wrong("too long"));
        }
        let path = name
            .strip_prefix(prefix)
            .ok_or_else(|| wrong("outside the module's folder"))?;
        let folder = path.strip_suffix('/');
        if folder.is_some() && (entry.size != 0 || entry.shared.compressed != 0) {
            return Err(wrong("a folder with content"));
        }
        if path.is_empty() {
            continue; // the folder itself
        }
        let path = folder.unwrap_or(path);
        check_file_path(path).map_err(wrong)?;
        let base = path.rsplit('/').next().unwrap_or_default();
        // x/mod refuses a go.mod below the root, and any other spelling of its name.
        if base.eq_ignore_ascii_case("go.mod") && path != "go.mod" {
            return Err(wrong("go.mod in another folder or spelling"));
        }
        collisions.add(path, folder.is_some())?;
    }
    Ok(())
}

pub(super) fn check_sizes(entries: &[Entry], prefix: &str) -> Result<(), ZipError> {
    for entry in entries {
        let bytes_max = match entry.path(prefix) {
            "go.mod" => GO_MOD_BYTES_MAX,
            "LICENSE" => LICENSE_BYTES_MAX,
            _ => TOTAL_BYTES_MAX,
        };
        if entry.size > bytes_max {
            return Err(ZipError::FileTooLarge {
                name: entry.name.as_str().into(),
                bytes_max,
            });
        }
    }
    let total: u64 = entries.iter().map(|entry| entry.size).sum();
    if total > TOTAL_BYTES_MAX {
        Err(ZipError::TooLarge)
    } else {
        Ok(())
    }
}
