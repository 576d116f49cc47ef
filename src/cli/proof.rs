//! `hotcell log proof`: the proof of one leaf as a text that others can verify without a network.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::json;

use super::{
    Stop,
    log::{caught, stop},
    print, say, xdg,
};
use crate::{
    audit::{self, AuditError, Proven, Which},
    output::Output,
    proxy,
    store::durable,
};

/// Prove that one record is in a log, as a C2SP tlog-proof
///
/// The proof is made here, from a checkpoint that the log's key has signed and tiles that belong to
/// it. Whoever has the key verifies it offline, with any program that knows c2sp.org/tlog-proof;
/// the record itself is told beside it. Nothing is built for it.
#[derive(Debug, Args)]
pub(super) struct Proof {
    /// Address of the log (https://NAME/tlog), or the data folder of `serve`, which may run
    #[arg(value_name = "URL|DIR")]
    log: String,
    /// Index of the leaf, or the key of its record: module@version/package/goos-goarch-goversion/
    #[arg(value_name = "INDEX|KEY")]
    leaf: String,
    /// Key of the log, from where you trust it [default: the one used before for this host; for a
    /// folder the one that it names]
    #[arg(long, value_name = "KEY")]
    verifierkey: Option<String>,
    /// Write the proof to this file, not to stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Proof {
    pub(super) fn run(self) -> Result<(), Stop> {
        let which = Which::parse(&self.leaf)?;
        let key = self.verifierkey.as_deref().map(audit::parse_key);
        let mut key = key.transpose().map_err(|error| stop(&error))?;
        let is_url = self.log.contains("://");
        if is_url && key.is_none() {
            let state = xdg("XDG_STATE_HOME", ".local/state")?;
            let known = audit::known_key(&self.log, &state);
            key = Some(known.map_err(|error| stop(&error))?);
        }
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
        let proven = match (&key, is_url) {
            (Some(key), true) => {
                let http = proxy::Http::new(proxy::Http::STALL).map_err(|error| failed(&error))?;
                let http = Arc::new(http);
                runtime.block_on(audit::prove_url(&self.log, key, &which, http))
            }
            (key, _) => {
                let folder = Path::new(&self.log);
                runtime.block_on(audit::prove_folder(folder, key.as_ref(), &which))
            }
        };
        let proven = proven.map_err(|error| match error {
            AuditError::Lie(lie) => caught(key.as_ref(), &lie, &self.log, None),
            error => stop(&error),
        })?;
        self.report(&proven)
    }

    fn report(&self, proven: &Proven) -> Result<(), Stop> {
        let Proven { proof, tree, text } = proven;
        let (proof, index) = (proof.to_string(), proof.index);
        if let Some(path) = &self.output {
            let written = durable::replace(path, proof.as_bytes(), durable::PUBLIC);
            written.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        }
        if self.json {
            return print(json!({
                "index": index,
                "text": text,
                "size": tree.size,
                "root": tree.root.to_string(),
                "proof": proof,
            }));
        }
        // The log's words are shown as those of a stranger.
        let text = Output::from(text.trim_end_matches('\n').as_bytes().to_vec());
        say(format_args!(
            "leaf {index} of {}:\n{}",
            tree.size,
            text.terminal()
        ));
        if self.output.is_some() {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        let written = out.write_all(proof.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| Stop::new(Stop::FAILED, format!("cannot write to stdout: {error}")))
    }
}
