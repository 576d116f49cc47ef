//! The one thread that appends. It owns the writing connection and the state of the tree.
//!
//! A failed commit, sync or signature is final for its state: what was written is not known, so it
//! is thrown away and loaded again from the disk, and callers ask again by key.

use std::{fs::File, sync::Arc, time::Duration};

use nix::fcntl::Flock;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    AppendError, Health, LoadError, LogConfig, NewEntry, Snapshot, State,
    fault::{Hook, Step},
    fence::Fence,
    records,
    signer::{SignError, SignedHead, Signer},
    startup::{self, Loaded, check_notes},
    tiles::{Recent, Tiles},
};
use crate::{
    spec::{Companion, Record, Sum},
    store::db,
    tlog::{Edge, Tree, leaf_hash, proof, text::is_record},
};

/// Entries of one transaction. More would make the first of them wait for the last.
const BATCH_MAX: usize = 1024;

/// How long a log that cannot be loaded waits before it is loaded again.
const RETRY: Duration = if cfg!(test) {
    Duration::from_millis(1)
} else {
    Duration::from_secs(5)
};

/// An entry and who waits for it.
pub(super) struct Submission {
    pub(super) entry: NewEntry,
    pub(super) answer: oneshot::Sender<Result<u64, AppendError>>,
}

type Answers = Vec<(
    oneshot::Sender<Result<u64, AppendError>>,
    Result<u64, AppendError>,
)>;

/// The appending side of the log.
pub(super) struct Appender {
    config: LogConfig,
    signer: Arc<dyn Signer>,
    faults: Hook,
    state: Arc<State>,
    loaded: Option<Loaded>,
    /// Held until the thread ends.
    _lock: Flock<File>,
}

impl Appender {
    pub(super) fn new(
        config: LogConfig,
        signer: Arc<dyn Signer>,
        faults: Hook,
        state: Arc<State>,
        loaded: Loaded,
        lock: Flock<File>,
    ) -> Self {
        Self {
            config,
            signer,
            faults,
            state,
            loaded: Some(loaded),
            _lock: lock,
        }
    }

