//! `hotcell serve`: starts the roles, gives up power, opens the log, serves.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use hotcell_sandbox::{
    channel::Channel,
    privilege::{self, Role},
    wire::NotInForce,
};

use super::{
    Network, Stop,
    cosign::{self, parse_log},
    disk, host, local, print,
    quorum::{self, Verification},
    say,
    signer::{SignDir, check_name},
    watch::{self, Signals, Watch},
};
use crate::{
    build::{Engine, EnginePolicy, budget},
    log::{Log, LogConfig, sign::SignStart},
    roles::{self, Roles, SERVE_ID},
    serve::{self, ServeConfig},
    tlog::{VerifierKey, witness::WITNESSES_MAX},
    witness::{self, Witness},
};

/// Free bytes of the disk without which no build begins: room for some binaries and for the log,
/// whose appends must not be the first that fail.
const ROOM_MIN: u64 = 256 << 20;

/// How long a start waits for witnesses. Who is silent for longer is told of and asked again.
const WITNESS_PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where everything lies but the signing keys
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(flatten)]
    keys: SignDir,
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
}

impl Serve {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        trace();
        check_name(&self.name)?;
        check_witnesses(&self.witness)?;
        self.verification.check()?;
        let chosen = match &self.policies {
            Some(folder) => local::choose_folder(folder)?,
            None => local::choose_policy(None)?,
        };
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let public = host::bind(self.listen)?;
        let admin = host::bind(self.admin)?;
        host::raise_open_files().map_err(|error| failed(&error))?;
        // Before any thread exists, and while there is power to give away and a /proc to read.
        let builds_max = self.max_builds.unwrap_or_else(host::builds_max).max(1);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (roles, sign) = self.start_roles(network, &chosen)?;
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

