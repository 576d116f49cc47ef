//! Where the program, the repository and the caches of the tests are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tempfile::TempDir;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("integration/ lies in the repository")
        .to_owned()
}

/// The program under test: `HOTCELL_BIN`, else the one that was built next to this test.
pub fn hotcell() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        if let Some(path) = env::var_os("HOTCELL_BIN") {
            return PathBuf::from(path);
        }
        // target/release/deps/all-0123 → target/release/hotcell
        let test = env::current_exe().expect("a running program has a path");
        let folder = test.ancestors().find(|path| path.join("hotcell").is_file());
        let folder = folder.expect("no program `hotcell` here: run `cargo build --release` first");
        folder.join("hotcell")
    });
    found.clone()
}

/// What is kept between runs: downloaded SDKs, helper programs. `HOTCELL_TEST_CACHE`, else under
/// `target/`.
pub fn cache() -> PathBuf {
    let folder = env::var_os("HOTCELL_TEST_CACHE")
        .map_or_else(|| repository().join("target/integration"), PathBuf::from);
    fs::create_dir_all(&folder).expect("the cache folder can be made");
    folder
}

/// A folder of one test's own, gone when the guard is dropped.
pub fn scratch(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("hotcell-{name}-"))
        .tempdir()
        .expect("a temporary folder can be made")
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
