//! The queue: identical requests share one job, and a job lives as long as somebody wants it.
//!
//! Called by pages, streams and lookups. The rows of the catalogue are the truth, so a restart
//! resumes what waited; memory holds progress only. Interest lasts [`INTEREST`] and is renewed by
//! stream, reload or poll. What becomes a job is decided in [`super::admit`], which of them runs in
//! [`super::line`]. Nothing is dropped in the first [`INTEREST`] after start, because
//! whoever waited needs time to come back. The queue never runs the same key twice at once.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::task::AbortHandle;
use tracing::{info, warn};

use crate::{
    build::{Executor, FailureClass, INTEREST},
    serve::{
        artifacts::{ArtifactError, Artifacts},
        catalogue::{Catalogue, CatalogueError, FailureRow},
        clock::Clock,
        fair::Fair,
        ledger::Ledger,
        limits::{
            Asker, Denied, Limited, Rates,
            budget::{Budget, OverBudget},
            names::MISSING_MS,
            rules::Barred,
        },
        metrics::Metrics,
        run::chain,
    },
    spec::BuildKey,
    verifiers::Quorum,
};

/// How long a failure that is not remembered is given as the answer, so that clients which ask
/// again at once do not turn us into an amplifier towards the module proxy.
const RECENT_MS: u64 = 15_000;
/// Interest is written at most this often per job; less than [`INTEREST`] by far.
const TOUCH_MS: u64 = 10_000;
/// How often somebody who waits renews the interest.
pub const RENEW: Duration = Duration::from_secs(15);
/// A client may make us forget the same failure once in this time.
const RETRY_MS: u64 = 3_600_000;

/// The queue could not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Nothing was changed.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Nothing was changed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The line is full; nothing was added.
    #[error("{0} jobs are waiting already")]
    Full(usize),
    /// Whoever asked has asked for too much; nothing was added.
    #[error(transparent)]
    Limited(Limited),
    /// The operator does not want it; nothing was added.
    #[error(transparent)]
    Barred(#[from] Barred),
    /// The log, or a module in it, has grown enough today; nothing was added.
    #[error(transparent)]
    OverBudget(OverBudget),
    /// The log takes no entries, so nothing is built.
    #[error("the log takes no entries: {0}")]
    Fenced(String),
    /// The disk is nearly full; nothing was added.
    #[error("the disk of the service is nearly full: nothing is built")]
    NoRoom,
    /// The service stops; the job waits for the next start.
    #[error("the service is stopping")]
    Stopping,
}

impl From<Denied> for QueueError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Limited(limited) => Self::Limited(limited),
            Denied::Barred(barred) => Self::Barred(barred),
        }
    }
}

/// What the queue needs.
pub struct Parts {
    /// Rows.
    pub catalogue: Catalogue,
    /// Binaries.
    pub artifacts: Artifacts,
    /// Runs builds.
    pub executor: Arc<dyn Executor>,
    /// Takes records.
    pub ledger: Arc<dyn Ledger>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// SHA-256 of the build policy, hex; remembered failures are void under another.
    pub policy_sha256: String,
    /// Builds at a time.
    pub builds_max: usize,
    /// How much the log may grow in a day.
    pub budget: Budget,
    /// What one client may ask for.
    pub rates: Arc<Rates>,
    /// Who must have the same bits before a build is published.
    pub quorum: Arc<Quorum>,
}

pub use super::job::{End, Job, Own, Standing};

/// The queue; cheap to clone.
#[derive(Clone)]
pub struct Queue(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) started_ms: u64,
    /// One at a time decides what becomes a job and what is over; held across database calls.
    pub(super) admission: tokio::sync::Mutex<()>,
    pub(super) jobs: Mutex<Jobs>,
    pub(super) stopping: AtomicBool,
}

