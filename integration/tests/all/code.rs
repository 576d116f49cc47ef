//! What a result says beside its record: how much machine code each package brings, compared with
//! what Go's own tools say, and the licences of its modules.

use std::{collections::BTreeMap, fs, time::Duration};

use hotcell_integration::{
    command::Run,
    host, http, paths, sdk,
    service::{self, Service, build_path},
};
use serde_json::{Value, json};

/// How much code may differ: a symbol ends before the padding behind it, which is 5 % of the
/// runtime.
const PERCENT: u64 = 8;
/// Packages with less code are all padding.
const BYTES_MIN: u64 = 2_000;
/// Longest time until the licences of three modules are known.
const LICENCES_MAX: Duration = Duration::from_secs(60);

/// Has a build made and answers with its result for programs.
fn result(service: &Service, path: &str) -> Value {
    let record = http::get(&format!("{}{path}record", service.url()));
    assert_eq!(record.status, 200, "{path}: {}", record.text());
    let result = http::get(&format!("{}/api/v1/results{path}", service.url()));
    serde_json::from_slice(&result.body).expect("JSON")
}

/// Bytes by package, as hotcell says.
fn said(result: &Value) -> BTreeMap<String, u64> {
    let packages = result["code"]["packages"]
        .as_array()
        .expect("a list")
        .iter();
    let one = |package: &Value| {
        let path = package["path"].as_str().expect("a path").to_owned();
        (path, package["bytes"].as_u64().expect("a number"))
    };
    packages.map(one).collect()
}

/// Bytes by package, as the symbols of a binary say that has them.
fn by_go(binary: &[u8], main: &str) -> BTreeMap<String, u64> {
    let folder = paths::scratch("nm");
    let file = folder.path().join("binary");
    fs::write(&file, binary).expect("the folder is ours");
    let listed = Run::new("go")
        .args(["tool", "nm", "-size"])
        .arg(&file)
        .succeed();
    let mut sums = BTreeMap::new();
    for line in listed.out().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, size, "T" | "t", name, ..] = words[..] else {
            continue;
        };
        let plain = name.split('[').next().unwrap_or_default();
        let element = plain.rfind('/').unwrap_or(0);
        let Some(dot) = plain[element..].find('.') else {
            continue;
        };
        let package = match &plain[..element + dot] {
            "main" => main,
            package if package.contains(':') => continue,
            package => package,
        };
        let size: u64 = size.parse().expect("a size");
        *sums.entry(package.to_owned()).or_default() += size;
    }
    sums
}

#[test]
fn the_code_of_each_package_is_what_gos_own_tools_say() {
    const MODULE: &str = "ex.example/licensed";
    let service = service::service();
    let path = build_path(MODULE);
    let result = result(service, &path);
    let file = result["file"].as_str().expect("a path");
    let binary = http::get(&format!("{}{file}", service.url())).body;
    let (ours, theirs) = (said(&result), by_go(&binary, MODULE));
    assert!(theirs.len() > 10, "{theirs:?}");
    for (package, theirs) in theirs.iter().filter(|(_, bytes)| **bytes >= BYTES_MIN) {
        let ours = ours.get(package).copied().unwrap_or(0);
        let differ = ours.abs_diff(*theirs) * 100;
        assert!(
            differ <= theirs * PERCENT,
            "{package}: {ours}, by go {theirs}"
        );
    }
    let (all, all_theirs): (u64, u64) = (ours.values().sum(), theirs.values().sum());
    assert!(
        all.abs_diff(all_theirs) * 100 <= all_theirs * PERCENT,
        "{all}, by go {all_theirs}"
    );
    for package in [
        MODULE,
        "ex.example/libre",
        "ex.example/libre/odd",
        "runtime",
    ] {
        assert!(
            ours.get(package).is_some_and(|bytes| *bytes > 100),
            "{package}: {ours:?}"
        );
    }
    // A module has what its packages have, not what those of a module below its path have.
    let module = |path: &str| {
        let modules = result["modules"].as_array().expect("a list");
        let module = modules.iter().find(|one| one["path"] == path);
        module.expect("a module of the build")["code"].as_u64()
    };
    for path in ["ex.example/libre", "ex.example/libre/odd"] {
        assert_eq!(module(path), ours.get(path).copied(), "{path}");
    }
    // Without symbols it says the same.
    let stripped = format!("{}-stripped/", path.trim_end_matches('/'));
    assert_eq!(said(&self::result(service, &stripped)), ours);
}

#[test]
fn binaries_of_other_systems_say_it_too_and_where_they_do_not_nothing_is_said() {
    let service = service::service();
    let go = sdk::GO;
    for target in ["windows-amd64", "darwin-arm64"] {
        let path = format!("/ex.example/licensed@v1.0.0/{target}-{go}-stripped/");
        let ours = said(&result(service, &path));
        for (package, least) in [("runtime", 100_000), ("ex.example/libre", 100)] {
            let bytes = ours.get(package).copied().unwrap_or(0);
            assert!(bytes > least, "{target} {package}: {ours:?}");
        }
    }
    let path = format!("/ex.example/licensed@v1.0.0/js-wasm-{go}/");
    assert_eq!(result(service, &path)["code"], Value::Null);
}

#[test]
fn the_licences_of_a_builds_modules_are_known_soon_after_it() {
    let service = service::service();
    let path = build_path("ex.example/licensed");
    let known = host::wait_for(LICENCES_MAX, || {
        let result = result(service, &path);
        let modules = result["modules"].as_array().expect("a list").clone();
        let all = modules.iter().all(|module| !module["licences"].is_null());
        all.then_some(modules)
    });
    let known = known.unwrap_or_else(|| panic!("{}", result(service, &path)));
    let of = |path: &str| {
        let module = known.iter().find(|module| module["path"] == path);
        module.expect("a module of the build")["licences"].clone()
    };
    let licences = |ids: &[&str], others: bool| json!({ "ids": ids, "others": others });
    assert_eq!(
        of("ex.example/libre"),
        licences(&["Apache-2.0", "MIT"], false)
    );
    assert_eq!(of("ex.example/libre/odd"), licences(&[], true));
    assert_eq!(of("ex.example/licensed"), licences(&[], false));
    let (_, page) = http::get_following(&service.url(), &path);
    for part in [
        "<td>Apache-2.0, MIT</td>",
        "<td>not recognised</td>",
        "<td>none found</td>",
    ] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
}
