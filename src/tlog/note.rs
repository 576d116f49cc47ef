//! Signed notes (C2SP signed-note v1.0.0, `golang.org/x/mod/sumdb/note`) with Ed25519 keys.
//!
//! Parsing is bounded and strict: base64 must be canonical, and a note with one bad signature of a
//! known key is refused as a whole. Signatures of unknown keys are kept and never believed.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::Signer;
use sha2::{Digest, Sha256};

/// Longest note, in bytes: 100 signatures of the largest known kind (5 KiB, ML-DSA-44) fit.
pub const NOTE_BYTES_MAX: usize = 512 * 1024;
/// Most signatures of one note; the limit of x/mod.
pub const SIGNATURES_MAX: usize = 100;
/// Longest name of a key, in bytes; a host name has at most 253.
pub const NAME_BYTES_MAX: usize = 255;
/// Algorithm number of Ed25519.
const ED25519: u8 = 1;
/// Em dash and space.
pub(super) const SIGNATURE_PREFIX: &str = "\u{2014} ";

/// Why a note or key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a note, or beyond a limit.
    #[error("malformed note")]
    Malformed,
    /// It has no signature of the key.
    #[error("note is not signed by `{name}`")]
    Unsigned {
        /// Name of the key that was expected.
        name: String,
    },
    /// It has a signature that claims to be of the key and is not.
    #[error("note has a wrong signature of `{name}`")]
    WrongSignature {
        /// Name of the key.
        name: String,
    },
    /// Not a key.
    #[error("malformed key")]
    MalformedKey,
    /// The key is of another algorithm than Ed25519.
    #[error("key has an algorithm that is not known here")]
    UnknownAlgorithm,
}

/// A public key with a name: `name+hash+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    hash: [u8; 4],
    key: ed25519_dalek::VerifyingKey,
}

impl VerifierKey {
    /// Parses the text form; only canonical text is accepted.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, hash, bytes) = parse_key(text)?;
        let key: [u8; 32] = match bytes.split_first() {
            Some((&ED25519, key)) => key.try_into().map_err(|_| NoteError::MalformedKey)?,
            Some(_) => return Err(NoteError::UnknownAlgorithm),
            None => return Err(NoteError::MalformedKey),
        };
        let parsed = Self::new(name, strong(&key).ok_or(NoteError::MalformedKey)?);
        let same = parsed.hash == hash && parsed.to_string() == text;
        if same {
            Ok(parsed)
        } else {
            Err(NoteError::MalformedKey)
        }
    }

    fn new(name: &str, key: ed25519_dalek::VerifyingKey) -> Self {
        let hash = key_hash(name, &[&[ED25519], &key.to_bytes()[..]].concat());
        Self {
            name: name.to_owned(),
            hash,
            key,
        }
    }

    /// Name of the key; for a log also its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub fn public(&self) -> &ed25519_dalek::VerifyingKey {
        &self.key
    }

    /// SHA-256 of the text form in hex: names the folder of what is known about the key. The hash
    /// within the text form has 32 bits only, so that anybody can make a second key with it.
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.to_string());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        same_as_go(&self.key, text.as_bytes(), signature)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[ED25519], &self.key.to_bytes()[..]].concat();
        let hash = u32::from_be_bytes(self.hash);
        write!(f, "{}+{hash:08x}+{}", self.name, STANDARD.encode(bytes))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifierKey({self})")
    }
}

/// A private key with a name. It is never printed by accident: only [`SigningKey::secret_text`]
/// tells it.
pub struct SigningKey {
    verifier: VerifierKey,
    key: ed25519_dalek::SigningKey,
}

impl SigningKey {
    /// Makes the key of this seed.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        if !is_valid_name(name) {
            return Err(NoteError::MalformedKey);
        }
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        Ok(Self {
            verifier: VerifierKey::new(name, key.verifying_key()),
            key,
        })
    }

    /// Parses `PRIVATE+KEY+name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let rest = text
            .strip_prefix("PRIVATE+KEY+")
            .ok_or(NoteError::MalformedKey)?;
        let (name, hash, bytes) = parse_key(rest)?;
        let seed: [u8; 32] = match bytes.split_first() {
            Some((&ED25519, seed)) => seed.try_into().map_err(|_| NoteError::MalformedKey)?,
            Some(_) => return Err(NoteError::UnknownAlgorithm),
            None => return Err(NoteError::MalformedKey),
        };
        let key = Self::from_seed(name, &seed)?;
        let same = key.verifier.hash == hash && key.secret_text() == text;
        if same {
            Ok(key)
        } else {
            Err(NoteError::MalformedKey)
        }
    }

    /// The private key as text, for its file of mode 0600 and nothing else.
    pub fn secret_text(&self) -> String {
        let bytes = [&[ED25519], &self.key.to_bytes()[..]].concat();
        let hash = u32::from_be_bytes(self.verifier.hash);
        format!(
            "PRIVATE+KEY+{}+{hash:08x}+{}",
            self.verifier.name,
            STANDARD.encode(bytes)
        )
    }

    /// Its public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text; the answer is the whole note. The text must end with a newline.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        if !is_note_text(text) || !text.ends_with('\n') {
            return Err(NoteError::Malformed);
        }
        let signature = self.key.sign(text.as_bytes());
        let bytes = [&self.verifier.hash[..], &signature.to_bytes()[..]].concat();
        let name = &self.verifier.name;
        Ok(format!(
            "{text}\n{SIGNATURE_PREFIX}{name} {}\n",
            STANDARD.encode(bytes)
        ))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, secret)", self.verifier)
    }
}

