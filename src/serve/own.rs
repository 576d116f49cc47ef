//! Our own bits of a job: built, or kept from before. Published or not is decided afterwards.
//!
//! Called by the run of a job. The binary is durable before the row that names it, so a crash
//! anywhere leaves a job that runs again or bits that need no second build.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{
    artifacts::ArtifactError,
    catalogue::FailureRow,
    job::{Job, Own},
    queue::{Inner, QueueError},
    run::{OUTPUT_BYTES_MAX, chain},
};
use crate::build::{Built, FailureClass};

/// Progress that may wait between the executor and the ring; more is dropped by the executor.
const PROGRESS_MAX: usize = 256;

/// Gets the bits of a job.
pub(super) async fn get(inner: &Inner, job: &Job) -> Result<Arc<Own>, FailureRow> {
    if let Some(own) = kept(inner, job).await {
        return Ok(Arc::new(own));
    }
    let mut built = build(inner, job).await?;
    built.output.shorten(OUTPUT_BYTES_MAX);
    let built_ms = inner.parts.clock.now_ms();
    let own = Own { built, built_ms };
    let policy = inner.parts.policy_sha256.clone();
    let key = job.key.to_string();
    let catalogue = &inner.parts.catalogue;
    if let Err(cause) = catalogue.keep_observation(key, policy, own.clone()).await {
        // It only saves a second build; this one goes on.
        error!(job.id, "cannot keep job {}: {}", job.id, chain(&cause));
    }
    Ok(Arc::new(own))
}

/// What was built before and is not in the log, when its binary is still there.
async fn kept(inner: &Inner, job: &Job) -> Option<Own> {
    let policy = inner.parts.policy_sha256.clone();
    let catalogue = &inner.parts.catalogue;
    let kept = match catalogue.observation(job.key.to_string(), policy).await {
        Ok(kept) => kept?,
        Err(cause) => {
            error!(
                job.id,
                "cannot read what is kept of job {}: {}",
                job.id,
                chain(&cause)
            );
            return None;
        }
    };
    let there = inner.parts.artifacts.binary(&kept.built.sha256);
    there.ok().flatten().map(|_| kept)
}

/// Builds, and makes the binary durable.
async fn build(inner: &Inner, job: &Job) -> Result<Built, FailureRow> {
    let lacks = inner.parts.artifacts.lacks_room();
    if let Some(free) = lacks.map_err(|cause| store_failure(inner, job, &cause))? {
        warn!(job.id, "job {}: no room: {free} bytes are free", job.id);
        return Err(no_room(inner));
    }
    let staged = inner.parts.artifacts.stage(job.id);
    let (staged, file) = staged.map_err(|cause| store_failure(inner, job, &cause))?;
    let (to, mut from) = mpsc::channel(PROGRESS_MAX);
    let build = inner.parts.executor.build(job.key.clone(), file, to);
    let show = async {
        while let Some(progress) = from.recv().await {
            job.live.progress(&job.key, progress);
        }
    };
    // The executor drops its sender when it is done, so both end.
    let (built, ()) = tokio::join!(build, show);
    let built = built.map_err(|failure| {
        if failure.class == FailureClass::Verify {
            error!(
                job.id,
                "job {}: {}: {}", job.id, failure.code, failure.sentence
            );
        }
        FailureRow {
            failed_ms: inner.parts.clock.now_ms(),
            failure,
        }
    })?;
    let (artifacts, sha256) = (inner.parts.artifacts.clone(), built.sha256);
    let adopted = tokio::task::spawn_blocking(move || artifacts.adopt(&staged, sha256)).await;
    match adopted {
        Ok(Ok(())) => Ok(built),
        Ok(Err(cause)) => Err(store_failure(inner, job, &cause)),
        Err(_) => {
            let sentence = "the binary could not be stored".to_owned();
            Err(inner.failed(FailureClass::Internal, "store", sentence))
        }
    }
}

fn no_room(inner: &Inner) -> FailureRow {
    let sentence = QueueError::NoRoom.to_string();
    inner.failed(FailureClass::Busy, "no_room", sentence)
}

/// The failure of a job, or the lack of room behind it: on a disk that became full meanwhile
/// everything fails in words of its own, and nothing is wrong with us.
pub(super) fn explained(inner: &Inner, job: &Job, row: FailureRow) -> FailureRow {
    let is_ours = row.failure.class == FailureClass::Internal;
    if is_ours && let Ok(Some(free)) = inner.parts.artifacts.lacks_room() {
        let cause = &row.failure.sentence;
        warn!(job.id, "job {}: {free} bytes are free: {cause}", job.id);
        return no_room(inner);
    }
    row
}

fn store_failure(inner: &Inner, job: &Job, cause: &ArtifactError) -> FailureRow {
    error!(job.id, "job {}: {}", job.id, chain(cause));
    let sentence = "the binary could not be stored".to_owned();
    inner.failed(FailureClass::Internal, "store", sentence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{
        queue::Standing,
        testing::{Bench, failure, key, key_of, operator},
    };

    #[tokio::test]
    async fn on_a_full_disk_nothing_begins_and_what_ran_failed_for_lack_of_room() {
        let mut bench = Bench::new();
        let job = {
            let queue = bench.queue(1).await;
            bench.executor.go.send_replace(false);
            let asked = queue.ask(&key(), false, operator()).await.unwrap();
            let Standing::Underway(job) = asked else {
                panic!("not underway: {asked:?}")
            };
            queue.stop();
            job
        };
        bench.room_min = u64::MAX;
        let queue = bench.queue(1).await;
        let other = key_of(1);
        let asked = queue.ask(&other, false, operator()).await;
        assert!(matches!(asked, Err(QueueError::NoRoom)), "{asked:?}");
        for (class, code) in [
            (FailureClass::Internal, "no_room"),
            (FailureClass::CannotBuild, "as it was"),
        ] {
            let failure = failure(class, "as it was");
            let failed_ms = 0;
            let row = FailureRow { failed_ms, failure };
            assert_eq!(explained(&queue.0, &job, row).failure.code, code);
        }
    }
}
