//! The set-up of a cell, as the supervisor follows it: what init says, and what we do about it.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    time::Instant,
};

use nix::errno::Errno;

use super::{
    cell::{Cell, Phase, micros},
    host::Host,
    priority,
    readback::{self, Seen},
    relay::{self, Gifts},
    start::{self, deadline},
    watch::Watch,
};
use crate::{
    cell::talk::{Said, exec_step},
    store,
    sys::process,
    wire::{Job, NotInForce, Reply},
};

/// The step that failed, and why.
type Failed = (String, String);

impl Cell {
    /// Something came from init, or it closed its end.
    pub(super) fn on_talk(&mut self, host: &Host) -> Option<Reply> {
        let result = match self.phase {
            Phase::Opening => self.opened(host),
            Phase::Dropping => self.dropped(host),
            Phase::Arming => self.armed(host),
            _ => self.left(),
        };
        match result {
            Ok(reply) => reply,
            Err((step, error)) => {
                self.talk = None;
                self.fail(&step, error);
                None
            }
        }
    }

    /// The next message of init.
    fn hear(&self) -> Result<(Said, Vec<OwnedFd>), Failed> {
        let init = |error: String| ("init".to_owned(), error);
        let talk = self
            .talk
            .as_ref()
            .ok_or_else(|| init("has nothing to say".to_owned()))?;
        match talk.receive::<Said>() {
            Ok(Some((Said::Failed { step, error }, _))) => Err((step, error)),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(init("ended early".to_owned())),
            Err(error) => Err(init(error.to_string())),
        }
    }

    fn go_on(&self, step: &str) -> Result<(), Failed> {
        let talk = self.talk.as_ref().ok_or("init is gone".to_owned());
        talk.and_then(start::go_on)
            .map_err(|error| (step.to_owned(), error))
    }

    fn opened(&mut self, host: &Host) -> Result<Option<Reply>, Failed> {
        let step = |error: String| ("relay".to_owned(), error);
        let (said, descriptors) = self.hear()?;
        let given = <[OwnedFd; 3]>::try_from(descriptors);
        let (Said::Opened, Ok([listener, bin, cache])) = (said, given) else {
            return Err(step("init spoke out of turn".to_owned()));
        };
        let scratch = bin.try_clone().map_err(|e| step(e.to_string()))?;
        self.watch = Some(Watch::new(scratch, Instant::now()));
        let kept = match self.order.request.job {
            Job::Std => Some(cache),
            Job::Command => Some(bin.try_clone().map_err(|e| step(e.to_string()))?),
            _ => None,
        };
        self.given = Some((listener, bin));
        self.kept = kept;
        self.phase = Phase::Dropping;
        self.look_at("readback", host, readback::built)?; // init goes on meanwhile
        Ok(None)
    }

    fn dropped(&mut self, host: &Host) -> Result<Option<Reply>, Failed> {
        let (said, _) = self.hear()?;
        let Said::Dropped { micros, dropped } = said else {
            return Err(("init".to_owned(), "spoke out of turn".to_owned()));
        };
        self.report.setup_us.extend(micros);
        if let Some(why) = &dropped.nesting {
            self.report.not_in_force.push(NotInForce {
                what: "no user namespaces inside".to_owned(),
                why: format!("{why}; the system call filter forbids them too"),
            });
        }
        self.told = Some(dropped);
        self.armed_from = Instant::now();
        self.phase = Phase::Arming;
        self.look_at("readback of limits", host, readback::limited)?; // init installs its filter
        Ok(None)
    }

