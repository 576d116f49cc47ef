//! From names of functions to packages, as `debug/gosym` does.

use std::collections::HashMap;

use super::table::Table;
use crate::{
    build::{Code, PackageCode},
    spec::ImportPath,
};

/// Bytes of names that are looked at, of all functions together: those of the largest Go programs
/// known have 20 MB. A table whose functions share one long name would take minutes.
const NAMES_BYTES_MAX: usize = 256 << 20;
/// Spellings of packages that are told apart; the largest Go programs known have 4,000. The code of
/// those beyond is counted without its package.
const SPELLINGS_MAX: usize = 20_000;

/// Sums the functions of a table by package; nothing when one of them cannot be.
pub(super) fn by_package(table: &Table, main: &str) -> Option<Code> {
    let mut by_spelling: HashMap<&[u8], u64> = HashMap::new();
    let (mut other, mut looked_at) = (0_u64, 0_usize);
    for function in table.functions() {
        let function = function?;
        looked_at += function.name.len();
        if looked_at > NAMES_BYTES_MAX {
            return None;
        }
        let known = by_spelling.len();
        let spelled = package(function.name, table.has_colons());
        let sum = match spelled {
            Some(name) if known < SPELLINGS_MAX => by_spelling.entry(name).or_default(),
            Some(name) => by_spelling.get_mut(name).unwrap_or(&mut other),
            None => &mut other,
        };
        *sum = sum.checked_add(function.bytes)?;
    }
    let mut packages = HashMap::<ImportPath, u64>::new();
    for (spelled, bytes) in by_spelling {
        let path = match spelled {
            b"main" => ImportPath::parse(main).ok(),
            spelled => plain(spelled).and_then(|path| ImportPath::parse(&path).ok()),
        };
        let sum = path.map_or(&mut other, |path| packages.entry(path).or_default());
        *sum = sum.checked_add(bytes)?;
    }
    let packages = packages.into_iter();
    let packages = packages.map(|(path, bytes)| PackageCode { path, bytes });
    Code::new(packages.collect(), other)
}

/// The package in the name of a function, as it is spelled there; nothing for what the compiler
/// made for no package.
fn package(name: &[u8], has_colons: bool) -> Option<&[u8]> {
    let made: [&[u8]; 2] = match has_colons {
        true => [b"go:", b"type:"],
        false => [b"go.", b"type."],
    };
    if made.iter().any(|made| name.starts_with(made)) {
        return None;
    }
    // Types that a function was made for may name other packages.
    let name = name.split(|byte| *byte == b'[').next()?;
    let element = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let dot = name[element..].iter().position(|byte| *byte == b'.')?;
    Some(&name[..element + dot])
}

/// Undoes the linker's escapes: dots of the last element are `%2e` (`cmd/internal/objabi`).
fn plain(spelled: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(spelled).ok()?;
    let mut parts = text.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        plain.push(u8::from_str_radix(digits, 16).ok()?.into());
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_is_read_from_the_name_of_a_function() {
        for (name, has_colons, expected) in [
            ("main.main", true, Some("main")),
            ("runtime.(*mheap).alloc", true, Some("runtime")),
            ("a.example/b/c.(*T).M.func1", true, Some("a.example/b/c")),
            (
                "gopkg.in/yaml%2ev3.Unmarshal",
                true,
                Some("gopkg.in/yaml%2ev3"),
            ),
            ("slices.Sort[go.shape.[]a.b/c.T]", true, Some("slices")),
            ("a.b/c.F[a.b/d.(*T[...])]", true, Some("a.b/c")),
            ("type:.eq.a.b/c.T", true, None),
            ("type..eq.a.b/c.T", false, None),
            ("go.buildid", false, None),
            ("go/ast.Walk", false, Some("go/ast")),
            ("_rt0_amd64_linux", true, None),
            ("", true, None),
        ] {
            let found = package(name.as_bytes(), has_colons);
            assert_eq!(found, expected.map(str::as_bytes), "{name}");
        }
        assert_eq!(
            plain(b"gopkg.in/yaml%2ev3").as_deref(),
            Some("gopkg.in/yaml.v3")
        );
        for odd in [b"a%".as_slice(), b"a%2", b"a%zz", b"\xff"] {
            assert_eq!(plain(odd), None);
        }
    }
}
