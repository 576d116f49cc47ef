//! Progress of a build on stderr: a line for each phase, and a counter on terminals.

use std::io::{IsTerminal as _, Write as _};

use tokio::sync::mpsc;

use super::say;
use crate::build::{Phase, Progress};

/// Messages that wait to be shown; more are dropped, as progress may be lost.
const QUEUE_MAX: usize = 256;

/// Starts a task that shows progress until all senders are gone.
pub(super) fn show(title: String) -> (mpsc::Sender<Progress>, tokio::task::JoinHandle<()>) {
    start(title, true)
}

/// As [`show`], without what the program prints, which the caller shows as a whole.
pub(super) fn quiet(title: String) -> (mpsc::Sender<Progress>, tokio::task::JoinHandle<()>) {
    start(title, false)
}

fn start(title: String, output: bool) -> (mpsc::Sender<Progress>, tokio::task::JoinHandle<()>) {
    let (sender, mut queue) = mpsc::channel(QUEUE_MAX);
    let task = tokio::spawn(async move {
        let mut shown = Shown {
            title,
            terminal: std::io::stderr().is_terminal(),
            modules: 0,
        };
        while let Some(progress) = queue.recv().await {
            if output || !matches!(progress, Progress::Output { .. }) {
                shown.take(progress);
            }
        }
        shown.clear();
    });
    (sender, task)
}

struct Shown {
    title: String,
    terminal: bool,
    modules: usize,
}

impl Shown {
    fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Phase { phase } => {
                self.clear();
                say(format_args!("{}", self.phase(phase)));
            }
            Progress::Bytes { bytes, bytes_total } => {
                let total = bytes_total
                    .map(|n| format!(" of {}", n >> 20))
                    .unwrap_or_default();
                self.counter(&format!("  {}{total} MiB", bytes >> 20));
            }
            Progress::Module { module } => {
                self.modules += usize::from(module.h1.is_some());
                self.counter(&format!("  {} modules verified", self.modules));
            }
            Progress::Output { output } => {
                self.clear();
                let text = output.terminal();
                say(format_args!("{}", text.strip_suffix('\n').unwrap_or(&text)));
            }
        }
    }

    fn phase(&self, phase: Phase) -> String {
        let Self { title, .. } = self;
        match phase {
            Phase::Sdk => format!("{title}: fetching and verifying the Go SDK (once)"),
            Phase::StandardLibrary => format!("{title}: compiling the standard library (once)"),
            Phase::Build => format!("{title}: building"),
            Phase::Gate => format!("{title}: checking the binary"),
        }
    }

    /// Overwrites the last line; only on a terminal.
    fn counter(&self, text: &str) {
        if self.terminal {
            let _closed = write!(std::io::stderr().lock(), "\r\x1b[K{text}");
        }
    }

    fn clear(&self) {
        self.counter("");
    }
}
