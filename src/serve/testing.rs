//! A service without network, root or time: fakes behind the seams, for the tests of this module.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};

use super::{
    artifacts::Artifacts,
    catalogue::Catalogue,
    clock::Clock,
    ledger::{AppendError, Entry, Found, Health, Ledger, ReadError},
    metrics::Metrics,
    queue::{Parts, Queue},
};
use crate::{
    build::{
        BoxFuture, Built, CellSummary, Executor, Failure, FailureClass, Phase, Progress, Resolved,
        Versions,
    },
    fetch::wire::ModuleHash,
    output::Output,
    receipt::Draft,
    spec::{
        BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageDir, PackageQuery, Record,
    },
    tlog::OfflineProof,
};

/// What a hostile module makes the go command print.
pub(crate) const HOSTILE: &str =
    "\u{1b}]0;pwned\u{7}<script>alert('x')</script>\r\nevent: end\ndata: {}\n\n\u{202e}\u{0}";

pub(crate) const KEY: &str = "example.org/m@v1.2.3/cmd/tool/linux-amd64-go1.26.8/";

pub(crate) fn key() -> BuildKey {
    BuildKey::parse(KEY).unwrap()
}

/// The `n`th of many keys.
pub(crate) fn key_of(n: usize) -> BuildKey {
    BuildKey::parse(&format!("example.org/m{n}@v1.0.0/linux-amd64-go1.26.8/")).unwrap()
}

/// A clock that a test moves.
#[derive(Debug, Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1_000, Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        1_795_253_099_000 + self.0.load(Relaxed)
    }
}

/// What becomes of a build.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Binary(Vec<u8>),
    /// The bytes in the file differ from what is said.
    Lie,
    Fails(Box<Failure>),
    Panics,
}

/// A build that fails in this way.
pub(crate) fn fails(class: FailureClass, code: &str) -> Outcome {
    Outcome::Fails(Box::new(failure(class, code)))
}

pub(crate) fn failure(class: FailureClass, code: &str) -> Failure {
    Failure {
        code: code.to_owned(),
        class,
        sentence: "the module does not compile".to_owned(),
        remedy: "fix line 3".to_owned(),
        output: Output::from(HOSTILE.as_bytes().to_vec()),
        cell: Some(Box::default()),
        about: None,
    }
}

/// Builds what it is told to, when it is told to.
pub(crate) struct FakeExecutor {
    pub(crate) outcomes: Mutex<HashMap<String, Outcome>>,
    pub(crate) started: Mutex<Vec<String>>,
    pub(crate) resolved: AtomicU64,
    /// Builds end when this is true.
    pub(crate) go: watch::Sender<bool>,
}

impl Default for FakeExecutor {
    fn default() -> Self {
        Self {
            outcomes: Mutex::default(),
            started: Mutex::default(),
            resolved: AtomicU64::new(0),
            go: watch::Sender::new(true),
        }
    }
}

impl FakeExecutor {
    pub(crate) fn set(&self, key: &BuildKey, outcome: Outcome) {
        self.outcomes
            .lock()
            .unwrap()
            .insert(key.to_string(), outcome);
    }

    pub(crate) fn started(&self) -> Vec<String> {
        self.started.lock().unwrap().clone()
    }

