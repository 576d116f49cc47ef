//! The repository keeps its own rules: unprivileged, without network, in seconds.
#![expect(
    clippy::disallowed_methods,
    reason = "one question to cargo, which needs no network"
)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the failure"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Longest file before its tests, in lines (STYLE.md: is there a room missing?).
const FILE_LINES_MAX: usize = 400;
/// Longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folders` with this extension, but for those in `target/`.
fn files(folders: &[&str], extension: &str) -> Vec<(PathBuf, String)> {
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|kind| kind == extension) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn code() -> Vec<(PathBuf, String)> {
    files(
        &[
            "src",
            "sandbox",
            "integration/src",
            "integration/tests",
            "tests",
            "selftest",
        ],
        "rs",
    )
}

/// The part of a file before its tests.
fn before_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn files_are_short_and_say_what_they_own() {
    for (path, text) in code() {
        let tests = path.to_string_lossy().ends_with("tests.rs");
        let lines = if tests {
            0
        } else {
            before_tests(&text).lines().count()
        };
        assert!(lines <= FILE_LINES_MAX, "{}: {lines} lines", path.display());
        assert!(text.starts_with("//!"), "{}: no //! header", path.display());
        // A row of a table in documentation cannot be broken, nor one of the hostile program's.
        let rows = path.starts_with("selftest/table");
        let breakable = |line: &&str| !line.starts_with("//! |") && !rows;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| breakable(line)) {
            let columns = line.chars().count();
            assert!(
                columns <= 100,
                "{}:{}: {columns} columns",
                path.display(),
                number + 1
            );
        }
    }
}

#[test]
fn functions_are_short() {
    let is_test = |path: &Path| path.display().to_string().contains("tests");
    for (path, text) in code().iter().filter(|(path, _)| !is_test(path)) {
        let text = before_tests(text);
        // rustfmt puts the end of a function into the column of its beginning.
        let lines: Vec<&str> = text.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = line.split(['(', '<']).next().unwrap().split(' ').collect();
            let is_function = words.contains(&"fn") && !line.trim_start().starts_with("//");
            if !is_function || line.ends_with(';') || line.ends_with('}') {
                continue;
            }
            let rest = &lines[start..];
            let body = rest.iter().position(|line| line.ends_with('{'));
            let bare = rest.iter().position(|line| line.ends_with(';'));
            if bare.is_some_and(|bare| body.is_none_or(|body| bare < body)) {
                continue; // a signature of a trait, in several lines
            }
            let end = format!("{}}}", " ".repeat(indent));
            let length = rest
                .iter()
                .position(|line| *line == end)
                .map_or(0, |at| at + 1);
            let place = format!("{}:{}", path.display(), start + 1);
            assert!(
                length <= FUNCTION_LINES_MAX,
                "{place}: a function of {length} lines"
            );
        }
    }
}

#[test]
fn nothing_is_unfinished_and_no_test_is_ignored() {
    let words = ["todo", "unimplemented"].map(|word| format!("{word}!("));
    let marks = [
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["#[ign", "ore"].concat(),
    ];
    for (path, text) in code() {
        for word in words.iter().chain(&marks) {
            assert!(!text.contains(word.as_str()), "{}: {word}", path.display());
        }
    }
}

#[test]
fn unsafe_code_stands_in_one_place() {
    for (path, text) in code() {
        let is_sys = path.starts_with("sandbox/src/sys")
            || path.ends_with("sandbox/src/sys.rs")
            // The hostile program makes calls that no library would.
            || path == Path::new("selftest/kernel.rs");
        for (number, line) in text.lines().enumerate().filter(|_| !is_sys) {
            let code = line.split("//").next().unwrap();
            let is_unsafe = ["{", "fn", "impl", "extern"]
                .iter()
                .any(|next| code.contains(&["unsafe ", next].concat()));
            assert!(!is_unsafe, "{}:{}: {line}", path.display(), number + 1);
        }
    }
}

#[test]
fn every_rule_of_every_policy_says_why() {
    let policies = files(&["policies", "selftest"], "toml");
    assert!(!policies.is_empty());
    for (path, text) in policies {
        let policy: toml::Table = text.parse().unwrap();
        assert_whys(&path.display().to_string(), &policy);
    }
}

/// The table itself, and every table in it that is a rule, has a reason of some words.
fn assert_whys(place: &str, table: &toml::Table) {
    let why = table
        .get("why")
        .and_then(toml::Value::as_str)
        .unwrap_or_default();
    let is_group = table.values().all(toml::Value::is_table) && !table.is_empty();
    assert!(
        is_group || why.split(' ').count() >= 2,
        "{place}: no reason"
    );
    for (name, value) in table {
        let place = format!("{place}: {name}");
        match value {
            toml::Value::Table(inner) => assert_whys(&place, inner),
            toml::Value::Array(list) if name != "when" => {
                for (number, value) in list.iter().enumerate() {
                    if let toml::Value::Table(inner) = value {
                        assert_whys(&format!("{place} {number}"), inner);
                    }
                }
            }
            _ => {}
        }
    }
}

