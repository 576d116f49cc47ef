//! Can a cell be made here? The one answer that counts is a cell.

use std::os::fd::OwnedFd;

use hotcell_sandbox::wire::{Ending, Job};
use tokio::sync::mpsc;

use super::{Failure, engine::Engine};
use crate::spec::{GoVersion, Target};

/// Progress that nobody looks at.
pub(super) const PROGRESS_MAX: usize = 1;

/// A cell that was made.
#[derive(Debug)]
pub struct Probed {
    /// The SDK in it.
    pub go: GoVersion,
    /// What was read back from the kernel.
    pub in_force: Vec<String>,
    /// From the request to the program, in microseconds, when the set-up came so far.
    pub setup_us: u64,
}

impl Engine {
    /// Makes a cell around `program` with the newest SDK of the store; nothing when there is none.
    /// How the program ends does not matter: what is read back was in force before it began.
    ///
    /// # Errors
    /// Why no cell could be made.
    pub async fn probe(&self, program: &OwnedFd) -> Result<Option<Probed>, Failure> {
        let newest = self.sdks().iter().map(|(go, h1)| (*go, h1.clone())).max();
        let Some((go, h1)) = newest else {
            return Ok(None);
        };
        let (sender, _nobody) = mpsc::channel(PROGRESS_MAX);
        let mut work = self.work(None, None, None, &sender);
        work.program = Some(program);
        let job = Job::Program {
            args: vec!["--version".to_owned()],
            keep_going: false,
        };
        let outcome = self.cell(work, go, &h1, Target::HOST, job, false).await?;
        let setup = &outcome.report.setup_us;
        let made = !outcome.report.in_force.is_empty();
        if let (false, Ending::Setup { .. }) = (made, &outcome.ending) {
            return Err(outcome.into_failure(&self.policy().name));
        }
        Ok(Some(Probed {
            go,
            setup_us: setup.iter().map(|(_, us)| us).sum(),
            in_force: outcome.report.in_force,
        }))
    }
}
