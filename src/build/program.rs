//! A program in the place of the go command, in a cell made exactly as for a build.
//!
//! Called by `cell run` and by the self-test.

use std::os::fd::OwnedFd;

use hotcell_sandbox::wire::{Ending, Job, Report};
use tokio::sync::mpsc;

use super::{Engine, Failure, Progress, cell::Outcome};
use crate::{
    fetch::wire::{Member, ModuleHash},
    output::Output,
    relay::wire::Order,
    spec::{GoVersion, ModuleVersion, Target},
};

/// A program in the place of the go command.
#[derive(Debug)]
pub struct ProgramRequest {
    /// The SDK that lies in its cell.
    pub go: GoVersion,
    /// The module whose closure its relay serves.
    pub root: Option<ModuleVersion>,
    /// A static program, opened for reading.
    pub program: OwnedFd,
    /// Its arguments.
    pub args: Vec<String>,
    /// A forbidden call ends the offending process only.
    pub keep_going: bool,
    /// What the gate must find when the program has succeeded, if it is to look at all.
    pub gate: Option<Order>,
}

/// How a program in a cell went.
#[derive(Debug)]
pub struct ProgramRun {
    /// How it ended.
    pub ending: Ending,
    /// What held it.
    pub report: Report,
    /// What it printed.
    pub output: Output,
    /// First request outside the grammar.
    pub refused: Option<String>,
    /// What it was given.
    pub served: Vec<ModuleHash>,
    /// Whether the gate was asked for and let something through.
    pub gated: bool,
    /// From the supervisor's receipt of the request to the program's execution, in microseconds.
    pub setup_us: u64,
}

impl Engine {
    /// Runs a program in a cell made exactly as for a build.
    ///
    /// # Errors
    /// When the cell could not be made.
    pub async fn program(
        &self,
        request: ProgramRequest,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<ProgramRun, Failure> {
        let h1 = self.sdk(request.go, progress).await?;
        self.go_command(request.go, &h1, progress).await?;
        self.standard_library(request.go, &h1, Target::HOST, progress)
            .await?;
        let root = request.root.map(|module| Member {
            path: module.path.to_string(),
            version: module.version.to_string(),
        });
        let mut work = self.work(root, None, request.gate, progress);
        work.program = Some(&request.program);
        let job = Job::Program {
            args: request.args,
            keep_going: request.keep_going,
        };
        let Outcome {
            ending,
            report,
            output,
            refused,
            served,
            gated,
            setup_us,
            ..
        } = self
            .cell(work, request.go, &h1, Target::HOST, job, true)
            .await?;
        Ok(ProgramRun {
            ending,
            report,
            output,
            refused,
            served,
            gated: gated.is_some(),
            setup_us,
        })
    }
}
