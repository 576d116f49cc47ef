//! What is kept of one authority and name: account, certificate with its key, attempts.
//!
//! Called by [`super::keeper`]. Every file is there completely or not at all ([`durable`]). One
//! that cannot be read ends the start, as what is wrong with the disk would also be wrong with a
//! new one; one that is damaged is put aside under another name, traced, and made anew: the
//! authority gives another. Must never write over a file that it did not understand.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use instant_acme::AccountCredentials;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tracing::error;

use super::{Directory, plan::Attempts};
use crate::{
    fetch::authority::ANSWER_BYTES_MAX,
    roles::PairText,
    serve::tls::{Pair, PairError},
    spec::hex,
    store::durable::{self, DurableError},
};

/// Below the folder of `serve`.
const FOLDER: &str = "acme";
/// The account's key and number.
const ACCOUNT: &str = "account.json";
/// Key and chain, in one file: a crash leaves two that fit.
const PAIR: &str = "certificate.pem";
/// What was tried.
const ATTEMPTS: &str = "attempts.json";
/// Longest file in bytes: the longest answer of an authority, and a key.
const FILE_BYTES_MAX: usize = ANSWER_BYTES_MAX + 8 * 1024;
/// Mode of the folders.
const FOLDER_MODE: u32 = 0o700;

/// The state cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// What lies there.
    #[error("cannot read `{}`, which belongs to --acme", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk.
    #[error(transparent)]
    Write(#[from] DurableError),
}

/// An account at the authority. No `Debug`: it has the account's key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountFile {
    /// What the authority was told of it.
    pub(super) contact: Option<String>,
    /// Checked when it was read.
    pub(super) credentials: serde_json::Value,
}

impl AccountFile {
    pub(super) fn new(
        contact: Option<String>,
        credentials: &AccountCredentials,
    ) -> Result<Self, serde_json::Error> {
        let credentials = serde_json::to_value(credentials)?;
        Ok(Self {
            contact,
            credentials,
        })
    }

    pub(super) fn credentials(&self) -> Result<AccountCredentials, serde_json::Error> {
        AccountCredentials::deserialize(&self.credentials)
    }
}

/// What was kept. No `Debug`: it has keys.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) account: Option<AccountFile>,
    /// A certificate that visitors take.
    pub(super) pair: Option<Pair>,
    pub(super) attempts: Attempts,
}

/// Where it is kept.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder of this authority and name below that of `serve`.
    pub(super) fn open(data: &Path, directory: &Directory, name: &str) -> Result<Self, StateError> {
        let digest = hex(&Sha256::digest(directory.to_string())[..4]);
        let authority = format!("{}-{digest}", directory.host());
        let folder = data.join(FOLDER).join(authority).join(name);
        durable::create_folder(&folder, FOLDER_MODE)?;
        durable::remove_leftovers(&folder)?;
        Ok(Self(folder))
    }

    /// Reads everything; what is damaged is put aside.
    pub(super) fn read(&self, name: &str, now_s: u64) -> Result<Kept, StateError> {
        let account = self.load(ACCOUNT, now_s, |text| {
            let file = json::<AccountFile>(text)?;
            let credentials = file.credentials().map(drop);
            credentials.map_err(|error| error.to_string())?;
            Ok(file)
        })?;
        let pair = self.load(PAIR, now_s, |text| {
            match Pair::parse(&both(text.to_owned()), name, now_s) {
                Ok(pair) => Ok(Some(pair)),
                // Nothing is wrong with the file; it is of no use now.
                Err(PairError::Expired(_) | PairError::Early(_)) => Ok(None),
                Err(why) => Err(why.to_string()),
            }
        })?;
        let attempts = self.load(ATTEMPTS, now_s, json::<Attempts>)?;
        Ok(Kept {
            account,
            pair: pair.flatten(),
            attempts: attempts.unwrap_or_default(),
        })
    }

    fn load<T>(
        &self,
        name: &str,
        now_s: u64,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, StateError> {
        let path = self.0.join(name);
        let read = match durable::read_bounded(&path, FILE_BYTES_MAX) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "it is no text".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err("it is too long".to_owned())
            }
            Err(source) => return Err(StateError::Read { path, source }),
        };
        match read.and_then(|text| parse(&text)) {
            Ok(value) => Ok(Some(value)),
            Err(why) => {
                let kept = self.put_aside(name, now_s)?;
                error!("`{name}` of --acme is damaged: {why}; it lies in `{kept}` now");
                Ok(None)
            }
        }
    }

    /// Gives a file a name under which nobody looks for it; tells which.
    fn put_aside(&self, name: &str, now_s: u64) -> Result<String, StateError> {
        let path = self.0.join(name);
        // In one second there may be two.
        let free = (0_u64..).map(|more| format!("{name}.aside-{}", now_s + more));
        let mut free = free.filter(|kept| !self.0.join(kept).exists());
        let kept = free.next().expect("there are many numbers");
        fs::rename(&path, self.0.join(&kept)).map_err(|source| StateError::Read {
            path: path.clone(),
            source,
        })?;
        Ok(kept)
    }

    /// Forgets an account that the authority does not know any more.
    pub(super) fn put_account_aside(&self, now_s: u64) -> Result<String, StateError> {
        self.put_aside(ACCOUNT, now_s)
    }

    /// A crash before leaves an account that nobody uses; one after it changes nothing.
    pub(super) fn keep_account(&self, account: &AccountFile) -> Result<(), StateError> {
        self.keep(ACCOUNT, json_of(account).as_bytes())
    }

    /// A crash before leaves the older certificate, and the attempt counts as failed.
    pub(super) fn keep_pair(&self, text: &PairText) -> Result<(), StateError> {
        self.keep(
            PAIR,
            [text.key.trim_end(), "\n", &text.chain].concat().as_bytes(),
        )
    }

    /// A crash before leaves what was known before: called ahead of what is counted.
    pub(super) fn keep_attempts(&self, attempts: &Attempts) -> Result<(), StateError> {
        self.keep(ATTEMPTS, json_of(attempts).as_bytes())
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        let path = self.0.join(name);
        Ok(durable::replace(&path, bytes, durable::SECRET)?)
    }
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn json_of<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value);
    text.expect("texts and numbers can be written") + "\n"
}

