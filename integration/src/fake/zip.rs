//! Module zips written byte by byte: honest ones, and ones that two readers understand differently.

use std::io::{Cursor, Read, Write};

use flate2::{Compression, Crc, write::DeflateEncoder};

/// Ways of showing a lenient reader the honest files and the Go command other ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crafted {
    /// The end record counts as many entries as the honest zip, the directory holds 65,536 more:
    /// Go compares the counts modulo 65,536.
    Wrapped,
    /// Two end records with a directory each.
    TwoEnds,
    /// Bytes before the first member.
    Prepended,
    /// Two members of the same name, the honest one last.
    Duplicate,
    /// Bytes after the end record.
    Appended,
    /// A member that no directory entry names.
    Hidden,
    /// Other files altogether, well-formed: a lie about the hash.
    Lying,
    /// The directory names a path outside the module.
    Outside,
    /// A member says that it has ten bytes and unpacks to a gibibyte.
    Bomb,
    /// Many directory entries share the data of one member.
    Overlap,
    /// The headers of a member say that it has 501 MiB.
    TooLarge,
    /// The last member is no regular file, by its Unix mode.
    Special(u32),
}

/// The marker that stands in every file which only a deceived reader compiles.
pub const EVIL: &str = "EVIL code ran";

/// A zip under construction.
#[derive(Default)]
struct Zip {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    count: usize,
}

impl Zip {
    /// Writes a member and its directory entry.
    fn add(&mut self, name: &str, data: &[u8]) {
        self.put(&Entry::new(name, data));
    }

    fn put(&mut self, entry: &Entry<'_>) {
        let offset = self.bytes.len();
        entry.local(&mut self.bytes);
        entry.central(&mut self.directory, offset);
        self.count += 1;
    }

    /// Writes the directory and an end record that claims `count` entries.
    fn end(&mut self, count: usize, comment: &[u8]) {
        let offset = self.bytes.len();
        let directory = std::mem::take(&mut self.directory);
        self.bytes.extend_from_slice(&directory);
        end_record(&mut self.bytes, count, directory.len(), offset, comment);
    }
}

/// Name and contents in the form that a zip stores.
struct Entry<'a> {
    name: &'a str,
    crc: u32,
    packed: Vec<u8>,
    bytes: usize,
}

impl<'a> Entry<'a> {
    fn new(name: &'a str, data: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(data);
        let packed = if data.is_empty() {
            vec![3, 0] // one empty block; spares 65,536 encoders
        } else {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(data).expect("memory takes every byte");
            encoder.finish().expect("memory takes every byte")
        };
        Self {
            name,
            crc: crc.sum(),
            packed,
            bytes: data.len(),
        }
    }

    /// Fields that both headers share, from "version needed" to the length of the name.
    fn shared(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&20u16.to_le_bytes()); // version needed
        out.extend_from_slice(&0x0800u16.to_le_bytes()); // names are UTF-8
        out.extend_from_slice(&8u16.to_le_bytes()); // deflated
        out.extend_from_slice(&[0, 0, 0x21, 0]); // 1980-01-01
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&short32(self.packed.len()));
        out.extend_from_slice(&short32(self.bytes));
        out.extend_from_slice(&short16(self.name.len()));
        out.extend_from_slice(&0u16.to_le_bytes()); // no extra fields
    }

    fn local(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"PK\x03\x04");
        self.shared(out);
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&self.packed);
    }

    fn central(&self, out: &mut Vec<u8>, offset: usize) {
        out.extend_from_slice(b"PK\x01\x02");
        out.extend_from_slice(&20u16.to_le_bytes()); // made by
        self.shared(out);
        out.extend_from_slice(&[0; 10]); // comment, disk, attributes
        out.extend_from_slice(&short32(offset));
        out.extend_from_slice(self.name.as_bytes());
    }
}

fn end_record(out: &mut Vec<u8>, count: usize, size: usize, offset: usize, comment: &[u8]) {
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&short16(count));
    out.extend_from_slice(&short16(count));
    out.extend_from_slice(&short32(size));
    out.extend_from_slice(&short32(offset));
    out.extend_from_slice(&short16(comment.len()));
    out.extend_from_slice(comment);
}

fn short16(number: usize) -> [u8; 2] {
    u16::try_from(number)
        .expect("fits into 16 bits")
        .to_le_bytes()
}

fn short32(number: usize) -> [u8; 4] {
    u32::try_from(number)
        .expect("fits into 32 bits")
        .to_le_bytes()
}

/// As x/mod's `zip.Create`: deflated members, nothing else.
pub fn honest(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut zip = Zip::default();
    for (name, data) in entries {
        zip.add(name, data);
    }
    zip.end(entries.len(), b"");
    zip.bytes
}

