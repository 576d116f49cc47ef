//! The way out to witnesses. Which ones there are was said at the start; a question names one by
//! its number, so that an asker under an attacker's control reaches nobody else.

use std::time::Duration;

use reqwest::{
    Client, RequestBuilder, Response, Url,
    header::{CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};

use super::wire::{Answer, WitnessAsk};
use crate::tlog::witness::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, WITNESSES_MAX};

/// Longest time of a whole request. A witness has one signature to make and one file to write.
const TOTAL: Duration = Duration::from_secs(10);
/// Longest media type that is passed on, in bytes.
const TYPE_BYTES_MAX: usize = 100;

/// Why a witness, or a verifier, was not asked, or did not answer. Holds no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitnessError {
    /// No such number, or no such question.
    #[error("there is nobody of that number, or nobody to be asked this")]
    Unknown,
    /// The start named something else than addresses.
    #[error("malformed address of a witness or verifier")]
    Address,
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

/// All witnesses.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    urls: Vec<Url>,
    /// Nothing when there are none.
    client: Option<Client>,
}

impl Witnesses {
    /// Takes the addresses of the start.
    pub(super) fn new(urls: &[String]) -> Result<Self, WitnessError> {
        if urls.is_empty() {
            return Ok(Self::default());
        }
        let parsed: Result<Vec<_>, _> = urls.iter().map(|url| Url::parse(url)).collect();
        let parsed = parsed.map_err(|_| WitnessError::Address)?;
        if parsed.len() > WITNESSES_MAX {
            return Err(WitnessError::Address);
        }
        let client = Client::builder()
            .user_agent(concat!("hotcell/", env!("CARGO_PKG_VERSION")))
            .timeout(TOTAL)
            .redirect(Policy::none()) // who answers for a witness was chosen by a person
            .referer(false)
            .no_proxy()
            .build()
            .map_err(WitnessError::Tls)?;
        Ok(Self {
            urls: parsed,
            client: Some(client),
        })
    }

    /// Asks one.
    pub(super) async fn ask(
        &self,
        witness: usize,
        ask: WitnessAsk,
    ) -> Result<Answer, WitnessError> {
        let (Some(url), Some(client)) = (self.urls.get(witness), &self.client) else {
            return Err(WitnessError::Unknown);
        };
        let prefix = url.as_str().trim_end_matches('/');
        let request = match ask {
            WitnessAsk::Add { body } if body.len() <= REQUEST_BYTES_MAX => client
                .post(format!("{prefix}/add-checkpoint"))
                .header(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
                .body(body),
            WitnessAsk::Seen { log } if is_log_id(&log) => {
                client.get(format!("{prefix}/{log}/checkpoint"))
            }
            WitnessAsk::Add { .. } | WitnessAsk::Seen { .. } => return Err(WitnessError::Unknown),
        };
        answer(request).await
    }
}

fn is_log_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

async fn answer(request: RequestBuilder) -> Result<Answer, WitnessError> {
    let mut response = request
        .send()
        .await
        .map_err(|error| silent(&error, TOTAL))?;
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.get(..TYPE_BYTES_MAX).unwrap_or(kind).to_owned();
    Ok(Answer::Witness {
        status: response.status().as_u16(),
        kind,
        body: body(&mut response, ANSWER_BYTES_MAX, TOTAL).await?,
    })
}

/// A body that is a text of at most `bytes_max` bytes.
pub(super) async fn body(
    response: &mut Response,
    bytes_max: usize,
    total: Duration,
) -> Result<String, WitnessError> {
    let bytes = bytes(response, bytes_max, total).await?;
    String::from_utf8(bytes).map_err(|_| WitnessError::Garbage { bytes_max })
}

/// A body of at most `bytes_max` bytes.
pub(super) async fn bytes(
    response: &mut Response,
    bytes_max: usize,
    total: Duration,
) -> Result<Vec<u8>, WitnessError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| silent(&error, total))?
    {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > bytes_max {
            return Err(WitnessError::Garbage { bytes_max });
        }
    }
    Ok(bytes)
}

/// The innermost cause; outer ones name the address.
pub(super) fn silent(error: &reqwest::Error, total: Duration) -> WitnessError {
    if error.is_timeout() {
        return WitnessError::Silent(format!("nothing came in {} s", total.as_secs()));
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.is::<reqwest::Error>() {
        true => WitnessError::Silent("bad request or answer".to_owned()),
        false => WitnessError::Silent(cause.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(body: &str) -> WitnessAsk {
        WitnessAsk::Add {
            body: body.to_owned(),
        }
    }

    #[tokio::test]
    async fn nobody_is_asked_but_the_witnesses_of_the_start_and_only_what_a_witness_knows() {
        let witnesses = Witnesses::new(&["https://witness.test/".to_owned()]).unwrap();
        let seen = |log: &str| WitnessAsk::Seen {
            log: log.to_owned(),
        };
        for (witness, ask) in [
            (1, add("old 0\n\nx\n")),
            (0, add(&"x".repeat(REQUEST_BYTES_MAX + 1))),
            (0, seen("../secrets")),
            (0, seen(&"é".repeat(32))),
            (0, seen("")),
        ] {
            let refused = witnesses.ask(witness, ask).await;
            assert!(matches!(refused, Err(WitnessError::Unknown)));
        }
        let none = Witnesses::new(&[]).unwrap();
        assert!(matches!(
            none.ask(0, add("x")).await,
            Err(WitnessError::Unknown)
        ));
        assert!(Witnesses::new(&["nowhere".to_owned()]).is_err());
        assert!(Witnesses::new(&vec!["http://a.test".to_owned(); WITNESSES_MAX + 1]).is_err());
    }
}
