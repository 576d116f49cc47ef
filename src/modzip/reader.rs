//! Reads a zip in the only way that it can be read.
//!
//! The directory is walked from its first byte to its last; the entries, put in the order of their
//! data, must cover everything before it. Then every byte of the file belongs to exactly one
//! record, and there is no second reading.

use std::{fs::File, os::unix::fs::FileExt};

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{
    TOTAL_BYTES_MAX, ZipError,
    checks::{check_coverage, check_names, check_sizes},
    directory::{find_directory, read_directory},
    records::{STORED, Shared},
};

/// Bytes that are read and unpacked at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// A module zip whose structure and names have been checked. Contents are checked as they are read.
pub struct Archive<'a> {
    file: &'a File,
    entries: Vec<Entry>,
}

/// One file (or folder, when the name ends with a slash) of a module zip.
#[derive(Debug)]
pub struct Entry {
    /// Name with the prefix.
    pub name: String,
    /// Length of its content.
    pub size: u64,
    /// CRC-32 of its content, as the headers say.
    pub(super) crc: u32,
    pub(super) header_at: u64,
    pub(super) data_at: u64,
    pub(super) shared: Shared,
}

impl Entry {
    /// Name below the prefix of the archive.
    #[must_use]
    pub fn path<'a>(&'a self, prefix: &str) -> &'a str {
        self.name.strip_prefix(prefix).unwrap_or(&self.name)
    }
}

impl<'a> Archive<'a> {
    /// Checks everything but the contents. All names must begin with `prefix`.
    ///
    /// # Errors
    /// See [`ZipError`].
    pub fn open(file: &'a File, prefix: &str) -> Result<Self, ZipError> {
        let length = file.metadata().map_err(ZipError::Read)?.len();
        if length > TOTAL_BYTES_MAX {
            return Err(ZipError::TooLarge);
        }
        let directory = find_directory(file, length)?;
        let mut entries = read_directory(file, &directory)?;
        entries.sort_by_key(|entry| entry.header_at);
        check_coverage(file, &mut entries, directory.at)?;
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        check_names(&entries, prefix)?;
        check_sizes(&entries, prefix)?;
        Ok(Self { file, entries })
    }

    /// All entries, sorted by the bytes of their names.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Unpacks one entry. `sink` has received bytes that are wrong when this fails at the end.
    ///
    /// # Errors
    /// [`ZipError::Content`] when length or checksum differ from the headers; [`ZipError::Write`]
    /// when `sink` fails.
    pub fn stream(
        &self,
        entry: &Entry,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), ZipError> {
        let wrong = |what| ZipError::Content {
            name: entry.name.as_str().into(),
            what,
        };
        let mut crc = Crc::new();
        let mut size = 0;
        let mut out = |chunk: &[u8]| {
            size += chunk.len() as u64;
            if size > entry.size {
                return Err(wrong("longer than its header says"));
            }
            crc.update(chunk);
            sink(chunk).map_err(ZipError::Write)
        };
        let data = Data {
            file: self.file,
            at: entry.data_at,
            left: entry.shared.compressed.into(),
        };
        if entry.shared.method == STORED {
            data.copy(&mut out)?;
        } else {
            data.inflate(&mut out).map_err(|error| match error {
                InflateError::Zip(error) => error,
                InflateError::Wrong(what) => wrong(what),
            })?;
        }
        if size != entry.size {
            return Err(wrong("shorter than its header says"));
        }
        if crc.sum() != entry.crc {
            return Err(wrong("checksum differs"));
        }
        Ok(())
    }
}

enum InflateError {
    Zip(ZipError),
    Wrong(&'static str),
}

impl From<ZipError> for InflateError {
    fn from(error: ZipError) -> Self {
        Self::Zip(error)
    }
}

/// The packed bytes of one entry.
struct Data<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Data<'_> {
    fn next<'b>(&mut self, buffer: &'b mut [u8]) -> Result<&'b [u8], ZipError> {
        let length = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        self.file
            .read_exact_at(&mut buffer[..length], self.at)
            .map_err(ZipError::Read)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(&buffer[..length])
    }

    fn copy(mut self, out: &mut dyn FnMut(&[u8]) -> Result<(), ZipError>) -> Result<(), ZipError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        while self.left > 0 {
            out(self.next(&mut buffer)?)?;
        }
        Ok(())
    }

    /// The stream must end by itself, exactly with the last packed byte.
    fn inflate(
        mut self,
        out: &mut dyn FnMut(&[u8]) -> Result<(), ZipError>,
    ) -> Result<(), InflateError> {
        let (mut packed, mut plain) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        let mut inflater = Decompress::new(false);
        let mut input: &[u8] = &[];
        loop {
            if input.is_empty() && self.left > 0 {
                input = self.next(&mut packed)?;
            }
            let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
            let status = inflater
                .decompress(input, &mut plain, FlushDecompress::None)
                .map_err(|_| InflateError::Wrong("compressed data is malformed"))?;
            let taken = as_length(inflater.total_in() - before_in);
            let made = as_length(inflater.total_out() - before_out);
            input = &input[taken..];
            if made > 0 {
                out(&plain[..made])?;
            }
            if status == Status::StreamEnd {
                break;
            }
            if taken == 0 && made == 0 && (self.left == 0 || !input.is_empty()) {
                return Err(InflateError::Wrong("compressed data ends too early"));
            }
        }
        if !input.is_empty() || self.left > 0 {
            return Err(InflateError::Wrong("compressed data ends too late"));
        }
        Ok(())
    }
}

/// A count of bytes in one of our buffers.
pub(super) fn as_length(bytes: u64) -> usize {
    usize::try_from(bytes).expect("no more than the buffer holds")
}
