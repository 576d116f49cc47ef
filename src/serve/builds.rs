//! Everything below `/<module>@<version>/`: which page exists when, and what starts a build.
//!
//! The table of `INTERFACE.md`: the page builds nothing by itself, `events`, `record` and the
//! downloads do, `log` and `dl` never. Paths are parsed exactly as they came; nothing is decoded.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{ALLOW, RANGE},
    },
    response::{IntoResponse as _, Response},
};

use super::{
    answer,
    answer::{Accept, IMMUTABLE, NO_STORE, Refusal},
    app::App,
    build_pages::{BuildPage, FailurePage, Head, RetryPage},
    catalogue::{FailureRow, ResultRow},
    downloads, events, guard, home,
    limits::{Asker, Class, blocks::Visitor},
    queue::Standing,
    result_page,
    targets::{self, Group},
    words,
};
use crate::spec::{
    BuildKey, Record, Sum,
    url::{self, Page, Path},
};

/// First path elements that are never modules.
const RESERVED: [&str; 10] = [
    "-",
    "tlog",
    "witness",
    "api",
    "metrics",
    "healthz",
    "robots.txt",
    "favicon.ico",
    ".well-known",
    "static",
];

/// All paths that no route of their own has.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Result<Response, Refusal> {
    let (mut head, _) = request.into_parts();
    if head.method != Method::GET {
        head.headers.remove(RANGE); // means nothing there (RFC 9110, 14.2)
    }
    let moved = url::moved(head.uri.path().strip_prefix('/').unwrap_or_default());
    if let (&Method::GET | &Method::HEAD, Some(to)) = (&head.method, moved) {
        return Ok(answer::moved(&to));
    }
    let path = parse(&head.uri)?;
    match head.method {
        Method::GET | Method::HEAD => get(&app, visitor, &head.headers, path).await,
        Method::POST => post(&app, &head.headers, visitor, path).await,
        _ => Ok(not_allowed("GET, HEAD, POST")),
    }
}

fn parse(uri: &Uri) -> Result<Path, Refusal> {
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    if path.len() > Path::LEN_MAX {
        let (status, remedy) = (StatusCode::URI_TOO_LONG, "no build has a name that long");
        return Err(Refusal::new(
            status,
            "path_too_long",
            "the path is too long",
            remedy,
        ));
    }
    let first = path.split('/').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        return Err(Refusal::not_found("there is nothing at this address"));
    }
    Ok(Path::parse(path)?)
}

/// For addresses with a route of their own, whose router knows what to allow.
pub(super) fn wrong_method() -> Refusal {
    let remedy = "links and forms of the pages do it right; `Allow` says what it takes";
    let sentence = "this address does not take that method";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", sentence, remedy)
}

fn not_allowed(allow: &'static str) -> Response {
    let mut response = wrong_method().into_response();
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}

async fn get(
    app: &Arc<App>,
    visitor: Visitor,
    headers: &HeaderMap,
    path: Path,
) -> Result<Response, Refusal> {
    match path {
        Path::Module(module) => home::module(app, visitor, headers, module, None).await,
        Path::Package { module, query, dir } if dir.is_root() => {
            home::module(app, visitor, headers, module, Some(query)).await
        }
        Path::Package { module, query, dir } => {
            home::package(app, visitor, headers, module, query, dir).await
        }
        Path::Build { build, page } => match build.exact() {
            Some(key) => build_page(app, visitor, headers, &key, page).await,
            None => {
                let key = app.concrete(visitor, &build).await?;
                let to = format!("{}{}", url::build_path(&key), page.name(&key));
                Ok(answer::moved(&to))
            }
        },
        Path::Result { key, sum, page } => {
            result_page(app, visitor, headers, &key, sum, page).await
        }
    }
}

async fn post(
    app: &App,
    headers: &HeaderMap,
    visitor: Visitor,
    path: Path,
) -> Result<Response, Refusal> {
    let (build, page) = match path {
        Path::Build {
            build,
            page: page @ (Page::Show | Page::Retry),
        } => (build, page),
        Path::Package { module, query, dir } if dir.is_root() => {
            guard::check_same_origin(app, headers)?;
            return home::list(app, visitor, module, query).await;
        }
        _ => return Ok(not_allowed("GET, HEAD")),
    };
    guard::check_same_origin(app, headers)?;
    let key = app.concrete(visitor, &build).await?;
    if page == Page::Retry {
        app.rates.check_new(&key)?;
        app.rates.take(visitor, &[Class::Retry])?;
    }
    if page == Page::Retry && !app.queue.retry(&key, visitor.client.to_string()).await? {
        return Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "retried_already",
            "this was tried again less than an hour ago",
            "wait for an hour; the same inputs mostly fail in the same way",
        ));
    }
    app.queue.ask(&key, false, Asker::person(visitor)).await?;
    Ok(answer::redirect(
        StatusCode::SEE_OTHER,
        &url::build_path(&key),
        NO_STORE,
    ))
}

