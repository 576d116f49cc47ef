//! Observations: what one instance tells another that checks its builds. "I built this key myself,
//! and these are the bits."
//!
//! An in-toto statement in a DSSE envelope, under the key that leaf 0 of the observer's log names.
//! Its predicate type is its own, so that it is never taken for provenance, nor provenance for it.
//! Printed by the service, read by whoever asked; an observation is nobody's record.

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    Builder, Envelope, EnvelopeError, NoDirHash, Run,
    claims::{Digest, Statement, Subject},
    dependencies, open, rfc3339,
};
use crate::{
    build::Built,
    spec::{BuildKey, Sum, hex, unhex},
};

/// What the predicate means.
pub const OBSERVATION_TYPE: &str = "urn:hotcell:observation:1";
/// Longest envelope in bytes: a key, a name and an address of 800 each, in base64, fit twice.
pub const OBSERVATION_BYTES_MAX: usize = 8 * 1024;
/// Media type of an envelope.
pub const ENVELOPE_TYPE: &str = "application/vnd.dsse.envelope.v1+json";

/// What an instance has seen. Texts are the observer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was built.
    pub key: BuildKey,
    /// SHA-256 of the binary.
    pub sha256: [u8; 32],
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of the policy of the observer's cell. Another policy may give the same bits.
    pub policy_sha256: [u8; 32],
    /// SHA-256 of the list of all that the cell was given: where bits differ and this does too, the
    /// inputs are at fault and not the build.
    pub inputs_sha256: [u8; 32],
    /// Address of the observer, as it calls itself.
    pub observer: String,
}

/// The statement of an observation, as bytes to sign.
///
/// # Errors
/// A hash of the build has not the form that it must have.
pub fn observation(key: &BuildKey, built: &Built, run: Run<'_>) -> Result<Vec<u8>, NoDirHash> {
    let inputs = serde_json::Value::from(dependencies(key, built)?).to_string();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": key.download_name(),
            "digest": { "sha256": hex(&built.sha256) },
        }],
        "predicateType": OBSERVATION_TYPE,
        "predicate": {
            "key": key.to_string(),
            "size": built.size,
            "sum": Sum::of(&built.sha256).to_string(),
            "policy": { "sha256": built.cell.policy_sha256 },
            "inputs": { "sha256": hex(&Sha256::digest(inputs)) },
            "observer": { "id": Builder::id(run.builder) },
            "finishedOn": rfc3339(run.finished_ms),
        },
    });
    Ok(statement.to_string().into_bytes())
}

/// The key that an envelope says it is signed with. Nobody vouches for it.
pub fn claimed_key(envelope: &[u8]) -> Option<[u8; 32]> {
    if envelope.len() > OBSERVATION_BYTES_MAX {
        return None;
    }
    let envelope: Envelope = serde_json::from_slice(envelope).ok()?;
    let [signature] = &envelope.signatures[..] else {
        return None;
    };
    parse_key(&signature.keyid)
}

/// Parses `ed25519:` and 64 digits, as leaf 0 has it.
pub fn parse_key(text: &str) -> Option<[u8; 32]> {
    let key = text.strip_prefix("ed25519:").and_then(unhex)?;
    (super::key_id(&key) == text).then_some(key)
}

/// Prints a key as leaf 0 has it.
pub fn key_text(key: &[u8; 32]) -> String {
    super::key_id(key)
}

impl Observation {
    /// Reads an envelope that `key` must have signed.
    ///
    /// # Errors
    /// It is no observation, or another key's.
    pub fn open(envelope: &[u8], key: &[u8; 32]) -> Result<Self, EnvelopeError> {
        if envelope.len() > OBSERVATION_BYTES_MAX {
            return Err(EnvelopeError::Malformed);
        }
        Self::parse(&open(envelope, key)?).ok_or(EnvelopeError::Malformed)
    }

    fn parse(statement: &[u8]) -> Option<Self> {
        let all: Statement<Predicate> = serde_json::from_slice(statement).ok()?;
        let [subject] = <[Subject; 1]>::try_from(all.subject).ok()?;
        let said = all.predicate;
        let key = BuildKey::parse(&said.key).ok()?;
        let sha256 = unhex(&subject.digest.sha256)?;
        // Everything that is said twice must be said once.
        let fits = all.kind == "https://in-toto.io/Statement/v1"
            && all.predicate_type == OBSERVATION_TYPE
            && subject.name == key.download_name()
            && said.sum == Sum::of(&sha256).to_string()
            && said.size > 0;
        fits.then_some(Self {
            key,
            sha256,
            size: said.size,
            policy_sha256: unhex(&said.policy.sha256)?,
            inputs_sha256: unhex(&said.inputs.sha256)?,
            observer: said.observer.id,
        })
    }
}

#[derive(Deserialize)]
struct Predicate {
    key: String,
    size: u64,
    sum: String,
    policy: Digest,
    inputs: Digest,
    observer: Observer,
}

