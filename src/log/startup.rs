//! Start-up: what is on the disk is verified, finished and compared with the signer's memory.
//!
//! Called when the log is opened, and again by the appender after every failure, so that recovery
//! is the code that runs at each start. It never repairs by guessing: what contradicts itself is
//! an error, what contradicts the signer is fenced.

use std::{fs::File, sync::Arc};

use nix::fcntl::{Flock, FlockArg};
use rusqlite::Connection;

use super::{
    Health, LoadError, LogConfig, OpenError, Snapshot, State,
    appender::Appender,
    fault::Hook,
    fence::Fence,
    records::{self, Head},
    signer::{SignError, Signer},
    tiles::{Recent, Tiles},
    witnessed::Cosigned,
};
use crate::{
    receipt::{Follows, KeysLeaf},
    store::db,
    tlog::{
        Edge, Frontier, Note, Tree, VerifierKey, empty_root, index, leaf_hash,
        text::{checkpoint_text, tree_text},
    },
};

/// What is wrong with a log whose records were changed.
const NOT_THE_ROOT: &str = "its records do not have the root of its head";

/// An opened log.
pub(super) struct Opened {
    pub(super) key: VerifierKey,
    pub(super) state: Arc<State>,
    /// Nothing when it is fenced.
    pub(super) appender: Option<Appender>,
}

/// The key that a data folder names; nothing for an empty one.
pub(super) fn key(config: &LogConfig) -> Result<Option<VerifierKey>, OpenError> {
    let db = open_database(config)?;
    let text = records::key(&db).map_err(LoadError::from)?;
    let Some(text) = text else {
        if Tiles::new(&config.tiles).is_empty() {
            return Ok(None);
        }
        return Err(OpenError::Orphaned {
            folder: config.tiles.clone(),
        });
    };
    let damaged = |_| LoadError::Damaged {
        what: "the name of its key".to_owned(),
    };
    Ok(Some(VerifierKey::parse(&text).map_err(damaged)?))
}

pub(super) fn open_database(config: &LogConfig) -> Result<Connection, OpenError> {
    if let Some(folder) = config.database.parent() {
        crate::store::durable::create_folder(folder, 0o700).map_err(LoadError::io)?;
    }
    Ok(db::open(&config.database)?)
}

/// One appender per log; the compare-and-swap of the head would catch a second one, later.
pub(super) fn lock(config: &LogConfig) -> Result<Flock<File>, OpenError> {
    let lock = File::create(config.database.with_extension("lock")).map_err(LoadError::io)?;
    Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| OpenError::Locked)
}

/// Opens, verifies and, with a signer that agrees, readies the log for appending.
pub(super) fn open(
    config: &LogConfig,
    signer: Option<Arc<dyn Signer>>,
    faults: Hook,
) -> Result<Opened, OpenError> {
    let db = open_database(config)?;
    let lock = lock(config)?;
    let key = match key(config)? {
        Some(key) => key,
        None => begin(&db, signer.as_deref(), None)?,
    };
    let tiles = Tiles::new(&config.tiles);
    let fence = match &signer {
        Some(signer) if *signer.verifier() == key => compare(&db, &tiles, signer.as_ref())?,
        _ => Some(Fence {
            why: format!("there is no signer for the key of this log, `{key}`"),
            remedy: "give the folder that holds the signer's state with --sign-dir; without it \
                     this log can never grow again, and `hotcell log init` begins a new one in an \
                     empty data folder"
                .to_owned(),
        }),
    };
    let (Some(signer), None) = (signer, &fence) else {
        let snapshot = last_signed(&db, &tiles, &key)?;
        let fence = fence.unwrap_or_else(|| Fence::unknown("no signer"));
        tracing::error!("the log is fenced: {}; {}", fence.why, fence.remedy);
        let cosigned = Cosigned::load(&db, snapshot.tree.size)?;
        let state = Arc::new(State::new(snapshot, fence.into(), cosigned, tiles));
        return Ok(Opened {
            key,
            state,
            appender: None,
        });
    };
    let loaded = load(config, signer.as_ref(), &tiles, &faults)?;
    let snapshot = loaded.snapshot();
    let cosigned = Cosigned::load(&db, snapshot.tree.size)?;
    let state = Arc::new(State::new(snapshot, Health::Live, cosigned, tiles));
    let appender = Appender::new(
        config.clone(),
        signer,
        faults,
        Arc::clone(&state),
        loaded,
        lock,
    );
    Ok(Opened {
        key,
        state,
        appender: Some(appender),
    })
}

/// Begins a new log: names the key, and leaf 0 names both keys and what it follows, in one
/// transaction.
/// A crash before the commit leaves an empty data folder; after it, a head without a signature.
pub(super) fn begin(
    db: &Connection,
    signer: Option<&dyn Signer>,
    follows: Option<&Follows>,
) -> Result<VerifierKey, OpenError> {
    let begin = |why: String| OpenError::Begin(why.into());
    let signer = signer.ok_or_else(|| begin("a new log needs a signer".to_owned()))?;
    let last = signer.last()?;
    if last.size > 0 {
        return Err(begin(format!(
            "the data folder is empty, but its signer has signed a log of {} records; restore the \
             data folder with `hotcell log recover`, or begin another log with `hotcell log init`",
            last.size
        )));
    }
    let key = signer.verifier().clone();
    let keys = KeysLeaf {
        log: key.clone(),
        statement: signer.statement_key(),
        follows: follows.cloned(),
    };
    let leaf = keys.text();
    let old = Tree {
        size: 0,
        root: empty_root(),
    };
    let new = Tree {
        size: 1,
        root: leaf_hash(leaf.as_bytes()),
    };
    let work = || {
        let tx = db.unchecked_transaction()?;
        records::set_key(&tx, &key.to_string())?;
        records::add(&tx, 0, &leaf)?;
        records::advance(&tx, &old, &new)?;
        tx.commit()
    };
    work().map_err(LoadError::from)?;
    Ok(key)
}