    /// A weaker cell is served to others only when somebody has accepted each weakness by name.
    fn check_weaknesses(&self, missing: &[NotInForce]) -> Result<(), Stop> {
        if self.require_limits
            && let Some(limit) = missing.iter().find(|m| m.is_limit())
        {
            let text = format!("{} is not in force: {}", limit.what, limit.why);
            return Err(Stop::new(Stop::FAILED, text)
                .hint("use a host with cgroup v2 controllers, or drop --require-limits"));
        }
        let others = [self.listen, self.admin]
            .into_iter()
            .find(|address| !address.ip().is_loopback());
        let refused: Vec<&NotInForce> = missing
            .iter()
            .filter(|m| !self.accept_weaker.contains(&m.what))
            .collect();
        let (Some(address), Some(weak)) = (others, refused.first()) else {
            return Ok(());
        };
        let text = format!(
            "refusing to listen on {address}: `{}` is not in force: {}",
            weak.what, weak.why
        );
        let accepted: Vec<String> = refused
            .iter()
            .map(|m| format!("--accept-weaker '{}'", m.what))
            .collect();
        let hint = format!("listen on 127.0.0.1, or {}", accepted.join(" "));
        Err(Stop::new(Stop::FAILED, text).hint(hint))
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
        let database = config.database.clone();
        let signer = Log::connect(&config, ready.sign, &self.name).map_err(|e| failed(&e))?;
        let log = Log::open(&config, signer.clone().map(|one| one as _)).map_err(|e| failed(&e))?;
        let own_key = log.statement_key();
        let quorum = Arc::new(self.verification.quorum(&engine, own_key, &ready.data)?);
        let witness = cosign::Witness::open(&self.witness_log, signer)?;
        let comparing = self.compare(&log, &engine);
        let client = cosign::answering(witness.as_ref(), &ready.public, comparing).await?;
        let address = ready.public.local_addr().map_err(|error| failed(&error))?;
        let listeners = host::listeners(ready.public, ready.admin);
        let listeners = listeners.map_err(|error| failed(&error))?;
        let artifacts = ready.data.join("artifacts");
        let behind_tls = self.name.contains('.') && address.ip().is_loopback();
        let config = ServeConfig {
            database,
            artifacts: artifacts.clone(),
            room_min: ROOM_MIN,
            hosts: vec![self.name.clone(), "localhost".to_owned()],
            behind_tls,
            builds_max: ready.builds_max,
            policy_sha256: policy.sha256,
            notes: notes(&engine, &log),
            witnesses: client.board(),
            cosigning: witness.as_ref().map(|one| Arc::clone(&one.cosigning)),
            quorum,
        };
        let key = log.verifier_key().to_string();
        let opened = serve::Service::open(config, Arc::new(engine.clone()), Arc::new(log)).await;
        let service = opened.map_err(|error| failed(&error))?;
        // Only now it is ready: what a crash left is swept, and every answer can be given.
        let url = format!("http://{address}/");
        own_key.inspect(|key| say(quorum::offer(&self.name, key, &url)));
        print(key)?;
        print(url)?;
        if let Some(witness) = &witness {
            witness.announce(behind_tls.then_some(&*self.name), address)?;
        }
        let bytes_max = self.disk_bytes(&ready.data)?;
        let (stop_witnesses, stopped) = tokio::sync::watch::channel(false);
        let witnesses = tokio::spawn(client.run(stopped));
        let keeper = tokio::spawn(disk::keep_budget(engine, artifacts, bytes_max));
        let mut gone = None;
        let stop = async {
            tokio::select! {
                () = signals.wait() => {}
                role = ended => gone = role.ok(),
            }
        };
        service.run(listeners, stop).await;
        keeper.abort();
        stop_witnesses.send_replace(true);
        let _ended = witnesses.await; // it holds the log, whose last holder ends the appender
        match gone {
            Some(role) => {
                let text = format!("role `{role}` ended; the service stops");
                Err(Stop::new(Stop::FAILED, text))
            }
            None => Ok(()),
        }
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
fn notes(engine: &Engine, log: &Log) -> Vec<String> {
    let weak = engine.not_in_force().iter();
    let weak = weak.map(|m| format!("not in force: {}: {}", m.what, m.why));
    let follows = log.follows().map(|follows| {
        let (old, size) = (&follows.log, follows.tree.size);
        format!("log: it follows {old}, which has ended at {size} records")
    });
    follows.into_iter().chain(weak).collect()
}

/// Few, and none twice: two lines of one key say no more than one.
fn check_witnesses(witnesses: &[Witness]) -> Result<(), Stop> {
    let mut keys: Vec<String> = witnesses.iter().map(|one| one.key.to_string()).collect();
    keys.sort();
    keys.dedup();
    if keys.len() == witnesses.len() && keys.len() <= WITNESSES_MAX {
        return Ok(());
    }
    let text = format!("--witness takes {WITNESSES_MAX} witnesses at most, each of them once");
    Err(Stop::new(Stop::USAGE, text))
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    fn missing(names: &[&str]) -> Vec<NotInForce> {
        let one = |name: &&str| NotInForce {
            what: (*name).to_owned(),
            why: "of this host".to_owned(),
        };
        names.iter().map(one).collect()
    }

    fn check(arguments: &[&str], names: &[&str]) -> Result<(), Stop> {
        let line = Line::parse_from([&["serve"], arguments].concat());
        line.serve.check_weaknesses(&missing(names))
    }

    #[test]
    fn others_are_served_only_when_each_weakness_is_accepted_by_its_name() {
        let weak = ["separate user", "memory limit"];
        let others = ["--listen", "192.0.2.1:80"];
        check(&[], &weak).unwrap();
        check(&others, &[]).unwrap();
        for accepted in [
            &[][..],
            &["--accept-weaker", "memory limit"],
            &["--accept-weaker", "separate user"],
            &["--accept-weaker", "memory"],
            &["--accept-weaker", "separate user,memory limit"],
        ] {
            let refused = check(&[&others, accepted].concat(), &weak).unwrap_err();
            assert_eq!(refused.code, Stop::FAILED, "{accepted:?}");
        }
        let both = ["--accept-weaker", weak[0], "--accept-weaker", weak[1]];
        check(&[&others[..], &both].concat(), &weak).unwrap();
        check(
            &[&others[..], &both].concat(),
            &["separate user", "new defence"],
        )
        .unwrap_err();
        let refused = check(&others, &weak).unwrap_err();
        let hint = refused.hint.unwrap();
        for name in weak {
            assert!(
                hint.contains(&format!("--accept-weaker '{name}'")),
                "{hint}"
            );
        }
    }

    #[test]
    fn all_addresses_count_and_the_operators_too() {
        for address in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
            for option in ["--listen", "--admin"] {
                check(&[option, address], &["memory limit"]).unwrap_err();
            }
        }
        check(
            &["--listen", "[::1]:1", "--admin", "127.9.9.9:1"],
            &["memory limit"],
        )
        .unwrap();
    }

    #[test]
    fn a_witness_is_named_once_and_there_are_few() {
        let witness = |seed| {
            let signer = crate::tlog::WitnessSigner::from_seed("w.example/1", &[seed; 32]).unwrap();
            let text = format!("{} https://w.example/", signer.public());
            Line::parse_from(["serve", "--witness", &text])
                .serve
                .witness
        };
        let many = |count| (0..count).flat_map(witness).collect::<Vec<_>>();
        let most = u8::try_from(WITNESSES_MAX).unwrap();
        check_witnesses(&[]).unwrap();
        check_witnesses(&many(most)).unwrap();
        assert_eq!(
            check_witnesses(&many(most + 1)).unwrap_err().code,
            Stop::USAGE
        );
        let twice = [witness(1), witness(1)].concat();
        assert_eq!(check_witnesses(&twice).unwrap_err().code, Stop::USAGE);
        let line = ["serve", "--witness", "nobody"];
        assert!(Line::try_parse_from(line).is_err());
    }

    #[test]
    fn required_limits_are_required_on_loopback_too() {
        check(&["--require-limits"], &["separate user"]).unwrap();
        let accepted = ["--require-limits", "--accept-weaker", "memory limit"];
        check(&accepted, &["memory limit"]).unwrap_err();
    }
}
