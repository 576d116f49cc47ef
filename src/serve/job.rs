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
use crate::{build::Built, spec::BuildKey};

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Another instance asks for our bits; nothing is published.
    Observation,
    /// Somebody wants it in the log.
    Publication,
    /// It was an observation, and ends as one.
    Over,
}

/// A build of our own, stored and not published.
#[derive(Debug, Clone)]
pub struct Own {
    /// What the build said.
    pub built: Built,
    /// When it ended.
    pub built_ms: u64,
}

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
    /// It was built for another instance and kept; nobody wanted it published.
    Observed,
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
    /// Whose turn it took when it was added.
    pub(super) client: String,
    /// Progress.
    pub live: Live,
    pub(super) interest_ms: AtomicU64,
    pub(super) touched_ms: AtomicU64,
    pub(super) unwanted: Notify,
    pub(super) end: watch::Sender<Option<End>>,
    purpose: watch::Sender<Purpose>,
    /// Our bits, as soon as they are stored.
    pub(super) own: watch::Sender<Option<Arc<Own>>>,
}

impl Job {
    /// A job that begins to wait; `attempt` differs from that of any earlier start.
    pub(super) fn new(key: BuildKey, row: &JobRow, attempt: u64) -> Self {
        Self {
            id: row.id,
            key,
            created_ms: row.created_ms,
            client: row.client.clone(),
            live: Live::new(row.id, attempt),
            interest_ms: AtomicU64::new(row.interest_ms),
            touched_ms: AtomicU64::new(row.interest_ms),
            unwanted: Notify::new(),
            end: watch::Sender::new(None),
            purpose: watch::Sender::new(match row.publish {
                true => Purpose::Publication,
                false => Purpose::Observation,
            }),
            own: watch::Sender::new(None),
        }
    }

    /// What it is for.
    pub(super) fn purpose(&self) -> Purpose {
        *self.purpose.borrow()
    }

    /// Has it published, too; says whether it is not too late for that.
    pub(super) fn publish(&self) -> bool {
        self.turn(Purpose::Publication);
        self.purpose() == Purpose::Publication
    }

    /// Ends it as an observation; says whether it is one.
    pub(super) fn close(&self) -> bool {
        self.turn(Purpose::Over);
        self.purpose() == Purpose::Over
    }

    /// Only an observation turns into anything else, and once.
    fn turn(&self, to: Purpose) {
        self.purpose.send_if_modified(|purpose| {
            let turns = *purpose == Purpose::Observation;
            if turns {
                *purpose = to;
            }
            turns
        });
    }

    /// Waits until somebody wants it published.
    pub(super) async fn wanted(&self) {
        let mut purpose = self.purpose.subscribe();
        let wanted = purpose.wait_for(|purpose| *purpose == Purpose::Publication);
        let _closed = wanted.await; // the sender lives as long as this job
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) {
        let mut end = self.end.subscribe();
        let _closed = end.wait_for(Option::is_some).await;
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
