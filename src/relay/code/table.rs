//! The table of all functions that the Go linker writes for its runtime: where each begins, and how
//! it is called. It is in stripped binaries, too.
//!
//! The forms are those of `debug/gosym/pclntab.go` and `internal/abi/symtab.go` of Go: since 1.2,
//! 1.16, 1.18 and 1.20.

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _};

/// Bytes that say that a table begins.
pub(super) const MAGIC_BYTES: usize = 8;
/// Bytes of the longest header: eight, and eight words of eight.
const HEADER_BYTES: usize = 72;
/// Longest part of a table that is kept in memory, all names or all functions: the largest Go
/// programs known have some 20 MB of each. A table of before Go 1.16 is one part.
const PART_BYTES_MAX: u64 = 64 << 20;
/// Longest name that is looked at; what names a package is at its beginning.
const NAME_BYTES_MAX: usize = 4096;

/// Form of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Everything is counted from the beginning of the table.
    Go12,
    /// Names and functions have parts of their own.
    Go116,
    /// Functions are counted from the first one.
    Go118,
    /// Names of what the compiler makes have a colon.
    Go120,
}

/// A table whose header has been read.
pub(super) struct Table {
    form: Form,
    is_big_endian: bool,
    /// Bytes of an address.
    word: usize,
    count: usize,
    names: Vec<u8>,
    functions: Vec<u8>,
    /// Where in `functions` the list of them begins.
    list: usize,
}

/// A function of the binary.
pub(super) struct Function<'a> {
    /// As the linker calls it.
    pub(super) name: &'a [u8],
    /// From its beginning to that of the next one.
    pub(super) bytes: u64,
}

/// Whether these bytes are the beginning of a table of any form.
pub(super) fn begins(bytes: &[u8; MAGIC_BYTES]) -> bool {
    head(bytes).is_some()
}

/// Form, byte order and size of an address.
fn head(bytes: &[u8; MAGIC_BYTES]) -> Option<(Form, bool, usize)> {
    let [a, b, c, d, 0, 0, quantum, word] = *bytes else {
        return None;
    };
    let form = |magic: u32| match magic {
        0xffff_fffb => Some(Form::Go12),
        0xffff_fffa => Some(Form::Go116),
        0xffff_fff0 => Some(Form::Go118),
        0xffff_fff1 => Some(Form::Go120),
        _ => None,
    };
    // No magic number is one in both orders.
    let little = form(u32::from_le_bytes([a, b, c, d]));
    let big = form(u32::from_be_bytes([a, b, c, d]));
    let is_known = matches!(quantum, 1 | 2 | 4) && matches!(word, 4 | 8);
    is_known.then_some((little.or(big)?, little.is_none(), word.into()))
}

impl Table {
    /// Reads a table that lies in a part of the file.
    pub(super) fn read(file: &File, part: Range<u64>) -> Option<Self> {
        let length = part.end.checked_sub(part.start)?;
        let header = read(file, part.start, length.min(HEADER_BYTES as u64))?;
        let (form, is_big_endian, word) = head(header.first_chunk()?)?;
        let mut table = Self {
            form,
            is_big_endian,
            word,
            count: 0,
            names: Vec::new(),
            functions: Vec::new(),
            list: 0,
        };
        let at = |number: usize| table.number(&header, 8 + number * word, word);
        let count = usize::try_from(at(0)?).ok()?;
        let (names, functions) = match form {
            Form::Go12 => (0..0, 0..length),
            Form::Go116 => (at(2)?..at(3)?, at(6)?..length),
            Form::Go118 | Form::Go120 => (at(3)?..at(4)?, at(7)?..length),
        };
        let keep = |kept: Range<u64>| {
            let bytes = kept.end.checked_sub(kept.start)?;
            let is_inside = kept.end <= length;
            is_inside.then(|| read(file, part.start + kept.start, bytes.min(PART_BYTES_MAX)))?
        };
        (table.names, table.functions) = (keep(names)?, keep(functions)?);
        table.list = if form == Form::Go12 { 8 + word } else { 0 };
        table.count = count;
        // The list has two fields for each function and the end of the last one.
        let fields = count.checked_mul(2)?.checked_add(1)?;
        let end = fields.checked_mul(table.field())?.checked_add(table.list)?;
        (count > 0 && end <= table.functions.len()).then_some(table)
    }

    /// Whether names of what the compiler makes have a colon.
    pub(super) fn has_colons(&self) -> bool {
        self.form >= Form::Go120
    }

    /// All functions in their order; `None` in the place of the first that cannot be.
    pub(super) fn functions(&self) -> impl Iterator<Item = Option<Function<'_>>> {
        (0..self.count).map(|number| self.function(number))
    }

    fn function(&self, number: usize) -> Option<Function<'_>> {
        let field = |number: usize| {
            let size = self.field();
            self.number(&self.functions, self.list + number * size, size)
        };
        let (begin, place, end) = (
            field(2 * number)?,
            field(2 * number + 1)?,
            field(2 * number + 2)?,
        );
        let bytes = end.checked_sub(begin)?;
        // A function begins with its address, then the place of its name.
        let name = usize::try_from(place).ok()?.checked_add(self.field())?;
        let name = usize::try_from(self.number(&self.functions, name, 4)?).ok()?;
        let names = match self.form {
            Form::Go12 => &self.functions,
            _ => &self.names,
        };
        let name = names.get(name..)?;
        let name = &name[..name.len().min(NAME_BYTES_MAX)];
        let length = name.iter().position(|byte| *byte == 0)?;
        let name = &name[..length];
        Some(Function { name, bytes })
    }

    /// Bytes of a field of the list.
    fn field(&self) -> usize {
        if self.form < Form::Go118 {
            self.word
        } else {
            4
        }
    }

    fn number(&self, bytes: &[u8], at: usize, size: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        let one = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
        Some(match self.is_big_endian {
            true => bytes.iter().fold(0, one),
            false => bytes.iter().rev().fold(0, one),
        })
    }
}

fn read(file: &File, at: u64, bytes: u64) -> Option<Vec<u8>> {
    let mut read = vec![0; usize::try_from(bytes).ok()?];
    file.read_exact_at(&mut read, at).ok()?;
    Some(read)
}
