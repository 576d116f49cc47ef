//! How much machine code each package brought to a binary, as the binary's own function table says.
//!
//! Called after the gate has let a binary through, on the copy that it made. The binary is hostile:
//! what it says here may be a lie about itself, and decides nothing. Everything read is bounded;
//! what is not as the linker writes it gives no sizes, and never fails a build.

mod names;
mod table;

use std::{
    cell::Cell,
    fs::File,
    io::{self, BufReader},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use object::{BinaryFormat, Object as _, ObjectSection as _, ReadCache, ReadRef};

use self::table::{MAGIC_BYTES, Table};
use crate::build::Code;

/// Most bytes of a binary's headers and symbols that are read to find the table in it: those of the
/// largest Go programs known have some 30 MB.
const HEADER_BYTES_MAX: u64 = 128 << 20;
/// Read so much at a time when a table is searched for.
const CHUNK: usize = 1 << 20;
/// Tables are looked for where the linker puts them: it aligns them to the size of a pointer at
/// least.
const ALIGNMENT: usize = 4;
/// Most places that look like the beginning of a table that are tried.
const CANDIDATES_MAX: usize = 16;

/// Measures the code of each package; nothing for a binary whose table is not found or not
/// understood. `main` is the import path of the package that the binary calls `main`.
pub(super) fn measure(file: &File, main: &str) -> Option<Code> {
    let length = file.metadata().ok()?.len();
    let (places, format) = places(file)?;
    let places = match format {
        // Windows has no section for it: it is the last of what is only read.
        BinaryFormat::Pe => search(file, places).ok()?,
        _ => vec![places],
    };
    let table = places.into_iter().rev().take(CANDIDATES_MAX);
    let table = table.filter_map(|place| Table::read(file, place)).next()?;
    let code = names::by_package(&table, main)?;
    // No binary has more code than bytes.
    (code.bytes() <= length).then_some(code)
}

/// The part of the file that is the table, or on Windows has it.
fn places(file: &File) -> Option<(Range<u64>, BinaryFormat)> {
    let cache = ReadCache::new(BufReader::new(file));
    let left = Cell::new(HEADER_BYTES_MAX);
    let (cache, left) = (&cache, &left);
    let binary = object::File::parse(Bounded { cache, left }).ok()?;
    let names: &[&str] = match binary.format() {
        BinaryFormat::Elf => &[".gopclntab", ".data.rel.ro.gopclntab"],
        BinaryFormat::MachO => &["__gopclntab"],
        BinaryFormat::Pe => &[".rdata"],
        _ => return None,
    };
    let mut sections = names.iter().filter_map(|name| binary.section_by_name(name));
    let (at, bytes) = sections.next()?.file_range()?;
    Some((at..at.checked_add(bytes)?, binary.format()))
}

/// Where in a part of the file a table could begin, each to the end of the part.
fn search(file: &File, part: Range<u64>) -> io::Result<Vec<Range<u64>>> {
    let mut found = Vec::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = part.start;
    while at < part.end {
        let left = usize::try_from(part.end - at).unwrap_or(usize::MAX);
        let chunk = &mut chunk[..left.min(CHUNK)];
        file.read_exact_at(chunk, at)?;
        for offset in (0..chunk.len()).step_by(ALIGNMENT) {
            let bytes = chunk[offset..].first_chunk::<MAGIC_BYTES>();
            if bytes.is_some_and(table::begins) {
                found.push(at + offset as u64..part.end);
            }
        }
        // The last ones count: forget the first when there are more than will be tried.
        found.drain(..found.len().saturating_sub(CANDIDATES_MAX));
        if left <= CHUNK {
            break;
        }
        // A magic number may begin in the last four bytes of this chunk.
        at += (CHUNK - ALIGNMENT) as u64;
    }
    Ok(found)
}

/// A binary of which no more than [`HEADER_BYTES_MAX`] are read.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<BufReader<&'a File>>,
    left: &'a Cell<u64>,
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        // No string that the cache reads has more than 4 KiB.
        self.left.set(self.left.get().checked_sub(4096).ok_or(())?);
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

/// What a file of any bytes says as a binary, and as a table alone.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn tried(file: &File, main: &str) -> Vec<Code> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let bare = Table::read(file, 0..length);
    let bare = bare.and_then(|table| names::by_package(&table, main));
    measure(file, main).into_iter().chain(bare).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// The corpus of the fuzzer: five functions in each form and format.
    const HONEST: [(&str, &[u8]); 6] = [
        ("elf", include_bytes!("../../../fuzz/corpus/gate/code-elf")),
        (
            "go1.18",
            include_bytes!("../../../fuzz/corpus/gate/code-elf-go1.18"),
        ),
        (
            "go1.16",
            include_bytes!("../../../fuzz/corpus/gate/code-elf-go1.16-mips"),
        ),
        (
            "go1.2",
            include_bytes!("../../../fuzz/corpus/gate/code-elf-go1.2"),
        ),
        (
            "macho",
            include_bytes!("../../../fuzz/corpus/gate/code-macho"),
        ),
        // Holds a table of somebody else before that of the linker.
        (
            "windows",
            include_bytes!("../../../fuzz/corpus/gate/code-windows"),
        ),
    ];

    fn measured(bytes: &[u8]) -> Option<Code> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        measure(&file, "a.example/m/cmd/x")
    }

    #[test]
    fn every_form_and_format_says_the_same() {
        for (name, bytes) in HONEST {
            let code = measured(bytes).unwrap_or_else(|| panic!("{name}: nothing"));
            let packages = code.packages.iter();
            let packages: Vec<_> = packages.map(|one| (one.path.as_str(), one.bytes)).collect();
            let expected = [
                ("gopkg.in/yaml.v3", 0x60),
                ("runtime", 0x40),
                ("a.example/m/cmd/x", 0x20),
                ("slices", 0x10),
            ];
            assert_eq!(packages, expected, "{name}");
            assert_eq!(code.other, 8, "{name}");
        }
    }

    #[test]
    fn what_is_cut_off_or_changed_says_nothing_or_something_bounded() {
        for (name, bytes) in HONEST {
            for length in 0..bytes.len() {
                let code = measured(&bytes[..length]);
                let is_bounded = |code: &Code| code.bytes() <= length as u64;
                assert!(
                    code.as_ref().is_none_or(is_bounded),
                    "{name} {length}: {code:?}"
                );
            }
        }
    }

    #[test]
    fn a_table_that_cannot_be_gives_no_sizes() {
        let elf = HONEST[0].1;
        let table = elf
            .windows(8)
            .position(|at| at == b"\xf1\xff\xff\xff\0\0\x01\x08");
        let table = table.unwrap();
        let change = |at: usize, to: &[u8]| {
            let mut changed = elf.to_vec();
            changed[table + at..table + at + to.len()].copy_from_slice(to);
            measured(&changed)
        };
        for (what, at, to) in [
            ("no function", 8, &[0; 8][..]),
            ("2^64 - 1 functions", 8, &[0xff; 8]),
            (
                "more functions than bytes",
                8,
                &[0xff, 0xff, 0, 0, 0, 0, 0, 0],
            ),
            ("names beyond the end", 8 + 4 * 8, &[0, 0, 1, 0, 0, 0, 0, 0]),
            ("names that end before they begin", 8 + 4 * 8, &[0; 8]),
            ("functions beyond the end", 8 + 7 * 8, &[0xff; 8]),
            ("another quantum", 6, &[3]),
            ("another size of addresses", 7, &[16]),
            ("another magic number", 0, &[0xf2]),
        ] {
            assert_eq!(change(at, to), None, "{what}");
        }
        // Functions of more bytes than the whole binary has, and in the wrong order.
        let list = table + usize::from(elf[table + 8 + 7 * 8]);
        for to in [[0xff, 0xff, 0xff, 0], [0x10, 0, 0, 0]] {
            let mut changed = elf.to_vec();
            changed[list + 5 * 8..list + 5 * 8 + 4].copy_from_slice(&to);
            assert_eq!(measured(&changed), None, "{to:?}");
        }
    }

    #[test]
    fn a_table_is_found_wherever_the_linker_may_put_it() {
        let chunk = CHUNK as u64;
        let places = [64, 72, 84, chunk - 4, chunk + 4, 2 * chunk - 12];
        let file = tempfile::tempfile().unwrap();
        for place in places {
            file.write_all_at(b"\xf1\xff\xff\xff\0\0\x01\x08", place)
                .unwrap();
        }
        file.write_all_at(b"\xf1\xff\xff\xff\0\0\x01\x08", 102)
            .unwrap(); // no place for one
        let end = file.metadata().unwrap().len();
        let found = search(&file, 0..end).unwrap();
        assert_eq!(found, places.map(|place| place..end));
    }

    #[test]
    fn a_file_of_another_format_says_nothing() {
        for bytes in [
            &b""[..],
            b"MZ",
            b"\x7fELF",
            b"\0asm\x01\0\0\0",
            &[0xff; 4096],
        ] {
            assert_eq!(measured(bytes), None);
        }
    }
}
