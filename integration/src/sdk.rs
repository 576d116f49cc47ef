//! The Go SDK that the fake proxy serves: the real one, fetched once by the Go command itself.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read},
    path::{Path, PathBuf},
};

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

/// The SDK of the tests under the name of another release, with more files in it: what a test wants
/// to run in a cell and cannot bring as one static program.
pub fn with_more(folder: &Path, release: &str, more: &[(String, PathBuf)]) -> Sdk {
    let old = format!("{MODULE}@{}/", version(GO));
    let new = format!("{MODULE}@{}/", version(release));
    let path = folder.join(format!("{release}.zip"));
    let from = File::open(zip(GO).zip).expect("the SDK is in the cache");
    let mut from = ::zip::ZipArchive::new(BufReader::new(from)).expect("the SDK is a zip");
    let to = File::create(&path).expect("the folder takes files");
    let mut to = ::zip::ZipWriter::new(BufWriter::new(to));
    let mut entries = Vec::new();
    for index in 0..from.len() {
        let mut file = from.by_index(index).expect("the zip has this entry");
        let name = file.name().expect("the entry has a name");
        let name = name
            .strip_prefix(&old)
            .expect("entries have the module's prefix");
        let name = format!("{new}{name}");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("the entry unpacks");
        drop(file);
        let file = from.by_index_raw(index).expect("the zip has this entry");
        to.raw_copy_file_rename(file, name.as_str())
            .expect("the copy is written");
        entries.push((name, bytes));
    }
    for (name, file) in more {
        let name = format!("{new}{name}");
        let bytes = fs::read(file).expect("the file can be read");
        let options = ::zip::write::SimpleFileOptions::default();
        to.start_file(name.as_str(), options)
            .expect("the zip takes files");
        std::io::Write::write_all(&mut to, &bytes).expect("the zip takes bytes");
        entries.push((name, bytes));
    }
    to.finish().expect("the zip is complete");
    Sdk {
        zip: path,
        h1: sumdb::h1(&entries),
        go_mod_h1: zip(GO).go_mod_h1,
    }
}