    /// Appends until nobody can submit any more.
    pub(super) fn run(mut self, mut submissions: mpsc::Receiver<Submission>) {
        // No timer: a batch is what came while the batch before was committed, so that a single
        // entry waits for nobody.
        while let Some(first) = submissions.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(next) = submissions.try_recv()
            {
                batch.push(next);
            }
            if !self.process(batch) || !self.recover(&mut submissions) {
                return;
            }
        }
    }

    /// Loads the state again until it can be loaded, fenced meanwhile; false when the thread must
    /// end. A full disk needs no operator but the one who makes room.
    fn recover(&mut self, submissions: &mut mpsc::Receiver<Submission>) -> bool {
        while self.loaded.is_none() {
            while submissions.try_recv().is_ok() {} // they learn that the outcome is not known
            if submissions.is_closed() {
                return false;
            }
            std::thread::sleep(RETRY);
            match self.reload() {
                Ok(loaded) => self.loaded = Some(loaded),
                Err(error) if self.is_final(&error) => return false,
                Err(_) => {} // told once, when it began
            }
        }
        self.state.set_health(Health::Live);
        true
    }

    /// Appends a batch; false when the thread must end. Whoever gets no answer learns from the
    /// closed channel that the outcome is not known.
    fn process(&mut self, batch: Vec<Submission>) -> bool {
        if let Some(alarm) = self.state.alarmed.get() {
            for Submission { answer, .. } in batch {
                let why = alarm.why.clone();
                let _gone = answer.send(Err(AppendError::Fenced { why }));
            }
            return true;
        }
        let Some(loaded) = self.loaded.take() else {
            return true;
        };
        let error = match self.append(loaded, batch) {
            Ok(loaded) => {
                self.loaded = Some(loaded);
                return true;
            }
            Err(error) => error,
        };
        if self.is_final(&error) {
            return false;
        }
        tracing::error!(%error, source = error_source(&error), "the log is loaded again");
        // Never a retry on the same state: it is loaded again from what the disk has.
        match self.reload() {
            Ok(loaded) => self.loaded = Some(loaded),
            Err(error) if self.is_final(&error) => return false,
            Err(error) => {
                let source = error_source(&error);
                tracing::error!(%error, source, "the log cannot append until its disk is mended");
                self.state.set_health(Fence::broken(&error, &source).into());
            }
        }
        true
    }

    /// Whether no loading again can help: the signer refuses for good.
    fn is_final(&self, error: &LoadError) -> bool {
        match error {
            #[cfg(test)]
            LoadError::Killed => true,
            LoadError::Unsigned(SignError::Refused { last, size }) => {
                let fence = match last > size {
                    true => Fence::rolled_back(*size, *last),
                    false => Fence::forked(*last),
                };
                tracing::error!("the log is fenced: {}; {}", fence.why, fence.remedy);
                self.state.set_health(fence.into());
                true
            }
            LoadError::Unsigned(SignError::Gone) => {
                let fence = Fence::signer_gone();
                tracing::error!("the log is fenced: {}; {}", fence.why, fence.remedy);
                self.state.set_health(fence.into());
                true
            }
            _ => false,
        }
    }

    fn reload(&self) -> Result<Loaded, LoadError> {
        if !db::begin_wal_anew(&self.config.database).map_err(LoadError::io)? {
            return Err(LoadError::Io(
                "somebody reads its write-ahead log all the time".into(),
            ));
        }
        let (signer, tiles) = (self.signer.as_ref(), &self.state.tiles);
        let loaded = startup::load(&self.config, signer, tiles, &self.faults)?;
        self.publish(&loaded, Recent::new());
        Ok(loaded)
    }

    fn publish(&self, loaded: &Loaded, recent: Recent) {
        self.state.publish(Snapshot {
            tree: loaded.edge.tree(),
            note: Arc::clone(&loaded.note),
            checkpoint: Arc::clone(&loaded.checkpoint),
            edge: loaded.edge.clone(),
            recent,
        });
    }

    fn append(&self, mut loaded: Loaded, batch: Vec<Submission>) -> Result<Loaded, LoadError> {
        // What is loaded is signed: a state that could not be was thrown away.
        let last = loaded.edge.tree();
        (self.faults)(Step::Insert)?;
        let (answers, recent) = commit(&mut loaded, batch, &self.faults)?;
        if loaded.edge.size() > last.size {
            (self.faults)(Step::Committed)?;
            let (signer, tiles) = (self.signer.as_ref(), &self.state.tiles);
            let db = &loaded.db;
            let signed = sign(
                db,
                signer,
                &last,
                tiles,
                &loaded.edge,
                &recent,
                &self.faults,
            )?;
            loaded.note = signed.note.into();
            loaded.checkpoint = signed.checkpoint.into();
            self.publish(&loaded, recent.clone());
            (self.faults)(Step::Published)?;
        }
        for (answer, index) in answers {
            // Whoever went away in the meantime finds the entry by its key.
            let _gone = answer.send(index);
        }
        if !recent.is_empty() {
            for (tile, bytes) in &recent {
                (self.faults)(Step::Tile)?;
                self.state.tiles.write(tile, bytes)?;
            }
            self.publish(&loaded, Recent::new());
        }
        Ok(loaded)
    }
}

/// Puts all entries and the new head into one transaction. A crash before the commit leaves
/// nothing; after it, everything but the signatures.
fn commit(
    loaded: &mut Loaded,
    batch: Vec<Submission>,
    faults: &Hook,
) -> Result<(Answers, Recent), LoadError> {
    let tx = loaded
        .db
        .transaction_with_behavior(TransactionBehavior::Immediate)?;
    let old = loaded.edge.tree();
    if records::head(&tx)?.map(|head| head.tree) != Some(old) {
        return Err(LoadError::Overtaken);
    }
    let mut answers = Vec::with_capacity(batch.len());
    let mut leaves = Vec::new();
    for Submission { entry, answer } in batch {
        let next = old.size + leaves.len() as u64;
        answers.push((answer, add(&tx, next, entry, &mut leaves)?));
    }
    let mut edge = loaded.edge.clone();
    let full = leaves
        .iter()
        .flat_map(|text| edge.push(leaf_hash(text.as_bytes())));
    let recent: Recent = full.map(|(tile, bytes)| (tile, bytes.into())).collect();
    // The root once more, another way, from what the transaction reads back: one flipped bit in
    // memory must not be signed.
    let mut frontier = loaded.frontier.clone();
    for text in records::bodies(&tx, old.size, edge.size())? {
        frontier.push(leaf_hash(text.as_bytes()));
    }
    let new = edge.tree();
    if frontier.tree() != new {
        let what = "two ways to compute its new root disagree; check the memory".to_owned();
        return Err(LoadError::Damaged { what });
    }
    if new.size > old.size && !records::advance(&tx, &old, &new)? {
        return Err(LoadError::Overtaken);
    }
    faults(Step::Commit)?;
    tx.commit()?;
    loaded.edge = edge;
    loaded.frontier = frontier;
    Ok((answers, recent))
}

