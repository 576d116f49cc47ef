//! `hotcell serve`: starts the roles, gives up power, opens the log, serves.

mod checks;

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, builder::RangedU64ValueParser};
use hotcell_sandbox::{
    channel::Channel,
    privilege::{self, Role},
};

use super::{
    Network, Stop,
    config::{self, Live, Reading, Words},
    cosign::{self, parse_log},
    disk, host, local, print,
    quorum::{self, Verification},
    rules::RuleArgs,
    say,
    signer::SignDir,
    tls::{Certificate, OwnPair, OwnTls},
    watch::{self, Signals, Watch},
};
use crate::{
    build::{Engine, EnginePolicy, budget},
    log::{Log, LogConfig, sign::SignStart},
    roles::{self, Roles, SERVE_ID},
    serve::{
        self, ServeConfig,
        limits::{blocks::Cidr, budget::Budget},
    },
    tlog::VerifierKey,
    witness::{self, Witness},
};

/// Free bytes of the disk without which no build begins: room for some binaries and for the log,
/// whose appends must not be the first that fail.
const ROOM_MIN: u64 = 256 << 20;

/// How long a start waits for witnesses. Who is silent for longer is told of and asked again.
const WITNESS_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Configuration file; `hotcell config` prints one. Options count instead of its keys
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where everything lies but the signing keys
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(flatten)]
    keys: SignDir,
    /// Address for visitors; port 0 chooses one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Address for the operator: a page on how it stands, metrics, health
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
    admin: SocketAddr,
    /// Host name of the service, and name of a new log's key
    #[arg(long, default_value = "localhost")]
    name: String,
    #[command(flatten)]
    tls: OwnTls,
    /// Builds at a time [default: one for each 4 GiB of memory, at most one for each processor]
    #[arg(
        long,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000)
    )]
    max_builds: Option<usize>,
    /// Disk space for SDKs, caches and binaries in GiB [default: a fifth of the disk]
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    disk: Option<u64>,
    /// A witness of the log, who remembers its heads: its key and its address, as
    /// `NAME+ID+KEY https://…`; may be given again
    #[arg(long, value_name = "WITNESS", value_parser = parse_witness)]
    witness: Vec<Witness>,
    /// Another log whose heads this instance remembers and cosigns, as its verifier key; may be
    /// given again
    #[arg(long, value_name = "VKEY", value_parser = parse_log)]
    witness_log: Vec<VerifierKey>,
    #[command(flatten)]
    verification: Verification,
    #[command(flatten)]
    words: Words,
    #[command(flatten)]
    rules: RuleArgs,
    /// New records in the log in 24 hours; of one module a twentieth of that
    #[arg(long, value_name = "N", default_value_t = Budget::default().all)]
    max_appends: u64,
    /// Addresses of a reverse proxy in front of the service, whose `X-Forwarded-For` is believed:
    /// limits then count for visitors, not for the proxy; may be given again
    #[arg(long, value_name = "CIDR")]
    trusted_proxy: Vec<Cidr>,
    /// Write a line for each request to the trace, with target `access`: method, path without its
    /// query, status, time, User-Agent, and of the client the /24 or /48 only
    #[arg(long)]
    access_log: bool,
    /// Refuse to start when a limit cannot be enforced on this host
    #[arg(long)]
    require_limits: bool,
    /// Serve others than this machine although a defence is missing, named as in the refusal
    #[arg(long, value_name = "NAME")]
    accept_weaker: Vec<String>,
    /// Folder of policies in the place of the built-in ones; only root, or you, may write there
    #[arg(long, value_name = "DIR", conflicts_with = "roles")]
    policies: Option<PathBuf>,
    /// Connect to roles that a service manager starts, by the sockets supervise, fetch and sign in
    /// this folder
    #[arg(long, value_name = "DIR", conflicts_with = "sign_dir")]
    roles: Option<PathBuf>,
}

/// What is there once power was given up.
struct Ready {
    data: PathBuf,
    sign: Channel,
    public: TcpListener,
    admin: TcpListener,
    builds_max: usize,
    reading: Option<Reading>,
    pair: Option<OwnPair>,
    redirect: Option<TcpListener>,
}