/// `go1.26.8.linux` → `go1.26.8`
fn release(word: &str) -> Option<String> {
    let numbers: Vec<&str> = word.strip_prefix("go1.")?.split('.').collect();
    Some(format!("go1.{}", numbers.get(..2)?.join(".")))
}

#[test]
fn pinned_toolchains_have_well_formed_hashes() {
    use base64::Engine as _;
    let pinned = files(&["toolchains"], "toml");
    let mut releases = BTreeSet::new();
    for (path, text) in &pinned {
        let mut hashes = 0;
        for part in text.split('"').filter(|part| part.starts_with("h1:")) {
            let bytes = base64::prelude::BASE64_STANDARD.decode(&part[3..]);
            assert!(
                bytes.is_ok_and(|bytes| bytes.len() == 32),
                "{}: {part}",
                path.display()
            );
            hashes += 1;
        }
        assert!(hashes > 0, "{}: no hash", path.display());
        let word = |letter: char| !letter.is_ascii_alphanumeric() && letter != '.';
        releases.extend(text.split(word).filter_map(release));
    }
    for release in [
        "go1.21.0",
        "go1.22.12",
        "go1.23.12",
        "go1.24.13",
        "go1.25.4",
        "go1.26.8",
        "go1.27.4",
    ] {
        assert!(
            releases.contains(release),
            "{release} is not pinned: {releases:?}"
        );
    }
}

/// What cargo knows of all packages, from the lock file and the local registry alone.
fn metadata() -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--offline", "--locked"]);
    command
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root());
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of all packages that end up in a program which depends on `package`.
fn dependencies(metadata: &Value, package: &str) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeMap<String, String> = packages
        .iter()
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect();
    let nodes: BTreeMap<String, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (text(&node["id"]), &node["deps"]))
        .collect();
    let mut open: Vec<String> = names
        .iter()
        .filter(|(_, name)| *name == package)
        .map(|(id, _)| id.clone())
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        for dependency in nodes[&id].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let linked = kinds.iter().any(|kind| kind["kind"].is_null());
            let id = text(&dependency["pkg"]);
            if linked && seen.insert(names[&id].clone()) {
                open.push(id);
            }
        }
    }
    seen
}

#[test]
fn the_supervisor_depends_on_little_and_on_nothing_that_parses_the_world() {
    let found = dependencies(&metadata(), "hotcell-sandbox");
    for word in [
        "tokio", "async", "futures", "mio", "hyper", "http", "reqwest", "axum", "tls",
    ] {
        let bad = found.iter().find(|name| name.contains(word));
        assert!(bad.is_none(), "async or HTTP: {bad:?}");
    }
    for name in [
        "zip",
        "tar",
        "flate2",
        "miniz_oxide",
        "brotli",
        "zstd",
        "rusqlite",
    ] {
        assert!(!found.contains(name), "archive or database: {name}");
    }
    insta::assert_snapshot!(
        "sandbox_dependencies",
        found.into_iter().collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn licences_of_all_dependencies_are_permissive() {
    /// Any of these in an expression's alternative is enough.
    const PERMISSIVE: [&str; 13] = [
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "Unlicense",
        "Unicode-3.0",
        "CC0-1.0",
        "BSL-1.0",
        "MIT-0",
        "CDLA-Permissive-2.0",
    ];
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"]
            .as_str()
            .unwrap_or_default()
            .replace('/', " OR ");
        let one = |term: &str| {
            let plain = term.split(" WITH ").next().unwrap_or_default();
            PERMISSIVE.contains(&plain.trim_matches(['(', ')', ' ']))
        };
        // `A AND (B OR C)`: every factor needs a permissive alternative.
        let permissive = licence
            .split(" AND ")
            .all(|factor| factor.split(" OR ").any(one));
        assert!(permissive, "{}: `{licence}`", package["name"]);
    }
}

#[test]
fn no_path_of_a_machine_and_no_name_of_a_registry_is_in_the_tree() {
    let mut all = code();
    for (folder, extension) in [
        ("policies", "toml"),
        ("toolchains", "toml"),
        ("templates", "html"),
        ("integration", "go"),
        ("integration/data", "json"),
    ] {
        all.extend(files(&[folder], extension));
    }
    for name in [
        "README.md",
        "Cargo.toml",
        "integration/run",
        "integration/bench",
        ".ci/run",
    ] {
        let text = fs::read_to_string(root().join(name)).unwrap_or_default();
        all.push((name.into(), text));
    }
    // Put together here, so that this file does not hold them.
    let mut words = ["root", "work", "farm", "Users"]
        .map(|name| format!("/{name}/"))
        .to_vec();
    words.push(["proxy.golang", ".org"].concat());
    words.push(env!("CARGO_MANIFEST_DIR").to_owned());
    for (path, text) in all {
        for word in &words {
            // A path that begins here, not a part of another one.
            let begins = |at: usize| !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
            let used = text.match_indices(word.as_str()).any(|(at, _)| begins(at));
            assert!(!used, "{}: {word}", path.display());
        }
    }
}
