//! What the templates of builds, results and failures are given.
//!
//! As in [`super::pages`]: every text escaped by its type, every link made of parsed names.

use askama::Template;

use super::{
    artifacts::Opened,
    catalogue::{FailureRow, Recent, ResultRow},
    limits::withdrawn::Withdrawn,
    lists,
    live::Snapshot,
    pages::{clean, clean_all, slashed},
    words,
};
use crate::{
    build::{CellSummary, FailureClass, Phase},
    output::Html,
    spec::{BuildKey, ModulePath, Record, Variant, hex, url},
};

/// What a build is made from, as pages head it.
pub(super) struct Head {
    package: String,
    module: String,
    module_href: String,
    version: String,
    target: String,
    go: String,
    stripped: bool,
    page: String,
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
        }
    }
}

/// What held a cell.
pub(super) struct Cell {
    policy: String,
    policy_sha256: String,
    in_force: Vec<String>,
    not_in_force: Vec<(String, String)>,
    ending: String,
    cpu: String,
    memory: String,
}

impl Cell {
    fn of(cell: &CellSummary) -> Self {
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

struct Module {
    path: String,
    version: String,
    h1: String,
    linked: bool,
}

/// A result.
#[derive(Template)]
#[template(path = "result.html")]
pub(super) struct ResultPage {
    head: Head,
    sum: String,
    sha256: String,
    size: String,
    bytes: u64,
    gzip: Option<String>,
    log_index: u64,
    record: String,
    file: String,
    built: String,
    warnings: Vec<String>,
    modules: Vec<Module>,
    sdk_h1: String,
    cell: Cell,
    timings: Vec<(&'static str, String)>,
    has_output: bool,
    output: Html,
    get: String,
    withdrawn: Option<Withdrawn>,
    other_variant: String,
    key: String,
    /// Other results of the package.
    others: Vec<lists::Choice>,
}

impl ResultPage {
    /// `recent` are results of the module; `origin` is where the visitor sees us: scheme, host and
    /// port.
    pub(super) fn new(
        row: &ResultRow,
        gzip: Option<&Opened>,
        recent: &[Recent],
        verifier_key: &str,
        origin: &str,
        withdrawn: Option<Withdrawn>,
    ) -> Self {
        let (key, built, sum) = (&row.key, &row.built, row.sum());
        let record = Record {
            key: key.clone(),
            size: row.size,
            sum,
        };
        let mut other = key.clone();
        other.variant = match key.variant {
            Variant::Plain => Variant::Stripped,
            Variant::Stripped => Variant::Plain,
        };
        let linked = built.modules.iter();
        let modules = linked.map(|module| Module {
            path: clean(&module.path),
            version: clean(&module.version),
            h1: clean(
                module
                    .h1
                    .as_ref()
                    .or(module.go_mod_h1.as_ref())
                    .map_or("", |h1| h1),
            ),
            linked: module.h1.is_some(),
        });
        let timings = built.timings_ms.iter();
        Self {
            head: Head::of(key),
            sum: sum.to_string(),
            sha256: hex(&row.sha256),
            size: words::size(row.size),
            bytes: row.size,
            gzip: gzip.map(|gzip| words::size(gzip.bytes)),
            log_index: row.log_index,
            record: record.text().trim_end_matches('\n').to_owned(),
            file: key.download_name(),
            built: words::time(row.built_ms),
            warnings: clean_all(&built.warnings),
            modules: modules.collect(),
            sdk_h1: clean(&built.sdk_h1),
            cell: Cell::of(&built.cell),
            timings: timings
                .map(|(p, ms)| (words::phase_name(*p), words::duration(*ms)))
                .collect(),
            has_output: !built.output.is_empty(),
            output: built.output.html(),
            get: get_command(key, verifier_key, origin),
            withdrawn,
            other_variant: url::build_path(&other),
            key: key.to_string(),
            others: recent
                .iter()
                .filter(|recent| recent.key != *key && recent.key.package() == key.package())
                .map(lists::Choice::of)
                .collect(),
        }
    }
}

/// The command that fetches and verifies all of it. Every part is of a grammar without quotes.
fn get_command(key: &BuildKey, verifier_key: &str, origin: &str) -> String {
    let dir = if key.dir.is_root() {
        String::new()
    } else {
        format!("/{}", key.dir)
    };
    let stripped = if key.variant == Variant::Stripped {
        " --stripped"
    } else {
        ""
    };
    let (module, target, go) = (&key.module, slashed(key.target), key.go);
    format!(
        "hotcell get {module}{dir} --target {target} --go {go}{stripped} \\\n  \
         --url {origin}/tlog \\\n  --verifierkey {verifier_key}"
    )
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
            permanent: failure.class == FailureClass::CannotBuild,
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
        }
    }
}

/// The form behind `retry`.
#[derive(Template)]
#[template(path = "retry.html")]
pub(super) struct RetryPage {
    pub(super) head: Head,
}
