//! Build information that the Go linker writes into every binary: which modules, with which hashes.
//!
//! Format: `runtime/debug.BuildInfo` as text between two 16-byte marks
//! (`cmd/go/internal/modload.ModInfoData`), the same in every executable format.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use crate::fetch::wire::ModuleHash;

/// Stands before the text: `infoStart` of `cmd/go/internal/modload/build.go`, and the first word of
/// the text itself.
const START: [u8; 21] = *b"\x30\x77\xaf\x0c\x92\x74\x08\x02\x41\xe1\xc1\x07\xe6\xd6\x18\xe6path\t";
/// Length of the mark alone.
const MARK: usize = 16;
/// Stands behind the text: `infoEnd` there.
const END: [u8; 16] = *b"\xf9\x32\x43\x31\x86\x18\x20\x72\x00\x82\x42\x10\x41\x16\xd8\xf2";
/// Longest text in bytes: 20,000 modules of a closure with 50 bytes each, and some more.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Most places where the first mark is looked at: a program may hold the mark as data. One that
/// holds it more often is refused, as the linker's own may be behind.
const CANDIDATES_MAX: usize = 64;
/// Read so much at a time.
const CHUNK: usize = 1 << 20;

/// What a binary says of its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BuildInfo {
    /// Import path of the main package.
    pub(super) package: String,
    /// Main module with its `h1:`.
    pub(super) main: Module,
    /// All modules that were linked.
    pub(super) dependencies: Vec<Module>,
}

/// Texts of a binary that have the form of build information.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) infos: Vec<BuildInfo>,
    /// Whether every place was looked at.
    pub(super) complete: bool,
}

/// A module of a binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) path: String,
    pub(super) version: String,
    pub(super) h1: String,
}

/// Finds all texts in a binary that have the form of build information.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn find(file: &mut File) -> io::Result<Found> {
    let mut found = Vec::new();
    let marks = marks(file)?;
    let complete = marks.len() < CANDIDATES_MAX;
    for at in marks {
        file.seek(SeekFrom::Start(at + MARK as u64))?;
        let mut text = Vec::new();
        file.take(TEXT_BYTES_MAX as u64).read_to_end(&mut text)?;
        if let Some(end) = text.windows(END.len()).position(|window| window == END)
            && let Some(info) = std::str::from_utf8(&text[..end]).ok().and_then(parse)
        {
            found.push(info);
        }
    }
    Ok(Found {
        infos: found,
        complete,
    })
}

/// Where the first mark stands.
fn marks(file: &mut File) -> io::Result<Vec<u64>> {
    file.seek(SeekFrom::Start(0))?;
    let (mut found, mut window, mut base) = (Vec::new(), Vec::with_capacity(2 * CHUNK), 0_u64);
    loop {
        let read = file.take(CHUNK as u64).read_to_end(&mut window)?;
        for (at, bytes) in window.windows(START.len()).enumerate() {
            if bytes[0] == START[0] && bytes == START && found.len() < CANDIDATES_MAX {
                found.push(base + at as u64);
            }
        }
        if read == 0 {
            found.dedup();
            return Ok(found);
        }
        // The mark may lie across two chunks: keep one byte less than its length.
        let keep = window.len().min(START.len() - 1);
        base += (window.len() - keep) as u64;
        window.drain(..window.len() - keep);
    }
}

/// Parses the text; `None` when it is not what the go command writes for `go install pkg@version`.
fn parse(text: &str) -> Option<BuildInfo> {
    let (mut package, mut main, mut dependencies) = (None, None, Vec::new());
    for line in text.lines() {
        let mut fields = line.split('\t');
        match fields.next()? {
            "path" => package = Some(fields.next()?.to_owned()),
            "mod" => main = Some(module(fields)?),
            "dep" => dependencies.push(module(fields)?),
            "build" => {}
            // `=>` is a replacement, which `go install pkg@version` never makes
            _ => return None,
        }
    }
    Some(BuildInfo {
        package: package?,
        main: main?,
        dependencies,
    })
}