#[derive(Default)]
pub(super) struct Jobs {
    pub(super) by_key: HashMap<String, Arc<Job>>,
    pub(super) waiting: Fair,
    pub(super) running: HashMap<u64, AbortHandle>,
    /// Built, waiting for verifiers: they hold no place among the builds, or two instances that
    /// verify each other would wait for each other's places.
    pub(super) verifying: HashMap<u64, AbortHandle>,
    pub(super) recent: HashMap<String, FailureRow>,
    /// The last failures, the newest last.
    pub(super) failed: VecDeque<(BuildKey, FailureRow)>,
}

/// Whether a failure that is not remembered for long is still the answer.
fn is_recent(row: &FailureRow, now_ms: u64) -> bool {
    let kept_ms = match row.failure.class {
        FailureClass::CannotBuild => MISSING_MS,
        _ => RECENT_MS,
    };
    now_ms.saturating_sub(row.failed_ms) < kept_ms
}

impl Queue {
    /// Takes up what waited when the service ended.
    pub async fn open(parts: Parts) -> Result<Self, QueueError> {
        let started_ms = parts.clock.now_ms();
        let rows = parts.catalogue.jobs().await?;
        let queue = Self(Arc::new(Inner {
            parts,
            started_ms,
            admission: tokio::sync::Mutex::default(),
            jobs: Mutex::default(),
            stopping: AtomicBool::new(false),
        }));
        for row in rows {
            match BuildKey::parse(&row.key) {
                Ok(key) if queue.0.parts.rates.check_quietly(&key).is_ok() => {
                    drop(queue.0.enqueue(key, &row));
                }
                // Against the rules by now, or written by a version with another grammar; nobody
                // can ask for it any more.
                _ => queue.0.parts.catalogue.remove_job(row.id).await?,
            }
        }
        queue.0.pump();
        Ok(queue)
    }

    /// Whether there is a job of this build.
    pub(super) fn is_underway(&self, key: &BuildKey) -> bool {
        self.0.find(&key.to_string()).is_some()
    }

    /// Where `key` stands. Starts nothing, and renews the interest in a job that is there.
    pub async fn standing(&self, key: &BuildKey) -> Result<Standing, QueueError> {
        let name = key.to_string();
        if let Some(job) = self.0.find(&name) {
            self.renew(&job).await;
            return Ok(Standing::Underway(job));
        }
        let Some(row) = self.0.parts.catalogue.result(key)? else {
            return self.failure(name).await;
        };
        Ok(Standing::Built(Box::new(row)))
    }

    pub(super) async fn failure(&self, name: String) -> Result<Standing, QueueError> {
        let now_ms = self.0.parts.clock.now_ms();
        let recent = self.0.lock().recent.get(&name).cloned();
        if let Some(row) = recent.filter(|row| is_recent(row, now_ms)) {
            return Ok(Standing::Failed(Box::new(row)));
        }
        let policy = self.0.parts.policy_sha256.clone();
        Ok(match self.0.parts.catalogue.failure(name, policy)? {
            Some(row) => Standing::Failed(Box::new(row)),
            None => Standing::Unknown,
        })
    }

    /// As [`Self::ask`], then waits for the end while renewing the interest.
    pub async fn wait(
        &self,
        key: &BuildKey,
        binary: bool,
        asker: Asker,
    ) -> Result<Standing, QueueError> {
        let job = match self.ask(key, binary, asker).await? {
            Standing::Underway(job) => job,
            over => return Ok(over),
        };
        match self.wait_for(&job).await? {
            End::Built(row) => Ok(Standing::Built(row)),
            End::Failed(row) => Ok(Standing::Failed(row)),
            End::Observed | End::Dropped => Ok(Standing::Unknown),
            End::Stopped => Err(QueueError::Stopping),
        }
    }

    async fn wait_for(&self, job: &Job) -> Result<End, QueueError> {
        let mut end = job.end.subscribe();
        loop {
            let ended = async { end.wait_for(Option::is_some).await.map(|end| end.clone()) };
            match tokio::time::timeout(RENEW, ended).await {
                Ok(Ok(Some(end))) => return Ok(end),
                Ok(_) => return Ok(End::Stopped),
                Err(_) => self.renew(job).await,
            }
        }
    }

