//! One build: SDK, frozen standard library, cell, gate. Called by the queue of `serve` and by
//! `hotcell build`; owns no state of its own.
//!
//! The [`Executor`] is the seam: the queue knows this trait only, tests put a fake behind it.

pub mod budget;
mod cell;
mod checks;
mod code;
pub mod ending;
mod engine;
mod executor;
pub mod fetching;
mod gating;
mod listing;
mod phrases;
mod probe;
mod program;
mod stock;
pub mod supervise;
mod words;

pub use self::code::{Code, Owner, Owners, PackageCode};
pub use self::engine::{Engine, EnginePolicy};
pub use self::listing::Command;
pub use self::probe::Probed;
pub use self::program::{ProgramRequest, ProgramRun};

use std::{fs::File, future::Future, net::IpAddr, pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    fetch::wire::{ModuleHash, ModuleLicences},
    output::Output,
    spec::{BuildKey, GoQuery, GoVersion, ModulePath, ModuleVersion, PackageDir, PackageQuery},
};

/// A boxed future, so that the trait can be an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs builds on this machine, or elsewhere.
pub trait Executor: Send + Sync + 'static {
    /// Says what module and concrete version a package and a query mean today.
    fn resolve(&self, ask: PackageQuery) -> BoxFuture<'_, Result<Resolved, Failure>>;

    /// Says what a Go query (`latest`, `go1.26.latest`, `go1.26.8`) means today.
    fn resolve_go(&self, ask: GoQuery) -> BoxFuture<'_, Result<GoVersion, Failure>>;

    /// Known versions of a module, newest first, and warnings about it.
    fn versions(&self, module: ModulePath) -> BoxFuture<'_, Result<Versions, Failure>>;

    /// The main packages of a module, by directory. Takes a cell, as a build does; dropping the
    /// future ends it.
    fn commands(&self, module: ModuleVersion) -> BoxFuture<'_, Result<Vec<Command>, Failure>>;

    /// What an address is called, if anything, as its owner says.
    fn host_name(&self, address: IpAddr) -> BoxFuture<'_, Result<Option<String>, Failure>>;

    /// What a person must look at, a sentence each: things that were found to be changed and were
    /// put away. Empty when all is well.
    fn alarms(&self) -> Vec<String> {
        Vec::new()
    }

    /// SDKs, frozen caches and go commands on disk: what each is, and its size in bytes. Nothing
    /// when they cannot be asked for.
    fn trees(&self) -> BoxFuture<'_, Vec<(String, u64)>> {
        Box::pin(async { Vec::new() })
    }

    /// Licences of modules that a build was served; those of which nothing is known are left out.
    fn licences(&self, _modules: Vec<ModuleHash>) -> BoxFuture<'_, Vec<ModuleLicences>> {
        Box::pin(async { Vec::new() })
    }

    /// Builds `key`, writes the binary to `artifact` (empty, writable) and says what was built.
    /// Dropping the future ends the cell. Progress is lossy: a full channel drops it.
    fn build(
        &self,
        key: BuildKey,
        artifact: File,
        progress: mpsc::Sender<Progress>,
    ) -> BoxFuture<'_, Result<Built, Failure>>;
}

/// The answer to a moving name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Module and concrete version.
    pub module: ModuleVersion,
    /// Directory of the package within it.
    pub dir: PackageDir,
    /// Retracted, deprecated: shown, never a reason to fail.
    pub warnings: Vec<String>,
}

/// What is known of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    /// Concrete versions, newest first.
    pub versions: Vec<String>,
    /// Deprecated.
    pub warnings: Vec<String>,
}

/// What a person sees while a build goes on.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "progress", rename_all = "snake_case")]
pub enum Progress {
    /// A new phase begins.
    Phase {
        /// Which.
        phase: Phase,
    },
    /// Bytes of the current phase.
    Bytes {
        /// So far.
        bytes: u64,
        /// Expected, when known.
        bytes_total: Option<u64>,
    },
    /// A module was verified and handed to the cell.
    Module {
        /// Which, with its hashes.
        module: ModuleHash,
    },
    /// A piece of what the go command printed.
    Output {
        /// Hostile bytes; the type shows them escaped only.
        output: Output,
    },
}

