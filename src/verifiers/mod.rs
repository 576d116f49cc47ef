//! Verification by others: a build is published only when enough of them got the same bits.
//!
//! [`Quorum`] asks every verifier that `serve --verifier` names for an *observation* of a build:
//! it builds by itself, asking nobody, and answers with a signed statement
//! ([`crate::provenance::observation`]). As nobody who is asked asks others, instances that verify
//! each other never wait for each other. Called by the queue's run of a job, at the same time as
//! its own build; `hotcell verify --against` asks with the same code for a person. It talks through
//! [`Carrier`]; it must never take a verifier's word without its signature, and never let one hold
//! a build back for longer than [`quorum::PATIENCE`].

pub mod ask;
pub mod board;
pub mod quorum;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    build::{BoxFuture, fetching::Fetch},
    fetch::wire::{Answer, Ask},
    provenance::observation::{key_text, parse_key},
    proxy::Url,
    spec::BuildKey,
    witness::is_address,
};

pub use ask::Answered;
pub use board::Board;
pub use quorum::Quorum;

/// Most verifiers of an instance. Each build asks all of them.
pub const VERIFIERS_MAX: usize = 16;
/// Longest name of a verifier, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// Questions on their way at the same time, far below those that `fetch` works on at once: builds
/// must not wait for verifiers.
const QUESTIONS_MAX: usize = 16;

/// A verifier, as the operator names it.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// For people, metrics and the provenance.
    pub name: String,
    /// Signs its statements.
    pub key: [u8; 32],
    /// Where its pages are.
    pub url: Url,
}

/// Not a verifier.
#[derive(Debug, thiserror::Error)]
pub enum BadVerifier {
    /// Not three words.
    #[error("a verifier is named by name, key and address: `NAME ed25519:<64 digits> https://…`")]
    Form,
    /// The name.
    #[error("`{0}` is no name of a verifier: it has letters, digits and `-._`, at most 100")]
    Name(String),
    /// The key.
    #[error(
        "`{0}` is no key of a verifier: it is `ed25519:` and 64 digits, and stands in leaf 0 of \
         the verifier's log"
    )]
    Key(String),
    /// The address.
    #[error("`{0}` is no address of a verifier: it must be https, or http on this machine")]
    Url(String),
}

impl Verifier {
    /// Parses `NAME ed25519:KEY URL`.
    ///
    /// # Errors
    /// See [`BadVerifier`].
    pub fn parse(text: &str) -> Result<Self, BadVerifier> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [name, key, url] = words[..] else {
            return Err(BadVerifier::Form);
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        if name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
            return Err(BadVerifier::Name(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            key: parse_key(key).ok_or_else(|| BadVerifier::Key(key.to_owned()))?,
            url: parse_url(url).ok_or_else(|| BadVerifier::Url(url.to_owned()))?,
        })
    }

    /// Its key as texts have it.
    #[must_use]
    pub fn key_text(&self) -> String {
        key_text(&self.key)
    }
}

/// An address that nobody can answer for but its owner.
pub fn parse_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(is_address)
}

/// What a verifier answered, with any status. All of it is its claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Of HTTP.
    pub status: u16,
    /// Bounded by [`crate::fetch::verifier::ANSWER_BYTES_MAX`].
    pub body: String,
}

/// Carries questions to verifiers, by their number.
pub trait Carrier: Send + Sync + 'static {
    /// Asks for an observation; the error is a sentence for a person. Must end in bounded time.
    fn ask<'a>(&'a self, verifier: usize, key: &'a BuildKey)
    -> BoxFuture<'a, Result<Said, String>>;
}

/// The role `fetch`.
pub struct ByFetch {
    fetch: Arc<Fetch>,
    places: Semaphore,
}

impl ByFetch {
    /// Over this fetcher, which knows the addresses.
    #[must_use]
    pub fn new(fetch: Arc<Fetch>) -> Self {
        let places = Semaphore::new(QUESTIONS_MAX);
        Self { fetch, places }
    }
}

impl Carrier for ByFetch {
    fn ask<'a>(
        &'a self,
        verifier: usize,
        key: &'a BuildKey,
    ) -> BoxFuture<'a, Result<Said, String>> {
        Box::pin(async move {
            let key = key.to_string();
            let place = self.places.acquire().await;
            let _place = place.map_err(|_| "the service is stopping".to_owned())?;
            match self.fetch.ask_once(Ask::Verifier { verifier, key }).await {
                Ok(Answer::Verifier { status, body }) => Ok(Said { status, body }),
                Ok(_) => Err("the fetcher gave another answer than was asked for".to_owned()),
                Err(trouble) => Err(trouble.text),
            }
        })
    }
}
