//! A job and where a key stands: what the queue hands out.
//!
//! The queue makes, renews and ends jobs; pages and streams only look.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::{Notify, watch};

use super::{
    catalogue::{FailureRow, JobRow, ResultRow},
    live::Live,
};
use crate::spec::BuildKey;

/// Where a key stands.
#[derive(Debug, Clone)]
pub enum Standing {
    /// In the log, with its binary.
    Built(Box<ResultRow>),
    /// Cannot be built, or could not just now.
    Failed(Box<FailureRow>),
    /// Waiting or running.
    Underway(Arc<Job>),
    /// Never asked for, or dropped.
    Unknown,
}

/// How a job ended.
#[derive(Debug, Clone)]
pub enum End {
    /// The result is in the catalogue.
    Built(Box<ResultRow>),
    /// There is no binary.
    Failed(Box<FailureRow>),
    /// Nobody was interested any more.
    Dropped,
    /// The service stops; the job waits for the next start.
    Stopped,
}

/// A job that waits or runs.
#[derive(Debug)]
pub struct Job {
    /// Rises with each new job.
    pub id: u64,
    /// What to build.
    pub key: BuildKey,
    /// When it was first asked for.
    pub created_ms: u64,
    /// Progress.
    pub live: Live,
    pub(super) interest_ms: AtomicU64,
    pub(super) touched_ms: AtomicU64,
    pub(super) unwanted: Notify,
    pub(super) end: watch::Sender<Option<End>>,
}

impl Job {
    /// A job that begins to wait; `attempt` differs from that of any earlier start.
    pub(super) fn new(key: BuildKey, row: &JobRow, attempt: u64) -> Self {
        Self {
            id: row.id,
            key,
            created_ms: row.created_ms,
            live: Live::new(row.id, attempt),
            interest_ms: AtomicU64::new(row.interest_ms),
            touched_ms: AtomicU64::new(row.interest_ms),
            unwanted: Notify::new(),
            end: watch::Sender::new(None),
        }
    }

    /// Notes interest; says whether it is time to write it down.
    pub(super) fn touch(&self, now_ms: u64, every_ms: u64) -> bool {
        self.interest_ms.fetch_max(now_ms, Relaxed);
        let is_due = now_ms.saturating_sub(self.touched_ms.load(Relaxed)) >= every_ms;
        if is_due {
            self.touched_ms.store(now_ms, Relaxed);
        }
        is_due
    }

    /// How long nobody has shown interest.
    pub(super) fn silent_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.interest_ms.load(Relaxed))
    }
}
