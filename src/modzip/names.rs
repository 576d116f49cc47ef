//! Which names a module zip may have: the rules of `golang.org/x/mod/module.CheckFilePath` and the
//! collision rules of `golang.org/x/mod/zip`.

use std::collections::HashMap;

use super::{ShownName, ZipError};

/// Names that Windows keeps for devices, with any ending.
const WINDOWS_NAMES: [&str; 22] = [
    "con", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9", "prn", "aux",
    "nul", "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// ASCII punctuation that x/mod allows in file names.
const PUNCTUATION: &str = "!#$%&()+,-.=@[]^_{}~ ";

/// Most elements of a path. The deepest known module has some 20; checking costs as much as there
/// are folders.
const ELEMENTS_MAX: usize = 100;

/// Checks a path below the module's folder, without a trailing slash.
pub(super) fn check_file_path(path: &str) -> Result<(), &'static str> {
    if path.split('/').count() > ELEMENTS_MAX {
        return Err("too many elements");
    }
    path.split('/').try_for_each(check_element)
}

fn check_element(element: &str) -> Result<(), &'static str> {
    if element.is_empty() {
        return Err("empty element");
    }
    if element.ends_with('.') {
        return Err("dot at the end of an element"); // also `.` and `..`
    }
    if !element.chars().all(is_allowed) {
        return Err("character that is not allowed");
    }
    let short = element.split('.').next().unwrap_or_default();
    if WINDOWS_NAMES
        .iter()
        .any(|name| name.eq_ignore_ascii_case(short))
    {
        return Err("device name on Windows");
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_alphanumeric() || PUNCTUATION.contains(c)
    } else {
        c.is_alphabetic()
    }
}

/// Finds names that are one and the same on a file system that does not tell cases apart.
#[derive(Default)]
pub(super) struct Collisions {
    seen: HashMap<String, (String, bool)>,
}

impl Collisions {
    /// Takes a path and the folders above it; fails when one was there in another spelling, or as
    /// the other kind, or when a file comes twice.
    pub(super) fn add(&mut self, path: &str, is_folder: bool) -> Result<(), ZipError> {
        let folded = fold(path);
        self.insert(path, &folded, is_folder)?;
        // Slashes fold to slashes, so both have the same folders. Deepest first: above one that is
        // known already, all are.
        let folders = path.rmatch_indices('/').zip(folded.rmatch_indices('/'));
        for ((end, _), (folded_end, _)) in folders {
            if !self.insert(&path[..end], &folded[..folded_end], true)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether the path is new.
    fn insert(&mut self, path: &str, folded: &str, is_folder: bool) -> Result<bool, ZipError> {
        match self.seen.get(folded) {
            Some((known, true)) if known == path && is_folder => Ok(false),
            Some((other, _)) => Err(ZipError::Twice {
                name: ShownName::from(path),
                other: ShownName::from(other.as_str()),
            }),
            None => {
                self.seen
                    .insert(folded.to_owned(), (path.to_owned(), is_folder));
                Ok(true)
            }
        }
    }
}

/// One spelling for all that differ in case only. Letters whose other case is several characters
/// stay as they are, as in Go's simple folding.
fn fold(path: &str) -> String {
    fn single(mut mapped: impl Iterator<Item = char>, else_: char) -> char {
        match (mapped.next(), mapped.next()) {
            (Some(c), None) => c,
            _ => else_,
        }
    }
    let upper = |c: char| single(c.to_uppercase(), c);
    path.chars()
        .map(upper)
        .map(|c| single(c.to_lowercase(), c))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_real_modules_are_allowed() {
        for path in [
            "go.mod",
            "a b/c",
            ".github/x.yml",
            "testdata/é.txt",
            "a/~x",
            "-x",
            "x~1",
        ] {
            assert_eq!(check_file_path(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn depth_has_a_limit() {
        assert!(check_file_path(&["x"; ELEMENTS_MAX].join("/")).is_ok());
        assert!(check_file_path(&["x"; ELEMENTS_MAX + 1].join("/")).is_err());
    }

    #[test]
    fn names_that_leave_the_folder_or_confuse_a_file_system_are_not() {
        let bad = [
            "",
            "/etc/passwd",
            "..",
            "a/../b",
            "a/./b",
            "a//b",
            "a/",
            "a.",
            "a\\b",
            "c:x",
            "a\0b",
            "a\nb",
            "con",
            "a/CON.txt",
            "Aux",
            "a*",
            "a?",
            "\u{202e}x",
            "a\u{7f}",
        ];
        for path in bad {
            assert!(check_file_path(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn one_name_in_two_spellings_collides() {
        for (one, other) in [
            ("a/b", "A/c"),
            ("a", "a"),
            ("a", "a/b"),
            ("a/b", "a"),
            ("K", "\u{212a}"),
            ("é", "É"),
        ] {
            let mut names = Collisions::default();
            names.add(one, false).unwrap();
            assert!(names.add(other, false).is_err(), "{one} {other}");
        }
        let mut names = Collisions::default();
        for path in ["a/b", "a/c", "ab", "strasse", "straße"] {
            names.add(path, false).unwrap();
        }
    }
}
