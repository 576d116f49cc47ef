//! `hotcell selftest`: every known way out of a cell, tried on this kernel, judged from outside.
//!
//! The hostile program lies in the repository's folder `selftest/` and is carried within this one;
//! its table of attempts is read there and here. [`cells`] runs it in production cells, [`under`]
//! in other sandboxes, for comparison; [`judge`] says what each claim is worth; [`evidence`] is
//! what the host sees, which counts more. Called by the command line only. Must never start
//! anything without a bound that could harm this machine: what has no limit in force is not tried.

mod archive;
mod cells;
mod evidence;
mod judge;
mod outcome;
mod sight;
mod table;
mod timings;
mod under;

use serde::Serialize;

pub use self::{
    cells::{Cells, POLICIES},
    evidence::Evidence,
    timings::{Timings, measure},
    under::{Other, UnderError, run as run_under},
};

/// The hostile program: a static ELF file, or nothing on an architecture that it does not know.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile"));

/// Titles of the classes of attacks; the first is class 1.
pub const CLASSES: [&str; 20] = [
    "writing to pages of files that can only be read",
    "output that leads elsewhere",
    "descriptors that leave the cell",
    "races with whoever clears away",
    "powers left on files",
    "archives that unpack elsewhere",
    "programs of the host through /proc",
    "what was inherited",
    "terminals",
    "other ways to make calls",
    "calls of other ABIs",
    "new namespaces and mounts",
    "the rest of the kernel",
    "control groups",
    "what Landlock does not control",
    "exhausting the machine",
    "running other programs",
    "the network",
    "outliving the build",
    "poisoning the next build",
];

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Something held.
    Stopped,
    /// Nothing held.
    Escaped,
    /// The defence is not in force on this host, as every report says too.
    NotInForce,
    /// Nobody can tell; the detail says why.
    Unjudged,
}

/// One attempt, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Stable name.
    pub id: String,
    /// Class of attacks, 1 to 20; see [`CLASSES`].
    pub class: u8,
    /// What was tried, in words.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What held first: `seccomp`, `landlock`, `mount`, `namespace`, `limits`, `nothing there`,
    /// `gate`, `relay`, …
    pub stopped_by: Option<String>,
    /// Who says so: `supervisor`, `host`, or the `program` itself, which is hostile.
    pub judged_by: &'static str,
    /// An errno, a call with its arguments, an ending, a reason.
    pub detail: String,
}

impl Attempt {
    fn of(row: &Row, verdict: Verdict, by: Option<&str>, judge: &'static str) -> Self {
        Self {
            id: row.id.to_owned(),
            class: row.class,
            what: row.what.to_owned(),
            verdict,
            stopped_by: by.map(str::to_owned),
            judged_by: judge,
            detail: String::new(),
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// What should hold first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// The filter tells the supervisor, which ends the process; with this name in its record.
    Call(&'static str),
    /// The filter answers that there is no such family.
    Family,
    /// The filter answers with an error.
    Answer,
    /// The kernel kills at once.
    Abi,
    /// There is nothing at that place.
    Nothing,
    /// A mount is read-only, or descriptors are.
    Mount,
    /// Landlock.
    Landlock,
    /// Only the cell's own is there.
    Namespace,
    /// No route, no other port.
    Network,
    /// The relay refuses.
    Relay,
    /// A limit of each process.
    Limit,
    /// The gate lets nothing out.
    Gate,
    /// Everything of a cell ends with it.
    Gone,
    /// A limit with this name among the program's arguments.
    Bomb(&'static str),
    /// Another cell sees nothing of it.
    Other,
}

impl Lock {
    fn word(self) -> &'static str {
        match self {
            Self::Call(_) | Self::Family | Self::Answer | Self::Abi => "seccomp",
            Self::Nothing => "nothing there",
            Self::Mount => "mount",
            Self::Landlock => "landlock",
            Self::Namespace | Self::Network => "namespace",
            Self::Relay => "relay",
            Self::Limit | Self::Bomb(_) => "limits",
            Self::Gate => "gate",
            Self::Gone => "end of the namespaces",
            Self::Other => "nothing shared",
        }
    }
}

/// One row of the program's table, without what it does.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) class: u8,
    pub(crate) lock: Lock,
    pub(crate) what: &'static str,
}

/// How many attempts ended how: stopped, escaped, not in force, unjudged.
#[must_use]
pub fn counts(attempts: &[Attempt]) -> [usize; 4] {
    use Verdict::{Escaped, NotInForce, Stopped, Unjudged};
    let count = |wanted| attempts.iter().filter(|one| one.verdict == wanted).count();
    [Stopped, Escaped, NotInForce, Unjudged].map(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_class_has_attempts_and_no_two_have_one_name() {
        let rows: Vec<&Row> = table::all().collect();
        assert!(rows.len() >= 300, "{}", rows.len());
        let names: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
        assert_eq!(names.len(), rows.len());
        let classes: BTreeSet<u8> = rows.iter().map(|row| row.class).collect();
        assert_eq!(classes, (1..=20).collect());
        for row in rows {
            assert!(!row.what.is_empty() && row.id.len() < 40, "{}", row.id);
        }
    }

    #[test]
    fn the_program_is_carried_within() {
        assert!(PROGRAM.starts_with(b"\x7fELF"));
        assert!(PROGRAM.len() < 1 << 20, "{} bytes", PROGRAM.len());
    }
}
