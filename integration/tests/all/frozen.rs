//! The frozen standard library: no build writes what another reads.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use hotcell_integration::{host, paths, service};

use crate::support::build;

/// Whether the path lies in an SDK or a frozen cache, such as `std/<hex>/00/…`.
fn in_tree(path: &Path) -> bool {
    path.components().count() > 2 && (path.starts_with("sdk") || path.starts_with("std"))
}

#[test]
fn builds_change_no_file_of_the_frozen_caches_and_of_the_sdk() {
    let place = service::user();
    let store = place.folder.join("cache/hotcell/store");
    let before = host::tree(&store);
    let frozen = before
        .iter()
        .filter(|(path, seen)| path.starts_with("std") && !seen.folder);
    assert!(
        frozen.count() > 300,
        "the frozen cache of this SDK is there: {}",
        store.display()
    );
    let folder = paths::scratch("frozen");
    for module in ["proof", "tidy", "pgo", "syntax"] {
        build(
            &format!("ex.example/{module}@v1.0.0"),
            &folder.path().join(module),
            &[],
        );
    }
    let after = host::tree(&store);
    for (path, seen) in before.iter().filter(|(path, _)| in_tree(path)) {
        // The time of the last change counts every write, also one that was undone.
        assert_eq!(after.get(path), Some(seen), "{}", path.display());
    }
    let known: BTreeSet<_> = before
        .keys()
        .filter(|path| path.components().count() == 2)
        .collect();
    for path in after.keys().filter(|path| in_tree(path)) {
        let top: PathBuf = path.components().take(2).collect();
        assert!(
            !known.contains(&top) || before.contains_key(path),
            "new: {}",
            path.display()
        );
    }
}

#[test]
fn frozen_files_belong_to_nobody_in_a_cell_and_cannot_be_written() {
    let store = service::user().folder.join("cache/hotcell/store");
    let mut looked_at = 0;
    for (path, seen) in host::tree(&store) {
        if in_tree(&path) && !seen.folder {
            assert_eq!(seen.mode & 0o7222, 0, "{}: {:o}", path.display(), seen.mode);
            looked_at += 1;
        }
    }
    assert!(
        looked_at > 10_000,
        "an SDK and a frozen cache: {looked_at} files"
    );
}
