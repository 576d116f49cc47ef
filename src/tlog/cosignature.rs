//! Cosignatures of witnesses: `cosignature/v1` with Ed25519, signature type 4 of signed notes.
//!
//! Format: C2SP `tlog-cosignature.md` v1.0.1. A cosignature says that its witness saw, at a time of
//! its own clock, this head as the largest consistent one. Read by [`super::policy`]; the signing
//! half is for witnesses and tests. ML-DSA-44 (type 6) is not known here.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, VerifyingKey};

use super::note::{
    Note, NoteError, SIGNATURE_PREFIX, Signature, is_note_text, is_valid_name, key_hash, parse_key,
    same_as_go, strong,
};

/// Algorithm number of cosignatures with Ed25519.
const COSIGNATURE: u8 = 4;
/// Latest time of a cosignature, in seconds since 1970; the specification's bound.
pub const TIME_MAX_S: u64 = (1 << 63) - 1;

/// The public key of a witness: `name+hash+base64`.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    hash: [u8; 4],
    key: VerifyingKey,
}

impl WitnessKey {
    /// Parses the text form; only canonical text is accepted.
    ///
    /// # Errors
    /// Not a key, or of another algorithm than `cosignature/v1` with Ed25519.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, hash, bytes) = parse_key(text)?;
        let key: [u8; 32] = match bytes.split_first() {
            Some((&COSIGNATURE, key)) => key.try_into().map_err(|_| NoteError::MalformedKey)?,
            Some(_) => return Err(NoteError::UnknownAlgorithm),
            None => return Err(NoteError::MalformedKey),
        };
        let parsed = Self::new(name, strong(&key).ok_or(NoteError::MalformedKey)?);
        let same = parsed.hash == hash && parsed.to_string() == text;
        same.then_some(parsed).ok_or(NoteError::MalformedKey)
    }

    fn new(name: &str, key: VerifyingKey) -> Self {
        Self {
            name: name.to_owned(),
            hash: key_hash(name, &typed(&key)),
            key,
        }
    }

    /// Name of the key, as signature lines have it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub fn public(&self) -> &VerifyingKey {
        &self.key
    }

    /// When the witness cosigned this note, in seconds since 1970 of its own clock; nothing when it
    /// did not. With several cosignatures, the newest.
    ///
    /// # Errors
    /// A line claims to be of this witness and is not: the whole note is to be refused.
    pub fn cosigned(&self, note: &Note) -> Result<Option<u64>, NoteError> {
        let mut newest = None;
        for signature in note.signatures() {
            if signature.name != self.name || signature.hash != self.hash {
                continue;
            }
            let wrong = || NoteError::WrongSignature {
                name: self.name.clone(),
            };
            let time_s = self.verify(note.text(), signature).ok_or_else(wrong)?;
            newest = newest.max(Some(time_s));
        }
        Ok(newest)
    }

    fn verify(&self, text: &str, signature: &Signature) -> Option<u64> {
        let (time, bytes) = signature.bytes.split_first_chunk::<8>()?;
        let time_s = u64::from_be_bytes(*time);
        let holds =
            time_s <= TIME_MAX_S && same_as_go(&self.key, message(time_s, text).as_bytes(), bytes);
        holds.then_some(time_s)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes(self.hash);
        let base64 = STANDARD.encode(typed(&self.key));
        write!(f, "{}+{hash:08x}+{base64}", self.name)
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessKey({self})")
    }
}

/// The private key of a witness. Never printed.
pub struct WitnessSigner {
    public: WitnessKey,
    key: ed25519_dalek::SigningKey,
}

impl WitnessSigner {
    /// Makes the key of this seed. The seed must be of no other key: the signed text does not name
    /// its witness.
    ///
    /// # Errors
    /// The name is none of a key.
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        if !is_valid_name(name) {
            return Err(NoteError::MalformedKey);
        }
        let key = ed25519_dalek::SigningKey::from_bytes(seed);
        Ok(Self {
            public: WitnessKey::new(name, key.verifying_key()),
            key,
        })
    }

    /// Its public half.
    pub fn public(&self) -> &WitnessKey {
        &self.public
    }

    /// The line that is added to the end of a note whose text is `text`. Whoever calls this has
    /// checked that the head is the largest and consistent with all before.
    ///
    /// # Errors
    /// The text is none of a note, or the time is beyond [`TIME_MAX_S`].
    pub fn cosign(&self, text: &str, time_s: u64) -> Result<String, NoteError> {
        if !is_note_text(text) || !text.ends_with('\n') || time_s > TIME_MAX_S {
            return Err(NoteError::Malformed);
        }
        let signature = self.key.sign(message(time_s, text).as_bytes()).to_bytes();
        let bytes = [&self.public.hash[..], &time_s.to_be_bytes(), &signature].concat();
        let (name, base64) = (&self.public.name, STANDARD.encode(bytes));
        Ok(format!("{SIGNATURE_PREFIX}{name} {base64}\n"))
    }
}

impl fmt::Debug for WitnessSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessSigner({}, secret)", self.public)
    }
}

