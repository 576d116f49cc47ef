//! How the roles of this program are started: re-executions of itself, each with one socket.
//!
//! The first message on a role's socket has the version of all messages
//! ([`hotcell_sandbox::wire::VERSION`]) and tells the role how to run. It travels there and not in
//! arguments or environment, because a proxy's address may hold a password and both can be read in
//! `/proc`. A relay has no first message: its starter is the same file, by `/proc/self/exe`, and
//! both its peers have said their version to others by then.
//!
//! | socket | messages | maximum of one | descriptors |
//! |---|---|---|---|
//! | `serve` – `supervise` | [`hotcell_sandbox::wire`] | 64 KiB | 4 |
//! | `serve` – `fetch` | [`crate::fetch::wire`] | 64 KiB | 4 |
//! | `serve` – `sign` | [`crate::log::sign`] | 64 KiB; a statement, in parts, 12 MiB | none is used |
//! | `serve` – `config` | a question and the text of the configuration | 64 KiB | none is used |
//! | `serve` – `certificate` | a question and the text of certificate and key | 64 KiB | none is used |
//! | `relay` – `fetch` | [`crate::fetch::wire`] | 64 KiB | 4 |
//! | `relay` – `serve` | [`crate::relay::wire`] | 64 KiB | 4 |
//! | `supervise` – the cell's init | bytes and texts, before exec only | 64 KiB | 4 |
//!
//! What is longer, has more descriptors or does not parse ends the connection.

mod certificate;
mod folders;
mod given;
mod reread;
mod socket;

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use hotcell_sandbox::{
    channel::{Channel, ChannelError},
    policy::{self, Policy},
    privilege::{self, IDS_BASE, Role},
    supervisor::{self, SupervisorConfig},
};
use serde::{Deserialize, Serialize};

pub use certificate::{PairAnswer, PairFiles, PairText, read_pair, start_certificate};
pub use folders::{enter_own_mounts, prepare, prepare_own};
pub use reread::{CONFIG_BYTES_MAX, Text, read_again, read_config, start_config};
pub use socket::{Line, SocketError, connect_to};

use given::Given;

use crate::log::sign::{SignStart, role as signing};

/// First argument of a re-execution; hidden from people.
pub const ARGUMENT: &str = "role";

/// Id of `serve` when started as root.
pub const SERVE_ID: u32 = IDS_BASE;
/// Id of `fetch` when started as root.
pub const FETCH_ID: u32 = IDS_BASE + 1;
/// Id of `sign` when started as root.
pub const SIGN_ID: u32 = IDS_BASE + 2;

/// One cell's files may fill this part of the machine's memory.
const SCRATCH_PART: u64 = 4;

/// What the environment of `fetch` may hold: where its TLS roots and its way out are.
const FETCH_ENVIRONMENT: [&str; 8] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Why a role did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A folder could not be made or handed over.
    #[error("cannot prepare folder `{}`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The program could not start itself.
    #[error("cannot start role `{role}`")]
    Start {
        /// Which.
        role: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The role ended before it listened.
    #[error("role `{role}` ended at once")]
    Gone {
        /// Which.
        role: &'static str,
        /// Why.
        source: ChannelError,
    },
}

/// First message to `fetch`.
#[derive(Debug, Serialize, Deserialize)]
pub struct FetchStart {
    /// `GOPROXY`, already looked up.
    pub goproxy: String,
    /// Verifier key of the checksum database, when it is not the public one.
    pub sumdb: Option<String>,
    /// Addresses of the log's witnesses: with proxies, verifiers and authority all that is asked.
    pub witnesses: Vec<String>,
    /// Addresses of those who verify its builds.
    pub verifiers: Vec<String>,
    /// The directory of the authority of its certificate.
    pub authority: Option<String>,
}

