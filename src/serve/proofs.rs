//! `/tlog/proof/…`: ready proofs for people without a network. Nothing here starts a build.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use axum::{http::StatusCode, response::Response};

use super::{
    answer::Refusal,
    app::App,
    tlog::{HEAD_CACHE, blocking, note},
};
use crate::{
    spec::{BuildKey, url::Path},
    tlog::text::parse_decimal,
};

/// `GET /tlog/proof/<index>` and `GET /tlog/proof/by-key/<key>`
pub(super) async fn show(app: &Arc<App>, path: &str) -> Result<Response, Refusal> {
    app.metrics.proofs.fetch_add(1, Relaxed);
    match path.strip_prefix("by-key/") {
        Some(key) => by_key(app, key).await,
        None => by_index(app, path).await,
    }
}

/// The proof of one leaf, without extra data.
async fn by_index(app: &Arc<App>, text: &str) -> Result<Response, Refusal> {
    let index = parse_decimal(text).ok_or_else(|| {
        Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_index",
            "this is no index of a leaf",
            "write /tlog/proof/ and a decimal number, or /tlog/proof/by-key/ and a key",
        )
    })?;
    let ledger = Arc::clone(&app.ledger);
    let proof = blocking(move || ledger.proof(index)).await?;
    let proof = proof.ok_or_else(|| Refusal::not_found("the log has no such leaf"))?;
    Ok(note(proof.to_string(), HEAD_CACHE))
}

/// The proof of a build's companion; with the envelope it is a receipt.
async fn by_key(app: &Arc<App>, text: &str) -> Result<Response, Refusal> {
    let key = (text.len() <= Path::LEN_MAX).then(|| BuildKey::parse(text));
    let Some(Ok(key)) = key else {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "bad_spec",
            "this is no key of the log",
            "write module@version/package/goos-goarch-goversion/, all of it concrete",
        ));
    };
    let (ledger, asked) = (Arc::clone(&app.ledger), key.clone());
    let draft = blocking(move || ledger.draft(&asked)).await?;
    let draft = draft.ok_or_else(|| Refusal::not_found("the log has no such build"))?;
    // An entry and its envelope are written in one transaction: whoever sees the first, sees both.
    let envelope = app.catalogue.envelope(&key).await;
    let envelope = envelope.map_err(|cause| Refusal::internal(&cause))?;
    Ok(note(draft.finish(envelope).to_string(), HEAD_CACHE))
}
