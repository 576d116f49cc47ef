//! `hotcell log`: the transparency log, from outside.

use std::{
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Network, Stop, build, init::Init, keygen::Keygen, local::Local, print, proof::Proof,
    recover::Recover, say, succeed::Succeed, xdg,
};
use crate::{
    audit::{self, AuditError, Audited, FollowError, Lie, Percent, Sampled, Told},
    build::Engine,
    proxy,
    receipt::Follows,
    tlog::VerifierKey,
};

#[derive(Debug, Subcommand)]
pub(super) enum Log {
    Audit(Audit),
    Follow(Follow),
    Keygen(Keygen),
    Init(Init),
    Proof(Proof),
    Recover(Recover),
    Succeed(Succeed),
}

/// Compute everything that a log says again from its leaves, and compare
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Address of the log (https://NAME/tlog), or the data folder of `serve`, which may run
    #[arg(value_name = "URL|DIR")]
    log: String,
    /// Key of the log, from where you trust it [default: the one used before for this host; for a
    /// folder the one that it names]
    #[arg(long, value_name = "KEY")]
    verifierkey: Option<String>,
    /// Build this share of all builds again, chosen by the signed root, and compare the sums
    #[arg(long, value_name = "PERCENT", value_parser = Percent::parse)]
    rebuild: Option<Percent>,
    /// Where the evidence of a lie goes [default: hotcell-evidence-HASH.json, here]
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

impl Log {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        match self {
            Self::Audit(audit) => audit.run(network),
            Self::Follow(follow) => follow.run(),
            Self::Keygen(keygen) => keygen.run(),
            Self::Init(init) => init.run(),
            Self::Proof(proof) => proof.run(),
            Self::Recover(recover) => recover.run(),
            Self::Succeed(succeed) => succeed.run(),
        }
    }
}

/// Print each new record as a line of JSON, proved, until interrupted
///
/// The heads must continue the one that this user has kept. The place is kept too: another run goes
/// on where this one has stopped, and may tell the last records again.
#[derive(Debug, Args)]
pub(super) struct Follow {
    /// Address of the log (https://NAME/tlog)
    url: String,
    /// The leaf to begin with [default: where the last run has stopped, else 0]
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// Key of the log, from where you trust it [default: the one used before for this host]
    #[arg(long, value_name = "KEY")]
    verifierkey: Option<String>,
    /// Where the evidence of a lie goes [default: hotcell-evidence-HASH.json, here]
    #[arg(long, value_name = "FILE")]
    evidence: Option<PathBuf>,
}

impl Follow {
    fn run(self) -> Result<(), Stop> {
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let state = xdg("XDG_STATE_HOME", ".local/state")?;
        let key = match &self.verifierkey {
            Some(key) => audit::parse_key(key),
            None => audit::known_key(&self.url, &state),
        };
        let key = key.map_err(|error| stop(&error))?;
        let http = proxy::Http::new(proxy::Http::STALL).map_err(|error| failed(&error))?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
        let tell = |told: Told<'_>| match told {
            Told::Line(line) => writeln!(std::io::stdout().lock(), "{line}"),
            Told::Note(note) => {
                say(note);
                Ok(())
            }
        };
        let followed = runtime.block_on(async {
            let follow = audit::follow(&self.url, &key, &state, self.from, Arc::new(http), tell);
            tokio::select! {
                followed = follow => followed.err(),
                _ = tokio::signal::ctrl_c() => None,
            }
        });
        match followed {
            None => Ok(()),
            Some(FollowError::Audit(AuditError::Lie(lie))) => Err(caught(
                Some(&key),
                &lie,
                &self.url,
                self.evidence.as_deref(),
            )),
            Some(FollowError::Audit(error)) => Err(stop(&error)),
            Some(FollowError::Tell(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Some(error) => Err(failed(&error)),
        }
    }
}

/// What became of the builds that were made again.
#[derive(Debug, Default)]
struct Rebuilt {
    same: u64,
    /// Index and why it could not be judged.
    unjudged: Vec<(u64, String)>,
}

impl Audit {
    fn run(self, network: &Network) -> Result<(), Stop> {
        let key = self.verifierkey.as_deref().map(audit::parse_key);
        let key = key.transpose().map_err(|error| stop(&error))?;
        let Some(percent) = self.rebuild else {
            let runtime = tokio::runtime::Runtime::new();
            let runtime = runtime.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
            let audited = runtime.block_on(self.audit(key.as_ref(), Percent::NONE))?;
            return self.report(&audited, None);
        };
        // Roles must be started before any thread exists.
        Local::start(network, None, false)?.run(async |engine| {
            let audited = self.audit(key.as_ref(), percent).await?;
            let rebuilt = self.rebuild(&engine, &audited).await?;
            self.report(&audited, Some(&rebuilt))
        })
    }

