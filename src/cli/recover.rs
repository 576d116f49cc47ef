//! `hotcell log recover`: fills up a data folder that was rolled back.

use std::{
    os::unix::fs::{MetadataExt as _, lchown},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use hotcell_sandbox::privilege;
use nix::unistd::geteuid;

use super::{Stop, print};
use crate::{
    audit::{self, AuditError, Copy},
    log::{Archive, ArchiveError, LogConfig, Refill, RefillError},
    proxy,
    roles::{self, SERVE_ID},
    tlog::VerifierKey,
};

/// Fill up a data folder that was restored from an older copy, from any newer copy of the log
///
/// Nobody has to trust the copy: its records are taken only when they continue those of the folder
/// up to a head that the log's key has signed. Binaries do not come with it; they are built again
/// when somebody asks, and have to be the same. Stop the service first.
#[derive(Debug, Args)]
pub(super) struct Recover {
    /// The newer copy: an address (https://NAME/tlog), or a data folder of `serve`
    #[arg(long, value_name = "URL|DIR")]
    from: String,
    /// The folder to fill up
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Key of the log, from where you trust it; needed when nothing is left of the folder
    #[arg(long, value_name = "KEY")]
    verifierkey: Option<String>,
}

impl Recover {
    pub(super) fn run(self) -> Result<(), Stop> {
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let key = key(&self.data, self.verifierkey.as_deref())?;
        let owner = privilege::is_root().then_some(SERVE_ID);
        let own = self.data.join(LogConfig::FOLDER);
        roles::prepare(&self.data, owner.map(|_| 0)).map_err(|error| failed(&error))?;
        roles::prepare_own(&own, owner).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
        let (before, after) = runtime.block_on(self.refill(&LogConfig::of(&own), &key))?;
        give(&own).map_err(|error| failed(&error))?;
        if before == after {
            return print(format_args!(
                "nothing is missing: both have {before} records up to their signed heads"
            ));
        }
        print(format_args!(
            "filled up from {before} to {after} records of the log `{}`\n\
             now start the service: it compares this with what its signer signed last",
            key.name()
        ))
    }

    /// Leaves before and after.
    async fn refill(&self, config: &LogConfig, key: &VerifierKey) -> Result<(u64, u64), Stop> {
        let wrong = |error: &AuditError| Stop::chain(error.exit_code(), error);
        let copy = if self.from.contains("://") {
            let http = proxy::Http::new(proxy::Http::STALL);
            let http = http.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
            Copy::at_url(&self.from, key, Arc::new(http)).await
        } else {
            Copy::in_folder(Path::new(&self.from), key).await
        };
        let copy = copy.map_err(|error| wrong(&error))?;
        let signed = copy.tree();
        let mut refill = Refill::begin(config, key).map_err(|error| stop(&error))?;
        let before = refill.size();
        if signed.size < before {
            let text = format!(
                "the copy has {} records, this folder has {before}: it is the older one",
                signed.size
            );
            return Err(Stop::new(Stop::FAILED, text).hint("look for a newer copy of the log"));
        }
        while refill.size() < signed.size {
            let texts = copy.leaves(refill.size()).await;
            for text in texts.map_err(|error| wrong(&error))? {
                refill.push(&text).map_err(|error| stop(&error))?;
            }
        }
        refill
            .finish(&signed, copy.notes())
            .map_err(|error| stop(&error))?;
        Ok((before, signed.size))
    }
}

/// The key of a log that may be damaged: as given, else as its data folder names it.
pub(super) fn key(data: &Path, given: Option<&str>) -> Result<VerifierKey, Stop> {
    let stop = |error: &AuditError| Stop::chain(error.exit_code(), error);
    if let Some(key) = given {
        return audit::parse_key(key).map_err(|error| stop(&error));
    }
    let named = match Archive::open(data) {
        Ok(archive) => archive.key(),
        Err(error) => Err(error),
    };
    match named {
        Ok(Some(key)) => audit::parse_key(&key).map_err(|error| stop(&error)),
        Ok(None) | Err(ArchiveError::NoLog { .. }) => {
            let text = format!("`{}` names no log", data.display());
            let hint = "say which one with --verifierkey; the signer's folder holds one folder for \
                        each key, named by its hash";
            Err(Stop::new(Stop::USAGE, text).hint(hint))
        }
        Err(error) => Err(stop(&error.into())),
    }
}

fn stop(error: &RefillError) -> Stop {
    match error {
        RefillError::Leaf { .. } | RefillError::Root { .. } => {
            Stop::chain(Stop::WRONG, error).hint("nothing was changed; try another copy of the log")
        }
        RefillError::OtherLog { .. } => Stop::chain(Stop::USAGE, error)
            .hint("nothing was changed; choose the folder, or the key, of one log"),
        RefillError::Open(_) | RefillError::Load(_) => Stop::chain(Stop::FAILED, error)
            .hint("nothing was changed; stop the service before you recover its folder"),
    }
}

/// What was made here belongs to the owner of the folder, as everything in it.
pub(super) fn give(own: &Path) -> std::io::Result<()> {
    let owner = own.symlink_metadata()?;
    let mut open = vec![own.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            let meta = path.symlink_metadata()?;
            // What we have made, and nothing that has another name elsewhere.
            let is_ours = meta.uid() == geteuid().as_raw() && (meta.is_dir() || meta.nlink() == 1);
            if is_ours && meta.uid() != owner.uid() {
                lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
            }
            if meta.is_dir() {
                open.push(path);
            }
        }
    }
    Ok(())
}
