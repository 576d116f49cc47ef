//! Connections: how many, how slow, how large a head. `axum::serve` has no such limits.
//!
//! Called by [`super::Service::run`]. A client may take its time with neither handshake, nor its
//! request's head, nor the reading of our answer; a connection costs a bounded amount of memory
//! whatever it does. The same holds with TLS ([`super::tls`]) and HTTP/2 ([`super::streams`]).

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, http::Method};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{Instant, Sleep},
};
use tower::Service as _;
use tracing::{debug, warn};

use super::{
    limits::blocks::{Cidr, Peer},
    metrics::Metrics,
    places::Places,
    streams::{self, LOOK, STREAMS_MAX, Streams, Verdict},
    tls::Tls,
};

/// Connections at a time; each costs a descriptor and a few buffers.
const CONNECTIONS_MAX: u32 = 8_192;
/// Descriptors that connections do not get.
const FILES_KEPT: u64 = 512;
/// Largest request head. Our longest path is 1,600 bytes; browsers add some 2 KiB.
const HEAD_BYTES_MAX: u16 = 16 * 1024;
/// Most header fields; the default of hyper, said here because it is a limit.
const HEADERS_MAX: usize = 100;
/// A client has this long for a head, and for the pause between two requests.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// A client that reads nothing of what we send for this long is gone.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that are not done this long after the stop are cut.
const GRACE: Duration = Duration::from_secs(10);
/// What an HTTP/2 client may send ahead on all streams, in bytes: the least that the protocol has,
/// and four times our largest body.
const AHEAD_BYTES_MAX: u32 = 65_535;
/// What may wait to be taken of one HTTP/2 stream, in bytes, beside the piece that comes next.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// Streams that an HTTP/2 client may reset before we have looked at them (CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// Streams that we may reset for mistakes of an HTTP/2 client before the connection ends
/// (CVE-2025-8671).
const MISTAKES_MAX: usize = 64;

/// Connections that the limit of open files allows, when some are kept for database and binaries.
fn connections_max() -> u32 {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = u32::try_from(soft.saturating_sub(FILES_KEPT)).unwrap_or(u32::MAX);
    files.clamp(64, CONNECTIONS_MAX)
}

/// What stands behind a listening socket.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) router: Router,
    /// HTTP/2 is spoken with it only: without it there is nothing that names the version first.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) metrics: Arc<Metrics>,
}

