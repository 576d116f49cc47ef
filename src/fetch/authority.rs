//! The way out to the authority that gives the service its certificate (ACME, RFC 8555). Where its
//! directory is was said at the start; every question stays at that origin, so that an asker under
//! an attacker's control reaches nobody else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::wire::MESSAGE_BYTES_MAX;
use reqwest::{
    Response, Url,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};

use super::{
    peers::{PeerError, Peers, bytes, send},
    probe::seconds as seconds_of,
    wire::{Answer, AuthorityAsk},
};
use crate::proxy::Said;

/// Longest time of a whole request. Where an authority has more to do, it says so and is asked
/// again.
const TOTAL: Duration = Duration::from_secs(30);
/// Longest address in bytes; real ones have some hundred.
pub(crate) const URL_BYTES_MAX: usize = 2 * 1024;
/// Longest request in bytes: one with a request for a certificate has some 1,500.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Longest answer in bytes: a chain of ten certificates has some 20,000.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024;
/// Longest field of an answer's head that is passed on, in bytes: one may be an address.
const FIELD_BYTES_MAX: usize = URL_BYTES_MAX;
// With two fields, at worst with each byte escaped to two.
const _: () = assert!(ANSWER_BYTES_MAX / 3 * 4 + 4 * FIELD_BYTES_MAX + 1024 < MESSAGE_BYTES_MAX);
/// Longest wait that is passed on, in seconds: a week, the longest limit that authorities have.
pub(crate) const WAIT_S_MAX: u64 = 7 * 24 * 3_600;
/// What the authority wants in the next request (RFC 8555, 6.5.1).
const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// The authority, if the start named one.
#[derive(Debug, Default)]
pub(crate) struct Authority {
    directory: Option<Url>,
    peers: Peers,
}

impl Authority {
    /// Takes the address of its directory.
    pub(super) fn new(directory: Option<&str>) -> Result<Self, PeerError> {
        let Some(text) = directory else {
            return Ok(Self::default());
        };
        let url = Url::parse(text).map_err(|_| PeerError::Address)?;
        if url.scheme() != "https" {
            return Err(PeerError::Address);
        }
        Ok(Self {
            directory: Some(url),
            peers: Peers::new(&[text.to_owned()], 1, TOTAL)?,
        })
    }

    /// Asks it.
    pub(super) async fn ask(&self, question: AuthorityAsk) -> Result<Answer, PeerError> {
        let (_, client) = self.peers.get(0)?;
        let request = match question {
            AuthorityAsk::Get { url } => client.get(self.check(&url)?),
            AuthorityAsk::Head { url } => client.head(self.check(&url)?),
            AuthorityAsk::Post { url, body } if body.len() <= REQUEST_BYTES_MAX => client
                .post(self.check(&url)?)
                .header(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/jose+json"),
                )
                .body(body),
            AuthorityAsk::Post { .. } => return Err(PeerError::Unknown),
        };
        answer(send(request, TOTAL).await?).await
    }

    /// An address that is the authority's own: TLS, and the host and port of the directory.
    fn check(&self, text: &str) -> Result<Url, PeerError> {
        let directory = self.directory.as_ref().ok_or(PeerError::Unknown)?;
        let url = Some(text).filter(|text| text.len() <= URL_BYTES_MAX);
        let url = url.and_then(|text| Url::parse(text).ok());
        let url = url.ok_or(PeerError::Unknown)?;
        let is_bare = url.username().is_empty() && url.password().is_none();
        if is_bare && url.scheme() == "https" && url.origin() == directory.origin() {
            return Ok(url);
        }
        let shown = |url: &Url| {
            let origin = url.origin().ascii_serialization();
            Said::first_line(origin.as_bytes()).to_string()
        };
        Err(PeerError::Elsewhere {
            authority: shown(directory),
            elsewhere: shown(&url),
        })
    }
}

async fn answer(mut response: Response) -> Result<Answer, PeerError> {
    let retry_after = field(&response, &RETRY_AFTER);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(Answer::Authority {
        status: response.status().as_u16(),
        nonce: field(&response, &REPLAY_NONCE),
        location: field(&response, &LOCATION),
        retry_after_s: retry_after.and_then(|text| wait(&text, now.unwrap_or_default().as_secs())),
        base64: STANDARD.encode(bytes(&mut response, ANSWER_BYTES_MAX, TOTAL).await?),
    })
}

/// A field of the head; nothing when it is no text, or longer than any that means something.
fn field(response: &Response, name: &HeaderName) -> Option<String> {
    let text = response.headers().get(name)?.to_str().ok()?;
    (text.len() <= FIELD_BYTES_MAX).then(|| text.to_owned())
}

