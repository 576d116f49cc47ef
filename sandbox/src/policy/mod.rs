//! The policy language: what a cell may do, as data, each rule with its reason.
//!
//! Called by the supervisor, which compiles policies at its start, and by the asker, which reads
//! the limits it has to watch over. A policy can only add to nothing: the language has no word for
//! allowing by default, for a capability or for a mount without `nosuid`. What it could still
//! express below the floor ([`floor`]) is refused. Must never read a policy from a message.

mod calls;
pub mod evaluate;
mod file;
pub(crate) mod filter;
mod floor;
mod folder;
#[cfg(test)]
mod kernel_tests;
mod roles;
pub(crate) mod table;

pub use folder::folder;
pub use roles::Role;
pub(crate) use roles::{FolderRights, RolePolicy};

use std::fmt::Write as _;

use nix::errno::Errno;
use sha2::{Digest as _, Sha256};

pub use table::Arch;

/// Longest policy file in bytes; the built-in one has 10 KiB.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;
/// Most policies of a folder.
pub const POLICIES_MAX: usize = 64;

const BUILD: &str = include_str!("../../../policies/build.toml");
const PROBE: &str = include_str!("../../../policies/probe.toml");
const LEGACY_GO: &str = include_str!("../../../policies/legacy-go.toml");

/// Why a policy is not one.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file is no TOML, has unknown keys, or lacks one.
    #[error("policy `{name}` does not parse")]
    Parse {
        /// Which policy.
        name: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A rule without a reason, or one that makes no sense.
    #[error("policy `{name}`: {rule}: {why}")]
    Rule {
        /// Which policy.
        name: String,
        /// Which rule.
        rule: String,
        /// What is wrong with it.
        why: String,
    },
    /// The policy asks for less than every cell must have.
    #[error("policy `{name}` goes below the floor: {why}")]
    Floor {
        /// Which policy.
        name: String,
        /// What it lacks.
        why: String,
    },
    /// The folder or a file of it cannot be read, or others than root may write it.
    #[error("policy folder `{path}`: {why}")]
    Folder {
        /// Which folder or file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A compiled policy: nothing in it can be wrong any more.
#[derive(Debug, Clone)]
pub struct Policy {
    pub(crate) arch: Arch,
    name: String,
    sha256: String,
    limits: Limits,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) places: Vec<Place>,
    pub(crate) landlock: LandlockAbi,
    pub(crate) paths: Vec<PathRule>,
    pub(crate) calls: Vec<CallRule>,
    /// The calls, compiled.
    programs: filter::Programs,
}

/// Limits of a cell. The asker watches over silence, output and artifact, the supervisor and the
/// kernel over the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wall clock of the job.
    pub wall_ms: u64,
    /// Longest time without output and without a request to the relay.
    pub silence_ms: u64,
    /// Most bytes that the job may print.
    pub output_bytes: u64,
    /// Largest file that the gate lets out.
    pub artifact_bytes: u64,
    /// Size of the file system that holds home, caches and temporary files.
    pub scratch_bytes: u64,
    /// Most files and folders on it.
    pub scratch_inodes: u64,
    /// Most threads and processes.
    pub processes: u64,
    /// Most open files of a process.
    pub files: u64,
    /// Longest file.
    pub file_bytes: u64,
    /// Most data of one process.
    pub memory_bytes: u64,
    /// Most memory of all processes together, and of the files that they write.
    pub cell_memory_bytes: u64,
    /// Most processors that a cell runs on.
    pub processors: u64,
    /// Most processor time of one process, in seconds.
    pub cpu_s: u64,
}

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    User,
    Mount,
    Pid,
    Net,
    Ipc,
    Uts,
    Cgroup,
}

impl Namespace {
    /// Every kind that a policy may name.
    pub(crate) const ALL: [Self; 7] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Net,
        Self::Ipc,
        Self::Uts,
        Self::Cgroup,
    ];

    /// Word in the policy language.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
        }
    }

    /// File name in `/proc/PID/ns`.
    pub(crate) fn file(self) -> &'static str {
        if self == Self::Mount {
            "mnt"
        } else {
            self.word()
        }
    }

    /// Flag of `clone3`.
    pub(crate) fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Net => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
        }
    }
}

/// What is mounted at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceKind {
    Root,
    Sdk,
    Home,
    Tmp,
    Cache,
    Null,
    Program,
    Command,
}

/// A mount of the cell; `nosuid` and `nodev` go without saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: PlaceKind,
    pub(crate) read_only: bool,
    pub(crate) no_exec: bool,
}

/// Landlock's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LandlockAbi {
    /// A kernel with less makes no cell.
    pub(crate) required: u8,
    /// What a kernel lacks of it is reported.
    pub(crate) wanted: u8,
}

/// What may be done below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathRule {
    pub(crate) path: String,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    /// Skipped where the path does not exist.
    pub(crate) optional: bool,
}