    async fn run(
        &self,
        key: BuildKey,
        mut artifact: File,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Built, Failure> {
        self.started.lock().unwrap().push(key.to_string());
        let module = ModuleHash {
            path: key.module.path.to_string(),
            version: key.module.version.to_string(),
            h1: Some("h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned()),
            go_mod_h1: Some("h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned()),
        };
        let output = Output::from(HOSTILE.as_bytes().to_vec());
        for said in [
            Progress::Phase {
                phase: Phase::StandardLibrary,
            },
            Progress::Phase {
                phase: Phase::Build,
            },
            Progress::Module {
                module: module.clone(),
            },
            Progress::Output {
                output: output.clone(),
            },
        ] {
            progress.send(said).await.unwrap();
        }
        self.go.subscribe().wait_for(|go| *go).await.unwrap();
        let outcome = self.outcomes.lock().unwrap().get(&key.to_string()).cloned();
        let bytes = match outcome.unwrap_or_else(|| Outcome::Binary(key.to_string().into_bytes())) {
            Outcome::Binary(bytes) => bytes,
            Outcome::Lie => b"lie".to_vec(),
            Outcome::Fails(failure) => return Err(*failure),
            Outcome::Panics => panic!("as told"),
        };
        artifact.write_all(&bytes).unwrap();
        let said = if bytes == b"lie" {
            b"truth".as_slice()
        } else {
            &bytes
        };
        Ok(Built {
            sha256: Sha256::digest(said).into(),
            size: u64::try_from(bytes.len()).unwrap(),
            modules: vec![module],
            sdk_h1: "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
            cell: CellSummary {
                policy: "build".to_owned(),
                policy_sha256: "ab".repeat(32),
                in_force: vec!["seccomp: mode 2".to_owned()],
                not_in_force: vec![hotcell_sandbox::wire::NotInForce {
                    what: "memory limit".to_owned(),
                    why: "no cgroup v2 controller".to_owned(),
                }],
                ending: "success".to_owned(),
                cpu_ms: 3_100,
                memory_peak_bytes: 312_000_000,
            },
            timings_ms: vec![(Phase::StandardLibrary, 24_000), (Phase::Build, 3_400)],
            output,
            warnings: vec!["retracted: <b>published by accident</b>".to_owned()],
        })
    }
}

impl Executor for FakeExecutor {
    fn resolve(&self, ask: PackageQuery) -> BoxFuture<'_, Result<Resolved, Failure>> {
        Box::pin(async move {
            self.resolved.fetch_add(1, Relaxed);
            let module = ask
                .module
                .clone()
                .unwrap_or_else(|| ModulePath::parse("example.org/m").unwrap());
            let version = match ask.query.as_str() {
                "v1.9.9" => return Err(failure(FailureClass::CannotBuild, "not_found")),
                "v0.0.9" => return Err(failure(FailureClass::Proxy, "proxy")),
                "latest" => "v1.2.3",
                exact => exact,
            };
            let dir = ask
                .dir_in(&module)
                .unwrap_or_else(|| PackageDir::parse("").unwrap());
            let module = ModuleVersion::parse(module.as_str(), version).unwrap();
            Ok(Resolved {
                module,
                dir,
                warnings: Vec::new(),
            })
        })
    }

    fn resolve_go(&self, ask: GoQuery) -> BoxFuture<'_, Result<GoVersion, Failure>> {
        Box::pin(async move {
            self.resolved.fetch_add(1, Relaxed);
            Ok(match ask {
                GoQuery::Latest => GoVersion::parse("go1.26.8").unwrap(),
                GoQuery::Line(minor) => GoVersion::parse(&format!("go1.{minor}.8")).unwrap(),
                GoQuery::Exact(go) => go,
            })
        })
    }

    fn versions(&self, _: ModulePath) -> BoxFuture<'_, Result<Versions, Failure>> {
        Box::pin(async move {
            self.resolved.fetch_add(1, Relaxed);
            let versions = vec!["v1.2.3".to_owned(), "v1.2.0".to_owned()];
            Ok(Versions {
                versions,
                warnings: vec!["deprecated: use <m/v2>".to_owned()],
            })
        })
    }

    fn build(
        &self,
        key: BuildKey,
        artifact: File,
        progress: mpsc::Sender<Progress>,
    ) -> BoxFuture<'_, Result<Built, Failure>> {
        Box::pin(self.run(key, artifact, progress))
    }
}

/// A log in memory that writes the rows as the real one does.
pub(crate) struct FakeLedger {
    catalogue: Catalogue,
    pub(crate) records: Mutex<Vec<Record>>,
    pub(crate) health: Mutex<Health>,
    pub(crate) sizes: watch::Sender<u64>,
}

impl FakeLedger {
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
    ) -> BoxFuture<'a, Result<Vec<u8>, AppendError>> {
        Box::pin(async move { Ok(format!("{{\"{key}\":1}}").into_bytes()) })
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
            companion: String::new(),
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

/// All the parts, in a folder of their own.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) executor: Arc<FakeExecutor>,
    pub(crate) ledger: Arc<FakeLedger>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) catalogue: Catalogue,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: String,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&folder.path().join("hotcell.db")).unwrap();
        let ledger = Arc::new(FakeLedger {
            catalogue: catalogue.clone(),
            records: Mutex::default(),
            health: Mutex::new(Health::Live),
            sizes: watch::Sender::new(3),
        });
        Self {
            executor: Arc::default(),
            ledger,
            clock: Arc::default(),
            catalogue,
            metrics: Arc::default(),
            policy: "ab".repeat(32),
            folder,
        }
    }

    pub(crate) async fn queue(&self, builds_max: usize) -> Queue {
        let parts = Parts {
            catalogue: self.catalogue.clone(),
            artifacts: Artifacts::open(&self.folder.path().join("artifacts")).unwrap(),
            executor: Arc::clone(&self.executor) as _,
            ledger: Arc::clone(&self.ledger) as _,
            clock: Arc::clone(&self.clock) as _,
            metrics: Arc::clone(&self.metrics),
            policy_sha256: self.policy.clone(),
            builds_max,
        };
        Queue::open(parts).await.unwrap()
    }
}