/// Pages of a build without its sum.
async fn build_page(
    app: &Arc<App>,
    visitor: Visitor,
    headers: &HeaderMap,
    key: &BuildKey,
    page: Page,
) -> Result<Response, Refusal> {
    match page {
        Page::Show => show_build(app, headers, key).await,
        Page::Events => {
            let start = guard::may_start(headers);
            let start = start.then(|| Asker::person(visitor));
            events::stream(app, visitor, headers, key, start).await
        }
        Page::Record => Ok(record(&wait(app, visitor, headers, key, false).await?)),
        Page::Download | Page::DownloadGz => {
            let row = wait(app, visitor, headers, key, true).await?;
            downloads::show(app, visitor, headers, &row, page).await
        }
        Page::Log => match app.queue.standing(key).await? {
            Standing::Built(row) => Ok(answer::plain(row.built.output.plain())),
            Standing::Failed(row) => Ok(answer::plain(row.failure.output.plain())),
            _ => Err(Refusal::not_built()),
        },
        Page::Dl => match app.queue.standing(key).await? {
            Standing::Built(row) => {
                let to = format!(
                    "{}{}",
                    url::result_path(key, &row.sum()),
                    key.download_name()
                );
                Ok(answer::moved(&to))
            }
            _ => Err(Refusal::not_built()),
        },
        Page::Retry => match app.queue.standing(key).await? {
            Standing::Failed(_) => Ok(answer::page(&RetryPage {
                head: Head::of(key),
            })),
            _ => Err(Refusal::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not_failed",
                "this build has not failed",
                "open its page",
            )),
        },
    }
}

async fn show_build(app: &App, headers: &HeaderMap, key: &BuildKey) -> Result<Response, Refusal> {
    let (snapshot, place) = match app.queue.standing(key).await? {
        Standing::Built(row) => {
            let to = url::result_path(key, &row.sum());
            return Ok(answer::moved(&to));
        }
        Standing::Failed(row) => return failed(app, headers, key, *row),
        Standing::Underway(job) => (Some(job.live.snapshot()), app.queue.place(&job)),
        Standing::Unknown => {
            app.rates.check_withdrawn(key)?;
            (None, app.queue.waiting())
        }
    };
    let mut page = BuildPage::new(key, snapshot.as_ref());
    page.builds_max = app.builds_max;
    page.waiting = app.queue.waiting();
    let expected = app.metrics.pace.expected_ms(place, app.builds_max);
    page.expected = expected.map(words::duration);
    page.targets = targets_of(app, key)?;
    Ok(answer::cached(answer::page(&page), NO_STORE))
}

fn targets_of(app: &App, key: &BuildKey) -> Result<Vec<Group>, Refusal> {
    let built = app.catalogue.built_for(key);
    let built = built.map_err(|cause| Refusal::internal(&cause))?;
    Ok(targets::of_build(key, &built))
}

/// A failure as a page for people, or a refusal for programs; the status is the same.
fn failed(
    app: &App,
    headers: &HeaderMap,
    key: &BuildKey,
    row: FailureRow,
) -> Result<Response, Refusal> {
    if Accept::of(headers) != Accept::Html {
        return Err(row.failure.into());
    }
    let mut page = FailurePage::new(key, &row, app.clock.now_ms());
    page.targets = targets_of(app, key)?;
    Ok(answer::failed(answer::page(&page), row.failure.class))
}

/// Waits for a build that this request starts, or joins.
pub(super) async fn wait(
    app: &App,
    visitor: Visitor,
    headers: &HeaderMap,
    key: &BuildKey,
    binary: bool,
) -> Result<ResultRow, Refusal> {
    let standing = match app.queue.standing(key).await? {
        // A result with its binary needs no place among those who wait.
        Standing::Built(row) if !binary || is_there(app, &row)? => Standing::Built(row),
        Standing::Failed(row) => Standing::Failed(row),
        _ if !guard::may_wait(headers) => return Err(Refusal::other_origin()),
        _ => {
            let _place = app.place(&app.limits.waiters, visitor)?;
            app.queue.wait(key, binary, Asker::lookup(visitor)).await?
        }
    };
    match standing {
        Standing::Built(row) => Ok(*row),
        Standing::Failed(row) => Err(row.failure.into()),
        Standing::Underway(_) | Standing::Unknown => {
            Err(Refusal::busy("the build was dropped while you waited"))
        }
    }
}

fn is_there(app: &App, row: &ResultRow) -> Result<bool, Refusal> {
    let opened = app
        .artifacts
        .binary(&row.sha256)
        .map_err(|cause| Refusal::internal(&cause))?;
    Ok(opened.is_some())
}

/// Pages of a result: permanent, and only under the sum that the log has.
async fn result_page(
    app: &Arc<App>,
    visitor: Visitor,
    headers: &HeaderMap,
    key: &BuildKey,
    sum: Sum,
    page: Page,
) -> Result<Response, Refusal> {
    if page == Page::Show
        && let Some(shown) = result_page::again(app, headers, key, sum)?
    {
        return Ok(shown);
    }
    let row = match (page, app.queue.standing(key).await?) {
        (_, Standing::Built(row)) => *row,
        (Page::Log | Page::Dl | Page::Retry, _) => return Err(Refusal::not_built()),
        (Page::Show | Page::Events, _) => {
            let to = format!("{}{}", url::build_path(key), page.name(key));
            return Ok(answer::moved(&to));
        }
        (Page::Record | Page::Download | Page::DownloadGz, _) => {
            wait(app, visitor, headers, key, false).await?
        }
    };
    if row.sum() != sum {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "other_sum",
            "the log has another sum for this build",
            "leave the sum out of the address to get to the one in the log",
        ));
    }
    match page {
        Page::Show => result_page::show(app, headers, &row),
        Page::Download | Page::DownloadGz => {
            let row = wait(app, visitor, headers, key, true).await?;
            let response = downloads::show(app, visitor, headers, &row, page).await?;
            Ok(if response.status().is_client_error() {
                response
            } else {
                answer::cached(response, IMMUTABLE)
            })
        }
        Page::Record => Ok(answer::cached(record(&row), IMMUTABLE)),
        page => build_page(app, visitor, headers, key, page).await,
    }
}

fn record(row: &ResultRow) -> Response {
    let record = Record {
        key: row.key.clone(),
        size: row.size,
        sum: row.sum(),
    };
    answer::plain(record.text())
}
