//! What the streams of one HTTP/2 connection do, and when that is enough.
//!
//! Called by [`super::listen`]. In HTTP/1 a connection is one request at a time, and a client that
//! takes nothing blocks the socket; here a client may let us wait on each stream while it answers
//! pings. So it is counted what is open, what waits to be taken, and what was given up.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use hyper::body::{Frame, SizeHint};
use tokio::{sync::Notify, time::Instant};

use super::listen::{HEAD_TIMEOUT, STALL_TIMEOUT};

/// Streams of a connection at a time; a page of ours takes four.
pub(super) const STREAMS_MAX: u32 = 32;
/// How often a connection is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// A client that has data to take takes this many bytes in [`STALL_TIMEOUT`]; answers to its pings
/// and settings are no data, but they count here.
const TAKEN_MIN: u64 = 4_096;
/// A client may give up this many answers more than it takes (CVE-2023-44487): a browser gives up a
/// few when its user goes elsewhere.
const GIVEN_UP_MAX: u64 = 100;

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Well,
    /// It has no request for long and ends in order.
    Idle,
    /// It is cut.
    Stalled,
}

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    counts: Mutex<Counts>,
    /// Bytes that the client has taken.
    written: Arc<AtomicU64>,
    flooded: Notify,
}

#[derive(Debug)]
struct Counts {
    /// Requests whose answers have not ended.
    open: usize,
    /// Those of them of which a piece waits to be taken.
    handed: usize,
    /// Answers that were given whole.
    given: u64,
    /// Answers that the client has given up.
    given_up: u64,
    /// When the last answer ended.
    ended: Instant,
    /// Since when the client takes little, and what it had taken by then.
    slow: (Instant, u64),
}

impl Streams {
    pub(super) fn new(written: Arc<AtomicU64>) -> Arc<Self> {
        let now = Instant::now();
        let counts = Counts {
            open: 0,
            handed: 0,
            given: 0,
            given_up: 0,
            ended: now,
            slow: (now, 0),
        };
        Arc::new(Self {
            counts: Mutex::new(counts),
            written,
            flooded: Notify::new(),
        })
    }

    /// How it stands now; asked every [`LOOK`].
    pub(super) fn judge(&self) -> Verdict {
        let (now, written) = (Instant::now(), self.written.load(Relaxed));
        let mut counts = self.counts();
        let pause = now - counts.ended;
        let is_idle = counts.open == 0 && pause >= HEAD_TIMEOUT;
        let is_new = counts.given + counts.given_up == 0;
        if is_idle && is_new && pause >= 2 * HEAD_TIMEOUT {
            // It has asked for nothing, not even for the end that it was offered.
            return Verdict::Stalled;
        }
        // What was handed over with its end is a stream no more, but may wait in the connection.
        let waits = counts.handed > 0 || is_idle;
        let (since, before) = counts.slow;
        if !waits || written.saturating_sub(before) >= TAKEN_MIN {
            counts.slow = (now, written);
        } else if now - since >= STALL_TIMEOUT {
            return Verdict::Stalled;
        }
        if is_idle {
            return Verdict::Idle;
        }
        Verdict::Well
    }

    /// Waits until the client has given up too many answers.
    pub(super) async fn flooded(&self) {
        self.flooded.notified().await;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a request until its answer has ended or was given up.
pub(super) async fn count(
    streams: Arc<Streams>,
    is_head: bool,
    answering: impl Future<Output = Result<Response, Infallible>>,
) -> Response {
    streams.counts().open += 1;
    let mut place = Place {
        streams,
        is_handed: false,
        is_over: false,
    };
    let Ok(response) = answering.await;
    response.map(|body| {
        place.is_over = is_head || body.is_end_stream();
        Body::new(Counted { body, place })
    })
}

/// One request among those that are open.
struct Place {
    streams: Arc<Streams>,
    is_handed: bool,
    is_over: bool,
}

impl Place {
    fn hand(&mut self, is_handed: bool) {
        if self.is_handed != is_handed {
            self.is_handed = is_handed;
            let mut counts = self.streams.counts();
            counts.handed = if is_handed {
                counts.handed + 1
            } else {
                counts.handed - 1
            };
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hand(false);
        let mut counts = self.streams.counts();
        counts.open -= 1;
        counts.ended = Instant::now();
        if self.is_over {
            counts.given += 1;
        } else {
            counts.given_up += 1;
        }
        if counts.given_up > counts.given + GIVEN_UP_MAX {
            self.streams.flooded.notify_one();
        }
    }
}

/// An answer that tells when a piece of it was handed over and when the next one is wanted.
struct Counted {
    body: Body,
    place: Place,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.place.hand(false);
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(frame) = &frame {
            let is_data = matches!(frame, Some(Ok(frame)) if frame.is_data());
            self.place.hand(is_data);
            // A body that fails is our fault, not the client's.
            self.place.is_over |= !is_data || self.body.is_end_stream();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
