//! The signers' folder, for the commands that make, use or end a log's key.
//!
//! Whatever touches a key does so in the role `sign`, which owns the folder: so files have the same
//! owner and modes whoever makes them. Must never read a secret in the process of the command.

use std::path::{Path, PathBuf};

use clap::Args;
use hotcell_sandbox::privilege;

use super::{Stop, xdg};
use crate::{
    log::{Operator, SignError, sign::SignStart},
    roles,
};

/// Where the signer's state lies when started as root.
const SIGN_DIR: &str = "/var/lib/hotcell-sign";

/// Where the keys are.
#[derive(Debug, Args)]
pub(super) struct SignDir {
    /// Where the keys and the last signed head lie [default: /var/lib/hotcell-sign, or below
    /// $XDG_STATE_HOME/hotcell without root]
    #[arg(long, value_name = "DIR")]
    sign_dir: Option<PathBuf>,
}

impl SignDir {
    /// The folder.
    pub(super) fn path(&self) -> Result<PathBuf, Stop> {
        match &self.sign_dir {
            Some(path) => Ok(path.clone()),
            None if privilege::is_root() => Ok(PathBuf::from(SIGN_DIR)),
            None => Ok(xdg("XDG_STATE_HOME", ".local/state")?.join("sign")),
        }
    }

    /// The folder, which lies outside of the data folder: a backup of that must not reach it.
    pub(super) fn outside(&self, data: &Path) -> Result<PathBuf, Stop> {
        let keys = self.path()?;
        let whole = |path: &Path| {
            std::path::absolute(path).map_err(|error| Stop::chain(Stop::FAILED, &error))
        };
        if whole(&keys)?.starts_with(whole(data)?) {
            let text = "the signing keys must not lie in the data folder";
            return Err(Stop::new(Stop::USAGE, text).hint("choose another --sign-dir"));
        }
        Ok(keys)
    }
}

/// Starts the role in this folder, for as long as `work` asks it, and waits for its end: the keys
/// are unlocked then. What `work` returns must not hold the role.
pub(super) fn with_role<T>(
    folder: &Path,
    work: impl FnOnce(Operator) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let mut children = Vec::new();
    let start = SignStart { operator: true };
    let channel = roles::start_sign(folder, &start, &mut children);
    let channel = channel.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
    let operator = Operator::new(channel).map_err(|error| stop(&error));
    let done = operator.and_then(work);
    for (_, mut child) in children {
        let _status = child.wait(); // its socket is closed by now
    }
    done
}

/// What the signer refused.
pub(super) fn stop(error: &SignError) -> Stop {
    let stop = Stop::chain(Stop::FAILED, error);
    match error {
        SignError::Locked => stop.hint("stop the service that uses this key first"),
        _ => stop,
    }
}

/// Checks the name of a log's key, which is the host name of its service.
pub(super) fn check_name(name: &str) -> Result<(), Stop> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    if (1..=253).contains(&name.len()) && name.bytes().all(ok) {
        return Ok(());
    }
    Err(Stop::new(Stop::USAGE, "--name is no host name").hint("write it as build.example.org"))
}
