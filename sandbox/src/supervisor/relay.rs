//! Starts relays: this program again, with six descriptors and nothing else.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::Signal,
        stat::{Mode, umask},
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid},
};

use super::host::Host;
use crate::{
    cell,
    sys::{
        self,
        process::{self, Exec, Forked},
    },
};

/// First number of the relay's descriptors; standard error stays the supervisor's.
const FIRST: i32 = 3;
/// Connections of one cell, files in flight and the event loop's own.
const FILES_MAX: u64 = 512;
/// Data of a relay's process: answers are streamed, heads are bounded.
const MEMORY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// A relay that was started.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}

/// The descriptors of a relay, in the order of their numbers from 3 on.
#[derive(Debug)]
pub(super) struct Gifts {
    pub(super) listener: OwnedFd,
    pub(super) session: OwnedFd,
    pub(super) talk: OwnedFd,
    pub(super) output: OwnedFd,
    pub(super) bin: OwnedFd,
    pub(super) artifact: OwnedFd,
}

/// Starts the relay of a slot.
///
/// # Errors
/// When no process can be made. One that fails to become the relay ends at once instead.
pub(super) fn start(host: &Host, slot: usize, gifts: Gifts) -> io::Result<Relay> {
    let role = ["hotcell", "role", "relay"].map(|word| CString::new(word).expect("no NUL"));
    let exec = Exec::new(c"/proc/self/exe".to_owned(), role.to_vec(), Vec::new());
    match process::fork(0)? {
        Forked::Parent { pid, pidfd } => Ok(Relay { pid, pidfd }),
        Forked::Child => {
            let failed = become_relay(host, slot, &gifts);
            // What owns the numbers that were closed must not be dropped: leave at once.
            if failed.is_ok() {
                let _error = exec.run();
            }
            process::exit_now(1)
        }
    }
}

/// Gives up everything that a relay does not have. The order is that of the cell's init.
fn become_relay(host: &Host, slot: usize, gifts: &Gifts) -> Result<(), Box<dyn std::error::Error>> {
    // Namespaces of its own: the listener keeps the one it was made in, and a relay that a cell has
    // taken over reaches no network, no other socket and no shared memory of the host. Made here
    // and not by the fork: a network namespace takes milliseconds, in which the loop would wait.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)?;
    setsid()?;
    process::default_sigpipe()?;
    umask(Mode::from_bits_truncate(0o077));
    place(gifts)?;
    limit(Resource::RLIMIT_CORE, 0)?;
    limit(Resource::RLIMIT_NOFILE, FILES_MAX)?;
    limit(Resource::RLIMIT_DATA, MEMORY_BYTES_MAX)?;
    cell::prepare_powers()?; // needs CAP_SETPCAP, so it comes before the ids
    if host.root {
        let id = host.relay_id(slot);
        setgroups(&[])?;
        setresgid(Gid::from_raw(id), Gid::from_raw(id), Gid::from_raw(id))?;
        setresuid(Uid::from_raw(id), Uid::from_raw(id), Uid::from_raw(id))?;
    }
    cell::drop_powers()?;
    // After the change of ids, which clears it. If we died meanwhile, the asker's socket closes.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(())
}

/// Moves the descriptors to their numbers, by way of numbers above all of them.
fn place(gifts: &Gifts) -> io::Result<()> {
    let all = [
        gifts.listener.as_fd(),
        gifts.session.as_fd(),
        gifts.talk.as_fd(),
        gifts.output.as_fd(),
        gifts.bin.as_fd(),
        gifts.artifact.as_fd(),
    ];
    let end = FIRST + i32::try_from(all.len()).expect("six");
    let copies = all.map(|fd| sys::copy_above(fd, end));
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    sys::place(null.as_fd(), 0)?;
    sys::place(null.as_fd(), 1)?;
    std::mem::forget(null); // closed below
    for (number, copy) in (FIRST..end).zip(copies) {
        let copy = copy?;
        sys::place(copy.as_fd(), number)?;
        std::mem::forget(copy); // closed below
    }
    sys::close_from(end)
}

fn limit(resource: Resource, value: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    setrlimit(resource, value.min(hard), value.min(hard))
}
