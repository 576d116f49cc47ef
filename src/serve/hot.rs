//! Bodies of downloads: from memory when it has room, else from the file piece by piece.
//!
//! Called for each download. All who fetch the same binary at the same time share one copy, which
//! the kernel sends as it is; that is what a server that only sends files costs. The copies that
//! exist are bounded by [`BYTES_MAX`] together, for slow readers hold them; who comes when they are
//! used up gets pieces of [`PIECE`], as does whoever wants a large file, or a part of one that
//! nobody has a copy of. Nothing is read before the first byte is sent, so an answer without a body
//! costs nothing.

use std::{
    collections::HashMap,
    io::{self, Read as _, SeekFrom},
    ops::Range,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes};
use tokio::{
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    sync::mpsc,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};

use super::{artifacts::Opened, shares::Share};
use crate::build::BoxFuture;

/// Bytes of all copies together.
const BYTES_MAX: u64 = 128 << 20;
/// Longest file that is copied whole; most commands are shorter.
pub(super) const WHOLE_MAX: u64 = 32 << 20;
/// Bytes that are read at a time of what is not copied whole, and held for a slow reader.
const PIECE: usize = 64 * 1024;

/// What tells one file from another: SHA-256 of the binary, and whether it is compressed.
pub(super) type Name = ([u8; 32], bool);

/// Copies that somebody is reading.
#[derive(Debug, Default)]
pub(super) struct Hot {
    copies: Mutex<HashMap<Name, Weak<Copied>>>,
    bytes: Arc<AtomicU64>,
}

/// A whole file in memory, counted as long as it is there.
#[derive(Debug)]
struct Copied {
    content: Vec<u8>,
    _room: Room,
}

/// A part of [`BYTES_MAX`].
#[derive(Debug)]
struct Room {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Relaxed);
    }
}

/// For [`Bytes`], which shares it.
struct Shared(Arc<Copied>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.content
    }
}

impl Hot {
    /// The content of a file as the body of an answer, or these bytes of it. `shares` are held
    /// until the body is over.
    pub(super) fn body(
        self: &Arc<Self>,
        name: Name,
        opened: Opened,
        part: Option<Range<u64>>,
        shares: Vec<Share>,
    ) -> Body {
        let hot = Arc::clone(self);
        let source = Box::pin(async move {
            match part {
                None => hot.source(name, opened).await,
                Some(part) => hot.part(&name, opened, part),
            }
        });
        Body::from_stream(Sending {
            rest: Rest::Asked(source),
            _shares: shares,
        })
    }

    /// No copy is made: who asks for single bytes would have us read megabytes.
    fn part(&self, name: &Name, opened: Opened, part: Range<u64>) -> Source {
        let Some(copied) = self.find(name) else {
            return Source::Pieces(pieces(opened, part));
        };
        let all = Bytes::from_owner(Shared(copied));
        let at = |bytes: u64| usize::try_from(bytes).map_or(all.len(), |at| at.min(all.len()));
        Source::Whole(Ok(all.slice(at(part.start)..at(part.end))))
    }

    async fn source(&self, name: Name, opened: Opened) -> Source {
        if let Some(copied) = self.find(&name) {
            return Source::Whole(Ok(Bytes::from_owner(Shared(copied))));
        }
        let Some(room) = self.room(opened.bytes) else {
            let all = 0..opened.bytes;
            return Source::Pieces(pieces(opened, all));
        };
        let copy = move || {
            let length = usize::try_from(opened.bytes).map_err(io::Error::other)?;
            let mut content = Vec::with_capacity(length);
            opened.file.take(opened.bytes).read_to_end(&mut content)?;
            Ok(Arc::new(Copied {
                content,
                _room: room,
            }))
        };
        let copied = tokio::task::spawn_blocking(copy).await;
        let copied: io::Result<_> = copied.unwrap_or_else(|gone| Err(io::Error::other(gone)));
        if let Ok(copied) = &copied {
            let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
            copies.retain(|_, copy| copy.strong_count() > 0);
            copies.insert(name, Arc::downgrade(copied));
        }
        Source::Whole(copied.map(|copied| Bytes::from_owner(Shared(copied))))
    }

    fn find(&self, name: &Name) -> Option<Arc<Copied>> {
        let copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        copies.get(name)?.upgrade()
    }

    fn room(&self, bytes: u64) -> Option<Room> {
        let taken = self.bytes.fetch_update(Relaxed, Relaxed, |taken| {
            let all = taken + bytes;
            (bytes <= WHOLE_MAX && all <= BYTES_MAX).then_some(all)
        });
        taken.ok().map(|_| Room {
            bytes,
            of: Arc::clone(&self.bytes),
        })
    }
}

