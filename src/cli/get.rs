//! `hotcell get`: fetch from an instance, believe nothing that cannot be checked.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::{ArgAction, Args};

use super::{Stop, print, say, xdg};
use crate::{
    get::{self, Http},
    proxy,
};

/// What the exit codes mean, below the options.
const AFTER: &str = "Exit codes: 0 fetched and verified; 1 the instance refuses, has no such \
                     build or has withdrawn it, and says why; 2 usage; 3 a proof, signature or \
                     hash is wrong; 4 try again later.";

/// A lookup may wait for a whole build: the wall clock of a build, and a queue before it.
const LOOKUP_SILENCE: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(super) struct Get {
    /// `module@version/package` or `package@version`
    spec: String,
    /// Key of the instance's log, as its page and `serve` show it
    #[arg(long, value_name = "KEY")]
    verifierkey: String,
    /// Address of the log [default: https://NAME/tlog from the key, or http://NAME:8000/tlog when
    /// NAME has no dot]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The sum that the binary must have
    #[arg(long, value_name = "SUM")]
    sum: Option<String>,
    /// Operating system and architecture, such as windows/amd64 [default: this machine]
    #[arg(long, value_name = "OS/ARCH")]
    target: Option<String>,
    /// Go release, such as go1.26.8 or latest
    #[arg(long, value_name = "VERSION")]
    go: Option<String>,
    /// Linked without symbol table and debug information
    #[arg(long)]
    stripped: bool,
    /// Where the binary goes
    #[arg(long, value_name = "DIR", default_value = ".")]
    bindir: PathBuf,
    /// false: verify the record only
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    download: bool,
    /// The instance is gobuild's: without a companion record, 160 bits of the hash are all there is
    #[arg(long)]
    gobuild: bool,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Get {
    pub(super) fn run(self) -> Result<(), Stop> {
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let state = xdg("XDG_STATE_HOME", ".local/state")?;
        let json = self.json;
        let http = Http {
            lookup: Arc::new(proxy::Http::new(LOOKUP_SILENCE).map_err(|error| failed(&error))?),
            rest: Arc::new(proxy::Http::new(proxy::Http::STALL).map_err(|error| failed(&error))?),
        };
        let request = self.request();
        let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
        let got = runtime.block_on(get::get(&request, &state, &http));
        let got = got.map_err(|error| Stop::chain(error.exit_code(), &error))?;
        for warning in &got.warnings {
            say(format_args!("warning: {warning}"));
        }
        if let (Some(path), Some(receipt)) = (&got.path, &got.receipt) {
            let (path, receipt) = (path.display(), receipt.display());
            say(format_args!(
                "receipt: {receipt}; `hotcell verify {path}` proves it without a network"
            ));
        }
        if json {
            return print(got.json());
        }
        let place = got
            .path
            .as_ref()
            .map_or("-".to_owned(), |path| path.display().to_string());
        let (sum, index, size) = (got.record.sum, got.index, got.tree.size);
        print(format_args!("{place}\t{sum}\trecord {index} of {size}"))
    }

    fn request(self) -> get::Request {
        get::Request {
            spec: self.spec,
            verifier_key: self.verifierkey,
            url: self.url,
            sum: self.sum,
            target: self.target,
            go: self.go,
            stripped: self.stripped,
            bindir: self.bindir,
            download: self.download,
            gobuild: self.gobuild,
        }
    }
}
