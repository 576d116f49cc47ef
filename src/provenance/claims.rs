//! What a statement of ours says, read back.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{
    BUILD_TYPE, ENVELOPE_BYTES_MAX, EnvelopeError,
    observation::{ENVELOPE_TYPE, Observation, claimed_key},
};
use crate::spec::unhex;

/// Most observations of a statement that are read; an instance has fewer verifiers.
const OBSERVED_MAX: usize = 64;

/// The parts of a statement that `verify` compares and shows. Texts are as signed: escape them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// File name of the binary.
    pub name: String,
    /// SHA-256 of the binary.
    pub sha256: [u8; 32],
    /// The build key.
    pub key: String,
    /// Name of the cell's policy.
    pub policy: String,
    /// SHA-256 of the cell's policy, in hex.
    pub policy_sha256: String,
    /// The SDK first, then module zips and go.mod files.
    pub dependencies: Vec<Dependency>,
    /// Address of the builder.
    pub builder: String,
    /// When the build ended, in UTC, by the builder's clock.
    pub finished: String,
    /// What others signed about the same build. One that does not hold is left out.
    pub observed: Vec<Observed>,
}

/// Somebody else's signed word in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What the statement calls them.
    pub verifier: String,
    /// Who signed. Whether that is the one who is named is not proven.
    pub key: [u8; 32],
    /// Whether they have the same bits.
    pub same: bool,
}

/// Something that the cell was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Package URL.
    pub uri: String,
    /// Go's directory hash.
    pub h1: String,
}

impl Claims {
    /// Reads a statement whose signature was verified.
    ///
    /// # Errors
    /// It is no statement on a build of ours.
    pub fn parse(statement: &[u8]) -> Result<Self, EnvelopeError> {
        let parse = || {
            let all: Statement<Predicate> = (statement.len() <= ENVELOPE_BYTES_MAX)
                .then(|| serde_json::from_slice(statement).ok())
                .flatten()?;
            let [subject] = <[Subject; 1]>::try_from(all.subject).ok()?;
            let Predicate {
                build_definition: definition,
                run_details: run,
            } = all.predicate;
            let policy = definition.internal_parameters.policy;
            let known = all.kind == "https://in-toto.io/Statement/v1"
                && all.predicate_type == "https://slsa.dev/provenance/v1"
                && definition.build_type == BUILD_TYPE;
            let sha256 = unhex(&subject.digest.sha256)?;
            let key = definition.external_parameters.key;
            let others = run.byproducts.into_iter();
            let observed = others.filter_map(|one| one.observed(&key, &sha256));
            known.then_some(Self {
                name: subject.name,
                sha256,
                observed: observed.take(OBSERVED_MAX).collect(),
                key,
                policy: policy.name,
                policy_sha256: policy.sha256,
                dependencies: definition
                    .resolved_dependencies
                    .into_iter()
                    .map(|dependency| Dependency {
                        uri: dependency.uri,
                        h1: dependency.annotations.h1,
                    })
                    .collect(),
                builder: run.builder.id,
                finished: run.metadata.finished_on,
            })
        };
        parse().ok_or(EnvelopeError::Malformed)
    }

    /// How many modules were compiled or looked at: each counts once, with zip or go.mod alone.
    pub fn modules(&self) -> usize {
        let modules = self.dependencies.iter().skip(1);
        let mut names: Vec<&str> = modules
            .map(|it| it.uri.strip_suffix("#go.mod").unwrap_or(&it.uri))
            .collect();
        names.sort_unstable();
        names.dedup();
        names.len()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statement<Predicate> {
    #[serde(rename = "_type")]
    pub(super) kind: String,
    pub(super) subject: Vec<Subject>,
    pub(super) predicate_type: String,
    pub(super) predicate: Predicate,
}

#[derive(Deserialize)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) digest: Digest,
}

#[derive(Deserialize)]
pub(super) struct Digest {
    pub(super) sha256: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    build_definition: Definition,
    run_details: RunDetails,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    build_type: String,
    external_parameters: External,
    internal_parameters: Internal,
    resolved_dependencies: Vec<Resolved>,
}

#[derive(Deserialize)]
struct External {
    key: String,
}

#[derive(Deserialize)]
struct Internal {
    policy: PolicyName,
}

#[derive(Deserialize)]
struct PolicyName {
    name: String,
    sha256: String,
}

#[derive(Deserialize)]
struct Resolved {
    uri: String,
    annotations: Annotations,
}

#[derive(Deserialize)]
struct Annotations {
    h1: String,
}

#[derive(Deserialize)]
struct RunDetails {
    builder: BuilderId,
    metadata: Metadata,
    #[serde(default)]
    byproducts: Vec<Byproduct>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Byproduct {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    content: String,
    #[serde(default)]
    annotations: serde_json::Value,
}

impl Byproduct {
    /// The observation that it is, if it holds and is about this build.
    fn observed(self, key: &str, sha256: &[u8; 32]) -> Option<Observed> {
        if self.media_type != ENVELOPE_TYPE {
            return None;
        }
        let envelope = STANDARD.decode(&self.content).ok()?;
        let signer = claimed_key(&envelope)?;
        let observation = Observation::open(&envelope, &signer).ok()?;
        let verifier = self.annotations.get("verifier")?.as_str()?.to_owned();
        (observation.key.to_string() == key).then(|| Observed {
            verifier,
            key: signer,
            same: observation.sha256 == *sha256,
        })
    }
}

#[derive(Deserialize)]
struct BuilderId {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    finished_on: String,
}
