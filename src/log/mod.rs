//! The transparency log: one line per build, append-only, provable.
//!
//! Called by `serve` (queue, pages, `/tlog/`). One thread appends (`appender`); everybody reads
//! from the last published head. The order of an append is: batch what waits → leaf hashes → root,
//! computed twice → one transaction (records, companions, keys, unsigned head, the caller's rows) →
//! sign → keep the signatures → publish → answer → write full tiles. A crash anywhere leaves
//! nothing or a state that start-up finishes with the same code.
//!
//! The log must never sign two roots for one size, show a record that no signed head covers, answer
//! before everything is durable, hold two records for one key, or decide anything by the clock.

mod appender;
mod archive;
mod error;
mod fault;
mod fence;
mod kept;
mod local;
mod memory;
mod proofs;
mod records;
mod recover;
pub mod sign;
pub mod signer;
mod startup;
mod succeed;
mod tiles;
mod witnessed;

#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    thread::JoinHandle,
};

use hotcell_sandbox::channel::Channel;
use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, oneshot, watch};

pub use archive::{Archive, ArchiveError, StoredHead};
pub use error::{AppendError, LoadError, OpenError};
pub use kept::{Kept, list};
pub use local::LocalSigner;
pub use recover::{Refill, RefillError};
pub use sign::{Operator, RemoteSigner};
pub use signer::{SignError, SignedHead, Signer};
pub use succeed::{Left, left, set_aside};
pub use witnessed::Offer;

use crate::{
    provenance,
    spec::{BuildKey, Record},
    store::db,
    tlog::{Edge, Tile, TilePath, Tree, VerifierKey, text, tile::HEIGHT},
};
use appender::Submission;
use fence::Fence;
use tiles::{Recent, Tiles};
use witnessed::Cosigned;

/// Entries that wait for the appender; more wait in [`Log::append`] itself.
const QUEUE_MAX: usize = 1024;

/// Where the log lives.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// The database file, shared with the service's own tables.
    pub database: PathBuf,
    /// The folder of full tiles.
    pub tiles: PathBuf,
}

impl LogConfig {
    /// Name of the folder within the data folder of the service that is the role `serve`'s own.
    pub const FOLDER: &str = "serve";

    /// Where both are in that folder.
    pub fn of(data: &Path) -> Self {
        Self {
            database: data.join("hotcell.db"),
            tiles: data.join("tiles"),
        }
    }
}

/// Writes the caller's rows in the transaction of the entry, given the index of the record.
pub type WithEntry = Box<dyn FnOnce(&Transaction<'_>, u64) -> rusqlite::Result<()> + Send>;

/// What becomes a record and its companion.
pub struct NewEntry {
    /// The record.
    pub record: Record,
    /// SHA-256 of the binary; the record's sum is its beginning.
    pub sha256: [u8; 32],
    /// SHA-256 of the stored DSSE envelope.
    pub provenance_sha256: [u8; 32],
    /// Rows that are written with the entry or not at all. Called for an entry that is there
    /// already, too.
    pub with: WithEntry,
}

impl std::fmt::Debug for NewEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewEntry")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// A record with a head that covers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its index; that of the companion is the next.
    pub index: u64,
    /// Its text, ending in a newline.
    pub record: String,
    /// Signed note of a head that covers both.
    pub note: String,
}

/// Whether the log takes entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Live,
    /// It only reads.
    Fenced {
        /// Why.
        why: String,
        /// What an operator does about it.
        remedy: String,
    },
}

/// What readers see: a signed head and the right edge of its tree.
#[derive(Debug)]
struct Snapshot {
    tree: Tree,
    note: Arc<str>,
    checkpoint: Arc<str>,
    edge: Edge,
    /// Full tiles that are not files yet.
    recent: Recent,
}

/// What the appender and the readers share.
struct State {
    published: RwLock<Arc<Snapshot>>,
    /// Size of what is published, for those who wait for more.
    size: watch::Sender<u64>,
    health: RwLock<Health>,
    /// An alarm that nothing lifts but a new start: somebody has seen another log of ours.
    alarmed: OnceLock<Fence>,
    cosigned: Mutex<Cosigned>,
    tiles: Tiles,
}

impl State {
    fn new(snapshot: Snapshot, health: Health, cosigned: Cosigned, tiles: Tiles) -> Self {
        Self {
            size: watch::Sender::new(snapshot.tree.size),
            published: RwLock::new(Arc::new(snapshot)),
            health: RwLock::new(health),
            alarmed: OnceLock::new(),
            cosigned: Mutex::new(cosigned),
            tiles,
        }
    }