    /// Looks at what is in force, for the report.
    fn look_at(
        &mut self,
        step: &str,
        host: &Host,
        look: impl FnOnce(&Seen<'_>) -> Result<Vec<String>, String>,
    ) -> Result<(), Failed> {
        let begin = Instant::now();
        let seen = Seen {
            pid: self.pid,
            slot: self.slot,
            host,
            order: &self.order,
            group: self.group.as_ref(),
        };
        let found = look(&seen).map_err(|error| (step.to_owned(), error))?;
        self.report.in_force.extend(found);
        self.lap(step, begin);
        Ok(())
    }

    /// Takes the filter's listener, looks at what is in force, and lets init go.
    fn armed(&mut self, host: &Host) -> Result<Option<Reply>, Failed> {
        let step = |error: String| ("seccomp".to_owned(), error);
        let number = self.four_bytes().map_err(step)?;
        let number = number.ok_or_else(|| step("init ended early".to_owned()))?;
        let pidfd = self
            .pidfd
            .as_ref()
            .ok_or_else(|| step("init is dead".to_owned()))?;
        let notify = process::take_descriptor(pidfd.as_fd(), number);
        self.notify = Some(notify.map_err(|e| step(format!("pidfd_getfd: {e}")))?);
        self.lap("seccomp", self.armed_from);
        let told = self.told.take();
        let told = told.ok_or_else(|| step("init spoke out of turn".to_owned()))?;
        self.look_at("last readback", host, |seen| {
            readback::locked(seen, &told, number)
        })?;
        let lowered = priority::lower(self.pid);
        let lowered = lowered.map_err(|e| ("limits".to_owned(), format!("setpriority: {e}")))?;
        self.report.not_in_force.extend(lowered);
        self.go_on("exec")?;
        let now = Instant::now();
        self.lap("total", self.asked);
        // Not before either: a process takes its time to start, and the job takes longer until it
        // asks for anything. Who connects before the relay accepts waits in the backlog.
        self.start_relay(host)?;
        self.mark_trees();
        self.started = Some(now);
        self.deadline = deadline(now, self.order.wall_ms);
        self.phase = Phase::Leaving;
        Ok(Some(Reply::Started {
            cell: self.id(),
            setup_us: micros(now - self.asked),
        }))
    }

    /// Notes that the trees in use were used now. Should that fail, they look older than they are.
    fn mark_trees(&self) {
        let std = self.order.request.frozen.then_some(&self.order.std);
        let all = [Some(&self.order.sdk), std, self.order.command.as_ref()];
        for name in all.into_iter().flatten() {
            let _only_looks_older = store::mark_used(name);
        }
    }

    /// Starts the relay with what the asker and the cell have given; without one the cell ends.
    fn start_relay(&mut self, host: &Host) -> Result<(), Failed> {
        let step = |error: String| ("relay".to_owned(), error);
        let (waiting, given) = (self.waiting.take(), self.given.take());
        let both = waiting.zip(given);
        let ((descriptors, output), (listener, bin)) =
            both.ok_or_else(|| step("no descriptors".to_owned()))?;
        let gifts = Gifts {
            listener,
            session: descriptors.session,
            talk: descriptors.talk,
            output,
            bin,
            artifact: descriptors.artifact,
        };
        let begin = Instant::now();
        let relay = relay::start(host, self.slot, gifts).map_err(|e| step(e.to_string()))?;
        self.lap("start of the relay", begin);
        self.relay = Some(relay);
        Ok(())
    }

    /// The talk closes when the job is executed; four bytes are the error why it was not.
    fn left(&mut self) -> Result<Option<Reply>, Failed> {
        match self.four_bytes() {
            Ok(Some(number)) => {
                let error = std::io::Error::from_raw_os_error(number);
                Err((exec_step(), error.to_string()))
            }
            Ok(None) => {
                self.talk = None;
                self.phase = Phase::Running;
                Ok(None)
            }
            Err(error) => Err((exec_step(), error)),
        }
    }

    /// Notes what has passed since a moment as a step of the set-up.
    fn lap(&mut self, step: &str, from: Instant) {
        let passed = micros(from.elapsed());
        self.report.setup_us.push((step.to_owned(), passed));
    }

    fn four_bytes(&self) -> Result<Option<i32>, String> {
        let talk = self.talk.as_ref().ok_or("init has nothing to say")?;
        let mut bytes = [0; 4];
        match nix::unistd::read(talk, &mut bytes) {
            Ok(4) => Ok(Some(i32::from_le_bytes(bytes))),
            Ok(0) | Err(Errno::ECONNRESET) => Ok(None),
            Ok(_) => Err("init spoke out of turn".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
