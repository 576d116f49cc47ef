//! What `hotcell config` prints: a file in which every key stands, commented.

use super::{
    keys::{Key, Keys, Kind},
    live::LIVE,
};

/// Longest line of an explanation, in columns.
const COLUMNS_MAX: usize = 96;

const HEAD: &str = "\
# Configuration of `hotcell serve --config FILE`. Every line says its default: take the # away
# before a key to change it. `hotcell testconfig FILE` checks a file without starting anything.
#
# Each key is the option of `hotcell serve` of the same name. An option on the command line counts
# instead of the key, a list as a whole. An empty text \"\" stands for a key that is not there. A
# path that is not absolute is taken from the folder of this file; a default one from the folder
# where hotcell is started.
#
# `kill -HUP` of the process that serves reads the file again. A file with a mistake changes nothing
# then. For that the file must not be a link to another folder.
";

/// The whole file.
pub(super) fn commented() -> String {
    let keys = Keys::new();
    let mut text = HEAD.to_owned();
    for key in keys.all() {
        text.push('\n');
        for line in wrapped(&explained(&key)) {
            text += &format!("# {line}\n");
        }
        text += &format!("#{}\n", key.line());
    }
    text
}

fn explained(key: &Key<'_>) -> String {
    let kind = match key.kind() {
        Kind::Switch => "true or false",
        Kind::Number => "A whole number",
        Kind::Path => "A path",
        Kind::Text => "A text",
        Kind::Texts => "A list of texts",
    };
    let when = if LIVE.contains(&key.name) {
        "at once when the file is read again"
    } else {
        "at the next start"
    };
    let help = key.help().replace("; may be given again", "");
    let help = help.replace(". May be given again", "");
    format!("{help}. {kind}; a change takes effect {when}.")
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= COLUMNS_MAX {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}
