//! Answers that are no pages: refusals with code and sentence, plain texts, redirects, downloads.
//!
//! A [`Refusal`] becomes HTML, JSON or text by what the client accepts. Visitors see causes of
//! their own mistakes; of ours they see an id, and the cause is in the trace under it.

use axum::{
    Json,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER,
        },
    },
    response::{IntoResponse, Response},
};
use serde_json::json;
use tracing::error;

use super::{pages, run::chain};
use crate::{
    build::{About, Failure, FailureClass},
    output::Output,
    spec::{SpecError, hex},
};

/// Answers for what never changes again.
pub(super) const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// Answers that mean something else tomorrow.
pub(super) const NO_STORE: &str = "no-store";
/// When to come back to a busy service.
const RETRY_AFTER_S: u32 = 30;

/// Who blocks what is unavailable for legal reasons (RFC 7725, section 4): this instance, whose
/// page says how its operator is reached.
const BLOCKED_BY: &str = "</-/instance>; rel=\"blocked-by\"";

/// What a client wants to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accept {
    Html,
    Json,
    Text,
}

impl Accept {
    /// Browsers name HTML first; programs that name nothing get text.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if accept.contains("text/html") {
            Self::Html
        } else if accept.contains("application/json") {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// A request that is not fulfilled.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Stable.
    pub(super) code: String,
    /// Without a full stop.
    pub(super) sentence: String,
    /// What to do.
    pub(super) remedy: String,
    /// What the go command printed.
    pub(super) output: Output,
    /// Its object, for programs.
    about: Option<Box<About>>,
    retry_after_s: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &str, sentence: &str, remedy: &str) -> Self {
        let [code, sentence, remedy] = [code, sentence, remedy].map(str::to_owned);
        let output = Output::default();
        Self {
            status,
            code,
            sentence,
            remedy,
            output,
            about: None,
            retry_after_s: None,
        }
    }

    /// There is nothing here.
    pub(super) fn not_found(sentence: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            sentence,
            "start at the home page",
        )
    }

    /// A request that somebody else's page made; nothing was started.
    pub(super) fn other_origin() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "other_origin",
            "a page of another site may not start a build",
            "open the build page here",
        )
    }

    /// Exists for builds that are done only.
    pub(super) fn not_built() -> Self {
        let remedy = "open the build page, or ask for `record`, and come back";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "not_built",
            "this is not built yet",
            remedy,
        )
    }

    /// Too many wait already.
    pub(super) fn busy(sentence: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let busy = Self::new(status, "busy", sentence, "try again in half a minute");
        busy.later(RETRY_AFTER_S)
    }

    /// The same, with the time to come back.
    pub(super) fn later(mut self, after_s: u32) -> Self {
        self.retry_after_s = Some(after_s);
        self
    }

    /// Ours; the cause goes to the trace under an id.
    pub(super) fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        let mut bytes = [0; 8];
        // Without randomness the id is all zeros; the answer matters more.
        let _weak = getrandom::fill(&mut bytes);
        let id = hex(&bytes);
        error!(id, "request {id} failed: {}", chain(cause));
        let sentence = format!("something went wrong here, id {id}");
        let remedy = "try again; if it stays, tell the operator the id";
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            &sentence,
            remedy,
        )
    }

    /// Its status, and what else belongs into the head of its answer, on a page that shows it.
    pub(super) fn on(&self, page: Response) -> Response {
        let mut page = with_status(page, self.status, self.retry_after_s);
        if self.status == StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS {
            let headers = page.headers_mut();
            headers.insert(LINK, HeaderValue::from_static(BLOCKED_BY));
        }
        page
    }

    /// A problem document (RFC 9457): `about:blank` has the title of its status, and what happened
    /// stands in `detail`; `code` and `remedy` are ours, and `code` is stable.
    pub(super) fn json(&self) -> serde_json::Value {
        let mut json = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or_default(),
            "status": self.status.as_u16(),
            "detail": self.sentence,
            "code": self.code,
            "remedy": self.remedy,
        });
        if let Some(about) = &self.about {
            json["about"] = json!(about);
        }
        json
    }
}

