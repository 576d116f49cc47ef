//! Names made concrete, builds asked for, and where they stand.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderValue, StatusCode, Uri, header::LOCATION},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bad_query;
use crate::{
    serve::{
        answer::{self, NO_STORE, Refusal},
        app::App,
        bodies, guard, home,
        limits::{Asker, blocks::Visitor, withdrawn::Withdrawn},
        queue::Standing,
    },
    spec::{BuildKey, PackageQuery, Variant, hex, url},
};

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// `module@version/package` or `package@version`.
    spec: String,
    /// `linux/amd64`; that of this machine when it is missing.
    #[serde(default)]
    target: String,
    /// `go1.26.8`, `go1.26.latest`, `latest`.
    #[serde(default)]
    go: String,
    #[serde(default)]
    stripped: bool,
}

impl Wanted {
    async fn resolve(self, app: &App, visitor: Visitor) -> Result<BuildKey, Refusal> {
        let query = PackageQuery::parse(&self.spec)?;
        let variant = match self.stripped {
            true => Variant::Stripped,
            false => Variant::Plain,
        };
        home::resolve(app, visitor, query, &self.target, &self.go, variant).await
    }
}

/// `GET /api/v1/specs?spec=…`: what moving names mean today. Builds nothing.
pub(super) async fn spec(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(wanted) = wanted.map_err(|error| bad_query(&error.body_text()))?;
    let key = wanted.resolve(&app, visitor).await?;
    let mut spec = json!({ "key": key.to_string(), "url": url::build_path(&key) });
    key.tell(&mut spec);
    Ok(answer::cached(Json(spec).into_response(), NO_STORE))
}

/// `POST /api/v1/builds`: asks for a build and says where it stands: 202 while it goes on.
pub(super) async fn ask(
    State(app): State<Arc<App>>,
    Extension(visitor): Extension<Visitor>,
    // A program sends neither header; somebody else's page cannot leave them out.
    _: guard::MayWait,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refusal> {
    let body = bodies::whole(body)?;
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|error| bad_query(&format!("the body is not what is expected: {error}")))?;
    let key = wanted.resolve(&app, visitor).await?;
    let standing = app.queue.ask(&key, false, Asker::person(visitor)).await?;
    let status = match standing {
        Standing::Underway(_) => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let mut response = (status, Json(state(&app, &key, standing))).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/api/v1/builds/{key}")) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(answer::cached(response, NO_STORE))
}

/// `GET /api/v1/builds/<key>`: where a build stands. Starts nothing, but shows interest.
pub(super) async fn show(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Refusal> {
    let key = uri.path().strip_prefix("/api/v1/builds/");
    let key = BuildKey::parse(key.unwrap_or_default())?;
    let standing = app.queue.standing(&key).await?;
    let state = state(&app, &key, standing);
    Ok(answer::cached(Json(state).into_response(), NO_STORE))
}

fn state(app: &App, key: &BuildKey, standing: Standing) -> Value {
    let page = url::build_path(key);
    let name = key.to_string();
    match standing {
        Standing::Built(row) => json!({
            "key": name, "state": "built", "url": url::result_path(key, &row.sum()),
            "sum": row.sum().to_string(), "sha256": hex(&row.sha256), "size": row.size,
            "log_index": row.log_index, "file": key.download_name(),
            "withdrawn": app.rates.withdrawn(key).as_ref().map(Withdrawn::json),
        }),
        Standing::Failed(row) => {
            let refusal = Refusal::from(row.failure);
            json!({ "key": name, "state": "failed", "url": page, "failure": refusal.json() })
        }
        Standing::Underway(job) => {
            let place = app.queue.place(&job);
            let state = if place == 0 { "running" } else { "waiting" };
            let doing = job.live.snapshot().doing;
            let expected_ms = app.metrics.pace.expected_ms(place, app.builds_max);
            json!({
                "key": name, "state": state, "url": page, "place": place, "doing": doing,
                "expected_ms": expected_ms,
            })
        }
        Standing::Unknown => json!({ "key": name, "state": "unknown", "url": page }),
    }
}
