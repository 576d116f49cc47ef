//! New records of a log, one after the other, each proved by a signed head that continues all
//! heads before it.
//!
//! The place is kept after what was told, so that a crash tells some records twice and none never.
//! The server's event stream only says when to look; what it tells is not read.

use std::{io, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    error::{AuditError, Lie},
    heads::{self, Head},
    leaves::{Leaf, Leaves},
    remote::{Remote, address},
    source::{Answer, Part, Source as _},
};
use crate::{
    get::state::{State, StateError},
    proxy::{Limits, Sink, Transport, Url},
    spec::hex,
    tlog::{
        ReadError, Tile, Tree, VerifierKey, index, leaf_hash, reader, text::parse_data_tile,
        tile::WIDTH,
    },
};

/// Pause between two looks when nobody says that there is more.
const POLL: Duration = Duration::from_secs(10);
/// Shortest pause between two looks, however often the server says that there is more.
const PAUSE: Duration = Duration::from_millis(200);
/// First and longest pause while the log cannot be read; each is twice the one before.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How often another process may keep another head while this one compares its own.
const RACES_MAX: usize = 10;
/// Longest event stream; a new one is opened after it.
const HINTS: Limits = Limits {
    bytes_max: 64 << 20,
    total: Duration::from_secs(60 * 60),
};

/// What a follower tells.
#[derive(Debug)]
pub enum Told<'a> {
    /// One document on a record, or on the keys in leaf 0.
    Line(&'a Value),
    /// A sentence for the person.
    Note(String),
}

/// Why a follower ended.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The log is wrong, or this user's state is.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Nobody takes what is told. The last line will be told again.
    #[error("cannot tell what is new")]
    Tell(#[source] io::Error),
}

