//! The log's addresses below `/tlog/`, in the form that checksum database clients speak.
//!
//! A lookup of a concrete key asks the log first and nobody else; only what it does not have is
//! built. Keys are taken from the raw path: nothing is decoded, `+` stays `+`.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::CONTENT_TYPE},
    response::Response,
};

use super::{
    answer,
    answer::{IMMUTABLE, NO_STORE, Refusal},
    app::App,
    builds,
    ledger::Found,
    limits::blocks::Visitor,
    proofs,
};
use crate::spec::{
    BuildKey,
    url::{Page, Path},
};

/// Heads change with every entry.
pub(super) const HEAD_CACHE: &str = "no-cache";
/// Longest path of a tile: two levels and ten groups of digits are more than any log has.
const TILE_LEN_MAX: usize = 100;

/// `GET /tlog/…`
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refusal> {
    let path = uri.path().strip_prefix("/tlog/").unwrap_or_default();
    if path == "latest" {
        return Ok(note(app.ledger.latest().to_string(), HEAD_CACHE));
    }
    if path == "checkpoint" {
        return Ok(note(app.ledger.checkpoint().to_string(), HEAD_CACHE));
    }
    if let Some(key) = path.strip_prefix("lookup/") {
        app.metrics.lookups.fetch_add(1, Relaxed);
        return lookup(&app, visitor, &headers, key).await;
    }
    if let Some(path) = path.strip_prefix("proof/") {
        return proofs::show(&app, path).await;
    }
    match path.strip_prefix("tile/") {
        Some(path) => tile(&app, path).await,
        None => Err(Refusal::not_found("the log has no such address")),
    }
}

async fn lookup(
    app: &Arc<App>,
    visitor: Visitor,
    headers: &HeaderMap,
    text: &str,
) -> Result<Response, Refusal> {
    if text.len() > Path::LEN_MAX {
        let (status, remedy) = (StatusCode::URI_TOO_LONG, "no build has a name that long");
        return Err(Refusal::new(
            status,
            "path_too_long",
            "the key is too long",
            remedy,
        ));
    }
    if let Ok(key) = BuildKey::parse(text) {
        return record(app, visitor, headers, &key, HEAD_CACHE).await;
    }
    let Path::Build {
        build,
        page: Page::Show,
    } = Path::parse(text)?
    else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_spec",
            "this is no key of the log",
            "write module@version/package/goos-goarch-goversion/",
        ));
    };
    let key = app.concrete(visitor, &build).await?;
    record(app, visitor, headers, &key, NO_STORE).await
}

/// Record and head; builds what the log does not have.
async fn record(
    app: &Arc<App>,
    visitor: Visitor,
    headers: &HeaderMap,
    key: &BuildKey,
    cache: &'static str,
) -> Result<Response, Refusal> {
    if let Some(found) = find(app, key)? {
        return Ok(found_answer(&found, cache));
    }
    builds::wait(app, visitor, headers, key, false).await?;
    match find(app, key)? {
        Some(found) => Ok(found_answer(&found, cache)),
        None => Err(Refusal::internal(&Lost(key.clone()))),
    }
}

/// A result without its entry; the transaction that writes both must be broken.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` was built but is not in the log")]
struct Lost(BuildKey);

/// Looks on this thread: some pages of an index, nearly always in memory, take less time than to
/// wake another one.
fn find(app: &App, key: &BuildKey) -> Result<Option<Found>, Refusal> {
    let found = app.ledger.lookup(key);
    found.map_err(|cause| Refusal::internal(&cause))
}

async fn tile(app: &Arc<App>, path: &str) -> Result<Response, Refusal> {
    let is_tile = |b: u8| b.is_ascii_alphanumeric() || b"/.".contains(&b);
    if path.len() > TILE_LEN_MAX || !path.bytes().all(is_tile) {
        let remedy = "see https://go.dev/design/25530-sumdb";
        let sentence = "this is no path of a tile";
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_tile",
            sentence,
            remedy,
        ));
    }
    let (ledger, path) = (Arc::clone(&app.ledger), path.to_owned());
    let is_data = path.starts_with("8/data/");
    let Some(bytes) = blocking(move || ledger.tile(&path)).await? else {
        return Err(Refusal::not_found("the log has no such tile"));
    };
    let mut response = Response::new(bytes.into());
    let kind = if is_data {
        "text/plain; charset=UTF-8"
    } else {
        "application/octet-stream"
    };
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(answer::cached(response, IMMUTABLE))
}

/// Does what waits for the disk where it may block.
pub(super) async fn blocking<T, E>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|cause| Refusal::internal(&cause))?;
    done.map_err(|cause| Refusal::internal(&cause))
}

fn found_answer(found: &Found, cache: &'static str) -> Response {
    note(
        format!("{}\n{}\n{}", found.index, found.record, found.note),
        cache,
    )
}

pub(super) fn note(text: String, cache: &'static str) -> Response {
    let mut response = Response::new(text.into());
    let kind = HeaderValue::from_static("text/plain; charset=UTF-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    answer::cached(response, cache)
}
