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
pub mod gobuild;
pub mod quorum;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    build::{BoxFuture, fetching::Fetch},
    fetch::wire::{Answer, Ask},
    provenance::observation::parse_key,
    proxy::Url,
    spec::BuildKey,
    tlog::VerifierKey,
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
/// must not wait for verifiers. Each verifier has its part of them, so that a slow one holds back
/// nobody but itself.
const QUESTIONS_MAX: usize = 32;
const _: () = assert!(VERIFIERS_MAX <= QUESTIONS_MAX);

/// A verifier, as the operator names it.
#[derive(Debug, Clone)]
pub struct Verifier {
    /// For people, metrics and the provenance.
    pub name: String,
    /// How it is believed.
    pub signer: Signer,
    /// Where its pages are; of gobuild, where its log is.
    pub url: Url,
}

/// Whose signature makes a verifier's word count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// An instance, which signs observations with this key.
    Instance([u8; 32]),
    /// gobuild, whose log is signed with this key.
    Gobuild(VerifierKey),
}

/// Not a verifier.
#[derive(Debug, thiserror::Error)]
pub enum BadVerifier {
    /// Not three words.
    #[error(
        "a verifier is named by name, key and address: `NAME ed25519:<64 digits> https://…`, or \
         for gobuild `NAME <verifier key> https://…/tlog`"
    )]
    Form,
    /// The name.
    #[error("`{0}` is no name of a verifier: it has letters, digits and `-._`, at most 100")]
    Name(String),
    /// The key.
    #[error(
        "`{0}` is no key of a verifier: it is `ed25519:` and 64 digits, and stands in leaf 0 of \
         the verifier's log; of gobuild, it is `name+hash+key`"
    )]
    Key(String),
    /// The address.
    #[error(
        "`{0}` is no address of a verifier: it must be https, or http on this machine; of \
             gobuild, it ends in /tlog"
    )]
    Url(String),
}

impl Verifier {
    /// Parses `NAME ed25519:KEY URL`, or `NAME VERIFIERKEY URL` of gobuild.
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
        let instance = parse_key(key).map(Signer::Instance);
        let gobuild = || VerifierKey::parse(key).ok().map(Signer::Gobuild);
        let signer = instance.or_else(gobuild);
        let signer = signer.ok_or_else(|| BadVerifier::Key(key.to_owned()))?;
        let is_log = |url: &Url| url.path().trim_end_matches('/').ends_with("/tlog");
        let fits = |url: &Url| matches!(signer, Signer::Instance(_)) || is_log(url);
        let url = parse_url(url).filter(fits);
        let url = url.ok_or_else(|| BadVerifier::Url(words[2].to_owned()))?;
        let name = name.to_owned();
        Ok(Self { name, signer, url })
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

    /// Reads a lookup or a tile of a verifier's log, by its path below the log's address; gives
    /// status and body. A lookup may take as long as a build.
    fn read<'a>(
        &'a self,
        verifier: usize,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(u16, Vec<u8>), String>> {
        let _asked = (verifier, path);
        Box::pin(async { Err("its log cannot be read from here".to_owned()) })
    }
}

/// The role `fetch`.
pub struct ByFetch {
    fetch: Arc<Fetch>,
    places: Vec<Semaphore>,
}

impl ByFetch {
    /// Over this fetcher, which knows the addresses of so many verifiers.
    #[must_use]
    pub fn new(fetch: Arc<Fetch>, verifiers: usize) -> Self {
        let part = || Semaphore::new((QUESTIONS_MAX / verifiers).max(1));
        let places = (0..verifiers).map(|_| part()).collect();
        Self { fetch, places }
    }

    /// A place for a question to one of them.
    async fn place(&self, verifier: usize) -> Result<SemaphorePermit<'_>, String> {
        let places = self
            .places
            .get(verifier)
            .ok_or("there is no such verifier")?;
        let place = places.acquire().await;
        place.map_err(|_| "the service is stopping".to_owned())
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
            let _place = self.place(verifier).await?;
            match self.fetch.ask_once(Ask::Verifier { verifier, key }).await {
                Ok(Answer::Verifier { status, body }) => Ok(Said { status, body }),
                Ok(_) => Err("the fetcher gave another answer than was asked for".to_owned()),
                Err(trouble) => Err(trouble.text),
            }
        })
    }
    fn read<'a>(
        &'a self,
        verifier: usize,
        path: &'a str,
    ) -> BoxFuture<'a, Result<(u16, Vec<u8>), String>> {
        Box::pin(async move {
            let path = path.to_owned();
            let _place = self.place(verifier).await?;
            let ask = Ask::VerifierLog { verifier, path };
            match self.fetch.ask_once(ask).await {
                Ok(Answer::VerifierLog { status, base64 }) => {
                    let body = STANDARD.decode(base64);
                    Ok((status, body.map_err(|_| "the fetcher garbled an answer")?))
                }
                Ok(_) => Err("the fetcher gave another answer than was asked for".to_owned()),
                Err(trouble) => Err(trouble.text),
            }
        })
    }
}
