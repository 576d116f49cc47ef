//! What the cell's init and the supervisor say to each other before the job runs.
//!
//! Init speaks in messages, the supervisor answers each with one byte when it may go on. When the
//! supervisor is gone every wait ends the process. After the filter is installed nothing may
//! allocate or send descriptors: then only four raw bytes are written.

use std::{
    convert::Infallible,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::{errno::Errno, unistd};
use serde::{Deserialize, Serialize};

use super::{Step, StepError, mounts::Folders};
use crate::{
    channel::Channel,
    sys::{self, process},
};

/// The byte that lets init go on.
pub(crate) const GO_ON: u8 = b'+';

/// From init to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Namespaces, network and mounts are made. Descriptors: the listener, `GOPATH/bin`, `GOCACHE`.
    Opened,
    /// All powers are dropped, the filter comes next. Then four bytes follow: the number of its
    /// listener in init's own table.
    Dropped {
        /// Steps with their time.
        micros: Vec<(String, u64)>,
        /// What only init can tell.
        dropped: Dropped,
    },
    /// The job will not run.
    Failed {
        /// Which step.
        step: String,
        /// Why.
        error: String,
    },
}

/// What nobody but init can read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Dropped {
    /// Landlock's version of this kernel.
    pub(crate) landlock_abi: u8,
    /// Whether the securebits read back as locked.
    pub(crate) securebits: bool,
    /// Why further user namespaces could not be forbidden, if so.
    pub(crate) nesting: Option<String>,
    /// How many attempts at what a cell must not do have failed.
    pub(crate) refused: u32,
}

/// Init's end.
pub(crate) struct Talk {
    channel: Channel,
}

impl Talk {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Waits for the supervisor; ends this process when it is gone.
    pub(super) fn wait(&self) -> Result<(), Infallible> {
        let mut byte = [0];
        loop {
            match unistd::read(self.channel.as_fd(), &mut byte) {
                Ok(1) if byte[0] == GO_ON => return Ok(()),
                Err(Errno::EINTR) => {}
                _ => process::exit_now(1),
            }
        }
    }

    /// Hands the descriptors out. Nobody waits here: they lie in the socket until they are taken,
    /// and the next wait comes before the job.
    pub(super) fn opened(&self, listener: OwnedFd, folders: Folders) -> Result<(), String> {
        let fds = [listener.as_fd(), folders.bin.as_fd(), folders.cache.as_fd()];
        let sent = self.channel.send(&Said::Opened, &fds);
        sent.map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Tells what was dropped.
    pub(super) fn dropped(
        &self,
        micros: Vec<(String, u64)>,
        dropped: Dropped,
    ) -> Result<(), String> {
        let said = Said::Dropped { micros, dropped };
        self.channel
            .send(&said, &[])
            .map_err(|error| error.to_string())
    }

    /// Tells the number of the filter's listener and waits. Does not allocate.
    pub(super) fn armed(&self, filter: &OwnedFd) {
        let number = filter.as_raw_fd().to_le_bytes();
        if unistd::write(self.channel.as_fd(), &number) != Ok(number.len()) {
            process::exit_now(1);
        }
        let Ok(()) = self.wait();
    }

    /// Tells why the job could not be executed and ends. Does not allocate.
    pub(super) fn gone(&self, error: io::Error) -> ! {
        let number = error.raw_os_error().unwrap_or(0).to_le_bytes();
        let _told = unistd::write(self.channel.as_fd(), &number);
        process::exit_now(1)
    }

    /// Tells which step failed.
    pub(super) fn failed(&self, error: &StepError) {
        let said = Said::Failed {
            step: error.step.to_string(),
            error: error.error.clone(),
        };
        // When nobody listens, nobody is left to tell.
        let _told = self.channel.send(&said, &[]);
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Goes on with the same socket under another number; the old number is not closed.
    pub(super) fn renumber(&mut self, number: RawFd) {
        let old = std::mem::replace(&mut self.channel, Channel::from(sys::own(number)));
        std::mem::forget(old);
    }
}

/// The step in which `execve` failed.
pub(crate) fn exec_step() -> String {
    Step::Exec.to_string()
}
