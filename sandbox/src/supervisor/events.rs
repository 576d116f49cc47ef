//! The loop: requests, processes, forbidden calls and clocks, one after the other.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use super::{
    Settings, SupervisorError, cell::Cell, cgroup::Groups, checks::Checks, group::GroupLimits,
    host::Host, request, worker::Worker,
};
use crate::{
    channel::{Channel, ChannelError},
    store,
    sys::process,
    wire::{CellRequest, Ending, PolicyName, Reply, Request},
};

/// Replies that wait for an asker which does not read; more means that it never will.
const OUTBOX_MAX: usize = 4096;
/// Longest sleep; every clock is looked at least as often.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Where an event comes from. Within one round they are handled in this order: what a process said
/// counts before its death.
#[derive(Debug, Clone, Copy)]
enum Source {
    Talk(usize),
    Notify(usize),
    Control,
    Exit(usize),
    Relay(usize),
    Worker(i32),
}

/// The supervisor at work.
pub(super) struct Supervisor {
    control: Channel,
    host: Host,
    pub(super) settings: Settings,
    pub(super) cells: Vec<Option<Cell>>,
    pub(super) workers: Vec<Worker>,
    pub(super) checks: Checks,
    pub(super) outbox: VecDeque<Reply>,
}

impl Supervisor {
    pub(super) fn new(
        control: Channel,
        host: Host,
        settings: Settings,
    ) -> Result<Self, SupervisorError> {
        control.set_nonblocking().map_err(SupervisorError::Poll)?;
        let policies = settings.policies.iter().map(|policy| PolicyName {
            name: policy.name().to_owned(),
            sha256: policy.sha256().to_owned(),
        });
        let ready = Reply::Ready {
            policies: policies.collect(),
            not_in_force: host.not_in_force.clone(),
        };
        // Twice as many: a relay may outlive its cell, and keeps the slot with its id.
        let cells = (0..2 * settings.cells_max).map(|_| None).collect();
        Ok(Self {
            control,
            host,
            settings,
            cells,
            workers: Vec::new(),
            checks: Checks::new()?,
            outbox: VecDeque::from([ready]),
        })
    }

