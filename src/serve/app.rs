//! What all handlers share.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};

use super::{
    Told,
    answer::Refusal,
    api::observations::Observed,
    artifacts::Artifacts,
    catalogue::Catalogue,
    clock::Clock,
    commands::Listings,
    cosign::Cosigning,
    hot::Hot,
    ledger::Ledger,
    limits::{
        Class, Rates,
        blocks::{Cidr, Visitor},
        names::Names,
        reverse::HostNames,
    },
    metrics::Metrics,
    queue::Queue,
    shares::{Share, Shares},
    shown::Shown,
    tls::{Standing, Tls},
};
use crate::{
    build::{BoxFuture, Executor, Failure, Resolved, Versions},
    spec::{BuildKey, GoQuery, GoVersion, ModulePath, PackageQuery, url::BuildQuery},
    verifiers,
    witness::Board,
};

/// Requests that wait for a build at the same time; each holds a connection and little else.
const WAITERS_MAX: u32 = 512;
/// Questions of other instances at the same time; each takes two seconds at most.
const OBSERVERS_MAX: u32 = 128;
/// Event streams at the same time; each costs some 22 KiB.
const STREAMS_MAX: u32 = 6_144;
/// How long the module proxy may take to say what a name means.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names that are resolved at the same time; each is a request to the module proxy.
const RESOLVERS_MAX: u32 = 32;
/// Downloads at the same time; those who read the same file share a copy and cost little.
const DOWNLOADS_MAX: u32 = 6_144;
/// Downloads of large files and of parts among them: each has a descriptor, and some 300 KiB when
/// its reader is slow.
const PIECED_MAX: u32 = 1_024;
/// Requests that wait for a file to be compressed.
const COMPRESSIONS_MAX: u32 = 16;

/// What all handlers share.
pub(super) struct App {
    pub(super) queue: Queue,
    pub(super) catalogue: Catalogue,
    pub(super) artifacts: Artifacts,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// Names that are ours, without ports.
    pub(super) hosts: Vec<String>,
    /// Visitors come through TLS that ends in front of us.
    pub(super) behind_tls: bool,
    /// TLS of our own.
    pub(super) tls: Option<Arc<Tls>>,
    /// What the start has to say on the home page.
    pub(super) fixed_notes: Vec<String>,
    /// What the operator has to say as of now.
    pub(super) told: watch::Receiver<Told>,
    /// How it stands with the witnesses of the log.
    pub(super) witnesses: Arc<Board>,
    /// The witness of other logs, if this instance is one.
    pub(super) cosigning: Option<Arc<Cosigning>>,
    /// How it stands with those who verify our builds.
    pub(super) verifiers: Arc<verifiers::Board>,
    /// Observations that were signed already.
    pub(super) observed: Observed,
    pub(super) builds_max: usize,
    /// SHA-256 of the build policy, hex.
    pub(super) policy_sha256: String,
    /// Who is believed when it says for whom it asks.
    pub(super) trusted_proxies: Vec<Cidr>,
    /// The trace has a line for each request.
    pub(super) access_log: bool,
    /// What one client may ask for.
    pub(super) rates: Arc<Rates>,
    /// What visitors' addresses are called, when a rule asks for it.
    pub(super) host_names: HostNames,
    /// What was asked of the module proxy just now.
    pub(super) names: AllNames,
    /// Binaries that are downloaded just now.
    pub(super) hot: Arc<Hot>,
    /// Pages of results that were made just now.
    pub(super) shown: Shown,
    /// Modules whose commands are listed just now.
    pub(super) listings: Listings,
    /// Becomes true when the service stops.
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) limits: Limits,
}

/// What was asked of the module proxy just now.
pub(super) struct AllNames {
    packages: Names<Resolved>,
    releases: Names<GoVersion>,
    modules: Names<Versions>,
}

impl AllNames {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            packages: Names::new(Arc::clone(clock), PATIENCE),
            releases: Names::new(Arc::clone(clock), PATIENCE),
            modules: Names::new(Arc::clone(clock), PATIENCE),
        }
    }
}

/// How many may do the same at a time.
pub(super) struct Limits {
    /// Those who wait for a build.
    pub(super) waiters: Limit,
    /// Event streams.
    pub(super) streams: Limit,
    /// Questions of other instances.
    pub(super) observers: Limit,
    resolvers: Limit,
    pub(super) downloads: Limit,
    /// Downloads of large files and of parts, among the others.
    pub(super) pieced: Limit,
    /// Those for whom a file is compressed.
    pub(super) compressions: Limit,
    /// One file is compressed at a time.
    pub(super) compressing: Arc<Semaphore>,
}

/// Places of one kind, and what is said when they are taken.
pub(super) struct Limit {
    places: Arc<Shares>,
    why: &'static str,
}