/// Stages of one build, in their order. The first two happen once for an SDK and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The SDK is downloaded, verified, adopted.
    Sdk,
    /// The standard library is compiled and frozen.
    StandardLibrary,
    /// The go command runs.
    Build,
    /// The gate copies, hashes and checks the binary.
    Gate,
}

impl Phase {
    /// The name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::StandardLibrary => "standard_library",
            Self::Build => "build",
            Self::Gate => "gate",
        }
    }
}

/// A finished build. The bytes are in the file that the caller gave.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Built {
    /// SHA-256 of the binary.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
    /// All that the relay served, sorted by path and version.
    pub modules: Vec<ModuleHash>,
    /// `h1:` of the SDK.
    pub sdk_h1: String,
    /// What held the cell.
    pub cell: CellSummary,
    /// Time of each phase in milliseconds.
    pub timings_ms: Vec<(Phase, u64)>,
    /// All that the go command printed (stdout and stderr), cut at the policy's limit.
    pub output: Output,
    /// Retracted, deprecated.
    pub warnings: Vec<String>,
    /// What code the binary has, when it says so. Not part of a published result's row: it has a
    /// table of its own there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
}

/// The cell's report, as `--json` and pages show it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CellSummary {
    /// Name of the policy.
    pub policy: String,
    /// SHA-256 of its file, hex.
    pub policy_sha256: String,
    /// Short phrases.
    pub in_force: Vec<String>,
    /// What is missing and why.
    pub not_in_force: Vec<hotcell_sandbox::wire::NotInForce>,
    /// Stable code of the ending, such as `success`.
    pub ending: String,
    /// Processor time.
    pub cpu_ms: u64,
    /// Memory peak.
    pub memory_peak_bytes: u64,
}

/// Why there is no binary.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{sentence}")]
pub struct Failure {
    /// Stable code, such as `build_failed`, `incomplete_go_mod`, `not_found`, `forbidden_call`.
    pub code: String,
    /// Sorts failures by HTTP status and exit code.
    pub class: FailureClass,
    /// One sentence without a full stop, safe to show (no hostile bytes unescaped).
    pub sentence: String,
    /// One line: what to do about it.
    pub remedy: String,
    /// What the go command printed; may be empty.
    pub output: Output,
    /// What held the cell, when there was one.
    pub cell: Option<Box<CellSummary>>,
    /// The object of the failure, for programs; absent in records of older releases.
    #[serde(default)]
    pub about: Option<Box<About>>,
}

impl Failure {
    /// Whether the same inputs fail in the same way. What is not there may be published at any
    /// moment: such a failure is one of the moment, though its class is that of the inputs.
    #[must_use]
    pub fn repeats(&self) -> bool {
        self.class == FailureClass::CannotBuild
            && !matches!(self.code.as_str(), "not_found" | "no_such_go")
    }
}

/// What a failure is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Read from what the go command printed, not told by the kernel.
    pub guessed: bool,
    /// A path that the build was denied, or that the module calls itself; plain letters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The oldest Go release that would do, such as `go1.27`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub go: Option<String>,
    /// The first fault that the compiler found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    /// How the cell ended, where that says more than a status: the call with its arguments, the
    /// limit with its numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<hotcell_sandbox::wire::Ending>,
}

/// A place in source code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// `module@version/path/file.go`, or as the go command wrote it; plain letters only.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
}

/// What a failure means for the asker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The spec cannot be built: 404, remembered until retried, exit 1.
    CannotBuild,
    /// The spec is malformed: 400, exit 2.
    BadSpec,
    /// The proxy or checksum database is at fault: 502, not remembered, exit 4.
    Proxy,
    /// A hash, proof or signature is wrong: 502, an alarm, exit 3.
    Verify,
    /// Too much to do: 503 with Retry-After, exit 4.
    Busy,
    /// Ours: 500, exit 1.
    Internal,
}

/// How long a job may wait for interest before it is dropped.
pub const INTEREST: Duration = Duration::from_secs(60);
