//! The receipt: the instance's own, checked as `verify` checks it, kept beside the binary.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{GetError, remote::Remote};
use crate::{
    receipt::{Receipt, ReceiptError, SUFFIX},
    spec::{Companion, Record},
    store::durable::{self, DurableError, Staged},
    tlog::{Policy, VerifierKey},
};

/// Said when the instance has no receipt.
pub(super) const NONE: &str =
    "the instance gave no receipt for this build: nothing proves it without a network";

/// A receipt that proves the binary, and its text.
pub(super) struct Fetched {
    receipt: Receipt,
    text: Vec<u8>,
}

/// Asks for the receipt of a verified record and checks all of it by the log's key; nothing when
/// the instance has none, or no longer has the envelope.
pub(super) async fn fetch(
    remote: &Remote,
    key: &VerifierKey,
    record: &Record,
    companion: &Companion,
) -> Result<Option<Fetched>, GetError> {
    let Some(text) = remote.receipt(&record.key).await? else {
        return Ok(None);
    };
    let receipt = match Receipt::parse(&text) {
        Err(ReceiptError::NoExtra) => return Ok(None),
        other => other.map_err(GetError::Receipt)?,
    };
    let policy = Policy::of_logs(vec![key.clone()]);
    let proved = receipt.check(&policy).map_err(GetError::Receipt)?;
    if proved.record != *record || proved.companion != *companion {
        return Err(GetError::OtherReceipt {
            key: proved.record.key.to_string(),
        });
    }
    Ok(Some(Fetched { receipt, text }))
}

impl Fetched {
    /// The checkpoint, which the key of the log has signed.
    pub(super) fn checkpoint(&self) -> &str {
        self.receipt.checkpoint()
    }

    /// Writes the receipt beside the binary's place, without its name yet: a full disk is noticed
    /// before the binary is there.
    pub(super) fn stage(self, binary: &Path) -> Result<StagedReceipt, GetError> {
        let mut name = binary.as_os_str().to_owned();
        name.push(SUFFIX);
        let path = PathBuf::from(name);
        let mut staged = Staged::new(&path).map_err(GetError::Write)?;
        staged.write_all(&self.text).map_err(|source| {
            GetError::Write(DurableError::Io {
                path: path.clone(),
                source,
            })
        })?;
        Ok(StagedReceipt { staged, path })
    }
}

/// A receipt that is written and has no name yet; removed when dropped.
pub(super) struct StagedReceipt {
    staged: Staged,
    path: PathBuf,
}

impl StagedReceipt {
    /// Gives the receipt its name, after the binary got its own. A crash in between leaves the new
    /// binary with the receipt that was there before, which `verify` then refuses.
    pub(super) fn keep(self) -> Result<PathBuf, GetError> {
        self.staged
            .replace(durable::PUBLIC)
            .map_err(GetError::Write)?;
        Ok(self.path)
    }
}