    fn published(&self) -> Arc<Snapshot> {
        Arc::clone(
            &self
                .published
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    fn publish(&self, snapshot: Snapshot) {
        let size = snapshot.tree.size;
        let snapshot = Arc::new(snapshot);
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = snapshot;
        // After the snapshot: whoever is woken finds it.
        self.size
            .send_if_modified(|known| std::mem::replace(known, size) != size);
    }

    fn health(&self) -> Health {
        if let Some(alarm) = self.alarmed.get() {
            return alarm.clone().into();
        }
        let health = self.health.read().unwrap_or_else(PoisonError::into_inner);
        health.clone()
    }

    fn set_health(&self, health: Health) {
        *self.health.write().unwrap_or_else(PoisonError::into_inner) = health;
    }
}

/// The log. Cheap to clone; the last clone that is dropped ends the appender and waits for it.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    key: VerifierKey,
    key_text: String,
    signer: Option<Arc<dyn Signer>>,
    state: Arc<State>,
    readers: db::Readers,
    database: PathBuf,
    /// Nothing when the log came up fenced; taken when it ends.
    appender: Option<(mpsc::Sender<Submission>, JoinHandle<()>)>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((queue, thread)) = self.appender.take() {
            drop(queue); // the appender finishes what waits and ends
            if thread.join().is_err() {
                tracing::error!("the appender of the log panicked");
            }
        }
    }
}

impl Log {
    /// Opens the log of a data folder with the signer in `sign_folder` that belongs to it; an empty
    /// data folder becomes a new log with an unused or new key called `name`. A data folder whose
    /// key has no signer comes up fenced.
    pub fn open_local(
        config: &LogConfig,
        sign_folder: &Path,
        name: &str,
    ) -> Result<Self, OpenError> {
        let signer = match startup::key(config)? {
            Some(key) => LocalSigner::open(sign_folder, &key)?,
            None => Some(LocalSigner::begin_beside(sign_folder, name).map_err(OpenError::begin)?),
        };
        Self::open(config, signer.map(|signer| Arc::new(signer) as _))
    }

    /// The role `sign` at the other end of `channel`, with the key of this data folder; unused or
    /// new keys called `name` for an empty one, nothing when it has no such key. To open the log
    /// with.
    pub fn connect(
        config: &LogConfig,
        channel: Channel,
        name: &str,
    ) -> Result<Option<Arc<RemoteSigner>>, OpenError> {
        let key = startup::key(config)?;
        let signer = RemoteSigner::connect(channel, key.as_ref(), name);
        let signer = signer.map_err(OpenError::begin)?;
        Ok(signer.map(Arc::new))
    }

    /// Opens the log with a signer; without one it comes up fenced. Verifies the head, the edge and
    /// the newest records, signs a committed head that has no signature, and compares with what the
    /// signer remembers.
    pub fn open(config: &LogConfig, signer: Option<Arc<dyn Signer>>) -> Result<Self, OpenError> {
        Self::open_with(config, signer, fault::none())
    }

    fn open_with(
        config: &LogConfig,
        signer: Option<Arc<dyn Signer>>,
        faults: fault::Hook,
    ) -> Result<Self, OpenError> {
        let opened = startup::open(config, signer.clone(), faults)?;
        let appender = opened.appender.map(|appender| {
            let (queue, submissions) = mpsc::channel(QUEUE_MAX);
            let thread = std::thread::Builder::new().name("log-appender".to_owned());
            let thread = thread.spawn(move || appender.run(submissions));
            thread.map(|thread| (queue, thread)).map_err(LoadError::io)
        });
        Ok(Self(Arc::new(Inner {
            key_text: opened.key.to_string(),
            key: opened.key,
            signer,
            state: opened.state,
            readers: db::Readers::open(&config.database)?,
            database: config.database.clone(),
            appender: appender.transpose()?,
        })))
    }

    /// Appends a record and its companion; returns the index of the record when a published head
    /// covers both. The same record again gives the old index.
    pub async fn append(&self, entry: NewEntry) -> Result<u64, AppendError> {
        if let Health::Fenced { why, .. } = self.health() {
            return Err(AppendError::Fenced { why });
        }
        let Some((queue, _)) = &self.0.appender else {
            return Err(AppendError::Unknown);
        };
        let (answer, answered) = oneshot::channel();
        let sent = queue.send(Submission { entry, answer }).await;
        sent.map_err(|_| AppendError::Unknown)?;
        answered.await.unwrap_or(Err(AppendError::Unknown))
    }

