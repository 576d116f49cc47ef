//! The way out to witnesses. Which ones there are was said at the start; a question names one by
//! its number, so that an asker under an attacker's control reaches nobody else.

use std::time::Duration;

use reqwest::{
    RequestBuilder,
    header::{CONTENT_TYPE, HeaderValue},
};

use super::{
    peers::{PeerError, Peers, body, send},
    wire::{Answer, WitnessAsk},
};
use crate::tlog::witness::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, WITNESSES_MAX};

/// Longest time of a whole request. A witness has one signature to make and one file to write.
const TOTAL: Duration = Duration::from_secs(10);
/// Longest media type that is passed on, in bytes.
const TYPE_BYTES_MAX: usize = 100;

/// All witnesses.
#[derive(Debug, Default)]
pub(super) struct Witnesses(Peers);

impl Witnesses {
    /// Takes the addresses of the start.
    pub(super) fn new(urls: &[String]) -> Result<Self, PeerError> {
        Peers::new(urls, WITNESSES_MAX, TOTAL).map(Self)
    }

    /// Asks one.
    pub(super) async fn ask(&self, witness: usize, ask: WitnessAsk) -> Result<Answer, PeerError> {
        let (prefix, client) = self.0.get(witness)?;
        let request = match ask {
            WitnessAsk::Add { body } if body.len() <= REQUEST_BYTES_MAX => client
                .post(format!("{prefix}/add-checkpoint"))
                .header(CONTENT_TYPE, HeaderValue::from_static("text/plain"))
                .body(body),
            WitnessAsk::Seen { log } if is_log_id(&log) => {
                client.get(format!("{prefix}/{log}/checkpoint"))
            }
            WitnessAsk::Add { .. } | WitnessAsk::Seen { .. } => return Err(PeerError::Unknown),
        };
        answer(request).await
    }
}

fn is_log_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

async fn answer(request: RequestBuilder) -> Result<Answer, PeerError> {
    let mut response = send(request, TOTAL).await?;
    let kind = response.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.get(..TYPE_BYTES_MAX).unwrap_or(kind).to_owned();
    Ok(Answer::Witness {
        status: response.status().as_u16(),
        kind,
        body: body(&mut response, ANSWER_BYTES_MAX, TOTAL).await?,
    })
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
            assert!(matches!(refused, Err(PeerError::Unknown)));
        }
        let none = Witnesses::new(&[]).unwrap();
        assert!(matches!(
            none.ask(0, add("x")).await,
            Err(PeerError::Unknown)
        ));
        assert!(Witnesses::new(&["nowhere".to_owned()]).is_err());
        assert!(Witnesses::new(&vec!["http://a.test".to_owned(); WITNESSES_MAX + 1]).is_err());
    }
}
