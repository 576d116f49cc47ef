//! What was built from what, by whom, under which policy: an in-toto statement with SLSA build
//! provenance, in a signed DSSE envelope.
//!
//! Called by the service before an entry is appended; the companion record carries the SHA-256 of
//! the envelope as stored. Formats: in-toto Statement v1, SLSA provenance v1, DSSE v1. Everything
//! that must be equal on every instance stands in `subject` and `buildDefinition`; times, the
//! builder and the cell's report stand in `runDetails`. The form is final: envelopes of old records
//! can never be written again.

mod claims;
pub mod observation;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    build::{Built, CellSummary},
    fetch::wire::ModuleHash,
    spec::{BuildKey, Target, Variant, hex},
};

pub use claims::{Claims, Dependency, Observed};

/// Media type of the payload, which the signature covers.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What the parameters mean.
pub const BUILD_TYPE: &str = "urn:hotcell:build:go-install:1";
/// Largest envelope, in bytes: 20,000 modules of a closure with two hashes each, in base64.
pub const ENVELOPE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why an envelope is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope with a statement.
    #[error("malformed provenance envelope")]
    Malformed,
    /// Not signed by the key that the log names.
    #[error("provenance envelope is not signed by the key in leaf 0 of the log")]
    Signature,
}

/// A hash of a finished build is not in the form `h1:` and base64: nothing may be logged about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no directory hash")]
pub struct NoDirHash(String);

/// Who built, and when.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Who.
    pub builder: Builder<'a>,
    /// Milliseconds since 1970 of the end; the beginning follows from the build's own times.
    pub finished_ms: u64,
}

/// Who ran the cell.
#[derive(Debug, Clone, Copy)]
pub enum Builder<'a> {
    /// An instance, by the name of its key; a host name for public instances.
    Instance(&'a str),
    /// `hotcell build`, for whoever typed it: nobody else vouches for it.
    Local,
}

impl Builder<'_> {
    /// Its name in statements: an address, or a URN that is nobody's.
    fn id(self) -> String {
        match self {
            Self::Instance(name) if name.contains('.') => format!("https://{name}/"),
            Self::Instance(name) => format!("http://{name}/"),
            Self::Local => "urn:hotcell:builder:local".to_owned(),
        }
    }
}

/// What somebody else said about the same build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who, by the name that the operator gave.
    pub verifier: String,
    /// Whether it has the same bits.
    pub agrees: bool,
    /// Media type of `content`.
    pub media_type: &'static str,
    /// The words, as signed: [`observation::OBSERVATION_BYTES_MAX`] bytes at most.
    pub content: Vec<u8>,
}

/// The statement on a finished build, with what others said about it, as bytes to sign and store.
///
/// # Errors
/// A hash of the build has not the form that it must have.
pub fn statement(
    key: &BuildKey,
    built: &Built,
    run: Run<'_>,
    seen: &[Seen],
) -> Result<Vec<u8>, NoDirHash> {
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": key.download_name(),
            "digest": { "sha256": hex(&built.sha256) },
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": definition(key, built)?,
            "runDetails": details(built, run, seen),
        },
    });
    Ok(statement.to_string().into_bytes())
}

/// What the bits follow from; equal on every instance that uses the same policy.
fn definition(key: &BuildKey, built: &Built) -> Result<Value, NoDirHash> {
    let stripped = key.variant == Variant::Stripped;
    let ldflags = if stripped {
        "-buildid= -s"
    } else {
        "-buildid="
    };
    let mut asked = json!({ "key": key.to_string() });
    key.tell(&mut asked);
    Ok(json!({
        "buildType": BUILD_TYPE,
        "externalParameters": asked,
        "internalParameters": {
            "flags": ["-trimpath", format!("-ldflags={ldflags}")],
            "cgo": false,
            "policy": { "name": built.cell.policy, "sha256": built.cell.policy_sha256 },
        },
        "resolvedDependencies": dependencies(key, built)?,
    }))
}

/// The SDK, then every module zip and go.mod that the cell was served.
fn dependencies(key: &BuildKey, built: &Built) -> Result<Vec<Value>, NoDirHash> {
    let sdk = format!(
        "golang.org/toolchain@{}",
        key.go.toolchain_version(Target::HOST)
    );
    let mut dependencies = vec![dependency(&sdk, &built.sdk_h1)?];
    let mut modules: Vec<&ModuleHash> = built.modules.iter().collect();
    modules.sort();
    for ModuleHash {
        path,
        version,
        h1,
        go_mod_h1,
    } in modules
    {
        let name = format!("{path}@{version}");
        if let Some(h1) = h1 {
            dependencies.push(dependency(&name, h1)?);
        }
        if let Some(h1) = go_mod_h1 {
            dependencies.push(dependency(&format!("{name}#go.mod"), h1)?);
        }
    }
    Ok(dependencies)
}

