//! `hotcell serve`: starts the roles, gives up power, opens the log, serves.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use hotcell_sandbox::privilege;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Network, Stop, local, print, say, xdg};
use crate::{
    build::{Engine, EnginePolicy, budget},
    log::{Log, LogConfig},
    roles::{self, Roles, SERVE_ID},
    serve::{self, Listeners, ServeConfig},
    store::lru,
};

/// Where the signer's state lies when started as root.
const SIGN_DIR: &str = "/var/lib/hotcell-sign";
/// Memory that one build is given room for when builds at a time are chosen, in bytes.
const BUILD_BYTES: u64 = 4 << 30;
/// How often the disk budget is looked at.
const BUDGET_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where everything lies but the signing keys
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Where keys, last signed head and anchor lie [default: /var/lib/hotcell-sign, or below
    /// $XDG_STATE_HOME/hotcell without root]
    #[arg(long, value_name = "DIR")]
    sign_dir: Option<PathBuf>,
    /// Address for visitors; port 0 chooses one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Address for the operator: metrics and health
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    admin: SocketAddr,
    /// Host name of the service, and name of a new log's key
    #[arg(long, default_value = "localhost")]
    name: String,
    /// Builds at a time [default: one for each 4 GiB of memory, at most one for each processor]
    #[arg(long, value_name = "N")]
    max_builds: Option<usize>,
    /// Disk space for SDKs, caches and binaries in GiB [default: a fifth of the disk]
    #[arg(long, value_name = "GIB")]
    disk: Option<u64>,
    /// Refuse to start when a limit cannot be enforced on this host
    #[arg(long)]
    require_limits: bool,
    /// Serve others than this machine although a defence is missing, named as in the refusal
    #[arg(long, value_name = "NAME")]
    accept_weaker: Vec<String>,
}

/// Where things are after power was given up.
struct Places {
    data: PathBuf,
    keys: PathBuf,
}

impl Serve {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        trace();
        check_name(&self.name)?;
        let local::Chosen { policy, extra } = local::choose_policy(None)?;
        let start = local::fetch_start(network)?;
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let owner = privilege::is_root().then_some(SERVE_ID);
        let own = self.data.join("serve");
        let keys = self.sign_folder()?;
        for (path, owner) in [
            (&self.data, owner.map(|_| 0)),
            (&own, owner),
            (&keys, owner),
        ] {
            roles::prepare(path, owner).map_err(|error| failed(&error))?;
        }
        let public = bind(self.listen)?;
        let admin = bind(self.admin)?;
        raise_open_files().map_err(|error| failed(&error))?;
        // Before any thread exists, and while there is power to give away.
        let roles = roles::start(&self.data, extra, &start).map_err(|error| failed(&error))?;
        let places = if owner.is_some() {
            let (data, keys) =
                roles::enter_own_mounts(&own, &keys).map_err(|error| failed(&error))?;
            Places { data, keys }
        } else {
            Places { data: own, keys }
        };
        privilege::give_up(owner).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
        let Roles {
            supervise,
            fetch,
            children,
        } = roles;
        let (ended, children) = watch(children);
        let result = runtime.block_on(async {
            let engine = local::connect(supervise, fetch, policy.clone()).await?;
            self.check_weaknesses(&engine)?;
            self.serve(engine, policy, &places, public, admin, ended)
                .await
        });
        drop(runtime); // closes both sockets: the roles end, and every cell with them
        for child in children {
            let _reaped = child.join();
        }
        result
    }

    fn sign_folder(&self) -> Result<PathBuf, Stop> {
        match &self.sign_dir {
            Some(path) => Ok(path.clone()),
            None if privilege::is_root() => Ok(PathBuf::from(SIGN_DIR)),
            None => Ok(xdg("XDG_STATE_HOME", ".local/state")?.join("sign")),
        }
    }

    /// A weaker cell is served to others only when somebody has accepted each weakness by name.
    fn check_weaknesses(&self, engine: &Engine) -> Result<(), Stop> {
        let missing = engine.not_in_force();
        if self.require_limits
            && let Some(limit) = missing.iter().find(|m| m.is_limit())
        {
            let text = format!("{} is not in force: {}", limit.what, limit.why);
            return Err(Stop::new(Stop::FAILED, text)
                .hint("use a host with cgroup v2 controllers, or drop --require-limits"));
        }
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        let refused = missing
            .iter()
            .find(|m| !self.accept_weaker.contains(&m.what));
        match refused {
            None => Ok(()),
            Some(weak) => {
                let text = format!(
                    "refusing to listen on {}: `{}` is not in force: {}",
                    self.listen, weak.what, weak.why
                );
                let hint = format!("listen on 127.0.0.1, or --accept-weaker '{}'", weak.what);
                Err(Stop::new(Stop::FAILED, text).hint(hint))
            }
        }
    }

    async fn serve(
        &self,
        engine: Engine,
        policy: EnginePolicy,
        places: &Places,
        public: TcpListener,
        admin: TcpListener,
        ended: tokio::sync::oneshot::Receiver<&'static str>,
    ) -> Result<(), Stop> {
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let database = places.data.join("hotcell.db");
        let config = LogConfig {
            database: database.clone(),
            tiles: places.data.join("tiles"),
        };
        let log = Log::open_local(&config, &places.keys, &self.name).map_err(|e| failed(&e))?;
        let address = public.local_addr().map_err(|error| failed(&error))?;
        let listeners = Listeners {
            public: tokio_listener(public).map_err(|error| failed(&error))?,
            admin: Some(tokio_listener(admin).map_err(|error| failed(&error))?),
        };
        let artifacts = places.data.join("artifacts");
        let config = ServeConfig {
            database,
            artifacts: artifacts.clone(),
            hosts: vec![self.name.clone(), "localhost".to_owned()],
            behind_tls: self.name.contains('.') && address.ip().is_loopback(),
            builds_max: self.max_builds.unwrap_or_else(builds_max).max(1),
            policy_sha256: policy.sha256,
            notes: notes(&engine),
        };
        print(format_args!("{}", log.verifier_key()))?;
        print(format_args!("http://{address}/"))?;
        let bytes_max = match self.disk {
            Some(gib) => gib << 30,
            None => budget::default_bytes(&places.data).map_err(|error| failed(&error))?,
        };
        let keeper = tokio::spawn(keep_budget(engine.clone(), artifacts, bytes_max));
        let mut gone = None;
        let stop = async {
            tokio::select! {
                () = signal() => {}
                role = ended => gone = role.ok(),
            }
        };
        let served = serve::serve(config, Arc::new(engine), Arc::new(log), listeners, stop).await;
        keeper.abort();
        served.map_err(|error| failed(&error))?;
        match gone {
            Some(role) => Err(Stop::new(
                Stop::FAILED,
                format!("role `{role}` ended; the service stops"),
            )),
            None => Ok(()),
        }
    }
}

