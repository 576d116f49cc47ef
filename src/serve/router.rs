//! All addresses of the service in one place. What has no route here is a module or a build.

use std::sync::{Arc, OnceLock};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::PathRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{CONTENT_TYPE, ETAG, LOCATION, STRICT_TRANSPORT_SECURITY},
    },
    middleware,
    response::{IntoResponse as _, Response},
    routing::get,
};
use sha2::{Digest as _, Sha256};
use tower_http::set_header::SetResponseHeaderLayer;

use super::{
    admin, answer,
    answer::{NO_STORE, Refusal},
    api,
    app::App,
    bodies, builds, cosign, guard, health, home,
    ledger::Health,
    limits::blocks::Visitor,
    lists,
    metrics::Gauges,
    tlog,
    tls::HSTS,
};
use crate::spec::url;

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
    Disallow: /*-go1.*/*-go1.\n\
    Disallow: /*-latest*/*-latest\n";

/// The public side.
pub(super) fn public(app: Arc<App>) -> Router {
    let has_tls = app.tls.is_some() && app.hosts.iter().any(|host| host.contains('.'));
    let router = Router::new()
        .route("/", get(home::show).post(home::submit))
        .route("/static/{file}", get(asset))
        .route("/favicon.ico", get(icon))
        .route(
            "/robots.txt",
            get(|| async { answer::plain(ROBOTS.to_owned()) }),
        )
        .route("/healthz", get(health::show))
        .route("/-/search", get(lists::search))
        .route("/-/failures", get(lists::failures))
        .route("/-/compare", get(lists::compare))
        .route("/-/instance", get(lists::instance))
        .route("/-/withdrawn", get(lists::withdrawn))
        .route("/tlog/{*path}", get(tlog::show))
        .merge(cosign::routes(app.cosigning.clone()))
        .merge(api::routes())
        .fallback(named)
        .method_not_allowed_fallback(|| async { builds::wrong_method() })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            bodies::limit,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            guard::stand,
        ))
        .with_state(app);
    if !has_tls {
        return router; // `localhost` is the name of other services, too, which have no TLS
    }
    let hsts = HeaderValue::from_static(HSTS);
    router.layer(SetResponseHeaderLayer::overriding(
        STRICT_TRANSPORT_SECURITY,
        hsts,
    ))
}

/// What has no route: a module or a build, and nothing that programs look for on any web server.
async fn named(
    app: State<Arc<App>>,
    visitor: Extension<Visitor>,
    request: Request,
) -> Result<Response, Refusal> {
    let path = request.uri().path();
    if url::is_file(path.strip_prefix('/').unwrap_or_default()) {
        return Err(Refusal::not_found("there is no such file"));
    }
    builds::show(app, visitor, request).await
}

/// For those who come without TLS: the same address at `to`, whatever host was asked for.
pub(super) fn redirect(to: String) -> Router {
    Router::new().fallback(move |uri: Uri| async move {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let location = HeaderValue::try_from(format!("{to}{path}"));
        let location = location.map_err(|cause| Refusal::internal(&cause))?;
        let said = (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]);
        Ok::<_, Refusal>(said)
    })
}

/// The operator's side.
pub(super) fn admin(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(admin::show))
        .route("/metrics", get(metrics))
        .route("/static/{file}", get(asset))
        .route("/favicon.ico", get(icon))
        .route("/healthz", get(health::show))
        .fallback(|| async { Refusal::not_found("there is nothing at this address") })
        .method_not_allowed_fallback(|| async { builds::wrong_method() })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            bodies::limit,
        ))
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

async fn asset(
    headers: HeaderMap,
    file: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let none = || Refusal::not_found("there is no such file");
    let Path(file) = file.map_err(|_| none())?;
    static ETAGS: OnceLock<Vec<HeaderValue>> = OnceLock::new();
    let etags = ETAGS.get_or_init(|| {
        let digest = |(_, _, text): &(_, _, &str)| answer::etag(&Sha256::digest(text));
        ASSETS.iter().map(digest).collect()
    });
    let found = ASSETS
        .iter()
        .zip(etags)
        .find(|((name, _, _), _)| *name == file);
    let Some(((_, kind, text), etag)) = found else {
        return Err(none());
    };
    if answer::is_kept(&headers, etag) {
        return Ok(answer::kept(etag.clone()));
    }
    let mut response = (*text).into_response();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(ETAG, etag.clone());
    Ok(response)
}

async fn icon() -> Response {
    let (_, kind, text) = ASSETS[2];
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let gauges = Gauges {
        waiting: app.queue.waiting(),
        running: app.queue.running(),
        verifying: app.queue.verifying(),
        live: app.ledger.health() == Health::Live,
        put_away: app.executor.alarms().len(),
        certificate_end_s: app.certificate().and_then(|standing| standing.end_s),
    };
    let (witnesses, verifiers) = (app.witnesses.standings(), app.verifiers.standings());
    let cosigning = app.cosigning.as_deref();
    let text = app.metrics.text(gauges, &witnesses, cosigning, &verifiers);
    let mut response = answer::plain(text);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    answer::cached(response, NO_STORE)
}
