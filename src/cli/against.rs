//! `hotcell verify --against`: what other instances get when they build the same.
//!
//! Each of them builds by itself, if it has not yet, and signs what it got. Without a key from the
//! person, whoever answers at an address speaks for it: that is said, never passed over.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Stop, say};
use crate::{
    build::BoxFuture,
    fetch::verifier::Verifiers,
    provenance::{
        Claims, ENVELOPE_BYTES_MAX,
        observation::{key_text, parse_key},
    },
    proxy::Url,
    spec::{BuildKey, hex},
    store::durable,
    verifiers::{
        Answered, Carrier, Said, VERIFIERS_MAX,
        ask::{Observed, ask},
        parse_url,
    },
};

/// How long a person waits for instances that build, queues before them included.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// An instance to ask, and its key if the person has given it.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    url: Url,
    key: Option<[u8; 32]>,
}

impl Instance {
    /// Parses `URL` or `ed25519:KEY@URL`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (key, url) = match text
            .split_once('@')
            .filter(|_| text.starts_with("ed25519:"))
        {
            Some((key, url)) => {
                let key = parse_key(key).ok_or_else(|| format!("`{key}` is no key"))?;
                (Some(key), url)
            }
            None => (None, text),
        };
        let url = parse_url(url).ok_or_else(|| {
            format!(
                "`{url}` is no address of an instance: it must be https, or http on this machine"
            )
        })?;
        Ok(Self { url, key })
    }
}

/// What is asked about.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub(super) key: BuildKey,
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
}

/// Where the unsigned statement on a file lies.
pub(super) fn provenance_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".provenance.json");
    name.into()
}

/// What the unsigned statement beside a file says it was built from; nothing when there is none.
/// It proves nothing, it only says what to ask for.
pub(super) fn unsigned(file: &Path, sha256: &[u8; 32]) -> Result<Option<BuildKey>, Stop> {
    let path = provenance_of(file);
    let read = durable::read_bounded(&path, ENVELOPE_BYTES_MAX);
    let failed = |error| {
        Stop::new(
            Stop::FAILED,
            format!("cannot read `{}`: {error}", path.display()),
        )
    };
    let Some(statement) = read.map_err(failed)? else {
        return Ok(None);
    };
    let wrong = |text: &str| Stop::new(Stop::WRONG, format!("`{}` {text}", path.display()));
    let claims = Claims::parse(&statement).map_err(|_| wrong("is no statement on a build"))?;
    if claims.sha256 != *sha256 {
        return Err(wrong("is about another binary"));
    }
    let key = BuildKey::parse(&claims.key).map_err(|_| wrong("names no build"))?;
    Ok(Some(key))
}

/// What all of them said.
#[derive(Debug)]
pub(super) struct Words {
    subject: Subject,
    all: Vec<(Instance, Answered)>,
}

/// Asks all of them at once.
pub(super) fn ask_all(subject: Subject, instances: &[Instance]) -> Result<Words, Stop> {
    if instances.len() > VERIFIERS_MAX {
        let text = format!("--against takes {VERIFIERS_MAX} instances at most");
        return Err(Stop::new(Stop::USAGE, text));
    }
    let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
    let urls: Vec<String> = instances.iter().map(|one| one.url.to_string()).collect();
    let direct = Direct(Verifiers::new(&urls).map_err(|error| failed(&error))?);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
    let direct = std::sync::Arc::new(direct);
    let answers = runtime.block_on(async {
        let mut asked = tokio::task::JoinSet::new();
        for (at, instance) in instances.iter().enumerate() {
            say(format_args!(
                "asking {}, which may have to build",
                instance.url
            ));
            let (direct, key, signer) = (direct.clone(), subject.key.clone(), instance.key);
            asked.spawn(async move {
                let answer = timeout(PATIENCE, ask(&*direct, at, signer.as_ref(), &key)).await;
                let late = |_| Answered::Nothing("it is still building".to_owned());
                (at, answer.unwrap_or_else(late))
            });
        }
        asked.join_all().await
    });
    let mut answers = answers;
    answers.sort_by_key(|(at, _)| *at);
    let answers = answers.into_iter().map(|(_, answer)| answer);
    let all = instances.iter().cloned().zip(answers).collect();
    Ok(Words { subject, all })
}

/// The way out of a person's own program.
struct Direct(Verifiers);

impl Carrier for Direct {
    fn ask<'a>(
        &'a self,
        verifier: usize,
        key: &'a BuildKey,
    ) -> BoxFuture<'a, Result<Said, String>> {
        Box::pin(async move {
            let answer = self.0.ask(verifier, &key.to_string()).await;
            let (status, body) = answer.map_err(|error| error.to_string())?;
            Ok(Said { status, body })
        })
    }
}

impl Words {
    fn agrees(&self, observed: &Observed) -> bool {
        let said = &observed.observation;
        said.sha256 == self.subject.sha256 && said.size == self.subject.size
    }

    /// A line or two for each instance.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (Instance { url, key }, answered) in &self.all {
            match answered {
                Answered::Nothing(why) => {
                    writeln!(text, "against   {url} gave no answer: {why}")
                }
                Answered::Observed(observed) => {
                    let word = match self.agrees(observed) {
                        true => "got the same bits".to_owned(),
                        false => format!("GOT OTHER BITS: {}", hex(&observed.observation.sha256)),
                    };
                    let known = match key {
                        Some(_) => "the key that you gave",
                        None => "a key not known before: anybody who answers there could have it",
                    };
                    let signer = key_text(&observed.key);
                    writeln!(text, "against   {url} {word}\nsigned    {signer}, {known}")
                }
            }
            .expect("a string takes all text");
        }
        text
    }

    /// For the document of `--json`.
    pub(super) fn json(&self) -> Value {
        let one = |(instance, answered): &(Instance, Answered)| {
            let url = instance.url.to_string();
            match answered {
                Answered::Nothing(why) => json!({ "url": url, "answer": "none", "why": why }),
                Answered::Observed(observed) => json!({
                    "url": url,
                    "answer": if self.agrees(observed) { "same" } else { "other" },
                    "sha256": hex(&observed.observation.sha256),
                    "size": observed.observation.size,
                    "key": key_text(&observed.key),
                    "key_was_given": instance.key.is_some(),
                    "policy_sha256": hex(&observed.observation.policy_sha256),
                    "inputs_sha256": hex(&observed.observation.inputs_sha256),
                }),
            }
        };
        self.all.iter().map(one).collect()
    }

    /// Whether all of them agree.
    pub(super) fn check(&self) -> Result<(), Stop> {
        let count = self.all.len();
        let observed = self.all.iter().filter_map(|(_, answered)| match answered {
            Answered::Observed(observed) => Some(observed),
            Answered::Nothing(_) => None,
        });
        let (same, other): (Vec<_>, Vec<_>) = observed.partition(|observed| self.agrees(observed));
        if !other.is_empty() {
            let text = format!("{} of {count} instances got other bits", other.len());
            let hint = "somebody is wrong or lies: do not run it before you know who; the lines \
                        above say who signed what";
            return Err(Stop::new(Stop::WRONG, text).hint(hint));
        }
        if same.len() < count {
            let text = format!("{} of {count} instances gave no answer", count - same.len());
            return Err(Stop::new(Stop::LATER, text).hint("nobody got other bits; try again later"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "against_tests.rs"]
mod tests;
