//! A configuration file as text, and what it sets.
//!
//! Called at the start, by `testconfig`, and when the file is read again. Must never look at
//! anything but the text: what a running service reads again, it reads without any power.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    ops::Range,
    path::Path,
};

use clap::Parser as _;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    super::{Cli, Command},
    Mistake, Network, Serve, Stop,
    keys::{Key, Keys, Kind},
};

/// What a file sets, by the names of its keys. No `Debug`: values may hold passwords.
#[derive(Clone, Default)]
pub(super) struct Settings {
    values: BTreeMap<String, Vec<OsString>>,
    lines: BTreeMap<String, usize>,
}

impl Settings {
    /// Reads all lines; paths that are not absolute are taken from `folder`.
    ///
    /// # Errors
    /// All mistakes that the text has, in the order of its lines.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, Vec<Mistake>> {
        let keys = Keys::new();
        let at = |span: Range<usize>| {
            let before = text.bytes().take(span.start);
            1 + before.filter(|byte| *byte == b'\n').count()
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut mistakes: Vec<Mistake> = errors
            .iter()
            .map(|error| Mistake {
                line: error.span().map_or(0, at),
                key: String::new(),
                what: format!("is no TOML: {}", error.message()),
                remedy: "write KEY = VALUE, texts in double quotes, lists in brackets".to_owned(),
            })
            .collect();
        let broken: BTreeSet<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        let mut settings = Self::default();
        let mut wrong = BTreeSet::new();
        for (name, value) in table.get_ref() {
            let line = at(name.span());
            if broken.contains(&line) {
                wrong.insert(name.get_ref().to_string());
                continue;
            }
            match read(&keys, name.get_ref(), value, folder) {
                Ok(None) => {}
                Ok(Some(values)) => {
                    settings.lines.insert(name.get_ref().to_string(), line);
                    settings.values.insert(name.get_ref().to_string(), values);
                }
                Err((what, remedy)) => {
                    let key = name.get_ref().to_string();
                    wrong.insert(key.clone());
                    let mistake = Mistake {
                        line,
                        key,
                        what,
                        remedy,
                    };
                    mistakes.push(mistake);
                }
            }
        }
        mistakes.append(&mut settings.together(&wrong, !broken.is_empty()));
        mistakes.sort_by_key(|mistake| mistake.line);
        if mistakes.is_empty() {
            Ok(settings)
        } else {
            Err(mistakes)
        }
    }

    /// What is wrong with lines that are right one by one. Those that depend on a wrong line are
    /// not judged.
    fn together(&self, wrong: &BTreeSet<String>, broken: bool) -> Vec<Mistake> {
        let (serve, network) = match self.alone() {
            Ok(parsed) => parsed,
            Err(what) => return vec![Mistake::of(0, "", &Stop::new(Stop::USAGE, what))],
        };
        let judged = serve
            .wrong(&network)
            .into_iter()
            .filter(|(keys, _)| !broken && !keys.iter().any(|key| wrong.contains(*key)));
        judged
            .map(|(keys, stop)| Mistake::of(self.line(keys), self.first(keys), &stop))
            .collect()
    }

    /// The options that it stands for, without any command line.
    ///
    /// # Errors
    /// A sentence, when two keys cannot stand together.
    pub(super) fn alone(&self) -> Result<(Serve, Network), String> {
        let start = ["hotcell", "serve"].map(OsString::from);
        self.over(start, &BTreeSet::new())
    }

