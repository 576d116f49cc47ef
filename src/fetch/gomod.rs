//! Reads from a go.mod what `fetch` needs: requirements, retractions, deprecation.
//!
//! The same tokens as `golang.org/x/mod/modfile` in its lax form. What Go would not parse either
//! is left out, never guessed: the go command in the cell says what is wrong with it.

use crate::spec::{ModulePath, ModuleVersion, Version};

/// Most requirements of one file; the largest known files have some 1,500.
const REQUIRES_MAX: usize = 20_000;
/// Most retractions of one file.
const RETRACTIONS_MAX: usize = 1_000;
/// Longest reason or deprecation that is kept, in characters.
const TEXT_CHARS_MAX: usize = 500;
/// Most comment lines before a directive that are kept.
const COMMENTS_MAX: usize = 50;

/// What a go.mod says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GoMod {
    /// Modules that it requires.
    pub(super) requires: Vec<ModuleVersion>,
    /// Versions of its own module that should not be used.
    pub(super) retractions: Vec<Retraction>,
    /// The text after `Deprecated:` at its module line.
    pub(super) deprecated: Option<String>,
}

/// Versions that should not be used, both ends included.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Retraction {
    low: Version,
    high: Version,
    /// Why; may be empty.
    pub(super) why: String,
}

/// More in one file than is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("go.mod has more than {REQUIRES_MAX} requirements or {RETRACTIONS_MAX} retractions")]
pub(super) struct TooMuch;

impl GoMod {
    /// Reads a file.
    pub(super) fn parse(content: &[u8]) -> Result<Self, TooMuch> {
        let text = String::from_utf8_lossy(content);
        let mut reader = Reader::default();
        text.split('\n').try_for_each(|line| reader.line(line))?;
        Ok(reader.found)
    }

    /// The retraction that holds for a version, if any.
    pub(super) fn retraction(&self, version: &Version) -> Option<&Retraction> {
        self.retractions
            .iter()
            .find(|range| range.low <= *version && *version <= range.high)
    }
}

#[derive(Default)]
struct Reader {
    found: GoMod,
    /// Directive of the block that we are in, and the comments before it.
    block: Option<(String, Vec<String>)>,
    /// Comments of whole lines, directly before the next line.
    comments: Vec<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), TooMuch> {
        let (tokens, comment) = tokens(line);
        if tokens.is_empty() {
            match comment {
                Some(comment) if self.comments.len() < COMMENTS_MAX => self.comments.push(comment),
                Some(_) => {}
                None => self.comments.clear(), // an empty line ends a group of comments
            }
            return Ok(());
        }
        let mut comments = std::mem::take(&mut self.comments);
        comments.extend(comment);
        if tokens == [")"] {
            self.block = None;
            return Ok(());
        }
        if let Some((directive, of_block)) = &self.block {
            let comments = if comments.is_empty() {
                of_block
            } else {
                &comments
            };
            return self.found.directive(directive, &tokens, comments);
        }
        match tokens.as_slice() {
            [directive, "("] => self.block = Some(((*directive).to_owned(), comments)),
            // A block with a longer head is unknown to go; its lines must not count as directives.
            [.., "("] => self.block = Some((String::new(), comments)),
            [directive, rest @ ..] => self.found.directive(directive, rest, &comments)?,
            [] => {}
        }
        Ok(())
    }
}

impl GoMod {
    fn directive(
        &mut self,
        directive: &str,
        args: &[&str],
        comments: &[String],
    ) -> Result<(), TooMuch> {
        match (directive, args) {
            ("module", [_]) => self.deprecated = deprecation(comments),
            ("require", [path, version]) => self.requires.extend(requirement(path, version)),
            ("retract", _) => {
                let range = match args {
                    [version] => canonical(version).map(|one| (one.clone(), one)),
                    ["[", low, ",", high, "]"] => canonical(low).zip(canonical(high)),
                    _ => None,
                };
                if let Some((low, high)) = range {
                    let why = cut(&comments.join(" "));
                    self.retractions.push(Retraction { low, high, why });
                }
            }
            _ => {}
        }
        let is_too_much =
            self.requires.len() > REQUIRES_MAX || self.retractions.len() > RETRACTIONS_MAX;
        if is_too_much { Err(TooMuch) } else { Ok(()) }
    }
}

fn requirement(path: &str, version: &str) -> Option<ModuleVersion> {
    let path = ModulePath::parse(unquoted(path)?).ok()?;
    ModuleVersion::new(path, canonical(version)?).ok()
}

/// `module.CanonicalVersion`: `v1` and `v1.2` are filled up, metadata is cut off.
fn canonical(text: &str) -> Option<Version> {
    let text = unquoted(text)?;
    let (main, build) = text
        .split_once('+')
        .map_or((text, ""), |(main, build)| (main, build));
    let incompatible = if build == "incompatible" {
        "+incompatible"
    } else {
        ""
    };
    let missing = match (main.contains('-'), main.matches('.').count()) {
        (false, 0) => ".0.0",
        (false, 1) => ".0",
        _ => "",
    };
    Version::parse(&format!("{main}{missing}{incompatible}")).ok()
}

/// A string without escapes; no path or version needs one.
fn unquoted(token: &str) -> Option<&str> {
    let inner = [('"', '"'), ('`', '`')].iter().find_map(|(open, close)| {
        token
            .strip_prefix(*open)
            .map(|rest| rest.strip_suffix(*close).unwrap_or("\\"))
    });
    let text = inner.unwrap_or(token);
    (!text.contains('\\')).then_some(text)
}

