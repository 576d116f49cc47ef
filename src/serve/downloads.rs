//! Binaries as downloads: whole, a part, or nothing for who has them already.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
            CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
        },
    },
    response::{IntoResponse as _, Response},
};

use super::{
    answer::{self, NO_STORE, Refusal},
    app::App,
    artifacts::Opened,
    catalogue::ResultRow,
    hot::WHOLE_MAX,
    limits::blocks::Visitor,
    ranges::Asked,
    tlog::blocking,
};
use crate::spec::url::Page;

/// What a browser may do with a download, should it ever show one: nothing.
const SANDBOX: &str = "sandbox";

/// The binary of a result, or its compressed form; all of it or a part.
pub(super) async fn show(
    app: &App,
    visitor: Visitor,
    headers: &HeaderMap,
    row: &ResultRow,
    page: Page,
) -> Result<Response, Refusal> {
    app.rates.check_withdrawn(&row.key)?;
    let etag = answer::etag(&row.sha256);
    if answer::is_kept(headers, &etag) {
        return Ok(kept(etag));
    }
    let share = app.place(&app.limits.downloads, visitor)?;
    let sha256 = row.sha256;
    let opened = match page {
        Page::DownloadGz => compressed(app, visitor, sha256).await?,
        _ => {
            let artifacts = app.artifacts.clone();
            blocking(move || artifacts.binary(&sha256)).await?
        }
    };
    let Some(opened) = opened else {
        return Err(Refusal::busy(
            "the binary was removed just now and is built again",
        ));
    };
    app.metrics.downloads.fetch_add(1, Relaxed);
    let mut name = row.key.download_name();
    if page == Page::DownloadGz {
        name.push_str(".gz");
    }
    let bytes = opened.bytes;
    let file = (sha256, page == Page::DownloadGz);
    let is_large = bytes > WHOLE_MAX;
    let content = |part: Option<Range<u64>>| {
        let pieced = (is_large || part.is_some()).then(|| app.place(&app.limits.pieced, visitor));
        let shares = [share].into_iter().chain(pieced.transpose()?).collect();
        Ok::<_, Refusal>(app.hot.body(file, opened, part, shares))
    };
    // What is compressed again after it was removed may have other bytes: it has no parts.
    if page == Page::DownloadGz {
        return Ok(whole(content(None)?, bytes, &name, etag));
    }
    let mut response = match Asked::of(headers, &etag, bytes) {
        Asked::Whole => whole(content(None)?, bytes, &name, etag),
        Asked::Part(asked) => {
            let body = content(Some(asked.clone()))?;
            part(whole(body, bytes, &name, etag), &asked, bytes)
        }
        Asked::Beyond => return Ok(beyond(bytes)),
    };
    let accepted = HeaderValue::from_static("bytes");
    response.headers_mut().insert(ACCEPT_RANGES, accepted);
    Ok(response)
}

/// The compressed form; made when it is not there, one at a time: it takes seconds, and threads
/// that others need.
async fn compressed(
    app: &App,
    visitor: Visitor,
    sha256: [u8; 32],
) -> Result<Option<Opened>, Refusal> {
    let (artifacts, maker) = (app.artifacts.clone(), app.artifacts.clone());
    let there = blocking(move || artifacts.compressed(&sha256)).await?;
    if there.is_some() {
        return Ok(there);
    }
    let place = app.place(&app.limits.compressions, visitor)?;
    let turn = Arc::clone(&app.limits.compressing).acquire_owned().await;
    let turn = turn.map_err(|cause| Refusal::internal(&cause))?;
    if !app.has_room()? {
        let sentence = "the disk of the service is nearly full: take the uncompressed download";
        return Err(Refusal::busy(sentence));
    }
    // Goes on when nobody waits for it any more, and keeps its turn so long.
    blocking(move || {
        let made = maker.gzip(&sha256);
        drop((place, turn));
        made
    })
    .await
}

/// For who has this download already; what the answer says of it is kept with it (RFC 9111, 3.2).
fn kept(etag: HeaderValue) -> Response {
    let mut response = answer::kept(etag);
    let sandbox = HeaderValue::from_static(SANDBOX);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, sandbox);
    response
}

/// The answer with the head of a part of `bytes`; its body is that part.
fn part(mut download: Response, part: &Range<u64>, bytes: u64) -> Response {
    let last = part.end.saturating_sub(1);
    let range = HeaderValue::try_from(format!("bytes {}-{last}/{bytes}", part.start));
    let length = HeaderValue::from(part.end.saturating_sub(part.start));
    let headers = download.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CONTENT_RANGE, range.expect("digits are a header's value"));
    *download.status_mut() = StatusCode::PARTIAL_CONTENT;
    download
}

/// For who asks for bytes that a download of `bytes` does not have.
fn beyond(bytes: u64) -> Response {
    let sentence = format!("the download has {bytes} bytes, and none of the range");
    let remedy = "ask for all of it; what you have is no part of it";
    let status = StatusCode::RANGE_NOT_SATISFIABLE;
    let mut response = Refusal::new(status, "bad_range", &sentence, remedy).into_response();
    let range = HeaderValue::try_from(format!("bytes */{bytes}"));
    let headers = response.headers_mut();
    headers.insert(CONTENT_RANGE, range.expect("digits are a header's value"));
    answer::cached(response, NO_STORE)
}

/// A binary as a download: never shown, never run by a browser.
fn whole(body: Body, bytes: u64, name: &str, etag: HeaderValue) -> Response {
    let mut response = Response::new(body);
    let quoted = |text: String| HeaderValue::from_str(&text).ok();
    for (header, value) in [
        (
            CONTENT_TYPE,
            Some(HeaderValue::from_static("application/octet-stream")),
        ),
        (CONTENT_LENGTH, Some(HeaderValue::from(bytes))),
        (
            CONTENT_DISPOSITION,
            quoted(format!("attachment; filename=\"{name}\"")),
        ),
        (
            CONTENT_SECURITY_POLICY,
            Some(HeaderValue::from_static(SANDBOX)),
        ),
        (ETAG, Some(etag)),
    ] {
        if let Some(value) = value {
            response.headers_mut().insert(header, value);
        }
    }
    response
}
