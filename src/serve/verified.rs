//! Whether a finished build may be published: what the verifiers say of it.
//!
//! Called by the run of a job. A verifier with other bits is kept with its signature and told to a
//! person, whether the others were enough or not.

use std::sync::Arc;

use tokio::task::JoinSet;
use tracing::error;

use super::{
    catalogue::{Catalogue, FailureRow},
    clock::Clock,
    job::{Job, Own},
    kept::Disagreement,
    queue::Inner,
    run::chain,
};
use crate::{
    build::FailureClass,
    provenance::Seen,
    spec::hex,
    verifiers::{
        Quorum,
        quorum::{Asking, Other, Verdict},
    },
};

/// Questions that begin as soon as somebody wants a job published; dropping this ends them.
pub(super) struct Questions(JoinSet<Asking>);

impl Questions {
    /// Prepares; asks nobody before the job is to be published. What is in the log already was
    /// verified then.
    pub(super) async fn begin(inner: &Inner, job: &Arc<Job>) -> Self {
        let logged = inner.parts.catalogue.result(&job.key);
        let quorum = match logged {
            Ok(Some(_)) => Arc::new(Quorum::nobody()),
            _ => Arc::clone(&inner.parts.quorum),
        };
        let job = Arc::clone(job);
        let mut questions = JoinSet::new();
        questions.spawn(async move {
            job.wanted().await;
            quorum.ask(&job.key)
        });
        Self(questions)
    }

    /// What the verifiers said, when they are enough.
    pub(super) async fn judge(
        mut self,
        inner: &Inner,
        job: &Job,
        own: &Own,
    ) -> Result<Vec<Seen>, FailureRow> {
        let Some(Ok(asking)) = self.0.join_next().await else {
            let sentence = "the verifiers could not be asked".to_owned();
            return Err(inner.failed(FailureClass::Internal, "internal", sentence));
        };
        let (sha256, size) = (own.built.sha256, own.built.size);
        let (judged, rest) = asking.judge(&sha256, size).await;
        let teller = Teller {
            catalogue: inner.parts.catalogue.clone(),
            clock: Arc::clone(&inner.parts.clock),
            key: job.key.to_string(),
            ours: sha256,
        };
        teller.tell(judged.differed.iter()).await;
        let (class, code) = match judged.verdict() {
            Verdict::Agreed => {
                tokio::spawn(
                    async move { teller.tell(rest.rest(&sha256, size).await.iter()).await },
                );
                return Ok(judged.seen);
            }
            Verdict::Mismatch => (FailureClass::Verify, "verifier_mismatch"),
            Verdict::Unavailable => (FailureClass::Busy, "verifiers_unavailable"),
        };
        Err(inner.failed(class, code, judged.sentence(&sha256)))
    }
}

/// Tells a person of other bits, for good.
struct Teller {
    catalogue: Catalogue,
    clock: Arc<dyn Clock>,
    key: String,
    ours: [u8; 32],
}

impl Teller {
    async fn tell(&self, others: impl Iterator<Item = &Other>) {
        for other in others {
            error!(
                "MISMATCH: verifier {} got {} of {}, we got SHA-256 {}",
                other.verifier,
                other.theirs,
                self.key,
                hex(&self.ours)
            );
            let new = Disagreement {
                key: self.key.clone(),
                verifier: other.verifier.clone(),
                ours: self.ours,
                theirs: other.theirs.clone(),
                content: other.content.clone(),
            };
            let kept = self.catalogue.add_disagreement(new, self.clock.now_ms());
            if let Err(cause) = kept.await {
                error!("cannot keep what a verifier said: {}", chain(&cause));
            }
        }
    }
}