impl Serve {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        match &self.config {
            None => self.start(network, None),
            Some(file) => {
                let (merged, network, live) = config::with_file(file)?;
                merged.start(&network, Some(live))
            }
        }
    }

    fn start(self, network: &Network, live: Option<Live>) -> Result<(), Stop> {
        trace();
        if let Some((_, stop)) = self.wrong(network).into_iter().next() {
            return Err(stop);
        }
        let chosen = match &self.policies {
            Some(folder) => local::choose_folder(folder)?,
            None => local::choose_policy(None)?,
        };
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let public = host::bind(self.listen)?;
        let admin = host::bind(self.admin)?;
        let redirect = self.tls.redirect().map(host::bind).transpose()?;
        host::raise_open_files().map_err(|error| failed(&error))?;
        // Before any thread exists, and while there is power to give away and a /proc to read.
        let builds_max = self.max_builds.unwrap_or_else(host::builds_max).max(1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut roles, sign) = self.start_roles(network, &chosen)?;
        let reading = live.map(|live| live.start(&mut roles.children));
        let reading = reading.transpose()?;
        let pair = self.tls.start(&self.name, &mut roles.children)?;
        let data = self.give_up().map_err(|error| failed(&*error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let Roles {
            supervise,
            fetch,
            children,
        } = roles;
        let lines = match self.roles {
            Some(_) => watch::lines([
                ("supervise", &supervise),
                ("fetch", &fetch),
                ("sign", &sign),
            ]),
            None => Ok(Vec::new()),
        };
        let lines = lines.map_err(|error| failed(&error))?;
        let (watch, ended) = Watch::begin(children, lines);
        let ready = Ready {
            data,
            sign,
            public,
            admin,
            builds_max,
            reading,
            pair,
            redirect,
        };
        let result = runtime.block_on(async {
            let engine = local::connect(supervise, fetch, chosen.policy.clone()).await?;
            self.check_weaknesses(engine.not_in_force())?;
            self.serve(engine, chosen.policy, ready, ended).await
        });
        drop(runtime); // closes all sockets: the roles end, and every cell with them
        watch.end();
        result
    }

    /// Starts the roles, or connects to those that somebody else starts.
    fn start_roles(
        &self,
        network: &Network,
        chosen: &local::Chosen,
    ) -> Result<(Roles, Channel), Stop> {
        let mut start = local::fetch_start(network)?;
        start.witnesses = self.witness.iter().map(|one| one.url.to_string()).collect();
        start.verifiers = self.verification.urls();
        start.authority = self.tls.directory();
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let owner = privilege::is_root().then_some(SERVE_ID);
        roles::prepare(&self.data, owner.map(|_| 0)).map_err(|error| failed(&error))?;
        roles::prepare_own(&self.own(), owner).map_err(|error| failed(&error))?;
        if let Some(folder) = &self.roles {
            return roles::connect(folder, &start).map_err(|error| failed(&*error));
        }
        let keys = self.keys.outside(&self.data)?;
        let mut roles =
            roles::start(&self.data, &chosen.extra, &start).map_err(|error| failed(&error))?;
        let sign = roles::start_sign(&keys, &SignStart::default(), &mut roles.children);
        let sign = sign.map_err(|error| failed(&error))?;
        Ok((roles, sign))
    }

    fn own(&self) -> PathBuf {
        self.data.join(LogConfig::FOLDER)
    }

    /// Keeps the data folder and the sockets, gives up everything else; tells where it is now.
    fn give_up(&self) -> Result<PathBuf, Box<dyn std::error::Error>> {
        let owner = privilege::is_root().then_some(SERVE_ID);
        let data = match owner {
            Some(_) => roles::enter_own_mounts(&self.own())?,
            None => self.own(),
        };
        privilege::give_up(owner)?;
        let folder = File::open(&data)?;
        privilege::confine(Role::Serve, folder.as_fd(), &[])?;
        Ok(data)
    }

    /// Asks the witnesses what they have seen of this log, before it can get an entry.
    async fn compare(&self, log: &Log, engine: &Engine) -> Arc<witness::Client> {
        let carrier = Box::new(Arc::clone(engine.fetch()));
        let client = witness::Client::new(log.clone(), self.witness.clone(), carrier);
        let client = Arc::new(client);
        client.compare(WITNESS_PATIENCE).await;
        client
    }

    async fn serve(
        &self,
        engine: Engine,
        policy: EnginePolicy,
        ready: Ready,
        ended: tokio::sync::oneshot::Receiver<&'static str>,
    ) -> Result<(), Stop> {
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let mut signals = Signals::take().map_err(|error| failed(&error))?;
        let config = LogConfig::of(&ready.data);
        let signer = Log::connect(&config, ready.sign, &self.name).map_err(|e| failed(&e))?;
        let log = Log::open(&config, signer.clone().map(|one| one as _)).map_err(|e| failed(&e))?;
        let own_key = log.statement_key();
        let quorum = Arc::new(self.verification.quorum(&engine, own_key, &ready.data)?);
        let witness = cosign::Witness::open(&self.witness_log, signer)?;
        let certificate = (self.tls).keep(ready.pair, &self.name, &ready.data, engine.fetch())?;
        let tls = certificate.as_ref().map(Certificate::tls);
        let comparing = self.compare(&log, &engine);
        let client = cosign::answering(witness.as_ref(), &ready.public, tls.clone(), comparing);
        let client = client.await?;
        let address = ready.public.local_addr().map_err(|error| failed(&error))?;
        let reach = host::Reach::of(&self.name, address, tls.is_some());
        let admin = ready.admin.local_addr().map_err(|error| failed(&error))?;
        let redirect = ready.redirect.map(|one| (one, reach.url.clone()));
        let listeners = host::listeners(ready.public, ready.admin, redirect);
        let listeners = listeners.map_err(|error| failed(&error))?;
        let artifacts = ready.data.join("artifacts");
        let is_proxy_unknown = reach.by_proxy && self.trusted_proxy.is_empty();
        let config = ServeConfig {
            database: config.database,
            artifacts: artifacts.clone(),
            room_min: ROOM_MIN,
            hosts: vec![self.name.clone(), "localhost".to_owned()],
            behind_tls: reach.by_proxy || tls.is_some(),
            tls,
            builds_max: ready.builds_max,
            policy_sha256: policy.sha256,
            notes: notes(&engine, &log, is_proxy_unknown),
            told: watch::hear(self.told(), ready.reading, certificate, &mut signals)?,
            witnesses: client.board(),
            cosigning: witness.as_ref().map(|one| Arc::clone(&one.cosigning)),
            quorum,
            budget: self.budget(),
            trusted_proxies: self.trusted_proxy.clone(),
            access_log: self.access_log,
        };
        let key = log.verifier_key().to_string();
        let opened = serve::Service::open(config, Arc::new(engine.clone()), Arc::new(log)).await;
        let service = opened.map_err(|error| failed(&error))?;
        // Only now it is ready: what a crash left is swept, and every answer can be given.
        let url = format!("{}/", reach.url);
        say(format_args!("the operator's page is http://{admin}/"));
        own_key.inspect(|key| say(quorum::offer(&self.name, key, &url)));
        print(key)?;
        print(url)?;
        if let Some(witness) = &witness {
            witness.announce(&reach.announced)?;
        }
        let bytes_max = self.disk_bytes(&ready.data)?;
        let (stop_witnesses, stopped) = tokio::sync::watch::channel(false);
        let witnesses = tokio::spawn(client.run(stopped));
        let keeper = tokio::spawn(disk::keep_budget(engine, artifacts, bytes_max));
        let mut gone = None;
        let stop = async { gone = signals.or_end_of_role(ended).await };
        service.run(listeners, stop).await;
        keeper.abort();
        stop_witnesses.send_replace(true);
        let _ended = witnesses.await; // it holds the log, whose last holder ends the appender
        watch::without(gone)
    }

    /// How much the log may grow in a day.
    fn budget(&self) -> Budget {
        let (all, module) = (self.max_appends, (self.max_appends / 20).max(1));
        Budget { all, module }
    }

    /// Disk space that may be used.
    fn disk_bytes(&self, data: &Path) -> Result<u64, Stop> {
        match self.disk {
            Some(gib) => Ok(gib << 30),
            None => budget::default_bytes(data).map_err(|e| Stop::chain(Stop::FAILED, &e)),
        }
    }
}

/// What the home page and health say of this instance.
fn notes(engine: &Engine, log: &Log, is_proxy_unknown: bool) -> Vec<String> {
    let weak = engine.not_in_force().iter();
    let weak = weak.map(|m| format!("not in force: {}: {}", m.what, m.why));
    let follows = log.follows().map(|follows| {
        let (old, size) = (&follows.log, follows.tree.size);
        format!("log: it follows {old}, which has ended at {size} records")
    });
    let all_one = is_proxy_unknown.then(|| {
        "limits: all visitors count as one, until --trusted-proxy names the proxy in front"
            .to_owned()
    });
    follows.into_iter().chain(weak).chain(all_one).collect()
}

fn parse_witness(text: &str) -> Result<Witness, String> {
    Witness::parse(text).map_err(|error| error.to_string())
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