/// A package URL with Go's directory hash under its in-toto name, in hex as in-toto demands. It is
/// a hash over names and hashes of files: no tool may take it for the SHA-256 of an archive.
fn dependency(name: &str, h1: &str) -> Result<Value, NoDirHash> {
    let bytes = h1
        .strip_prefix("h1:")
        .and_then(|base64| STANDARD.decode(base64).ok());
    let bytes = bytes
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| NoDirHash(h1.to_owned()))?;
    Ok(json!({
        "uri": format!("pkg:golang/{name}"),
        "digest": { "dirHash": hex(&bytes) },
        "annotations": { "h1": h1 },
    }))
}

/// What may differ between two runs that give the same bits.
fn details(built: &Built, run: Run<'_>, seen: &[Seen]) -> Value {
    let took_ms: u64 = built.timings_ms.iter().map(|(_, ms)| ms).sum();
    let CellSummary {
        in_force,
        not_in_force,
        ending,
        cpu_ms,
        memory_peak_bytes,
        ..
    } = &built.cell;
    let report = json!({
        "name": "cell-report",
        "annotations": {
            "in_force": in_force,
            "not_in_force": not_in_force,
            "ending": ending,
            "cpu_ms": cpu_ms,
            "memory_peak_bytes": memory_peak_bytes,
            "warnings": built.warnings,
        },
    });
    // Descriptors of resources, as in-toto has them: what others said is kept word for word.
    let others = seen.iter().map(|seen| {
        json!({
            "name": "observation",
            "mediaType": seen.media_type,
            "content": STANDARD.encode(&seen.content),
            "annotations": { "verifier": seen.verifier, "agrees": seen.agrees },
        })
    });
    let byproducts: Vec<Value> = [report].into_iter().chain(others).collect();
    json!({
        "builder": {
            "id": run.builder.id(),
            "version": { "hotcell": env!("CARGO_PKG_VERSION") },
        },
        "metadata": {
            "startedOn": rfc3339(run.finished_ms.saturating_sub(took_ms)),
            "finishedOn": rfc3339(run.finished_ms),
        },
        "byproducts": byproducts,
    })
}

/// Bytes that the signature covers (DSSE's pre-authentication encoding).
pub fn pre_authentication(statement: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        statement.len()
    );
    [head.as_bytes(), statement].concat()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// The envelope around a signed statement, in the form that is stored and hashed.
pub fn envelope(statement: &[u8], key: &[u8; 32], signature: &[u8; 64]) -> Vec<u8> {
    let envelope = Envelope {
        payload_type: PAYLOAD_TYPE.to_owned(),
        payload: STANDARD.encode(statement),
        signatures: vec![EnvelopeSignature {
            keyid: key_id(key),
            sig: STANDARD.encode(signature),
        }],
    };
    serde_json::to_vec(&envelope).expect("strings serialize")
}

/// The statement of an envelope, if `key` signed it.
pub fn open(envelope: &[u8], key: &[u8; 32]) -> Result<Vec<u8>, EnvelopeError> {
    let parse = || {
        let envelope: Envelope = (envelope.len() <= ENVELOPE_BYTES_MAX)
            .then(|| serde_json::from_slice(envelope).ok())
            .flatten()?;
        let payload = STANDARD.decode(&envelope.payload).ok()?;
        (envelope.payload_type == PAYLOAD_TYPE).then_some((payload, envelope.signatures))
    };
    let (payload, signatures) = parse().ok_or(EnvelopeError::Malformed)?;
    let text = pre_authentication(&payload);
    let verifying = VerifyingKey::from_bytes(key).map_err(|_| EnvelopeError::Signature)?;
    let signed = signatures
        .iter()
        .filter(|signature| signature.keyid == key_id(key))
        .any(|s| {
            let bytes = STANDARD.decode(&s.sig).ok();
            let parsed = bytes.and_then(|bytes| ed25519_dalek::Signature::from_slice(&bytes).ok());
            parsed.is_some_and(|signature| verifying.verify_strict(&text, &signature).is_ok())
        });
    if signed {
        Ok(payload)
    } else {
        Err(EnvelopeError::Signature)
    }
}

/// Name of a key, as in leaf 0.
fn key_id(key: &[u8; 32]) -> String {
    format!("ed25519:{}", hex(key))
}