/// The paragraph that begins with `Deprecated:`.
fn deprecation(comments: &[String]) -> Option<String> {
    let text = comments.join("\n");
    let mut paragraphs = text.split("\n\n");
    let found = paragraphs.find_map(|paragraph| paragraph.strip_prefix("Deprecated:"))?;
    Some(cut(found.trim()))
}

/// Text of a module's author, for a warning: one line, without control characters.
fn cut(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(TEXT_CHARS_MAX).map(plain).collect()
}

/// Splits one line into tokens and the comment at its end.
fn tokens(line: &str) -> (Vec<&str>, Option<String>) {
    let mut tokens = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r']);
        let Some(first) = rest.chars().next() else {
            return (tokens, None);
        };
        if let Some(comment) = rest.strip_prefix("//") {
            let comment = comment.trim().chars().take(TEXT_CHARS_MAX);
            return (tokens, Some(comment.collect()));
        }
        let length = match first {
            '(' | ')' | '[' | ']' | '{' | '}' | ',' => 1,
            '"' | '`' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ => word_length(rest),
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after;
    }
}

fn word_length(text: &str) -> usize {
    let end = text
        .find([' ', '\t', '\r', '(', ')', '[', ']', '{', '}', ','])
        .unwrap_or(text.len());
    text[..end].find("//").unwrap_or(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requires(text: &str) -> Vec<String> {
        let found = GoMod::parse(text.as_bytes()).unwrap();
        found.requires.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn requirements_are_found_in_all_their_forms() {
        let text = "module \"example.com/m\"\n\ngo 1.21\nrequire a.example/x v1.0.0\n\
            require\t\"b.example/y\"   v1.2.3-rc.1// indirect\r\n\
            require (\n\tc.example/z v2.0.0+incompatible // indirect\n\n// d.example/no v1.0.0\n\
            `e.example/q/v2` v2.1.0\n)\nexclude f.example/x v1.0.0\n\
            replace (\n g.example/x v1.0.0 => h.example/x v1.0.0\n)\nrequire i.example/x v1\n";
        let expected = [
            "a.example/x@v1.0.0",
            "b.example/y@v1.2.3-rc.1",
            "c.example/z@v2.0.0+incompatible",
            "e.example/q/v2@v2.1.0",
            "i.example/x@v1.0.0",
        ];
        assert_eq!(requires(text), expected);
    }

    #[test]
    fn what_go_would_not_take_is_left_out() {
        for text in [
            "// require a.example/x v1.0.0",
            "require a.example/x",
            "require a.example/x latest",
            "require a.example/x v1.0.0 v1.0.1",
            "require a.example/x v2.0.0",
            "require ../x v1.0.0",
            "require \"a.example/\\x78\" v1.0.0",
            "require x (\n require a.example/x v1.0.0\n)",
            "exclude (\nrequire a.example/x v1.0.0\n)",
            "tool (\n a.example/x v1.0.0\n)",
        ] {
            assert!(requires(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn retractions_are_ranges_with_reasons() {
        let text = "module example.com/m\n\
            retract v1.0.0 // broken\n\
            // all of these\nretract [v1.1.0, v1.2.0]\n\
            // group\nretract (\n v1.5.0\n v1.6.0 // own\n)\n";
        let found = GoMod::parse(text.as_bytes()).unwrap();
        let why = |version: &str| {
            let version = Version::parse(version).unwrap();
            found.retraction(&version).map(|range| range.why.as_str())
        };
        assert_eq!(why("v1.0.0"), Some("broken"));
        assert_eq!(why("v1.1.5"), Some("all of these"));
        assert_eq!(why("v1.2.0"), Some("all of these"));
        assert_eq!(why("v1.5.0"), Some("group"));
        assert_eq!(why("v1.6.0"), Some("own"));
        assert_eq!(why("v1.3.0"), None);
    }

    #[test]
    fn a_deprecation_stands_at_the_module_line() {
        let deprecated = |text: &str| GoMod::parse(text.as_bytes()).unwrap().deprecated;
        assert_eq!(
            deprecated("// Deprecated: use b.example\x1b\nmodule a.example/x\n"),
            Some("use b.example ".into())
        );
        assert_eq!(
            deprecated("module a.example/x // Deprecated: gone"),
            Some("gone".into())
        );
        assert_eq!(
            deprecated(
                "// A text.\n//\n// Deprecated: in the\n// second paragraph\nmodule a.example/x"
            ),
            Some("in the second paragraph".into())
        );
        assert_eq!(
            deprecated("// Deprecated: too far\n\nmodule a.example/x\n"),
            None
        );
        assert_eq!(deprecated("module a.example/x\n"), None);
    }

    #[test]
    fn too_many_requirements_are_refused() {
        let line = "require a.example/x v1.0.0\n";
        assert_eq!(requires(&line.repeat(REQUIRES_MAX)).len(), REQUIRES_MAX);
        assert_eq!(
            GoMod::parse(line.repeat(REQUIRES_MAX + 1).as_bytes()),
            Err(TooMuch)
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(GoMod::parse(&content).is_ok());
        }

        #[test]
        fn no_text_makes_a_requirement_that_does_not_stand_in_it(
            text in concat!(
                "(require|retract|module|\\(|\\)|//|\"|`| |\n|",
                "a\\.b/c|v1\\.2\\.3|v1|\\[|,){0,40}"
            ),
        ) {
            for found in GoMod::parse(text.as_bytes()).unwrap().requires {
                prop_assert!(text.contains(found.path.as_str()));
            }
        }
    }
}
