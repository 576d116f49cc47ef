//! Request bodies: how long one may take in all, and what is said of one that cannot be read.
//!
//! Between the door and every handler ([`super::router`]). A head has its time limit from
//! [`super::listen`], a body has it from here: without one, a few clients that promise a body and
//! send none would hold all connections. How large a body may be is the router's limit.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, Version, header::CONNECTION},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::{answer::Refusal, app::App};

/// A body has this long from its head to its end, however it comes: it is 16 KiB at most.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Lets the handler read the body for so long only; then the answer is 408 whatever it made of it,
/// and the connection ends with it.
pub(super) async fn limit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let is_http1 = request.version() <= Version::HTTP_11;
    let is_late = Arc::new(AtomicBool::new(false));
    let request = request.map(|body| {
        Body::new(Limited {
            body,
            end: Box::pin(sleep(BODY_TIMEOUT)),
            is_late: Arc::clone(&is_late),
        })
    });
    let response = next.run(request).await;
    if !is_late.load(Relaxed) {
        return response;
    }
    app.metrics.stalled.fetch_add(1, Relaxed);
    let mut response = slow().into_response();
    if is_http1 {
        // The rest of the body would be taken for a request; HTTP/2 has no such header.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

fn slow() -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        "slow_body",
        "the rest of the request did not come in time",
        "send it at once, within 20 seconds",
    )
}

/// A body that fails when its time is over.
struct Limited {
    body: Body,
    end: Pin<Box<Sleep>>,
    is_late: Arc<AtomicBool>,
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // First, for a body that trickles always has something.
        if self.end.as_mut().poll(cx).is_ready() {
            self.is_late.store(true, Relaxed);
            let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that was read whole, or why it was not.
pub(super) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refusal> {
    body.map_err(|cause| match cause.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_body",
            "the body of the request broke off",
            "send it again",
        ),
    })
}

/// More than any address here takes.
pub(super) fn too_large() -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        "the body of the request is too large",
        "no request here needs more than 16 KiB",
    )
}