/// What is signed.
fn message(time_s: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time_s}\n{text}")
}

/// The algorithm's number and the key.
fn typed(key: &VerifyingKey) -> Vec<u8> {
    [&[COSIGNATURE], &key.to_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{VerifierKey, testing};

    /// Made with torchwood v0.9.0: the vectors' witness cosigns the checkpoint of 700 records.
    const LINE: &str = "\u{2014} witness.example/w1 JLXZ/gAAAABrAd6EwywhaUJyMt+dt2HfpLqGigs5vWurQh\
                        Ji1jtlMnoVwma5dDaulQ20P+ApirTgEwXr3W8EVV3biKurXgP8y513Cg==\n";
    const TIME_S: u64 = 1_795_284_612;

    fn checkpoint() -> String {
        let vectors = testing::vectors();
        let trees = vectors["trees"].as_array().unwrap();
        trees.last().unwrap()["checkpoint"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn witness() -> WitnessSigner {
        WitnessSigner::from_seed("witness.example/w1", &[9; 32]).unwrap()
    }

    #[test]
    fn keys_and_cosignatures_equal_the_vectors() {
        let vectors = testing::vectors();
        let text = vectors["witness_vkey"].as_str().unwrap();
        let key = WitnessKey::parse(text).unwrap();
        assert_eq!(
            (key.to_string(), witness().public()),
            (text.to_owned(), &key)
        );
        let signed = checkpoint() + LINE;
        let note = Note::parse(signed.as_bytes()).unwrap();
        assert_eq!(key.cosigned(&note), Ok(Some(TIME_S)));
        assert_eq!(witness().cosign(note.text(), TIME_S).unwrap(), LINE);
        // The log's own key still verifies it, as older clients do.
        let log = VerifierKey::parse(vectors["vkey"].as_str().unwrap()).unwrap();
        assert!(note.verify(&log).is_ok());
    }

    #[test]
    fn another_time_text_key_or_length_is_no_cosignature() {
        let key = witness().public().clone();
        let note = |text: &str| Note::parse(text.as_bytes()).unwrap();
        assert_eq!(key.cosigned(&note(&checkpoint())), Ok(None));
        let wrong = Err(NoteError::WrongSignature {
            name: key.name().to_owned(),
        });
        let (_, base64) = LINE.trim_end().rsplit_once(' ').unwrap();
        let bytes = STANDARD.decode(base64).unwrap();
        for at in [4, 11, 12, 75] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x80;
            let line = format!(
                "{SIGNATURE_PREFIX}{} {}\n",
                key.name(),
                STANDARD.encode(bytes)
            );
            assert_eq!(key.cosigned(&note(&(checkpoint() + &line))), wrong, "{at}");
        }
        for length in [5, 12, 75] {
            let short = STANDARD.encode(&bytes[..length]);
            let line = format!("{SIGNATURE_PREFIX}{} {short}\n", key.name());
            assert_eq!(
                key.cosigned(&note(&(checkpoint() + &line))),
                wrong,
                "{length}"
            );
        }
        let other = checkpoint().replace("\n700\n", "\n701\n") + LINE;
        assert_eq!(key.cosigned(&note(&other)), wrong);
        let stranger = WitnessSigner::from_seed("witness.example/w1", &[8; 32]).unwrap();
        let line = stranger.cosign(note(&checkpoint()).text(), 1).unwrap();
        assert_eq!(key.cosigned(&note(&(checkpoint() + &line))), Ok(None));
        assert!(witness().cosign("x\n", TIME_MAX_S + 1).is_err());
        assert!(witness().cosign("x", 1).is_err());
    }

    #[test]
    fn of_several_cosignatures_the_newest_counts_and_a_bad_one_spoils_all() {
        let witness = witness();
        let text = checkpoint();
        let body = Note::parse(text.as_bytes()).unwrap().text().to_owned();
        let line = |time_s| witness.cosign(&body, time_s).unwrap();
        let both = format!("{text}{}{}", line(9), line(5));
        let note = Note::parse(both.as_bytes()).unwrap();
        assert_eq!(witness.public().cosigned(&note), Ok(Some(9)));
        let bad = witness.cosign("other\n", 5).unwrap();
        let note = Note::parse(format!("{both}{bad}").as_bytes()).unwrap();
        assert!(witness.public().cosigned(&note).is_err());
    }

    #[test]
    fn keys_of_logs_and_of_other_kinds_are_refused() {
        let vectors = testing::vectors();
        let log = vectors["vkey"].as_str().unwrap();
        assert_eq!(WitnessKey::parse(log), Err(NoteError::UnknownAlgorithm));
        let good = witness().public().to_string();
        assert_eq!(VerifierKey::parse(&good), Err(NoteError::UnknownAlgorithm));
        for bad in ["", "a+b+c", &good[1..], &format!("{good}\n")] {
            assert_eq!(
                WitnessKey::parse(bad),
                Err(NoteError::MalformedKey),
                "{bad}"
            );
        }
        assert!(!format!("{:?}", witness()).contains("09090909"));
        assert!(WitnessSigner::from_seed("a b", &[1; 32]).is_err());
    }
}
