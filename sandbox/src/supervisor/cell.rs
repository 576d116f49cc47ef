//! One cell, from the request to its last reply.

use std::{
    fs,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    sys::{signal::Signal, wait::WaitStatus},
    unistd::Pid,
};

use super::{
    group::{Counters, Group},
    host::Host,
    relay::Relay,
    request::{Descriptors, Order},
    start::{self, Started},
    watch::Watch,
};
use crate::{
    cell::talk::Dropped,
    channel::Channel,
    policy::table,
    sys::{
        process::{self, Exit},
        seccomp::{self, Notice},
    },
    wire::{CancelReason, CellId, Ending, Job, Reply, Report},
};

/// The set-up takes some 10 ms; a host that needs longer than this has other trouble.
const SETUP_MAX: Duration = Duration::from_secs(30);
/// How long a relay may outlive its cell: the gate, and an asker that is slow to take its result.
const RELAY_MAX: Duration = Duration::from_secs(600);
/// Most forbidden calls that a report lists.
const FORBIDDEN_MAX: usize = 256;

/// What became of the process that made a forbidden call.
enum Caller {
    Killed,
    /// It is dead, or a signal has interrupted its call: then it makes it again, and we hear of it.
    Gone,
    /// It cannot be killed alone.
    Stays,
}

/// How far a cell is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Init makes namespaces, network and mounts.
    Opening,
    /// Init drops its powers.
    Dropping,
    /// Init installs the filter.
    Arming,
    /// Init has been let go and executes the job; the relay starts.
    Leaving,
    /// The job runs.
    Running,
    /// No process is left; what it has made is being copied.
    Freezing,
    /// The last reply was given; the relay may still live.
    Over,
}

/// A cell in its slot.
pub(super) struct Cell {
    pub(super) order: Order,
    pub(super) slot: usize,
    pub(super) phase: Phase,
    pub(super) pid: i32,
    pub(super) pidfd: Option<OwnedFd>,
    pub(super) talk: Option<Channel>,
    pub(super) notify: Option<OwnedFd>,
    pub(super) relay: Option<Relay>,
    /// What the relay gets when it starts.
    pub(super) waiting: Option<(Descriptors, OwnedFd)>,
    /// The cell's listener and the folder of its result, likewise.
    pub(super) given: Option<(OwnedFd, OwnedFd)>,
    /// The folder whose content is to be kept when the job succeeds.
    pub(super) kept: Option<OwnedFd>,
    /// Its control group, where the host has them.
    pub(super) group: Option<Group>,
    /// What it uses, from the moment that its scratch file system is there.
    pub(super) watch: Option<Watch>,
    pub(super) asked: Instant,
    pub(super) started: Option<Instant>,
    /// Of the set-up, then of the job, then of the relay.
    pub(super) deadline: Instant,
    pub(super) told: Option<Dropped>,
    /// When init began with its filter.
    pub(super) armed_from: Instant,
    ending: Option<Ending>,
    pub(super) report: Report,
}

impl Cell {
    pub(super) fn new(
        host: &Host,
        slot: usize,
        order: Order,
        mut descriptors: Descriptors,
        group: Option<&Group>,
    ) -> Result<Self, String> {
        let asked = Instant::now();
        let started = start::start(host, slot, &order, &mut descriptors, group)?;
        let Started {
            pid,
            pidfd,
            talk,
            output,
            micros,
        } = started;
        Ok(Self {
            report: Report {
                policy_sha256: order.policy.sha256().to_owned(),
                not_in_force: host.not_in_force.clone(),
                setup_us: micros,
                ..Report::default()
            },
            order,
            slot,
            phase: Phase::Opening,
            pid,
            pidfd: Some(pidfd),
            talk: Some(talk),
            notify: None,
            relay: None,
            waiting: Some((descriptors, output)),
            given: None,
            kept: None,
            group: None,
            watch: None,
            asked,
            started: None,
            deadline: asked + SETUP_MAX,
            told: None,
            armed_from: asked,
            ending: None,
        })
    }

