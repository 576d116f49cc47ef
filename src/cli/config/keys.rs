//! The keys of the file: the options of `serve`, as the command line has them.
//!
//! Called by everything else here. Must never know a key of its own.

use std::{any::TypeId, error::Error as _, ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, Args as _, Command};

use super::{Network, Serve};

/// Options that are no keys: the file itself.
const NO_KEYS: [&str; 1] = ["config"];
/// How much a name must be like another one to be what somebody meant; that of clap.
const LIKENESS_MIN: f64 = 0.7;

/// What can be written for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// A file or folder.
    Path,
    Text,
    /// A list of texts.
    Texts,
}

/// All keys.
pub(super) struct Keys(Command);

impl Keys {
    pub(super) fn new() -> Self {
        let command = Command::new("serve").no_binary_name(true);
        let command = command.disable_help_flag(true);
        Self(Network::augment_args(Serve::augment_args(command)))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = Key<'_>> {
        self.0.get_arguments().filter_map(|arg| {
            let name = arg.get_long().filter(|name| !NO_KEYS.contains(name))?;
            Some(Key { name, arg })
        })
    }

    pub(super) fn find(&self, name: &str) -> Option<Key<'_>> {
        self.all().find(|key| key.name == name)
    }

    /// The key that was meant, most likely.
    pub(super) fn nearest(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase().replace('_', "-");
        let near = self.all().map(|key| (strsim::jaro(&name, key.name), key));
        let near = near.filter(|(likeness, _)| *likeness > LIKENESS_MIN);
        near.max_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, key)| key.name)
    }

    /// Why the option does not take this value, when it does not.
    pub(super) fn refusal(&self, key: &Key<'_>, value: &OsString) -> Option<String> {
        let tried = self.0.clone().try_get_matches_from([key.option(value)]);
        let error = tried.err()?;
        Some(match error.source() {
            Some(cause) => cause.to_string(),
            None => {
                let text = error.to_string();
                let line = text.lines().next().unwrap_or_default();
                line.trim_start_matches("error: ").to_owned()
            }
        })
    }
}

/// One key.
pub(super) struct Key<'a> {
    pub(super) name: &'a str,
    arg: &'a Arg,
}

impl Key<'_> {
    /// What the command line calls it inside.
    pub(super) fn id(&self) -> &str {
        self.arg.get_id().as_str()
    }

    pub(super) fn kind(&self) -> Kind {
        let value = self.arg.get_value_parser().type_id();
        let is = |id| value == id;
        match self.arg.get_action() {
            ArgAction::SetTrue => Kind::Switch,
            ArgAction::Append => Kind::Texts,
            _ if is(TypeId::of::<usize>()) || is(TypeId::of::<u64>()) => Kind::Number,
            _ if is(TypeId::of::<PathBuf>()) => Kind::Path,
            _ => Kind::Text,
        }
    }

    /// Its meaning, as `--help` has it.
    pub(super) fn help(&self) -> String {
        let help = self.arg.get_long_help().or_else(|| self.arg.get_help());
        help.map(ToString::to_string).unwrap_or_default()
    }

    /// The value that it has without a line, when it is a fixed one.
    pub(super) fn default(&self) -> Option<String> {
        let mut values = self.arg.get_default_values().iter();
        values
            .next()
            .map(|value| value.to_string_lossy().into_owned())
    }

    /// `--name=value`
    pub(super) fn option(&self, value: &OsString) -> OsString {
        let mut option = OsString::from(format!("--{}", self.name));
        if self.kind() != Kind::Switch {
            option.push("=");
            option.push(value);
        }
        option
    }

    /// The line that means the same as no line.
    pub(super) fn line(&self) -> String {
        let value = match (self.kind(), self.default()) {
            (Kind::Switch, _) => "false".to_owned(),
            (Kind::Texts, _) => "[]".to_owned(),
            (Kind::Number, Some(number)) => number,
            (_, text) => format!("\"{}\"", text.unwrap_or_default()),
        };
        format!("{} = {value}", self.name)
    }

    /// An example of a line, in the words of `--help`.
    pub(super) fn example(&self) -> String {
        let names = self.arg.get_value_names().unwrap_or_default();
        let word = names.first().map_or("…", |name| name.as_str());
        let name = self.name;
        match (self.kind(), self.default()) {
            (Kind::Switch, _) => format!("{name} = true"),
            (Kind::Number, _) => format!("{name} = 4"),
            (Kind::Texts, _) => format!("{name} = [\"{word}\"]"),
            (_, Some(default)) => format!("{name} = \"{default}\""),
            (_, None) => format!("{name} = \"{word}\""),
        }
    }
}