/// A parsed note. Its text is not to be believed before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Name of the key.
    pub name: String,
    /// Hash of the key.
    pub hash: [u8; 4],
    /// The signature proper.
    pub bytes: Vec<u8>,
}

impl Note {
    /// Parses a note and checks its form, no signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let note = (bytes.len() <= NOTE_BYTES_MAX)
            .then(|| std::str::from_utf8(bytes).ok())
            .flatten()
            .filter(|note| is_note_text(note) && note.ends_with('\n'))
            .ok_or(NoteError::Malformed)?;
        let split = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, lines) = (&note[..=split], &note[split + 2..]);
        let mut signatures = Vec::new();
        for line in lines.lines() {
            if signatures.len() == SIGNATURES_MAX {
                return Err(NoteError::Malformed);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::Malformed)?);
        }
        if signatures.is_empty() {
            return Err(NoteError::Malformed);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The text, if `key` signed it.
    pub fn verify(&self, key: &VerifierKey) -> Result<&str, NoteError> {
        let mut signed = false;
        for signature in &self.signatures {
            if signature.name != key.name || signature.hash != key.hash {
                continue;
            }
            if !key.verifies(&self.text, &signature.bytes) {
                return Err(NoteError::WrongSignature {
                    name: key.name.clone(),
                });
            }
            signed = true;
        }
        let unsigned = || NoteError::Unsigned {
            name: key.name.clone(),
        };
        signed.then_some(&*self.text).ok_or_else(unsigned)
    }

    /// The note with a signature of `key` and no other, if `key` signed it.
    pub fn only(&self, key: &VerifierKey) -> Result<String, NoteError> {
        let text = self.verify(key)?;
        let is_its = |one: &&Signature| one.name == key.name && one.hash == key.hash;
        let one = self.signatures.iter().find(is_its);
        let one = one.ok_or(NoteError::Malformed)?; // cannot be: it was verified
        let base64 = STANDARD.encode([&one.hash[..], &one.bytes].concat());
        let name = &key.name;
        Ok(format!("{text}\n{SIGNATURE_PREFIX}{name} {base64}\n"))
    }

    /// The text, which nobody has verified yet.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// All signatures, of known and unknown keys.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }
}

fn parse_signature(line: &str) -> Option<Signature> {
    let (name, base64) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = STANDARD.decode(base64).ok()?;
    let (hash, signature) = bytes.split_first_chunk::<4>()?;
    let sane = is_valid_name(name) && !signature.is_empty();
    sane.then(|| Signature {
        name: name.to_owned(),
        hash: *hash,
        bytes: signature.to_owned(),
    })
}

/// The parts of `name+hash+base64`.
pub(super) fn parse_key(text: &str) -> Result<(&str, [u8; 4], Vec<u8>), NoteError> {
    let parts = || {
        let (name, rest) = text.split_once('+')?;
        let (hash, base64) = rest.split_once('+')?;
        let sane = is_valid_name(name) && hash.len() == 8 && base64.len() <= 64;
        let hash = u32::from_str_radix(hash, 16).ok().filter(|_| sane)?;
        Some((name, hash.to_be_bytes(), STANDARD.decode(base64).ok()?))
    };
    parts().ok_or(NoteError::MalformedKey)
}

/// A public key that binds: with a weak one, one signature fits every text.
pub(super) fn strong(key: &[u8; 32]) -> Option<ed25519_dalek::VerifyingKey> {
    let key = ed25519_dalek::VerifyingKey::from_bytes(key).ok()?;
    (!key.is_weak()).then_some(key)
}

/// Whether Go would accept a signature: without cofactor. `verify_strict` would tell another tale
/// than x/mod.
pub(super) fn same_as_go(key: &ed25519_dalek::VerifyingKey, text: &[u8], bytes: &[u8]) -> bool {
    let signature = ed25519_dalek::Signature::from_slice(bytes);
    signature.is_ok_and(|it| ed25519_dalek::Verifier::verify(key, text, &it).is_ok())
}

pub(super) fn key_hash(name: &str, key: &[u8]) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update(b"\n");
    hasher.update(key);
    let digest: [u8; 32] = hasher.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}

pub(super) fn is_valid_name(name: &str) -> bool {
    let sane = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(sane)
}