fn with_status(mut page: Response, status: StatusCode, retry_after_s: Option<u32>) -> Response {
    *page.status_mut() = status;
    if let Some(seconds) = retry_after_s {
        let headers = page.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    page
}

/// When to ask for a failed build again, where that is of use.
fn retry_after_s(class: FailureClass) -> Option<u32> {
    (class == FailureClass::Busy).then_some(RETRY_AFTER_S)
}

/// The page of a failed build, which may be another one soon.
pub(super) fn failed(page: Response, class: FailureClass) -> Response {
    let page = with_status(page, status_of(class), retry_after_s(class));
    cached(page, NO_STORE)
}

/// HTTP status of a failed build.
fn status_of(class: FailureClass) -> StatusCode {
    match class {
        FailureClass::CannotBuild => StatusCode::NOT_FOUND,
        FailureClass::BadSpec => StatusCode::BAD_REQUEST,
        FailureClass::Proxy | FailureClass::Verify => StatusCode::BAD_GATEWAY,
        FailureClass::Busy => StatusCode::SERVICE_UNAVAILABLE,
        FailureClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let status = status_of(failure.class);
        let mut refusal = Self::new(status, &failure.code, &failure.sentence, &failure.remedy);
        refusal.output = failure.output;
        refusal.about = failure.about;
        refusal.retry_after_s = retry_after_s(failure.class);
        if failure.class == FailureClass::Internal {
            let mut bytes = [0; 8];
            let _weak = getrandom::fill(&mut bytes);
            let id = hex(&bytes);
            error!(
                id,
                "request {id} failed: {}: {}", failure.code, failure.sentence
            );
            refusal.sentence = format!("{}, id {id}", refusal.sentence);
        }
        refusal
    }
}

impl From<SpecError> for Refusal {
    fn from(error: SpecError) -> Self {
        let remedy = "write module@version/package or package@version";
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_spec",
            &error.to_string(),
            remedy,
        )
    }
}

impl IntoResponse for Refusal {
    /// The body is made by [`negotiate`], which knows what the client reads.
    fn into_response(self) -> Response {
        let mut response = self.on(Response::default());
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives a refusal the body that the client reads.
pub(super) fn negotiate(mut response: Response, accept: Accept) -> Response {
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else {
        return response;
    };
    let (mut head, _) = response.into_parts();
    let body = match accept {
        Accept::Json => {
            let kind = HeaderValue::from_static("application/problem+json");
            let mut response = Json(refusal.json()).into_response();
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Accept::Text => plain(refusal_text(&refusal)),
        Accept::Html => page(&pages::RefusalPage::of(&refusal)),
    };
    let (body_head, body) = body.into_parts();
    head.headers.extend(body_head.headers);
    Response::from_parts(head, body)
}

fn refusal_text(refusal: &Refusal) -> String {
    let Refusal {
        code,
        sentence,
        remedy,
        output,
        ..
    } = refusal;
    let text = format!("{code}: {sentence}\n{remedy}\n");
    let text = Output::from(text.into_bytes()).plain();
    if output.is_empty() {
        text
    } else {
        format!("{text}\n{}", output.plain())
    }
}

/// A page from its template.
pub(super) fn page(template: &impl askama::Template) -> Response {
    match template.render() {
        Ok(html) => ([(CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(cause) => {
            let refusal = Refusal::internal(&cause);
            (refusal.status, plain(refusal_text(&refusal))).into_response()
        }
    }
}

/// A text for people and programs.
pub(super) fn plain(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

/// Sets how long an answer may be kept.
pub(super) fn cached(mut response: Response, value: &'static str) -> Response {
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static(value));
    response
}

/// A redirect; `path` is made of parsed names.
pub(super) fn redirect(status: StatusCode, path: &str, cache: &'static str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (
            status,
            [
                (LOCATION, path),
                (CACHE_CONTROL, HeaderValue::from_static(cache)),
            ],
        )
            .into_response(),
        Err(_) => Refusal::not_found("there is no such page").into_response(),
    }
}

/// A redirect to what is meant today.
pub(super) fn moved(path: &str) -> Response {
    redirect(StatusCode::TEMPORARY_REDIRECT, path, NO_STORE)
}

/// The tag of what has this hash.
pub(super) fn etag(sha256: &[u8]) -> HeaderValue {
    let tag = format!("\"{}\"", hex(sha256));
    HeaderValue::try_from(tag).expect("quotes and hex digits are a header's value")
}

/// Whether the client has this already (RFC 9110, 13.1.2: tags of the same text are the same, weak
/// ones too).
pub(super) fn is_kept(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let seen = headers.get_all(IF_NONE_MATCH).iter();
    seen.filter_map(|tags| tags.to_str().ok())
        .flat_map(|tags| tags.split(',').map(str::trim))
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// For who has it already.
pub(super) fn kept(etag: HeaderValue) -> Response {
    (StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response()
}
