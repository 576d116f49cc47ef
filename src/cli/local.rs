//! An engine for one command: roles, runtime, sockets; everything ends with it.

use std::{
    fs::Permissions,
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use hotcell_sandbox::policy::{self, Policy};

use super::{Network, Stop, xdg};
use crate::{
    build::{Engine, EnginePolicy, budget, fetching::Fetch, supervise::Supervise},
    channel::AsyncChannel,
    proxy::{Given, Sources},
    roles::{self, FetchStart, Roles, SuperviseStart},
    sumdb::Database,
};

/// Name of the policy that ships with this program.
const BUILTIN: &str = "build";

/// Roles that run below one folder.
#[derive(Debug)]
pub(super) struct Local {
    roles: Option<Roles>,
    policy: EnginePolicy,
    /// Removed when the command ends (`--cold`).
    temporary: Option<PathBuf>,
}

impl Local {
    /// Starts the roles. Must be called before any thread exists.
    pub(super) fn start(
        network: &Network,
        policy: Option<&Path>,
        cold: bool,
    ) -> Result<Self, Stop> {
        Self::start_with(network, policy, cold, &[])
    }

    /// As [`Self::start`]; the supervisor learns more policies, by name and text.
    pub(super) fn start_with(
        network: &Network,
        policy: Option<&Path>,
        cold: bool,
        more: &[(&str, &str)],
    ) -> Result<Self, Stop> {
        let cache = xdg("XDG_CACHE_HOME", ".cache")?;
        let folder = |error| Stop::chain(Stop::FAILED, &error);
        roles::prepare(&cache, None).map_err(folder)?;
        sweep_cold(&cache);
        let temporary = cold.then(|| cache.join(format!("{COLD}{}", std::process::id())));
        let data = temporary.as_deref().unwrap_or(&cache);
        if temporary.is_some() {
            roles::prepare(data, None).map_err(folder)?;
        }
        let Chosen { policy, mut extra } = choose_policy(policy)?;
        let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
        extra.policies.extend(more.iter().map(owned));
        let roles = roles::start(data, &extra, &fetch_start(network)?)
            .map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        Ok(Self {
            roles: Some(roles),
            policy,
            temporary,
        })
    }

    /// Runs a command with an engine, in a runtime of its own.
    pub(super) fn run<T, F>(mut self, work: impl FnOnce(Engine) -> F) -> Result<T, Stop>
    where
        F: Future<Output = Result<T, Stop>>,
    {
        let Roles {
            supervise,
            fetch,
            children,
        } = self.roles.take().expect("started, not run yet");
        let runtime =
            tokio::runtime::Runtime::new().map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        let result = runtime.block_on(async {
            let engine = connect(supervise, fetch, self.policy.clone()).await?;
            let result = tokio::select! {
                result = work(engine.clone()) => result,
                _ = tokio::signal::ctrl_c() => Err(Stop::new(Stop::FAILED, "interrupted")),
            };
            if self.temporary.is_none() && !engine.supervise().is_gone() {
                keep_budget(&engine).await;
            }
            result
        });
        drop(runtime); // closes both sockets: the roles end, and every cell with them
        end(children);
        if let Some(folder) = &self.temporary
            && let Err(error) = remove(folder)
        {
            super::say(format_args!(
                "hotcell: cannot remove `{}`: {error}",
                folder.display()
            ));
        }
        result
    }
}

/// Keeps this person's caches within the budget; a full disk is only a warning here.
async fn keep_budget(engine: &Engine) {
    let kept = async {
        let cache = xdg("XDG_CACHE_HOME", ".cache")?;
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let bytes_max = budget::default_bytes(&cache).map_err(|error| failed(&error))?;
        budget::enforce(engine, Vec::new(), bytes_max)
            .await
            .map_err(|error| failed(&error))
    };
    if let Err(stop) = kept.await {
        super::say(format_args!("warning: {}", stop.text));
    }
}

/// Prefix of the folders that `--cold` makes; the process id follows.
const COLD: &str = "cold-";

/// Removes folders of commands that were killed.
fn sweep_cold(cache: &Path) {
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name
            .to_str()
            .and_then(|name| name.strip_prefix(COLD)?.parse::<u32>().ok());
        if id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            let _later = remove(&entry.path()); // the next command tries again
        }
    }
}

/// Deletes a tree whose folders may be read-only.
fn remove(path: &Path) -> std::io::Result<()> {
    fn open_up(path: &Path) -> std::io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
            }
        }
        Ok(())
    }
    open_up(path)?;
    std::fs::remove_dir_all(path)
}

