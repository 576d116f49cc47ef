//! How a role gives up power for good before it reads a byte from outside.
//!
//! Called by each role's start: first [`give_up`], then [`confine`]. Must never let a role begin
//! its work with more than `policies/roles.toml` gives it: what cannot be taken away is an error.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, PathBeneath, PathFd,
    Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

pub use crate::policy::Role;
use crate::{
    cell,
    policy::{FolderRights, PathRule, RolePolicy},
    sys::seccomp,
};

/// Base of the ids that roles and cells get when hotcell is started as root. Far above what
/// distributions, systemd (61184 to 65519) and subuid ranges use.
pub const IDS_BASE: u32 = 1_900_000_000;

/// Landlock of Linux 5.19, the first that controls moving files; cells need it, too.
const LANDLOCK_REQUIRED: ABI = ABI::V2;
/// What newer kernels can deny beyond it: truncation, TCP, device ioctls, abstract sockets and
/// signals. Where it is missing, it stands in `not_in_force` of the supervisor.
const LANDLOCK_WANTED: ABI = ABI::V6;
/// Longest `/proc/PID/status`; it has about 1,500 bytes.
const STATUS_BYTES_MAX: u64 = 64 * 1024;

/// Why a role cannot be confined. It must end then: it is in an unknown state.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Files and connections cannot be denied.
    #[error("cannot give up files and connections (Landlock ABI 2, Linux 5.19)")]
    Landlock(#[from] RulesetError),
    /// A path of the rules cannot be looked at.
    #[error("cannot open `{}` for the rules on files", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// System calls cannot be denied.
    #[error("cannot give up system calls (seccomp)")]
    Seccomp(#[source] io::Error),
    /// The kernel took everything and says something else when it is asked.
    #[error("not confined: {0}")]
    NotInForce(String),
}

/// Whether this process may choose ids.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Becomes the user `id` without groups, capabilities or a way back; `None` keeps the user.
/// Must be called before any thread exists, as ids and capabilities belong to threads.
///
/// # Errors
/// When the kernel refuses a step; the caller must end then, it is in an unknown state.
pub fn give_up(id: Option<u32>) -> io::Result<()> {
    if let Some(id) = id {
        cell::prepare_powers().map_err(io::Error::other)?; // needs CAP_SETPCAP, so before the ids
        setgroups(&[])?;
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
    }
    cell::drop_powers().map_err(io::Error::other)?;
    prctl::set_dumpable(false)?; // no core file, no debugger, /proc/PID closed to the same user
    Ok(())
}

/// Has the kernel end this process when the one that started it ends. Called after [`give_up`], as
/// a switch of ids makes the kernel forget it.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Gives up every file, connection and system call that the role's rules do not name. `folder` is
/// the role's own; `readable` are files and folders that it may read beside those of its rules, for
/// example certificates that a person chose. Called after [`give_up`], before any thread exists.
///
/// # Errors
/// See [`ConfineError`].
pub fn confine(
    role: Role,
    folder: BorrowedFd<'_>,
    readable: &[PathBuf],
) -> Result<(), ConfineError> {
    let policy = RolePolicy::of(role);
    let programs = policy.programs().map_err(ConfineError::NotInForce)?;
    // Opened now: below the next line nothing outside of the role's folder opens any more.
    let status = File::open("/proc/self/status").map_err(|source| ConfineError::Path {
        path: PathBuf::from("/proc/self/status"),
        source,
    })?;
    restrict_files(&policy, folder, readable)?;
    for (program, logged) in &programs {
        let installed = if logged.0 {
            seccomp::install_logged(program)
        } else {
            seccomp::install(program)
        };
        installed.map_err(ConfineError::Seccomp)?;
    }
    check(status)
}

fn restrict_files(
    policy: &RolePolicy,
    folder: BorrowedFd<'_>,
    readable: &[PathBuf],
) -> Result<(), ConfineError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(LANDLOCK_REQUIRED))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK_WANTED))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(LANDLOCK_WANTED))?;
    if !policy.connect {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    // Executing is never among them.
    let own = cell::file_rights(true, policy.folder == FolderRights::Write);
    let mut created = ruleset.create()?.add_rule(PathBeneath::new(folder, own))?;
    let given = readable.iter().map(|path| PathRule {
        path: path.display().to_string(),
        read: true,
        write: false,
        execute: false,
        optional: true,
    });
    for rule in policy.paths.iter().cloned().chain(given) {
        let path = Path::new(&rule.path);
        let failed = |source| ConfineError::Path {
            path: path.to_owned(),
            source,
        };
        let meta = match std::fs::metadata(path) {
            Err(_) if rule.optional => continue,
            other => other.map_err(failed)?,
        };
        let mut all = cell::file_rights(rule.read, rule.write);
        if !meta.is_dir() {
            all &= AccessFs::from_file(LANDLOCK_WANTED);
        }
        let opened = PathFd::new(path).map_err(|error| failed(io::Error::other(error)))?;
        created = created.add_rule(PathBeneath::new(opened, all))?;
    }
    let status = created.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        let text = "the kernel took the rules on files and does not enforce them";
        return Err(ConfineError::NotInForce(text.to_owned()));
    }
    Ok(())
}

/// Asks the kernel what is in force (proc_pid_status(5)).
fn check(status: File) -> Result<(), ConfineError> {
    let mut text = String::new();
    let read = status.take(STATUS_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| ConfineError::NotInForce(error.to_string()))?;
    for (name, wanted) in [
        ("Threads", "1"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
    ] {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let found = line.map(str::trim).unwrap_or_default();
        if found != wanted {
            let text = format!("`{name}` is `{found}`, not {wanted}");
            return Err(ConfineError::NotInForce(text));
        }
    }
    Ok(())
}
