//! The supervisor: makes cells, watches them, and keeps the store of what cells mount.
//!
//! Started by `serve` or the command line program before anything else, as root or, rootless, as
//! the person. One thread, no network, one loop that never waits for anybody but the kernel's poll.
//! It trusts nothing in a request: every field has a grammar of its own ([`request`]), argument
//! lists and environment are made here ([`job`]), policies come from its starter, never from a
//! message. When the control socket closes, every process that it started dies.
//!
//! It never opens a path that a build or `serve` can change. These are all the paths it opens:
//!
//! | path | why nobody else changes it |
//! |---|---|
//! | below the current folder, the store | owner and mode 0700 are verified at the start, by descriptor; what is copied into it comes from descriptors, opened one name at a time without following links |
//! | the folder of policies, before the first message | owner and modes of it, its files and all folders above are verified ([`crate::policy::folder`]) |
//! | `/proc/self`, `/proc/PID` of its own children, which it has not reaped | the kernel's |
//! | `/sys/fs/cgroup`, `/proc/meminfo` | the kernel's |
//! | `/dev/null`, `/proc/self/exe` | root's; the second is the running file, whatever its path holds now |

mod cell;
mod cgroup;
mod checks;
mod drift;
mod events;
mod group;
mod host;
mod job;
mod legacy;
mod listing;
mod priority;
mod readback;
mod relay;
mod request;
mod setup;
mod start;
mod trees;
mod watch;
mod worker;

use std::{io, os::fd::OwnedFd, rc::Rc};

use crate::{
    channel::{Channel, ChannelError},
    policy::Policy,
    store::{self, StoreError},
    sys::process,
};

/// Most cells at a time; each has ids of its own, and so has a relay that outlives its cell.
pub const CELLS_MAX: usize = 64;
/// Relay of slot `i` runs as `ids.base + RELAY_IDS + i`.
pub const RELAY_IDS: u32 = 1_000;
/// Cell of slot `i` runs as `ids.base + CELL_IDS + i`.
pub const CELL_IDS: u32 = 100_000;

pub use crate::privilege::IDS_BASE;
pub use legacy::{DRIVER_GO, DRIVER_H1};

/// What the supervisor is started with.
#[derive(Debug)]
pub struct SupervisorConfig {
    /// The store's folder, opened for reading; nobody else may write there.
    pub store: OwnedFd,
    /// The policies that a request may name: [`crate::policy::builtin`] or
    /// [`crate::policy::folder`].
    pub policies: Vec<Policy>,
    /// First of our ids; unused rootless.
    pub ids_base: u32,
    /// Most cells at a time, at most [`CELLS_MAX`].
    pub cells_max: usize,
    /// Lowers the size of each cell's scratch file system, which is memory.
    pub scratch_bytes_max: u64,
}

/// Why the supervisor did not start, or ended. No cell is left in either case.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Started wrongly: with threads, without standard streams, with too many cells.
    #[error("the supervisor was started wrongly: {0}")]
    Start(String),
    /// This host cannot make cells; says what to do about it.
    #[error("this host cannot make cells: {0}")]
    Host(String),
    /// The store's folder cannot be used.
    #[error("the store cannot be used: {0}")]
    Store(String),
    /// The asker's socket failed, or the asker does not speak our language.
    #[error("the asker cannot be understood")]
    Control(#[from] ChannelError),
    /// The kernel refused to poll.
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
}

impl From<StoreError> for SupervisorError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Runs the supervisor until the control socket closes. Changes the current folder to the store.
///
/// # Errors
/// See [`SupervisorError`]; a refusal to start is also told to the asker.
pub fn run(control: Channel, config: SupervisorConfig) -> Result<(), SupervisorError> {
    // Unwinding could leave a cell without its keeper; without us the kernel kills all of them.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    match start(config) {
        Ok((host, settings)) => events::Supervisor::new(control, host, settings)?.run(),
        Err(error) => {
            let refused = crate::wire::Reply::Refused {
                cell: None,
                tree: None,
                why: error.to_string(),
            };
            // The asker may be gone; then nobody is left to tell.
            let _told = control.send(&refused, &[]);
            Err(error)
        }
    }
}

/// What is left of the configuration once the host is entered.
struct Settings {
    /// Held as long as the supervisor lives.
    presence: store::Presence,
    policies: Vec<Rc<Policy>>,
    cells_max: usize,
    scratch_bytes_max: u64,
    /// Lowers the memory of each cell.
    memory_bytes_max: u64,
}

/// The rest of the machine keeps this part of its memory, whatever one cell asks for.
const MEMORY_KEPT_PART: u64 = 4;

fn start(config: SupervisorConfig) -> Result<(host::Host, Settings), SupervisorError> {
    if config.cells_max == 0 || config.cells_max > CELLS_MAX {
        return Err(SupervisorError::Start(format!(
            "cells_max must be 1 to {CELLS_MAX}"
        )));
    }
    if config.policies.is_empty() {
        return Err(SupervisorError::Start("no policy was given".to_owned()));
    }
    process::standard_streams().map_err(|e| SupervisorError::Start(e.to_string()))?;
    let mut host = host::enter(&config)?;
    host.not_in_force.extend(drift::check(&host));
    let presence = store::open_here()?;
    let settings = Settings {
        presence,
        policies: config.policies.into_iter().map(Rc::new).collect(),
        cells_max: config.cells_max,
        scratch_bytes_max: config.scratch_bytes_max,
        memory_bytes_max: host.memory_bytes - host.memory_bytes / MEMORY_KEPT_PART,
    };
    Ok((host, settings))
}
