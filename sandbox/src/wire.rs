//! Messages between `serve` (or `hotcell build`) and `supervise`: typed, bounded, one per datagram.
//!
//! The socket is `SOCK_SEQPACKET`, so that a message and its descriptors arrive together or not at
//! all. The supervisor trusts nothing in a [`Request`]: it makes argument lists, environment and
//! mounts itself from the fields, after it has checked each of them.

use serde::{Deserialize, Serialize};

/// Version of every message between roles, in the first message of each socket. Changes whenever a
/// message does, so that a role of another release is refused and never half understood.
pub const VERSION: u32 = 6;
/// Longest message in bytes; well under the kernel's default socket buffer of 212,992 bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Most descriptors that travel with one message; the kernel's own maximum is 253 (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 4;

/// Names a cell for as long as it lives; chosen by the asker, unique within one connection.
pub type CellId = u64;

/// What the supervisor is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Copy an unpacked SDK into the store while its `h1:` is recomputed.
    /// Descriptor: the folder, opened for reading.
    Adopt {
        /// `go1.26.8`; the tree is hashed as module `golang.org/toolchain` of this version.
        go: String,
        /// The directory hash that the checksum database vouches for.
        h1: String,
    },
    /// Make a cell and run one job in it.
    /// Descriptors, in this order: the relay's socket to `fetch`, the relay's socket to the asker,
    /// the file that receives the artifact (read and write), and for [`Job::Program`] the program.
    Cell(CellRequest),
    /// End a cell now.
    Cancel {
        /// Which one.
        cell: CellId,
        /// Why; becomes the ending.
        why: CancelReason,
    },
    /// What does the store hold? Answered by [`Reply::Trees`], in parts.
    Trees,
    /// Delete a tree that no cell uses.
    Remove {
        /// A name from [`Reply::Trees`].
        tree: String,
    },
    /// Read a tree, through the page cache and past it, and compare it with its manifest.
    /// Answered by [`Reply::Verified`] or [`Reply::PutAway`].
    Verify {
        /// A name from [`Reply::Trees`].
        tree: String,
    },
}

/// One cell with one job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellRequest {
    /// Name for the replies.
    pub cell: CellId,
    /// SHA-256 of the policy file, in hex; the supervisor knows those that it was started with.
    pub policy: String,
    /// `h1:` of the adopted SDK.
    pub sdk: String,
    /// Version of that SDK, such as `go1.26.8`.
    pub go: String,
    /// Target operating system, as `GOOS`.
    pub goos: String,
    /// Target architecture, as `GOARCH`.
    pub goarch: String,
    /// What runs.
    pub job: Job,
    /// Whether the frozen standard library lies under the build's own cache.
    /// Asking for a frozen cache that does not exist is refused.
    pub frozen: bool,
    /// Lowers the policy's wall clock; never raises it.
    pub wall_ms_max: Option<u64>,
}

/// What runs in a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// `go build std` with the flags of a build; its cache is frozen when it succeeds.
    Std,
    /// The static go command of an SDK before Go 1.21, whose own is linked dynamically; or, in the
    /// SDK of [`crate::supervisor::DRIVER_GO`], the one that makes all of these. Kept as a tree
    /// when it succeeds.
    Command,
    /// `go install` of one package at one version, before Go 1.18 `go get`.
    Install {
        /// Import path of the package, such as `filippo.io/age/cmd/age`.
        package: String,
        /// Version of its module, such as `v1.2.1`.
        version: String,
        /// With `-s`: no symbol table, no debug information.
        stripped: bool,
    },
    /// `go list` of the commands of one module; a line for each comes out.
    List {
        /// Module path, such as `filippo.io/age`.
        module: String,
        /// Its version, such as `v1.2.1`.
        version: String,
    },
    /// A static program in the place of the go command.
    Program {
        /// Arguments after the name.
        args: Vec<String>,
        /// A forbidden call ends the offending process instead of the cell.
        keep_going: bool,
    },
}

/// Why somebody ends a cell from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Nobody wants the result any more.
    Unwanted,
    /// Neither output nor request for longer than the policy allows.
    Silence,
    /// More output than the policy allows.
    Output,
    /// The cell asked for more, or otherwise, than the relay allows.
    Request,
    /// The relay is gone.
    Relay,
    /// What it ran on is not what it was; see [`Reply::PutAway`].
    PutAway,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Sent once, unasked, when the supervisor is ready.
    Ready {
        /// Policies it knows.
        policies: Vec<PolicyName>,
        /// What this host cannot enforce, whatever the policy.
        not_in_force: Vec<NotInForce>,
    },
    /// The tree is in the store and every byte of it was hashed.
    Adopted {
        /// Its directory hash.
        h1: String,
    },
    /// The job is about to run: all powers are dropped, execve is next.
    Started {
        /// Which cell.
        cell: CellId,
        /// From the request to this message, in microseconds.
        setup_us: u64,
    },
    /// The job is over and no process of the cell is left.
    Ended {
        /// Which cell.
        cell: CellId,
        /// How.
        ending: Ending,
        /// What was in force.
        report: Box<Report>,
    },
    /// A request was not carried out; nothing was changed.
    Refused {
        /// The cell, when the request had one.
        cell: Option<CellId>,
        /// The `h1:` or tree, when the request had one.
        tree: Option<String>,
        /// One sentence without a full stop.
        why: String,
    },
    /// Trees of the store; `more` says that another message follows.
    Trees {
        /// Some of them.
        trees: Vec<Tree>,
        /// Whether another part follows.
        more: bool,
    },
    /// The tree is gone.
    Removed {
        /// Which one.
        tree: String,
    },
    /// The tree is what it was.
    Verified {
        /// Which one.
        tree: String,
        /// What was read.
        check: Check,
    },
    /// A tree is not what it was. It was put away; its cells were ended; nothing uses it again.
    /// Also sent unasked: somebody must look.
    PutAway(PutAway),
}

