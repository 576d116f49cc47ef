//! How the service stands: what an operator must know, and what they should do.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;

use super::{
    answer::{self, NO_STORE},
    app::App,
    artifacts::ArtifactError,
    ledger, words,
};

/// All that is known. A sentence each, without a full stop.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    /// Whether database, log and stores are as they should be.
    ok: bool,
    pub(super) log: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    pub(super) mismatches: u64,
    pub(super) disagreements: u64,
    pub(super) alarms: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// For alarms of the stores.
const QUARANTINE: &str = "stop the service, look at store/quarantine and fetch/quarantine below \
                          the data folder, remove what lies there, start again";

/// For a disk that is nearly full.
const ROOM: &str = "remove what else lies on the disk of the data folder, or make it larger; \
                    builds begin again by themselves";

fn room(lacks: Result<Option<u64>, ArtifactError>) -> Option<String> {
    match lacks {
        Ok(None) => None,
        Ok(Some(free)) => {
            let free = words::size(free);
            Some(format!(
                "the disk is nearly full, {free} are free: nothing is built"
            ))
        }
        Err(error) => Some(format!("the disk cannot be looked at: {error}")),
    }
}

pub(super) fn of(app: &App) -> Health {
    let mismatches = app.catalogue.mismatches();
    let disagreements = app.catalogue.disagreements();
    let lacks = app.artifacts.lacks_room();
    let (live, log, mut remedy) = match (app.ledger.health(), &mismatches) {
        (_, Err(_)) => (false, "database: cannot be read".to_owned(), None),
        (ledger::Health::Live, Ok(_)) => (true, "log: live".to_owned(), None),
        (ledger::Health::Fenced { why, remedy }, Ok(_)) => {
            (false, format!("log: fenced: {why}"), Some(remedy))
        }
    };
    let mut alarms = app.executor.alarms();
    if let Some(said) = room(lacks) {
        alarms.push(said);
        remedy.get_or_insert_with(|| ROOM.to_owned());
    }
    let mut note = None;
    if let Some(standing) = app.certificate() {
        if let Some(said) = standing.alarm {
            alarms.push(said);
            remedy.get_or_insert_with(|| standing.remedy.to_owned());
        }
        note = standing.note;
    }
    if !alarms.is_empty() {
        remedy.get_or_insert_with(|| QUARANTINE.to_owned());
    }
    Health {
        ok: live && alarms.is_empty(),
        log,
        remedy,
        mismatches: mismatches.unwrap_or(0),
        disagreements: disagreements.unwrap_or(0),
        alarms,
        notes: note.into_iter().chain(app.notes()).collect(),
    }
}

impl Health {
    pub(super) fn is_well(&self) -> bool {
        self.ok
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", if self.ok { "ok" } else { "not ok" }, self.log);
        if self.mismatches > 0 {
            text += &format!("mismatches: {}\n", self.mismatches);
        }
        if self.disagreements > 0 {
            text += &format!("verifiers with other bits: {}\n", self.disagreements);
        }
        for alarm in &self.alarms {
            text += &format!("alarm: {alarm}\n");
        }
        if let Some(remedy) = &self.remedy {
            text += &format!("remedy: {remedy}\n");
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        text
    }
}

/// `GET /healthz`
pub(super) async fn show(State(app): State<Arc<App>>) -> Response {
    let health = of(&app);
    let mut response = answer::plain(health.text());
    if !health.ok {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer::cached(response, NO_STORE)
}
