//! What is asked, and what is recorded: names of modules, versions, targets, Go releases, builds.
//!
//! One parser for user text, URLs and log keys. Every type here is injective: a text is accepted
//! only if the parsed value prints back to the same text, so that no two spellings name one build
//! (`reference`: Go module paths, <https://go.dev/ref/mod#module-path>). Nothing here does I/O.

mod go;
mod key;
mod licence;
mod module;
pub mod paste;
mod query;
mod record;
mod target;
pub mod url;
mod version;

pub use self::{
    go::{GoQuery, GoVersion},
    key::{BuildKey, Variant},
    licence::LicenceId,
    module::{ImportPath, ModulePath, ModuleVersion, PackageDir},
    query::{PackageQuery, VersionQuery},
    record::{Companion, Record, Sum, hex, unhex},
    target::Target,
    version::Version,
};

/// What is wrong with no text at all.
const EMPTY: &str = "it is empty";

/// Why a text names nothing. Shown to whoever typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", said(.what, .text, .why))]
pub struct SpecError {
    /// The kind of thing that was expected, such as `module path`.
    pub what: &'static str,
    /// The text, escaped and cut: it came from outside.
    pub text: String,
    /// What is wrong, and what to write instead.
    pub why: &'static str,
}

impl SpecError {
    /// Longest part of a bad text that is repeated in an error, in characters.
    const SHOWN_MAX: usize = 100;

    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        let mut shown: String = text.chars().take(Self::SHOWN_MAX).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        let text = shown.chars().flat_map(escape).collect();
        Self { what, text, why }
    }
}

/// What is empty is not shown in quotes: it was left out.
fn said(what: &str, text: &str, why: &str) -> String {
    match (text, why) {
        ("", EMPTY) => format!("the {what} is missing"),
        ("", why) => format!("the {what} is missing: {why}"),
        _ => format!("`{text}` is no {what}: {why}"),
    }
}

/// Keeps printable ASCII; everything else could be a control or look like something it is not.
fn escape(c: char) -> Vec<char> {
    if c == '…' || (c.is_ascii_graphic() && c != '`') || c == ' ' {
        vec![c]
    } else {
        c.escape_unicode().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_hostile_text_harmlessly_and_cut() {
        let error = SpecError::new("module path", "a\u{1b}[31m`\u{202e}", "x");
        assert_eq!(
            error.to_string(),
            "`a\\u{1b}[31m\\u{60}\\u{202e}` is no module path: x"
        );
        let missing = |why| SpecError::new("version", "", why).to_string();
        assert_eq!(missing("it is empty"), "the version is missing");
        assert_eq!(missing("write v1"), "the version is missing: write v1");
        let long = SpecError::new("module path", &"y".repeat(1000), "x");
        assert_eq!(long.text.chars().count(), 101);
    }
}