/// What a check of a tree has read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Why they, or some of them, were only read through the page cache.
    pub not_past_cache: Option<String>,
}

/// A tree that was put away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAway {
    /// The name that it had.
    pub tree: String,
    /// What it was, for people.
    pub title: String,
    /// The digest that it had.
    pub digest: String,
    /// The difference, in a sentence without a full stop.
    pub why: String,
    /// Seconds since 1970 when it was last found to be what it was: what was built since is in
    /// doubt.
    pub sound_s: u64,
}

/// A policy that the supervisor has compiled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyName {
    /// File name without `.toml`.
    pub name: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
}

/// A tree of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// `sdk/<hex>`, `std/<hex>` or `go/<hex>`.
    pub name: String,
    /// What it is, for people: `go1.26.8`, `go1.26.8 windows/amd64`, `go1.17.13 go command`.
    pub title: String,
    /// Its `h1:` for an SDK; the SHA-256 of its manifest for a frozen cache, of the program for
    /// a go command.
    pub digest: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Seconds since 1970 of the last cell that used it.
    pub used_s: u64,
    /// Seconds since 1970 when every byte was last found to be what it was; 0: a check is due.
    pub checked_s: u64,
    /// Why no cell uses it any more; then the name begins with `quarantine/`.
    pub put_away: Option<String>,
}

/// How a cell ended. Codes are stable; each has a remedy in `hotcell::build::ending`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Ending {
    /// Exit status 0.
    Success,
    /// Any other exit status of the program.
    Failed {
        /// 1 to 255.
        status: u8,
    },
    /// Ended by a signal that nobody here sent.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// A system call outside the policy.
    ForbiddenCall {
        /// Its name where known, else the number.
        call: String,
        /// Its number.
        number: i64,
        /// Its arguments.
        args: [u64; 6],
        /// Instruction pointer.
        ip: u64,
    },
    /// Wall clock.
    Wall {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// Processor time.
    Cpu {
        /// The limit in seconds.
        limit_s: u64,
    },
    /// All processes together wanted more memory than the cell may have; the kernel killed them.
    Memory {
        /// The limit in bytes.
        limit_bytes: u64,
        /// Most bytes at a time, 0 where the kernel does not tell.
        peak_bytes: u64,
    },
    /// More threads and processes than allowed.
    Processes {
        /// The limit.
        limit: u64,
    },
    /// The scratch file system is full.
    Disk {
        /// The limit in bytes.
        limit_bytes: u64,
        /// Most bytes at a time that were seen.
        used_bytes: u64,
    },
    /// The scratch file system has no room for another file.
    Inodes {
        /// The limit.
        limit: u64,
        /// Most files at a time that were seen.
        used: u64,
    },
    /// A file longer than allowed.
    FileSize {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// Ended on request.
    Cancelled {
        /// Why.
        why: CancelReason,
    },
    /// The cell could not be made; the program never ran.
    Setup {
        /// The step that failed.
        step: String,
        /// The cause.
        error: String,
    },
}

/// What held the cell, read back from the kernel by its init before it let go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// SHA-256 of the policy file, in hex.
    pub policy_sha256: String,
    /// Each a short phrase such as `seccomp: mode 2, 3 filters`.
    pub in_force: Vec<String>,
    /// What was wanted and is not there.
    pub not_in_force: Vec<NotInForce>,
    /// Processor time of all processes of the cell, in milliseconds.
    pub cpu_ms: u64,
    /// Most memory that one process of the cell held, or all of them where a cgroup counts.
    pub memory_peak_bytes: u64,
    /// Most bytes at a time on the scratch file system, looked at four times a second.
    #[serde(default)]
    pub scratch_peak_bytes: u64,
    /// Most files and folders at a time on it.
    #[serde(default)]
    pub scratch_peak_inodes: u64,
    /// From start to end, in milliseconds.
    pub wall_ms: u64,
    /// Steps of the set-up with their time in microseconds.
    pub setup_us: Vec<(String, u64)>,
    /// Forbidden calls that ended a process with `keep_going`; at most 256 are kept.
    pub forbidden: Vec<String>,
}

/// A defence that is missing, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotInForce {
    /// The defence.
    pub what: String,
    /// Why it is missing.
    pub why: String,
}

impl NotInForce {
    /// All processes of a cell together can use more memory than the policy says.
    pub const MEMORY: &str = "memory limit";
    /// All processes of a cell together can be more than the policy says.
    pub const PROCESSES: &str = "process limit of the whole cell";
    /// A cell has the same right to the processors as the service.
    pub const CPU: &str = "cpu share";

    /// Whether it is a limit on resources, rather than a wall.
    #[must_use]
    pub fn is_limit(&self) -> bool {
        [Self::MEMORY, Self::PROCESSES, Self::CPU].contains(&self.what.as_str())
    }
}