    /// Somebody is still interested. On a full disk only memory knows it, which is enough until the
    /// next start.
    pub async fn renew(&self, job: &Job) {
        let now_ms = self.0.parts.clock.now_ms();
        if job.touch(now_ms, TOUCH_MS)
            && let Err(cause) = self.0.parts.catalogue.touch_job(job.id, now_ms).await
        {
            warn!(job.id, "cannot note who waits: {}", chain(&cause));
        }
    }

    /// Drops jobs that nobody is interested in, or that the rules are against by now; called every
    /// few seconds.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        let interest_ms = u64::try_from(INTEREST.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.0.parts.clock.now_ms();
        let is_early = now_ms.saturating_sub(self.0.started_ms) < interest_ms;
        let rates = &self.0.parts.rates;
        let _one_at_a_time = self.0.admission.lock().await;
        let unwanted: Vec<_> = {
            let mut jobs = self.0.lock();
            jobs.recent.retain(|_, row| is_recent(row, now_ms));
            let is_unwanted = |job: &&Arc<Job>| {
                let is_left = !is_early && job.silent_ms(now_ms) >= interest_ms;
                is_left || rates.check_quietly(&job.key).is_err()
            };
            jobs.by_key.values().filter(is_unwanted).cloned().collect()
        };
        for job in unwanted {
            if self.0.lock().waiting.contains(job.id) {
                // The row first: a crash in between leaves a job less, not one that nobody wants.
                self.0.parts.catalogue.remove_job(job.id).await?;
                self.0.leave(&job, End::Dropped);
                info!(
                    job.id,
                    "job {} dropped: nobody waits for it, or may", job.id
                );
            } else {
                job.unwanted.notify_one();
            }
        }
        self.0.pump();
        Ok(())
    }

    /// Forgets a failure so that it is tried again; says whether this client may, now.
    pub async fn retry(&self, key: &BuildKey, client: String) -> Result<bool, QueueError> {
        let name = key.to_string();
        let now_ms = self.0.parts.clock.now_ms();
        let since_ms = now_ms.saturating_sub(RETRY_MS);
        let catalogue = &self.0.parts.catalogue;
        if !catalogue
            .take_retry(client, name.clone(), now_ms, since_ms)
            .await?
        {
            return Ok(false);
        }
        self.0.lock().recent.remove(&name);
        catalogue.forget_failure(name.clone()).await?;
        catalogue.forget_observation(name).await?;
        Ok(true)
    }

    /// How many jobs wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.len()
    }

    /// How many builds run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.lock().running.len()
    }

    /// How many builds wait for verifiers.
    #[must_use]
    pub fn verifying(&self) -> usize {
        self.0.lock().verifying.len()
    }

    /// Place of a job: 0 runs, 1 is next as long as nobody comes whose turn is earlier.
    #[must_use]
    pub fn place(&self, job: &Job) -> usize {
        self.0.lock().waiting.place(job.id).unwrap_or(0)
    }

    /// All jobs that run or wait, in the order in which they run, each with its place.
    pub(super) fn jobs(&self) -> Vec<(usize, Arc<Job>)> {
        let jobs = self.0.lock();
        let waits = |job: &&Arc<Job>| !jobs.waiting.contains(job.id);
        let mut running: Vec<_> = jobs.by_key.values().filter(waits).cloned().collect();
        running.sort_by_key(|job| job.id);
        let waiting = (1..).zip(jobs.waiting.jobs().cloned());
        running
            .into_iter()
            .map(|job| (0, job))
            .chain(waiting)
            .collect()
    }

    /// The last failures of any kind since the start, the newest first.
    pub(super) fn failed(&self) -> Vec<(BuildKey, FailureRow)> {
        self.0.lock().failed.iter().rev().cloned().collect()
    }

    /// Ends what runs and starts nothing more. Rows stay, so the next start resumes them.
    pub fn stop(&self) {
        self.0.stopping.store(true, Relaxed);
        let jobs = self.0.lock();
        for running in jobs.running.values().chain(jobs.verifying.values()) {
            running.abort();
        }
        for job in jobs.by_key.values() {
            job.end.send_replace(Some(End::Stopped));
        }
    }
}
