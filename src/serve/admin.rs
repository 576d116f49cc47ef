//! The operator's page, on the admin address only: what goes on, what went wrong, what is in force.
//!
//! It reads and changes nothing; rules are changed in the configuration. What clients asked for and
//! who they are is for the operator, so it stands here and on no public page.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{extract::State, response::Response};

use super::{
    answer::{self, NO_STORE, Refusal},
    app::App,
    health::{self, Health},
    job::{Job, Purpose},
    limits::withdrawn::Withdrawn,
    pages::{Line, clean},
    words,
};
use crate::spec::BuildKey;

/// Results that are listed.
const RECENT: u32 = 20;
/// Jobs that are listed; the number of all stands above.
const JOBS_SHOWN: usize = 100;

/// How long the supervisor may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(5);

/// A job that runs or waits.
struct JobLine {
    state: String,
    key: String,
    client: String,
    age: String,
    doing: String,
}

impl JobLine {
    fn of(place: usize, job: &Job, now_ms: u64) -> Self {
        let state = match place {
            0 => "runs".to_owned(),
            place => format!("waits, {place}"),
        };
        let purpose = match job.purpose() {
            Purpose::Publication => "",
            Purpose::Observation | Purpose::Over => " (observation)",
        };
        Self {
            state: state + purpose,
            key: job.key.to_string(),
            client: clean(&job.client),
            age: words::duration(now_ms.saturating_sub(job.created_ms)),
            doing: clean(&job.live.snapshot().doing),
        }
    }
}

/// A build that failed.
struct FailedLine {
    key: String,
    code: String,
    class: String,
    sentence: String,
    ago: String,
}

/// What lies on disk.
struct TreeLine {
    title: String,
    name: String,
    size: String,
}

impl TreeLine {
    /// The name stands in brackets behind the title, as [`crate::build::Executor::trees`] has it.
    fn of(what: &str, bytes: u64) -> Self {
        let (title, name) = what.split_once(" (").unwrap_or((what, ""));
        Self {
            title: title.to_owned(),
            name: name.trim_end_matches(')').to_owned(),
            size: words::size(bytes),
        }
    }
}

/// `/` of the admin address
#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage {
    name: String,
    health: Health,
    is_well: bool,
    verifier_key: String,
    log_size: u64,
    running: usize,
    verifying: usize,
    waiting: usize,
    builds_max: usize,
    jobs: Vec<JobLine>,
    failed: Vec<FailedLine>,
    recent: Vec<Line>,
    refused: Vec<(String, u64)>,
    rules: Vec<String>,
    withdrawn: Vec<Withdrawn>,
    trees: Vec<TreeLine>,
    machine: Vec<(&'static str, String)>,
}

/// `GET /` of the admin address
pub(super) async fn show(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let now_ms = app.clock.now_ms();
    let recent = app.catalogue.recent(None, RECENT);
    let recent = recent.map_err(|cause| Refusal::internal(&cause))?;
    let (rules, withdrawn) = {
        let told = app.told.borrow();
        (told.rules.told(), told.rules.withdrawn.clone())
    };
    let jobs = app.queue.jobs();
    let refused = app.rates.refused_most().into_iter();
    let failed = app.queue.failed().into_iter();
    let trees = tokio::time::timeout(PATIENCE, app.executor.trees()).await;
    let trees = trees.unwrap_or_default().into_iter();
    let health = health::of(&app);
    let page = AdminPage {
        name: app.hosts.first().cloned().unwrap_or_default(),
        is_well: health.is_well(),
        health,
        verifier_key: app.ledger.verifier_key(),
        log_size: *app.ledger.sizes().borrow(),
        running: app.queue.running(),
        verifying: app.queue.verifying(),
        waiting: app.queue.waiting(),
        builds_max: app.builds_max,
        jobs: jobs
            .iter()
            .take(JOBS_SHOWN)
            .map(|(place, job)| JobLine::of(*place, job, now_ms))
            .collect(),
        failed: failed
            .map(|(key, row): (BuildKey, _)| FailedLine {
                key: key.to_string(),
                code: clean(&row.failure.code),
                class: format!("{:?}", row.failure.class),
                sentence: clean(&row.failure.sentence),
                ago: words::ago(row.failed_ms, now_ms),
            })
            .collect(),
        recent: recent.iter().map(|one| Line::of(one, now_ms)).collect(),
        refused: refused
            .map(|(client, count)| (client.to_string(), count))
            .collect(),
        rules,
        withdrawn,
        trees: trees
            .map(|(what, bytes)| TreeLine::of(&clean(&what), bytes))
            .collect(),
        machine: machine(&app),
    };
    Ok(answer::cached(answer::page(&page), NO_STORE))
}

/// What this machine has left, as far as this role can see it.
fn machine(app: &App) -> Vec<(&'static str, String)> {
    let of = |free, all| format!("{} of {} free", words::size(free), words::size(all));
    let disk = match app.artifacts.space() {
        Ok((free, all)) => of(free, all),
        Err(error) => error.to_string(),
    };
    let mut machine = vec![("Disk of the data folder", disk)];
    match nix::sys::sysinfo::sysinfo() {
        Ok(info) => {
            let (one, five, fifteen) = info.load_average();
            let memory = of(info.ram_unused(), info.ram_total());
            machine.push(("Memory", format!("{memory}, caches not counted as free")));
            machine.push(("Load", format!("{one:.2}, {five:.2}, {fifteen:.2}")));
        }
        Err(error) => machine.push(("Memory", error.to_string())),
    }
    machine
}