/// A time in UTC, to the second. Days to date: H. Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`.
pub(crate) fn rfc3339(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::build::Phase;
    use ed25519_dalek::Signer as _;

    pub(super) fn key() -> BuildKey {
        BuildKey::parse("filippo.io/age@v1.2.1/cmd/age/linux-amd64-go1.26.8/").unwrap()
    }

    fn h1_of(byte: u8) -> String {
        format!("h1:{}", STANDARD.encode([byte; 32]))
    }

    pub(super) fn built() -> Built {
        let module = |path: &str, h1: Option<String>| ModuleHash {
            path: path.to_owned(),
            version: "v1.0.0".to_owned(),
            h1,
            go_mod_h1: Some(h1_of(2)),
        };
        Built {
            sha256: [7; 32],
            size: 5,
            modules: vec![
                module("b.example/b", None),
                module("a.example/a", Some(h1_of(1))),
            ],
            sdk_h1: h1_of(0),
            cell: CellSummary {
                policy: "build".to_owned(),
                ..CellSummary::default()
            },
            timings_ms: vec![(Phase::Build, 3_000), (Phase::Gate, 500)],
            output: crate::output::Output::default(),
            warnings: vec![],
            code: None,
        }
    }

    fn parsed(built: &Built, finished_ms: u64) -> Value {
        let run = Run {
            builder: Builder::Instance("build.example.org"),
            finished_ms,
        };
        serde_json::from_slice(&statement(&key(), built, run, &[]).unwrap()).unwrap()
    }

    #[test]
    fn the_statement_names_subject_materials_and_parameters() {
        let statement = parsed(&built(), 1_795_253_099_000);
        assert_eq!(statement["subject"][0]["name"], "age-v1.2.1-go1.26.8");
        assert_eq!(statement["subject"][0]["digest"]["sha256"], "07".repeat(32));
        let definition = &statement["predicate"]["buildDefinition"];
        assert_eq!(definition["externalParameters"]["key"], key().to_string());
        assert_eq!(definition["internalParameters"]["policy"]["name"], "build");
        let dependencies = definition["resolvedDependencies"].as_array().unwrap();
        let list = |name: &str| -> Vec<_> {
            dependencies
                .iter()
                .map(|d| d.pointer(name).unwrap().as_str().unwrap())
                .collect()
        };
        assert!(
            list("/uri")[0].starts_with("pkg:golang/golang.org/toolchain@v0.0.1-go1.26.8.linux")
        );
        assert_eq!(
            list("/uri")[1..],
            [
                "pkg:golang/a.example/a@v1.0.0",
                "pkg:golang/a.example/a@v1.0.0#go.mod",
                "pkg:golang/b.example/b@v1.0.0#go.mod"
            ]
        );
        assert_eq!(
            list("/digest/dirHash"),
            [0, 1, 2, 2].map(|byte| hex(&[byte; 32]))
        );
        assert_eq!(list("/annotations/h1")[0], built().sdk_h1);
    }

    #[test]
    fn the_hash_of_in_totos_own_example_is_in_hex() {
        let h1 = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(dependency("x", h1).unwrap()["digest"]["dirHash"], hex);
        for bad in [
            "",
            "h1:",
            "h2:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "h1:AAAA",
        ] {
            assert_eq!(dependency("x", bad), Err(NoDirHash(bad.to_owned())));
        }
    }

    #[test]
    fn what_must_reproduce_has_no_time_no_builder_and_no_order_of_arrival() {
        let mut other = built();
        other.modules.reverse();
        other.timings_ms = vec![(Phase::Build, 9)];
        other.cell.cpu_ms = 77;
        let (a, b) = (parsed(&built(), 1_000), parsed(&other, 2_000_000));
        assert_eq!(a["subject"], b["subject"]);
        assert_eq!(
            a["predicate"]["buildDefinition"],
            b["predicate"]["buildDefinition"]
        );
        assert_ne!(a["predicate"]["runDetails"], b["predicate"]["runDetails"]);
    }

    #[test]
    fn what_others_said_stands_beside_the_report_of_the_cell_word_for_word() {
        let run = Run {
            builder: Builder::Local,
            finished_ms: 0,
        };
        let seen = Seen {
            verifier: "peer".to_owned(),
            agrees: true,
            media_type: observation::ENVELOPE_TYPE,
            content: b"signed".to_vec(),
        };
        let text = statement(&key(), &built(), run, &[seen]).unwrap();
        let all: Value = serde_json::from_slice(&text).unwrap();
        let list = &all["predicate"]["runDetails"]["byproducts"];
        assert_eq!(list[0]["name"], "cell-report");
        assert_eq!(list[1]["content"], STANDARD.encode("signed"));
        assert_eq!(list[1]["annotations"]["verifier"], "peer");
        assert_eq!(Claims::parse(&text).unwrap().observed, []);
        let alone = parsed(&built(), 0);
        let byproducts = &alone["predicate"]["runDetails"]["byproducts"];
        assert_eq!(byproducts.as_array().unwrap().len(), 1);
        assert_eq!(byproducts[0], list[0]);
    }

    #[test]
    fn what_others_signed_is_read_back_when_it_holds() {
        use observation::tests::{public, signed};
        let run = Run {
            builder: Builder::Local,
            finished_ms: 0,
        };
        let word = |key: &BuildKey, byte: u8| {
            let mut built = built();
            built.sha256 = [byte; 32];
            built.cell.policy_sha256 = "ab".repeat(32);
            signed(byte, &observation::observation(key, &built, run).unwrap())
        };
        let other = BuildKey::parse("filippo.io/age@v1.2.0/cmd/age/linux-amd64-go1.26.8/");
        let forged = String::from_utf8(word(&key(), 7)).unwrap();
        let forged = forged.replace("\"sig\":\"", "\"sig\":\"AAAA");
        let contents = [
            word(&key(), 7),
            word(&key(), 8),
            word(&other.unwrap(), 7),
            forged.into_bytes(),
            b"garbage".to_vec(),
        ];
        let seen = contents.map(|content| Seen {
            verifier: "peer".to_owned(),
            agrees: true,
            media_type: observation::ENVELOPE_TYPE,
            content,
        });
        let text = statement(&key(), &built(), run, &seen).unwrap();
        let observed = Claims::parse(&text).unwrap().observed;
        let read: Vec<_> = observed.iter().map(|one| (one.key, one.same)).collect();
        assert_eq!(read, [(public(7), true), (public(8), false)]);
    }

    #[test]
    fn builders_have_an_address_or_are_nobodys() {
        for (builder, id) in [
            (
                Builder::Instance("build.example.org"),
                "https://build.example.org/",
            ),
            (Builder::Instance("localhost"), "http://localhost/"),
            (Builder::Local, "urn:hotcell:builder:local"),
        ] {
            assert_eq!(builder.id(), id);
        }
    }

    #[test]
    fn what_a_statement_says_reads_back() {
        let run = Run {
            builder: Builder::Local,
            finished_ms: 1_795_253_099_000,
        };
        let text = statement(&key(), &built(), run, &[]).unwrap();
        let claims = Claims::parse(&text).unwrap();
        assert_eq!(
            (&*claims.name, claims.sha256),
            ("age-v1.2.1-go1.26.8", [7; 32])
        );
        assert_eq!(
            (claims.key, claims.policy),
            (key().to_string(), "build".to_owned())
        );
        assert_eq!(claims.builder, "urn:hotcell:builder:local");
        assert_eq!(claims.finished, "2026-11-21T09:24:59Z");
        assert_eq!(claims.dependencies[0].h1, h1_of(0));
        assert_eq!(claims.dependencies.len(), 4);
        let text = String::from_utf8(text).unwrap();
        for (from, to) in [
            ("in-toto.io/Statement/v1", "in-toto.io/Statement/v2"),
            (BUILD_TYPE, "urn:other"),
            ("slsa.dev/provenance/v1", "slsa.dev/provenance/v2"),
            ("\"sha256\":\"07", "\"sha256\":\"7"),
            ("\"subject\":[", "\"subject\":[{},"),
            ("\"finishedOn\"", "\"finishedAt\""),
        ] {
            assert!(text.contains(from), "{from}");
            let other = Claims::parse(text.replace(from, to).as_bytes());
            assert_eq!(other, Err(EnvelopeError::Malformed), "{to}");
        }
    }

    #[test]
    fn envelopes_open_with_their_key_only() {
        let signing = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
        let public = signing.verifying_key().to_bytes();
        let text = statement(
            &key(),
            &built(),
            Run {
                builder: Builder::Local,
                finished_ms: 0,
            },
            &[],
        )
        .unwrap();
        let signature = signing.sign(&pre_authentication(&text)).to_bytes();
        let bytes = envelope(&text, &public, &signature);
        assert_eq!(open(&bytes, &public).unwrap(), text);
        let other = ed25519_dalek::SigningKey::from_bytes(&[4; 32])
            .verifying_key()
            .to_bytes();
        assert_eq!(open(&bytes, &other), Err(EnvelopeError::Signature));
        let forged = envelope(b"{}", &public, &signature);
        assert_eq!(open(&forged, &public), Err(EnvelopeError::Signature));
        assert_eq!(open(b"{}", &public), Err(EnvelopeError::Malformed));
        assert_eq!(open(b"", &public), Err(EnvelopeError::Malformed));
    }

    #[test]
    fn pre_authentication_is_that_of_the_specification() {
        let encoded = pre_authentication(b"hello world");
        assert_eq!(
            encoded,
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
    }

    #[test]
    fn times_are_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_253_099, "2026-11-21T09:24:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1000), text);
        }
    }
}
