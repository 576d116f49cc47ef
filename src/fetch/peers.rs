//! Servers that the operator named at the start: witnesses of the log, verifiers of builds, and the
//! authority of the certificate.
//!
//! A question names one by its number. Nobody else is reached: no redirect is followed, no proxy of
//! the environment is used, and every answer has a longest time and a longest body.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, Url, redirect::Policy};

/// Why one of them was not asked, or did not answer. Holds no address but for the origin of an
/// authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// No such number, or no such question.
    #[error("there is nobody of that number, or nobody to be asked this")]
    Unknown,
    /// The start named something else than addresses.
    #[error("malformed address of a witness, a verifier or an authority")]
    Address,
    /// A question for somebody else than the authority.
    #[error(
        "the authority at {authority} sends to {elsewhere}: hotcell asks no other host, so take an \
         authority that has all its addresses on one"
    )]
    Elsewhere {
        /// Where it is.
        authority: String,
        /// Where it was not asked.
        elsewhere: String,
    },
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[source] reqwest::Error),
    /// Refused connection, silence, a broken answer.
    #[error("it did not answer: {0}")]
    Silent(String),
    /// An answer that is too long, or no text.
    #[error("its answer is no text of at most {bytes_max} bytes")]
    Garbage {
        /// The limit.
        bytes_max: usize,
    },
}

/// Those of one kind.
#[derive(Debug, Default)]
pub(super) struct Peers {
    urls: Vec<Url>,
    /// Nothing when there are none.
    client: Option<Client>,
}

impl Peers {
    /// Takes at most `count_max` addresses; `total` is the longest time of a whole request that has
    /// none of its own.
    pub(super) fn new(
        urls: &[String],
        count_max: usize,
        total: Duration,
    ) -> Result<Self, PeerError> {
        if urls.is_empty() {
            return Ok(Self::default());
        }
        let parsed: Result<Vec<_>, _> = urls.iter().map(|url| Url::parse(url)).collect();
        let parsed = parsed.map_err(|_| PeerError::Address)?;
        if parsed.len() > count_max {
            return Err(PeerError::Address);
        }
        let client = Client::builder()
            .user_agent(concat!("hotcell/", env!("CARGO_PKG_VERSION")))
            .timeout(total)
            .redirect(Policy::none()) // who answers for one of them was chosen by a person
            .referer(false)
            .no_proxy()
            .build()
            .map_err(PeerError::Tls)?;
        Ok(Self {
            urls: parsed,
            client: Some(client),
        })
    }

    /// The address of one without a slash at its end, and what asks it.
    pub(super) fn get(&self, number: usize) -> Result<(&str, &Client), PeerError> {
        match (self.urls.get(number), &self.client) {
            (Some(url), Some(client)) => Ok((url.as_str().trim_end_matches('/'), client)),
            _ => Err(PeerError::Unknown),
        }
    }
}

/// Sends a request that takes `total` at most.
pub(super) async fn send(request: RequestBuilder, total: Duration) -> Result<Response, PeerError> {
    request.send().await.map_err(|error| silent(&error, total))
}

/// A body that is a text of at most `bytes_max` bytes.
pub(super) async fn body(
    response: &mut Response,
    bytes_max: usize,
    total: Duration,
) -> Result<String, PeerError> {
    let bytes = bytes(response, bytes_max, total).await?;
    String::from_utf8(bytes).map_err(|_| PeerError::Garbage { bytes_max })
}

/// A body of at most `bytes_max` bytes.
pub(super) async fn bytes(
    response: &mut Response,
    bytes_max: usize,
    total: Duration,
) -> Result<Vec<u8>, PeerError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| silent(&error, total))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > bytes_max {
            return Err(PeerError::Garbage { bytes_max });
        }
    }
    Ok(bytes)
}

/// The innermost cause; outer ones name the address.
fn silent(error: &reqwest::Error, total: Duration) -> PeerError {
    if error.is_timeout() {
        return PeerError::Silent(format!("nothing came in {} s", total.as_secs()));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.is::<reqwest::Error>() {
        true => PeerError::Silent("bad request or answer".to_owned()),
        false => PeerError::Silent(cause.to_string()),
    }
}
