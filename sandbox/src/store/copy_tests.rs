//! Trees that must not be copied, and one that must.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use super::*;

fn open(path: &Path) -> OwnedFd {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    nix::fcntl::open(path, flags, Mode::empty()).unwrap()
}

fn try_copy(from: &Path, to: &Path) -> Result<Vec<Entry>, StoreError> {
    let rules = Rules {
        take: |path, _| match path {
            "skipped" => Take::Skip,
            "refused" => Take::Refuse,
            "x" => Take::With(0o555),
            _ => Take::With(0o444),
        },
        modified_s: Some(4_102_444_800),
    };
    copy(open(from).as_fd(), open(to).as_fd(), &rules)
}

fn file(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path)
        .unwrap()
        .write_all(content.as_bytes())
        .unwrap();
}

/// Folders of copies are read-only; an ordinary user could not delete them.
fn writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_was_hashed_is_what_was_written() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    file(&from.path().join("a/b"), "content");
    file(&from.path().join("x"), "");
    file(&from.path().join("skipped"), "not here");
    let mut entries = try_copy(from.path(), to.path()).unwrap();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(entries.len(), 2);
    assert_eq!(
        (entries[0].path.as_str(), entries[0].mode, entries[0].bytes),
        ("a/b", 0o444, 7)
    );
    assert_eq!(
        entries[0].sha256,
        <[u8; 32]>::from(Sha256::digest("content"))
    );
    let meta = fs::metadata(to.path().join("a/b")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o444, 4_102_444_800));
    assert_eq!(
        fs::metadata(to.path().join("x")).unwrap().mode() & 0o7777,
        0o555
    );
    assert_eq!(
        fs::metadata(to.path().join("a")).unwrap().mode() & 0o7777,
        0o555
    );
    assert!(!to.path().join("skipped").exists());
    writable(to.path());
    writable(&to.path().join("a"));
}

#[test]
fn links_pipes_and_unexpected_files_are_refused() {
    type Make = fn(&Path);
    let cases: [Make; 6] = [
        |dir| symlink("/etc/passwd", dir.join("a")).unwrap(),
        |dir| symlink(".", dir.join("a")).unwrap(),
        |dir| nix::unistd::mkfifo(&dir.join("a"), Mode::S_IRWXU).unwrap(),
        |dir| {
            file(&dir.join("a"), "");
            fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
        },
        |dir| file(&dir.join("refused"), ""),
        |dir| file(&dir.join("a\nb"), ""),
    ];
    for make in cases {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        make(from.path());
        assert!(try_copy(from.path(), to.path()).is_err());
        writable(to.path());
    }
}

#[test]
fn too_deep_a_tree_is_refused() {
    for (depth, fits) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("d/".repeat(depth))).unwrap();
        assert_eq!(try_copy(from.path(), to.path()).is_ok(), fits);
        let mut path = to.path().to_owned();
        while path.is_dir() {
            writable(&path);
            path.push("d");
        }
    }
}