/// Compares what is committed with what the signer signed.
pub(super) fn compare(
    db: &Connection,
    tiles: &Tiles,
    signer: &dyn Signer,
) -> Result<Option<Fence>, LoadError> {
    let head = newest(db)?.tree;
    let last = match signer.last() {
        Ok(last) => last,
        Err(SignError::Ended { size, next }) => return Ok(Some(Fence::ended(size, &next))),
        Err(error) => return Ok(Some(Fence::unknown(&error.to_string()))),
    };
    if last.size > head.size {
        return Ok(Some(Fence::rolled_back(head.size, last.size)));
    }
    tiles.complete(db, head.size)?;
    let edge = tiles.edge(db, head.size)?;
    let subtrees = tiles.subtrees(&edge, &Recent::new(), last.size)?;
    let root = index::fold_subtrees(&subtrees).unwrap_or_else(empty_root);
    Ok((root != last.root).then(|| Fence::forked(last.size)))
}

fn newest(db: &Connection) -> Result<Head, LoadError> {
    let damaged = || LoadError::Damaged {
        what: "it has no head".to_owned(),
    };
    records::head(db)?.ok_or_else(damaged)
}

/// The newest signed head and its edge, for a log that only reads.
fn last_signed(db: &Connection, tiles: &Tiles, key: &VerifierKey) -> Result<Snapshot, LoadError> {
    let unsigned = || LoadError::Damaged {
        what: "no head of it was ever signed".to_owned(),
    };
    let head = records::signed_head(db)?.ok_or_else(unsigned)?;
    let (note, checkpoint) = head.notes.as_ref().ok_or_else(unsigned)?;
    check_notes(key, &head.tree, note, checkpoint)?;
    tiles.complete(db, head.tree.size)?;
    let edge = tiles.edge(db, head.tree.size)?;
    if edge.tree() != head.tree {
        let what = "its records do not have the root that was signed".to_owned();
        return Err(LoadError::Damaged { what });
    }
    let recent = Recent::new();
    let (note, checkpoint) = (note.as_str().into(), checkpoint.as_str().into());
    Ok(Snapshot {
        tree: head.tree,
        note,
        checkpoint,
        edge,
        recent,
    })
}

/// What the appender works on.
pub(super) struct Loaded {
    pub(super) db: Connection,
    pub(super) edge: Edge,
    pub(super) frontier: Frontier,
    pub(super) note: Arc<str>,
    pub(super) checkpoint: Arc<str>,
}

impl Loaded {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            tree: self.edge.tree(),
            note: Arc::clone(&self.note),
            checkpoint: Arc::clone(&self.checkpoint),
            edge: self.edge.clone(),
            recent: Recent::new(),
        }
    }
}

/// Loads the committed state, verifies it and finishes what a crash left: tiles that are no files,
/// a head that is not signed.
pub(super) fn load(
    config: &LogConfig,
    signer: &dyn Signer,
    tiles: &Tiles,
    faults: &Hook,
) -> Result<Loaded, LoadError> {
    let db = db::open(&config.database).map_err(LoadError::io)?;
    let head = newest(&db)?;
    // Before it is signed and shown: a kill may have come between a commit and its sync.
    db::sync_wal(&config.database).map_err(LoadError::io)?;
    let damaged = |what: &str| LoadError::Damaged {
        what: what.to_owned(),
    };
    let edge = checked_edge(&db, tiles, &head.tree)?;
    let subtrees = tiles.subtrees(&edge, &Recent::new(), head.tree.size)?;
    let frontier = Frontier::from_subtrees(head.tree.size, subtrees);
    let frontier = frontier.ok_or_else(|| damaged("its size"))?;
    if frontier.tree() != head.tree {
        return Err(damaged(NOT_THE_ROOT));
    }
    let recent = Recent::new();
    let last = signer.last().map_err(LoadError::Unsigned)?;
    let signed = super::appender::sign(&db, signer, &last, tiles, &edge, &recent, faults)?;
    Ok(Loaded {
        db,
        edge,
        frontier,
        note: signed.note.into(),
        checkpoint: signed.checkpoint.into(),
    })
}

/// The right edge of the log of this head, whose records, tiles and root agree. Tiles that are no
/// files yet are made.
pub(super) fn checked_edge(db: &Connection, tiles: &Tiles, head: &Tree) -> Result<Edge, LoadError> {
    let damaged = |what: &str| LoadError::Damaged {
        what: what.to_owned(),
    };
    if records::count(db)? != Some(head.size) {
        return Err(damaged(
            "records are missing, or there are more than its head covers",
        ));
    }
    tiles.complete(db, head.size)?;
    tiles.check_records(db, head.size)?;
    let edge = tiles.edge(db, head.size)?;
    match edge.tree() == *head {
        true => Ok(edge),
        false => Err(damaged(NOT_THE_ROOT)),
    }
}

/// Checks that both notes are signed by the key and say this tree.
pub(super) fn check_notes(
    key: &VerifierKey,
    tree: &Tree,
    note: &str,
    checkpoint: &str,
) -> Result<(), LoadError> {
    for (note, text) in [
        (note, tree_text(tree)),
        (checkpoint, checkpoint_text(key.name(), tree)),
    ] {
        let parsed = Note::parse(note.as_bytes());
        let same = parsed.is_ok_and(|parsed| parsed.verify(key).is_ok_and(|said| said == text));
        if !same {
            let what = format!("the note of its head of {} records", tree.size);
            return Err(LoadError::Damaged { what });
        }
    }
    Ok(())
}