/// First message to `supervise`, from whoever started the program; a `serve` that did not start the
/// supervisor itself can choose nothing here.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SuperviseStart {
    /// Policies by name, beside the built-in ones: of the person who started it.
    pub policies: Vec<(String, String)>,
    /// A folder of policies in the place of the built-in ones; absolute.
    pub folder: Option<PathBuf>,
}

/// Roles that live as long as their asker.
#[derive(Debug)]
pub struct Roles {
    /// Socket to `supervise`.
    pub supervise: Channel,
    /// Socket to `fetch`.
    pub fetch: Channel,
    /// The processes; they end when their socket closes.
    pub children: Vec<(&'static str, Child)>,
}

/// Prepares the folders below `data` and starts `supervise` and `fetch`.
/// Must be called before any thread exists and before power is given up.
///
/// # Errors
/// See [`StartError`].
pub fn start(
    data: &Path,
    supervising: &SuperviseStart,
    fetching: &FetchStart,
) -> Result<Roles, StartError> {
    let own = privilege::is_root().then_some(0);
    let fetcher = privilege::is_root().then_some(FETCH_ID);
    let (store, cache) = (data.join("store"), data.join("fetch"));
    prepare_own(&store, own)?;
    prepare_own(&cache, fetcher)?;
    let mut children = Vec::new();
    let supervise = launch("supervise", &store, &[], &mut children)?;
    say("supervise", &supervise, supervising)?;
    let fetch = launch("fetch", &cache, &FETCH_ENVIRONMENT, &mut children)?;
    say("fetch", &fetch, fetching)?;
    Ok(Roles {
        supervise,
        fetch,
        children,
    })
}

/// Starts `sign` in its folder, which becomes its own, and adds it to the children. Called as
/// [`start`] is.
///
/// # Errors
/// See [`StartError`].
pub fn start_sign(
    folder: &Path,
    start: &SignStart,
    children: &mut Vec<(&'static str, Child)>,
) -> Result<Channel, StartError> {
    let signer = privilege::is_root().then_some(SIGN_ID);
    prepare_own(folder, signer)?;
    let sign = launch("sign", folder, &[], children)?;
    say("sign", &sign, start)?;
    Ok(sign)
}

/// Connects to roles that a service manager starts, by their sockets in `folder`.
///
/// # Errors
/// See [`SocketError`] and [`StartError::Gone`].
pub fn connect(
    folder: &Path,
    fetching: &FetchStart,
) -> Result<(Roles, Channel), Box<dyn std::error::Error>> {
    let (supervise, fetch, sign) = (
        connect_to(folder, "supervise")?,
        connect_to(folder, "fetch")?,
        connect_to(folder, "sign")?,
    );
    say("supervise", &supervise, &SuperviseStart::default())?;
    say("fetch", &fetch, fetching)?;
    say("sign", &sign, &SignStart::default())?;
    let roles = Roles {
        supervise,
        fetch,
        children: Vec::new(),
    };
    Ok((roles, sign))
}

fn say<T: Serialize>(role: &'static str, channel: &Channel, text: &T) -> Result<(), StartError> {
    channel
        .send_start(text)
        .map_err(|source| StartError::Gone { role, source })
}

/// Starts one role with its folder as current folder and its socket as standard input.
fn launch(
    role: &'static str,
    folder: &Path,
    environment: &[&str],
    children: &mut Vec<(&'static str, Child)>,
) -> Result<Channel, StartError> {
    let failed = |source| StartError::Start { role, source };
    let (ours, theirs) = Channel::pair().map_err(failed)?;
    let kept = environment
        .iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)));
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where roles are started"
    )]
    let child = Command::new("/proc/self/exe")
        .args([ARGUMENT, role])
        .env_clear()
        .envs(kept)
        .current_dir(folder)
        .process_group(0) // Ctrl-C is for the parent, which ends its roles in order
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)?;
    children.push((role, child));
    Ok(ours)
}

