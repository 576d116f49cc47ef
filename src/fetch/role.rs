//! The process: one channel to the asker, one session per relay.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use hotcell_sandbox::channel::{Channel, ChannelError};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub(super) use super::asker::Asker;
use super::{
    authority::Authority,
    cache::Cache,
    closure::Closure,
    error::FetchError,
    licences::Desk,
    modules::Modules,
    peers::PeerError,
    releases::Known,
    resolve,
    reverse::Reverse,
    sdk::Sdks,
    session::Session,
    verifier::Verifiers,
    wire::{Answer, Ask, Member, ModuleHash, Request},
    witness::Witnesses,
};
use crate::{
    channel::AsyncChannel,
    proxy::{GetError, Http, Proxy, Sources, SourcesError},
    spec::{GoVersion, ModulePath, ModuleVersion, PackageQuery, VersionQuery},
    sumdb::{Database, DatabaseError, StateError, Sumdb},
};

/// Questions that are worked on at once; the others wait in the socket.
const WORK_MAX: usize = 64;
/// Sessions at once; a machine runs far fewer cells.
const SESSIONS_MAX: usize = 512;
/// Most modules of a lock file: as many as a closure may have go.mod files.
const LOCK_MODULES_MAX: usize = super::closure::GO_MODS_MAX;
/// Lock files that are being received at once.
const LOCKS_MAX: usize = 16;

/// What the role is told at its start. It may hold a password, in `goproxy`: not for printing.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchConfig {
    /// Its folder, of which it is the only writer; `.` when it is the current one.
    pub folder: PathBuf,
    /// The proxies, in the form of `GOPROXY`; see [`crate::proxy::Given::list`].
    pub goproxy: String,
    /// The checksum database, in the form of `GOSUMDB`; nothing for Go's own.
    pub sumdb: Option<String>,
    /// Addresses of the log's witnesses.
    pub witnesses: Vec<String>,
    /// Addresses of those who verify builds.
    pub verifiers: Vec<String>,
    /// The directory of the authority of the certificate.
    pub authority: Option<String>,
}

