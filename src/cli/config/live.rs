//! The file of a service that runs: read again at each SIGHUP.
//!
//! What the operator says and allows is taken over at once; all else is named and waits for the
//! next start. A file that cannot be read or has a mistake changes nothing. The text comes from the
//! role `config`, as `serve` can reach no file outside of its folder.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Child,
};

use clap::Args;
use hotcell_sandbox::channel::Channel;
use tokio::{signal::unix::Signal, sync::watch};
use tracing::{error, info, warn};

use super::{Mistake, Stop, file::Settings};
use crate::{
    channel::AsyncChannel,
    roles::{self, Text},
    serve::Told,
};

/// Keys that are taken over while the service runs.
pub(super) const LIVE: [&str; 9] = [
    "notes",
    "contact",
    "allow-module",
    "deny-module",
    "go-min",
    "go-max",
    "bad-client",
    "rate",
    "withdrawn",
];

/// Most notes; a page shows all of them.
const NOTES_MAX: usize = 16;
/// Longest note or contact, in bytes.
const WORDS_BYTES_MAX: usize = 500;

/// What the operator says to visitors.
#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Words {
    /// A sentence for the home page and the page of the instance; may be given again
    #[arg(long, value_name = "TEXT", value_parser = words)]
    notes: Vec<String>,
    /// How the operator is reached, for the page of the instance, such as an address for abuse
    #[arg(long, value_name = "TEXT", value_parser = words)]
    contact: Option<String>,
}

impl Words {
    pub(in crate::cli) fn told(&self) -> Told {
        Told {
            notes: self.notes.clone(),
            contact: self.contact.clone(),
            ..Told::default()
        }
    }

    /// Few notes.
    pub(in crate::cli) fn check(&self) -> Result<(), Stop> {
        if self.notes.len() <= NOTES_MAX {
            return Ok(());
        }
        let text = format!(
            "there are {} notes, and {NOTES_MAX} at most",
            self.notes.len()
        );
        Err(Stop::new(Stop::USAGE, text).hint("say it with fewer of them"))
    }
}

fn words(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.len() > WORDS_BYTES_MAX || text.contains(char::is_control) {
        return Err(format!("it is one line of 1 to {WORDS_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

/// What is needed to understand the file again.
pub(in crate::cli) struct Live {
    path: PathBuf,
    folder: PathBuf,
    arguments: Vec<OsString>,
    /// Keys that the command line gives.
    given: BTreeSet<String>,
    /// What the file said at the start, but for live keys: those are as they are in force.
    in_force: Settings,
}

/// What a file that was read again changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) told: Told,
    /// Keys that are in force now.
    pub(super) applied: Vec<String>,
    /// Keys that wait for the next start.
    pub(super) waiting: Vec<String>,
    /// Keys that the command line gives.
    pub(super) hidden: Vec<String>,
}

impl Live {
    pub(super) fn new(
        path: &Path,
        folder: PathBuf,
        arguments: Vec<OsString>,
        given: BTreeSet<String>,
        in_force: Settings,
    ) -> Self {
        Self {
            path: path.to_owned(),
            folder,
            arguments,
            given,
            in_force,
        }
    }

    /// Starts the role that reads. Called before any thread exists and while there is power.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(in crate::cli) fn start(
        self,
        children: &mut Vec<(&'static str, Child)>,
    ) -> Result<Reading, Stop> {
        let name = self.path.file_name().unwrap_or_default();
        let channel = roles::start_config(&self.folder, Path::new(name), children);
        let channel = channel.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        Ok(Reading {
            live: self,
            channel,
        })
    }

    /// Compares a new text with what is in force.
    ///
    /// # Errors
    /// All its mistakes; nothing is changed then.
    pub(super) fn read(&mut self, text: &str) -> Result<Changes, Vec<Mistake>> {
        let new = Settings::parse(text, &self.folder)?;
        let (serve, _) = new
            .over(self.arguments.clone(), &self.given)
            .map_err(|what| vec![Mistake::of(0, "", &Stop::new(Stop::USAGE, what))])?;
        let mut changes = Changes {
            told: serve.told(),
            ..Changes::default()
        };
        for name in new.differ(&self.in_force) {
            let list = match () {
                () if self.given.contains(&name) => &mut changes.hidden,
                () if LIVE.contains(&&*name) => &mut changes.applied,
                () => &mut changes.waiting,
            };
            list.push(name);
        }
        for name in LIVE {
            self.in_force.take(name, &new);
        }
        Ok(changes)
    }
}

/// A file that can be read again.
pub(in crate::cli) struct Reading {
    live: Live,
    channel: Channel,
}

impl Reading {
    /// Reads the file again at each signal, for as long as the role lives.
    pub(in crate::cli) async fn run(self, mut hangup: Signal, tell: watch::Sender<Told>) {
        let Self { mut live, channel } = self;
        let path = live.path.display().to_string();
        let channel = match AsyncChannel::new(channel) {
            Ok(channel) => channel,
            Err(cause) => return error!("`{path}` will not be read again: {cause}"),
        };
        while hangup.recv().await.is_some() {
            let Some(text) = roles::read_again::<Text>(&channel).await else {
                return error!("`{path}` will not be read again: role `config` is gone");
            };
            match text {
                Err(why) => error!("`{path}` {why}; nothing was changed"),
                Ok(text) => trace(&mut live, &text, &tell),
            }
        }
    }
}

/// Takes over what can be, and tells of all of it.
fn trace(live: &mut Live, text: &str, tell: &watch::Sender<Told>) {
    let path = live.path.clone();
    let changes = match live.read(text) {
        Ok(changes) => changes,
        Err(mistakes) => {
            for mistake in mistakes {
                error!("{}", mistake.at(&path));
            }
            return error!("`{}` has mistakes; nothing was changed", path.display());
        }
    };
    tell.send_replace(changes.told);
    for name in &changes.applied {
        info!(key = %name, "`{name}` changed: it is in force");
    }
    for name in &changes.waiting {
        warn!(key = %name, "`{name}` changed: it takes effect at the next start");
    }
    for name in &changes.hidden {
        warn!(key = %name, "`{name}` changed: the command line counts instead");
    }
    info!("`{}` was read again", path.display());
}