/// Tells all records from `from` on, else from where the last run has stopped, else from leaf 0 on;
/// ends with the first lie only, or when nobody listens.
pub async fn follow(
    url: &str,
    key: &VerifierKey,
    state_folder: &Path,
    from: Option<u64>,
    http: Arc<dyn Transport>,
    mut tell: impl FnMut(Told<'_>) -> io::Result<()>,
) -> Result<std::convert::Infallible, FollowError> {
    let mut warnings = Vec::new();
    let state = State::open(state_folder, key, &mut warnings).map_err(AuditError::from)?;
    for warning in warnings {
        tell(Told::Note(warning)).map_err(FollowError::Tell)?;
    }
    let place = state.place().map_err(AuditError::from)?;
    let next = start(from.or(place).unwrap_or(0));
    let mut follower = Follower {
        remote: Remote::impatient(url, Arc::clone(&http))?,
        key,
        state,
        next,
        leaves: Leaves::from(key, next),
    };
    let hints = Hints::open(url, http)?;
    let mut pause = BACK_OFF.0;
    loop {
        match follower.round(&mut tell).await {
            Ok(()) => {
                pause = BACK_OFF.0;
                tokio::time::sleep(PAUSE).await;
                // A hint that is lost costs the time of a poll.
                let _in_time = tokio::time::timeout(POLL, hints.more.notified()).await;
            }
            Err(FollowError::Audit(AuditError::Unavailable { path, source })) => {
                let text = format!("cannot read `{path}` of the log: {source}");
                let note = format!("{text}; trying again in {} s", pause.as_secs());
                tell(Told::Note(note)).map_err(FollowError::Tell)?;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The leaf to begin with: leaf 0, or a record; companions have even numbers.
fn start(index: u64) -> u64 {
    match index % 2 {
        0 if index > 0 => index + 1,
        _ => index,
    }
}

struct Follower<'a> {
    remote: Remote,
    key: &'a VerifierKey,
    state: State,
    /// The next leaf to read; the companion, when its record was read already.
    next: u64,
    leaves: Leaves,
}

impl Follower<'_> {
    /// Reads the newest head and tells everything up to it.
    async fn round(
        &mut self,
        tell: &mut impl FnMut(Told<'_>) -> io::Result<()>,
    ) -> Result<(), FollowError> {
        let head = self.advance().await?;
        while self.next < head.tree.size {
            let texts = self.read(&head).await?;
            for text in texts {
                let index = self.next;
                let leaf = self.leaves.push(&text);
                let leaf = leaf.map_err(|why| lie(why, &head))?;
                if let Some(line) = line(index, &leaf, &head.tree, self.key) {
                    tell(Told::Line(&line)).map_err(FollowError::Tell)?;
                }
                self.next += 1;
            }
            // Where a later run must begin: at the record whose companion was not read yet.
            let place = match self.leaves.end() {
                Ok(()) => self.next,
                Err(_) => self.next - 1,
            };
            self.state.keep_place(place).map_err(AuditError::from)?;
        }
        if self.next == head.tree.size {
            self.leaves.end().map_err(|why| lie(why, &head))?;
        }
        Ok(())
    }

    /// The newest head, once it was shown to continue the one that this user has kept; it is kept.
    async fn advance(&self) -> Result<Head, AuditError> {
        for _ in 0..RACES_MAX {
            let seen = self.state.latest()?;
            let head = heads::read(&self.remote, self.key, Part::Note).await?;
            if let Some((note, tree)) = &seen {
                let kept = Head {
                    from: "the head that this user has kept".to_owned(),
                    note: note.clone(),
                    tree: *tree,
                };
                self.continues(&kept, &head).await?;
                if tree.size == head.tree.size {
                    return Ok(head);
                }
            }
            let known = seen.as_ref().map(|(note, _)| note.as_str());
            if self.state.replace(known, &head.note)? {
                return Ok(head);
            }
            // Another process has kept another head: compare with that.
        }
        Err(StateError::Busy.into())
    }

    async fn continues(&self, kept: &Head, head: &Head) -> Result<(), AuditError> {
        heads::agree(kept, head)?;
        let both = |sentence: String| {
            Lie::new(sentence)
                .with_head(&kept.from, &kept.note)
                .with_head(&head.from, &head.note)
        };
        if kept.tree.size > head.tree.size {
            let sentence = format!(
                "the log shows a head of {} leaves, this user has kept one of {}: it was rolled \
                 back, or is an old copy",
                head.tree.size, kept.tree.size
            );
            return Err(both(sentence).into());
        }
        let checked = reader::check_prefix(kept.tree, head.tree, &self.remote).await;
        checked.map_err(|error| match error {
            ReadError::Source(error) => error,
            ReadError::NotContained { .. } => both(format!(
                "the log shows two histories: its head of {} leaves does not continue the one of \
                 {} that this user has kept",
                head.tree.size, kept.tree.size
            ))
            .into(),
            error => both(error.to_string()).into(),
        })
    }

    /// The texts of the next leaves, up to the end of their tile; each is proved.
    async fn read(&self, head: &Head) -> Result<Vec<String>, AuditError> {
        let Tree { size, .. } = head.tree;
        let (number, skip) = (self.next / u64::from(WIDTH), self.next % u64::from(WIDTH));
        let width = (size - number * u64::from(WIDTH)).min(u64::from(WIDTH));
        let width = u16::try_from(width).unwrap_or(WIDTH);
        let no_tile = || lie("the log is larger than any log".to_owned(), head);
        let tile = Tile::new(0, number, width).ok_or_else(no_tile)?;
        let part = Part::Data(tile);
        let path = part.path();
        let bytes = match self.remote.read(part).await? {
            Answer::Bytes(bytes) => bytes,
            Answer::Missing => return Err(lie(format!("the log has no `{path}`"), head)),
            Answer::TooLong => return Err(lie(format!("`{path}` has no end"), head)),
        };
        let shown = |why: String| {
            let lie = Lie::new(why).with(path.clone(), Some(&bytes), None);
            AuditError::from(lie.with_head(&head.from, &head.note))
        };
        let texts = parse_data_tile(&bytes, width);
        let texts = texts.map_err(|_| shown(format!("`{path}` does not hold {width} records")))?;
        let skip = usize::try_from(skip).unwrap_or(usize::from(WIDTH));
        let texts: Vec<String> = texts.into_iter().skip(skip).map(str::to_owned).collect();
        let leaves = self.next..self.next + texts.len() as u64;
        let indexes: Vec<u64> = leaves.map(|leaf| index::stored_index(0, leaf)).collect();
        let hashes = reader::read_hashes(head.tree, &indexes, &self.remote).await;
        let hashes = hashes.map_err(|error| match error {
            ReadError::Source(error) => error,
            error => shown(error.to_string()),
        })?;
        let mut pairs = texts.iter().zip(&hashes);
        match pairs.position(|(text, hash)| leaf_hash(text.as_bytes()) != *hash) {
            None => Ok(texts),
            Some(at) => Err(shown(format!(
                "leaf {}: its text in `{path}` is not in the signed tree",
                self.next + at as u64
            ))),
        }
    }
}

fn lie(sentence: String, head: &Head) -> AuditError {
    Lie::new(sentence).with_head(&head.from, &head.note).into()
}

/// What is told of a leaf; of a record with its companion only.
fn line(index: u64, leaf: &Leaf, tree: &Tree, key: &VerifierKey) -> Option<Value> {
    match leaf {
        Leaf::Keys(keys) => Some(json!({
            "index": index,
            "keys": { "log": key.to_string(), "dsse": hex(&keys.statement) },
            "follows": keys.follows.as_ref().map(|follows| follows.log.to_string()),
            "log_size": tree.size,
        })),
        Leaf::Record(_) => None,
        Leaf::Companion(companion, record) => Some(json!({
            "index": companion.record_index,
            "key": record.key.to_string(),
            "module": record.key.module.path.to_string(),
            "version": record.key.module.version.to_string(),
            "package": record.key.package(),
            "goos": record.key.target.goos(),
            "goarch": record.key.target.goarch(),
            "goversion": record.key.go.to_string(),
            "variant": record.key.variant.as_str(),
            "size": record.size,
            "sum": record.sum.to_string(),
            "sha256": hex(&companion.sha256),
            "provenance_sha256": hex(&companion.provenance_sha256),
            "log_size": tree.size,
        })),
    }
}

/// The server's event stream, as a bell; a log without one is only polled.
struct Hints {
    more: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Hints {
    fn open(url: &str, http: Arc<dyn Transport>) -> Result<Self, AuditError> {
        let more = Arc::new(Notify::new());
        let base = url.trim_end_matches('/').strip_suffix("/tlog");
        let events = base.map(|base| address(&format!("{base}/api/v1/records/events")));
        let (events, bell) = (events.transpose()?, Arc::clone(&more));
        let task = tokio::spawn(async move {
            let Some(events) = events else {
                return;
            };
            listen(&events, http.as_ref(), bell).await;
        });
        Ok(Self { more, task })
    }
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(events: &Url, http: &dyn Transport, bell: Arc<Notify>) {
    loop {
        let mut bell = Bell(Arc::clone(&bell));
        // However it ended: the log is polled until the next stream.
        let _ended = http.get(events, HINTS, &mut bell).await;
        tokio::time::sleep(POLL).await;
    }
}

/// Rings for everything but comments, which only keep the connection open.
struct Bell(Arc<Notify>);

impl Sink for Bell {
    fn begin(&mut self, _: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.starts_with(b":") {
            self.0.notify_one();
        }
        Ok(())
    }
}
