//! Trees that differ in one thing from what was adopted.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use super::*;
use crate::store::Header;

const HEX: &str = "abababababababababababababababababababababababababababababababab";

/// A store with one frozen cache of two files, written as adoption writes it.
struct Store(tempfile::TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(tempfile::tempdir().unwrap());
        let tree = store.tree();
        fs::create_dir_all(tree.join("ab")).unwrap();
        let mut entries = Vec::new();
        for (path, content) in [("ab/one", &b"1"[..]), ("ab/two", &[2; 5000][..])] {
            put(&tree.join(path), content);
            mode(&tree.join(path), 0o444);
            entries.push(Entry {
                path: path.to_owned(),
                mode: 0o444,
                bytes: content.len() as u64,
                sha256: Sha256::digest(content).into(),
            });
        }
        let text = lines(&mut entries);
        let header = Header {
            title: "go1.26.8 linux/amd64".to_owned(),
            digest: sha256_hex(text.as_bytes()),
            bytes: 5001,
            files: 2,
        };
        let header = serde_json::to_string(&header).unwrap();
        put(&store.manifest(), format!("{header}\n{text}").as_bytes());
        mode(&tree.join("ab"), 0o555);
        mode(&tree, 0o555);
        store
    }

    fn tree(&self) -> PathBuf {
        self.0.path().join("std").join(HEX)
    }

    fn manifest(&self) -> PathBuf {
        self.tree().with_extension(MANIFEST)
    }

    fn verify(&self) -> Verdict {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let store = nix::fcntl::open(self.0.path(), flags, Mode::empty()).unwrap();
        verify(store.as_fd(), &Name::parse(&format!("std/{HEX}")).unwrap()).unwrap()
    }

    /// Changes something as an attacker would who holds the disk, and puts the modes back.
    fn change(&self, change: impl FnOnce(&Path)) {
        let tree = self.tree();
        mode(&tree, 0o755);
        mode(&tree.join("ab"), 0o755);
        change(&tree);
        if tree.join("ab").is_dir() {
            mode(&tree.join("ab"), 0o555);
        }
        mode(&tree, 0o555);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.change(|tree| mode(&tree.join("ab"), 0o755));
        mode(&self.tree(), 0o755);
        if self.tree().join("ab").is_dir() {
            mode(&self.tree().join("ab"), 0o755);
        }
    }
}

fn put(path: &Path, content: &[u8]) {
    let mut file = fs::File::create(path).unwrap();
    io::Write::write_all(&mut file, content).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_tree_that_is_what_it_was_is_sound() {
    let Verdict::Sound(check) = Store::new().verify() else {
        panic!("nothing was changed")
    };
    assert_eq!((check.files, check.bytes), (2, 5001));
}

#[test]
fn every_difference_is_found_and_named() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 9] = [
        ("`ab/two` has other bytes", |tree| {
            mode(&tree.join("ab/two"), 0o644);
            let mut content = vec![2; 5000];
            content[4999] = 3;
            put(&tree.join("ab/two"), &content);
            mode(&tree.join("ab/two"), 0o444);
        }),
        ("`ab/two` has another length", |tree| {
            mode(&tree.join("ab/two"), 0o644);
            put(&tree.join("ab/two"), &[2; 4999]);
            mode(&tree.join("ab/two"), 0o444);
        }),
        ("`ab/one` is missing", |tree| {
            fs::remove_file(tree.join("ab/one")).unwrap()
        }),
        ("`ab/new` was not there before", |tree| {
            put(&tree.join("ab/new"), b"")
        }),
        ("`ab/one` has another mode", |tree| {
            mode(&tree.join("ab/one"), 0o555)
        }),
        ("`ab/one` is no regular file", |tree| {
            fs::remove_file(tree.join("ab/one")).unwrap();
            symlink("/etc/passwd", tree.join("ab/one")).unwrap();
        }),
        ("`ab/one` is no regular file", |tree| {
            fs::remove_file(tree.join("ab/one")).unwrap();
            nix::unistd::mkfifo(&tree.join("ab/one"), Mode::S_IRUSR).unwrap();
        }),
        ("`ab/one` is no regular file with one name", |tree| {
            fs::hard_link(tree.join("ab/one"), tree.join("../other")).unwrap();
        }),
        ("`xy` is no regular file", |tree| {
            symlink("ab", tree.join("xy")).unwrap()
        }),
    ];
    for (sentence, change) in cases {
        let store = Store::new();
        store.change(change);
        match store.verify() {
            Verdict::Differs(why) => assert!(why.contains(sentence), "{why}, not {sentence}"),
            Verdict::Sound(_) => panic!("not found: {sentence}"),
        }
    }
}

#[test]
fn a_manifest_cannot_be_changed_to_fit() {
    let store = Store::new();
    let text = fs::read_to_string(store.manifest()).unwrap();
    let digest = hash_of(b"1");
    for changed in [
        text.replace(&digest, &hash_of(b"2")),
        text.replace(" 0444 1 ", " 0555 1 "),
        text.replace("ab/one", "ab/oNe"),
        text.replace("\n", "\n\n"),
        text.replacen('{', "[", 1),
        text[..text.len() - 1].to_owned(),
        String::new(),
    ] {
        assert_ne!(changed, text);
        put(&store.manifest(), changed.as_bytes());
        assert!(matches!(store.verify(), Verdict::Differs(_)), "{changed}");
    }
}

fn hash_of(content: &[u8]) -> String {
    crate::policy::hex(&Sha256::digest(content))
}

#[test]
fn what_cannot_be_read_past_the_page_cache_is_said() {
    let store = Store::new();
    let Verdict::Sound(check) = store.verify() else {
        panic!("nothing was changed")
    };
    let mut reader = Reader::default();
    let file = fs::File::open(store.tree().join("ab/one")).unwrap();
    let read = reader.read(&file, |_| {}).unwrap();
    assert_eq!(
        read == Uncached::Read,
        check.not_past_cache.is_none(),
        "{read:?}"
    );
}