/// No control character but newline (DEL is allowed, as in x/mod).
pub(super) fn is_note_text(text: &str) -> bool {
    text.bytes().all(|byte| byte >= 0x20 || byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::testing;

    fn key() -> SigningKey {
        SigningKey::from_seed("log.example.org", &[7; 32]).unwrap()
    }

    #[test]
    fn keys_and_notes_equal_the_vectors() {
        let vectors = testing::vectors();
        let key = key();
        assert_eq!(key.secret_text(), vectors["skey"]);
        assert_eq!(key.verifier().to_string(), vectors["vkey"]);
        let verifier = VerifierKey::parse(vectors["vkey"].as_str().unwrap()).unwrap();
        assert_eq!(
            SigningKey::parse(&key.secret_text()).unwrap().verifier(),
            &verifier
        );
        for vector in vectors["trees"].as_array().unwrap() {
            for form in ["sumdb_note", "checkpoint"] {
                let text = vector[form].as_str().unwrap();
                let note = Note::parse(text.as_bytes()).unwrap();
                assert_eq!(key.sign(note.verify(&verifier).unwrap()).unwrap(), text);
            }
        }
    }

    #[test]
    fn changed_keys_are_refused() {
        let good = key().verifier().to_string();
        let upper = good.replace("4c9bf558", "4C9BF558");
        let other = good.replace("4c9bf558", "4c9bf559");
        let spaced = good.replace("log.", "log ");
        let short = &good[..good.len() - 4];
        let twice = format!("{good}+");
        for bad in [
            "",
            "a+b",
            "++",
            &upper,
            &other,
            &spaced,
            short,
            &twice,
            &format!("{good}\n"),
        ] {
            assert_eq!(
                VerifierKey::parse(bad),
                Err(NoteError::MalformedKey),
                "{bad:?}"
            );
        }
        let zero = [&[ED25519], &[0; 32][..]].concat();
        let hash = u32::from_be_bytes(key_hash("x", &zero));
        let weak = format!("x+{hash:08x}+{}", STANDARD.encode(zero));
        assert_eq!(VerifierKey::parse(&weak), Err(NoteError::MalformedKey));
        assert!(SigningKey::from_seed("a+b", &[7; 32]).is_err());
        assert!(!format!("{:?}", key()).contains("PRIVATE"));
    }

    #[test]
    fn wrong_truncated_and_unsigned_notes_are_refused() {
        let key = key();
        let verifier = key.verifier();
        let good = key.sign("some text\n").unwrap();
        let verify = |note: &str| Note::parse(note.as_bytes())?.verify(verifier).map(drop);
        assert_eq!(verify(&good), Ok(()));
        let name = || verifier.name().to_owned();
        let changed = good.replace("some", "same");
        assert_eq!(
            verify(&changed),
            Err(NoteError::WrongSignature { name: name() })
        );
        let stranger = SigningKey::from_seed("log.example.org", &[8; 32]).unwrap();
        let foreign = stranger.sign("some text\n").unwrap();
        assert_eq!(verify(&foreign), Err(NoteError::Unsigned { name: name() }));
        for cut in 0..good.len() {
            assert!(
                Note::parse(&good.as_bytes()[..cut]).is_err(),
                "cut at {cut}"
            );
        }
        for bad in ["\0", "a\t\n\n", "\u{7}"] {
            assert_eq!(verify(&format!("{bad}{good}")), Err(NoteError::Malformed));
        }
        assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::Malformed));
        assert!(key.sign("no newline").is_err());
    }

    #[test]
    fn signatures_of_others_are_kept_and_a_bad_second_one_of_ours_spoils_the_note() {
        let key = key();
        let good = key.sign("text\n").unwrap();
        let line = format!("\u{2014} witness.example {}\n", STANDARD.encode([9; 40]));
        let note = Note::parse(format!("{good}{line}").as_bytes()).unwrap();
        assert_eq!(
            (note.verify(key.verifier()), note.signatures().len()),
            (Ok("text\n"), 2)
        );
        let other = key.sign("other\n").unwrap();
        let (_, wrong) = other.split_once("\n\n").unwrap();
        let note = Note::parse(format!("{good}{wrong}").as_bytes()).unwrap();
        assert!(matches!(
            note.verify(key.verifier()),
            Err(NoteError::WrongSignature { .. })
        ));
    }

    #[test]
    fn the_hundred_and_first_signature_is_one_too_many() {
        let good = key().sign("text\n").unwrap();
        let line = format!("\u{2014} x {}\n", STANDARD.encode([9; 40]));
        let with = |count| Note::parse(format!("{good}{}", line.repeat(count)).as_bytes());
        assert!(with(SIGNATURES_MAX - 1).is_ok());
        assert_eq!(with(SIGNATURES_MAX), Err(NoteError::Malformed));
        let long = format!("{}{good}", "x".repeat(NOTE_BYTES_MAX));
        assert_eq!(Note::parse(long.as_bytes()), Err(NoteError::Malformed));
    }
}
