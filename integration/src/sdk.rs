//! The Go SDK that the fake proxy serves: the real one, fetched once by the Go command itself.

use std::{fs, path::PathBuf};

use crate::{command::Run, fake::sumdb, paths};

/// Module path of all SDKs.
pub const MODULE: &str = "golang.org/toolchain";
/// The release that tests build with.
pub const GO: &str = "go1.26.8";
/// The go.mod of every SDK, which the zip does not hold under this name.
pub const GO_MOD: &str = "module golang.org/toolchain\n";

/// A downloaded SDK.
#[derive(Debug, Clone)]
pub struct Sdk {
    /// Its zip.
    pub zip: PathBuf,
    /// Directory hash, which the Go command checked against the real checksum database.
    pub h1: String,
    /// Hash of its go.mod.
    pub go_mod_h1: String,
}

/// `go1.26.8` → `v0.0.1-go1.26.8.linux-amd64`
pub fn version(go: &str) -> String {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    format!("v0.0.1-{go}.linux-{arch}")
}

/// The zip of an SDK from the cache of the tests; downloaded when it is not there.
pub fn zip(go: &str) -> Sdk {
    let version = version(go);
    let modcache = paths::cache().join("gomodcache");
    let folder = modcache.join("cache/download").join(MODULE).join("@v");
    let zip = folder.join(format!("{version}.zip"));
    let hash = folder.join(format!("{version}.ziphash"));
    if !hash.is_file() {
        Run::new("go")
            .args(["mod", "download", "-json", &format!("{MODULE}@{version}")])
            .env("GOMODCACHE", &modcache)
            .env("GOFLAGS", "-modcacherw")
            .env("GO111MODULE", "on")
            .folder(paths::cache())
            .succeed();
    }
    let h1 = fs::read_to_string(&hash).expect("the Go command left the hash of the zip");
    let go_mod = vec![("go.mod".to_owned(), GO_MOD.as_bytes().to_vec())];
    Sdk {
        zip,
        h1: h1.trim().to_owned(),
        go_mod_h1: sumdb::h1(&go_mod),
    }
}
