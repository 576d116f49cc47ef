//! Event streams: the progress of one build, from where the reader was.
//!
//! A stream holds a cursor into the job's ring and renews the interest in the job while it is
//! open. It ends with the job; a reader whose connection broke comes back with its last id.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    answer::{self, NO_STORE, Refusal},
    app::App,
    limits::{Asker, blocks::Visitor},
    live::Batch,
    queue::{End, Job, RENEW, Standing},
    run,
    shares::Share,
};
use crate::spec::BuildKey;

/// Events between ring and connection; the ring is the buffer, this only smooths.
const AHEAD: usize = 16;
/// When a browser comes back after its connection broke.
const RETRY: Duration = Duration::from_secs(2);

/// Streams the build of `key`; begins it for whom `start` names, else an unknown one is refused.
pub(super) async fn stream(
    app: &Arc<App>,
    visitor: Visitor,
    headers: &HeaderMap,
    key: &BuildKey,
    start: Option<Asker>,
) -> Result<Response, Refusal> {
    let place = app.place(&app.limits.streams, visitor)?;
    let standing = match start {
        Some(asker) => app.queue.ask(key, false, asker).await?,
        None => app.queue.standing(key).await?,
    };
    let (to, from) = mpsc::channel(AHEAD);
    match standing {
        Standing::Underway(job) => {
            let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
            tokio::spawn(follow(
                Arc::clone(app),
                job,
                last.map(str::to_owned),
                to,
                place,
            ));
        }
        Standing::Built(row) => last_state(&to, key, End::Built(row)),
        Standing::Failed(row) => last_state(&to, key, End::Failed(row)),
        Standing::Unknown => {
            return Err(Refusal::other_origin());
        }
    }
    app.metrics.streams.fetch_add(1, Relaxed);
    Ok(answer(from))
}

/// What is to be told, as it comes.
pub(super) fn answer(from: mpsc::Receiver<Result<Event, Infallible>>) -> Response {
    let mut response = Sse::new(ReceiverStream::new(from)).into_response();
    // Proxies that buffer would hold back what is new.
    let name = HeaderName::from_static("x-accel-buffering");
    let no = HeaderValue::from_static("no");
    response.headers_mut().insert(name, no);
    answer::cached(response, NO_STORE)
}

type To = mpsc::Sender<Result<Event, Infallible>>;

fn last_state(to: &To, key: &BuildKey, end: End) {
    let event = Event::default()
        .event("end")
        .data(run::end_event(key, &end));
    to.try_send(Ok(event))
        .expect("an empty channel takes one event");
}

async fn follow(app: Arc<App>, job: Arc<Job>, last: Option<String>, to: To, place: Share) {
    let mut stopping = app.stopping.clone();
    tokio::select! {
        () = tell(&app, &job, last, &to) => {}
        // A reader that is gone shows on its closed channel even when there is nothing to tell.
        () = to.closed() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    drop(place);
}

async fn tell(app: &App, job: &Job, last: Option<String>, to: &To) {
    let mut newest = job.live.subscribe();
    let mut ended = job.end.subscribe();
    let first = Event::default().retry(RETRY).comment("progress");
    let mut cursor = match last.as_deref().map(|id| job.live.resume(id)) {
        Some(Some(cursor)) => {
            if to.send(Ok(first)).await.is_err() {
                return;
            }
            cursor
        }
        // Nothing seen yet, or of another attempt: everything, on an empty page.
        _ => {
            if to.send(Ok(first.event("reset").data("{}"))).await.is_err() {
                return;
            }
            job.live.start()
        }
    };
    loop {
        // Looked at before the ring, so that the last events are told before the stream ends.
        let is_over = ended.borrow_and_update().is_some();
        newest.mark_unchanged();
        let Batch { gap, events } = job.live.read(&mut cursor);
        if gap
            && to
                .send(Ok(Event::default().event("gap").data("{}")))
                .await
                .is_err()
        {
            return;
        }
        for event in events {
            let id = job.live.id(event.number);
            let event = Event::default().id(id).event(event.kind).data(event.data);
            if to.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if is_over {
            return;
        }
        let woken = async {
            tokio::select! {
                _ = newest.changed() => {}
                _ = ended.changed() => {}
            }
        };
        let is_silent = tokio::time::timeout(RENEW, woken).await.is_err();
        let alive = || Event::default().comment("still here");
        if is_silent && to.send(Ok(alive())).await.is_err() {
            return;
        }
        app.queue.renew(job).await;
    }
}
