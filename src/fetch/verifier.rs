//! The way out to verifiers. Which ones there are was said at the start; a question names one by
//! its number, so that an asker under an attacker's control reaches nobody else.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::wire::MESSAGE_BYTES_MAX;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};

use super::{
    peers::{PeerError, Peers, body, bytes, send},
    wire::Answer,
};
use crate::{
    provenance::observation::OBSERVATION_BYTES_MAX,
    spec::BuildKey,
    tlog::TilePath,
    verifiers::{VERIFIERS_MAX, quorum::PATIENCE},
};

/// Longest time of a whole request. A verifier that has to build first says so at once.
const TOTAL: Duration = Duration::from_secs(15);
/// Longest time of a lookup: its log builds what it does not have, and nobody waits longer for it.
const LOOKUP_TOTAL: Duration = PATIENCE;
/// Longest lookup or tile in bytes: a full tile of hashes has 8 KiB, a record with a head and many
/// cosignatures about as much.
pub const LOG_BYTES_MAX: usize = 32 * 1024;
const _: () = assert!(LOG_BYTES_MAX / 3 * 4 + 1024 < MESSAGE_BYTES_MAX);
/// Longest answer in bytes: an envelope as a string of JSON, and some words around it.
pub const ANSWER_BYTES_MAX: usize = OBSERVATION_BYTES_MAX + 2 * 1024;
// It travels between roles, at worst with each byte written as `\u0000`.
const _: () = assert!(6 * ANSWER_BYTES_MAX + 1024 < MESSAGE_BYTES_MAX);

/// All verifiers.
#[derive(Debug, Default)]
pub struct Verifiers(Peers);

impl Verifiers {
    /// Takes the addresses of the start.
    pub(crate) fn new(urls: &[String]) -> Result<Self, PeerError> {
        Peers::new(urls, VERIFIERS_MAX, TOTAL).map(Self)
    }

    /// Reads a lookup or a tile of a verifier's log.
    pub(crate) async fn read(&self, verifier: usize, path: &str) -> Result<Answer, PeerError> {
        let (prefix, client) = self.0.get(verifier)?;
        let lookup = path.strip_prefix("lookup/").map(BuildKey::parse);
        let tile = path.strip_prefix("tile/").and_then(TilePath::parse);
        let total = match (lookup, tile) {
            (Some(Ok(_)), _) => LOOKUP_TOTAL,
            (_, Some(_)) => TOTAL,
            _ => return Err(PeerError::Unknown),
        };
        let request = client.get(format!("{prefix}/{path}")).timeout(total);
        let mut response = send(request, total).await?;
        let body = bytes(&mut response, LOG_BYTES_MAX, total).await?;
        Ok(Answer::VerifierLog {
            status: response.status().as_u16(),
            base64: STANDARD.encode(body),
        })
    }

    /// Asks one for an observation; gives status and body of its answer.
    pub(crate) async fn ask(&self, verifier: usize, key: &str) -> Result<(u16, String), PeerError> {
        let (prefix, client) = self.0.get(verifier)?;
        let key = BuildKey::parse(key).map_err(|_| PeerError::Unknown)?;
        let question = serde_json::json!({ "key": key.to_string() });
        let request = client
            .post(format!("{prefix}/api/v1/observations"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(question.to_string());
        let mut response = send(request, TOTAL).await?;
        let body = body(&mut response, ANSWER_BYTES_MAX, TOTAL).await?;
        Ok((response.status().as_u16(), body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_is_asked_but_the_verifiers_of_the_start_and_only_about_builds() {
        let verifiers = Verifiers::new(&["https://verifier.test/".to_owned()]).unwrap();
        let key = "example.org/m@v1.0.0/linux-amd64-go1.26.8/";
        for (verifier, key) in [(1, key), (0, ""), (0, "x"), (0, "../m@v1.0.0/x/")] {
            let refused = verifiers.ask(verifier, key).await;
            assert!(matches!(refused, Err(PeerError::Unknown)), "{key}");
        }
        for (verifier, path) in [
            (1, "tile/8/0/000"),
            (0, ""),
            (0, "lookup/"),
            (0, "lookup/../x"),
            (0, "tile/8/0/../000"),
            (0, "latest"),
        ] {
            let refused = verifiers.read(verifier, path).await;
            assert!(matches!(refused, Err(PeerError::Unknown)), "{path}");
        }
        let none = Verifiers::new(&[]).unwrap();
        let refused = none.ask(0, key).await;
        assert!(matches!(refused, Err(PeerError::Unknown)));
        assert!(Verifiers::new(&["nowhere".to_owned()]).is_err());
        assert!(Verifiers::new(&vec!["http://a.test".to_owned(); VERIFIERS_MAX + 1]).is_err());
    }
}