/// A zip that deceives one of two readers.
pub fn crafted(
    how: Crafted,
    honest_entries: &[(String, Vec<u8>)],
    path: &str,
    version: &str,
) -> Vec<u8> {
    let evil_file = format!("package main\n\nfunc init() {{ println(\"{EVIL}\") }}\n");
    let evil_name = format!("{path}@{version}/evil.go");
    let mut zip = Zip::default();
    match how {
        Crafted::Wrapped => {
            add_all(&mut zip, honest_entries);
            zip.add(&evil_name, evil_file.as_bytes());
            for number in 1..65_536 {
                zip.add(&format!("{path}@{version}/x/{number}"), b"");
            }
            zip.end(honest_entries.len(), b"");
        }
        Crafted::TwoEnds => {
            add_all(&mut zip, honest_entries);
            let honest_directory = zip.directory.clone();
            zip.add(&evil_name, evil_file.as_bytes());
            // The second directory and its end record are the first one's comment.
            let first_end = zip.bytes.len() + zip.directory.len() + 22;
            let mut second = honest_directory.clone();
            let count = honest_entries.len();
            end_record(&mut second, count, honest_directory.len(), first_end, b"");
            zip.end(count + 1, &second);
        }
        Crafted::Prepended => {
            let evil: Vec<_> = with_evil(honest_entries, &evil_name, &evil_file);
            zip.bytes = honest(&evil);
            zip.bytes.extend_from_slice(&honest(honest_entries));
        }
        Crafted::Duplicate => {
            let main = honest_entries
                .iter()
                .find(|(name, _)| name.ends_with("/main.go"));
            let (name, _) = main.expect("a crafted module has a main.go");
            let evil = format!("package main\n\nfunc main() {{ println(\"{EVIL}\") }}\n");
            zip.add(name, evil.as_bytes());
            add_all(&mut zip, honest_entries);
            zip.end(honest_entries.len() + 1, b"");
        }
        Crafted::Appended => {
            zip.bytes = honest(honest_entries);
            zip.bytes.extend_from_slice(&[0; 64]);
        }
        Crafted::Hidden => {
            add_all(&mut zip, honest_entries);
            Entry::new(&evil_name, evil_file.as_bytes()).local(&mut zip.bytes);
            zip.end(honest_entries.len(), b"");
        }
        Crafted::Lying => zip.bytes = honest(&with_evil(honest_entries, &evil_name, &evil_file)),
        Crafted::Outside => {
            add_all(&mut zip, honest_entries);
            let outside = format!("{path}@{version}/../../evil.go");
            zip.add(&outside, evil_file.as_bytes());
            zip.end(honest_entries.len() + 1, b"");
        }
        Crafted::Bomb | Crafted::Overlap | Crafted::TooLarge | Crafted::Special(_) => {
            add_all(&mut zip, honest_entries);
            return unusual(zip, how, honest_entries, &format!("{path}@{version}/bomb"));
        }
    }
    zip.bytes
}

/// Zips of one reading, and not of the usual kind.
fn unusual(mut zip: Zip, how: Crafted, honest: &[(String, Vec<u8>)], name: &str) -> Vec<u8> {
    let mut count = honest.len();
    match how {
        Crafted::Bomb => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
            for _ in 0..1024 {
                encoder
                    .write_all(&vec![0; 1 << 20])
                    .expect("memory takes every byte");
            }
            let packed = encoder.finish().expect("memory takes every byte");
            let entry = Entry {
                packed,
                bytes: 10,
                ..Entry::new(name, b"")
            };
            zip.put(&entry);
            count += 1;
        }
        Crafted::TooLarge => {
            let bytes = 501 << 20;
            zip.put(&Entry {
                bytes,
                ..Entry::new(name, b"")
            });
            count += 1;
        }
        Crafted::Overlap => {
            for number in 0..1000 {
                let (_, data) = &honest[0];
                Entry::new(&format!("{name}{number}"), data).central(&mut zip.directory, 0);
                count += 1;
            }
        }
        Crafted::Special(mode) => {
            // Bytes 38 to 41 of the last directory entry (APPNOTE 4.4.15); made by Unix (4.4.2).
            let (last, _) = honest.last().expect("a module has files");
            let at = zip.directory.len() - last.len() - 46;
            zip.directory[at + 5] = 3;
            zip.directory[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
        }
        _ => unreachable!("the caller asks for these only"),
    }
    zip.end(count, b"");
    zip.bytes
}

fn add_all(zip: &mut Zip, entries: &[(String, Vec<u8>)]) {
    for (name, data) in entries {
        zip.add(name, data);
    }
}

fn with_evil(entries: &[(String, Vec<u8>)], name: &str, text: &str) -> Vec<(String, Vec<u8>)> {
    let mut all = entries.to_vec();
    all.push((name.to_owned(), text.as_bytes().to_vec()));
    all
}

/// What a widely used, lenient reader finds: the proof that a crafted zip would pass the checksum
/// database if it were hashed with such a reader.
///
/// # Errors
/// When even that reader refuses the bytes.
pub fn read_leniently(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, zip::result::ZipError> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index)?;
        let mut data = Vec::new();
        file.read_to_end(&mut data)?;
        entries.push((file.name()?.into_owned(), data));
    }
    Ok(entries)
}
