//! What has been built under a name, and what could not be built lately.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use rusqlite::params;
use serde::Deserialize;

use crate::{
    serve::{
        answer::{self, NO_STORE, Refusal},
        app::App,
        catalogue::{Catalogue, CatalogueError, Recent},
        failures,
        pages::{Line, clean, slashed},
        rows::{WORD_BYTES, recent_row},
        words,
    },
    spec::{ModulePath, paste, url},
};

/// Packages that a search shows; whoever looks for more types more.
const FOUND_MAX: u32 = 50;
/// Longest text that is looked for; package paths are not longer.
const TEXT_LEN_MAX: usize = 256;
/// Failures that are listed.
const FAILURES_MAX: u32 = 50;

#[derive(Debug, Deserialize)]
pub(in crate::serve) struct Asked {
    #[serde(default)]
    q: String,
}

/// `/-/search`
#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    text: String,
    found: Vec<Line>,
    more: bool,
    /// Path of the module page for what was typed, which need not have been built.
    module: Option<String>,
}

/// `GET /-/search?q=…`: packages with a word in their path that begins like the text, the newest
/// build of each. Asks nobody outside.
pub(in crate::serve) async fn show(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let text = asked.map(|Query(asked)| asked.q).unwrap_or_default();
    let meant = paste::meant(&text);
    let name = meant
        .split('@')
        .next()
        .unwrap_or_default()
        .trim_end_matches('/');
    let name: String = name.chars().take(TEXT_LEN_MAX).collect();
    let found = match name.is_empty() {
        true => Vec::new(),
        false => {
            let found = app.catalogue.search(name.clone(), FOUND_MAX + 1).await;
            found.map_err(|cause| Refusal::internal(&cause))?
        }
    };
    let now_ms = app.clock.now_ms();
    let shown = found.iter().take(FOUND_MAX as usize);
    let page = SearchPage {
        text: clean(&name),
        found: shown.map(|recent| Line::of(recent, now_ms)).collect(),
        more: found.len() > FOUND_MAX as usize,
        module: ModulePath::parse(&name).ok().map(|path| path.to_string()),
    };
    Ok(answer::cached(answer::page(&page), NO_STORE))
}

/// A line of the list of failures.
struct Failed {
    href: String,
    package: String,
    version: String,
    target: String,
    go: String,
    code: String,
    sentence: String,
    ago: String,
}

/// `/-/failures`
#[derive(Template)]
#[template(path = "failures.html")]
struct FailuresPage {
    failures: Vec<Failed>,
}

/// `GET /-/failures`: what is remembered as impossible to build, the newest first.
pub(in crate::serve) async fn failures(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let rows = app.catalogue.recent_failures(FAILURES_MAX).await;
    let rows = rows.map_err(|cause| Refusal::internal(&cause))?;
    let now_ms = app.clock.now_ms();
    let line = |row: &failures::Line| Failed {
        href: url::build_path(&row.key),
        package: row.key.package(),
        version: row.key.module.version.to_string(),
        target: slashed(row.key.target),
        go: row.key.go.to_string(),
        code: clean(&row.code),
        sentence: clean(&row.sentence),
        ago: words::ago(row.failed_ms, now_ms),
    };
    let page = FailuresPage {
        failures: rows.iter().map(line).collect(),
    };
    Ok(answer::cached(answer::page(&page), NO_STORE))
}

impl Catalogue {
    /// The newest result of each package with a word in its path that begins with `text`, whatever
    /// its case.
    async fn search(&self, text: String, count: u32) -> Result<Vec<Recent>, CatalogueError> {
        self.read(move |db| {
            let sql = "SELECT p.key, p.sum, p.size, p.built_ms FROM
                           (SELECT DISTINCT path FROM package_word
                            WHERE word >= ?1 AND word < ?1 || char(1114111)
                            AND instr(lower(path), ?2) LIMIT ?3) w
                       JOIN package_line p ON p.path = w.path";
            let text = text.to_ascii_lowercase();
            let word: String = text.chars().take(WORD_BYTES).collect();
            let mut query = db.prepare_cached(sql)?;
            let rows = query.query_map(params![word, text, count], recent_row)?;
            let rows: Vec<_> = rows.collect::<rusqlite::Result<_>>()?;
            Ok(rows.into_iter().flatten().collect())
        })
        .await
    }
}
