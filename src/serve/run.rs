//! One job from start to end: build, store, verify, log, answer, in this order.
//!
//! Called by the queue for each job that may run. A binary is durable before its record is logged,
//! and the result row is written in the log's own transaction; so a crash anywhere leaves either
//! a job that runs again or a result that is complete. The verifiers are asked while we build; a
//! job that another instance asked for ends when its bits are stored.

use std::sync::Arc;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tracing::{error, info, warn};

use crate::{
    build::{Built, FailureClass},
    provenance::Seen,
    serve::{
        catalogue::{FailureRow, NewResult, ResultRow},
        ledger::{AppendError, Entry},
        licences, own,
        queue::{End, Inner, Job, Own},
        verified::Questions,
    },
    spec::{BuildKey, Record, Sum, hex, url},
};

/// Of what a failed build printed so much is kept, in bytes: the first errors and the last lines.
pub(super) const OUTPUT_BYTES_MAX: usize = 32 * 1024;

/// Runs a job and tells the queue how it ended. A panic or an abort ends this job only.
pub(super) async fn job(inner: Arc<Inner>, job: Arc<Job>) {
    let started_ms = inner.parts.clock.now_ms();
    info!(job.id, "job {} runs: {}", job.id, job.key);
    let mut task = Guard(tokio::spawn(attempt(Arc::clone(&inner), Arc::clone(&job))));
    let end = tokio::select! {
        ended = &mut task.0 => match ended {
            Ok(end) => end,
            Err(broken) => {
                error!(job.id, "job {} ended in a panic: {broken}", job.id);
                let sentence = "the build ended by a fault of the service".to_owned();
                let row = inner.failed(FailureClass::Internal, "internal", sentence);
                End::Failed(Box::new(row))
            }
        },
        () = job.unwanted.notified() => End::Dropped,
    };
    drop(task);
    let end = settle(&inner, &job, end).await;
    let duration_ms = inner.parts.clock.now_ms().saturating_sub(started_ms);
    let ending = match &end {
        End::Built(_) => "success",
        End::Failed(row) => row.failure.code.as_str(),
        End::Observed => "observed",
        End::Dropped => "dropped",
        End::Stopped => "stopped",
    };
    inner.parts.metrics.build_ended(ending, duration_ms);
    if let End::Built(_) = end {
        inner.parts.metrics.pace.note(duration_ms);
    }
    info!(
        job.id,
        duration_ms, ending, "job {} ended: {ending}", job.id
    );
    inner.over(&job, end).await;
}

/// Ends the inner task when the outer one is aborted.
struct Guard(tokio::task::JoinHandle<End>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes the end durable. A result already is; a failure is remembered when it would repeat.
async fn settle(inner: &Inner, job: &Job, end: End) -> End {
    let catalogue = &inner.parts.catalogue;
    let key = job.key.to_string();
    let done = match &end {
        End::Built(_) | End::Stopped => Ok(()),
        End::Failed(row) if row.failure.repeats() => {
            let policy = inner.parts.policy_sha256.clone();
            catalogue
                .remember_failure(key, policy, (**row).clone())
                .await
        }
        End::Failed(_) | End::Observed | End::Dropped => catalogue.remove_job(job.id).await,
    };
    if let Err(cause) = done {
        // The row stays; the job runs again at the next start, which is the safe side.
        error!(
            job.id,
            "cannot note the end of job {}: {}",
            job.id,
            chain(&cause)
        );
    }
    end
}

async fn attempt(inner: Arc<Inner>, job: Arc<Job>) -> End {
    let failed = |mut row: FailureRow| {
        row.failure.output.shorten(OUTPUT_BYTES_MAX);
        End::Failed(Box::new(own::explained(&inner, &job, row)))
    };
    let questions = Questions::begin(&inner, &job).await;
    let own = match own::get(&inner, &job).await {
        Ok(own) => own,
        Err(row) => return failed(row),
    };
    let has_room = inner.built(&job, Arc::clone(&own));
    if job.close() {
        return End::Observed;
    }
    if !has_room {
        let sentence = "too many builds wait for their verifiers".to_owned();
        let row = inner.failed(FailureClass::Busy, "verifiers_unavailable", sentence);
        return failed(row);
    }
    if inner.parts.quorum.needed() > 0 {
        job.live.verifying();
    }
    match questions.judge(&inner, &job, &own).await {
        Ok(seen) => publish(&inner, &job, &own, &seen)
            .await
            .unwrap_or_else(failed),
        Err(row) => failed(row),
    }
}

/// Entry and result in one transaction, then the answer. The binary is durable already.
async fn publish(
    inner: &Arc<Inner>,
    job: &Job,
    own: &Own,
    seen: &[Seen],
) -> Result<End, FailureRow> {
    let Own { built, built_ms } = own;
    let (sha256, built_ms) = (built.sha256, *built_ms);
    let envelope = inner
        .parts
        .ledger
        .envelope(&job.key, built, built_ms, seen)
        .await;
    let envelope = match envelope {
        Ok(envelope) => envelope,
        Err(cause) => return Err(append_failure(inner, job, built.clone(), cause).await),
    };
    let agreed = seen.iter().filter(|seen| seen.agrees);
    let new = NewResult {
        key: job.key.clone(),
        built_ms,
        built: built.clone(),
        envelope,
        agreed: agreed.map(|seen| seen.verifier.clone()).collect(),
    };
    let row = ResultRow {
        key: job.key.clone(),
        log_index: 0,
        sha256,
        size: built.size,
        built_ms,
        built: built.clone(),
    };
    let entry = Entry {
        record: Record {
            key: job.key.clone(),
            size: built.size,
            sum: Sum::of(&sha256),
        },
        sha256,
        provenance_sha256: Sha256::digest(&new.envelope).into(),
        with: Box::new(move |tx, index| new.insert(tx, index)),
    };
    match inner.parts.ledger.append(entry).await {
        Ok(log_index) => {
            compress(inner, sha256);
            licences::learn(inner, &row.built.modules);
            Ok(End::Built(Box::new(ResultRow { log_index, ..row })))
        }
        Err(cause) => Err(append_failure(inner, job, built.clone(), cause).await),
    }
}

/// Makes the compressed form while nobody waits for it. Should that fail, the first who wants it
/// has it made.
fn compress(inner: &Inner, sha256: [u8; 32]) {
    let artifacts = inner.parts.artifacts.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(cause) = artifacts.gzip(&sha256) {
            warn!("cannot compress a binary: {}", chain(&cause));
        }
    });
}