/// Adds one entry to the transaction; the inner error is that entry's alone and leaves no row.
fn add(
    tx: &Transaction<'_>,
    index: u64,
    entry: NewEntry,
    leaves: &mut Vec<String>,
) -> Result<Result<u64, AppendError>, LoadError> {
    let NewEntry {
        record,
        sha256,
        provenance_sha256,
        with,
    } = entry;
    let text = record.text();
    let companion = Companion {
        key: record.key.clone(),
        record_index: index,
        sha256,
        provenance_sha256,
    };
    if let Some(why) = flaw(&record, &text, &companion) {
        return Ok(Err(AppendError::Invalid { why }));
    }
    let existing = records::find(tx, &record.key.to_string())?;
    let there = match &existing {
        None => None,
        Some((index, found, companion)) => {
            // The envelope may differ (it has times in it); the binary may not, by all 256 bits.
            let known = Companion::parse(companion).ok().map(|known| known.sha256);
            if *found != text || known != Some(sha256) {
                return Ok(Err(AppendError::Conflict {
                    existing: found.clone(),
                }));
            }
            Some(*index)
        }
    };
    tx.execute_batch("SAVEPOINT entry")?;
    let wrote = match there {
        Some(index) => with(tx, index).map(|()| index),
        None => records::add_pair(tx, &record, &companion)
            .and_then(|()| with(tx, index))
            .map(|()| index),
    };
    match wrote {
        Ok(index) => {
            tx.execute_batch("RELEASE entry")?;
            if there.is_none() {
                leaves.extend([text, companion.text()]);
            }
            Ok(Ok(index))
        }
        Err(error) => {
            tx.execute_batch("ROLLBACK TO entry; RELEASE entry")?;
            Ok(Err(AppendError::Rows(error)))
        }
    }
}

/// What makes an entry contradict itself.
fn flaw(record: &Record, text: &str, companion: &Companion) -> Option<&'static str> {
    if Record::parse(text).as_ref() != Ok(record) || !is_record(text) {
        return Some("its record does not print back");
    }
    if !is_record(&companion.text()) {
        return Some("its companion is no record");
    }
    (Sum::of(&companion.sha256) != record.sum).then_some("its sum is not that of its SHA-256")
}

/// Signs the committed head after the `last` one and keeps the signatures. The same head again does
/// no harm: that is how start-up finishes after a crash in between.
pub(super) fn sign(
    db: &Connection,
    signer: &dyn Signer,
    last: &Tree,
    tiles: &Tiles,
    edge: &Edge,
    recent: &Recent,
    faults: &Hook,
) -> Result<SignedHead, LoadError> {
    let tree = edge.tree();
    let proof = match 0 < last.size && last.size < tree.size {
        true => {
            let range = |_| LoadError::Damaged {
                what: "its size".to_owned(),
            };
            let indexes = proof::consistency_indexes(tree.size, last.size).map_err(range)?;
            let hashes = tiles.hashes(edge, recent, &indexes)?;
            proof::consistency(tree.size, last.size, &hashes).map_err(range)?
        }
        false => Vec::new(),
    };
    let signed = signer.sign(tree, &proof).map_err(LoadError::Unsigned)?;
    faults(Step::Signed)?;
    check_notes(signer.verifier(), &tree, &signed.note, &signed.checkpoint)?;
    if !records::store_notes(db, &tree, &signed.note, &signed.checkpoint)? {
        return Err(LoadError::Overtaken);
    }
    faults(Step::Stored)?;
    Ok(signed)
}

/// A thread that has panicked appends nothing more, and says so.
impl Drop for Appender {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let fence = Fence::appender_gone();
            tracing::error!("the log is fenced: {}; {}", fence.why, fence.remedy);
            self.state.set_health(fence.into());
        }
    }
}

fn error_source(error: &LoadError) -> String {
    std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default()
}
