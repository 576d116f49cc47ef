//! How instant-acme asks: its requests travel through the role `fetch`, which alone has a way out.
//!
//! Called by [`super::order`]. What comes back is the authority's claim, bounded by
//! [`crate::fetch::authority`]; what is no message of the protocol becomes an error that says so.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use axum::{
    body::Bytes,
    http::{HeaderName, Method, Request, Response, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};

use crate::{
    build::{BoxFuture, fetching::Fetch},
    fetch::wire::{Answer, Ask, AuthorityAsk},
    proxy,
};

/// What the authority wants in the next request (RFC 8555, 6.5.1).
const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// What the authority answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Of HTTP.
    pub status: u16,
    /// `Replay-Nonce`.
    pub nonce: Option<String>,
    /// `Location`.
    pub location: Option<String>,
    /// In how many seconds it wants to be asked again.
    pub retry_after_s: Option<u64>,
    /// Bounded by [`crate::fetch::authority::ANSWER_BYTES_MAX`].
    pub body: Vec<u8>,
}

/// Carries questions to the authority.
pub trait Carrier: Send + Sync + 'static {
    /// Asks; the error is a sentence for a person. Must end in bounded time.
    fn ask(&self, question: AuthorityAsk) -> BoxFuture<'_, Result<Said, String>>;
}

/// The role `fetch`.
impl Carrier for Arc<Fetch> {
    fn ask(&self, question: AuthorityAsk) -> BoxFuture<'_, Result<Said, String>> {
        Box::pin(async move {
            let other = || "the fetcher gave another answer than was asked for".to_owned();
            match self.ask_once(Ask::Authority { question }).await {
                Ok(Answer::Authority {
                    status,
                    nonce,
                    location,
                    retry_after_s,
                    base64,
                }) => Ok(Said {
                    status,
                    nonce,
                    location,
                    retry_after_s,
                    body: STANDARD.decode(base64).map_err(|_| other())?,
                }),
                Ok(_) => Err(other()),
                Err(trouble) => Err(trouble.text),
            }
        })
    }
}

/// Nothing that can be used was answered. A sentence for a person.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unanswered(String);

/// One conversation with the authority.
#[derive(Clone)]
pub(super) struct Line {
    carrier: Arc<dyn Carrier>,
    /// Seconds for which it wants to be left alone, as it said when it refused something.
    wait_s: Arc<AtomicU64>,
}

impl Line {
    pub(super) fn new(carrier: &Arc<dyn Carrier>) -> Self {
        Self {
            carrier: Arc::clone(carrier),
            wait_s: Arc::default(),
        }
    }

    /// For how long it wants to be left alone.
    pub(super) fn wait_s(&self) -> Option<u64> {
        Some(self.wait_s.load(Relaxed)).filter(|seconds| *seconds > 0)
    }

    async fn carry(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let url = request.uri().to_string();
        let method = request.method().clone();
        let Ok(body) = request.into_body().collect().await;
        let body = body.to_bytes();
        let question = match method {
            Method::GET => AuthorityAsk::Get { url },
            Method::HEAD => AuthorityAsk::Head { url },
            Method::POST => AuthorityAsk::Post {
                url,
                body: String::from_utf8_lossy(&body).into_owned(),
            },
            other => {
                return Err(unanswered(format!(
                    "a request of the kind {other} is not sent"
                )));
            }
        };
        let is_signed = matches!(question, AuthorityAsk::Post { .. });
        let said = self.carrier.ask(question).await;
        let said = said.map_err(|why| unanswered(format!("the authority was not asked: {why}")))?;
        if !(200..300).contains(&said.status) {
            self.wait_s.store(said.retry_after_s.unwrap_or(0), Relaxed);
            // Whoever signs a request gets a reason (RFC 8555, 6.7), or somebody else has answered.
            let is_reason = serde_json::from_slice::<instant_acme::Problem>(&said.body).is_ok();
            if !(is_signed && is_reason) {
                let words = proxy::Said::first_line(&said.body);
                let text = format!("the authority answers with status {}: {words}", said.status);
                return Err(unanswered(text.trim_end_matches([':', ' ']).to_owned()));
            }
        }
        response(said)
    }
}

impl HttpClient for Line {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().carry(request))
    }
}

fn response(said: Said) -> Result<BytesResponse, Error> {
    let mut response = Response::builder().status(said.status);
    let retry_after = said.retry_after_s.map(|seconds| seconds.to_string());
    for (name, value) in [
        (REPLAY_NONCE, said.nonce),
        (header::LOCATION, said.location),
        (header::RETRY_AFTER, retry_after),
    ] {
        if let Some(value) = value {
            response = response.header(name, value);
        }
    }
    let body = Full::new(Bytes::from(said.body));
    Ok(BytesResponse::from(response.body(body)?))
}

fn unanswered(text: String) -> Error {
    Error::Other(Unanswered(text).into())
}
