//! A module proxy that shows one reader other files than another gets nothing built.

use hotcell_integration::{
    fake::{self, set, zip},
    paths, service,
};

use crate::support::{bare_go, build, refused};

#[test]
fn a_crafted_zip_is_refused_although_a_lenient_reader_finds_the_right_hash() {
    let folder = paths::scratch("zips");
    for (path, how) in set::CRAFTED {
        let output = folder.path().join("binary");
        let spec = format!("{path}@v1.0.0");
        let ended = build(&spec, &output, &[]);
        if how == fake::Crafted::Lying {
            assert_eq!(ended.code, 3, "a wrong hash: {}", ended.err());
        }
        assert_ne!(ended.code, 0, "{path}");
        refused(path, &ended, ended.code, &["hotcell: ", path]);
        assert!(!ended.err().contains(zip::EVIL), "{path}");
        let asked = fake::shared().asked_for(&format!("{path}/@v/v1.0.0.zip"));
        assert!(!asked.is_empty(), "{path}: the zip was looked at");
    }
    let cache = hotcell_integration::host::tree(&service::user().folder.join("cache"));
    let crafted = cache
        .keys()
        .find(|path| path.display().to_string().contains("zip.example"));
    assert!(
        crafted.is_none_or(|path| path.extension().is_none_or(|kind| kind != "zip")),
        "no zip of a refused module is kept: {crafted:?}"
    );
}

#[test]
fn rewriting_zips_changes_no_binary() {
    let folder = paths::scratch("zips");
    for (module, name) in [
        ("ex.example/deps", "deps"),
        ("ex.example/tidy", "tidy"),
        ("ex.example/UpperCase/Tool", "Tool"),
    ] {
        let output = folder.path().join(name);
        let ended = build(&format!("{module}@v1.0.0"), &output, &[]);
        assert_eq!(ended.code, 0, "{module}: {}", ended.err());
        assert_eq!(ended.json()["sha256"], bare_go(module, name), "{module}");
    }
}
