//! One question to one verifier, asked again until it has an answer.
//!
//! Answers are short: a verifier that is still building says so and is asked again. What it says is
//! judged here alone: an observation must be of its key and of the build that was asked for.

use std::time::Duration;

use serde::Deserialize;

use super::{Carrier, Said};
use crate::{
    provenance::{
        EnvelopeError,
        observation::{Observation, claimed_key},
    },
    proxy,
    spec::BuildKey,
};

/// Between two questions to a verifier that is still building. It holds each of them back for a
/// moment by itself.
const AGAIN: Duration = Duration::from_millis(250);
/// Questions in a row without an answer; with the waits between, a restart of 15 s is survived.
pub(super) const FAILURES_MAX: u32 = 5;
/// First wait after a question without an answer, doubled each time.
pub(super) const WAIT_MIN: Duration = Duration::from_secs(1);

/// An observation with its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What it says.
    pub observation: Observation,
    /// Who signed.
    pub key: [u8; 32],
    /// As signed.
    pub envelope: Vec<u8>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It has built.
    Observed(Box<Observed>),
    /// There is no observation; a sentence without a full stop, safe to show.
    Nothing(String),
}

/// What an instance answers to a question for an observation.
#[derive(Deserialize)]
struct Body {
    envelope: String,
}

/// What it answers when it refuses.
#[derive(Deserialize)]
struct Refused {
    code: String,
    detail: String,
}

/// What one answer means.
enum Meaning {
    Done(Answered),
    Building,
    /// Not now.
    Trouble(String),
}

/// Asks until there is an answer. `signer` is the only key that counts; without one, the key that
/// the answer itself names. Takes as long as the verifier is building.
pub async fn ask(
    carrier: &dyn Carrier,
    verifier: usize,
    signer: Option<&[u8; 32]>,
    key: &BuildKey,
) -> Answered {
    let (mut failures, mut wait) = (0, WAIT_MIN);
    loop {
        let meaning = match carrier.ask(verifier, key).await {
            Ok(said) => meaning(&said, signer, key),
            Err(why) => Meaning::Trouble(plain(&why)),
        };
        match meaning {
            Meaning::Done(answered) => return answered,
            Meaning::Building => {
                (failures, wait) = (0, WAIT_MIN);
                tokio::time::sleep(AGAIN).await;
            }
            Meaning::Trouble(why) => {
                failures += 1;
                if failures >= FAILURES_MAX {
                    return Answered::Nothing(why);
                }
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
        }
    }
}

fn meaning(said: &Said, signer: Option<&[u8; 32]>, key: &BuildKey) -> Meaning {
    match said.status {
        200 => Meaning::Done(match observed(&said.body, signer, key) {
            Ok(observed) => Answered::Observed(Box::new(observed)),
            Err(why) => Answered::Nothing(why.to_owned()),
        }),
        202 => Meaning::Building,
        status => {
            let why = match serde_json::from_str::<Refused>(&said.body) {
                Ok(refused) => format!("{}: {}", plain(&refused.code), plain(&refused.detail)),
                Err(_) => plain(&said.body),
            };
            match status {
                429 | 500..=599 => Meaning::Trouble(format!("it answers {status}: {why}")),
                404 | 422 => Meaning::Done(Answered::Nothing(format!("it cannot build: {why}"))),
                _ => {
                    let why =
                        format!("it is no instance that verifies, it answers {status}: {why}");
                    Meaning::Done(Answered::Nothing(why))
                }
            }
        }
    }
}

fn observed(
    body: &str,
    signer: Option<&[u8; 32]>,
    key: &BuildKey,
) -> Result<Observed, &'static str> {
    let garbage = "its answer is no observation";
    let body: Body = serde_json::from_str(body).map_err(|_| garbage)?;
    let envelope = body.envelope.into_bytes();
    let signer = signer.copied().or_else(|| claimed_key(&envelope));
    let signer = signer.ok_or(garbage)?;
    let observation = Observation::open(&envelope, &signer).map_err(|error| match error {
        EnvelopeError::Malformed => garbage,
        EnvelopeError::Signature => "its answer is not signed by its key",
    })?;
    if observation.key != *key {
        return Err("its answer is about another build");
    }
    Ok(Observed {
        observation,
        key: signer,
        envelope,
    })
}

/// The first line of what somebody else wrote, cut and without anything that a terminal obeys.
fn plain(text: &str) -> String {
    proxy::Said::first_line(text.as_bytes()).to_string()
}