/// Seconds from now, which is in seconds since 1970, to what `Retry-After` names: a number of
/// seconds, or a date (RFC 9110, 10.2.3).
fn wait(text: &str, now_s: u64) -> Option<u64> {
    let text = text.trim();
    let seconds = text.parse().ok();
    let seconds = seconds.or_else(|| Some(seconds_of(text)?.saturating_sub(now_s)));
    seconds.map(|seconds| seconds.min(WAIT_S_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: &str = "https://ca.test:14000/dir";

    fn get(url: &str) -> AuthorityAsk {
        AuthorityAsk::Get {
            url: url.to_owned(),
        }
    }

    #[test]
    fn nobody_is_asked_but_the_authority_of_the_start_and_only_with_tls() {
        let authority = Authority::new(Some(DIRECTORY)).unwrap();
        for url in [
            DIRECTORY,
            "https://ca.test:14000/order/1?x=y",
            "HTTPS://CA.test:14000",
        ] {
            authority.check(url).unwrap();
        }
        for url in [
            "http://ca.test:14000/dir",
            "https://ca.test/dir",
            "https://ca.test:14001/dir",
            "https://other.test:14000/dir",
            "https://ca.test.other.test:14000/dir",
            "https://sub.ca.test:14000/dir",
            "https://ca.test:14000@other.test/dir",
            "https://user@ca.test:14000/dir",
            "https://user:password@ca.test:14000/dir",
            "https://127.0.0.1:14000/",
            "ftp://ca.test:14000/dir",
            "file:///etc/passwd",
            "data:,x",
        ] {
            let refused = authority.check(url).unwrap_err();
            assert!(matches!(refused, PeerError::Elsewhere { .. }), "{url}");
            let said = refused.to_string();
            assert!(
                said.contains("at https://ca.test:14000 sends to "),
                "{said}"
            );
            assert!(!said.contains("password"), "{said}");
        }
        let long = format!("{DIRECTORY}/{}", "x".repeat(URL_BYTES_MAX));
        for url in ["", "/dir", "ca.test", "https://", &long] {
            let refused = authority.check(url);
            assert!(matches!(refused, Err(PeerError::Unknown)), "{url}");
        }
    }

    #[tokio::test]
    async fn without_an_authority_nobody_is_asked_and_a_long_request_is_refused() {
        let none = Authority::new(None).unwrap();
        let refused = none.ask(get(DIRECTORY)).await;
        assert!(matches!(refused, Err(PeerError::Unknown)));
        for bad in ["", "ca.test", "http://ca.test/dir", "http://127.0.0.1/dir"] {
            assert!(Authority::new(Some(bad)).is_err(), "{bad}");
        }
        let authority = Authority::new(Some(DIRECTORY)).unwrap();
        let refused = authority.ask(get("https://127.0.0.1:1/")).await;
        assert!(matches!(refused, Err(PeerError::Elsewhere { .. })));
        let long = AuthorityAsk::Post {
            url: DIRECTORY.to_owned(),
            body: "x".repeat(REQUEST_BYTES_MAX + 1),
        };
        let refused = authority.ask(long).await;
        assert!(matches!(refused, Err(PeerError::Unknown)));
    }

    #[tokio::test]
    async fn answers_are_bounded_and_three_fields_of_the_head_are_passed_on() {
        let answered = |fields: &[(&str, &str)], body_bytes: usize| {
            let mut response = axum::http::Response::builder().status(301);
            for (name, value) in fields {
                response = response.header(*name, *value);
            }
            let response = response.body(vec![b'x'; body_bytes]).unwrap();
            answer(response.into())
        };
        let fields = [
            ("replay-nonce", "n"),
            ("location", "https://elsewhere.test/"),
            ("retry-after", "5"),
            ("set-cookie", "x"),
        ];
        // A redirect is an answer like any other: nobody follows it.
        match answered(&fields, ANSWER_BYTES_MAX).await.unwrap() {
            Answer::Authority {
                status,
                nonce,
                location,
                retry_after_s,
                base64,
            } => {
                assert_eq!((status, nonce.as_deref()), (301, Some("n")));
                assert_eq!(location.as_deref(), Some("https://elsewhere.test/"));
                assert_eq!(retry_after_s, Some(5));
                assert_eq!(STANDARD.decode(base64).unwrap().len(), ANSWER_BYTES_MAX);
            }
            other => panic!("{other:?}"),
        }
        let long = answered(&[], ANSWER_BYTES_MAX + 1).await;
        assert!(matches!(long, Err(PeerError::Garbage { .. })), "{long:?}");
        let nonce = "n".repeat(FIELD_BYTES_MAX + 1);
        match answered(&[("replay-nonce", &nonce)], 0).await.unwrap() {
            Answer::Authority { nonce, .. } => assert_eq!(nonce, None),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wait_is_a_number_or_a_date_and_bounded() {
        let now_s = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        for (text, wanted) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("18446744073709551615", Some(WAIT_S_MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(WAIT_S_MAX)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now_s), wanted, "{text}");
        }
    }
}
