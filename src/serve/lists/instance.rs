//! The instance: its key, what it builds with, its limits, how it stands.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    serve::{
        answer::{self, NO_STORE, Refusal},
        app::App,
        ledger::Health,
    },
    spec::GoVersion,
};

/// `/-/instance`
#[derive(Template)]
#[template(path = "instance.html")]
struct InstancePage {
    verifier_key: String,
    log_size: u64,
    program: &'static str,
    policy_sha256: String,
    oldest_go: GoVersion,
    newest_go: Option<GoVersion>,
    running: usize,
    builds_max: usize,
    waiting: usize,
    fenced: Option<(String, String)>,
    alarms: Vec<String>,
    mismatches: u64,
    disagreements: u64,
    notes: Vec<String>,
    contact: Option<String>,
}

/// `GET /-/instance`
pub(in crate::serve) async fn show(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let mismatches = app.catalogue.mismatches();
    let disagreements = app.catalogue.disagreements();
    let (oldest_go, newest_go) = {
        let rules = &app.told.borrow().rules;
        (
            rules.go_min.unwrap_or(GoVersion::OLDEST_LOGGED),
            rules.go_max,
        )
    };
    let page = InstancePage {
        verifier_key: app.ledger.verifier_key(),
        log_size: *app.ledger.sizes().borrow(),
        program: env!("CARGO_PKG_VERSION"),
        policy_sha256: app.policy_sha256.clone(),
        oldest_go: oldest_go.max(GoVersion::OLDEST_LOGGED),
        newest_go,
        running: app.queue.running(),
        builds_max: app.builds_max,
        waiting: app.queue.waiting(),
        fenced: match app.ledger.health() {
            Health::Live => None,
            Health::Fenced { why, remedy } => Some((why, remedy)),
        },
        alarms: app.executor.alarms(),
        mismatches: mismatches.map_err(|cause| Refusal::internal(&cause))?,
        disagreements: disagreements.map_err(|cause| Refusal::internal(&cause))?,
        notes: app.notes(),
        contact: app.told.borrow().contact.clone(),
    };
    Ok(answer::cached(answer::page(&page), NO_STORE))
}
