//! The lock file: every hash that went into one build, as JSON that people can read and diff.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Stop;
use crate::{build::Built, fetch::wire::ModuleHash, spec::BuildKey};

/// Largest lock file in bytes: 20,000 modules of a closure with 200 bytes each.
const BYTES_MAX: u64 = 4 << 20;

/// All inputs of one build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lock {
    /// Version of this format.
    lock: u8,
    /// Key of the build.
    pub(super) key: String,
    /// `h1:` of the SDK.
    pub(super) sdk_h1: String,
    /// SHA-256 of the policy file, in hex.
    pub(super) policy_sha256: String,
    /// Every module file that the relay served.
    pub(super) modules: Vec<ModuleHash>,
}

impl Lock {
    pub(super) fn of(key: &BuildKey, built: &Built) -> Self {
        Self {
            lock: 1,
            key: key.to_string(),
            sdk_h1: built.sdk_h1.clone(),
            policy_sha256: built.cell.policy_sha256.clone(),
            modules: built.modules.clone(),
        }
    }

    pub(super) fn read(path: &Path) -> Result<(Self, BuildKey), Stop> {
        use std::io::Read as _;
        let wrong = |why: String| {
            Stop::new(
                Stop::USAGE,
                format!("cannot read lock file `{}`: {why}", path.display()),
            )
            .hint("hotcell plan SPEC -o FILE writes one")
        };
        let mut text = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
        file.take(BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(|error| wrong(error.to_string()))?;
        let lock: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if lock.lock != 1 {
            return Err(wrong(format!(
                "its format is version {}, this program knows 1",
                lock.lock
            )));
        }
        let key = BuildKey::parse(&lock.key)?;
        Ok((lock, key))
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain data has a JSON form") + "\n"
    }

    /// Compares what is about to be used, or was used, with the lock.
    pub(super) fn check(&self, what: &str, locked: &str, found: &str) -> Result<(), Stop> {
        if locked == found {
            return Ok(());
        }
        let text = format!("{what} differs from the lock file: locked {locked}, found {found}");
        Err(Stop::new(Stop::WRONG, text).hint("if the change is wanted, run hotcell plan again"))
    }
}
