//! `/api/v1/…`: what the pages say, for programs, in JSON.
//!
//! `openapi.json` describes every address and is served beside them; a test asks each address of
//! it. What refuses is a problem document (RFC 9457). Nothing here starts a build on a GET.

mod builds;
pub(super) mod observations;
mod records;
mod results;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    answer::{self, NO_STORE, Refusal},
    app::App,
    health,
    limits::withdrawn::Withdrawn,
};
use crate::{spec::Target, toolchain::pins};

/// The description of all of this.
pub(super) const DESCRIPTION: &str = include_str!("openapi.json");

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/openapi.json", get(description))
        .route("/api/v1/specs", get(builds::spec))
        .route("/api/v1/builds", post(builds::ask))
        .route("/api/v1/builds/{*key}", get(builds::show))
        .route("/api/v1/results", get(results::list))
        .route("/api/v1/results/{*key}", get(results::show))
        .route("/api/v1/withdrawn", get(withdrawn))
        .route("/api/v1/records", get(records::list))
        .route("/api/v1/records/events", get(records::events))
        .route("/api/v1/toolchains", get(toolchains))
        .route("/api/v1/health", get(healthy))
        .route("/api/v1/observations", post(observations::show))
}

async fn description() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], DESCRIPTION).into_response()
}

/// `GET /api/v1/toolchains`: the SDKs whose hashes are part of this program. Others are built with
/// as well, once the checksum database has them.
async fn toolchains() -> Response {
    let host = Target::HOST;
    let all = pins::all(host).map(|(go, h1)| json!({ "go": go.to_string(), "h1": h1.to_string() }));
    let all: Vec<_> = all.collect();
    Json(json!({ "host": host.to_string(), "pinned": all })).into_response()
}

/// `GET /api/v1/health`: as `/healthz`, and with its status.
async fn healthy(State(app): State<Arc<App>>) -> Response {
    let health = health::of(&app);
    let status = match health.is_well() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    answer::cached((status, Json(health)).into_response(), NO_STORE)
}

/// `GET /api/v1/withdrawn`: what is not handed out any more.
async fn withdrawn(State(app): State<Arc<App>>) -> Response {
    let told = app.told.borrow();
    let all: Vec<_> = told.rules.withdrawn.iter().map(Withdrawn::json).collect();
    drop(told);
    answer::cached(Json(json!({ "withdrawn": all })).into_response(), NO_STORE)
}

fn bad_query(sentence: &str) -> Refusal {
    let remedy = "see /api/v1/openapi.json";
    Refusal::new(StatusCode::BAD_REQUEST, "bad_query", sentence, remedy)
}
