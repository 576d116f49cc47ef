//! What a person types: commands, exit codes, and how errors and progress are shown.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 refused or failed, 2 usage
//! or configuration, 3 a proof, signature or hash is wrong, 4 try again later.

mod against;
mod build;
mod cell;
mod check;
mod config;
mod cosign;
mod disk;
mod doctor;
mod get;
mod host;
mod init;
mod keygen;
mod local;
mod lock;
mod log;
mod progress;
mod proof;
mod quorum;
mod recover;
mod rules;
mod selftest;
mod serve;
mod signer;
mod succeed;
mod tls;
mod toolchain;
mod verify;
mod watch;

use std::{fmt::Display, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    build::{Failure, FailureClass},
    spec::{GoQuery, SpecError, Target, Variant},
};

/// Hermetic, reproducible, logged builds of Go modules.
#[derive(Debug, Parser)]
#[command(name = "hotcell", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    network: Network,
    #[command(subcommand)]
    command: Command,
}

/// Where modules and their hashes come from.
#[derive(Debug, Clone, Args)]
struct Network {
    /// Module proxies, as the go command's GOPROXY; `direct` is never followed
    #[arg(long, global = true, value_name = "LIST")]
    goproxy: Option<String>,
    /// Verifier key of another checksum database than the public one (`name+hash+key`)
    #[arg(long, global = true, value_name = "KEY")]
    sumdb: Option<String>,
    /// Module proxies by the configuration file, after the environment.
    #[arg(skip)]
    configuration: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the build service: web pages, queue, cells, log
    Serve(Box<serve::Serve>),
    /// Build one program in a cell on this machine, without a server
    Build(build::Build),
    /// Build one program and write its lock file: every hash that went into it
    Plan(build::Plan),
    /// Fetch a program from an instance and verify everything about it
    Get(get::Get),
    /// Prove offline, from its receipt, what a program was built from and that a log says so
    Verify(verify::Verify),
    /// The transparency log: what it says, and its keys
    #[command(subcommand)]
    Log(log::Log),
    /// Run programs in cells
    #[command(subcommand)]
    Cell(cell::Cell),
    /// What this machine has and lacks for cells, and what to do
    Doctor(doctor::Doctor),
    Selftest(selftest::Selftest),
    /// Go SDKs of this machine's cells
    #[command(subcommand)]
    Toolchain(toolchain::Toolchain),
    Config(config::Config),
    #[command(name = "testconfig")]
    TestConfig(config::TestConfig),
}

/// What to build for.
#[derive(Debug, Clone, Args)]
struct TargetArgs {
    /// Operating system and architecture, such as windows/amd64 [default: this machine]
    #[arg(long, value_name = "OS/ARCH")]
    target: Option<String>,
    /// Go release, such as go1.26.8, go1.26.latest or latest
    #[arg(long, value_name = "VERSION", default_value = "latest")]
    go: String,
    /// Link without symbol table and debug information
    #[arg(long)]
    stripped: bool,
}

impl TargetArgs {
    fn target(&self) -> Result<Target, SpecError> {
        self.target
            .as_deref()
            .map_or(Ok(Target::HOST), Target::parse)
    }

    fn variant(&self) -> Variant {
        if self.stripped {
            Variant::Stripped
        } else {
            Variant::Plain
        }
    }

    fn go(&self) -> Result<GoQuery, SpecError> {
        GoQuery::parse(&self.go)
    }
}

/// How a command ends when it does not end well.
#[derive(Debug)]
struct Stop {
    code: u8,
    text: String,
    hint: Option<String>,
}

impl Stop {
    /// Refused or failed.
    const FAILED: u8 = 1;
    /// Usage or configuration.
    const USAGE: u8 = 2;
    /// A proof, signature or hash is wrong.
    const WRONG: u8 = 3;
    /// Try again later.
    const LATER: u8 = 4;

    fn new(code: u8, text: impl Display) -> Self {
        Self {
            code,
            text: text.to_string(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With all causes in one line.
    fn chain(code: u8, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        Self::new(code, text)
    }
}

impl From<SpecError> for Stop {
    fn from(error: SpecError) -> Self {
        Self::new(Self::USAGE, error)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        let code = match failure.class {
            FailureClass::CannotBuild | FailureClass::Internal => Self::FAILED,
            FailureClass::BadSpec => Self::USAGE,
            FailureClass::Verify => Self::WRONG,
            FailureClass::Proxy | FailureClass::Busy => Self::LATER,
        };
        let text = format!("{} [{}]", failure.sentence, failure.code);
        Self::new(code, text).hint(failure.remedy)
    }
}

/// Parses the command line and runs it.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse(); // ends with code 2 and a text of its own when it does not parse
    let result = match cli.command {
        Command::Serve(command) => command.run(&cli.network),
        Command::Build(command) => command.run(&cli.network),
        Command::Plan(command) => command.run(&cli.network),
        Command::Get(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Log(command) => command.run(&cli.network),
        Command::Cell(command) => command.run(&cli.network),
        Command::Doctor(command) => command.run(&cli.network),
        Command::Selftest(command) => command.run(&cli.network),
        Command::Toolchain(command) => command.run(&cli.network),
        Command::Config(command) => command.run(),
        Command::TestConfig(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            say(format_args!("hotcell: {}", stop.text));
            if let Some(hint) = stop.hint {
                say(format_args!("hint: {hint}"));
            }
            ExitCode::from(stop.code)
        }
    }
}

/// One line for the person, on stderr.
fn say(text: impl Display) {
    use std::io::Write as _;
    // A closed stderr leaves nobody to tell.
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}

/// Data, on stdout.
fn print(text: impl Display) -> Result<(), Stop> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(|error| Stop::new(Stop::FAILED, format!("cannot write to stdout: {error}")))
}

/// A folder of the XDG base directory specification, below `hotcell`.
fn xdg(variable: &str, fallback: &str) -> Result<PathBuf, Stop> {
    let absolute = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let base = absolute(variable).or_else(|| Some(absolute("HOME")?.join(fallback)));
    base.map(|base| base.join("hotcell")).ok_or_else(|| {
        Stop::new(
            Stop::USAGE,
            format!("neither {variable} nor HOME names a folder"),
        )
        .hint(format!("set {variable} to an absolute path"))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn failures_have_the_exit_codes_of_their_class() {
        for (class, code) in [
            (FailureClass::CannotBuild, 1),
            (FailureClass::BadSpec, 2),
            (FailureClass::Verify, 3),
            (FailureClass::Proxy, 4),
            (FailureClass::Busy, 4),
            (FailureClass::Internal, 1),
        ] {
            let failure = crate::build::ending::failure("x", class, "text".to_owned(), "remedy");
            assert_eq!(Stop::from(failure).code, code);
        }
    }
}