/// Accepts until `stop` becomes true, then lets what runs finish for a moment. `trusted` stand for
/// many clients.
pub(super) async fn accept(
    listener: TcpListener,
    door: Door,
    trusted: Arc<[Cidr]>,
    mut stop: watch::Receiver<bool>,
) {
    let most = connections_max();
    let clients = Places::new(most, trusted);
    let places = Arc::new(Semaphore::new(most as usize));
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(both) => both,
            Err(cause) => {
                // Mostly out of descriptors; waiting lets others close theirs.
                warn!("cannot accept a connection: {cause}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        door.metrics.connections.fetch_add(1, Relaxed);
        let may_begin = |_: &_| door.tls.is_none() || clients.may_begin_tls(peer.ip());
        let Some(own) = clients.enter(peer.ip()).filter(may_begin) else {
            door.metrics.crowded.fetch_add(1, Relaxed);
            continue; // the connection is closed: to answer costs more than to be asked
        };
        let (door, stop) = (door.clone(), stop.clone());
        tokio::spawn(async move {
            door.serve(stream, peer, stop).await;
            drop((own, place));
        });
    }
    drop(listener);
    let ended = tokio::time::timeout(GRACE, places.acquire_many(most)).await;
    if ended.is_err() {
        debug!("connections are cut after {} s", GRACE.as_secs());
    }
}

impl Door {
    /// One connection with its limits, to its end.
    pub(super) async fn serve<S>(self, stream: S, peer: SocketAddr, mut stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, written) = self.watched(stream);
        let Some(tls) = self.tls.clone() else {
            return self.speak(stream, None, peer, stop).await;
        };
        let accepted = tokio::select! {
            accepted = tls.accept(stream) => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok(None) => {} // an authority, which has seen what it wanted
            Ok(Some((stream, is_h2))) => {
                let streams = is_h2.then(|| Streams::new(written));
                self.speak(stream, streams, peer, stop).await;
            }
            Err(cause) => {
                self.metrics.handshakes_failed.fetch_add(1, Relaxed);
                debug!("a handshake failed: {cause}");
            }
        }
    }

    /// The stream with its limit, and the bytes that the other side has taken.
    pub(super) fn watched<S>(&self, stream: S) -> (Stalling<S>, Arc<AtomicU64>) {
        let written = Arc::new(AtomicU64::new(0));
        let stream = Stalling {
            stream,
            waiting: None,
            written: Arc::clone(&written),
            metrics: Arc::clone(&self.metrics),
        };
        (stream, written)
    }

    /// HTTP/2 when its streams are to be counted, else HTTP/1.
    pub(super) async fn speak<S>(
        self,
        stream: S,
        streams: Option<Arc<Streams>>,
        peer: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = if streams.is_some() { http2() } else { http1() };
        // Not as layers of the router: each connection would have all its routes once more.
        let (router, counted) = (self.router, streams.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer.ip()));
            let is_head = request.method() == Method::HEAD;
            let (answering, streams) = (router.clone().call(request), counted.clone());
            async move {
                let Some(streams) = streams else {
                    return answering.await;
                };
                Ok(streams::count(streams, is_head, answering).await)
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let flooded = async {
            match &streams {
                Some(streams) => streams.flooded().await,
                None => std::future::pending().await,
            }
        };
        let mut flooded = pin!(flooded);
        let mut look = tokio::time::interval(LOOK);
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(cause) = ended {
                        debug!("a connection ended early: {cause}");
                    }
                    return;
                }
                _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = flooded.as_mut() => {
                    self.metrics.floods.fetch_add(1, Relaxed);
                    return;
                }
                _ = look.tick(), if streams.is_some() => {
                    match streams.as_ref().map_or(Verdict::Well, |streams| streams.judge()) {
                        Verdict::Well => {}
                        Verdict::Idle => connection.as_mut().graceful_shutdown(),
                        Verdict::Stalled => {
                            self.metrics.stalled.fetch_add(1, Relaxed);
                            return;
                        }
                    }
                }
            }
        }
    }
}

fn http1() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX.into())
        .max_headers(HEADERS_MAX);
    builder
}

/// A head is bounded by its size alone here: each field counts 32 bytes more (RFC 9113, 6.5.2).
fn http2() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX.into())
        .initial_stream_window_size(AHEAD_BYTES_MAX)
        .initial_connection_window_size(AHEAD_BYTES_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(MISTAKES_MAX)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    builder
}

/// A stream whose writes fail when the other side takes nothing for [`STALL_TIMEOUT`].
pub(super) struct Stalling<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Bytes that the other side has taken.
    written: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl<S: Unpin> Stalling<S> {
    fn count(&self, said: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = said {
            self.written.fetch_add(*bytes as u64, Relaxed);
        }
    }

    /// Passes on what a write said; one that waits for too long has failed.
    fn limit<T>(&mut self, cx: &mut Context<'_>, said: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.waiting = None;
            return said;
        }
        let since = || Box::pin(tokio::time::sleep_until(Instant::now() + STALL_TIMEOUT));
        let waiting = self.waiting.get_or_insert_with(since);
        if waiting.as_mut().poll(cx).is_ready() {
            self.metrics.stalled.fetch_add(1, Relaxed);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let said = pin!(&mut self.stream).poll_write(cx, buf);
        self.count(&said);
        self.limit(cx, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = pin!(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&said);
        self.limit(cx, said)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = pin!(&mut self.stream).poll_flush(cx);
        self.limit(cx, said)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = pin!(&mut self.stream).poll_shutdown(cx);
        self.limit(cx, said)
    }
}