/// What happens to a system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallRule {
    pub(crate) number: i64,
    /// All must hold for the call to be allowed.
    pub(crate) when: Vec<Condition>,
    pub(crate) verdict: Verdict,
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Allowed when the conditions hold, else forbidden.
    Allow,
    /// Allowed when the conditions hold, else answered with an error.
    AllowElse(Errno),
    /// Always answered with an error.
    Answer(Errno),
}

/// One argument's low 32 bits, masked, must be one of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) arg: u8,
    pub(crate) mask: Option<u32>,
    pub(crate) values: Vec<u32>,
}

impl Policy {
    /// Parses and compiles a policy; `name` is its file's name without `.toml`.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        Self::parse_for(Arch::HOST, name, text)
    }

    /// The same for cells on another architecture.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn parse_for(arch: Arch, name: &str, text: &str) -> Result<Self, PolicyError> {
        let mut policy = file::parse(arch, name, text)?;
        floor::check(&policy)?;
        policy.programs = filter::compile(&policy).map_err(|why| PolicyError::Rule {
            name: policy.name.clone(),
            rule: "calls".to_owned(),
            why,
        })?;
        Ok(policy)
    }

    /// The policy of builds that is compiled in.
    ///
    /// # Panics
    /// Never: a test compiles it.
    #[must_use]
    pub fn build() -> Self {
        Self::build_for(Arch::HOST)
    }

    /// The same for cells on another architecture.
    pub(crate) fn build_for(arch: Arch) -> Self {
        Self::parse_for(arch, "build", BUILD).expect("the built-in policy is valid")
    }

    /// The policy for static programs of other languages that is compiled in.
    ///
    /// # Panics
    /// Never: a test compiles it.
    #[must_use]
    pub fn probe() -> Self {
        Self::parse("probe", PROBE).expect("the built-in policy is valid")
    }

    /// The policy for builds with Go before 1.21 that is compiled in.
    ///
    /// # Panics
    /// Never: a test compiles it.
    #[must_use]
    pub fn legacy_go() -> Self {
        Self::parse("legacy-go", LEGACY_GO).expect("the built-in policy is valid")
    }

    /// File name without `.toml`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file in hex; of the file followed by its base's SHA-256 in hex when it is a
    /// difference to another policy.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// What the kernel runs for each call, in the order of installation; see
    /// [`evaluate::decide`].
    ///
    /// # Panics
    /// Never: a policy whose calls do not compile is none.
    #[must_use]
    pub fn filters(&self) -> Vec<evaluate::Filter> {
        self.programs
            .filters()
            .expect("the programs were checked before")
    }

    /// The same, for installation.
    pub(crate) fn programs(&self) -> &filter::Programs {
        &self.programs
    }

    /// Flags of `clone3` for its namespaces.
    pub(crate) fn clone_flags(&self) -> i32 {
        self.namespaces.iter().fold(0, |all, one| all | one.flag())
    }

    /// How many different calls it allows, at least with some arguments.
    pub(crate) fn calls_allowed(&self) -> usize {
        let allows = |rule: &&CallRule| !matches!(rule.verdict, Verdict::Answer(_));
        self.calls.iter().filter(allows).count()
    }

    /// Numbers of the calls that are not forbidden, and whether each is allowed whatever its
    /// arguments.
    #[must_use]
    pub fn numbers(&self) -> std::collections::BTreeMap<i64, bool> {
        let always = |rule: &CallRule| rule.verdict == Verdict::Allow && rule.when.is_empty();
        self.calls
            .iter()
            .map(|rule| (rule.number, always(rule)))
            .collect()
    }

    /// The mount of a kind; the floor demands each.
    pub(crate) fn place(&self, kind: PlaceKind) -> Option<Place> {
        self.places.iter().find(|place| place.kind == kind).copied()
    }
}

/// The policies that are compiled in.
#[must_use]
pub fn builtin() -> Vec<Policy> {
    vec![Policy::build(), Policy::probe(), Policy::legacy_go()]
}

/// SHA-256 as 64 hex digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_policies_compile() {
        let (build, probe) = (Policy::build(), Policy::probe());
        assert_eq!(build.sha256(), sha256_hex(BUILD.as_bytes()));
        assert_ne!(build.sha256(), probe.sha256());
        let missing = usize::from(Arch::HOST == Arch::Aarch64); // arch_prctl
        assert_eq!(build.calls_allowed(), 68 - missing);
        assert_eq!(probe.calls_allowed(), 75 - 3 * missing); // poll, readlink
        let legacy = Policy::legacy_go();
        assert_eq!(legacy.calls_allowed(), build.calls_allowed() + 3);
        assert_eq!(legacy.paths, build.paths);
        assert!(build.place(PlaceKind::Command).is_none());
        assert!(legacy.place(PlaceKind::Command).is_some());
        assert_eq!(legacy.limits(), build.limits());
        assert_eq!(build.limits(), probe.limits());
        assert_eq!(build.clone_flags(), probe.clone_flags());
    }
}
