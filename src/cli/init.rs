//! `hotcell log init`: begins a log in empty folders, and says what lies in those that are not.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use hotcell_sandbox::privilege;
use serde_json::json;

use super::{
    Stop, print,
    recover::give,
    say,
    signer::{SignDir, check_name, stop, with_role},
};
use crate::{
    log::{Archive, ArchiveError, Log, LogConfig, SignError, Signer, list},
    roles::{self, SERVE_ID},
};

/// What to do about a folder that is not empty.
const REMEDY: &str = "to bring that log back: `hotcell log recover --from COPY`; when no copy is \
                      left: `hotcell log succeed NEW-NAME`; for a log that has nothing to do with \
                      it, choose another --name, or other folders";

/// Begin a log in an empty data folder, and print its verifier key
///
/// `serve` does the same at its first start, unless something of an older log is there. The keys
/// are those that `log keygen` has made under this name, else new ones.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// Name of the key: the host name of the service
    #[arg(long, default_value = "localhost")]
    name: String,
    /// Where everything is to lie but the signing keys
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    #[command(flatten)]
    keys: SignDir,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Init {
    pub(super) fn run(self) -> Result<(), Stop> {
        check_name(&self.name)?;
        let folder = self.keys.outside(&self.data)?;
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let own = self.data.join(LogConfig::FOLDER);
        let there = lies_there(&own).map_err(|error| failed(&error))?;
        if !there.is_empty() {
            give(&own).map_err(|error| failed(&error))?; // a crash may have come before it
            let text = format!("`{}` is not empty: {}", own.display(), there.join(", "));
            return Err(Stop::new(Stop::FAILED, text).hint(REMEDY));
        }
        let key = with_role(&folder, |operator| {
            let signer = operator.begin(&self.name).map_err(|error| match error {
                SignError::Taken { kept } => {
                    let folder = folder.display();
                    let text = format!("`{folder}` has the key {}", list(&kept));
                    Stop::new(Stop::FAILED, text).hint(REMEDY)
                }
                error => stop(&error),
            })?;
            let signer: Arc<dyn Signer> = Arc::new(signer);
            make_own(&self.data, &own)?;
            // A crash in here leaves an unused key, then a log whose head is not signed yet: the
            // first is used again, the second is finished by `serve`.
            let log = Log::open(&LogConfig::of(&own), Some(signer));
            let log = log.map_err(|error| failed(&error))?;
            Ok(log.verifier_key().to_owned())
        })?;
        give(&own).map_err(|error| failed(&error))?;
        say("the log has begun: start the service with the same --data and --sign-dir");
        match self.json {
            true => print(json!({ "key": key })),
            false => print(key),
        }
    }
}

/// Makes the data folder, and the one in it that is the role `serve`'s own.
pub(super) fn make_own(data: &Path, own: &Path) -> Result<(), Stop> {
    let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
    let owner = privilege::is_root().then_some(SERVE_ID);
    roles::prepare(data, owner.map(|_| 0)).map_err(|error| failed(&error))?;
    roles::prepare_own(own, owner).map_err(|error| failed(&error))
}

/// What of a log lies in the folder that is the role `serve`'s own; nothing in one that is empty or
/// was left by a crash before a log began.
pub(super) fn lies_there(own: &Path) -> io::Result<Vec<String>> {
    let mut there = Vec::new();
    let config = LogConfig::of(own);
    if config.database.try_exists()? {
        there.extend(database(own));
    }
    for (path, what) in [
        (config.tiles.clone(), "tiles of a log"),
        (own.join("artifacts"), "binaries"),
    ] {
        let is_empty = match path.read_dir() {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if !is_empty {
            there.push(format!("{what} in `{}`", path.display()));
        }
    }
    Ok(there)
}

/// What a database says that is there.
fn database(own: &Path) -> Option<String> {
    let read = || -> Result<Option<String>, ArchiveError> {
        let archive = Archive::open(own)?;
        let Some(key) = archive.key()? else {
            return Ok(None);
        };
        let size = archive.newest()?.map_or(0, |head| head.tree.size);
        Ok(Some(format!("the log `{key}` of {size} records")))
    };
    let path = LogConfig::of(own).database;
    read().unwrap_or_else(|error| {
        Some(format!(
            "`{}`, which cannot be read ({error})",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::durable;

    #[test]
    fn what_lies_in_a_folder_is_named_and_a_crash_before_the_log_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (own, sign) = (folder.path().join("own"), folder.path().join("sign"));
        let config = LogConfig::of(&own);
        assert!(lies_there(&own).unwrap().is_empty());
        durable::create_folder(&own.join("artifacts"), 0o700).unwrap();
        drop(crate::store::db::open(&config.database).unwrap());
        assert!(lies_there(&own).unwrap().is_empty());
        let log = Log::open_local(&config, &sign, "log.example.org").unwrap();
        let key = log.verifier_key().to_owned();
        drop(log);
        durable::create_folder(&config.tiles.join("0"), 0o700).unwrap();
        durable::write_new(&own.join("artifacts/x"), b"", 0o600).unwrap();
        let there = lies_there(&own).unwrap();
        assert_eq!(there[0], format!("the log `{key}` of 1 records"));
        assert!(
            there[1].contains("tiles") && there[2].contains("binaries"),
            "{there:?}"
        );
        durable::replace(&config.database, &[b'x'; 4096], 0o600).unwrap();
        assert!(lies_there(&own).unwrap()[0].contains("cannot be read"));
    }
}
