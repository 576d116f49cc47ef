//! A service without network, root or time: fakes behind the seams, for the tests of this module.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, watch};

use super::{
    Told,
    artifacts::Artifacts,
    catalogue::Catalogue,
    clock::Clock,
    fake_ledger::FakeLedger,
    limits::{
        Asker, Rates,
        blocks::{Client, Visitor},
        budget::Budget,
    },
    metrics::Metrics,
    queue::{Parts, Queue},
};
use crate::{
    build::{
        BoxFuture, Built, CellSummary, Code, Command, Executor, Failure, FailureClass, Phase,
        Progress, Resolved, Versions,
    },
    fetch::wire::{Licences, ModuleHash, ModuleLicences},
    output::Output,
    spec::{BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageDir, PackageQuery},
    verifiers::Quorum,
};

/// What a hostile module makes the go command print.
pub(crate) const HOSTILE: &str =
    "\u{1b}]0;pwned\u{7}<script>alert('x')</script>\r\nevent: end\ndata: {}\n\n\u{202e}\u{0}";

pub(crate) const KEY: &str = "example.org/m@v1.2.3/cmd/tool/linux-amd64-go1.26.8/";

pub(crate) fn key() -> BuildKey {
    BuildKey::parse(KEY).unwrap()
}

/// Somebody without limits.
pub(crate) fn operator() -> Asker {
    Asker::person(Visitor {
        is_operator: true,
        ..visitor("127.0.0.1")
    })
}

/// Somebody with limits.
pub(crate) fn visitor(address: &str) -> Visitor {
    Visitor {
        client: Client::of(address.parse().unwrap()),
        is_operator: false,
        is_barred: false,
    }
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
    /// Modules whose commands were listed.
    pub(crate) listed: Mutex<Vec<String>>,
    /// Addresses whose names were looked up.
    pub(crate) named: Mutex<Vec<IpAddr>>,
    /// What binaries say of their code.
    pub(crate) code: Mutex<Option<Code>>,
    /// What is found in every module.
    pub(crate) licences: Mutex<Option<Licences>>,
    /// Builds end when this is true.
    pub(crate) go: watch::Sender<bool>,
}

impl Default for FakeExecutor {
    fn default() -> Self {
        Self {
            outcomes: Mutex::default(),
            started: Mutex::default(),
            resolved: AtomicU64::new(0),
            listed: Mutex::default(),
            named: Mutex::default(),
            code: Mutex::default(),
            licences: Mutex::default(),
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
            code: self.code.lock().unwrap().clone(),
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

    fn versions(&self, module: ModulePath) -> BoxFuture<'_, Result<Versions, Failure>> {
        Box::pin(async move {
            self.resolved.fetch_add(1, Relaxed);
            if module.as_str() == "example.org/unlisted" {
                return Err(failure(FailureClass::CannotBuild, "not_found"));
            }
            let versions = vec!["v1.2.3".to_owned(), "v1.2.0".to_owned()];
            Ok(Versions {
                versions,
                warnings: vec!["deprecated: use <m/v2>".to_owned()],
            })
        })
    }

    fn commands(&self, module: ModuleVersion) -> BoxFuture<'_, Result<Vec<Command>, Failure>> {
        Box::pin(async move {
            self.listed.lock().unwrap().push(module.to_string());
            self.go.subscribe().wait_for(|go| *go).await.unwrap();
            let command = |dir: &str, doc: &str| Command {
                dir: dir.to_owned(),
                doc: doc.to_owned(),
            };
            Ok(match module.path.as_str() {
                "example.org/none" => Vec::new(),
                "example.org/one" => vec![command("cmd/only", "Only is alone.")],
                "example.org/ill" => return Err(failure(FailureClass::CannotBuild, "bad_module")),
                _ => vec![command("", "M <b>does</b> it."), command("cmd/tool", "")],
            })
        })
    }

    fn host_name(&self, address: IpAddr) -> BoxFuture<'_, Result<Option<String>, Failure>> {
        Box::pin(async move {
            self.named.lock().unwrap().push(address);
            match address {
                IpAddr::V4(v4) => match v4.octets() {
                    [_, _, _, 13] => Ok(Some("bot-13.crawler.example".to_owned())),
                    [_, _, _, 14] => Ok(Some("notcrawler.example".to_owned())),
                    [_, _, _, 15] => Err(failure(FailureClass::Proxy, "resolver")),
                    [_, _, _, 16] => std::future::pending().await,
                    _ => Ok(None),
                },
                IpAddr::V6(_) => Ok(Some("crawler.example".to_owned())),
            }
        })
    }

    fn trees(&self) -> BoxFuture<'_, Vec<(String, u64)>> {
        Box::pin(async { vec![("go1.26.8 (sdk/ab)".to_owned(), 250_000_000)] })
    }

    fn licences(&self, modules: Vec<ModuleHash>) -> BoxFuture<'_, Vec<ModuleLicences>> {
        let found = self.licences.lock().unwrap().clone();
        let one = |module: ModuleHash| {
            let licences = found.clone()?;
            let ModuleHash { path, version, .. } = module;
            Some(ModuleLicences {
                path,
                version,
                licences,
            })
        };
        let all: Vec<_> = modules.into_iter().filter_map(one).collect();
        Box::pin(async { all })
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

/// All the parts, in a folder of their own.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) executor: Arc<FakeExecutor>,
    pub(crate) ledger: Arc<FakeLedger>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) catalogue: Catalogue,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) policy: String,
    pub(crate) room_min: u64,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) budget: Budget,
    pub(crate) told: watch::Receiver<Told>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::open(&folder.path().join("hotcell.db")).unwrap();
        let ledger = Arc::new(FakeLedger::new(catalogue.clone()));
        Self {
            executor: Arc::default(),
            ledger,
            clock: Arc::default(),
            catalogue,
            metrics: Arc::default(),
            policy: "ab".repeat(32),
            room_min: 0,
            quorum: Arc::new(Quorum::nobody()),
            budget: Budget::default(),
            told: watch::Sender::default().subscribe(),
            folder,
        }
    }

    pub(crate) async fn queue(&self, builds_max: usize) -> Queue {
        let parts = Parts {
            catalogue: self.catalogue.clone(),
            artifacts: Artifacts::open(&self.folder.path().join("artifacts"), self.room_min)
                .unwrap(),
            executor: Arc::clone(&self.executor) as _,
            ledger: Arc::clone(&self.ledger) as _,
            clock: Arc::clone(&self.clock) as _,
            metrics: Arc::clone(&self.metrics),
            policy_sha256: self.policy.clone(),
            builds_max,
            budget: self.budget,
            rates: Arc::new(Rates::new(
                Arc::clone(&self.clock) as _,
                Arc::clone(&self.metrics),
                self.told.clone(),
            )),
            quorum: Arc::clone(&self.quorum),
        };
        Queue::open(parts).await.unwrap()
    }
}
