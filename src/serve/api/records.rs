//! Records of the log as lists, and new leaves as an event stream, from where the reader was.
//!
//! A hint for those who follow the log: what is told here is not proved, the tiles and the signed
//! head are. For the stream the log itself is the buffer: a stream holds the index of the next leaf
//! and nothing else, so that a slow reader costs a few leaves of memory and misses none.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response, sse::Event},
};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;
use tracing::warn;

use super::bad_query;
use crate::{
    serve::{
        answer::{self, NO_STORE, Refusal},
        app::App,
        events,
        limits::blocks::Visitor,
        queue::RENEW,
        run,
        shares::Share,
        tlog::blocking,
    },
    spec::Record,
    tlog::{SIZE_MAX, text::parse_decimal},
};

/// Events between log and connection.
const AHEAD: usize = 16;
/// Leaves that are read from the database at a time, of 1,281 bytes at most.
const LEAVES_MAX: u64 = 64;
/// Leaves that a list looks at.
const COUNT_MAX: u64 = 500;
/// When a reader comes back after its connection broke.
const RETRY: Duration = Duration::from_secs(2);

/// Where to begin, for readers who cannot send the header.
#[derive(Debug, Deserialize)]
pub(in crate::serve) struct From {
    /// Index of the first leaf.
    from: Option<String>,
}

/// `GET /api/v1/records/events`: an event for each leaf, its index as id. Begins after the
/// `Last-Event-ID`, else at `?from=`, else with the next leaf.
pub(in crate::serve) async fn events(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    asked: Result<Query<From>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(From { from }) = asked.map_err(|error| bad_query(&error.body_text()))?;
    let last = match headers.get("last-event-id") {
        Some(id) => Some(index(id.to_str().unwrap_or_default())? + 1),
        None => from.as_deref().map(index).transpose()?,
    };
    let place = app.place(&app.limits.streams, visitor)?;
    let next = last.unwrap_or_else(|| *app.ledger.sizes().borrow());
    let (to, from) = mpsc::channel(AHEAD);
    tokio::spawn(follow(Arc::clone(&app), next, to, place));
    app.metrics.streams.fetch_add(1, Relaxed);
    Ok(events::answer(from))
}

/// Which records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    from: Option<String>,
    count: Option<u64>,
}

/// `GET /api/v1/records?from=…&count=…`: the records among so many leaves, and where to go on.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = asked.map_err(|error| bad_query(&error.body_text()))?;
    let from = asked.from.as_deref().map_or(Ok(0), index)?;
    let count = asked.count.unwrap_or(COUNT_MAX);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(bad_query("count must be between 1 and 500"));
    }
    let size = *app.ledger.sizes().borrow();
    let ledger = Arc::clone(&app.ledger);
    let leaves = blocking(move || ledger.leaves(from, from + count)).await?;
    let next = from + leaves.len() as u64;
    let records: Vec<_> = (from..)
        .zip(&leaves)
        .filter(|(_, text)| Record::parse(text).is_ok())
        .map(|(index, text)| json!({ "index": index, "record": text }))
        .collect();
    let answer = json!({ "size": size, "records": records, "next": next });
    Ok(answer::cached(Json(answer).into_response(), NO_STORE))
}

fn index(text: &str) -> Result<u64, Refusal> {
    let index = parse_decimal(text).filter(|index| *index < SIZE_MAX);
    index.ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_index",
            "this is no index of a leaf",
            "write a decimal number, or leave it away for what is new",
        )
    })
}

type To = mpsc::Sender<Result<Event, Infallible>>;

async fn follow(app: Arc<App>, next: u64, to: To, place: Share) {
    let mut stopping = app.stopping.clone();
    tokio::select! {
        () = tell(&app, next, &to) => {}
        () = to.closed() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    drop(place);
}

/// Tells all leaves from `next` on; ends when nobody listens, or the log cannot be read.
async fn tell(app: &App, mut next: u64, to: &To) {
    let mut sizes = app.ledger.sizes();
    let first = Event::default().retry(RETRY).comment("leaves");
    if to.send(Ok(first)).await.is_err() {
        return;
    }
    loop {
        let size = *sizes.borrow_and_update();
        while next < size {
            let ledger = Arc::clone(&app.ledger);
            let read = move || ledger.leaves(next, next + LEAVES_MAX);
            let leaves = match tokio::task::spawn_blocking(read).await {
                Ok(Ok(leaves)) if !leaves.is_empty() => leaves,
                Ok(Err(cause)) => return warn!("cannot tell new leaves: {}", run::chain(&cause)),
                Ok(Ok(_)) | Err(_) => return,
            };
            for text in leaves {
                let data = json!({ "index": next, "text": text }).to_string();
                let event = Event::default().id(next.to_string()).event("leaf");
                if to.send(Ok(event.data(data))).await.is_err() {
                    return;
                }
                next += 1;
            }
        }
        let grown = tokio::time::timeout(RENEW, sizes.changed()).await;
        let alive = || Event::default().comment("still here");
        match grown {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return, // the log is closed
            Err(_) if to.send(Ok(alive())).await.is_err() => return,
            Err(_) => {}
        }
    }
}
