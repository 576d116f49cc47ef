//! `POST /api/v1/observations`: another instance asks what bits we get.
//!
//! `{"key": "<build key>"}` is built, if it is not built already, and answered with our signed
//! observation. Nothing is published for it and nobody is asked, so that instances may ask each
//! other. Every answer comes within [`HOLD`]: while the build goes on it is 202, and the asker
//! comes back. It costs what a lookup costs and has the same limits, and some of its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::serve::{
    admit::Observing,
    answer::{self, NO_STORE, Refusal},
    app::App,
    bodies, guard,
    job::Own,
    ledger::AppendError,
    limits::{Asker, blocks::Visitor},
    queue::Job,
};
use crate::spec::{BuildKey, hex};

/// How long a question waits for the end of a build before it is answered with 202.
const HOLD: Duration = Duration::from_secs(2);
/// Signed observations kept in memory, so that asking again costs no signature.
const SIGNED_MAX: usize = 1_000;

/// Observations that were signed already, by build key and hash.
#[derive(Default)]
pub(in crate::serve) struct Observed(Mutex<HashMap<String, Arc<str>>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    key: String,
}

/// Answers with the observation, or with where the build stands.
pub(in crate::serve) async fn show(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    _: guard::MayWait,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = bodies::whole(body)?;
    let question: Question = serde_json::from_slice(&body).map_err(|_| {
        let sentence = "the question is not of the form `{\"key\": \"…\"}`";
        let remedy = "send the key of a build as JSON";
        Refusal::new(StatusCode::BAD_REQUEST, "bad_question", sentence, remedy)
    })?;
    let key = BuildKey::parse(&question.key)?;
    let _place = app.place(&app.limits.observers, visitor)?;
    let asker = Asker::observer(visitor);
    if let Observing::Underway(job) = app.queue.observe(&key, asker).await? {
        wait(&job).await;
    }
    match app.queue.observe(&key, asker).await? {
        Observing::Built(own) => observed(&app, &key, &own).await,
        Observing::Failed(row) => Err(row.failure.into()),
        Observing::Underway(job) => Ok(underway(&app, &key, &job)),
    }
}

/// Until the bits are there, or there are none, or it takes too long.
async fn wait(job: &Job) {
    let mut own = job.own.subscribe();
    let done = async {
        tokio::select! {
            _ = own.wait_for(Option::is_some) => {}
            () = job.ended() => {}
        }
    };
    let _late = tokio::time::timeout(HOLD, done).await;
}

async fn observed(app: &App, key: &BuildKey, own: &Own) -> Result<Response, Refusal> {
    let name = key.to_string();
    let bits = format!("{name} {}", hex(&own.built.sha256));
    let known = app.observed.get(&bits);
    let envelope = match known {
        Some(envelope) => envelope,
        None => {
            let envelope = app.ledger.observation(key, &own.built, own.built_ms).await;
            let envelope = envelope.map_err(|cause| refusal(&cause))?;
            let envelope = String::from_utf8(envelope);
            let envelope: Arc<str> = envelope.map_err(|cause| Refusal::internal(&cause))?.into();
            app.observed.put(bits, Arc::clone(&envelope));
            envelope
        }
    };
    let answer = json!({ "key": name, "state": "built", "envelope": &*envelope });
    Ok(answer::cached(Json(answer).into_response(), NO_STORE))
}

fn refusal(cause: &AppendError) -> Refusal {
    match cause {
        AppendError::Fenced { why } => Refusal::busy(&format!("nothing can be signed: {why}")),
        other => Refusal::internal(other),
    }
}

fn underway(app: &App, key: &BuildKey, job: &Job) -> Response {
    let place = app.queue.place(job);
    let state = if place == 0 { "running" } else { "waiting" };
    let answer = json!({ "key": key.to_string(), "state": state, "place": place });
    let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer::cached(response, NO_STORE)
}

impl Observed {
    fn get(&self, bits: &str) -> Option<Arc<str>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(bits).cloned()
    }

    /// Keeps one; when there are too many, begins afresh: a signature is cheap.
    fn put(&self, bits: String, envelope: Arc<str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SIGNED_MAX {
            known.clear();
        }
        known.insert(bits, envelope);
    }
}
