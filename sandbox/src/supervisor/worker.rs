//! Long work on the store, in processes of its own: the loop never waits for a disk.

use std::{
    io,
    mem::ManuallyDrop,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Pid, getpid, getppid},
};
use serde::{Deserialize, Serialize};

use crate::{
    cell,
    channel::Channel,
    store::{Name, StoreError},
    sys::{
        self,
        process::{self, Forked},
    },
    wire::{Check, PutAway},
};

/// Numbers of a worker's descriptors, after the standard streams.
const CHANNEL: i32 = 3;
const SOURCE: i32 = 4;

/// What a worker is for.
#[derive(Debug)]
pub(super) enum Task {
    /// Adoption of the SDK with this `h1:`.
    Adopt { h1: String },
    /// Freezing of the cache of the cell in this slot.
    Freeze { slot: usize },
    /// Removal of a tree.
    Remove { tree: String },
    /// Comparison of a tree with its manifest.
    Verify { tree: Name },
}

/// What a worker has done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Done {
    /// What it was started for; there is nothing to tell.
    Nothing,
    /// The tree is what it was.
    Sound(Check),
    /// It is not; it, and what was made by it, was put away, unless that failed.
    Differs {
        put_away: Vec<PutAway>,
        stuck: Option<String>,
    },
}

/// A worker that was started.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: Channel,
    pub(super) task: Task,
}

/// What a worker says at its end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) done: Result<Done, String>,
}

/// Runs `work` in a process of its own, with `source` as the only descriptor it has.
///
/// # Errors
/// When no process can be made.
pub(super) fn start(
    task: Task,
    source: BorrowedFd<'_>,
    work: impl FnOnce(BorrowedFd<'_>) -> Result<Done, StoreError>,
) -> io::Result<Worker> {
    let (ours, theirs) = Channel::pair()?;
    let supervisor = getpid();
    match process::fork(0)? {
        Forked::Parent { pid, pidfd } => Ok(Worker {
            pid,
            pidfd,
            channel: ours,
            task,
        }),
        Forked::Child => {
            std::panic::set_hook(Box::new(|_| process::exit_now(101)));
            if isolate(theirs.as_fd(), source).is_err() {
                process::exit_now(1);
            }
            let done = enter(supervisor).and_then(|()| {
                work(sys::borrow(SOURCE)).map_err(|error| {
                    let cause = std::error::Error::source(&error);
                    cause.map_or(error.to_string(), |cause| format!("{error}: {cause}"))
                })
            });
            let channel = ManuallyDrop::new(Channel::from(sys::own(CHANNEL)));
            let _told = channel.send(&Finished { done }, &[]);
            // What owns the numbers that were closed must not be dropped: leave at once.
            process::exit_now(0)
        }
    }
}

/// Closes everything else: a copy of a relay's socket here would hide the relay's end from its
/// asker for as long as the copying takes.
fn isolate(channel: BorrowedFd<'_>, source: BorrowedFd<'_>) -> io::Result<()> {
    let above = SOURCE + 1;
    let (channel, source) = (
        sys::copy_above(channel, above)?,
        sys::copy_above(source, above)?,
    );
    sys::place(channel.as_fd(), CHANNEL)?;
    sys::place(source.as_fd(), SOURCE)?;
    std::mem::forget((channel, source)); // closed by the next line
    sys::close_from(above)
}

/// A worker reads what others wrote: it keeps the power over file modes and nothing else.
fn enter(supervisor: Pid) -> Result<(), String> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| e.to_string())?;
    if getppid() != supervisor {
        process::exit_now(1); // died before the line above
    }
    cell::keep_file_powers()
}
