//! The cell's only peer: an HTTP server that knows `GET` and the paths of a module proxy.

use std::{convert::Infallible, pin::Pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Bytes, Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc::Sender},
};
use tokio_stream::StreamExt as _;
use tokio_util::io::ReaderStream;

use super::{
    path::{self, Asked},
    session::{Reply, Session},
    wire::Event,
};

/// Most connections at a time; the go command opens about a dozen.
const CONNECTIONS_MAX: usize = 64;
/// Longest request head in bytes; the go command sends about 200.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A connection that sends no head for so long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest life of a connection: a stalled reader must not hold its place for ever.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// Pieces in which a file is sent.
const CHUNK_BYTES: usize = 128 * 1024;

type Body = BoxBody<Bytes, std::io::Error>;

/// Serves the cell until the task is dropped.
pub(super) async fn serve(
    listener: TcpListener,
    session: Arc<Session>,
    events: Sender<Event>,
) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .expect("the semaphore stays open");
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await; // out of descriptors: later
            continue;
        };
        let (session, events) = (Arc::clone(&session), events.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let (session, events) = (Arc::clone(&session), events.clone());
                async move { Ok::<_, Infallible>(answer(request, &session, &events).await) }
            });
            let connection = protocol().serve_connection(TokioIo::new(stream), service);
            match tokio::time::timeout(CONNECTION_TIME_MAX, connection).await {
                Ok(Err(error)) if error.is_parse() => {
                    refused(&events, "bytes that are no HTTP").await;
                }
                Ok(_) | Err(_) => {} // the cell closed its end, or stalled
            }
            drop(place);
        });
    }
}

/// HTTP/1 with our limits.
pub(super) fn protocol() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}

async fn answer(
    request: Request<Incoming>,
    session: &Session,
    events: &Sender<Event>,
) -> Response<Body> {
    let target = request.uri().to_string();
    let body = request.body().size_hint().exact() != Some(0);
    if request.method() != Method::GET || body {
        refused(events, &format!("{} {target}", request.method())).await;
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here");
    }
    let Some(asked) = path::parse(&target) else {
        refused(events, &target).await;
        return text(
            StatusCode::BAD_REQUEST,
            "only the module proxy protocol is served here",
        );
    };
    let _full = events.try_send(Event::Asked); // only tells that the cell is alive
    let Asked::Want(want) = asked else {
        return text(StatusCode::NOT_FOUND, "not found");
    };
    match session.ask(want).await {
        Reply::Text(body) => text(StatusCode::OK, body),
        Reply::File { file, bytes } => stream(file, bytes),
        Reply::NotFound => text(StatusCode::NOT_FOUND, "not found: not part of this build"),
        Reply::Trouble(why) => text(StatusCode::BAD_GATEWAY, why),
    }
}

/// Reports what is outside the grammar; waits until there is room, as it must not get lost.
async fn refused(events: &Sender<Event>, what: &str) {
    let what: String = what
        .chars()
        .take(200)
        .flat_map(char::escape_default)
        .collect();
    let _gone = events.send(Event::Refused { what }).await;
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(
        Full::new(body.into())
            .map_err(|never| match never {})
            .boxed(),
    );
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// Sends exactly so many bytes; a file that turns out shorter breaks the connection.
fn stream(file: std::fs::File, bytes: u64) -> Response<Body> {
    use tokio::io::AsyncReadExt as _;
    let reader = tokio::fs::File::from_std(file).take(bytes);
    let frames = ReaderStream::with_capacity(reader, CHUNK_BYTES).map(|part| part.map(Frame::data));
    let boxed: Pin<Box<dyn tokio_stream::Stream<Item = _> + Send + Sync>> = Box::pin(frames);
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(boxed)));
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    response
}
