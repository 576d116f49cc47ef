//! Bad zips of every kind, and what stays equal when good ones are written anew.

use std::io::{Cursor, Read as _, Seek as _, Write as _};

use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

const PREFIX: &str = "example.com/m@v1.0.0/";

/// A zip with full control over every field; `Default` gives a good one.
#[derive(Clone, Default)]
struct Crafted {
    files: Vec<(String, Vec<u8>)>,
    before: Vec<u8>,
    between: Vec<u8>,
    after_data: Vec<u8>,
    after_directory: Vec<u8>,
    count: Option<u16>,
    central_size: i64,
    central_crc: u32,
    local_name: Option<String>,
    descriptor: Descriptor,
    flags: u16,
    method: u16,
    comment: Vec<u8>,
    extra: Vec<u8>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Descriptor {
    #[default]
    None,
    Good,
    NoSignature,
    WrongCrc,
    HeaderNotZero,
}

impl Crafted {
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(n, c)| (format!("{PREFIX}{n}"), c.as_bytes().to_vec()));
        Self {
            files: files.collect(),
            ..Self::default()
        }
    }

    fn good() -> Self {
        Self::of(&[
            ("go.mod", "module example.com/m\n"),
            ("main.go", "package main\n"),
        ])
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.before.clone();
        let mut directory = Vec::new();
        for (name, content) in &self.files {
            let at = u32::try_from(out.len() - self.before.len()).unwrap();
            let mut crc = flate2::Crc::new();
            crc.update(content);
            let size = u32::try_from(content.len()).unwrap();
            let has_descriptor = self.descriptor != Descriptor::None;
            let zeroed = has_descriptor && self.descriptor != Descriptor::HeaderNotZero;
            let shared = records::Shared {
                version_needed: 20,
                flags: self.flags | records::FLAG_UTF8 | if has_descriptor { 8 } else { 0 },
                method: self.method,
                time: 0,
                date: 0,
                crc: if zeroed { 0 } else { crc.sum() },
                compressed: if zeroed { 0 } else { size },
                size: if zeroed { 0 } else { size },
                name_bytes: u16::try_from(name.len()).unwrap(),
                extra_bytes: 0,
            };
            out.extend(records::LOCAL.to_le_bytes());
            shared.write(&mut out);
            out.extend(self.local_name.as_ref().unwrap_or(name).as_bytes());
            out.extend(content);
            if has_descriptor {
                if self.descriptor != Descriptor::NoSignature {
                    out.extend(records::DESCRIPTOR.to_le_bytes());
                }
                let wrong = u32::from(self.descriptor == Descriptor::WrongCrc);
                for value in [crc.sum() ^ wrong, size, size] {
                    out.extend(value.to_le_bytes());
                }
            }
            out.extend(&self.between);
            let lied = u32::try_from(i64::from(size) + self.central_size).unwrap();
            let central = records::Shared {
                crc: crc.sum() ^ self.central_crc,
                compressed: size,
                size: lied,
                extra_bytes: u16::try_from(self.extra.len()).unwrap(),
                ..shared
            };
            directory.extend(records::CENTRAL.to_le_bytes());
            directory.extend([20, 0]);
            central.write(&mut directory);
            directory.extend([0; 10]);
            directory.extend(at.to_le_bytes());
            directory.extend(name.as_bytes());
            directory.extend(&self.extra);
        }
        out.extend(&self.after_data);
        let directory_at = u32::try_from(out.len() - self.before.len()).unwrap();
        out.extend(&directory);
        out.extend(&self.after_directory);
        let real = u16::try_from(self.files.len() % 65_536).unwrap();
        out.extend(end_record(
            self.count.unwrap_or(real),
            directory.len(),
            directory_at,
        ));
        let end = out.len() - 2;
        out[end..].copy_from_slice(&u16::try_from(self.comment.len()).unwrap().to_le_bytes());
        out.extend(&self.comment);
        out
    }

    fn check(&self) -> Result<Hashed, ZipError> {
        check(&self.bytes())
    }
}

