//! How the roles of this program are started: re-executions of itself, each with one socket.
//!
//! The first message on a role's socket tells it how to run. It travels there and not in arguments
//! or environment, because a proxy's address may hold a password and both can be read in `/proc`.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, chown},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use hotcell_sandbox::{
    channel::{Channel, ChannelError},
    policy::{self, Policy},
    privilege::{self, IDS_BASE},
    supervisor::{self, SupervisorConfig},
};
use serde::{Deserialize, Serialize};

/// First argument of a re-execution; hidden from people.
pub const ARGUMENT: &str = "role";

/// Id of `serve` when started as root.
pub const SERVE_ID: u32 = IDS_BASE;
/// Id of `fetch` when started as root.
pub const FETCH_ID: u32 = IDS_BASE + 1;

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
}

/// First message to `supervise`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SuperviseStart {
    /// Policies by name, beside the built-in ones: of the person who started it.
    pub policies: Vec<(String, String)>,
}

/// Both roles that live as long as their parent.
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
    policies: Vec<(String, String)>,
    fetching: &FetchStart,
) -> Result<Roles, StartError> {
    let own = privilege::is_root().then_some(0);
    let fetcher = privilege::is_root().then_some(FETCH_ID);
    let (store, cache) = (data.join("store"), data.join("fetch"));
    prepare(&store, own)?;
    prepare(&cache, fetcher)?;
    let mut children = Vec::new();
    let supervise = launch("supervise", &store, &[], &mut children)?;
    say("supervise", &supervise, &SuperviseStart { policies })?;
    let fetch = launch("fetch", &cache, &FETCH_ENVIRONMENT, &mut children)?;
    say("fetch", &fetch, fetching)?;
    Ok(Roles {
        supervise,
        fetch,
        children,
    })
}

/// Makes a folder that only `owner` can enter.
///
/// # Errors
/// When it cannot be made, or given to its owner.
pub fn prepare(path: &Path, owner: Option<u32>) -> Result<(), StartError> {
    let folder = |source| StartError::Folder {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(folder)?;
    if owner.is_some() {
        chown(path, owner, owner).map_err(folder)?;
    }
    Ok(())
}

/// Enters a mount namespace of its own in which `data` and `keys` can be reached whatever the modes
/// of the folders above them, and returns their new paths. Needs root; called before any thread
/// exists and before power is given up. `/tmp` is private from here on.
///
/// # Errors
/// When the kernel refuses a step.
pub fn enter_own_mounts(data: &Path, keys: &Path) -> io::Result<(PathBuf, PathBuf)> {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    use std::os::fd::AsRawFd as _;
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    // Opened before /tmp is covered, as they may lie in it.
    let sources = [fs::File::open(data)?, fs::File::open(keys)?];
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("tmpfs"),
        "/tmp",
        Some("tmpfs"),
        flags,
        Some("mode=1777,size=64m"),
    )?;
    let targets = [
        PathBuf::from("/tmp/hotcell-data"),
        PathBuf::from("/tmp/hotcell-sign"),
    ];
    for (source, target) in sources.iter().zip(&targets) {
        fs::create_dir(target)?;
        let source = format!("/proc/self/fd/{}", source.as_raw_fd());
        mount(Some(source.as_str()), target, NONE, MsFlags::MS_BIND, NONE)?;
    }
    let [data, keys] = targets;
    std::env::set_current_dir(&data)?;
    Ok((data, keys))
}

fn say<T: Serialize>(role: &'static str, channel: &Channel, text: &T) -> Result<(), StartError> {
    channel
        .send(text, &[])
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
#[must_use]
pub fn run(role: Option<&str>) -> ExitCode {
    let result = match role {
        Some("supervise") => supervise(),
        Some("fetch") => fetch(),
        Some("relay") => relay(),
        _ => Err("roles are started by hotcell itself".into()),
    };
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

/// Takes the socket from standard input and leaves `/dev/null` there.
fn control() -> io::Result<Channel> {
    use std::os::fd::AsFd as _;
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(Channel::from(socket))
}

type RoleResult = Result<(), Box<dyn std::error::Error>>;

fn supervise() -> RoleResult {
    let control = control()?;
    let Some((start, _)) = control.receive::<SuperviseStart>()? else {
        return Ok(());
    };
    let mut policies = policy::builtin();
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

fn fetch() -> RoleResult {
    let control = control()?;
    let Some((start, _)) = control.receive::<FetchStart>()? else {
        return Ok(());
    };
    privilege::give_up(privilege::is_root().then_some(FETCH_ID))?;
    privilege::die_with_parent()?;
    // The current folder is ours, whatever the modes of the folders above it.
    let config = crate::fetch::FetchConfig {
        folder: PathBuf::from("."),
        goproxy: start.goproxy,
        sumdb: start.sumdb,
    };
    crate::fetch::run(control, config)?;
    Ok(())
}

fn relay() -> RoleResult {
    crate::relay::run()?;
    Ok(())
}
