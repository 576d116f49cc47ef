//! What the addresses of visitors are called, for rules about clients (`host:`).
//!
//! Asked by the door, and only when there is such a rule: `serve` reaches no name server, so the
//! role `fetch` is asked, and what it said is kept for a while. A visitor waits for it once, and
//! not for long. Where no name is known in time the visitor counts as one without: limits hold for
//! them as for all, and the operator can see how often that was.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::Semaphore;

use crate::{
    build::Executor,
    serve::{clock::Clock, metrics::Metrics},
};

/// How long a name, or that there is none, is believed; they change by the month.
const KEPT_MS: u64 = 3_600_000;
/// How long nobody is asked again after a name could not be looked up.
const TROUBLE_MS: u64 = 60_000;
/// Most names that are kept, of at most 300 bytes each.
const KEPT_MAX: usize = 16_384;
/// Names that are looked up at the same time. Who comes beyond that counts as one without.
const LOOKUPS_MAX: usize = 64;
/// How long a visitor waits for their name; most name servers answer within 0.1 s.
const PATIENCE: Duration = Duration::from_secs(1);

/// A name, or none, and until when that is believed.
type Known = HashMap<IpAddr, (Option<Arc<str>>, u64)>;

/// Names of addresses.
pub(in crate::serve) struct HostNames {
    known: Arc<Mutex<Known>>,
    places: Arc<Semaphore>,
    executor: Arc<dyn Executor>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl HostNames {
    pub(in crate::serve) fn new(
        executor: Arc<dyn Executor>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = Arc::new(Semaphore::new(LOOKUPS_MAX));
        Self {
            known: Arc::default(),
            places,
            executor,
            clock,
            metrics,
        }
    }

    /// The name of an address, if it has one that is known in time.
    pub(in crate::serve) async fn get(&self, address: IpAddr) -> Option<Arc<str>> {
        let now_ms = self.clock.now_ms();
        if let Some((name, until_ms)) = lock(&self.known).get(&address)
            && now_ms < *until_ms
        {
            return name.clone();
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        let Ok(place) = place else {
            self.metrics.names_unknown.fetch_add(1, Relaxed);
            return None;
        };
        let (known, executor) = (Arc::clone(&self.known), Arc::clone(&self.executor));
        let metrics = Arc::clone(&self.metrics);
        // On its own: what comes too late for this request is there for the next one.
        let asked = tokio::spawn(async move {
            let found = executor.host_name(address).await;
            drop(place);
            let kept_ms = if found.is_ok() { KEPT_MS } else { TROUBLE_MS };
            if found.is_err() {
                metrics.names_unknown.fetch_add(1, Relaxed);
            }
            let name: Option<Arc<str>> = found.ok().flatten().map(Into::into);
            let mut known = lock(&known);
            keep(&mut known, address, name.clone(), now_ms, kept_ms);
            name
        });
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answered) => answered.ok().flatten(),
            Err(_) => {
                self.metrics.names_unknown.fetch_add(1, Relaxed);
                None
            }
        }
    }
}

/// When there is no room what is old goes, then what happens to come first.
fn keep(known: &mut Known, address: IpAddr, name: Option<Arc<str>>, now_ms: u64, kept_ms: u64) {
    if known.len() >= KEPT_MAX {
        known.retain(|_, (_, until_ms)| now_ms < *until_ms);
    }
    if known.len() >= KEPT_MAX
        && let Some(one) = known.keys().next().copied()
    {
        known.remove(&one);
    }
    known.insert(address, (name, now_ms + kept_ms));
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_whoever_comes() {
        let mut known = Known::default();
        for n in 0..u32::try_from(KEPT_MAX).unwrap() + 100 {
            let address = std::net::Ipv4Addr::from_bits(n).into();
            keep(&mut known, address, None, 0, KEPT_MS);
            assert!(known.contains_key(&address));
        }
        assert_eq!(known.len(), KEPT_MAX);
        keep(&mut known, [192, 0, 2, 1].into(), None, KEPT_MS, KEPT_MS);
        assert_eq!(known.len(), 1, "what is old goes first");
    }
}