    async fn audit(&self, key: Option<&VerifierKey>, percent: Percent) -> Result<Audited, Stop> {
        if !self.log.contains("://") {
            let audited = audit::audit_folder(Path::new(&self.log), key, percent).await;
            return audited.map_err(|error| self.failed(key, &error));
        }
        let state = xdg("XDG_STATE_HOME", ".local/state")?;
        let known;
        let key = match key {
            Some(key) => key,
            None => {
                known = audit::known_key(&self.log, &state).map_err(|error| stop(&error))?;
                &known
            }
        };
        let http = proxy::Http::new(proxy::Http::STALL);
        let http = http.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        let audited = audit::audit_url(&self.log, key, &state, percent, Arc::new(http)).await;
        audited.map_err(|error| self.failed(Some(key), &error))
    }

    /// Builds the sample again, one after the other. What cannot be built here says nothing about
    /// the log, good or bad.
    async fn rebuild(&self, engine: &Engine, audited: &Audited) -> Result<Rebuilt, Stop> {
        let mut rebuilt = Rebuilt::default();
        for sampled in &audited.sample {
            let Sampled {
                index,
                record,
                sha256,
            } = sampled;
            say(format_args!("building {} again", record.key));
            let nowhere = build::Artifact::temporary()?;
            match build::build(engine, &record.key, None, &nowhere).await {
                Ok(built) if built.sha256 == *sha256 && built.size == record.size => {
                    rebuilt.same += 1;
                }
                Ok(built) => {
                    let lie = audit::other_binary(sampled, &built.sha256, built.size);
                    return Err(self.lie(Some(&audited.key), &lie));
                }
                Err(stop) => {
                    say(format_args!("not judged: {}", stop.text));
                    rebuilt.unjudged.push((*index, stop.text));
                }
            }
        }
        Ok(rebuilt)
    }

    fn report(&self, audited: &Audited, rebuilt: Option<&Rebuilt>) -> Result<(), Stop> {
        for warning in &audited.warnings {
            say(format_args!("warning: {warning}"));
        }
        if self.json {
            let mut document = audited.json();
            if let Some(Rebuilt { same, unjudged }) = rebuilt {
                let unjudged: Vec<_> = unjudged
                    .iter()
                    .map(|(index, why)| json!({ "index": index, "why": why }))
                    .collect();
                document["rebuilt"] = json!({ "same": same, "unjudged": unjudged });
            }
            return print(document);
        }
        let Audited {
            key,
            tree,
            builds,
            heads,
            tiles,
            ..
        } = audited;
        let text = format!(
            "the log `{}` is as it was signed\n\
             leaves\t{}\nbuilds\t{builds}, each with a key of its own\nheads\t{heads}\n\
             tiles\t{tiles}\nroot\t{}",
            key.name(),
            tree.size,
            tree.root
        );
        print(text)?;
        if let Some(Follows { log, tree, .. }) = &audited.follows {
            let (size, root) = (tree.size, tree.root);
            print(format_args!(
                "follows\t{log}, which ended at {size} records, {root}"
            ))?;
        }
        match rebuilt {
            Some(Rebuilt { same, unjudged }) => print(format_args!(
                "rebuilt\t{same} with the same sum, {} not judged",
                unjudged.len()
            )),
            None => Ok(()),
        }
    }

    fn failed(&self, key: Option<&VerifierKey>, error: &AuditError) -> Stop {
        match error {
            AuditError::Lie(lie) => self.lie(key, lie),
            error => stop(error),
        }
    }

    fn lie(&self, key: Option<&VerifierKey>, lie: &Lie) -> Stop {
        caught(key, lie, &self.log, self.evidence.as_deref())
    }
}

/// How a command ends that has caught a lie, once the evidence is kept.
pub(super) fn caught(
    key: Option<&VerifierKey>,
    lie: &Lie,
    log: &str,
    evidence: Option<&Path>,
) -> Stop {
    let stop = Stop::new(Stop::WRONG, lie);
    match lie.keep(key, log, evidence) {
        Ok(path) => stop.hint(format!(
            "the evidence is in `{}`; show it to others, and do not use this log",
            path.display()
        )),
        Err(error) => {
            let evidence = lie.json(key, log);
            say(format_args!("{}: {evidence}", Stop::chain(1, &error).text));
            stop
        }
    }
}

pub(super) fn stop(error: &AuditError) -> Stop {
    Stop::chain(error.exit_code(), error)
}
