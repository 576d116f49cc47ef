//! Reads leaves ahead of the one who checks them: a few tiles at a time, handed out in order.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;

use super::{
    error::AuditError,
    source::{Answer, Part, Source},
};
use crate::tlog::{Tile, tile::WIDTH};

/// Tiles that are read at the same time. Each task has one request open and at most about 1 MiB in
/// memory.
const AHEAD_MAX: u64 = 8;

/// All parts that hold the leaves of one tile.
pub(super) type Parts = Vec<(Part, Answer)>;

/// The reader.
pub(super) struct Ahead {
    source: Arc<dyn Source>,
    size: u64,
    /// The first tile that was not asked for yet.
    next: u64,
    tasks: JoinSet<(u64, Result<Parts, AuditError>)>,
    done: BTreeMap<u64, Result<Parts, AuditError>>,
}

impl Ahead {
    /// For all leaves of a tree of `size`.
    pub(super) fn new(source: Arc<dyn Source>, size: u64) -> Self {
        Self {
            source,
            size,
            next: 0,
            tasks: JoinSet::new(),
            done: BTreeMap::new(),
        }
    }

    /// The tile of leaves with this number, as wide as the tree has it.
    pub(super) fn tile(&self, number: u64) -> Option<Tile> {
        let rest = self.size.checked_sub(number * u64::from(WIDTH))?;
        let width = u16::try_from(rest).unwrap_or(WIDTH).min(WIDTH);
        Tile::new(0, number, width)
    }

    /// The parts of this tile; asked for from 0 on, one after the other.
    pub(super) async fn parts(&mut self, number: u64) -> Result<Parts, AuditError> {
        loop {
            while self.next < number + AHEAD_MAX
                && let Some(tile) = self.tile(self.next)
            {
                let (at, source) = (self.next, Arc::clone(&self.source));
                self.tasks
                    .spawn(async move { (at, all(source, tile).await) });
                self.next += 1;
            }
            if let Some(parts) = self.done.remove(&number) {
                return parts;
            }
            match self.tasks.join_next().await {
                Some(Ok((at, parts))) => drop(self.done.insert(at, parts)),
                // A panic in there is a mistake of ours, and must not become a lie of the log's.
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => continue,
                },
                None => return Ok(Vec::new()), // the tree has no such tile
            }
        }
    }
}

async fn all(source: Arc<dyn Source>, tile: Tile) -> Result<Parts, AuditError> {
    let mut parts = Vec::new();
    for part in [
        Part::Data(tile),
        Part::Entries(tile),
        Part::Sumdb(tile),
        Part::C2sp(tile),
    ] {
        if source.keeps(&part) {
            parts.push((part, source.read(part).await?));
        }
    }
    Ok(parts)
}
