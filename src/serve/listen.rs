//! Connections: how many, how slow, how large a head. `axum::serve` has no such limits.
//!
//! Called by [`super::Service::run`]. A client may take its time with neither its request's head
//! nor the reading of our answer; a connection costs a bounded amount of memory whatever it does.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Extension, Router};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use nix::sys::resource::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::{Semaphore, watch},
    time::{Instant, Sleep},
};
use tracing::{debug, warn};

use super::{limits::blocks::Peer, metrics::Metrics};

/// Connections at a time; each costs a descriptor and a few buffers.
const CONNECTIONS_MAX: usize = 8_192;
/// Descriptors that connections do not get.
const FILES_KEPT: usize = 512;
/// Largest request head. Our longest path is 1,600 bytes; browsers add some 2 KiB.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most header fields; the default of hyper, said here because it is a limit.
const HEADERS_MAX: usize = 100;
/// A client has this long for a head, and for the pause between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// A client that reads nothing of what we send for this long is gone.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that are not done this long after the stop are cut.
const GRACE: Duration = Duration::from_secs(10);

/// Connections that the limit of open files allows, when some are kept for database and binaries.
fn connections_max() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = usize::try_from(soft).unwrap_or(usize::MAX);
    files.saturating_sub(FILES_KEPT).clamp(64, CONNECTIONS_MAX)
}

/// Accepts until `stop` becomes true, then lets what runs finish for a moment.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(connections_max()));
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
        metrics.connections.fetch_add(1, Relaxed);
        let connection = serve_one(stream, peer, &router, &metrics);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(cause) = connection.await {
                debug!("a connection ended early: {cause}");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown())
        .await
        .is_err()
    {
        debug!("connections are cut after {} s", GRACE.as_secs());
    }
}

type Served<S> =
    auto::Connection<'static, TokioIo<Stalling<S>>, TowerToHyperService<Router>, TokioExecutor>;

/// One connection with its limits.
pub(super) fn serve_one<S>(
    stream: S,
    peer: SocketAddr,
    router: &Router,
    metrics: &Arc<Metrics>,
) -> Served<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = router.clone().layer(Extension(Peer(peer.ip())));
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let stream = Stalling {
        stream,
        waiting: None,
        metrics: Arc::clone(metrics),
    };
    let service = TowerToHyperService::new(router);
    builder
        .serve_connection(TokioIo::new(stream), service)
        .into_owned()
}

/// A stream whose writes fail when the other side takes nothing for [`STALL_TIMEOUT`].
pub(super) struct Stalling<S> {
    stream: S,
    waiting: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
}

impl<S: Unpin> Stalling<S> {
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
        self.limit(cx, said)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = pin!(&mut self.stream).poll_write_vectored(cx, bufs);
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
