//! Two results side by side: what differs in what they were made from, and whether the bytes do.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;

use crate::{
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
    Ok(answer::cached(
        answer::page(&ComparePage::new(&a, &b)),
        NO_STORE,
    ))
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
        }
    }
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
}
