//! Starts the first process of a cell.

use std::{
    io,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use nix::{
    fcntl::OFlag,
    sched::{CpuSet, sched_getaffinity},
    unistd::{Pid, pipe2},
};

use super::{
    group::Group,
    host::{self, Host},
    job, legacy, listing,
    request::{Descriptors, Order},
};
use crate::{
    cell::{self, Plan, place, talk::Talk},
    channel::Channel,
    policy::PlaceKind,
    store,
    sys::process::{self, Forked},
    wire::Job,
};

/// A cell whose init is on its way.
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Where init tells how far it is.
    pub(super) talk: Channel,
    /// What the job prints.
    pub(super) output: OwnedFd,
    /// Steps so far, in microseconds.
    pub(super) micros: Vec<(String, u64)>,
}

/// Makes the namespaces and lets init begin.
///
/// # Errors
/// One sentence; nothing is left of the cell then.
pub(super) fn start(
    host: &Host,
    slot: usize,
    order: &Order,
    descriptors: &mut Descriptors,
    group: Option<&Group>,
) -> Result<Started, String> {
    let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
    let mut last = Instant::now();
    let mut micros = Vec::new();
    let mut lap = |step: &str| {
        let now = Instant::now();
        micros.push((step.to_owned(), super::cell::micros(now - last)));
        last = now;
    };
    let (output, plan) = plan(host, slot, order, descriptors)?;
    let (ours, theirs) = Channel::pair().map_err(text("socket pair"))?;
    lap("plan");
    let group = group.map(Group::as_fd);
    match process::fork_into(order.policy.clone_flags(), group).map_err(text("clone3"))? {
        Forked::Child => {
            drop(ours); // else our own copy would keep the talk open when the supervisor dies
            cell::become_job(&plan, Talk::new(theirs))
        }
        Forked::Parent { pid, pidfd } => {
            lap("clone3");
            let mut started = Started {
                pid,
                pidfd,
                talk: ours,
                output,
                micros: Vec::new(),
            };
            prefer_in_shortage(pid);
            if let Err(error) = map_ids(host, slot, pid).and_then(|()| started.go_on()) {
                let _dead = process::kill(std::os::fd::AsFd::as_fd(&started.pidfd));
                process::reap(pid).map_err(text("wait"))?;
                return Err(error);
            }
            lap("id maps");
            started.micros = micros;
            Ok(started)
        }
    }
}

impl Started {
    fn go_on(&self) -> Result<(), String> {
        go_on(&self.talk)
    }
}

/// Lets init do its next steps.
///
/// # Errors
/// When init is gone.
pub(super) fn go_on(talk: &Channel) -> Result<(), String> {
    match nix::unistd::write(talk, &[cell::talk::GO_ON]) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("init is gone: {error}")),
    }
}

fn plan(
    host: &Host,
    slot: usize,
    order: &Order,
    descriptors: &mut Descriptors,
) -> Result<(OwnedFd, Plan), String> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(|e| format!("pipe: {e}"))?;
    let attributes = |kind| cell::attributes(&order.policy, kind);
    let frozen = order.request.frozen;
    let frozen = frozen
        .then(|| store::mount(&order.std, attributes(PlaceKind::Cache)))
        .transpose();
    let sdk = store::mount(&order.sdk, attributes(PlaceKind::Sdk));
    let command = order.command.as_ref();
    let command = command
        .map(|name| store::mount(name, attributes(PlaceKind::Command)))
        .transpose();
    let null = host::null_mount(attributes(PlaceKind::Null));
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let plan = Plan {
        sdk: sdk.map_err(|e| e.to_string())?,
        command: command.map_err(|e| e.to_string())?,
        files: match &order.request.job {
            Job::Command if order.command.is_none() => legacy::files(order)?,
            Job::List { module, version } => listing::files(module, version, order.go_minor),
            _ => Vec::new(),
        },
        frozen: frozen.map_err(|e| e.to_string())?,
        null: null.map_err(|e| format!("`/dev/null`: {e}"))?,
        program: descriptors.program.take(),
        output: write,
        exec: job::exec(order),
        scratch_bytes: order.scratch_bytes,
        processors: processors(slot, order.processors())?,
        drop_groups: host.root,
        now_s: since.map_or(0, |since| since.as_secs()),
        policy: Rc::clone(&order.policy),
    };
    Ok((read, plan))
}

/// Which processors a cell runs on: when it does not get all of ours, other slots get others.
fn processors(slot: usize, count: usize) -> Result<CpuSet, String> {
    let text = |error: nix::Error| format!("processors: {error}");
    let ours = sched_getaffinity(Pid::from_raw(0)).map_err(text)?;
    let all: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| ours.is_set(*cpu).unwrap_or(false))
        .collect();
    let mut chosen = CpuSet::new();
    for cpu in all
        .iter()
        .cycle()
        .skip(slot * count % all.len().max(1))
        .take(count)
    {
        chosen.set(*cpu).map_err(text)?;
    }
    Ok(chosen)
}

/// When the host runs out of memory, a cell dies before the service. A wish: without it the kernel
/// still chooses by size.
fn prefer_in_shortage(pid: i32) {
    let _only_a_wish = host::map(&format!("/proc/{pid}/oom_score_adj"), "800");
}

/// One id inside, one outside.
fn map_ids(host: &Host, slot: usize, pid: i32) -> Result<(), String> {
    let line = format!("{} {} 1\n", place::ID, host.cell_id(slot));
    for file in ["uid_map", "gid_map"] {
        host::map(&format!("/proc/{pid}/{file}"), &line).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// When a cell must be over.
pub(super) fn deadline(from: Instant, wall_ms: u64) -> Instant {
    from + std::time::Duration::from_millis(wall_ms)
}