/// Reads a part of a file as fast as it is sent, and no further ahead than one piece.
fn pieces(opened: Opened, part: Range<u64>) -> ReceiverStream<io::Result<Bytes>> {
    let (to, from) = mpsc::channel(1);
    let mut file = tokio::fs::File::from_std(opened.file);
    tokio::spawn(async move {
        if let Err(cause) = file.seek(SeekFrom::Start(part.start)).await {
            drop(to.send(Err(cause)).await); // nobody reads it when that fails
            return;
        }
        let mut file = file.take(part.end.saturating_sub(part.start));
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await;
            let is_last = matches!(read, Ok(0) | Err(_));
            let is_empty = matches!(read, Ok(0));
            if is_empty || to.send(read.map(|_| piece.into())).await.is_err() || is_last {
                return;
            }
        }
    });
    ReceiverStream::new(from)
}

/// Where a body comes from.
enum Source {
    Whole(io::Result<Bytes>),
    Pieces(ReceiverStream<io::Result<Bytes>>),
}

/// A body on its way.
struct Sending {
    rest: Rest,
    _shares: Vec<Share>,
}

/// What is still to come of it.
enum Rest {
    Asked(BoxFuture<'static, Source>),
    Pieces(ReceiverStream<io::Result<Bytes>>),
    Done,
}

impl Stream for Sending {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.rest {
                Rest::Asked(source) => match ready!(source.as_mut().poll(cx)) {
                    Source::Whole(content) => {
                        self.rest = Rest::Done;
                        return Poll::Ready(Some(content));
                    }
                    Source::Pieces(pieces) => self.rest = Rest::Pieces(pieces),
                },
                Rest::Pieces(pieces) => return Pin::new(pieces).poll_next(cx),
                Rest::Done => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
    };

    use axum::body::to_bytes;

    use super::*;

    const NAME: Name = ([7; 32], false);

    fn opened(folder: &tempfile::TempDir, bytes: u64) -> Opened {
        let path = folder.path().join(bytes.to_string());
        File::create(&path).unwrap().set_len(bytes).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(path).unwrap();
        Opened { file, bytes }
    }

    async fn length(body: Body) -> u64 {
        let content = to_bytes(body, usize::MAX).await.unwrap();
        u64::try_from(content.len()).unwrap()
    }

    #[tokio::test]
    async fn whoever_reads_at_the_same_time_shares_one_copy_and_it_goes_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let hot = Arc::<Hot>::default();
        let size = 10 << 20;
        let one = hot.source(NAME, opened(&folder, size)).await;
        for _ in 0..20 {
            // An empty file: what is read is the copy.
            let nothing = opened(&folder, 0);
            assert_eq!(
                length(hot.body(NAME, nothing, None, Vec::new())).await,
                size
            );
        }
        assert_eq!(hot.bytes.load(Relaxed), size);
        drop(one);
        assert_eq!(hot.bytes.load(Relaxed), 0);
        assert_eq!(
            length(hot.body(NAME, opened(&folder, 3), None, Vec::new())).await,
            3
        );
        // Nothing is read for an answer whose body nobody wants.
        drop(hot.body(NAME, opened(&folder, size), None, Vec::new()));
        assert_eq!(hot.bytes.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_part_is_read_from_the_file_or_cut_from_a_copy_and_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..=u8::MAX).cycle().take(200_000).collect();
        let mut file = File::create(folder.path().join("file")).unwrap();
        file.write_all(&content).unwrap();
        let opened = || Opened {
            file: File::open(folder.path().join("file")).unwrap(),
            bytes: 200_000,
        };
        let hot = Arc::<Hot>::default();
        for copied in [false, true] {
            let whole = copied.then(|| hot.source(NAME, opened()));
            let whole = match whole {
                Some(whole) => Some(whole.await),
                None => None,
            };
            for part in [0..1, 5..100_000, 65_530..65_540, 199_999..200_000] {
                let body = hot.body(NAME, opened(), Some(part.clone()), Vec::new());
                let found = to_bytes(body, usize::MAX).await.unwrap();
                let range =
                    usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
                assert!(found == content[range], "{part:?}");
            }
            assert_eq!(hot.bytes.load(Relaxed), if copied { 200_000 } else { 0 });
            drop(whole);
        }
    }

    #[tokio::test]
    async fn slow_readers_hold_a_bounded_amount_and_others_get_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let hot = Arc::<Hot>::default();
        let mut held = Vec::new();
        for n in 0..20 {
            let name = ([n; 32], n % 2 == 0);
            held.push(hot.source(name, opened(&folder, 20 << 20)).await);
        }
        let pieces = held.iter().filter(|one| matches!(one, Source::Pieces(_)));
        assert_eq!((pieces.count(), hot.bytes.load(Relaxed)), (14, 120 << 20));
        let body = hot.body(NAME, opened(&folder, 9 << 20), None, Vec::new());
        assert_eq!(length(body).await, 9 << 20);
        drop(held);
        let large = hot.source(NAME, opened(&folder, WHOLE_MAX + 1)).await;
        assert!(matches!(large, Source::Pieces(_)));
        assert_eq!(hot.bytes.load(Relaxed), 0);
    }
}
