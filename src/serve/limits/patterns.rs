//! Patterns of module paths, as in `GOPRIVATE`.
//!
//! Called by [`super::rules`]. The form is that of `module.MatchPrefixPatterns`
//! (<https://pkg.go.dev/golang.org/x/mod/module#MatchPrefixPatterns>): a glob of `path.Match` that
//! is compared with as many leading elements of a path as it has itself. Where Go takes a broken
//! glob for one that matches nothing, it is a mistake here: a rule that cannot match is no rule.

use std::{fmt, str::FromStr};

/// Longest pattern, in bytes; no module path is longer.
const LEN_MAX: usize = 255;

/// A glob for the beginning of a module path, such as `*.corp.example` or `example.com/private/*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    elements: Vec<Vec<Token>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// Any number of characters.
    Any,
    /// One of these; all others when it is negated.
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// The text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write one pattern as in GOPRIVATE, such as `*.corp.example` or `example.com/private/*`")]
pub struct NotPattern;

impl Pattern {
    /// Whether it matches the path, or leading elements of it.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut elements = path.split('/');
        let mut own = self.elements.iter();
        own.all(|tokens| elements.next().is_some_and(|text| fits(tokens, text)))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Pattern {
    type Err = NotPattern;

    /// One slash at the end means nothing, as in Go. A comma, which separates patterns there, is
    /// refused.
    fn from_str(text: &str) -> Result<Self, NotPattern> {
        let bare = text.strip_suffix('/').unwrap_or(text);
        let is_plain = |c: char| c.is_ascii_graphic() && c != ',';
        if bare.is_empty() || text.len() > LEN_MAX || !text.chars().all(is_plain) {
            return Err(NotPattern);
        }
        let elements = bare.split('/').map(element);
        Ok(Self {
            text: text.to_owned(),
            elements: elements.collect::<Option<_>>().ok_or(NotPattern)?,
        })
    }
}

/// The tokens of an element; none when it is empty or broken.
fn element(text: &str) -> Option<Vec<Token>> {
    let mut rest = text.chars().peekable();
    let mut tokens = Vec::new();
    let one = |c| Token::Class {
        is_negated: false,
        ranges: vec![(c, c)],
    };
    while let Some(c) = rest.next() {
        tokens.push(match c {
            '*' => Token::Any,
            '?' => Token::Class {
                is_negated: true,
                ranges: Vec::new(),
            },
            '[' => {
                let is_negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.next_if_eq(&']').is_none() {
                    let from = member(&mut rest)?;
                    let to = match rest.next_if_eq(&'-') {
                        Some(_) => member(&mut rest)?,
                        None => from,
                    };
                    ranges.push((from, to));
                }
                Token::Class { is_negated, ranges }
            }
            '\\' => one(rest.next()?),
            c => one(c),
        });
    }
    (!tokens.is_empty()).then_some(tokens)
}

/// A character in brackets.
fn member(rest: &mut impl Iterator<Item = char>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

/// Whether tokens match all of a text. Only the last star is tried again, so that the time is
/// bounded by the product of both lengths.
fn fits(tokens: &[Token], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut token, mut at) = (0, 0);
    let mut star = None;
    loop {
        let fits = match tokens.get(token) {
            Some(Token::Any) => {
                star = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(Token::Class { is_negated, ranges }) => text.get(at).is_some_and(|c| {
                let is_in = ranges.iter().any(|(from, to)| (from..=to).contains(&c));
                is_in != *is_negated
            }),
            None if at == text.len() => return true,
            None => false,
        };
        if fits {
            (token, at) = (token + 1, at + 1);
            continue;
        }
        match star {
            Some((after, from)) if from < text.len() => {
                star = Some((after, from + 1));
                (token, at) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_go_do() {
        for (pattern, path, matches) in [
            ("*", "a.example", true),
            ("*", "a.example/b/c", true),
            ("*.example", "a.example/b", true),
            ("*.example", "example/b", false),
            ("a.example/b", "a.example/b", true),
            ("a.example/b", "a.example/b/v2/x", true),
            ("a.example/b", "a.example/bc", false),
            ("a.example/b", "a.example", false),
            ("a.example/b/", "a.example/b", true),
            ("a.example/*", "a.example", false),
            ("a.example/*/c", "a.example/b/c/d", true),
            ("a.example/*/c", "a.example/b/x/c", false),
            ("a.e?ample", "a.example", true),
            ("a.e?ample", "a.eample", false),
            ("[a-c].example", "b.example", true),
            ("[^a-c].example", "b.example", false),
            ("[^a-c].example", "d.example/x", true),
            (r"\a.example/\*", "a.example/*", true),
            (r"a.example/\*", "a.example/b", false),
            (r"[\]x].example", "].example", true),
            ("a*b*c.example", "aXbYbZc.example", true),
            ("a*b*c.example", "aXbYbZ.example", false),
            ("**.example", "a.example", true),
            ("Upper.example", "upper.example", false),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(path), matches, "{pattern} {path}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_a_mistake() {
        let long = "a".repeat(LEN_MAX + 1);
        for text in [
            "",
            "/",
            "//",
            "a//b",
            "/a",
            "a,b",
            "a b",
            "[",
            "[]",
            "[^]",
            "[a",
            "[a-]",
            "[-a]",
            "a[/]b",
            "a\\",
            "[\\",
            "é.example",
            "a\n",
            &long,
        ] {
            assert_eq!(text.parse::<Pattern>(), Err(NotPattern), "{text:?}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern: Pattern = format!("{}b", "*a".repeat(100)).parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(LEN_MAX)));
    }
}