/// Key and chain out of one text: each reader takes what is its own.
fn both(text: String) -> PairText {
    PairText {
        chain: text.clone(),
        key: text,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::serve::tls::tests::{NOW_S, lasting};

    const NAME: &str = "a.example.org";

    fn directory() -> Directory {
        Directory::parse("https://ca.test:14000/dir").unwrap()
    }

    fn open(data: &Path) -> Folder {
        Folder::open(data, &directory(), NAME).unwrap()
    }

    fn account() -> AccountFile {
        // A P-256 key of this test.
        let key = rcgen::KeyPair::generate().unwrap().serialize_der();
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        AccountFile {
            contact: None,
            credentials: serde_json::json!({
                "id": "https://ca.test:14000/account/1",
                "key_pkcs8": URL_SAFE_NO_PAD.encode(key),
                "directory": directory().to_string(),
            }),
        }
    }

    fn names(folder: &Folder) -> Vec<String> {
        let entries = fs::read_dir(&folder.0).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_kept_comes_back_and_is_nobody_elses() {
        let data = tempfile::tempdir().unwrap();
        let folder = open(data.path());
        let empty = folder.read(NAME, NOW_S).unwrap();
        assert!(empty.account.is_none() && empty.pair.is_none());
        let (account, pair) = (account(), lasting(NAME, 4096));
        let mut attempts = Attempts::default();
        attempts.begin(NOW_S);
        folder.keep_account(&account).unwrap();
        folder.keep_pair(&pair).unwrap();
        folder.keep_attempts(&attempts).unwrap();
        for name in names(&folder) {
            let mode = fs::metadata(folder.0.join(name)).unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600);
        }
        let kept = open(data.path()).read(NAME, NOW_S).unwrap();
        let credentials = kept.account.unwrap().credentials;
        assert_eq!(credentials, account.credentials);
        assert_eq!(kept.pair.unwrap().until(), "4096-12-01T00:00:00Z");
        assert_eq!(kept.attempts, attempts);
        assert_eq!(names(&folder), [ACCOUNT, ATTEMPTS, PAIR]);
        // Another authority, and another name, have nothing of it.
        let other = Directory::parse("https://ca.test:14000/other").unwrap();
        for folder in [
            Folder::open(data.path(), &other, NAME).unwrap(),
            Folder::open(data.path(), &directory(), "b.example.org").unwrap(),
        ] {
            assert!(folder.read(NAME, NOW_S).unwrap().pair.is_none());
        }
    }

    #[test]
    fn a_damaged_file_is_put_aside_and_never_written_over() {
        let data = tempfile::tempdir().unwrap();
        let folder = open(data.path());
        let (good, other) = (lasting(NAME, 4096), lasting(NAME, 4096));
        let mixed = format!("{}{}", good.key, other.chain);
        let long = "x".repeat(FILE_BYTES_MAX + 1);
        for (name, text) in [
            (PAIR, ""),
            (PAIR, &good.chain[..good.chain.len() / 2]),
            (PAIR, &good.key),
            (PAIR, &mixed),
            (PAIR, &lasting("b.example.org", 4096).chain),
            (PAIR, &long),
            (ACCOUNT, ""),
            (ACCOUNT, "{}"),
            (ACCOUNT, r#"{"contact":null,"credentials":{"id":"x"}}"#),
            (ACCOUNT, &long),
            (ATTEMPTS, "[]"),
            (ATTEMPTS, r#"{"failures":-1}"#),
        ] {
            let path = folder.0.join(name);
            durable::replace(&path, text.as_bytes(), durable::SECRET).unwrap();
            let before = names(&folder).len();
            let kept = folder.read(NAME, NOW_S).unwrap();
            assert!(kept.account.is_none() && kept.pair.is_none(), "{name}");
            assert_eq!(kept.attempts, Attempts::default());
            assert!(!path.exists(), "{name}");
            let after = names(&folder);
            assert_eq!(after.len(), before, "{after:?}");
            let is_kept = |name: &String| fs::read_to_string(folder.0.join(name)).unwrap() == text;
            assert!(after.iter().any(is_kept), "{name}: {text}");
        }
        let binary = folder.0.join(PAIR);
        durable::replace(&binary, b"\xff", durable::SECRET).unwrap();
        assert!(folder.read(NAME, NOW_S).unwrap().pair.is_none());
        assert!(!binary.exists());
    }

    #[test]
    fn an_expired_certificate_stays_where_it_is_and_is_not_used() {
        let data = tempfile::tempdir().unwrap();
        let folder = open(data.path());
        folder.keep_pair(&lasting(NAME, 2026)).unwrap();
        for now_s in [NOW_S + 366 * 86_400, NOW_S - 366 * 86_400] {
            assert!(folder.read(NAME, now_s).unwrap().pair.is_none());
            assert_eq!(names(&folder), [PAIR]);
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_stays() {
        let data = tempfile::tempdir().unwrap();
        let folder = open(data.path());
        fs::create_dir(folder.0.join(PAIR)).unwrap();
        let refused = folder.read(NAME, NOW_S).err().unwrap();
        assert!(refused.to_string().contains(PAIR), "{refused}");
        assert_eq!(names(&folder), [PAIR]);
    }
}
