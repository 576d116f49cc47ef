//! Two results side by side: what differs in what they were made from, and whether the bytes do.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::Arc,
};

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use crate::{
    build::PackageCode,
    fetch::wire::ModuleHash,
    serve::{
        answer::{self, NO_STORE, Refusal},
        app::App,
        catalogue::{Recent, ResultRow},
        pages::{clean, slashed},
        words,
    },
    spec::{BuildKey, Variant, hex, url},
};

/// Keys of the two, as the log has them.
#[derive(Debug, Deserialize)]
pub(in crate::serve) struct Asked {
    a: String,
    b: String,
}

/// Another result of the same package, to compare with.
pub(in crate::serve) struct Choice {
    pub(in crate::serve) key: String,
    pub(in crate::serve) text: String,
}

impl Choice {
    pub(in crate::serve) fn of(recent: &Recent) -> Self {
        let key = &recent.key;
        let stripped = if key.variant == Variant::Stripped {
            " stripped"
        } else {
            ""
        };
        let (version, target, go) = (&key.module.version, slashed(key.target), key.go);
        Self {
            key: key.to_string(),
            text: format!("{version} {target} {go}{stripped}"),
        }
    }
}

/// A fact of both.
struct Fact {
    name: &'static str,
    a: String,
    b: String,
    /// For text that a script of a screen reader can tell from a colour.
    differs: bool,
    is_hash: bool,
}

/// A module that is not the same in both.
struct Changed {
    path: String,
    a: String,
    b: String,
    how: &'static str,
}

/// A package that does not bring the same bytes to both.
struct Grown {
    path: String,
    a: String,
    b: String,
    /// With its sign.
    by: String,
}

/// Code of both by package, as far as both are known.
struct Sizes {
    a: String,
    b: String,
    by: String,
    grown: Vec<Grown>,
    /// How many that differ are not listed, and how many do not differ.
    more: usize,
    same: usize,
}

/// Packages that are listed, those that differ most first.
const GROWN_SHOWN: usize = 100;

/// `/-/compare`
#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage {
    packages: [String; 2],
    hrefs: [String; 2],
    same_bytes: bool,
    facts: Vec<Fact>,
    changed: Vec<Changed>,
    same: usize,
    sizes: Option<Sizes>,
}

/// `GET /-/compare?a=…&b=…`: builds nothing.
pub(in crate::serve) async fn show(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = asked.map_err(|_| {
        let remedy =
            "start at the page of a result, or write ?a=KEY&b=KEY with two keys of the log";
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_query",
            "two keys are needed",
            remedy,
        )
    })?;
    let a = result(&app, &asked.a).await?;
    let b = result(&app, &asked.b).await?;
    let code = |row: &ResultRow| {
        let code = app.catalogue.all_code(&row.key);
        code.map_err(|cause| Refusal::internal(&cause))
    };
    let mut page = ComparePage::new(&a, &b);
    if let (Some((_, a)), Some((_, b))) = (code(&a)?, code(&b)?) {
        page.sizes = Some(sizes(&a, &b));
    }
    Ok(answer::cached(answer::page(&page), NO_STORE))
}

async fn result(app: &App, key: &str) -> Result<ResultRow, Refusal> {
    let key = BuildKey::parse(key.trim_start_matches('/'))?;
    let row = app.catalogue.result(&key);
    let row = row.map_err(|cause| Refusal::internal(&cause))?;
    row.ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "not_built",
            &format!("`{key}` is not built here"),
            "open its page, build it, and compare then",
        )
    })
}

impl ComparePage {
    fn new(a: &ResultRow, b: &ResultRow) -> Self {
        let both = [a, b];
        let fact = |name, is_hash, of: &dyn Fn(&ResultRow) -> String| {
            let [a, b] = both.map(of);
            let differs = a != b;
            Fact {
                name,
                a,
                b,
                differs,
                is_hash,
            }
        };
        let variant = |row: &ResultRow| match row.key.variant {
            Variant::Plain => "with symbols".to_owned(),
            Variant::Stripped => "stripped".to_owned(),
        };
        let facts = vec![
            fact("Version", false, &|row| row.key.module.version.to_string()),
            fact("Target", false, &|row| slashed(row.key.target)),
            fact("Go", false, &|row| row.key.go.to_string()),
            fact("Variant", false, &variant),
            fact("Size", false, &|row| {
                format!("{} ({} bytes)", words::size(row.size), row.size)
            }),
            fact("Sum", false, &|row| row.sum().to_string()),
            fact("SHA-256", true, &|row| hex(&row.sha256)),
            fact("Go SDK", true, &|row| clean(&row.built.sdk_h1)),
            fact("Policy", true, &|row| clean(&row.built.cell.policy_sha256)),
            fact("Entry", false, &|row| format!("number {}", row.log_index)),
            fact("Built", false, &|row| words::time(row.built_ms)),
        ];
        let (changed, same) = modules(&a.built.modules, &b.built.modules);
        Self {
            packages: both.map(|row| row.key.package()),
            hrefs: both.map(|row| url::result_path(&row.key, &row.sum())),
            same_bytes: a.sha256 == b.sha256,
            facts,
            changed,
            same,
            sizes: None,
        }
    }
}

