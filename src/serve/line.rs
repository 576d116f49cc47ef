//! The line of jobs: which one runs, which one waits for verifiers, which one is over.
//!
//! Called by the queue and by the run of a job. In memory only.

use std::sync::{Arc, MutexGuard, PoisonError, atomic::Ordering::Relaxed};

use super::{
    catalogue::{FailureRow, JobRow},
    job::{End, Job, Own},
    queue::{Inner, Jobs},
    run,
};
use crate::{
    build::{FailureClass, ending},
    spec::BuildKey,
};

/// Most failures kept for a moment that are not in the catalogue.
const RECENT_MAX: usize = 1_000;
/// Last failures that the operator is shown; each may have the output of a build.
const FAILED_MAX: usize = 30;
/// Most builds that wait for verifiers; each holds its result in memory.
const VERIFYING_MAX: usize = 1_000;

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Job>> {
        self.lock().by_key.get(name).cloned()
    }

    pub(super) fn enqueue(&self, key: BuildKey, row: &JobRow) -> Arc<Job> {
        let job = Arc::new(Job::new(key, row, self.started_ms));
        let mut jobs = self.lock();
        jobs.by_key.insert(row.key.clone(), Arc::clone(&job));
        jobs.waiting.add(Arc::clone(&job), &row.client);
        job
    }

    /// Starts as many jobs as may run, and tells the others their place.
    pub(super) fn pump(self: &Arc<Self>) {
        let mut jobs = self.lock();
        while !self.stopping.load(Relaxed) && jobs.running.len() < self.parts.builds_max.max(1) {
            let Some(job) = jobs.waiting.pop() else {
                break;
            };
            let id = job.id;
            job.live.place(0);
            // Started under the lock, so that the end of the job finds its handle in place.
            let task = tokio::spawn(run::job(Arc::clone(self), job));
            jobs.running.insert(id, task.abort_handle());
        }
        for (place, job) in (1..).zip(jobs.waiting.jobs()) {
            job.live.place(place);
        }
    }

    /// A job has its bits: whoever asks for an observation gets it, and the next build begins. Says
    /// whether there is room for it among those that wait for verifiers.
    pub(super) fn built(self: &Arc<Self>, job: &Job, own: Arc<Own>) -> bool {
        let has_room = {
            let mut jobs = self.lock();
            if let Some(handle) = jobs.running.remove(&job.id) {
                jobs.verifying.insert(job.id, handle);
            }
            jobs.verifying.len() <= VERIFYING_MAX
        };
        job.own.send_replace(Some(own));
        self.pump();
        has_room
    }

    /// A job is over: what failed and is not remembered in the catalogue is kept for a moment.
    pub(super) async fn over(self: &Arc<Self>, job: &Job, end: End) {
        let _one_at_a_time = self.admission.lock().await;
        if let End::Failed(row) = &end {
            let mut jobs = self.lock();
            if jobs.failed.len() >= FAILED_MAX {
                jobs.failed.pop_front();
            }
            jobs.failed.push_back((job.key.clone(), (**row).clone()));
            if jobs.recent.len() < RECENT_MAX {
                jobs.recent.insert(job.key.to_string(), (**row).clone());
            }
        }
        self.leave(job, end);
        self.pump();
    }

    pub(super) fn leave(&self, job: &Job, end: End) {
        {
            let mut jobs = self.lock();
            jobs.by_key.remove(&job.key.to_string());
            drop(jobs.waiting.remove(job.id));
            jobs.running.remove(&job.id);
            jobs.verifying.remove(&job.id);
        }
        job.live.end(run::end_event(&job.key, &end));
        job.end.send_replace(Some(end));
    }

    /// A failure of ours, for `over`.
    pub(super) fn failed(&self, class: FailureClass, code: &str, sentence: String) -> FailureRow {
        let remedy = match class {
            FailureClass::Verify => "nothing was logged; the operator has been told",
            FailureClass::Busy => "try again later",
            _ => "try again; if it stays, tell the operator",
        };
        let failure = ending::failure(code, class, sentence, remedy);
        FailureRow {
            failed_ms: self.parts.clock.now_ms(),
            failure,
        }
    }
}
