//! What the operator does not hand out any more, and why: the whole list, for everybody.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};

use crate::serve::{
    answer::{self, NO_STORE},
    app::App,
    limits::withdrawn::Withdrawn,
};

/// `/-/withdrawn`
#[derive(Template)]
#[template(path = "withdrawn.html")]
struct WithdrawnPage {
    withdrawn: Vec<Withdrawn>,
}

/// `GET /-/withdrawn`
pub(in crate::serve) async fn show(State(app): State<Arc<App>>) -> Response {
    let withdrawn = app.told.borrow().rules.withdrawn.clone();
    answer::cached(answer::page(&WithdrawnPage { withdrawn }), NO_STORE)
}
