//! `hotcell cell run`: a program of one's own in the place of the go command.

use std::{fs::File, os::fd::OwnedFd, path::PathBuf};

use clap::{Args, Subcommand};
use hotcell_sandbox::wire::Ending;
use serde_json::json;

use super::{Network, Stop, local::Local, print, progress, say};
use crate::{
    build::{EnginePolicy, Executor, ProgramRequest, ProgramRun, ending},
    spec::{GoQuery, ModuleVersion},
};

#[derive(Debug, Subcommand)]
pub(super) enum Cell {
    /// Run a static program in a cell made exactly as for a build
    Run(Run),
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Another policy than the built-in one; `probe` adds the calls of C and Rust programs
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The SDK that lies in the cell
    #[arg(long, value_name = "VERSION", default_value = "latest")]
    go: String,
    /// Let the relay serve this module and what it requires
    #[arg(long, value_name = "MODULE@VERSION")]
    module: Option<String>,
    /// A forbidden system call ends the offending process only
    #[arg(long)]
    keep_going: bool,
    /// One JSON document on stdout: ending, report, output
    #[arg(long)]
    json: bool,
    /// The program, and its arguments
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    program: Vec<String>,
}

impl Cell {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        let Self::Run(run) = self;
        run.run(network)
    }
}

impl Run {
    fn run(self, network: &Network) -> Result<(), Stop> {
        let go = GoQuery::parse(&self.go)?;
        let root = self.module.as_deref().map(parse_module).transpose()?;
        let (path, args) = self.program.split_first().expect("clap requires one");
        let program: OwnedFd = File::open(path)
            .map_err(|error| Stop::new(Stop::USAGE, format!("cannot open `{path}`: {error}")))?
            .into();
        let args = args.to_vec();
        let local = Local::start(network, self.policy.as_deref(), false)?;
        local.run(async |engine| {
            let go = engine.resolve_go(go).await?;
            let keep_going = self.keep_going;
            let request = ProgramRequest {
                go,
                root,
                program,
                args,
                keep_going,
                gate: None,
            };
            let (sender, shown) = progress::quiet(format!("{go}"));
            let result = engine.program(request, &sender).await;
            drop(sender);
            let _ended = shown.await;
            show(result?, engine.policy_for(go)?, self.json)
        })
    }
}

fn parse_module(text: &str) -> Result<ModuleVersion, Stop> {
    let (path, version) = text.split_once('@').unwrap_or((text, ""));
    Ok(ModuleVersion::parse(path, version)?)
}

/// Prints what the program printed, then how it ended; its exit status becomes ours.
fn show(run: ProgramRun, policy: &EnginePolicy, as_json: bool) -> Result<(), Stop> {
    let ended = match &run.ending {
        Ending::Success => Ok(()),
        Ending::Failed { status } => Err(Stop::new(
            *status,
            format!("the program ended with status {status}"),
        )),
        _ => Err(Stop::from(ending::of_program(&run, policy))),
    };
    if as_json {
        let document = json!({
            "ending": run.ending,
            "report": run.report,
            "refused": run.refused,
            "served": run.served,
            "output": run.output.terminal(),
        });
        print(document)?;
    } else {
        let text = run.output.terminal();
        print(text.strip_suffix('\n').unwrap_or(&text))?;
        for call in &run.report.forbidden {
            say(format_args!("forbidden: {call}"));
        }
        if let Some(what) = &run.refused {
            say(format_args!("refused request: {what}"));
        }
    }
    ended
}