#[derive(Deserialize)]
struct Observer {
    id: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::provenance::{
        envelope, pre_authentication, statement,
        tests::{built, key},
    };
    use ed25519_dalek::{Signer as _, SigningKey};

    /// An envelope of the key that follows from `seed`.
    pub(crate) fn signed(seed: u8, statement: &[u8]) -> Vec<u8> {
        let signing = SigningKey::from_bytes(&[seed; 32]);
        let signature = signing.sign(&pre_authentication(statement)).to_bytes();
        envelope(statement, &public(seed), &signature)
    }

    pub(crate) fn public(seed: u8) -> [u8; 32] {
        SigningKey::from_bytes(&[seed; 32])
            .verifying_key()
            .to_bytes()
    }

    const RUN: Run<'static> = Run {
        builder: Builder::Instance("peer.example"),
        finished_ms: 1_795_253_099_000,
    };

    fn text() -> Vec<u8> {
        let mut built = built();
        built.cell.policy_sha256 = "ab".repeat(32);
        observation(&key(), &built, RUN).unwrap()
    }

    #[test]
    fn an_observation_reads_back_with_its_key_only() {
        let envelope = signed(3, &text());
        let seen = Observation::open(&envelope, &public(3)).unwrap();
        assert_eq!((&seen.key, seen.size), (&key(), 5));
        assert_eq!((seen.sha256, seen.policy_sha256), ([7; 32], [0xab; 32]));
        assert_eq!(seen.observer, "https://peer.example/");
        let other = Observation::open(&envelope, &public(4));
        assert_eq!(other, Err(EnvelopeError::Signature));
        assert_eq!(claimed_key(&envelope), Some(public(3)));
        assert!(envelope.len() < OBSERVATION_BYTES_MAX / 2);
    }

    #[test]
    fn the_longest_key_fits() {
        let dir = "d".repeat(200);
        let long = format!(
            "example.org/{}@v1.0.0/{dir}/linux-amd64-go1.26.8/",
            "m".repeat(240)
        );
        let long = BuildKey::parse(&long).unwrap();
        let run = Run {
            builder: Builder::Instance(&"n".repeat(253)),
            ..RUN
        };
        let mut built = built();
        built.cell.policy_sha256 = "ab".repeat(32);
        let envelope = signed(3, &observation(&long, &built, run).unwrap());
        assert!(Observation::open(&envelope, &public(3)).is_ok());
    }

    #[test]
    fn what_contradicts_itself_is_no_observation() {
        let text = String::from_utf8(text()).unwrap();
        for (from, to) in [
            (
                "urn:hotcell:observation:1",
                "https://slsa.dev/provenance/v1",
            ),
            ("in-toto.io/Statement/v1", "in-toto.io/Statement/v2"),
            ("age-v1.2.1-go1.26.8", "age-v1.2.2-go1.26.8"),
            ("\"size\":5", "\"size\":0"),
            ("\"size\":5", "\"size\":-5"),
            ("\"sha256\":\"07", "\"sha256\":\"08"),
            ("filippo.io/age@v1.2.1/", "filippo.io/age@v1.2/"),
            ("go1.26.8/\"", "go1.26.8\""),
            ("\"subject\":[", "\"subject\":[{},"),
        ] {
            assert!(text.contains(from), "{from}");
            let changed = signed(3, text.replace(from, to).as_bytes());
            let opened = Observation::open(&changed, &public(3));
            assert_eq!(opened, Err(EnvelopeError::Malformed), "{to}");
        }
    }

    #[test]
    fn provenance_is_no_observation_and_the_other_way_round() {
        let provenance = statement(&key(), &built(), RUN, &[]).unwrap();
        let opened = Observation::open(&signed(3, &provenance), &public(3));
        assert_eq!(opened, Err(EnvelopeError::Malformed));
        let claims = crate::provenance::Claims::parse(&text());
        assert_eq!(claims, Err(EnvelopeError::Malformed));
    }

    #[test]
    fn garbage_is_refused() {
        let long = [
            &signed(3, &text())[..],
            &vec![b' '; OBSERVATION_BYTES_MAX][..],
        ]
        .concat();
        for bad in [&b""[..], b"{}", b"[]", b"null", &long, &signed(3, b"{}")] {
            assert!(Observation::open(bad, &public(3)).is_err());
        }
        assert_eq!(claimed_key(&long), None);
        assert_eq!(claimed_key(b"{}"), None);
        for bad in ["", "ed25519:", "ed25519:00", &"0".repeat(64)] {
            assert_eq!(parse_key(bad), None, "{bad}");
        }
        let upper = format!("ed25519:{}", "AB".repeat(32));
        assert_eq!(parse_key(&upper), None);
        assert_eq!(parse_key(&key_text(&[9; 32])), Some([9; 32]));
    }

    #[test]
    fn the_same_build_is_observed_in_the_same_words() {
        let mut reordered = built();
        reordered.modules.reverse();
        reordered.cell.cpu_ms = 9;
        let one = observation(&key(), &built(), RUN).unwrap();
        assert_eq!(one, observation(&key(), &reordered, RUN).unwrap());
    }
}