fn module<'a>(mut fields: impl Iterator<Item = &'a str>) -> Option<Module> {
    let mut field = || fields.next().map(ToOwned::to_owned);
    let module = Module {
        path: field()?,
        version: field()?,
        h1: field()?,
    };
    field().is_none().then_some(module)
}

impl BuildInfo {
    /// Whether every module is one that was served, with the hash that was verified.
    pub(super) fn agrees(&self, package: &str, main: (&str, &str), served: &[ModuleHash]) -> bool {
        let was_served = |module: &Module| {
            served.iter().any(|one| {
                one.path == module.path
                    && one.version == module.version
                    && one.h1.as_deref() == Some(&module.h1)
            })
        };
        self.package == package
            && (self.main.path.as_str(), self.main.version.as_str()) == main
            && was_served(&self.main)
            && self.dependencies.iter().all(was_served)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &str = "path\ta.b/c/cmd/x\nmod\ta.b/c\tv1.0.0\th1:AA=\ndep\td.e/f\tv0.1.0\th1:BB=\n\
                        build\tGOOS=linux\n";

    fn binary(parts: &[&[u8]]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for part in parts {
            file.write_all(part).unwrap();
        }
        file
    }

    fn served(path: &str, version: &str, h1: &str) -> ModuleHash {
        ModuleHash {
            path: path.into(),
            version: version.into(),
            h1: Some(h1.into()),
            go_mod_h1: None,
        }
    }

    #[test]
    fn modules_are_found_wherever_the_mark_lies() {
        for padding in [0, 1, CHUNK - 8, CHUNK, 3 * CHUNK - 1] {
            let padding = vec![b'0'; padding];
            let mut file = binary(&[&padding, &START[..MARK], TEXT.as_bytes(), &END, b"rest"]);
            let found = find(&mut file).unwrap().infos;
            assert_eq!(found.len(), 1, "{}", padding.len());
            assert_eq!(found[0].main.path, "a.b/c");
            assert_eq!(found[0].dependencies.len(), 1);
        }
    }

    #[test]
    fn every_module_must_have_been_served_with_its_hash() {
        let info = parse(TEXT).unwrap();
        let (main, dep) = (
            served("a.b/c", "v1.0.0", "h1:AA="),
            served("d.e/f", "v0.1.0", "h1:BB="),
        );
        let agrees = |list: &[ModuleHash]| info.agrees("a.b/c/cmd/x", ("a.b/c", "v1.0.0"), list);
        assert!(agrees(&[main.clone(), dep.clone()]));
        assert!(!agrees(std::slice::from_ref(&main)));
        assert!(!agrees(&[
            main.clone(),
            served("d.e/f", "v0.1.0", "h1:CC=")
        ]));
        assert!(!agrees(&[
            main.clone(),
            served("d.e/f", "v0.2.0", "h1:BB=")
        ]));
        assert!(!info.agrees(
            "a.b/c/cmd/y",
            ("a.b/c", "v1.0.0"),
            &[main.clone(), dep.clone()]
        ));
        assert!(!info.agrees("a.b/c/cmd/x", ("a.b/c", "v1.0.1"), &[main, dep]));
    }

    #[test]
    fn replacements_and_missing_hashes_are_no_build_information() {
        for text in [
            TEXT.replace("\th1:BB=", "").as_str(),
            &TEXT.replace("build", "=>"),
            &TEXT.replace("mod\t", "x\t"),
            "",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let mut file = binary(&[&START[..MARK], TEXT.as_bytes()]);
        assert_eq!(
            find(&mut file).unwrap(),
            Found {
                infos: Vec::new(),
                complete: true
            }
        );
    }

    #[test]
    fn marks_without_a_text_hide_nothing_and_too_many_texts_are_noticed() {
        let bare = START[..MARK].repeat(200);
        let mut file = binary(&[&bare, &START[..MARK], TEXT.as_bytes(), &END]);
        assert_eq!(find(&mut file).unwrap().infos.len(), 1);
        let mut file = binary(&[&START.repeat(CANDIDATES_MAX)]);
        assert!(!find(&mut file).unwrap().complete);
    }
}
