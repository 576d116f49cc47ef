//! Module zips: a strict reader, the `h1:` hash, and a canonical writer.
//!
//! Owns: which bytes count as a module zip, and what its entries are. Called by `fetch` and
//! `toolchain`. Must never hand out a byte that was not hashed: whoever reads a module reads the
//! canonical file that [`rewrite`] made of exactly the entries in the hash, never the file that
//! came from the proxy. Two zip readers can disagree about one file (a directory of 65,538 entries
//! whose end record says 2); a file that could be read in two ways is refused here, with the reason
//! in [`ZipError`].

mod checks;
mod directory;
mod hash;
mod names;
mod reader;
mod records;
mod writer;

use std::{fs::File, io};

pub use hash::{DirectoryHash, H1, NotH1, h1_of_go_mod};
pub use reader::{Archive, Entry};
pub use writer::rewrite;

/// Longest zip and largest sum of file sizes, as in `golang.org/x/mod/zip` (`MaxZipFile`).
pub const TOTAL_BYTES_MAX: u64 = 500 << 20;
/// Largest go.mod, as in `golang.org/x/mod/zip` (`MaxGoMod`).
pub const GO_MOD_BYTES_MAX: u64 = 16 << 20;
/// Largest LICENSE, as in `golang.org/x/mod/zip` (`MaxLICENSE`).
pub const LICENSE_BYTES_MAX: u64 = 16 << 20;
/// Most entries: the largest known modules have some 30,000; it bounds memory, with
/// [`DIRECTORY_BYTES_MAX`].
pub const ENTRIES_MAX: usize = 200_000;
/// Longest directory: [`ENTRIES_MAX`] entries with names of 200 bytes.
pub const DIRECTORY_BYTES_MAX: u64 = 48 << 20;
/// Longest name of an entry, with its prefix: the kernel's `PATH_MAX`.
pub const NAME_BYTES_MAX: usize = 4096;

/// Why a file is no module zip. Nothing of it may be used then.
#[derive(Debug, thiserror::Error)]
pub enum ZipError {
    /// The file cannot be read; says nothing about the zip.
    #[error("cannot read zip")]
    Read(#[source] io::Error),
    /// The result cannot be written; says nothing about the zip.
    #[error("cannot write what was read from zip")]
    Write(#[source] io::Error),
    /// Longer than [`TOTAL_BYTES_MAX`], or what it holds is.
    #[error("zip or its content is larger than {TOTAL_BYTES_MAX} bytes")]
    TooLarge,
    /// More than [`ENTRIES_MAX`] entries or [`DIRECTORY_BYTES_MAX`] bytes.
    #[error("zip has more entries than accepted")]
    TooManyEntries,
    /// The last 22 bytes are no end record, or it says what cannot be.
    #[error("zip ends wrongly: {0}")]
    End(&'static str),
    /// The directory is no sequence of entries.
    #[error("directory of zip is malformed: {0}")]
    Directory(&'static str),
    /// The end record counts other entries than there are.
    #[error("zip says it has {said} entries and has {found}")]
    Count {
        /// In the end record.
        said: u64,
        /// In the directory.
        found: u64,
    },
    /// Bytes that belong to no entry, or to two.
    #[error("zip has data before, between or after its entries at byte {at}")]
    Gap {
        /// Where the next entry should begin.
        at: u64,
    },
    /// The header before the data and the one in the directory differ, or its descriptor does.
    #[error("headers of {name} in zip differ: {what}")]
    Headers {
        /// Entry.
        name: ShownName,
        /// Field.
        what: &'static str,
    },
    /// A feature that no module zip needs: encryption, another method, several disks, …
    #[error("{name} in zip uses {what}, which is not accepted")]
    Feature {
        /// Entry.
        name: ShownName,
        /// Feature.
        what: &'static str,
    },
    /// A name that is not allowed in a module zip.
    #[error("name {name} in zip is not allowed: {why}")]
    Name {
        /// Entry.
        name: ShownName,
        /// Rule.
        why: &'static str,
    },
    /// Two entries have the same name, or names that are equal on some file systems.
    #[error("{name} and {other} in zip are one name")]
    Twice {
        /// Entry.
        name: ShownName,
        /// An earlier entry, or a folder of one.
        other: ShownName,
    },
    /// go.mod or LICENSE is too large.
    #[error("{name} in zip is larger than {bytes_max} bytes")]
    FileTooLarge {
        /// Entry.
        name: ShownName,
        /// Limit.
        bytes_max: u64,
    },
    /// What an entry unpacks to is not what its header says.
    #[error("content of {name} in zip is wrong: {what}")]
    Content {
        /// Entry.
        name: ShownName,
        /// Length, checksum, compression.
        what: &'static str,
    },
}

/// A name from outside, shown escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownName(String);

impl ShownName {
    /// Most characters that are shown.
    const CHARS_MAX: usize = 200;
}

impl From<&str> for ShownName {
    fn from(name: &str) -> Self {
        Self(
            name.chars()
                .take(Self::CHARS_MAX)
                .flat_map(char::escape_default)
                .collect(),
        )
    }
}

impl std::fmt::Display for ShownName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// What [`hash_zip`] and [`rewrite`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// `h1:` of all entries.
    pub h1: H1,
    /// Sum of the sizes of all entries.
    pub bytes: u64,
}

/// Hashes a module zip and keeps nothing.
///
/// # Errors
/// See [`ZipError`].
pub fn hash_zip(file: &File, prefix: &str) -> Result<Hashed, ZipError> {
    let archive = Archive::open(file, prefix)?;
    let mut hash = DirectoryHash::default();
    let mut bytes = 0;
    for entry in archive.entries() {
        hash.start(&entry.name);
        archive.stream(entry, &mut |chunk| {
            hash.content(chunk);
            Ok(())
        })?;
        bytes += entry.size;
    }
    Ok(Hashed {
        h1: hash.finish(),
        bytes,
    })
}

/// Name of the folder that all entries of a module zip lie in.
#[must_use]
pub fn prefix(module: &str, version: &str) -> String {
    format!("{module}@{version}/")
}

#[cfg(test)]
mod tests;
