//! Writes a module zip in its one canonical form: sorted, stored, no extra fields, fixed time.
//!
//! The form depends on names and contents only, so it is the same on every machine and whatever
//! proxy the module came from.

use std::io::{self, BufWriter, Write};

use super::{
    Archive, DirectoryHash, Entry, Hashed, TOTAL_BYTES_MAX, ZipError,
    records::{CENTRAL, END, END64, END64_BYTES, FLAG_UTF8, LOCAL, LOCATOR, STORED, Shared},
};

/// 1980-01-01, the first day of the zip calendar (4.4.6); midnight is zero.
const DATE: u16 = 1 << 5 | 1;
/// Version 2.0 (4.4.3.2): stored files and folders need no more.
const VERSION: u16 = 20;
/// Version 4.5: zip64.
const VERSION_64: u16 = 45;

/// Hashes all entries of `archive` and writes exactly them to `out`.
///
/// `out` holds bytes that nobody may use unless this succeeds and the hash is the expected one.
///
/// # Errors
/// See [`ZipError`].
pub fn rewrite(archive: &Archive<'_>, out: &mut impl Write) -> Result<Hashed, ZipError> {
    let mut out = Counted {
        inner: BufWriter::with_capacity(256 * 1024, out),
        bytes: 0,
    };
    let mut hash = DirectoryHash::default();
    let mut directory = Vec::new();
    let mut total = 0;
    for entry in archive.entries() {
        let at = out.bytes;
        out.write_all(&local_header(entry))
            .map_err(ZipError::Write)?;
        hash.start(&entry.name);
        archive.stream(entry, &mut |chunk| {
            hash.content(chunk);
            out.write_all(chunk)
        })?;
        central_header(entry, at, &mut directory);
        total += entry.size;
    }
    let directory_at = out.bytes;
    out.write_all(&directory).map_err(ZipError::Write)?;
    let end = end_records(archive.entries().len(), directory.len(), directory_at);
    out.write_all(&end).map_err(ZipError::Write)?;
    out.inner.flush().map_err(ZipError::Write)?;
    if out.bytes > TOTAL_BYTES_MAX {
        return Err(ZipError::TooLarge); // go would refuse the stored form
    }
    Ok(Hashed {
        h1: hash.finish(),
        bytes: total,
    })
}

fn shared(entry: &Entry) -> Shared {
    let size = fits_u32(entry.size);
    Shared {
        version_needed: VERSION,
        flags: FLAG_UTF8,
        method: STORED,
        time: 0,
        date: DATE,
        crc: entry.crc,
        compressed: size,
        size,
        name_bytes: u16::try_from(entry.name.len()).expect("names are at most 4,096 bytes"),
        extra_bytes: 0,
    }
}

/// Sizes and offsets are bounded by `TOTAL_BYTES_MAX` plus headers, far below 4 GiB.
fn fits_u32(value: u64) -> u32 {
    u32::try_from(value).expect("a module zip is at most 500 MiB")
}

fn local_header(entry: &Entry) -> Vec<u8> {
    let mut header = LOCAL.to_le_bytes().to_vec();
    shared(entry).write(&mut header);
    header.extend(entry.name.as_bytes());
    header
}

fn central_header(entry: &Entry, at: u64, directory: &mut Vec<u8>) {
    directory.extend(CENTRAL.to_le_bytes());
    directory.extend(VERSION.to_le_bytes()); // made by: no operating system's attributes
    shared(entry).write(directory);
    directory.extend([0; 2 + 2 + 2 + 4]); // comment, disk, attributes inside and outside
    directory.extend(fits_u32(at).to_le_bytes());
    directory.extend(entry.name.as_bytes());
}

fn end_records(count: usize, directory_bytes: usize, directory_at: u64) -> Vec<u8> {
    let mut end = Vec::new();
    let (mut count_16, mut bytes_32, mut at_32) = (
        u16::MAX,
        fits_u32(directory_bytes as u64),
        fits_u32(directory_at),
    );
    match u16::try_from(count) {
        Ok(count) if count < u16::MAX => count_16 = count,
        _ => {
            (bytes_32, at_32) = (u32::MAX, u32::MAX);
            end.extend(end_records_64(
                count as u64,
                directory_bytes as u64,
                directory_at,
            ));
        }
    }
    end.extend(END.to_le_bytes());
    end.extend([0; 4]); // this disk and the directory's
    end.extend(count_16.to_le_bytes());
    end.extend(count_16.to_le_bytes());
    end.extend(bytes_32.to_le_bytes());
    end.extend(at_32.to_le_bytes());
    end.extend([0; 2]); // comment
    end
}

fn end_records_64(count: u64, directory_bytes: u64, directory_at: u64) -> Vec<u8> {
    let mut end = END64.to_le_bytes().to_vec();
    end.extend((END64_BYTES as u64 - 12).to_le_bytes()); // what follows this field
    end.extend(VERSION_64.to_le_bytes());
    end.extend(VERSION_64.to_le_bytes());
    end.extend([0; 8]); // this disk and the directory's
    for value in [count, count, directory_bytes, directory_at] {
        end.extend(value.to_le_bytes());
    }
    end.extend(LOCATOR.to_le_bytes());
    end.extend([0; 4]); // disk
    end.extend((directory_at + directory_bytes).to_le_bytes());
    end.extend(1_u32.to_le_bytes()); // disks
    end
}

/// Knows how far the output is.
struct Counted<W: Write> {
    inner: BufWriter<W>,
    bytes: u64,
}

impl<W: Write> Counted<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}