fn end_record(count: u16, directory_bytes: usize, directory_at: u32) -> Vec<u8> {
    let mut end = records::END.to_le_bytes().to_vec();
    end.extend([0; 4]);
    end.extend(count.to_le_bytes());
    end.extend(count.to_le_bytes());
    end.extend(u32::try_from(directory_bytes).unwrap().to_le_bytes());
    end.extend(directory_at.to_le_bytes());
    end.extend([0; 2]);
    end
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn check(bytes: &[u8]) -> Result<Hashed, ZipError> {
    hash_zip(&file(bytes), PREFIX)
}

fn rewritten(bytes: &[u8]) -> Result<(Hashed, Vec<u8>), ZipError> {
    let file = file(bytes);
    let mut out = Vec::new();
    let hashed = rewrite(&Archive::open(&file, PREFIX)?, &mut out)?;
    Ok((hashed, out))
}

/// Packs with the `zip` crate, as some proxy may.
fn packed(files: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, content) in files {
        writer
            .start_file(format!("{PREFIX}{name}"), options)
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// The hash by its definition, from the files themselves.
fn h1_by_definition(files: &[(String, Vec<u8>)]) -> H1 {
    let mut sorted: Vec<_> = files
        .iter()
        .map(|(n, c)| (format!("{PREFIX}{n}"), c))
        .collect();
    sorted.sort();
    let mut hash = DirectoryHash::default();
    for (name, content) in sorted {
        hash.start(&name);
        hash.content(content);
    }
    hash.finish()
}

#[test]
fn a_good_zip_has_the_h1_of_its_files() {
    let crafted = Crafted::good();
    let files: Vec<_> = crafted
        .files
        .iter()
        .map(|(n, c)| (n[PREFIX.len()..].to_owned(), c.clone()))
        .collect();
    assert_eq!(crafted.check().unwrap().h1, h1_by_definition(&files));
    // The form that Go's own writer makes: sizes and checksum in a descriptor.
    let streamed = Crafted {
        descriptor: Descriptor::Good,
        ..crafted
    };
    assert_eq!(streamed.check().unwrap().h1, h1_by_definition(&files));
}

#[test]
fn two_entries_in_the_end_record_but_65538_in_the_directory_are_refused() {
    let mut crafted = Crafted::good();
    let honest = crafted.check().unwrap().h1;
    for number in 0..65_536 {
        crafted
            .files
            .push((format!("{PREFIX}x/{number}"), Vec::new()));
    }
    assert_eq!(crafted.files.len(), 65_538);
    assert!(matches!(
        crafted.check(),
        Err(ZipError::Count {
            said: 2,
            found: 65_538
        })
    ));
    // What a reader sees that believes the end record.
    let mut lenient = zip::ZipArchive::new(Cursor::new(crafted.bytes())).unwrap();
    let files: Vec<_> = (0..lenient.len())
        .map(|at| {
            let mut file = lenient.by_index(at).unwrap();
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap()[PREFIX.len()..].to_owned(), content)
        })
        .collect();
    assert_eq!(h1_by_definition(&files), honest);
}

#[test]
fn fewer_entries_than_the_end_record_says_are_refused() {
    let crafted = Crafted {
        count: Some(3),
        ..Crafted::good()
    };
    assert!(matches!(
        crafted.check(),
        Err(ZipError::Count { said: 3, found: 2 })
    ));
}

#[test]
fn a_second_end_record_is_refused_wherever_it_lies() {
    let good = Crafted::good().bytes();
    let (body, end) = good.split_at(good.len() - records::END_BYTES);
    let twice = [body, end, end].concat();
    assert!(matches!(check(&twice), Err(ZipError::Gap { .. })));
    let other = Crafted::of(&[("evil.go", "package evil\n")]).bytes();
    assert!(check(&[&good[..], &other].concat()).is_err());
    assert!(check(&[&other[..], &good].concat()).is_err());
    let in_comment = Crafted {
        comment: end.to_vec(),
        ..Crafted::good()
    };
    assert!(in_comment.check().is_err());
    let comment = Crafted {
        comment: b"hello".to_vec(),
        ..Crafted::good()
    };
    assert!(matches!(comment.check(), Err(ZipError::End(_))));
}

#[test]
fn bytes_that_belong_to_no_entry_are_refused() {
    let good = Crafted::good();
    let bad = [
        Crafted {
            before: b"#!/bin/sh\n".to_vec(),
            ..good.clone()
        },
        Crafted {
            between: b"x".to_vec(),
            ..good.clone()
        },
        Crafted {
            after_data: b"x".to_vec(),
            ..good.clone()
        },
        Crafted {
            after_directory: b"x".to_vec(),
            ..good.clone()
        },
    ];
    for (number, crafted) in bad.iter().enumerate() {
        let error = crafted.check().unwrap_err();
        assert!(
            matches!(error, ZipError::Gap { .. } | ZipError::End(_)),
            "{number} {error}"
        );
    }
    for after in ["x", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let bytes = [&good.bytes()[..], after.as_bytes()].concat();
        assert!(matches!(check(&bytes), Err(ZipError::End(_))), "{after:?}");
    }
    // Bytes before everything, with offsets that count them in.
    let mut shifted = Crafted::good();
    shifted
        .files
        .insert(0, (format!("{PREFIX}a"), b"hidden".to_vec()));
    let mut bytes = shifted.bytes();
    let directory_at =
        bytes.len() - 22 - (46 * 3 + shifted.files.iter().map(|f| f.0.len()).sum::<usize>());
    let first = 46 + shifted.files[0].0.len();
    bytes.drain(directory_at..directory_at + first);
    let at = bytes.len() - 22;
    bytes.truncate(at);
    bytes.extend(end_record(
        2,
        at - directory_at,
        u32::try_from(directory_at).unwrap(),
    ));
    assert!(matches!(check(&bytes), Err(ZipError::Gap { at: 0 })));
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    let good = Crafted::good();
    let renamed = Crafted {
        local_name: Some(format!("{PREFIX}go.mox")),
        ..good.clone()
    };
    let crc = Crafted {
        central_crc: 1,
        ..good.clone()
    };
    let size = Crafted {
        central_size: 1,
        method: records::DEFLATED,
        ..good.clone()
    };
    for crafted in [renamed, crc, size] {
        assert!(matches!(crafted.check(), Err(ZipError::Headers { .. })));
    }
    for descriptor in [Descriptor::WrongCrc, Descriptor::HeaderNotZero] {
        let crafted = Crafted {
            descriptor,
            ..good.clone()
        };
        assert!(matches!(crafted.check(), Err(ZipError::Headers { .. })));
    }
    let bare = Crafted {
        descriptor: Descriptor::NoSignature,
        ..good
    };
    assert!(matches!(
        bare.check(),
        Err(ZipError::Gap { .. } | ZipError::Headers { .. })
    ));
}

#[test]
fn features_that_no_module_needs_are_refused() {
    let good = Crafted::good();
    let bad = [
        Crafted {
            flags: 1,
            ..good.clone()
        }, // encrypted
        Crafted {
            flags: 1 << 13,
            ..good.clone()
        }, // headers encrypted
        Crafted {
            method: 12,
            ..good.clone()
        }, // bzip2
        Crafted {
            extra: [&[1, 0, 8, 0][..], &[0; 8]].concat(),
            ..good.clone()
        }, // zip64
        Crafted {
            extra: [&[0x75, 0x70, 5, 0][..], &[1; 5]].concat(),
            ..good.clone()
        }, // name
        Crafted {
            extra: vec![9, 9, 255, 0],
            ..good.clone()
        }, // longer than its space
        Crafted {
            extra: vec![0; 3],
            ..good
        },
    ];
    for (number, crafted) in bad.iter().enumerate() {
        assert!(
            matches!(crafted.check(), Err(ZipError::Feature { .. })),
            "{number}"
        );
    }
}

#[test]
fn names_that_are_one_are_refused() {
    for (one, other) in [
        ("a.go", "a.go"),
        ("a.go", "A.go"),
        ("a", "a/b"),
        ("d/a", "D/b"),
    ] {
        let crafted = Crafted::of(&[(one, "1"), (other, "2")]);
        assert!(
            matches!(crafted.check(), Err(ZipError::Twice { .. })),
            "{one} {other}"
        );
    }
}

#[test]
fn names_outside_the_rules_are_refused() {
    for name in [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//b",
        "sub/go.mod",
        "GO.MOD",
        "a\nb",
        "nul",
        "a\\b",
    ] {
        let error = Crafted::of(&[(name, "1")]).check().unwrap_err();
        assert!(matches!(error, ZipError::Name { .. }), "{name:?} {error}");
    }
    let mut crafted = Crafted::good();
    for name in [
        "/etc/passwd",
        "x",
        "example.com/m@v1.0.1/x",
        "example.com/m@v1.0.0",
    ] {
        crafted.files[1].0 = name.to_owned();
        assert!(
            matches!(crafted.check(), Err(ZipError::Name { .. })),
            "{name:?}"
        );
    }
    let mut bytes = Crafted::of(&[("abc", "1")]).bytes();
    while let Some(at) = bytes.windows(3).position(|three| three == b"abc") {
        bytes[at] = 0xff;
    }
    assert!(matches!(
        check(&bytes),
        Err(ZipError::Name {
            why: "not UTF-8",
            ..
        })
    ));
}

#[test]
fn a_hostile_name_is_shown_escaped() {
    let error = Crafted::of(&[("\u{1b}]0;x\u{7}<b>", "1")])
        .check()
        .unwrap_err()
        .to_string();
    assert!(error.contains("\\u{1b}]0;x"), "{error}");
    assert!(!error.contains('\u{1b}'));
}

#[test]
fn content_that_is_not_what_the_headers_say_is_refused() {
    let files = [("a".to_owned(), b"hello hello hello hello".to_vec())];
    let bytes = packed(&files, CompressionMethod::Deflated);
    let good = check(&bytes).unwrap();
    assert_eq!(good.h1, h1_by_definition(&files));
    // Size and checksum stand in both headers; change both in the same way.
    let crc_at = |at: usize| {
        [
            at + 14,
            bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap() + 16,
        ]
    };
    for (offset, name) in [(0, "checksum"), (8, "size")] {
        for delta in [1_u8, 255] {
            let mut lying = bytes.clone();
            for at in crc_at(0) {
                lying[at + offset] = lying[at + offset].wrapping_add(delta);
            }
            assert!(
                matches!(check(&lying), Err(ZipError::Content { .. })),
                "{name} {delta}"
            );
        }
    }
}

#[test]
fn a_bomb_stops_at_the_size_that_its_header_says() {
    let files = [("a".to_owned(), vec![0; 50 << 20])];
    let mut bytes = packed(&files, CompressionMethod::Deflated);
    let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    for at in [22, central + 24] {
        bytes[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
    }
    let file = file(&bytes);
    let archive = Archive::open(&file, PREFIX).unwrap();
    let mut seen = 0;
    let result = archive.stream(&archive.entries()[0], &mut |chunk| {
        seen += chunk.len();
        Ok(())
    });
    assert!(matches!(result, Err(ZipError::Content { .. })));
    assert!(seen <= 100, "{seen}");
}

#[test]
fn sizes_above_the_limits_are_refused_before_anything_is_unpacked() {
    let header_says = |name: &str, size: u64| {
        let files = [(name.to_owned(), b"small".to_vec())];
        let mut bytes = packed(&files, CompressionMethod::Deflated);
        let central = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        for at in [22, central + 24] {
            bytes[at..at + 4].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        }
        check(&bytes).unwrap_err()
    };
    for name in ["go.mod", "LICENSE"] {
        assert!(matches!(
            header_says(name, (16 << 20) + 1),
            ZipError::FileTooLarge { .. }
        ));
        assert!(matches!(
            header_says(name, 16 << 20),
            ZipError::Content { .. }
        ));
    }
    assert!(matches!(
        header_says("a", TOTAL_BYTES_MAX + 1),
        ZipError::FileTooLarge { .. }
    ));
    let long = tempfile::tempfile().unwrap();
    long.set_len(TOTAL_BYTES_MAX + 1).unwrap();
    assert!(matches!(hash_zip(&long, PREFIX), Err(ZipError::TooLarge)));
}

#[test]
fn a_zip_of_70000_entries_survives_in_the_64_bit_form() {
    let mut crafted = Crafted::good();
    crafted.files = (0..70_000)
        .map(|n| (format!("{PREFIX}d/{n}"), vec![b'x']))
        .collect();
    // Our own writer must make the form that our reader takes: go through both.
    let mut out = Vec::new();
    let packed: Vec<_> = crafted
        .files
        .iter()
        .map(|(n, c)| (n[PREFIX.len()..].to_owned(), c.clone()))
        .collect();
    let mut writer = ZipWriter::new(Cursor::new(&mut out));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in &packed {
        writer
            .start_file(format!("{PREFIX}{name}"), options)
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap();
    let (hashed, canonical) = rewritten(&out).unwrap();
    assert_eq!(hashed.h1, h1_by_definition(&packed));
    assert_eq!(rewritten(&canonical).unwrap(), (hashed, canonical.clone()));
    assert_eq!(
        zip::ZipArchive::new(Cursor::new(canonical)).unwrap().len(),
        70_000
    );
}

#[test]
fn folders_count_in_the_hash_and_hold_nothing() {
    let crafted = Crafted::of(&[("d/", ""), ("d/a", "1")]);
    let files = [
        ("d/".to_owned(), Vec::new()),
        ("d/a".to_owned(), b"1".to_vec()),
    ];
    assert_eq!(crafted.check().unwrap().h1, h1_by_definition(&files));
    assert!(matches!(
        Crafted::of(&[("d/", "x")]).check(),
        Err(ZipError::Name { .. })
    ));
    assert!(matches!(
        Crafted::of(&[("d/", ""), ("d/", "")]).check(),
        Err(ZipError::Twice { .. })
    ));
}

#[test]
fn an_empty_zip_is_a_zip_without_files() {
    assert_eq!(check(&end_record(0, 0, 0)).unwrap().bytes, 0);
    assert!(matches!(check(b""), Err(ZipError::End(_))));
}

fn some_files() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    // No name of these is a device on Windows.
    let name = "m[a-z]{0,7}(/[a-z0-9_]{1,8}y){0,3}\\.go";
    proptest::collection::btree_map(name, proptest::collection::vec(any::<u8>(), 0..300), 0..12)
        .prop_map(|files| files.into_iter().rev().collect())
        .prop_filter(
            "no file is a folder too",
            |files: &Vec<(String, Vec<u8>)>| {
                files.iter().all(|(one, _)| {
                    files
                        .iter()
                        .all(|(other, _)| !other.starts_with(&format!("{one}/")))
                })
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packing_does_not_matter(files in some_files()) {
        let deflated = rewritten(&packed(&files, CompressionMethod::Deflated)).unwrap();
        let stored = rewritten(&packed(&files, CompressionMethod::Stored)).unwrap();
        prop_assert_eq!(deflated.0.h1, h1_by_definition(&files));
        prop_assert_eq!(&deflated, &stored);
        prop_assert_eq!(rewritten(&stored.1).unwrap(), stored);
    }

    #[test]
    fn a_changed_byte_is_refused_or_changes_nothing(
        files in some_files(), at in any::<prop::sample::Index>(), delta in 1_u8..=255,
    ) {
        let mut bytes = packed(&files, CompressionMethod::Deflated);
        let honest = check(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = bytes[at].wrapping_add(delta);
        if let Ok(hashed) = check(&bytes) {
            prop_assert_eq!(hashed, honest);
        }
    }

    #[test]
    fn a_cut_or_longer_zip_is_refused(files in some_files(), at in any::<prop::sample::Index>()) {
        let bytes = packed(&files, CompressionMethod::Deflated);
        prop_assert!(check(&bytes[..at.index(bytes.len())]).is_err());
        prop_assert!(check(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut ended = bytes.clone();
        ended.extend(end_record(1, bytes.len(), 0));
        prop_assert!(check(&ended).is_err());
        let mut file = file(&bytes);
        file.rewind().unwrap();
        prop_assert!(hash_zip(&file, PREFIX).is_err());
    }
}
