//! A checksum database that lies in every way it can, over an in-memory transport.

use std::{collections::HashMap, sync::Mutex};

use super::{testing::*, *};
use crate::tlog::{SigningKey, Tile, index, leaf_hash, text::tree_text};

fn module(path: &str) -> ModuleVersion {
    ModuleVersion::parse(path, "v1.0.0").unwrap()
}

#[test]
fn the_database_is_never_off() {
    assert_eq!(
        Database::parse(Some("off")).unwrap_err(),
        DatabaseError::Off
    );
    for text in [None, Some(""), Some("sum.golang.org"), Some(DEFAULT_KEY)] {
        let database = Database::parse(text).unwrap();
        assert_eq!(
            (database.key.to_string(), database.url),
            (DEFAULT_KEY.to_owned(), None)
        );
    }
    let with_url = Database::parse(Some(&format!("{DEFAULT_KEY} https://a.example"))).unwrap();
    assert!(with_url.url.is_some());
    for text in [
        "sum.example",
        "sum.golang.org+033de0af+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
        "sum.golang.org https://a.example x",
        "sum.golang.org ftp://a.example",
    ] {
        assert_eq!(
            Database::parse(Some(text)).unwrap_err(),
            DatabaseError::Form,
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_proven_answer_comes_through_the_proxy_or_directly() {
    for base in [PROXIED, DIRECT] {
        let fake = Fake::new(base, 300);
        fake.publish();
        if base == PROXIED {
            fake.table.put(&format!("{PROXIED}/supported"), b"");
        }
        let folder = tempfile::tempdir().unwrap();
        let client = fake.client(folder.path());
        for number in [0, 255, 299] {
            let path = format!("example.com/m{number}");
            let sums = client.lookup(&module(&path)).await.unwrap();
            assert_eq!(
                sums,
                Sums {
                    zip: h1(&path),
                    go_mod: h1(&format!("{path} go.mod"))
                }
            );
        }
        let error = client
            .lookup(&module("example.com/none"))
            .await
            .unwrap_err();
        assert!(matches!(error, SumdbError::Missing { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_database_that_grows_is_followed_also_backwards() {
    let mut fake = Fake::new(DIRECT, 5);
    fake.publish();
    let folder = tempfile::tempdir().unwrap();
    let client = fake.client(folder.path());
    client.lookup(&module("example.com/m1")).await.unwrap();
    let (old_note, old_text) = (fake.note(), fake.records[2].clone());
    fake.grow("n", 600);
    fake.publish();
    client.lookup(&module("example.com/n599")).await.unwrap();
    // A cached, older answer is as good: its head is a prefix of ours.
    fake.put_lookup("example.com/m2", 2, &old_text, &old_note);
    client.lookup(&module("example.com/m2")).await.unwrap();
    // After a restart the newest head still counts.
    fake.client(folder.path())
        .lookup(&module("example.com/m2"))
        .await
        .unwrap();
}

#[tokio::test]
async fn another_history_is_an_alarm_and_the_old_head_stays() {
    for grown in [0, 10] {
        let fake = Fake::new(DIRECT, 5);
        fake.publish();
        let folder = tempfile::tempdir().unwrap();
        fake.client(folder.path())
            .lookup(&module("example.com/m1"))
            .await
            .unwrap();
        let mut other = Fake::new(DIRECT, 4);
        other.grow("other", 1 + grown);
        other.publish();
        let client = other.client(folder.path());
        let error = client
            .lookup(&module("example.com/other0"))
            .await
            .unwrap_err();
        assert!(matches!(error, SumdbError::Contradiction { .. }), "{error}");
        fake.client(folder.path())
            .lookup(&module("example.com/m1"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_record_that_is_not_in_the_tree_is_an_alarm() {
    let fake = Fake::new(DIRECT, 300);
    fake.publish();
    let folder = tempfile::tempdir().unwrap();
    let client = fake.client(folder.path());
    let forged =
        fake.records[5].replace(&h1("example.com/m5").to_string(), &h1("evil").to_string());
    fake.put_lookup("example.com/m5", 5, &forged, &fake.note());
    let error = client.lookup(&module("example.com/m5")).await.unwrap_err();
    assert!(matches!(error, SumdbError::Contradiction { .. }), "{error}");
    // With the tile forged to fit: the hash above it does not.
    let tile = Tile::in_tree(index::stored_index(0, 5), 300).unwrap();
    let url = format!("{DIRECT}/{}", tile.sumdb_path());
    let mut hashes: Vec<u8> = (0..256)
        .flat_map(|at| leaf_hash(fake.records[at].as_bytes()).0)
        .collect();
    hashes[5 * 32..6 * 32].copy_from_slice(&leaf_hash(forged.as_bytes()).0);
    fake.table.put(&url, &hashes);
    let error = client.lookup(&module("example.com/m5")).await.unwrap_err();
    assert!(matches!(error, SumdbError::Contradiction { .. }), "{error}");
}

#[tokio::test]
async fn the_forged_tile_of_cve_2026_56865_is_an_alarm() {
    // Of the tiles for a record in a tree of 700, six subtrees share the first two: a reader that
    // counts subtrees where it means tiles never checks the third, which holds the record's hash.
    let fake = Fake::new(DIRECT, 700);
    fake.publish();
    let folder = tempfile::tempdir().unwrap();
    let client = fake.client(folder.path());
    let honest = h1("example.com/m5").to_string();
    let forged = fake.records[5].replace(&honest, &h1("evil").to_string());
    assert_ne!(forged, fake.records[5]);
    let tile = Tile::new(0, 0, 256).unwrap();
    let mut hashes: Vec<u8> = (0..256)
        .flat_map(|at| leaf_hash(fake.records[at].as_bytes()).0)
        .collect();
    hashes[5 * 32..6 * 32].copy_from_slice(&leaf_hash(forged.as_bytes()).0);
    fake.table
        .put(&format!("{DIRECT}/{}", tile.sumdb_path()), &hashes);
    fake.put_lookup("example.com/m5", 5, &forged, &fake.note());
    let error = client.lookup(&module("example.com/m5")).await.unwrap_err();
    assert!(matches!(error, SumdbError::Contradiction { .. }), "{error}");
    fake.publish();
    client.lookup(&module("example.com/m5")).await.unwrap();
}

#[tokio::test]
async fn another_modules_record_another_signature_and_garbage_are_refused() {
    let fake = Fake::new(DIRECT, 5);
    fake.publish();
    let folder = tempfile::tempdir().unwrap();
    let client = fake.client(folder.path());
    fake.put_lookup("example.com/x", 1, &fake.records[1], &fake.note());
    let error = client.lookup(&module("example.com/x")).await.unwrap_err();
    assert!(matches!(error, SumdbError::OtherRecord { .. }), "{error}");
    let other = SigningKey::from_seed("sum.test", &[8; 32]).unwrap();
    let note = other.sign(&tree_text(&fake.tree())).unwrap();
    fake.put_lookup("example.com/m1", 1, &fake.records[1], &note);
    let error = client.lookup(&module("example.com/m1")).await.unwrap_err();
    assert!(matches!(error, SumdbError::Signature { .. }), "{error}");
    for garbage in ["", "<html>", "1\n\n", "1\nexample.com/m1 v1.0.0 h1:x\n"] {
        fake.table.put(
            &format!("{DIRECT}/lookup/example.com/m1@v1.0.0"),
            garbage.as_bytes(),
        );
        assert!(
            client.lookup(&module("example.com/m1")).await.is_err(),
            "{garbage:?}"
        );
    }
    fake.publish();
    client.lookup(&module("example.com/m1")).await.unwrap();
}

#[derive(Default)]
struct Memory(Mutex<HashMap<String, Vec<u8>>>);

impl TileCache for Memory {
    fn get(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(name).cloned()
    }
    fn put(&self, name: &str, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap()
            .insert(name.to_owned(), bytes.to_vec());
    }
}

#[tokio::test]
async fn full_tiles_are_kept_and_a_rotten_one_is_fetched_again() {
    let fake = Fake::new(DIRECT, 300);
    fake.publish();
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Memory::default());
    let client = || {
        let database = Database::parse(Some(&fake.key.verifier().to_string())).unwrap();
        let sources = Sources::parse("http://proxy.test").unwrap();
        let proxy = Proxy::new(sources, Arc::new(fake.table.clone()));
        let cache = Arc::clone(&cache) as Arc<dyn TileCache>;
        Sumdb::open(database, &proxy, folder.path().to_path_buf(), cache).unwrap()
    };
    client().lookup(&module("example.com/m1")).await.unwrap();
    assert_eq!(cache.0.lock().unwrap().len(), 1);
    cache
        .0
        .lock()
        .unwrap()
        .values_mut()
        .for_each(|bytes| bytes[77] ^= 1);
    client().lookup(&module("example.com/m2")).await.unwrap();
}

#[test]
fn a_record_with_two_hashes_for_one_file_has_none() {
    let good = record("example.com/m");
    assert!(sums(&good, &module("example.com/m")).is_some());
    assert!(sums(&(good.clone() + &good), &module("example.com/m")).is_none());
    assert!(sums(good.lines().next().unwrap(), &module("example.com/m")).is_none());
    assert!(sums(&good, &module("example.com/mm")).is_none());
}