    /// Finds the record of a build. Reads the database: call it where it may block for a moment.
    pub fn lookup(&self, key: &BuildKey) -> Result<Option<Found>, LoadError> {
        let found = records::find_record(&self.reader(), &key.to_string())?;
        // The head is taken after the record, so it covers every record that was published; one
        // that was committed and is not published yet does not exist.
        let published = self.0.state.published();
        let visible = found.filter(|(index, ..)| index + 1 < published.tree.size);
        Ok(visible.map(|(index, record)| Found {
            index,
            record,
            note: published.note.to_string(),
        }))
    }

    /// The newest signed head in the form of the checksum database.
    pub fn latest(&self) -> Arc<str> {
        Arc::clone(&self.0.state.published().note)
    }

    /// The newest signed head as a C2SP checkpoint, with the cosignatures that it has by now.
    pub fn checkpoint(&self) -> Arc<str> {
        self.0.state.checkpoint(&self.0.state.published())
    }

    /// Size and root of the newest signed head.
    pub fn tree(&self) -> Tree {
        self.0.state.published().tree
    }

    /// Size of the newest signed head, for those who wait until it grows.
    pub fn sizes(&self) -> watch::Receiver<u64> {
        self.0.state.size.subscribe()
    }

    /// Texts of leaves `from..to`, as far as they are published. May block on the disk.
    pub fn leaves(&self, from: u64, to: u64) -> Result<Vec<String>, LoadError> {
        let to = to.min(self.tree().size);
        Ok(records::bodies(&self.reader(), from, to)?)
    }

    /// A tile of any form by its path after `tile/`; nothing when the published tree has no such
    /// tile. Partial tiles of all earlier sizes are cut. May block on the disk for a moment.
    pub fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let published = self.0.state.published();
        let Some(form) = TilePath::parse(path) else {
            return Ok(None);
        };
        let (TilePath::Hashes(tile) | TilePath::Data(tile) | TilePath::Entries(tile)) = form;
        if !tile.is_within(published.tree.size) {
            return Ok(None);
        }
        if let TilePath::Hashes(_) = form {
            return self.hash_tile(&published, &tile).map(Some);
        }
        let first = tile.number() << HEIGHT;
        let bodies = records::bodies(&self.reader(), first, first + u64::from(tile.width()))?;
        let bodies = bodies.iter().map(String::as_str);
        match form {
            TilePath::Data(_) => Ok(Some(text::data_tile(bodies))),
            _ => Ok(text::entry_bundle(bodies)),
        }
    }

    fn hash_tile(&self, published: &Snapshot, tile: &Tile) -> Result<Vec<u8>, LoadError> {
        if let Some(bytes) = published.edge.partial(tile) {
            return Ok(bytes.to_owned());
        }
        let full = self.0.state.tiles.full(&published.recent, tile)?;
        let missing = || LoadError::Damaged {
            what: format!("no {}", tile.c2sp_path()),
        };
        Ok(full.ok_or_else(missing)?[..tile.bytes()].to_owned())
    }

    /// `name+hash+key`, as clients are given it.
    pub fn verifier_key(&self) -> &str {
        &self.0.key_text
    }

    /// The public key that [`Log::envelope`] signs with; nothing without a signer.
    pub fn statement_key(&self) -> Option<[u8; 32]> {
        self.0.signer.as_ref().map(|signer| signer.statement_key())
    }

    /// Wraps a statement in a DSSE envelope, signed with the key that leaf 0 names.
    pub fn envelope(&self, statement: &[u8]) -> Result<Vec<u8>, AppendError> {
        let fenced = || AppendError::Fenced {
            why: "the log has no signer".to_owned(),
        };
        let signer = self.0.signer.as_ref().ok_or_else(fenced)?;
        let signature = signer.sign_statement(statement).map_err(|error| {
            tracing::error!(%error, "cannot sign a statement");
            AppendError::Unknown
        })?;
        Ok(provenance::envelope(
            statement,
            &signer.statement_key(),
            &signature,
        ))
    }

    /// Whether it takes entries.
    pub fn health(&self) -> Health {
        self.0.state.health()
    }

    /// Name of the key, which is the origin of checkpoints.
    pub fn origin(&self) -> &str {
        self.0.key.name()
    }

    fn reader(&self) -> std::sync::MutexGuard<'_, Connection> {
        self.0.readers.free()
    }
}
