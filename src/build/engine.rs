//! The executor of this machine: SDK, frozen standard library, cell, gate, in this order.

use std::{
    collections::HashMap,
    fs::File,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::memfd::{MFdFlags, memfd_create};

use hotcell_sandbox::wire::{CellRequest, Job, NotInForce};
use tokio::sync::mpsc;

use super::{
    Built, Failure, FailureClass, Phase, Progress,
    cell::{self, Clocks, Outcome, Work},
    ending,
    fetching::Fetch,
    gating::GATE_ALARM,
    supervise::{Ready, Supervise, SuperviseError},
};
use crate::{
    fetch::wire::{Answer, Ask, Member, ModuleHash},
    relay::wire::Order,
    spec::{BuildKey, GoVersion, ModuleVersion, Target, Variant},
};

/// Name of the policy of builds.
const BUILD: &str = "build";
/// Name of its difference for Go before 1.21.
const LEGACY: &str = "legacy-go";

/// The policy that builds run under.
#[derive(Debug, Clone)]
pub struct EnginePolicy {
    /// Name, for people.
    pub name: String,
    /// SHA-256 of its file in hex, by which the supervisor knows it.
    pub sha256: String,
    /// Longest time without output and without a request.
    pub silence: Duration,
    /// Most bytes that a program may print.
    pub output_bytes_max: usize,
}

/// Builds on this machine.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    supervise: Arc<Supervise>,
    fetch: Arc<Fetch>,
    policy: EnginePolicy,
    /// Takes its place for Go before 1.21.
    legacy: Option<EnginePolicy>,
    ready: Ready,
    /// `h1:` of every SDK in the store, by release.
    sdks: Arc<Mutex<HashMap<GoVersion, String>>>,
    /// One adoption or freeze at a time for each SDK and target; who comes later waits for it.
    making: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    /// What a job without artifact could write to.
    nowhere: Arc<File>,
}

impl Engine {
    /// The same with another policy, which the supervisor must know.
    #[must_use]
    pub fn with_policy(&self, policy: EnginePolicy) -> Self {
        let Inner {
            supervise,
            fetch,
            legacy,
            ready,
            sdks,
            making,
            nowhere,
            ..
        } = &*self.0;
        Self(Arc::new(Inner {
            supervise: Arc::clone(supervise),
            fetch: Arc::clone(fetch),
            policy,
            legacy: legacy.clone(),
            ready: ready.clone(),
            sdks: Arc::clone(sdks),
            making: Arc::clone(making),
            nowhere: Arc::clone(nowhere),
        }))
    }

    /// Learns which SDKs the store has.
    ///
    /// # Errors
    /// When the supervisor is gone, or the kernel makes no file.
    pub async fn new(
        supervise: Arc<Supervise>,
        ready: Ready,
        fetch: Arc<Fetch>,
        policy: EnginePolicy,
    ) -> Result<Self, SuperviseError> {
        let trees = supervise.trees().await?;
        supervise.remember_put_away(&trees);
        let sdks = trees
            .iter()
            .filter(|tree| tree.name.starts_with("sdk/"))
            .filter_map(|tree| Some((GoVersion::parse(&tree.title).ok()?, tree.digest.clone())))
            .collect();
        let nowhere = memfd_create("nowhere", MFdFlags::MFD_CLOEXEC)
            .map_err(|error| SuperviseError::Refused(format!("cannot make a file: {error}")))?;
        let legacy = ready.policies.iter().find(|known| known.name == LEGACY);
        let legacy = legacy.map(|known| EnginePolicy {
            sha256: known.sha256.clone(),
            name: known.name.clone(),
            ..policy
        });
        Ok(Self(Arc::new(Inner {
            supervise,
            fetch,
            policy,
            legacy,
            ready,
            sdks: Arc::new(Mutex::new(sdks)),
            making: Arc::default(),
            nowhere: Arc::new(File::from(nowhere)),
        })))
    }

    /// What this host cannot enforce, whatever the policy.
    #[must_use]
    pub fn not_in_force(&self) -> &[NotInForce] {
        &self.0.ready.not_in_force
    }

    /// The policy that builds run under.
    #[must_use]
    pub fn policy(&self) -> &EnginePolicy {
        &self.0.policy
    }

    /// The policy that builds with a release run under: the policy of builds has a difference for
    /// Go before 1.21; a policy that a person has chosen is used for all.
    ///
    /// # Errors
    /// When the supervisor was started without that difference.
    pub fn policy_for(&self, go: GoVersion) -> Result<&EnginePolicy, Failure> {
        if go >= GoVersion::STATIC_SINCE || self.0.policy.name != BUILD {
            return Ok(&self.0.policy);
        }
        self.0.legacy.as_ref().ok_or_else(|| {
            let sentence = format!("{go} needs the policy `{LEGACY}`, which is not there");
            let remedy = "add it to the folder of policies";
            ending::failure("no_policy", FailureClass::CannotBuild, sentence, remedy)
        })
    }

    /// The supervisor, for what concerns its store.
    #[must_use]
    pub fn supervise(&self) -> &Arc<Supervise> {
        &self.0.supervise
    }

    /// The fetcher, for what concerns its cache.
    #[must_use]
    pub fn fetch(&self) -> &Arc<Fetch> {
        &self.0.fetch
    }

