//! What was built: lists, and everything about one of it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::Uri,
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bad_query;
use crate::{
    fetch::wire::{Licences, ModuleHash},
    serve::{
        answer::{self, NO_STORE, Refusal},
        app::App,
        code::Measured,
        limits::withdrawn::Withdrawn,
    },
    spec::{BuildKey, ModulePath, Record, hex, url},
};

/// Results in one answer when no number is asked for, and at most.
const COUNT: u32 = 20;
const COUNT_MAX: u32 = 200;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    module: Option<String>,
    count: Option<u32>,
}

/// `GET /api/v1/results?module=…&count=…`: the newest results, of one module or of all.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(asked) = asked.map_err(|error| bad_query(&error.body_text()))?;
    let module = asked.module.as_deref().map(ModulePath::parse).transpose()?;
    let count = asked.count.unwrap_or(COUNT);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(bad_query("count must be between 1 and 200"));
    }
    let recent = app.catalogue.recent(module.as_ref(), count);
    let recent = recent.map_err(|cause| Refusal::internal(&cause))?;
    let line = |recent: &crate::serve::catalogue::Recent| {
        json!({
            "key": recent.key.to_string(), "sum": recent.sum, "size": recent.size,
            "built_ms": recent.built_ms,
            "url": format!("{}{}/", url::build_path(&recent.key), recent.sum),
        })
    };
    let results: Vec<_> = recent.iter().map(line).collect();
    let answer = Json(json!({ "results": results })).into_response();
    Ok(answer::cached(answer, NO_STORE))
}

/// `GET /api/v1/results/<key>`: what a build was made from, and how. Builds nothing.
pub(super) async fn show(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Refusal> {
    let key = uri.path().strip_prefix("/api/v1/results/");
    let key = BuildKey::parse(key.unwrap_or_default())?;
    let row = app.catalogue.result(&key);
    let row = row.map_err(|cause| Refusal::internal(&cause))?;
    let row = row.ok_or_else(|| Refusal::not_found("there is no result of this build"))?;
    let (sum, page) = (row.sum(), url::result_path(&key, &row.sum()));
    let record = Record {
        key: key.clone(),
        size: row.size,
        sum,
    };
    let built = &row.built;
    let code = app.catalogue.all_code(&key);
    let code = code.map_err(|cause| Refusal::internal(&cause))?;
    let licences = app.catalogue.licences_of(&built.modules);
    let licences = licences.map_err(|cause| Refusal::internal(&cause))?;
    let modules = built.modules.iter().zip(&licences);
    let modules = modules.map(|(one, found)| module(one, code.as_ref(), found.as_deref()));
    let modules: Vec<_> = modules.collect();
    let verifiers = app.catalogue.agreed(&key);
    let verifiers = verifiers.map_err(|cause| Refusal::internal(&cause))?;
    let timings = built.timings_ms.iter();
    let timings: serde_json::Map<_, _> = timings
        .map(|(phase, ms)| (phase.name().to_owned(), json!(ms)))
        .collect();
    let result = json!({
        "key": key.to_string(),
        "url": page,
        "file": format!("{page}{}", key.download_name()),
        "receipt": format!("/tlog/proof/by-key/{key}"),
        "record": record.text(),
        "log_index": row.log_index,
        "sum": sum.to_string(),
        "sha256": hex(&row.sha256),
        "size": row.size,
        "built_ms": row.built_ms,
        "sdk_h1": built.sdk_h1,
        "modules": modules,
        "code": code.as_ref().map(|(sums, packages)| json!({
            "packages": packages,
            "standard_library": sums.standard_library,
            "other": sums.other,
        })),
        "verifiers": verifiers,
        "warnings": built.warnings,
        "withdrawn": app.rates.withdrawn(&key).as_ref().map(Withdrawn::json),
        "cell": built.cell,
        "timings_ms": timings,
    });
    Ok(answer::cached(Json(result).into_response(), NO_STORE))
}

/// A module of a build, and what it brings to the binary.
fn module(module: &ModuleHash, code: Option<&Measured>, found: Option<&Licences>) -> Value {
    let bytes = code.filter(|_| module.h1.is_some());
    let bytes = bytes.map(|(sums, _)| sums.modules.get(&module.path).copied().unwrap_or(0));
    json!({
        "path": module.path,
        "version": module.version,
        "h1": module.h1,
        "go_mod_h1": module.go_mod_h1,
        "licences": found,
        "code": bytes,
    })
}
