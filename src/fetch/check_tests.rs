//! One flipped byte anywhere in a cached file.

use std::{collections::BTreeSet, io::SeekFrom};

use super::*;
use crate::{
    fetch::cache::{Name, name_of},
    modzip::{h1_of_go_mod, hash_zip},
};

const PREFIX: &str = "example.com/m@v1.0.0/";

fn zip() -> (Vec<u8>, Name) {
    let mut packed = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content) in [
        ("go.mod", "module example.com/m\n"),
        ("m.go", "package m\n"),
    ] {
        let options = zip::write::SimpleFileOptions::default();
        packed
            .start_file(format!("{PREFIX}{name}"), options)
            .unwrap();
        packed.write_all(content.as_bytes()).unwrap();
    }
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&packed.finish().unwrap().into_inner())
        .unwrap();
    let archive = Archive::open(&file, PREFIX).unwrap();
    let mut canonical = Vec::new();
    let hashed = rewrite(&archive, &mut canonical).unwrap();
    assert_eq!(hashed.h1, hash_zip(&file, PREFIX).unwrap().h1);
    (canonical, hashed.h1.hex())
}

fn cache() -> (tempfile::TempDir, Cache) {
    // On a disk: /tmp may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    (folder, cache)
}

fn flip(path: &Path, at: u64) {
    let mut permissions = fs::metadata(path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    fs::set_permissions(path, permissions).unwrap();
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 1]).unwrap();
}

#[test]
fn one_flipped_bit_anywhere_in_a_zip_or_go_mod_is_found_and_put_away() {
    let (content, name) = zip();
    let go_mod = b"module example.com/m\n";
    let mod_name = h1_of_go_mod(go_mod).hex();
    let cases = [
        (Kind::Zip, &content[..], &name),
        (Kind::GoMod, &go_mod[..], &mod_name),
    ];
    for (kind, content, name) in cases {
        for at in 0..content.len() {
            let (folder, cache) = cache();
            drop(cache.put(kind, name, content).unwrap());
            let round = cache.check_all().unwrap();
            assert_eq!((round.check.files, round.put_away.len()), (1, 0));
            flip(&cache.path(kind, name), at as u64);
            let round = cache.check_all().unwrap();
            assert_eq!(
                (round.check.files, round.put_away.len()),
                (0, 1),
                "byte {at}"
            );
            assert!(cache.get(kind, name).unwrap().is_none(), "byte {at}");
            let kept = folder
                .path()
                .join(QUARANTINE)
                .join(format!("{}-{name}", kind.folder()));
            assert_eq!(fs::read(kept).unwrap().len(), content.len());
            assert_eq!(cache.take_told(), round.put_away);
            // The next process says so again.
            let next = Cache::open(folder.path()).unwrap();
            next.tell_put_away().unwrap();
            assert_eq!(next.take_told(), round.put_away);
        }
    }
}

#[test]
fn a_shorter_or_longer_zip_is_another_file() {
    let (content, name) = zip();
    let longer = [&content[..], b"\0"].concat();
    for bytes in [&content[..content.len() - 1], &longer, b"", b"PK"] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        assert!(
            !is_named(Kind::Zip, &name, &file).unwrap(),
            "{} bytes",
            bytes.len()
        );
    }
}

#[test]
fn parts_cover_everything_in_a_day_and_begin_anywhere() {
    let (folder, cache) = cache();
    let texts: Vec<String> = (0..50)
        .map(|number| format!("module example.com/m{number}\n"))
        .collect();
    for text in &texts {
        cache
            .put(
                Kind::GoMod,
                &h1_of_go_mod(text.as_bytes()).hex(),
                text.as_bytes(),
            )
            .unwrap();
    }
    cache.put(Kind::Tile, &name_of("tile"), b"tile").unwrap();
    let mut cursor = random_cursor(folder.path());
    let mut seen = BTreeSet::new();
    let mut rounds = 0;
    while seen.len() < 51 {
        assert!(cache.check_part(&mut cursor).unwrap().check.files > 0);
        seen.insert(cursor.clone());
        rounds += 1;
        assert!(rounds <= ROUNDS, "{} of 51 were read", seen.len());
    }
}