/// Waits for roles whose sockets are closed.
pub(super) fn end(children: Vec<(&'static str, Child)>) {
    for (_, mut child) in children {
        // It was started here and is reaped here; it may have ended long ago.
        let _status = child.wait();
    }
}

/// Connects an engine to both roles.
pub(super) async fn connect(
    supervise: hotcell_sandbox::channel::Channel,
    fetch: hotcell_sandbox::channel::Channel,
    policy: EnginePolicy,
) -> Result<Engine, Stop> {
    let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
    let supervise = AsyncChannel::new(supervise).map_err(|error| failed(&error))?;
    let fetch = AsyncChannel::new(fetch).map_err(|error| failed(&error))?;
    let (supervise, ready) = Supervise::connect(supervise).await.map_err(|error| {
        failed(&error).hint("a cell needs namespaces, Landlock and seccomp of Linux 5.19 or newer")
    })?;
    let engine = Engine::new(supervise, ready, Fetch::connect(fetch), policy).await;
    engine.map_err(|error| failed(&error))
}

/// The proxy list and checksum database to use.
pub(super) fn fetch_start(network: &Network) -> Result<FetchStart, Stop> {
    let usage = |error: &dyn std::error::Error| Stop::chain(Stop::USAGE, error);
    let environment = std::env::var("GOPROXY").ok();
    let (goroot, path) = (std::env::var_os("GOROOT"), std::env::var_os("PATH"));
    let given = Given {
        flag: network.goproxy.as_deref(),
        environment: environment.as_deref(),
        configuration: network.configuration.as_deref(),
        goroot: goroot.as_deref(),
        path: path.as_deref(),
    };
    let goproxy = given.list().map_err(|error| usage(&error))?;
    Sources::parse(&goproxy).map_err(|error| usage(&error))?;
    Database::parse(network.sumdb.as_deref()).map_err(|error| usage(&error))?;
    Ok(FetchStart {
        goproxy,
        sumdb: network.sumdb.clone(),
        witnesses: Vec::new(),
        verifiers: Vec::new(),
        authority: None,
    })
}

/// A policy for the cells of one command: built in, or from a file.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) policy: EnginePolicy,
    /// What the supervisor must learn, when it is not built in.
    pub(super) extra: SuperviseStart,
}

/// The policies of a folder in the place of the built-in ones; builds have that of the same name.
pub(super) fn choose_folder(folder: &Path) -> Result<Chosen, Stop> {
    let refused = |error: &dyn std::error::Error| Stop::chain(Stop::USAGE, error);
    let policies = policy::folder(folder).map_err(|error| refused(&error))?;
    let build = policies.iter().find(|policy| policy.name() == BUILTIN);
    let build = build.ok_or_else(|| {
        let text = format!("`{}` has no `{BUILTIN}.toml`", folder.display());
        Stop::new(Stop::USAGE, text).hint("begin with the folder `policies` of the sources")
    })?;
    let absolute = folder.canonicalize().map_err(|error| refused(&error))?;
    Ok(Chosen {
        policy: engine_policy(build),
        extra: SuperviseStart {
            policies: Vec::new(),
            folder: Some(absolute),
        },
    })
}

/// Finds a policy: the one of builds, a built-in one by its name, or a file.
pub(super) fn choose_policy(file: Option<&Path>) -> Result<Chosen, Stop> {
    let name = file.map_or(Some(BUILTIN), Path::to_str);
    let builtin = policy::builtin()
        .into_iter()
        .find(|known| Some(known.name()) == name);
    if let Some(policy) = builtin {
        return Ok(Chosen {
            policy: engine_policy(&policy),
            extra: SuperviseStart::default(),
        });
    }
    let path = file.expect("no file means the built-in policy");
    let text = std::fs::read_to_string(path).map_err(|error| {
        Stop::new(
            Stop::USAGE,
            format!("cannot read policy `{}`: {error}", path.display()),
        )
        .hint("name a TOML file, or the built-in `build` or `probe`")
    })?;
    let name = path
        .file_stem()
        .and_then(|name| name.to_str())
        .unwrap_or("policy");
    let parsed = Policy::parse(name, &text).map_err(|error| Stop::chain(Stop::USAGE, &error))?;
    Ok(Chosen {
        policy: engine_policy(&parsed),
        extra: SuperviseStart {
            policies: vec![(name.to_owned(), text)],
            folder: None,
        },
    })
}

/// The policy itself, for whoever compares with it.
pub(super) fn policy(file: Option<&Path>) -> Result<Policy, Stop> {
    let Chosen { policy, extra } = choose_policy(file)?;
    let parsed = match extra.policies.first() {
        Some((name, text)) => Policy::parse(name, text),
        None => return Ok(builtin_named(&policy.name)),
    };
    parsed.map_err(|error| Stop::chain(Stop::USAGE, &error))
}

fn builtin_named(name: &str) -> Policy {
    let mut all = policy::builtin().into_iter();
    all.find(|known| known.name() == name)
        .expect("it was just found")
}

/// What the asker must know of a policy.
pub(super) fn engine_policy(policy: &Policy) -> EnginePolicy {
    let limits = policy.limits();
    EnginePolicy {
        name: policy.name().to_owned(),
        sha256: policy.sha256().to_owned(),
        silence: Duration::from_millis(limits.silence_ms),
        output_bytes_max: usize::try_from(limits.output_bytes).unwrap_or(usize::MAX),
    }
}