/// Runs a role in this process. Called first thing, before any thread exists.
///
/// With the word `--activated` the role takes its socket from a service manager; `supervise` then
/// takes `--policies DIR`, too.
#[must_use]
pub fn run(role: Option<&str>, arguments: &[String]) -> ExitCode {
    let result = Given::parse(arguments).and_then(|given| match role {
        Some("supervise") => supervise(&given),
        Some("fetch") => fetch(&given),
        Some("sign") => sign(&given),
        Some("config") => reread::run(&given),
        Some("certificate") => certificate::run(&given),
        Some("relay") => relay(),
        _ => Err("roles are started by hotcell itself, or by a service manager".into()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(role.unwrap_or_default(), &*error);
            ExitCode::FAILURE
        }
    }
}

fn report(role: &str, error: &dyn std::error::Error) {
    let mut text = format!("hotcell {role}: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    #[expect(
        clippy::print_stderr,
        reason = "a role has no other way to say why it ends"
    )]
    {
        eprintln!("{text}");
    }
}

type RoleResult = Result<(), Box<dyn std::error::Error>>;

fn supervise(given: &Given) -> RoleResult {
    let control = given.control("supervise")?;
    let Some(start) = control.receive_start::<SuperviseStart>()? else {
        return Ok(());
    };
    let policies = match (&given.policies, &start.folder) {
        _ if given.activated && (start.folder.is_some() || !start.policies.is_empty()) => {
            return Err("policies come from the supervisor's own unit, never from `serve`".into());
        }
        (Some(folder), _) | (None, Some(folder)) => policy::folder(folder)?,
        (None, None) => policy::builtin(),
    };
    let mut policies = policies;
    for (name, text) in &start.policies {
        policies.push(Policy::parse(name, text)?);
    }
    let config = SupervisorConfig {
        store: fs::File::open(".")?.into(),
        policies,
        ids_base: IDS_BASE,
        cells_max: supervisor::CELLS_MAX,
        scratch_bytes_max: memory_bytes()? / SCRATCH_PART,
    };
    supervisor::run(control, config)?;
    Ok(())
}

/// Memory of this machine (proc(5), `/proc/meminfo`).
fn memory_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.map(|kib| kib << 10)
        .ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

fn fetch(given: &Given) -> RoleResult {
    let control = given.control("fetch")?;
    let Some(start) = control.receive_start::<FetchStart>()? else {
        return Ok(());
    };
    privilege::give_up(privilege::is_root().then_some(FETCH_ID))?;
    given.die_with_parent()?;
    let here = socket::here()?;
    privilege::confine(Role::Fetch, here.as_fd(), &certificates())?;
    // The current folder is ours, whatever the modes of the folders above it.
    let config = crate::fetch::FetchConfig {
        folder: PathBuf::from("."),
        goproxy: start.goproxy,
        sumdb: start.sumdb,
        witnesses: start.witnesses,
        verifiers: start.verifiers,
        authority: start.authority,
    };
    crate::fetch::run(control, config)?;
    Ok(())
}

/// Certificates of authorities that the person who started us has chosen.
fn certificates() -> Vec<PathBuf> {
    let names = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
    let values = names.iter().filter_map(std::env::var_os);
    values
        .flat_map(|value| std::env::split_paths(&value).collect::<Vec<_>>())
        .collect()
}

fn sign(given: &Given) -> RoleResult {
    let control = given.control("sign")?;
    let Some(start) = control.receive_start::<SignStart>()? else {
        return Ok(());
    };
    if given.activated && start.operator {
        return Err("a role that `serve` reaches is never its operator's".into());
    }
    if privilege::is_root() {
        folders::take_over(Path::new("."), 2, &mut 0)?;
    }
    privilege::give_up(privilege::is_root().then_some(SIGN_ID))?;
    given.die_with_parent()?;
    let here = socket::here()?;
    privilege::confine(Role::Sign, here.as_fd(), &[])?;
    signing::run(&control, Path::new("."), &start)?;
    Ok(())
}

fn relay() -> RoleResult {
    crate::relay::run()?;
    Ok(())
}
