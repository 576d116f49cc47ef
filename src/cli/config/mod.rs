//! The configuration file of `serve`, and the commands `config` and `testconfig`.
//!
//! Each option of `serve` is a key of the file: name, meaning, default and parser of a key are
//! those of the option, and stand nowhere else. [`keys`] finds them, [`mod@file`] reads a file,
//! [`mod@print`] writes one, [`merge`] puts it below the command line, [`live`] reads it again.
//! Called by [`super::serve`] and the command line; must never show a value, as a proxy's address
//! may hold a password.

mod file;
mod keys;
mod live;
mod merge;
mod print;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::Args;

pub(super) use live::{Live, Reading, Words};
pub(super) use merge::with_file;

use super::{Network, Stop, print as print_line, say, serve::Serve};
use crate::roles::read_config;
use file::Settings;

/// Print the configuration file of `serve`: every key with its meaning and default
#[derive(Debug, Args)]
pub(super) struct Config {}

impl Config {
    /// # Errors
    /// When stdout is closed.
    pub(super) fn run(self) -> Result<(), Stop> {
        print_line(print::commented().trim_end())
    }
}

/// Check a configuration file and say what `serve` would do with it; nothing is started
#[derive(Debug, Args)]
pub(super) struct TestConfig {
    /// The file
    file: PathBuf,
}

impl TestConfig {
    /// # Errors
    /// When the file cannot be read or has mistakes, which were told by then.
    pub(super) fn run(self) -> Result<(), Stop> {
        let (settings, folder) = load(&self.file)?;
        let (serve, _) = settings
            .alone()
            .map_err(|text| Stop::new(Stop::USAGE, text))?;
        let mut mistakes = Vec::new();
        for (key, stop) in serve.wrong_here() {
            let mistake = Mistake::of(settings.line(&[key]), key, &stop);
            mistakes.push(mistake);
        }
        if !mistakes.is_empty() {
            return Err(refuse(&self.file, &mistakes));
        }
        let (file, folder) = (self.file.display(), folder.display());
        print_line(format_args!("{file}: {}", serve.summary()))?;
        say(format_args!("relative paths in it are taken from {folder}"));
        Ok(())
    }
}

/// Reads and checks a file; also tells the folder from which its paths are taken.
fn load(path: &Path) -> Result<(Settings, PathBuf), Stop> {
    let unreadable = |why: &dyn fmt::Display| {
        Stop::new(Stop::USAGE, format!("`{}` {why}", path.display()))
            .hint("hotcell config prints a file to begin with")
    };
    let text = read_config(path).map_err(|why| unreadable(&why))?;
    let whole = std::path::absolute(path).map_err(|why| unreadable(&why))?;
    let folder = whole.parent().unwrap_or(Path::new("/")).to_owned();
    let settings = Settings::parse(&text, &folder).map_err(|all| refuse(path, &all))?;
    Ok((settings, folder))
}

/// Tells all mistakes, a line each.
fn refuse(path: &Path, mistakes: &[Mistake]) -> Stop {
    for mistake in mistakes {
        say(mistake.at(path));
    }
    let text = match mistakes.len() {
        1 => "there is a mistake in the configuration file".to_owned(),
        count => format!("there are {count} mistakes in the configuration file"),
    };
    Stop::new(Stop::USAGE, text).hint("hotcell config explains every key")
}

/// Something in a file that cannot stay so.
#[derive(Debug, PartialEq, Eq)]
struct Mistake {
    /// From 1; 0 when it is about no line.
    line: usize,
    /// Empty when it is about no key.
    key: String,
    what: String,
    /// What to write instead; may be empty.
    remedy: String,
}

impl Mistake {
    /// From a check of the command line.
    fn of(line: usize, key: &str, stop: &Stop) -> Self {
        Self {
            line,
            key: key.to_owned(),
            what: stop.text.clone(),
            remedy: stop.hint.clone().unwrap_or_default(),
        }
    }

    /// `FILE:LINE: KEY: what is wrong: what to write`
    fn at(&self, path: &Path) -> String {
        let mut text = path.display().to_string();
        if self.line > 0 {
            text += &format!(":{}", self.line);
        }
        for part in [&self.key, &self.what, &self.remedy] {
            if !part.is_empty() {
                text += &format!(": {part}");
            }
        }
        text
    }
}