impl Limit {
    pub(super) fn new(most: u32, why: &'static str) -> Self {
        let places = Shares::new(most);
        Self { places, why }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let large = "too many downloads of large files are under way";
        let compressed = "too many downloads are compressed just now: take the uncompressed one";
        Self {
            waiters: Limit::new(WAITERS_MAX, "too many requests wait for builds"),
            streams: Limit::new(STREAMS_MAX, "too many event streams are open"),
            observers: Limit::new(OBSERVERS_MAX, "too many instances ask for builds"),
            resolvers: Limit::new(RESOLVERS_MAX, "too many names are looked up"),
            downloads: Limit::new(DOWNLOADS_MAX, "too many downloads are under way"),
            pieced: Limit::new(PIECED_MAX, large),
            compressions: Limit::new(COMPRESSIONS_MAX, compressed),
            compressing: Arc::new(Semaphore::new(1)),
        }
    }
}

impl App {
    /// How it stands with our certificate, as of now.
    pub(super) fn certificate(&self) -> Option<Standing> {
        let tls = self.tls.as_ref()?;
        Some(tls.standing(self.clock.now_ms() / 1_000))
    }

    /// What is to be said on the home page and by health, as of now.
    pub(super) fn notes(&self) -> Vec<String> {
        let told = self.told.borrow().notes.clone();
        let fixed = self.fixed_notes.iter().cloned();
        let cosigning = self.cosigning.iter().flat_map(|witness| witness.notes());
        told.into_iter()
            .chain(fixed)
            .chain(self.witnesses.notes())
            .chain(cosigning)
            .chain(self.verifiers.notes())
            .collect()
    }

    /// Whether the disk has room for more than what has begun.
    pub(super) fn has_room(&self) -> Result<bool, Refusal> {
        let lacks = self.artifacts.lacks_room();
        lacks
            .map(|lacks| lacks.is_none())
            .map_err(|cause| Refusal::internal(&cause))
    }

    /// A place of its kind, of which one client has some and never all.
    pub(super) fn place(&self, of: &Limit, visitor: Visitor) -> Result<Share, Refusal> {
        of.places.enter_as(visitor).ok_or_else(|| {
            self.metrics
                .busy
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Refusal::busy(of.why)
        })
    }

    /// Asks what a name means today, for a limited time, with limited company.
    async fn ask<T: Clone + Send + Sync + 'static>(
        &self,
        visitor: Visitor,
        names: &Names<T>,
        name: String,
        question: BoxFuture<'static, Result<T, Failure>>,
    ) -> Result<T, Refusal> {
        let mut coming = names.get(name, || {
            let place = self.place(&self.limits.resolvers, visitor)?;
            self.rates.take(visitor, &[Class::Name])?;
            Ok::<_, Refusal>((place, question))
        })?;
        let answer = coming.wait_for(Option::is_some).await;
        let answer = answer.map_err(|cause| Refusal::internal(&cause))?.clone();
        Ok(answer.expect("waited for")?)
    }

    /// Module, version and folder of a package.
    pub(super) async fn resolve(
        &self,
        visitor: Visitor,
        query: PackageQuery,
    ) -> Result<Resolved, Refusal> {
        self.rates.check_package(&query)?;
        let executor = Arc::clone(&self.executor);
        let name = format!("{query:?}");
        let question = Box::pin(async move { executor.resolve(query).await });
        let resolved = self.ask(visitor, &self.names.packages, name, question);
        let resolved = resolved.await?;
        self.rates.check_module(resolved.module.path.as_str())?;
        Ok(resolved)
    }

    /// A Go release.
    pub(super) async fn resolve_go(
        &self,
        visitor: Visitor,
        query: GoQuery,
    ) -> Result<GoVersion, Refusal> {
        match query {
            GoQuery::Exact(go) => Ok(go),
            moving => {
                let executor = Arc::clone(&self.executor);
                let question = Box::pin(async move { executor.resolve_go(moving).await });
                self.ask(visitor, &self.names.releases, moving.to_string(), question)
                    .await
            }
        }
    }

    /// Versions of a module.
    pub(super) async fn versions(
        &self,
        visitor: Visitor,
        module: ModulePath,
    ) -> Result<Versions, Refusal> {
        self.rates.check_module(module.as_str())?;
        let executor = Arc::clone(&self.executor);
        let name = module.to_string();
        let question = Box::pin(async move { executor.versions(module).await });
        self.ask(visitor, &self.names.modules, name, question).await
    }

    /// The key that a build with moving names means today; asks nobody when nothing moves.
    pub(super) async fn concrete(
        &self,
        visitor: Visitor,
        build: &BuildQuery,
    ) -> Result<BuildKey, Refusal> {
        if build.exact().is_none() {
            self.rates.check_module(build.module.as_str())?;
        }
        let go = self.resolve_go(visitor, build.go).await?;
        let version = match build.query.exact() {
            Some(version) => version,
            None => {
                let query = PackageQuery {
                    package: build.dir.package(&build.module),
                    module: Some(build.module.clone()),
                    query: build.query.clone(),
                };
                self.resolve(visitor, query).await?.module.version
            }
        };
        Ok(build.with(version, go)?)
    }
}
