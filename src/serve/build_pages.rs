//! What the templates of builds and failures are given, and what they share with results.
//!
//! As in [`super::pages`]: every text escaped by its type, every link made of parsed names.

use askama::Template;

use super::{
    catalogue::FailureRow,
    live::Snapshot,
    pages::{clean, clean_all, slashed},
    targets::Group,
    words,
};
use crate::{
    build::{CellSummary, Phase},
    output::Html,
    spec::{BuildKey, ModulePath, Variant, url},
};

/// What a build is made from, as pages head it.
pub(super) struct Head {
    pub(super) package: String,
    pub(super) module: String,
    pub(super) module_href: String,
    pub(super) version: String,
    pub(super) target: String,
    pub(super) go: String,
    pub(super) stripped: bool,
    pub(super) page: String,
}

impl Head {
    pub(super) fn of(key: &BuildKey) -> Self {
        Self {
            package: key.package(),
            module: key.module.path.to_string(),
            module_href: format!("/{}", key.module.path),
            version: key.module.version.to_string(),
            target: slashed(key.target),
            go: key.go.to_string(),
            stripped: key.variant == Variant::Stripped,
            page: url::build_path(key),
        }
    }
}

/// One step of a build that goes on.
pub(super) struct Step {
    name: &'static str,
    phase: Phase,
    /// `done`, `now`, or `to come`.
    state: &'static str,
}

fn steps(snapshot: &Snapshot) -> Vec<Step> {
    const ALL: [Phase; 4] = [
        Phase::Sdk,
        Phase::StandardLibrary,
        Phase::Build,
        Phase::Gate,
    ];
    let now = snapshot.phases.last().copied();
    let rank = |phase| ALL.iter().position(|other| *other == phase);
    ALL.iter()
        .map(|phase| {
            let state = match now {
                Some(now) if now == *phase => "now",
                Some(now) if rank(*phase) < rank(now) => "done",
                _ => "to come",
            };
            Step {
                name: words::phase_name(*phase),
                phase: *phase,
                state,
            }
        })
        .collect()
}

impl Step {
    /// Name of the phase as events carry it.
    fn id(&self) -> &'static str {
        self.phase.name()
    }
}

/// A build that waits, runs, or could begin.
#[derive(Template)]
#[template(path = "build.html")]
pub(super) struct BuildPage {
    pub(super) head: Head,
    /// Waiting or running.
    pub(super) underway: bool,
    pub(super) doing: String,
    steps: Vec<Step>,
    modules: u64,
    output: Html,
    pub(super) builds_max: usize,
    pub(super) waiting: usize,
    /// When it is likely to be done, as far as other builds tell.
    pub(super) expected: Option<String>,
    pub(super) targets: Vec<Group>,
}

impl BuildPage {
    pub(super) fn new(key: &BuildKey, snapshot: Option<&Snapshot>) -> Self {
        let nothing = Snapshot::default();
        let now = snapshot.unwrap_or(&nothing);
        Self {
            head: Head::of(key),
            underway: snapshot.is_some(),
            doing: now.doing.clone(),
            steps: steps(now),
            modules: now.modules,
            output: now.output.html(),
            builds_max: 1,
            waiting: 0,
            expected: None,
            targets: Vec::new(),
        }
    }
}

/// What held a cell.
pub(super) struct Cell {
    pub(super) policy: String,
    pub(super) policy_sha256: String,
    pub(super) in_force: Vec<String>,
    pub(super) not_in_force: Vec<(String, String)>,
    pub(super) ending: String,
    pub(super) cpu: String,
    pub(super) memory: String,
}

impl Cell {
    pub(super) fn of(cell: &CellSummary) -> Self {
        let missing = cell.not_in_force.iter();
        Self {
            policy: clean(&cell.policy),
            policy_sha256: clean(&cell.policy_sha256),
            in_force: clean_all(&cell.in_force),
            not_in_force: missing.map(|m| (clean(&m.what), clean(&m.why))).collect(),
            ending: clean(&cell.ending),
            cpu: words::duration(cell.cpu_ms),
            memory: words::size(cell.memory_peak_bytes),
        }
    }
}

/// A build that gave no binary, or a form to try it again.
#[derive(Template)]
#[template(path = "failure.html")]
pub(super) struct FailurePage {
    head: Head,
    code: String,
    sentence: String,
    remedy: String,
    ago: String,
    /// Would fail again in the same way.
    permanent: bool,
    /// Page of the same build with the newest Go release, where that would help.
    newer: Option<String>,
    /// The module that was meant, as it calls itself.
    renamed: Option<ModulePath>,
    cell: Option<Cell>,
    has_output: bool,
    output: Html,
    pub(super) targets: Vec<Group>,
}

impl FailurePage {
    pub(super) fn new(key: &BuildKey, row: &FailureRow, now_ms: u64) -> Self {
        let failure = &row.failure;
        Self {
            head: Head::of(key),
            code: clean(&failure.code),
            sentence: clean(&failure.sentence),
            remedy: clean(&failure.remedy),
            ago: words::ago(row.failed_ms, now_ms),
            permanent: failure.repeats(),
            newer: (failure.code == "needs_newer_go").then(|| {
                let page = url::build_path(key);
                page.replacen(&format!("-{}", key.go), "-latest", 1)
            }),
            renamed: failure.about.as_ref().and_then(|about| {
                let path = about.path.as_deref()?;
                let is_name = failure.code == "module_path_mismatch";
                is_name.then(|| ModulePath::parse(path).ok()).flatten()
            }),
            cell: failure.cell.as_deref().map(Cell::of),
            has_output: !failure.output.is_empty(),
            output: failure.output.html(),
            targets: Vec::new(),
        }
    }
}

/// The form behind `retry`.
#[derive(Template)]
#[template(path = "retry.html")]
pub(super) struct RetryPage {
    pub(super) head: Head,
}
