//! A log without disk, keys or proofs, for the tests of this module.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU8, Ordering::Relaxed},
};

use tokio::sync::watch;

use super::{
    catalogue::Catalogue,
    ledger::{AppendError, Entry, Found, Health, Ledger, ReadError},
};
use crate::{
    build::{BoxFuture, Built},
    provenance::{
        Builder, Run, Seen,
        observation::{observation, tests::signed},
    },
    receipt::Draft,
    spec::{BuildKey, Record},
    tlog::OfflineProof,
};

/// A log in memory that writes the rows as the real one does.
pub(crate) struct FakeLedger {
    catalogue: Catalogue,
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) health: Mutex<Health>,
    pub(crate) sizes: watch::Sender<u64>,
    /// The key of its statements follows from it.
    pub(crate) seed: AtomicU8,
}

impl FakeLedger {
    /// Empty and live.
    pub(crate) fn new(catalogue: Catalogue) -> Self {
        Self {
            catalogue,
            records: Mutex::default(),
            health: Mutex::new(Health::Live),
            sizes: watch::Sender::new(3),
            seed: AtomicU8::new(1),
        }
    }

    /// Logs something else for `key`, as if it had been built elsewhere.
    pub(crate) fn put(&self, record: Record) {
        self.records.lock().unwrap().push(record);
    }
}

impl Ledger for FakeLedger {
    fn envelope<'a>(
        &'a self,
        key: &'a BuildKey,
        _: &'a Built,
        _: u64,
        seen: &'a [Seen],
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>> {
        Box::pin(async move {
            let names: Vec<&str> = seen.iter().map(|seen| seen.verifier.as_str()).collect();
            Ok(format!("{{\"{key}\":{names:?}}}").into_bytes())
        })
    }

    fn observation<'a>(
        &'a self,
        key: &'a BuildKey,
        built: &'a Built,
        finished_ms: u64,
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>> {
        Box::pin(async move {
            let builder = Builder::Instance("localhost");
            let run = Run {
                builder,
                finished_ms,
            };
            let seed = self.seed.load(Relaxed);
            Ok(signed(seed, &observation(key, built, run).unwrap()))
        })
    }

    fn append(&self, entry: Entry) -> BoxFuture<'_, Result<u64, AppendError>> {
        Box::pin(async move {
            let mut records = self.records.lock().unwrap();
            let place = records
                .iter()
                .position(|record| record.key == entry.record.key);
            if let Some(existing) = place.map(|at| &records[at])
                && *existing != entry.record
            {
                return Err(AppendError::Conflict {
                    existing: existing.text(),
                });
            }
            if place.is_none() {
                records.push(entry.record.clone());
            }
            let index = u64::try_from(place.unwrap_or(records.len() - 1) * 2 + 1).unwrap();
            self.catalogue
                .in_transaction(|tx| (entry.with)(tx, index))
                .map_err(|error| AppendError::Failed(Box::new(error)))?;
            Ok(index)
        })
    }

    fn lookup(&self, key: &BuildKey) -> Result<Option<Found>, ReadError> {
        let records = self.records.lock().unwrap();
        let place = records.iter().position(|record| record.key == *key);
        Ok(place.map(|at| Found {
            index: u64::try_from(at * 2 + 1).unwrap(),
            record: records[at].text(),
            note: self.latest().to_string(),
        }))
    }

    fn checkpoint(&self) -> Arc<str> {
        Arc::from("localhost\n3\nhash=\n\n— localhost sig\n")
    }

    fn latest(&self) -> Arc<str> {
        Arc::from("go.sum database tree\n3\nhash=\n\n— localhost sig\n")
    }

    fn tile(&self, path: &str) -> Result<Option<Vec<u8>>, ReadError> {
        Ok((path == "8/0/000.p/3").then(|| vec![7; 96]))
    }

    fn proof(&self, _: u64) -> Result<Option<OfflineProof>, ReadError> {
        Ok(None) // the real log proves, in the tests that ask for proofs
    }

    fn draft(&self, _: &BuildKey) -> Result<Option<Draft>, ReadError> {
        Ok(None)
    }

    fn sizes(&self) -> watch::Receiver<u64> {
        self.sizes.subscribe()
    }

    fn leaves(&self, from: u64, to: u64) -> Result<Vec<String>, ReadError> {
        let to = to.min(*self.sizes.borrow());
        Ok((from..to).map(|n| format!("leaf {n}\n")).collect())
    }

    fn verifier_key(&self) -> String {
        "localhost+5f1c2d3e+AVq1c0XkYf0zv6mJw5mQO4o2o2m4b8m1Qm0b2l4mQe9N".to_owned()
    }

    fn health(&self) -> Health {
        self.health.lock().unwrap().clone()
    }
}
