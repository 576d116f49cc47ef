//! The cell's first process: it makes the cell around itself, gives up all power, becomes the job.
//!
//! Started by the supervisor with `clone3` in new namespaces; single-threaded, and it never
//! returns. It must never read a byte that the job, a module or a visitor made: everything it needs
//! is in its [`Plan`], which the supervisor wrote before the process existed.

mod descriptors;
mod ids;
mod landlock;
mod limits;
mod mounts;
mod network;
pub(crate) mod place;
mod powers;
mod probes;
mod seccomp;
pub(crate) mod talk;

use std::{convert::Infallible, fmt, os::fd::OwnedFd, rc::Rc, time::Instant};

use nix::sched::CpuSet;

use crate::{
    policy::Policy,
    sys::process::{self, Exec},
};
pub(crate) use descriptors::TALK;
pub(crate) use landlock::{file_rights, kernel_abi as landlock_abi, missing as landlock_missing};
pub(crate) use limits::CORE_BYTES;
pub(crate) use mounts::{PROGRAM_BYTES_MAX, attributes};
pub(crate) use powers::{drop_powers, keep_file_powers, prepare as prepare_powers};
use talk::{Dropped, Talk};

/// Everything that makes one cell.
pub(crate) struct Plan {
    pub(crate) policy: Rc<Policy>,
    /// The SDK as a detached mount.
    pub(crate) sdk: OwnedFd,
    /// A go command to lie over the SDK's own, as a detached mount.
    pub(crate) command: Option<OwnedFd>,
    /// Files to be written below the home: path and content.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// The frozen standard library as a detached mount.
    pub(crate) frozen: Option<OwnedFd>,
    /// `/dev/null` as a detached mount.
    pub(crate) null: OwnedFd,
    /// A program to run in the place of the go command.
    pub(crate) program: Option<OwnedFd>,
    /// Receives what the job prints.
    pub(crate) output: OwnedFd,
    /// What is executed at the end.
    pub(crate) exec: Exec,
    /// Size of the scratch file system, at most the policy's.
    pub(crate) scratch_bytes: u64,
    /// Where it runs; no call that the job may make changes it.
    pub(crate) processors: CpuSet,
    /// Whether supplementary groups can be dropped; rootless they cannot.
    pub(crate) drop_groups: bool,
    /// For the build cache's time stamp, in seconds since 1970.
    pub(crate) now_s: u64,
}

/// Steps of the set-up, for reports and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Wait,
    Session,
    Ids,
    Keyrings,
    Nesting,
    Network,
    Root,
    Places,
    Names,
    Seal,
    Relay,
    Limits,
    Powers,
    NoNewPrivileges,
    Landlock,
    Probes,
    Descriptors,
    Seccomp,
    Exec,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "wait",
            Self::Session => "session",
            Self::Ids => "ids",
            Self::Keyrings => "keyrings",
            Self::Nesting => "nesting",
            Self::Network => "network",
            Self::Root => "root",
            Self::Places => "places",
            Self::Names => "names",
            Self::Seal => "seal",
            Self::Relay => "relay",
            Self::Limits => "limits",
            Self::Powers => "powers",
            Self::NoNewPrivileges => "no_new_privs",
            Self::Landlock => "landlock",
            Self::Probes => "probes",
            Self::Descriptors => "descriptors",
            Self::Seccomp => "seccomp",
            Self::Exec => "exec",
        })
    }
}

/// A step that failed; the job never runs.
#[derive(Debug)]
pub(crate) struct StepError {
    pub(crate) step: Step,
    pub(crate) error: String,
}

/// Counts the time of each step.
struct Steps {
    last: Instant,
    micros: Vec<(String, u64)>,
}

impl Steps {
    fn begin() -> Self {
        Self {
            last: Instant::now(),
            micros: Vec::new(),
        }
    }

    fn done<T, E: fmt::Display>(
        &mut self,
        step: Step,
        result: Result<T, E>,
    ) -> Result<T, StepError> {
        let now = Instant::now();
        let micros = u64::try_from((now - self.last).as_micros()).unwrap_or(u64::MAX);
        self.micros.push((step.to_string(), micros));
        self.last = now;
        result.map_err(|error| StepError {
            step,
            error: error.to_string(),
        })
    }

    fn take(&mut self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.micros)
    }
}

/// Makes the cell, gives up every power, becomes the job.
fn enter(plan: &Plan, talk: &mut Talk) -> Result<Infallible, StepError> {
    let mut at = Steps::begin();
    at.done(Step::Wait, talk.wait())?; // until the supervisor has written the id maps
    at.done(Step::Session, ids::begin_session())?;
    at.done(Step::Ids, ids::switch(plan))?; // new files must have the cell's id; powers stay
    at.done(Step::Keyrings, ids::leave_keyrings())?; // the new one has the cell's id
    let nesting = at.done(Step::Nesting, ids::forbid_nesting())?; // in the host's /proc
    let listener = at.done(Step::Network, network::listen())?; // needs CAP_NET_ADMIN
    at.done(Step::Root, mounts::root(plan))?; // needs CAP_SYS_ADMIN, as all mounts
    let folders = at.done(Step::Places, mounts::places(plan))?;
    at.done(Step::Names, ids::set_names())?; // needs CAP_SYS_ADMIN
    at.done(Step::Seal, mounts::seal(plan))?; // nothing can be added to the root below this line
    at.done(Step::Relay, talk.opened(listener, folders))?; // no copy is left here
    at.done(Step::Limits, limits::install(plan))?;
    let bits = at.done(Step::Powers, powers::drop_all())?; // no mount can succeed below this line
    at.done(Step::NoNewPrivileges, powers::no_new_privileges())?; // seccomp and Landlock need it
    let abi = at.done(Step::Landlock, landlock::restrict(&plan.policy))?; // opens its own paths
    let refused = at.done(Step::Probes, probes::run())?; // the filter would end us for trying
    at.done(Step::Descriptors, descriptors::close(plan, talk))?; // only the talk is left to close
    let said = Dropped {
        landlock_abi: abi,
        securebits: bits,
        nesting,
        refused,
    };
    let told = talk.dropped(at.take(), said);
    at.done(Step::Seccomp, told)?;
    let programs = plan.policy.programs();
    let filter = at.done(Step::Seccomp, seccomp::install(programs))?; // no allocation below
    talk.armed(&filter); // waits until the supervisor holds the listener and has looked at us
    talk.gone(plan.exec.run()) // the job; comes back only when it cannot be executed
}

/// Runs [`enter`] and tells the supervisor why it came back.
pub(crate) fn become_job(plan: &Plan, mut talk: Talk) -> ! {
    // A panic must not unwind into the copy of the supervisor's loop.
    std::panic::set_hook(Box::new(|_| process::exit_now(101)));
    match enter(plan, &mut talk) {
        Err(error) => talk.failed(&error),
        Ok(never) => match never {},
    }
    process::exit_now(1)
}
