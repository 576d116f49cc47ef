//! Questions to the module proxy: one at a time for each name, and none again right after a no.
//!
//! Called for moving names. Whoever asks what somebody asks already waits for that answer; what was
//! not found, or could not be asked, is the answer for a moment. So nobody makes us send the module
//! proxy more requests than there are names and moments. An answer that is a yes is never kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    build::{BoxFuture, Failure, FailureClass, ending},
    serve::{clock::Clock, shares::Share},
};

/// How long there is no such module or version: somebody may publish it just now.
pub(in crate::serve) const MISSING_MS: u64 = 60_000;
/// How long the proxy is left alone after it could not answer.
const TROUBLE_MS: u64 = 10_000;
/// Most answers kept; each is some 500 bytes.
const KEPT_MAX: usize = 4_096;

type Answer<T> = Result<T, Failure>;

/// An answer that comes.
pub(in crate::serve) type Coming<T> = watch::Receiver<Option<Answer<T>>>;

/// Asked just now, or answered with a no.
enum Known<T> {
    Asked(Coming<T>),
    No { until_ms: u64, why: Failure },
}

/// What was asked, by name.
pub(in crate::serve) struct Names<T> {
    known: Arc<Mutex<HashMap<String, Known<T>>>>,
    clock: Arc<dyn Clock>,
    patience: Duration,
}

impl<T: Clone + Send + Sync + 'static> Names<T> {
    /// Answers may take as long as `patience`.
    pub(in crate::serve) fn new(clock: Arc<dyn Clock>, patience: Duration) -> Self {
        let known = Arc::default();
        Self {
            known,
            clock,
            patience,
        }
    }

    /// The answer that somebody waits for already, or a no of a moment ago; otherwise `begin` says
    /// how to ask, or why not.
    pub(in crate::serve) fn get<E>(
        &self,
        name: String,
        begin: impl FnOnce() -> Result<(Share, BoxFuture<'static, Answer<T>>), E>,
    ) -> Result<Coming<T>, E> {
        let now_ms = self.clock.now_ms();
        let mut known = lock(&self.known);
        match known.get(&name) {
            // A question that ended in a panic has no answer and is asked again.
            Some(Known::Asked(coming)) if coming.has_changed().is_ok() => {
                return Ok(coming.clone());
            }
            Some(Known::No { until_ms, why }) if now_ms < *until_ms => {
                return Ok(watch::channel(Some(Err(why.clone()))).1);
            }
            _ => {}
        }
        let (place, question) = begin()?;
        let (sender, coming) = watch::channel(None);
        known.insert(name.clone(), Known::Asked(coming.clone()));
        drop(known);
        let (known, clock) = (Arc::clone(&self.known), Arc::clone(&self.clock));
        let patience = self.patience;
        // On its own, because others wait for it when who asked first is gone.
        tokio::spawn(async move {
            let answer = tokio::time::timeout(patience, question).await;
            let answer = answer.unwrap_or_else(|_| Err(too_late()));
            keep(
                &mut lock(&known),
                name,
                answer.as_ref().err(),
                clock.now_ms(),
            );
            drop(place);
            sender.send_replace(Some(answer));
        });
        Ok(coming)
    }
}

/// Keeps a no for a moment, and nothing else.
fn keep<T>(
    known: &mut HashMap<String, Known<T>>,
    name: String,
    why: Option<&Failure>,
    now_ms: u64,
) {
    known.remove(&name);
    let Some(why) = why else { return };
    let kept_ms = match why.class {
        FailureClass::CannotBuild | FailureClass::BadSpec => MISSING_MS,
        FailureClass::Proxy | FailureClass::Verify => TROUBLE_MS,
        FailureClass::Busy | FailureClass::Internal => return,
    };
    if known.len() >= KEPT_MAX {
        known.retain(|_, known| match known {
            Known::Asked(_) => true,
            Known::No { until_ms, .. } => now_ms < *until_ms,
        });
    }
    if known.len() < KEPT_MAX {
        let (until_ms, why) = (now_ms + kept_ms, why.clone());
        known.insert(name, Known::No { until_ms, why });
    }
}

fn too_late() -> Failure {
    let sentence = "the module proxy did not answer in time".to_owned();
    ending::failure(
        "proxy_timeout",
        FailureClass::Proxy,
        sentence,
        "try again later",
    )
}

fn lock<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
