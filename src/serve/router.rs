//! All addresses of the service in one place. What has no route here is a module or a build.

use std::sync::{Arc, OnceLock};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, State},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    answer,
    answer::{NO_STORE, Refusal},
    app::App,
    builds, cosign, guard, home,
    ledger::Health,
    lists,
    metrics::Gauges,
    observations,
    queue::Standing,
    records, tlog,
};
use crate::spec::{BuildKey, hex, url};

/// Largest body: the form of the home page, escaped.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What crawlers must leave alone: whatever starts a build, and what is of no use to them.
const ROBOTS: &str = "User-agent: *\n\
    Disallow: /api/\n\
    Disallow: /tlog/\n\
    Disallow: /witness/\n\
    Disallow: /-/search\n\
    Disallow: /-/compare\n\
    Disallow: /*/events$\n\
    Disallow: /*/record$\n\
    Disallow: /*/retry$\n\
    Disallow: /*/log$\n\
    Disallow: /*/dl$\n\
    Disallow: /*-go1.*/*-go1.\n";

/// The public side.
pub(super) fn public(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(home::show).post(home::submit))
        .route("/static/{file}", get(asset))
        .route("/favicon.ico", get(icon))
        .route(
            "/robots.txt",
            get(|| async { answer::plain(ROBOTS.to_owned()) }),
        )
        .route("/healthz", get(healthz))
        .route("/-/search", get(lists::search))
        .route("/-/failures", get(lists::failures))
        .route("/-/compare", get(lists::compare))
        .route("/-/instance", get(lists::instance))
        .route("/tlog/{*path}", get(tlog::show))
        .merge(cosign::routes(app.cosigning.clone()))
        .route("/api/v1/builds/{*key}", get(api_build))
        .route("/api/v1/records/events", get(records::events))
        .route("/api/v1/observations", post(observations::show))
        .fallback(builds::show)
        .method_not_allowed_fallback(|| async { builds::not_allowed("GET, HEAD") })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::stand,
        ))
        .with_state(app)
}

/// The operator's side.
pub(super) fn admin(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .fallback(|| async { Refusal::not_found("there is nothing at this address") })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::stand,
        ))
        .with_state(app)
}

/// Files that are part of the program.
const ASSETS: [(&str, &str, &str); 3] = [
    (
        "hotcell.css",
        "text/css; charset=utf-8",
        include_str!("static/hotcell.css"),
    ),
    (
        "hotcell.js",
        "text/javascript; charset=utf-8",
        include_str!("static/hotcell.js"),
    ),
    ("icon.svg", "image/svg+xml", include_str!("static/icon.svg")),
];

async fn asset(headers: HeaderMap, Path(file): Path<String>) -> Result<Response, Refusal> {
    static ETAGS: OnceLock<Vec<String>> = OnceLock::new();
    let etags = ETAGS.get_or_init(|| {
        let digest = |(_, _, text): &(_, _, &str)| format!("\"{}\"", hex(&Sha256::digest(text)));
        ASSETS.iter().map(digest).collect()
    });
    let found = ASSETS
        .iter()
        .zip(etags)
        .find(|((name, _, _), _)| *name == file);
    let Some(((_, kind, text), etag)) = found else {
        return Err(Refusal::not_found("there is no such file"));
    };
    let seen = headers
        .get(IF_NONE_MATCH)
        .and_then(|seen| seen.to_str().ok());
    let mut response = if seen.is_some_and(|seen| seen.contains(etag.as_str())) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        (*text).into_response()
    };
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

async fn icon() -> Response {
    let (_, kind, text) = ASSETS[2];
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    let mismatches = app.catalogue.mismatches().await;
    let alarms = app.executor.alarms();
    let (status, log) = match (app.ledger.health(), &mismatches) {
        (_, Err(_)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "database: cannot be read".to_owned(),
        ),
        (Health::Live, Ok(_)) => (StatusCode::OK, "log: live".to_owned()),
        (Health::Fenced { why, remedy }, Ok(_)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("log: fenced: {why}\nremedy: {remedy}"),
        ),
    };
    let status = match alarms.is_empty() {
        true => status,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let word = if status == StatusCode::OK {
        "ok"
    } else {
        "not ok"
    };
    let mut text = format!("{word}\n{log}\n");
    if let Ok(count @ 1..) = mismatches {
        text += &format!("mismatches: {count}\n");
    }
    if let Ok(count @ 1..) = app.catalogue.disagreements().await {
        text += &format!("verifiers with other bits: {count}\n");
    }
    for alarm in &alarms {
        text += &format!("alarm: {alarm}\n");
    }
    if !alarms.is_empty() {
        text += "remedy: stop the service, look at store/quarantine and fetch/quarantine below \
                 the data folder, remove what lies there, start again\n";
    }
    for note in &app.notes() {
        text += &format!("note: {note}\n");
    }
    let mut response = answer::plain(text);
    *response.status_mut() = status;
    answer::cached(response, NO_STORE)
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let gauges = Gauges {
        waiting: app.queue.waiting(),
        running: app.queue.running(),
        verifying: app.queue.verifying(),
        live: app.ledger.health() == Health::Live,
        put_away: app.executor.alarms().len(),
    };
    let (witnesses, verifiers) = (app.witnesses.standings(), app.verifiers.standings());
    let cosigning = app.cosigning.as_deref();
    let text = app.metrics.text(gauges, &witnesses, cosigning, &verifiers);
    let mut response = answer::plain(text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    answer::cached(response, NO_STORE)
}

/// Where a build stands, for programs. Starts nothing, but shows interest.
async fn api_build(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Refusal> {
    let key = uri
        .path()
        .strip_prefix("/api/v1/builds/")
        .unwrap_or_default();
    let key = BuildKey::parse(key)?;
    let page = url::build_path(&key);
    let name = key.to_string();
    let state = match app.queue.standing(&key).await? {
        Standing::Built(row) => json!({
            "key": name, "state": "built", "url": url::result_path(&key, &row.sum()),
            "sum": row.sum().to_string(), "sha256": hex(&row.sha256), "size": row.size,
            "log_index": row.log_index, "file": key.download_name(),
        }),
        Standing::Failed(row) => {
            let refusal = Refusal::from(row.failure);
            json!({ "key": name, "state": "failed", "url": page, "failure": refusal.json() })
        }
        Standing::Underway(job) => {
            let place = app.queue.place(&job);
            let state = if place == 0 { "running" } else { "waiting" };
            let doing = job.live.snapshot().doing;
            json!({ "key": name, "state": state, "url": page, "place": place, "doing": doing })
        }
        Standing::Unknown => json!({ "key": name, "state": "unknown", "url": page }),
    };
    Ok(answer::cached(Json(state).into_response(), NO_STORE))
}
