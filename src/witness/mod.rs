//! Witnesses of the log: others who remember its heads, so that this disk is not the only one.
//!
//! [`client`] offers each published head to the witnesses that `serve --witness` names, keeps what
//! they cosign, and fences the log when one of them has seen another log with our signature
//! (C2SP `tlog-witness.md` v1.0.0). Called by the command `serve`; it talks through [`Carrier`],
//! which is the role `fetch`. It must never hold an append back, and never take a witness's word
//! for anything but a reason to stop.

pub mod board;
pub mod client;

#[cfg(test)]
mod client_tests;

use std::{net::IpAddr, sync::Arc};

use crate::{
    build::{BoxFuture, fetching::Fetch},
    fetch::wire::{Answer, Ask, WitnessAsk},
    proxy::Url,
    tlog::WitnessKey,
};

pub use board::Board;
pub use client::Client;

/// Longest address of a witness, in bytes.
const URL_BYTES_MAX: usize = 1_000;

/// A witness, as the operator names it.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Its key.
    pub key: WitnessKey,
    /// Where it answers, without the path of the protocol.
    pub url: Url,
}

/// Not a witness.
#[derive(Debug, thiserror::Error)]
pub enum BadWitness {
    /// Not two words.
    #[error("a witness is named by its key and its address: `NAME+ID+KEY https://…`")]
    Form,
    /// The key.
    #[error("`{text}` is no key of a witness")]
    Key {
        /// What was given.
        text: String,
        /// Why.
        source: crate::tlog::NoteError,
    },
    /// The address.
    #[error("`{0}` is no address of a witness: it must be https, or http on this machine")]
    Url(String),
}

impl Witness {
    /// Parses `NAME+ID+KEY URL`.
    ///
    /// # Errors
    /// See [`BadWitness`].
    pub fn parse(text: &str) -> Result<Self, BadWitness> {
        let (key, url) = text.trim().split_once(' ').ok_or(BadWitness::Form)?;
        let (key_text, url_text) = (key, url.trim());
        let key = WitnessKey::parse(key_text).map_err(|source| BadWitness::Key {
            text: key_text.to_owned(),
            source,
        })?;
        let url = Url::parse(url_text).ok().filter(is_address);
        let url = url.ok_or_else(|| BadWitness::Url(url_text.to_owned()))?;
        Ok(Self { key, url })
    }
}

/// A cosignature needs no encryption, an alarm does: whoever can answer for a witness can fence us.
/// Verifiers are named by the same rule: what they say is signed, what they are asked is not.
pub(crate) fn is_address(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let plain = url.username().is_empty() && url.password().is_none();
    let bare = url.query().is_none() && url.fragment().is_none();
    scheme && plain && bare && url.as_str().len() <= URL_BYTES_MAX
}

/// What a witness answered, with any status. All of it is the witness's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of HTTP.
    pub status: u16,
    /// Media type; empty when it said none.
    pub kind: String,
    /// Bounded by [`crate::tlog::witness::ANSWER_BYTES_MAX`].
    pub body: String,
}

/// Carries questions to witnesses, by their number.
pub trait Carrier: Send + Sync + 'static {
    /// Asks; the error is a sentence for a person. Must end in bounded time.
    fn ask(&self, witness: usize, question: WitnessAsk) -> BoxFuture<'_, Result<Said, String>>;
}

/// The role `fetch`.
impl Carrier for Arc<Fetch> {
    fn ask(&self, witness: usize, question: WitnessAsk) -> BoxFuture<'_, Result<Said, String>> {
        Box::pin(async move {
            let ask = Ask::Witness { witness, question };
            match self.ask_once(ask).await {
                Ok(Answer::Witness { status, kind, body }) => Ok(Said { status, kind, body }),
                Ok(_) => Err("the fetcher gave another answer than was asked for".to_owned()),
                Err(trouble) => Err(trouble.text),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::WitnessSigner;

    #[test]
    fn witnesses_are_named_by_key_and_by_an_address_that_nobody_can_answer_for() {
        let signer = WitnessSigner::from_seed("witness.example/w1", &[9; 32]).unwrap();
        let key = signer.public().to_string();
        for url in [
            "https://witness.example/",
            "https://witness.example/a/b",
            "http://127.0.0.1:7399",
            "http://[::1]:7399/x",
            "http://localhost:1/",
        ] {
            let witness = Witness::parse(&format!("{key} {url}")).unwrap();
            assert_eq!(&witness.key, signer.public());
        }
        for url in [
            "",
            "witness.example",
            "http://witness.example/",
            "http://127.0.0.1.example/",
            "https://user@witness.example/",
            "https://witness.example/?a",
            "https://witness.example/#a",
            "ftp://127.0.0.1/",
            &format!("https://witness.example/{}", "x".repeat(URL_BYTES_MAX)),
        ] {
            let parsed = Witness::parse(&format!("{key} {url}"));
            assert!(parsed.is_err(), "{url}");
        }
        assert!(matches!(Witness::parse(&key), Err(BadWitness::Form)));
        let other = Witness::parse("a+b+c https://witness.example/");
        assert!(matches!(other, Err(BadWitness::Key { .. })));
    }
}
