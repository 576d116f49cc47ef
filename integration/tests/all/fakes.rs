//! The fakes are right: the real Go command takes them for a proxy and a checksum database.

use std::path::{Path, PathBuf};

use hotcell_integration::{
    command::{Ended, Run},
    fake::{self, Module, Proxy, set, sumdb, zip},
    host, paths, sdk,
    service::Place,
};

/// The Go command of this machine, unprotected, against a proxy.
fn go(folder: &Path, proxy: &Proxy, args: &[&str]) -> Ended {
    let path = |name: &str| folder.join(name).display().to_string();
    Run::new("go")
        .args(args)
        .folder(folder)
        .env("GOPROXY", proxy.url())
        .env("GOSUMDB", proxy.verifier_key())
        .env("GOPATH", path("gopath"))
        .env("GOMODCACHE", path("modcache"))
        .env("GOFLAGS", "-modcacherw -mod=mod")
        .env("GOTOOLCHAIN", "local")
        .env("GONOSUMDB", "")
        .env("GOPRIVATE", "")
        .env("CGO_ENABLED", "0")
        .wait()
}

#[test]
fn the_go_command_accepts_our_proxy_and_its_checksum_database() {
    let folder = paths::scratch("fakes");
    let proxy = fake::for_bare_go();
    for module in ["hello", "deps", "tidy", "pgo", "UpperCase/Tool", "many3"] {
        let spec = format!("ex.example/{module}@v1.0.0");
        let ended = go(folder.path(), proxy, &["install", &spec]);
        assert_eq!(ended.code, 0, "{spec}: {}", ended.err());
    }
    let ended = go(
        folder.path(),
        proxy,
        &["install", "ex.example/old@v2.0.0+incompatible"],
    );
    assert_eq!(ended.code, 0, "{}", ended.err());
    assert!(!proxy.asked_for("/sumdb/sumdb.example/tile/8/0/").is_empty());
}

#[test]
fn modules_that_hotcell_must_refuse_tempt_the_bare_go_command() {
    let folder = paths::scratch("fakes");
    let proxy = fake::for_bare_go();
    for (module, newer) in [("incomplete", "lib v1.1.0"), ("untidy", "b v1.2.0")] {
        let spec = format!("ex.example/{module}@v1.0.0");
        let ended = go(folder.path(), proxy, &["install", &spec]);
        assert_eq!(ended.code, 0, "{spec}: {}", ended.err());
        let binary = folder.path().join("gopath/bin").join(module);
        let printed = Run::new(binary).succeed();
        // The newest library of today got in although nobody asked for it.
        assert!(printed.err().contains(newer), "{spec}: {}", printed.err());
    }
}

#[test]
fn every_refused_module_fails_for_the_reason_it_was_made_for() {
    let folder = paths::scratch("fakes");
    for (module, reason) in [
        ("replace", "replace directives"),
        ("nomain", "not a main package"),
        ("cgo", "build constraints exclude all Go files"),
        ("syntax", "syntax error"),
        ("hostile", "undefined: undefined_by_us"),
        ("badmod", "go.mod"),
    ] {
        let spec = format!("ex.example/{module}@v1.0.0");
        let ended = go(folder.path(), fake::for_bare_go(), &["install", &spec]);
        assert_ne!(ended.code, 0, "{spec}");
        assert!(ended.err().contains(reason), "{spec}: {}", ended.err());
    }
    let hostile = go(
        folder.path(),
        fake::for_bare_go(),
        &["install", "ex.example/hostile@v1.0.0"],
    );
    assert!(
        hostile.err().contains('\u{1b}'),
        "escape sequences reach the terminal raw"
    );
    assert!(
        hostile.err().contains("<script>"),
        "markup reaches a page raw"
    );
}

#[test]
fn a_lenient_reader_finds_the_right_hash_of_crafted_zips() {
    for (path, how) in set::CRAFTED {
        let module = set::hello(path).crafted(how);
        let entries = zip::read_leniently(&module.zip());
        if matches!(how, fake::Crafted::Lying | fake::Crafted::Outside) {
            assert_ne!(
                sumdb::h1(&entries.expect("well-formed")),
                module.h1(),
                "{path}"
            );
        } else {
            let entries = entries.unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(sumdb::h1(&entries), module.h1(), "{path}");
        }
    }
}

#[test]
fn the_go_command_runs_code_that_no_hash_covers_when_nobody_is_strict() {
    let folder = paths::scratch("fakes");
    let proxy = fake::for_bare_go();
    let ended = Run::new("go")
        .args(["install", "zip.example/wrapped@v1.0.0"])
        .env("GOPROXY", proxy.url())
        .env("GOSUMDB", "off")
        .env("GOFLAGS", "-modcacherw")
        .env("GOPATH", folder.path())
        .env("GOMODCACHE", folder.path().join("modcache"))
        .folder(folder.path())
        .wait();
    assert_eq!(ended.code, 0, "{}", ended.err());
    let printed = Run::new(folder.path().join("bin/wrapped")).succeed();
    assert!(printed.err().contains(zip::EVIL), "{}", printed.err());
}

#[test]
fn the_sdk_of_the_fake_proxy_is_the_real_one() {
    let sdk = sdk::zip(sdk::GO);
    assert!(sdk.h1.starts_with("h1:"));
    assert_eq!(
        sdk.go_mod_h1,
        "h1:8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="
    );
    let own = Module::new("x.example/m", "v1.0.0", &[("go.mod", sdk::GO_MOD)]);
    assert_eq!(own.go_mod_h1(), sdk.go_mod_h1, "one way of hashing");
}

#[test]
fn a_place_with_a_stock_fetches_no_sdk_and_compiles_no_standard_library() {
    let folder = paths::scratch("stocked");
    let proxy = Proxy::start(vec![set::hello("stocked.example/hello")]);
    let place = Place::new(folder.path(), &proxy).stocked();
    let entries = |kind: &str| {
        let trees = host::tree(&folder.path().join("data/store").join(kind));
        let whole = |path: &&PathBuf| path.components().count() == 1;
        trees.keys().filter(whole).cloned().collect::<Vec<_>>()
    };
    let before = ["sdk", "std"].map(entries);
    assert!(before.iter().all(|trees| !trees.is_empty()), "{before:?}");
    place.serve(&[]).builds("stocked.example/hello");
    assert_eq!(["sdk", "std"].map(entries), before);
    let asked = proxy.asked_for("golang.org/toolchain");
    assert!(!asked.iter().any(|url| url.ends_with(".zip")), "{asked:?}");
}