    /// Builds `key`; `locked` serves these modules with these hashes and nothing else.
    ///
    /// # Errors
    /// Why there is no binary.
    pub async fn run(
        &self,
        key: &BuildKey,
        locked: Option<Vec<ModuleHash>>,
        artifact: &File,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Built, Failure> {
        match self.attempt(key, locked.clone(), artifact, progress).await {
            // What it needs was put away in the meantime: once more, with what is fetched afresh.
            Err(_) if self.supervise().has_lost() => {
                self.attempt(key, locked, artifact, progress).await
            }
            other => other,
        }
    }

    async fn attempt(
        &self,
        key: &BuildKey,
        locked: Option<Vec<ModuleHash>>,
        artifact: &File,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Built, Failure> {
        let policy = self.policy_for(key.go)?;
        let begin = Instant::now();
        let h1 = self.sdk(key.go, progress).await?;
        self.go_command(key.go, &h1, progress).await?;
        let sdk_ms = millis(begin.elapsed());
        let warnings = self.exists(&key.module).await?;
        let begin = Instant::now();
        self.standard_library(key.go, &h1, key.target, progress)
            .await?;
        let std_ms = millis(begin.elapsed());
        let _full = progress.try_send(Progress::Phase {
            phase: Phase::Build,
        });
        let (path, version) = (key.module.path.to_string(), key.module.version.to_string());
        let root = Member {
            path: path.clone(),
            version: version.clone(),
        };
        let order = Order::Gate {
            package: key.package(),
            module: path,
            version: version.clone(),
            cross: format!("{}_{}", key.target.goos(), key.target.goarch()),
        };
        let job = Job::Install {
            package: key.package(),
            version,
            stripped: key.variant == Variant::Stripped,
        };
        let mut work = self.work(Some(root), locked, Some(order), progress);
        work.artifact = artifact;
        let outcome = self.cell(work, key.go, &h1, key.target, job, true).await;
        if outcome
            .as_ref()
            .is_err_and(|failure| failure.code == GATE_ALARM)
        {
            // A compiler that lies about what it built may have been made to.
            self.read_again(&h1).await;
        }
        let outcome = outcome?;
        let Some(gated) = outcome.gated else {
            return Err(outcome.into_failure(&policy.name));
        };
        Ok(Built {
            sha256: gated.sha256,
            size: gated.size,
            modules: outcome.served,
            sdk_h1: h1,
            cell: cell::summary(&policy.name, "success", &outcome.report),
            timings_ms: vec![
                (Phase::Sdk, sdk_ms),
                (Phase::StandardLibrary, std_ms),
                (Phase::Build, millis(outcome.run)),
                (Phase::Gate, millis(outcome.gate)),
            ],
            output: outcome.output,
            warnings,
            code: gated.code,
        })
    }

    /// Has an SDK and all that it made read again; who must look is told by the checks themselves.
    async fn read_again(&self, h1: &str) {
        let trees = self.0.supervise.trees().await.unwrap_or_default();
        let title = trees
            .iter()
            .find(|tree| tree.digest == h1)
            .map(|tree| &tree.title);
        let made = title.map(|title| format!("{title} "));
        for tree in trees.iter().filter(|tree| tree.put_away.is_none()) {
            let is_made = made
                .as_ref()
                .is_some_and(|made| tree.title.starts_with(made));
            if (tree.digest == h1 || is_made)
                && let Err(error) = self.0.supervise.verify(&tree.name).await
            {
                tracing::warn!(%error, "cannot check `{}`: {error}", tree.name);
            }
        }
    }

    pub(super) fn work<'a>(
        &'a self,
        root: Option<Member>,
        locked: Option<Vec<ModuleHash>>,
        gate: Option<Order>,
        progress: &'a mpsc::Sender<Progress>,
    ) -> Work<'a> {
        Work {
            root,
            locked,
            gate,
            artifact: &self.0.nowhere,
            program: None,
            progress,
        }
    }

    pub(super) async fn cell(
        &self,
        work: Work<'_>,
        go: GoVersion,
        h1: &str,
        target: Target,
        job: Job,
        frozen: bool,
    ) -> Result<Outcome, Failure> {
        let policy = self.policy_for(go)?;
        let clocks = Clocks {
            silence: policy.silence,
            output_bytes_max: policy.output_bytes_max,
            strict: !matches!(job, Job::Program { .. }),
        };
        let make = |cell| CellRequest {
            cell,
            policy: policy.sha256.clone(),
            sdk: h1.to_owned(),
            go: go.to_string(),
            goos: target.goos().to_owned(),
            goarch: target.goarch().to_owned(),
            job,
            frozen,
            wall_ms_max: None,
        };
        cell::run(&self.0.supervise, &self.0.fetch, clocks, work, make).await
    }

    /// Asks whether a version is there before a cell is made for it; returns warnings about it.
    pub(super) async fn exists(&self, module: &ModuleVersion) -> Result<Vec<String>, Failure> {
        let ask = Ask::Resolve {
            module: Some(module.path.to_string()),
            package: module.path.to_string(),
            query: module.version.to_string(),
        };
        match self
            .0
            .fetch
            .ask_once(ask)
            .await
            .map_err(ending::of_trouble)?
        {
            Answer::Resolved { warnings, .. } => Ok(warnings),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) fn sdks(&self) -> std::sync::MutexGuard<'_, HashMap<GoVersion, String>> {
        // The map is consistent after every statement, so a panic elsewhere does not matter.
        self.0.sdks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn making(&self, what: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(making.entry(what.to_owned()).or_default())
    }
}

pub(super) fn unexpected(answer: &Answer) -> Failure {
    cell::internal(&format!("unexpected answer of the fetcher: {answer:?}"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