/// Why the role cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The list of proxies.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// The checksum database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The head of the checksum database.
    #[error(transparent)]
    State(#[from] StateError),
    /// TLS.
    #[error("cannot set up TLS (see hotcell doctor)")]
    Tls(#[source] GetError),
    /// The addresses of witnesses, verifiers and authority.
    #[error("cannot ask witnesses, verifiers or the authority")]
    Witnesses(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The folder or the runtime.
    #[error("cannot start fetching in `{}`", folder.display())]
    Start {
        /// Of the configuration.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The channel to the asker.
    #[error("the channel to the asker is broken")]
    Channel(#[from] ChannelError),
}

impl From<PeerError> for RoleError {
    fn from(error: PeerError) -> Self {
        Self::Witnesses(error.into())
    }
}

/// Runs the role until the asker closes its end of `control`.
///
/// # Errors
/// See [`RoleError`]. Sessions end with the process.
pub fn run(control: Channel, config: FetchConfig) -> Result<(), RoleError> {
    let failed = |source| RoleError::Start {
        folder: config.folder.clone(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2) // the work is hashing, which has threads of its own
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let control = AsyncChannel::new(control).map_err(failed)?;
        let http = Http::new(Http::STALL).map_err(RoleError::Tls)?;
        let sources = Sources::parse(&config.goproxy)?;
        tracing::info!("asking the module proxies {sources}");
        let proxy = Proxy::new(sources, Arc::new(http));
        let role = Role::open(Arc::new(control), proxy, &config)?;
        role.serve().await
    })
}

/// The role with all that it holds.
pub(super) struct Role {
    pub(super) control: Arc<AsyncChannel>,
    pub(super) modules: Arc<Modules>,
    sdks: Sdks,
    sessions: Mutex<Vec<Weak<Session>>>,
    locks: Mutex<HashMap<u64, Vec<ModuleHash>>>,
    pub(super) releases: Known,
    witnesses: Witnesses,
    verifiers: Verifiers,
    reverse: Reverse,
    desk: Desk,
    authority: Authority,
}

impl Role {
    /// Opens the folder.
    pub(super) fn open(
        control: Arc<AsyncChannel>,
        proxy: Proxy,
        config: &FetchConfig,
    ) -> Result<Arc<Self>, RoleError> {
        let failed = |source| RoleError::Start {
            folder: config.folder.clone(),
            source,
        };
        let cache = Arc::new(Cache::open(&config.folder).map_err(failed)?);
        cache.tell_put_away().map_err(failed)?;
        let database = Database::parse(config.sumdb.as_deref())?;
        let tiles = Arc::clone(&cache) as Arc<dyn crate::sumdb::TileCache>;
        let sumdb = Sumdb::open(database, &proxy, config.folder.join("sumdb"), tiles)?;
        let modules = Arc::new(Modules::new(proxy, sumdb, cache));
        let sdks =
            Sdks::open(config.folder.join("staging"), Arc::clone(&modules)).map_err(failed)?;
        let (sessions, locks) = (Mutex::default(), Mutex::default());
        let releases = Known::default();
        let witnesses = Witnesses::new(&config.witnesses)?;
        let verifiers = Verifiers::new(&config.verifiers)?;
        let authority = Authority::new(config.authority.as_deref())?;
        Ok(Arc::new(Self {
            control,
            modules,
            sdks,
            sessions,
            locks,
            releases,
            witnesses,
            verifiers,
            reverse: Reverse::default(),
            desk: Desk::default(),
            authority,
        }))
    }

    /// Takes questions until the asker is gone.
    pub(super) async fn serve(self: Arc<Self>) -> Result<(), RoleError> {
        let mut background = tokio::task::JoinSet::new(); // ends with this function
        background.spawn(Arc::clone(&self).tell());
        background.spawn(Arc::clone(&self).check());
        let permits = Arc::new(Semaphore::new(WORK_MAX));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                return Ok(());
            };
            let Some((request, descriptors)) = self.control.receive::<Request>().await? else {
                return Ok(());
            };
            let asker = Asker {
                control: Arc::clone(&self.control),
                id: request.id,
            };
            match request.ask {
                Ask::Lock { modules } => self.lock(request.id, modules),
                Ask::Open { root, locked } => {
                    let locked = self.take_lock(request.id, locked);
                    if let Err(error) = self.open_session(&asker, root, locked, descriptors).await {
                        asker.trouble(&error).await;
                    }
                }
                ask => {
                    let work = Arc::clone(&self).answer(asker.clone(), ask);
                    drop(tokio::spawn(async move {
                        // A task of its own: should it panic, the asker still hears of it.
                        let result = tokio::spawn(work).await;
                        if let Err(error) = result.unwrap_or_else(|error| Err(error.into())) {
                            asker.trouble(&error).await;
                        }
                        drop(permit);
                    }));
                }
            }
        }
    }

    fn locks(&self) -> MutexGuard<'_, HashMap<u64, Vec<ModuleHash>>> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, id: u64, modules: Vec<ModuleHash>) {
        let mut locks = self.locks();
        if locks.len() < LOCKS_MAX || locks.contains_key(&id) {
            let all = locks.entry(id).or_default();
            // One too many is kept, so that `open_session` sees that there were too many.
            all.extend(
                modules
                    .into_iter()
                    .take(LOCK_MODULES_MAX + 1 - all.len().min(LOCK_MODULES_MAX)),
            );
        }
    }

    fn take_lock(&self, id: u64, locked: Option<Vec<ModuleHash>>) -> Option<Vec<ModuleHash>> {
        let earlier = self.locks().remove(&id);
        match (earlier, locked) {
            (None, locked) => locked,
            (Some(mut all), locked) => {
                all.extend(locked.into_iter().flatten());
                Some(all)
            }
        }
    }

    async fn open_session(
        &self,
        asker: &Asker,
        root: Option<Member>,
        locked: Option<Vec<ModuleHash>>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), FetchError> {
        if let Some(root) = &root {
            ModuleVersion::parse(&root.path, &root.version)?;
        }
        if locked
            .as_ref()
            .is_some_and(|all| all.len() > LOCK_MODULES_MAX)
        {
            return Err(FetchError::NotFound(
                "the lock file has too many modules".into(),
            ));
        }
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let [socket] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| invalid())?;
        let relay = AsyncChannel::new(Channel::from(socket))?;
        let closure = Closure::new(root, locked);
        let session = Session::new(closure, Arc::clone(&self.modules), asker.clone());
        let session = Arc::new(session);
        let is_full = {
            let mut sessions = self.sessions();
            sessions.retain(|session| session.strong_count() > 0);
            sessions.push(Arc::downgrade(&session));
            sessions.len() > SESSIONS_MAX
        };
        if is_full {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded).into());
        }
        asker.say(Answer::Opened, None).await;
        drop(tokio::spawn(session.run(relay)));
        Ok(())
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Weak<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: Arc<Self>, asker: Asker, ask: Ask) -> Result<(), FetchError> {
        let answer = match ask {
            Ask::Open { .. } | Ask::Lock { .. } => return Ok(()), // not these
            Ask::Resolve {
                module,
                package,
                query,
            } => self.resolve(module, package, query).await?,
            Ask::Versions { module } => {
                let module = ModulePath::parse(&module)?;
                let (versions, warnings) = resolve::versions(&self.modules, &module).await?;
                Answer::Versions { versions, warnings }
            }
            Ask::LatestGo { query } => self.latest_go(&query).await?,
            Ask::GoVersions => self.go_versions().await?,
            Ask::Sdk { go } => {
                let (h1, folder) = self.sdks.fetch(GoVersion::parse(&go)?, &asker).await?;
                asker
                    .say(Answer::Sdk { h1: h1.to_string() }, Some(&folder))
                    .await;
                return Ok(());
            }
            Ask::SdkAdopted { go } => {
                self.sdks.adopted(GoVersion::parse(&go)?).await?;
                Answer::Done
            }
            Ask::HostName { address } => self.reverse.ask(address).await?,
            Ask::Probe => self.probe().await?,
            Ask::Witness { witness, question } => self.witnesses.ask(witness, question).await?,
            Ask::Verifier { verifier, key } => {
                let (status, body) = self.verifiers.ask(verifier, &key).await?;
                Answer::Verifier { status, body }
            }
            Ask::VerifierLog { verifier, path } => self.verifiers.read(verifier, &path).await?,
            Ask::Licences { modules } => self.desk.look(&self.modules.cache, modules).await?,
            Ask::Authority { question } => self.authority.ask(question).await?,
            Ask::Verify => self.verify().await?,
            Ask::Usage => {
                let cache = Arc::clone(&self.modules.cache);
                let bytes = tokio::task::spawn_blocking(move || cache.bytes()).await??;
                Answer::Usage { bytes }
            }
            Ask::Shrink { bytes_max } => {
                let sessions: Vec<_> = self.sessions().iter().filter_map(Weak::upgrade).collect();
                let in_use: HashSet<_> = sessions
                    .iter()
                    .flat_map(|session| session.in_use())
                    .collect();
                let cache = Arc::clone(&self.modules.cache);
                tokio::task::spawn_blocking(move || cache.shrink(bytes_max, &in_use)).await??;
                Answer::Done
            }
        };
        asker.say(answer, None).await;
        Ok(())
    }

    async fn resolve(
        &self,
        module: Option<String>,
        package: String,
        query: String,
    ) -> Result<Answer, FetchError> {
        let query = match module {
            Some(module) => PackageQuery {
                module: Some(ModulePath::parse(&module)?),
                package,
                query: VersionQuery::parse(&query)?,
            },
            None => PackageQuery::parse(&format!("{package}@{query}"))?,
        };
        let resolved = resolve::resolve(&self.modules, &query).await?;
        let (path, version) = (
            resolved.module.path.to_string(),
            resolved.module.version.to_string(),
        );
        Ok(Answer::Resolved {
            member: Member { path, version },
            warnings: resolved.warnings,
        })
    }
}