/// What the home page and health say of this instance.
fn notes(engine: &Engine) -> Vec<String> {
    let weak = engine
        .not_in_force()
        .iter()
        .map(|m| format!("not in force: {}: {}", m.what, m.why));
    let protection = "rollback protection: this disk only".to_owned();
    weak.chain([protection]).collect()
}

fn check_name(name: &str) -> Result<(), Stop> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    if (1..=253).contains(&name.len()) && name.bytes().all(ok) {
        return Ok(());
    }
    Err(Stop::new(Stop::USAGE, "--name is no host name").hint("write it as build.example.org"))
}

fn bind(address: SocketAddr) -> Result<TcpListener, Stop> {
    let bound = TcpListener::bind(address);
    bound.map_err(|error| {
        Stop::new(Stop::USAGE, format!("cannot listen on {address}: {error}"))
            .hint("another service may listen there; choose with --listen and --admin")
    })
}

fn tokio_listener(listener: TcpListener) -> std::io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// A connection, a download and a log entry each need a descriptor: takes all that this process may
/// have (the usual soft limit is 1,024).
fn raise_open_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// One build for each 4 GiB, at most one for each processor.
fn builds_max() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    let builds = memory.map_or(1, |kib| (kib << 10) / BUILD_BYTES);
    usize::try_from(builds).unwrap_or(1).clamp(1, processors)
}

/// Waits for roles in threads of their own and tells the first that ends.
fn watch(
    children: Vec<(&'static str, Child)>,
) -> (
    tokio::sync::oneshot::Receiver<&'static str>,
    Vec<std::thread::JoinHandle<()>>,
) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
    let wait = |(role, mut child): (&'static str, Child)| {
        let sender = Arc::clone(&sender);
        std::thread::spawn(move || {
            let _status = child.wait();
            let first = sender.lock().ok().and_then(|mut sender| sender.take());
            if let Some(first) = first {
                let _stopped_already = first.send(role);
            }
        })
    };
    let threads = children.into_iter().map(wait).collect();
    (receiver, threads)
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Keeps SDKs, caches and binaries within the disk budget.
async fn keep_budget(engine: Engine, artifacts: PathBuf, bytes_max: u64) {
    loop {
        tokio::time::sleep(BUDGET_EVERY).await;
        if let Err(error) = keep_once(&engine, &artifacts, bytes_max).await {
            tracing::warn!(error = %error.text, "cannot keep the disk budget: {}", error.text);
        }
    }
}

async fn keep_once(engine: &Engine, folder: &Path, bytes_max: u64) -> Result<(), Stop> {
    let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
    let items = binaries(folder).map_err(|error| failed(&error))?;
    let gone = budget::enforce(engine, items, bytes_max)
        .await
        .map_err(|error| failed(&error))?;
    for name in gone {
        std::fs::remove_file(folder.join(&name)).map_err(|error| failed(&error))?;
        tracing::info!(artifact = %name, "artifact {name} gave way to newer ones");
    }
    Ok(())
}

/// All binaries and their compressed forms, which lie in folders of two hex digits.
fn binaries(folder: &Path) -> std::io::Result<Vec<lru::Item>> {
    let mut items = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Ok(part) = entry?.file_name().into_string() else {
            continue;
        };
        if part.len() == 2 {
            let files = lru::files(&folder.join(&part))?;
            items.extend(files.into_iter().map(|item| lru::Item {
                name: format!("{part}/{}", item.name),
                ..item
            }));
        }
    }
    Ok(items)
}

/// Text on a terminal, JSON elsewhere; `RUST_LOG` chooses what.
fn trace() {
    use std::io::IsTerminal as _;
    use tracing_subscriber::{EnvFilter, fmt};
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().init();
    }
    say(format_args!("hotcell {}", env!("CARGO_PKG_VERSION")));
}