    pub(super) fn id(&self) -> CellId {
        self.order.request.cell
    }

    /// Whether the last reply was given.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether nothing is left to watch.
    pub(super) fn is_gone(&self) -> bool {
        self.is_over() && self.relay.is_none()
    }

    /// Ends the cell; the first reason counts.
    pub(super) fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
        if let Some(group) = &self.group {
            group.kill();
        }
        if let Some(pidfd) = &self.pidfd {
            // The first process of a namespace takes all others with it.
            let _dead_already = process::kill(pidfd.as_fd());
        }
    }

    pub(super) fn fail(&mut self, step: &str, error: String) {
        self.end(Ending::Setup {
            step: step.to_owned(),
            error,
        });
    }

    /// A call outside the policy waits for an answer that it will never get.
    pub(super) fn on_notify(&mut self) {
        let Some(listener) = &self.notify else {
            return;
        };
        let Ok(notice) = seccomp::receive(listener.as_fd()) else {
            return; // the caller died in the meantime
        };
        let call = table::name(notice.number);
        let keep_going = matches!(
            self.order.request.job,
            Job::Program {
                keep_going: true,
                ..
            }
        );
        match keep_going.then(|| self.kill_caller(&notice)) {
            Some(Caller::Killed) => {
                if self.report.forbidden.len() < FORBIDDEN_MAX {
                    let args = notice.args.map(|arg| format!("{arg:#x}")).join(", ");
                    self.report
                        .forbidden
                        .push(format!("{call}({args}) at {:#x}", notice.ip));
                }
                return;
            }
            Some(Caller::Gone) => return,
            Some(Caller::Stays) | None => {}
        }
        self.end(Ending::ForbiddenCall {
            call,
            number: notice.number,
            args: notice.args,
            ip: notice.ip,
        });
    }

    /// Kills the process that made a call, unless it is the first, which takes the cell with it.
    fn kill_caller(&self, notice: &Notice) -> Caller {
        let Some(listener) = &self.notify else {
            return Caller::Stays;
        };
        let other = leader(notice.pid).filter(|leader| *leader != self.pid);
        let pidfd = other.and_then(|leader| process::open(leader).ok());
        // While the caller waits, the ids read and opened above are its own.
        if !seccomp::is_waiting(listener.as_fd(), notice) {
            return Caller::Gone;
        }
        match pidfd {
            Some(pidfd) if process::kill(pidfd.as_fd()).is_ok() => Caller::Killed,
            _ => Caller::Stays,
        }
    }

    /// Time is up, whatever it was for.
    fn on_deadline(&mut self) {
        match self.phase {
            Phase::Running | Phase::Leaving => self.end(Ending::Wall {
                limit_ms: self.order.wall_ms,
            }),
            Phase::Over => {
                if let Some(relay) = &self.relay {
                    let _dead_already = process::kill(relay.pidfd.as_fd());
                }
            }
            Phase::Freezing => {}
            _ => self.fail("wait", "the set-up takes too long".to_owned()),
        }
        self.deadline += RELAY_MAX; // once is enough
    }

    /// When the loop must look at this cell again.
    pub(super) fn next(&self) -> Instant {
        let look = self.watch.as_ref().filter(|_| self.phase == Phase::Running);
        look.map_or(self.deadline, |watch| watch.next.min(self.deadline))
    }

    /// Clocks: the cell's own, and that of the watch over what it uses.
    pub(super) fn on_time(&mut self, now: Instant) {
        if now >= self.deadline {
            self.on_deadline();
        }
        let running = self.phase == Phase::Running;
        let watch = self
            .watch
            .as_mut()
            .filter(|watch| running && now >= watch.next);
        let reached = watch.and_then(|watch| watch.look(now, self.group.as_ref()));
        if let Some(ending) = reached {
            self.end(ending);
        }
    }

    /// The relay is dead.
    pub(super) fn on_relay(&mut self) {
        if let Some(relay) = self.relay.take() {
            let _status = process::reap(relay.pid);
        }
        if !self.is_over() && self.pidfd.is_some() {
            self.end(Ending::Cancelled {
                why: CancelReason::Relay,
            });
        }
    }

    /// The first process is dead, and with it all others: the kernel has reaped them before.
    /// Tells how it ended, unless what it has made has to be kept first.
    pub(super) fn on_exit(&mut self) -> Option<Reply> {
        self.pidfd = None;
        self.talk = None;
        self.notify = None;
        self.waiting = None;
        self.given = None;
        // The counters go with the group, and the group goes when we are back.
        let counters = self.group.as_ref().map(Group::counters);
        let ending = match process::reap(self.pid) {
            Ok(exit) => {
                self.count(&exit, counters.as_ref());
                let by_itself = self.ending_of(&exit, counters.as_ref());
                self.ending.take().unwrap_or(by_itself)
            }
            Err(error) => Ending::Setup {
                step: "wait".to_owned(),
                error: error.to_string(),
            },
        };
        if ending == Ending::Success && self.kept.is_some() {
            self.phase = Phase::Freezing;
            return None;
        }
        Some(self.finish(ending))
    }

    /// The last reply.
    pub(super) fn finish(&mut self, ending: Ending) -> Reply {
        let now = Instant::now();
        self.kept = None;
        if let Some(watch) = self.watch.take() {
            (
                self.report.scratch_peak_bytes,
                self.report.scratch_peak_inodes,
            ) = watch.peaks();
        }
        self.phase = Phase::Over;
        self.deadline = now + RELAY_MAX;
        let mut report = std::mem::take(&mut self.report);
        report.wall_ms = self.started.map_or(0, |started| millis(now - started));
        Reply::Ended {
            cell: self.id(),
            ending,
            report: Box::new(report),
        }
    }

    fn count(&mut self, exit: &Exit, counters: Option<&Counters>) {
        let cpu_us = counters.and_then(|counters| counters.cpu_us);
        self.report.cpu_ms = cpu_us.map_or_else(|| millis(exit.cpu), |us| us / 1000);
        let peak = counters.and_then(|counters| counters.memory_peak_bytes);
        self.report.memory_peak_bytes = peak.unwrap_or(exit.memory_peak_bytes);
    }

    fn ending_of(&mut self, exit: &Exit, counters: Option<&Counters>) -> Ending {
        let status = WaitStatus::from_raw(Pid::from_raw(self.pid), exit.status);
        if let Ok(WaitStatus::Exited(_, 0)) = status {
            return Ending::Success;
        }
        let group = self.group.as_ref().zip(counters);
        let limit = self.watch.as_mut().and_then(|watch| watch.verdict(group));
        if let Some(ending) = limit {
            return ending;
        }
        let limits = self.order.policy.limits();
        let limit_s = limits.cpu_s;
        let spent = exit.cpu.as_secs() >= limit_s;
        match status {
            // The Go runtime answers SIGXCPU with status 2. Any other status is the program's own:
            // the time is that of all its children together, the limit that of each process.
            Ok(WaitStatus::Exited(_, 2) | WaitStatus::Signaled(..)) if spent => {
                Ending::Cpu { limit_s }
            }
            Ok(WaitStatus::Exited(_, status)) => Ending::Failed {
                status: u8::try_from(status).unwrap_or(u8::MAX),
            },
            Ok(WaitStatus::Signaled(_, Signal::SIGXCPU, _)) => Ending::Cpu { limit_s },
            Ok(WaitStatus::Signaled(_, Signal::SIGXFSZ, _)) => Ending::FileSize {
                limit_bytes: limits.file_bytes,
            },
            Ok(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => Ending::ForbiddenCall {
                call: "a call of another ABI".to_owned(),
                number: -1, // the kernel kills at once and tells no number
                args: [0; 6],
                ip: 0,
            },
            Ok(WaitStatus::Signaled(_, signal, _)) => Ending::Signal {
                signal: signal as i32,
            },
            _ => Ending::Signal { signal: 0 },
        }
    }
}

/// The process that a thread belongs to.
fn leader(thread: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
