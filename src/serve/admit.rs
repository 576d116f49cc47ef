//! What becomes a job: somebody wants a build in the log, or another instance asks for our bits.
//!
//! Called by pages, streams, lookups and by the address of observations. One at a time decides;
//! what was decided is in the catalogue before anybody is told.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use tracing::info;

use super::{
    catalogue::FailureRow,
    job::{Job, Own, Purpose, Standing},
    ledger::Health,
    limits::Asker,
    queue::{Queue, QueueError},
};
use crate::spec::BuildKey;

/// Most jobs that wait; a longer line is hours, and an honest refusal is better.
const WAITING_MAX: usize = 1_000;
/// Most of them that are only for other instances, so that those never fill the line.
const OBSERVATIONS_MAX: usize = 200;

/// Where our observation of a key stands.
#[derive(Debug, Clone)]
pub enum Observing {
    /// We have built it.
    Built(Arc<Own>),
    /// It cannot be built, or could not just now.
    Failed(Box<FailureRow>),
    /// Waiting or running.
    Underway(Arc<Job>),
}

impl Queue {
    /// Where `key` stands after it was asked for: what is unknown becomes a job. A result whose
    /// binary is gone becomes one too when `binary` is wanted.
    pub async fn ask(
        &self,
        key: &BuildKey,
        binary: bool,
        asker: Asker,
    ) -> Result<Standing, QueueError> {
        loop {
            let standing = self.standing(key).await?;
            if let Standing::Underway(job) = &standing {
                match self.join(job, asker).await? {
                    true => return Ok(standing),
                    false => {
                        job.ended().await;
                        continue;
                    }
                }
            }
            if !self.is_missing(&standing, binary).await? {
                return Ok(standing);
            }
            let _one_at_a_time = self.0.admission.lock().await;
            // It may have begun, or ended, while this request stood in line.
            let standing = self.standing(key).await?;
            if matches!(standing, Standing::Underway(_)) {
                continue;
            }
            if !self.is_missing(&standing, binary).await? {
                return Ok(standing);
            }
            self.check_log()?;
            let is_new = !matches!(standing, Standing::Built(_));
            return Ok(Standing::Underway(
                self.add(key, is_new, true, asker).await?,
            ));
        }
    }

    /// Our observation of `key`, for another instance: what is unknown becomes a job that publishes
    /// nothing and asks nobody. A build that runs already is not made twice, whatever it is for.
    pub async fn observe(&self, key: &BuildKey, asker: Asker) -> Result<Observing, QueueError> {
        if let Some(found) = self.observing(key).await? {
            return Ok(found);
        }
        let _one_at_a_time = self.0.admission.lock().await;
        if let Some(found) = self.observing(key).await? {
            return Ok(found);
        }
        let observations = {
            let jobs = self.0.lock();
            let waiting = jobs.waiting.jobs();
            waiting
                .filter(|job| job.purpose() == Purpose::Observation)
                .count()
        };
        if observations >= OBSERVATIONS_MAX {
            return Err(QueueError::Full(observations));
        }
        Ok(Observing::Underway(
            self.add(key, false, false, asker).await?,
        ))
    }

    async fn observing(&self, key: &BuildKey) -> Result<Option<Observing>, QueueError> {
        let name = key.to_string();
        let job = self.0.find(&name);
        let own = job.as_ref().and_then(|job| job.own.borrow().clone());
        if let Some(own) = own {
            return Ok(Some(Observing::Built(own)));
        }
        let catalogue = &self.0.parts.catalogue;
        if let Some(row) = catalogue.result(key)? {
            let (built, built_ms) = (row.built, row.built_ms);
            return Ok(Some(Observing::Built(Arc::new(Own { built, built_ms }))));
        }
        let policy = self.0.parts.policy_sha256.clone();
        if let Some(own) = catalogue.observation(name.clone(), policy).await? {
            return Ok(Some(Observing::Built(Arc::new(own))));
        }
        if let Some(job) = job {
            self.renew(&job).await;
            return Ok(Some(Observing::Underway(job)));
        }
        Ok(match self.failure(name).await? {
            Standing::Failed(row) => Some(Observing::Failed(row)),
            _ => None,
        })
    }

    /// Joins a job, which is published from now on; false when it ends just now without. To have an
    /// observation published costs what a build costs: it grows the log.
    async fn join(&self, job: &Job, asker: Asker) -> Result<bool, QueueError> {
        if job.purpose() == Purpose::Publication {
            self.take_turn(job, asker).await?;
            return Ok(true);
        }
        self.check_log()?;
        self.0.parts.rates.check_new(&job.key)?;
        let classes = asker.classes(job.key.go);
        self.0.parts.rates.take(asker.visitor, &classes)?;
        self.check_budget(&job.key, asker).await?;
        let joined = job.publish();
        if joined {
            self.0.parts.catalogue.publish_job(job.id).await?;
            self.take_turn(job, asker).await?;
        }
        Ok(joined)
    }

    /// Nobody waits behind the other jobs of the client that was first to ask for this one.
    async fn take_turn(&self, job: &Job, asker: Asker) -> Result<(), QueueError> {
        let client = asker.turn();
        let has_moved = self.0.lock().waiting.join(job.id, &client);
        if has_moved {
            self.0.parts.catalogue.give_job(job.id, client).await?;
            self.0.pump();
        }
        Ok(())
    }

    /// Nothing is built for a log that takes no entries.
    fn check_log(&self) -> Result<(), QueueError> {
        match self.0.parts.ledger.health() {
            Health::Live => Ok(()),
            Health::Fenced { why, .. } => Err(QueueError::Fenced(why)),
        }
    }

    /// A new job at the end of the line; `is_new` when it will grow the log. Called by whoever has
    /// the admission.
    async fn add(
        &self,
        key: &BuildKey,
        is_new: bool,
        publish: bool,
        asker: Asker,
    ) -> Result<Arc<Job>, QueueError> {
        if self.0.stopping.load(Relaxed) {
            return Err(QueueError::Stopping);
        }
        self.0.parts.rates.check_new(key)?;
        // Before anything is written: on a full disk not even the job can be.
        if self.0.parts.artifacts.lacks_room()?.is_some() {
            return Err(QueueError::NoRoom);
        }
        let waiting = self.waiting();
        if waiting >= WAITING_MAX {
            return Err(QueueError::Full(waiting));
        }
        let classes = asker.classes(key.go);
        self.0.parts.rates.take(asker.visitor, &classes)?;
        if is_new {
            self.check_budget(key, asker).await?;
        }
        let (catalogue, now_ms) = (&self.0.parts.catalogue, self.0.parts.clock.now_ms());
        let row = catalogue
            .add_job(key.to_string(), now_ms, publish, asker.turn())
            .await?;
        let job = self.0.enqueue(key.clone(), &row);
        info!(job.id = row.id, "job {} waits: {key}", row.id);
        self.0.pump();
        Ok(job)
    }

    async fn is_missing(&self, standing: &Standing, binary: bool) -> Result<bool, QueueError> {
        match standing {
            Standing::Unknown => Ok(true),
            Standing::Built(row) if binary => {
                Ok(self.0.parts.artifacts.binary(&row.sha256)?.is_none())
            }
            _ => Ok(false),
        }
    }
}