    /// The same below a command line, which has given some keys itself.
    ///
    /// # Errors
    /// As [`Settings::alone`].
    pub(super) fn over(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
        given: &BTreeSet<String>,
    ) -> Result<(Serve, Network), String> {
        let keys = Keys::new();
        let mut all: Vec<OsString> = arguments.into_iter().collect();
        let mut configuration = None;
        for (name, values) in self
            .values
            .iter()
            .filter(|(name, _)| !given.contains(*name))
        {
            let key = keys.find(name).expect("only keys were kept");
            if key.id() == "goproxy" {
                // The environment comes between the command line and the file.
                configuration = values.first().and_then(|value| value.to_str());
                continue;
            }
            all.extend(values.iter().map(|value| key.option(value)));
        }
        let cli = Cli::try_parse_from(all).map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.trim_start_matches("error: ").to_owned()
        })?;
        let mut network = cli.network;
        network.configuration = configuration.map(ToOwned::to_owned);
        match cli.command {
            Command::Serve(serve) => Ok((*serve, network)),
            _ => Err("a configuration file is for `serve`".to_owned()),
        }
    }

    /// The first of these keys that is there; when none is, the defaults do not fit the first.
    fn first<'a>(&self, keys: &[&'a str]) -> &'a str {
        let mut there = keys.iter().filter(|key| self.lines.contains_key(**key));
        there.next().copied().unwrap_or(keys[0])
    }

    /// The line of the first of these keys that has one.
    pub(super) fn line(&self, keys: &[&str]) -> usize {
        let mut lines = keys.iter().filter_map(|key| self.lines.get(*key));
        lines.next().copied().unwrap_or(0)
    }

    /// Takes one key as another file has it.
    pub(super) fn take(&mut self, name: &str, other: &Self) {
        match other.values.get(name) {
            Some(values) => self.values.insert(name.to_owned(), values.clone()),
            None => self.values.remove(name),
        };
    }

    /// Keys whose values differ.
    pub(super) fn differ(&self, other: &Self) -> BTreeSet<String> {
        let names = self.values.keys().chain(other.values.keys());
        let differs = |name: &&String| self.values.get(*name) != other.values.get(*name);
        names.filter(differs).cloned().collect()
    }
}

/// The values of one line, as the command line would have them; `None` when it says the default.
/// Else what is wrong, and what to write.
fn read(
    keys: &Keys,
    name: &str,
    value: &Spanned<DeValue<'_>>,
    folder: &Path,
) -> Result<Option<Vec<OsString>>, (String, String)> {
    let Some(key) = keys.find(name) else {
        let remedy = match keys.nearest(name) {
            Some(near) => format!("write {near}"),
            None => "take it out".to_owned(),
        };
        return Err(("is no key".to_owned(), remedy));
    };
    let remedy = || format!("write {}", key.example());
    let values = values(&key, value.get_ref(), folder).map_err(|what| (what, remedy()))?;
    for value in values.iter().flatten() {
        if let Some(what) = keys.refusal(&key, value) {
            return Err((what, remedy()));
        }
    }
    let said = |values: &Vec<OsString>| match &values[..] {
        [value] => key.default().is_some_and(|default| *value == *default),
        more => more.is_empty(),
    };
    Ok(values.filter(|values| !said(values)))
}

fn values(
    key: &Key<'_>,
    value: &DeValue<'_>,
    folder: &Path,
) -> Result<Option<Vec<OsString>>, String> {
    let not = |wanted: &str| Err(format!("is of type {}, not {wanted}", value.type_str()));
    match (key.kind(), value) {
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.then(|| vec![OsString::from("true")])),
        (Kind::Switch, _) => not("boolean"),
        (Kind::Texts, DeValue::Array(list)) => {
            let texts = list.iter().map(|item| item.get_ref().as_str());
            let texts: Option<Vec<OsString>> = texts.map(|text| text.map(OsString::from)).collect();
            texts
                .map(Some)
                .ok_or_else(|| "has an item that is no string".to_owned())
        }
        (Kind::Texts, _) => not("array"),
        // What has no fixed default has an empty text for "as if it were not there".
        (_, DeValue::String(text)) if text.is_empty() && key.default().is_none() => Ok(None),
        (Kind::Number, DeValue::Integer(number)) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Ok(Some(vec![OsString::from(number.to_string())])),
                Err(_) => Err("is out of range".to_owned()),
            }
        }
        (Kind::Number, _) => not("integer"),
        (Kind::Path, DeValue::String(text)) if !text.is_empty() => {
            Ok(Some(vec![folder.join(&**text).into_os_string()]))
        }
        (Kind::Path | Kind::Text, DeValue::String(text)) => Ok(Some(vec![OsString::from(&**text)])),
        (Kind::Path | Kind::Text, _) => not("string"),
    }
}