/// Packages by what they bring to each; those that only one has bring nothing to the other.
fn sizes(a: &[PackageCode], b: &[PackageCode]) -> Sizes {
    let mut both = BTreeMap::<&str, [u64; 2]>::new();
    for (side, packages) in [a, b].into_iter().enumerate() {
        for package in packages {
            both.entry(package.path.as_str()).or_default()[side] = package.bytes;
        }
    }
    let sum = |packages: &[PackageCode]| packages.iter().map(|one| one.bytes).sum::<u64>();
    let (all_a, all_b) = (sum(a), sum(b));
    let packages = both.len();
    let mut grown: Vec<_> = both.into_iter().filter(|(_, [a, b])| a != b).collect();
    let same = packages - grown.len();
    grown.sort_by_key(|(path, [a, b])| (Reverse(a.abs_diff(*b)), *path));
    let more = grown.len().saturating_sub(GROWN_SHOWN);
    grown.truncate(GROWN_SHOWN);
    let bytes = |bytes: u64| match bytes {
        0 => "–".to_owned(),
        bytes => words::size(bytes),
    };
    let grown = grown.into_iter().map(|(path, [a, b])| Grown {
        path: path.to_owned(),
        a: bytes(a),
        b: bytes(b),
        by: difference(a, b),
    });
    Sizes {
        a: words::size(all_a),
        b: words::size(all_b),
        by: difference(all_a, all_b),
        grown: grown.collect(),
        more,
        same,
    }
}

/// From one to the other, with its sign.
fn difference(a: u64, b: u64) -> String {
    let sign = match a.cmp(&b) {
        Ordering::Less => "+",
        Ordering::Equal => "±",
        Ordering::Greater => "−",
    };
    format!("{sign}{}", words::size(a.abs_diff(b)))
}

/// Modules with code in the binary that differ, and how many do not.
fn modules(a: &[ModuleHash], b: &[ModuleHash]) -> (Vec<Changed>, usize) {
    let linked = |modules: &[ModuleHash]| -> BTreeMap<String, (String, String)> {
        let linked = modules.iter().filter_map(|module| {
            let h1 = module.h1.as_deref()?; // else only its go.mod was read
            Some((clean(&module.path), (clean(&module.version), clean(h1))))
        });
        linked.collect()
    };
    let (a, b) = (linked(a), linked(b));
    let paths: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut same = 0;
    let mut changed = Vec::new();
    for path in paths {
        let version =
            |side: Option<&(String, String)>| side.map_or("–".to_owned(), |s| s.0.clone());
        let how = match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) if a == b => {
                same += 1;
                continue;
            }
            (Some(a), Some(b)) if a.0 == b.0 => "other content", // never, by the checksum database
            (Some(_), Some(_)) => "other version",
            (None, _) => "only in the second",
            (_, None) => "only in the first",
        };
        changed.push(Changed {
            path: path.clone(),
            a: version(a.get(path)),
            b: version(b.get(path)),
            how,
        });
    }
    (changed, same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, version: &str, linked: bool) -> ModuleHash {
        ModuleHash {
            path: path.to_owned(),
            version: version.to_owned(),
            h1: linked.then(|| format!("h1:{path}{version}")),
            go_mod_h1: Some("h1:x".to_owned()),
        }
    }

    #[test]
    fn only_modules_that_are_in_a_binary_and_differ_are_listed() {
        let a = [
            module("a.example/same", "v1.0.0", true),
            module("a.example/old", "v1.0.0", true),
            module("a.example/gone", "v1.0.0", true),
            module("a.example/read", "v1.0.0", false),
        ];
        let b = [
            module("a.example/same", "v1.0.0", true),
            module("a.example/old", "v1.1.0", true),
            module("a.example/new", "v0.1.0", true),
            module("a.example/read", "v1.2.0", false),
        ];
        let (changed, same) = modules(&a, &b);
        let changed: Vec<_> = changed
            .iter()
            .map(|c| (c.path.as_str(), c.a.as_str(), c.b.as_str(), c.how))
            .collect();
        assert_eq!(same, 1);
        assert_eq!(
            changed,
            [
                ("a.example/gone", "v1.0.0", "–", "only in the first"),
                ("a.example/new", "–", "v0.1.0", "only in the second"),
                ("a.example/old", "v1.0.0", "v1.1.0", "other version"),
            ]
        );
    }

    #[test]
    fn packages_are_compared_by_what_they_bring() {
        let package = |path: &str, bytes| PackageCode {
            path: crate::spec::ImportPath::parse(path).unwrap(),
            bytes,
        };
        let a = [
            package("runtime", 300_000),
            package("a.example/gone", 2_000),
            package("a.example/less", 9_000),
            package("a.example/same", 7),
        ];
        let b = [
            package("runtime", 300_500),
            package("a.example/new", 40_000),
            package("a.example/less", 8_000),
            package("a.example/same", 7),
        ];
        let sizes = sizes(&a, &b);
        let grown = sizes.grown.iter();
        let grown: Vec<_> = grown
            .map(|one| (&*one.path, &*one.a, &*one.b, &*one.by))
            .collect();
        assert_eq!(
            grown,
            [
                ("a.example/new", "–", "40.0 kB", "+40.0 kB"),
                ("a.example/gone", "2.0 kB", "–", "−2.0 kB"),
                ("a.example/less", "9.0 kB", "8.0 kB", "−1.0 kB"),
                ("runtime", "300.0 kB", "300.5 kB", "+500 bytes"),
            ]
        );
        assert_eq!((sizes.same, sizes.more, &*sizes.by), (1, 0, "+37.5 kB"));
        let many = (0..GROWN_SHOWN + 5).map(|number| package(&format!("p{number}"), 1));
        let sizes = super::sizes(&many.collect::<Vec<_>>(), &[]);
        assert_eq!((sizes.grown.len(), sizes.more), (GROWN_SHOWN, 5));
    }
}