    /// Runs until the asker is gone; then kills and reaps everything.
    pub(super) fn run(mut self) -> Result<(), SupervisorError> {
        let result = loop {
            match self.round() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.end_all();
        result
    }

    /// One round; false when the asker is gone.
    fn round(&mut self) -> Result<bool, SupervisorError> {
        if !self.flush()? {
            return Ok(false);
        }
        for (source, flags) in self.wait()? {
            match source {
                Source::Control => {
                    if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
                        && !self.on_control()?
                    {
                        return Ok(false);
                    }
                }
                Source::Worker(pid) => self.on_worker(pid),
                Source::Talk(slot)
                | Source::Notify(slot)
                | Source::Exit(slot)
                | Source::Relay(slot) => self.on_cell(slot, source, flags),
            }
        }
        let now = Instant::now();
        for place in &mut self.cells {
            if let Some(cell) = place {
                cell.on_time(now);
                if cell.is_gone() {
                    *place = None;
                }
            }
        }
        if let Some(groups) = &mut self.host.groups {
            groups.tidy();
        }
        self.look(now);
        Ok(true)
    }

    fn on_cell(&mut self, slot: usize, source: Source, flags: PollFlags) {
        let Some(cell) = self.cells.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        match source {
            Source::Talk(_) => self.outbox.extend(cell.on_talk(&self.host)),
            Source::Notify(_) if flags.contains(PollFlags::POLLIN) => cell.on_notify(),
            Source::Notify(_) => cell.notify = None, // nobody is left who could call
            Source::Relay(_) => cell.on_relay(),
            Source::Exit(_) => {
                let reply = cell.on_exit();
                // Only now: the counters had to be read.
                if let (Some(group), Some(groups)) = (cell.group.take(), &mut self.host.groups) {
                    groups.remove(group);
                }
                match reply {
                    Some(reply) => {
                        self.after(slot, &reply);
                        self.outbox.push_back(reply);
                    }
                    None => self.freeze(slot),
                }
            }
            Source::Control | Source::Worker(_) => {}
        }
    }

    /// Waits for the next events.
    fn wait(&self) -> Result<Vec<(Source, PollFlags)>, SupervisorError> {
        let mut sources: Vec<(Source, BorrowedFd<'_>)> = Vec::new();
        let cells = || {
            self.cells
                .iter()
                .enumerate()
                .filter_map(|(i, c)| Some((i, c.as_ref()?)))
        };
        for (slot, cell) in cells() {
            sources.extend(cell.talk.iter().map(|fd| (Source::Talk(slot), fd.as_fd())));
        }
        for (slot, cell) in cells() {
            sources.extend(
                cell.notify
                    .iter()
                    .map(|fd| (Source::Notify(slot), fd.as_fd())),
            );
        }
        sources.push((Source::Control, self.control.as_fd()));
        for (slot, cell) in cells() {
            sources.extend(cell.pidfd.iter().map(|fd| (Source::Exit(slot), fd.as_fd())));
            sources.extend(
                cell.relay
                    .iter()
                    .map(|it| (Source::Relay(slot), it.pidfd.as_fd())),
            );
        }
        sources.extend(
            self.workers
                .iter()
                .map(|it| (Source::Worker(it.pid), it.pidfd.as_fd())),
        );
        let mut fds: Vec<PollFd<'_>> = sources
            .iter()
            .map(|(source, fd)| {
                let mut flags = PollFlags::POLLIN;
                if matches!(source, Source::Control) && !self.outbox.is_empty() {
                    flags |= PollFlags::POLLOUT;
                }
                PollFd::new(*fd, flags)
            })
            .collect();
        let now = Instant::now();
        let next = cells()
            .map(|(_, cell)| cell.next().saturating_duration_since(now))
            .min();
        // One more, as the rest of a millisecond is cut off.
        let sleep = next.unwrap_or(SLEEP_MAX).min(self.checks.sleep(now));
        let groups = self.host.groups.as_ref();
        let sleep = sleep.min(groups.and_then(Groups::again).unwrap_or(SLEEP_MAX));
        let sleep = sleep.min(SLEEP_MAX) + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(sleep).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(SupervisorError::Poll(error.into())),
        }
        let flags = fds
            .iter()
            .map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let all = sources.iter().map(|(source, _)| *source).zip(flags);
        Ok(all.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// Sends what waits; false when the asker is gone.
    fn flush(&mut self) -> Result<bool, SupervisorError> {
        while let Some(reply) = self.outbox.front() {
            match self.control.send(reply, &[]) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(ChannelError::WouldBlock) if self.outbox.len() <= OUTBOX_MAX => {
                    return Ok(true);
                }
                Err(ChannelError::Io(error)) if is_gone(&error) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// One request; false when the asker is gone.
    fn on_control(&mut self) -> Result<bool, SupervisorError> {
        let (request, descriptors) = match self.control.receive::<Request>() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(false),
            Err(ChannelError::WouldBlock) => return Ok(true),
            Err(ChannelError::Io(error)) if is_gone(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let refused = |cell, tree, why| Reply::Refused { cell, tree, why };
        match request {
            Request::Cell(request) => {
                let cell = request.cell;
                if let Err(why) = self.cell_or_hold(request, descriptors) {
                    self.outbox.push_back(refused(Some(cell), None, why));
                }
            }
            Request::Cancel { cell, .. } if self.checks.forget(cell) => {
                let why = "cancelled before it began".to_owned();
                self.outbox.push_back(refused(Some(cell), None, why));
            }
            Request::Cancel { cell, why } => {
                let running = self.cells.iter_mut().flatten();
                if let Some(cell) = running
                    .filter(|it| !it.is_over())
                    .find(|it| it.id() == cell)
                {
                    cell.end(Ending::Cancelled { why });
                }
            }
            Request::Adopt { go, h1 } => match self.adopt(&go, &h1, descriptors) {
                Ok(false) => {}
                Ok(true) => self.outbox.push_back(Reply::Adopted { h1 }),
                Err(why) => self.outbox.push_back(refused(None, Some(h1), why)),
            },
            Request::Remove { tree } => {
                if let Err(why) = self.remove(&tree) {
                    self.outbox.push_back(refused(None, Some(tree), why));
                }
            }
            Request::Verify { tree } => {
                if let Err(why) = self.verify(&tree) {
                    self.outbox.push_back(refused(None, Some(tree), why));
                }
            }
            Request::Trees => match store::trees() {
                Ok(trees) => self.list(&trees),
                Err(error) => self
                    .outbox
                    .push_back(refused(None, None, error.to_string())),
            },
        }
        Ok(true)
    }

    pub(super) fn new_cell(
        &mut self,
        request: CellRequest,
        descriptors: Vec<std::os::fd::OwnedFd>,
    ) -> Result<(), String> {
        let mut running = 0;
        for cell in self.cells.iter().flatten().filter(|cell| !cell.is_over()) {
            if cell.id() == request.cell {
                return Err("there is a cell with this number".to_owned());
            }
            running += 1;
        }
        let slot = self.cells.iter().position(Option::is_none);
        let slot = slot.filter(|_| running < self.settings.cells_max);
        let slot = slot.ok_or("as many cells as allowed are running")?;
        let descriptors = request::descriptors(&request.job, descriptors)?;
        let order = request::check(request, &self.settings)?;
        let limits = GroupLimits {
            memory_bytes: order.memory_bytes,
            processes: order.policy.limits().processes,
        };
        let groups = self.host.groups.as_mut();
        let group = groups.map(|groups| groups.cell(&limits)).transpose()?;
        match Cell::new(&self.host, slot, order, descriptors, group.as_ref()) {
            Ok(mut cell) => {
                cell.group = group;
                self.cells[slot] = Some(cell);
                Ok(())
            }
            Err(why) => {
                if let (Some(group), Some(groups)) = (group, &mut self.host.groups) {
                    groups.remove(group);
                }
                Err(why)
            }
        }
    }

    /// Kills and reaps every process. A worker leaves staging behind, for the next start.
    fn end_all(mut self) {
        for cell in self.cells.iter_mut().flatten() {
            cell.end(Ending::Cancelled {
                why: crate::wire::CancelReason::Unwanted,
            });
            if cell.pidfd.is_some() {
                let _nobody_asks = cell.on_exit();
            }
            if let Some(relay) = &cell.relay {
                let _dead_already = process::kill(relay.pidfd.as_fd());
            }
            cell.on_relay();
            if let (Some(group), Some(groups)) = (cell.group.take(), &mut self.host.groups) {
                groups.remove(group);
            }
        }
        for worker in &self.workers {
            let _dead_already = process::kill(worker.pidfd.as_fd());
            let _status = process::reap(worker.pid);
        }
        if let Some(groups) = self.host.groups {
            groups.close();
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_socket_is_told_from_a_failing_one() {
        assert!(is_gone(&Errno::EPIPE.into()));
        assert!(is_gone(&Errno::ECONNRESET.into()));
        assert!(!is_gone(&Errno::ENOMEM.into()));
    }
}
