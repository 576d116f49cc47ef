//! Paths of the module proxy protocol, exactly as the go command sends them.
//!
//! Go escapes `!` as `%21` and nothing else; `+` of `+incompatible` stays raw. Exactly that is
//! decoded here, so that one file has one spelling.

use crate::{
    fetch::wire::{Member, Want},
    spec::{ModulePath, Version},
};

/// Longest accepted path in bytes: an escaped module path, a version, and what is between them.
pub(super) const PATH_BYTES_MAX: usize = 1024;

/// What a path asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A file that may exist.
    Want(Want),
    /// Well-formed, and never there: `@latest`, a query instead of a version.
    Nothing,
}

/// Parses a path; `None` is outside the grammar.
pub(super) fn parse(raw: &str) -> Option<Asked> {
    if raw.len() > PATH_BYTES_MAX {
        return None;
    }
    let path = raw.strip_prefix('/')?.replace("%21", "!");
    if let Some(module) = path.strip_suffix("/@latest") {
        return ModulePath::parse_escaped(module)
            .ok()
            .map(|_| Asked::Nothing);
    }
    let (module, file) = path.split_once("/@v/")?;
    let Ok(module) = ModulePath::parse_escaped(module) else {
        // A prefix of a package path need not be a module path (`gopkg.in`, `a.b/v1`).
        return looks_like_prefix(module).then_some(Asked::Nothing);
    };
    let path = module.to_string();
    if file == "list" {
        return Some(Asked::Want(Want::List { path }));
    }
    let (version, kind) = file.rsplit_once('.')?;
    let Ok(version) = Version::parse_escaped(version) else {
        // `go` asks for branches and commits in the same way; they are never in a closure.
        let query = crate::spec::VersionQuery::parse(&version.replace('!', "")).is_ok();
        return (query && matches!(kind, "info" | "mod" | "zip")).then_some(Asked::Nothing);
    };
    let member = Member {
        path,
        version: version.to_string(),
    };
    match kind {
        "info" => Some(Asked::Want(Want::Info(member))),
        "mod" => Some(Asked::Want(Want::Mod(member))),
        "zip" => Some(Asked::Want(Want::Zip(member))),
        _ => None,
    }
}

fn looks_like_prefix(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._~!+".contains(&b);
    text.split('/')
        .all(|e| !e.is_empty() && !e.starts_with('.') && e.bytes().all(ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(path: &str, version: &str) -> Member {
        Member {
            path: path.into(),
            version: version.into(),
        }
    }

    #[test]
    fn the_protocol_is_understood() {
        for (path, want) in [
            (
                "/filippo.io/age/@v/list",
                Want::List {
                    path: "filippo.io/age".into(),
                },
            ),
            (
                "/filippo.io/age/@v/v1.2.1.info",
                Want::Info(member("filippo.io/age", "v1.2.1")),
            ),
            (
                "/github.com/%21azure/x/@v/v1.0.0-%21r%21c1.mod",
                Want::Mod(member("github.com/Azure/x", "v1.0.0-RC1")),
            ),
            (
                "/a.b/c/@v/v2.0.0+incompatible.zip",
                Want::Zip(member("a.b/c", "v2.0.0+incompatible")),
            ),
        ] {
            assert_eq!(parse(path), Some(Asked::Want(want)), "{path}");
        }
    }

    #[test]
    fn well_formed_questions_without_answer_are_no_offence() {
        for path in [
            "/a.b/c/@latest",
            "/a.b/c/@v/master.info",
            "/gopkg.in/yaml/@v/v1.0.0.info",
        ] {
            assert_eq!(parse(path), Some(Asked::Nothing), "{path}");
        }
    }

    #[test]
    fn everything_else_is_outside_the_grammar() {
        let long = format!("/a.b/{}/@v/list", "x".repeat(PATH_BYTES_MAX));
        for path in [
            "",
            "/",
            "*",
            "a.b/c/@v/list",
            "http://a.b/c/@v/list",
            "/a.b/c/@v/",
            "/a.b/c/@v/list?x=1",
            "/a.b/../c/@v/list",
            "/a.b//c/@v/list",
            "/a.b/%63/@v/list",
            "/a.b/c/@v/v1.0.0.exe",
            "/a.b/c/@v/../v1.0.0.zip",
            "/sumdb/sum.example/latest",
            "/a.b/C/@v/list",
            &long,
        ] {
            assert_eq!(parse(path), None, "{path:?}");
        }
    }
}