async fn append_failure(inner: &Inner, job: &Job, built: Built, cause: AppendError) -> FailureRow {
    let (class, code, sentence) = match &cause {
        AppendError::Conflict { existing } => {
            let sha256 = hex(&built.sha256);
            error!(
                job.id,
                sha256,
                "MISMATCH: job {} gave other bytes than the log has; logged: `{}`",
                job.id,
                existing.trim_end()
            );
            inner.parts.metrics.mismatch();
            let catalogue = &inner.parts.catalogue;
            // Bits that the log contradicts are not used again: the next attempt builds afresh.
            if let Err(cause) = catalogue.forget_observation(job.key.to_string()).await {
                error!(job.id, "cannot forget job {}: {}", job.id, chain(&cause));
            }
            let now_ms = inner.parts.clock.now_ms();
            let kept = inner
                .parts
                .catalogue
                .add_mismatch(job.key.to_string(), built, now_ms);
            if let Err(cause) = kept.await {
                error!(
                    job.id,
                    "cannot keep the mismatch of job {}: {}",
                    job.id,
                    chain(&cause)
                );
            }
            let sentence = "this build gave other bytes than the record in the log".to_owned();
            (FailureClass::Verify, "mismatch", sentence)
        }
        AppendError::Fenced { why } => {
            warn!(job.id, "job {} is not logged: {why}", job.id);
            let sentence = format!("the log takes no entries: {why}");
            (FailureClass::Busy, "log_fenced", sentence)
        }
        AppendError::Failed(_) => {
            error!(job.id, "job {}: {}", job.id, chain(&cause));
            let sentence = "the record could not be logged".to_owned();
            (FailureClass::Internal, "log", sentence)
        }
    };
    inner.failed(class, code, sentence)
}

/// Data of the last event of a stream.
pub(super) fn end_event(key: &BuildKey, end: &End) -> String {
    let page = url::build_path(key);
    match end {
        End::Built(row) => json!({
            "end": "built", "url": url::result_path(key, &row.sum()), "sum": row.sum().to_string(),
            "text": "built and logged",
        }),
        End::Failed(row) => json!({
            "end": "failed", "url": page, "code": row.failure.code, "text": row.failure.sentence,
        }),
        End::Observed => json!({
            "end": "observed", "url": page,
            "text": "built for another instance; nobody has asked to publish it",
        }),
        End::Dropped => json!({
            "end": "dropped", "url": page, "text": "dropped: nobody was waiting for it",
        }),
        End::Stopped => json!({
            "end": "stopped", "url": page, "text": "the service is restarting",
        }),
    }
    .to_string()
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
