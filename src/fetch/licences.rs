//! Which licences the verified zip of a module has, by their SPDX identifiers.
//!
//! The texts are hostile bytes; they are compared with the texts of all known licences, and nothing
//! of them leaves this role. What is said is a help for people, no legal advice, and decides
//! nothing. Called by the role, for zips of the cache only: nobody is asked for a licence.

use std::{
    cmp::Reverse,
    fs::File,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use spdx::detection::TextData;
use tokio::sync::Semaphore;

use super::{
    cache::{Cache, Kind},
    error::FetchError,
    wire::{Answer, LICENCES_MAX, Licences, ModuleHash, ModuleLicences},
};
use crate::{
    modzip::{Archive, Entry, H1, prefix},
    spec::LicenceId,
};

/// Most files of a module that are looked at; those with more have them for other reasons.
const FILES_MAX: usize = 4;
/// Longest text that is looked at: the longest licence that is known has 36 KB, and several in one
/// file are not told apart.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// How alike a text and that of a licence must be, from 0 to 1: the name of a company in the last
/// clause of BSD's makes 0.95.
const CONFIDENCE_MIN: f32 = 0.93;
/// When a question has taken so long, the modules that are left are not looked at: 50 with one text
/// each take two seconds.
const TIME_MAX: Duration = Duration::from_secs(10);
/// One of these words must be in the name of a file.
const NAMES: [&str; 5] = ["license", "licence", "copying", "unlicense", "unlicence"];
/// Words that may stand beside it; `license.go` is a program.
const BESIDE: [&str; 17] = [
    "md", "markdown", "txt", "rst", "apache", "mit", "bsd", "isc", "mpl", "gpl", "lgpl", "agpl",
    "lesser", "lib", "code", "docs", "v2",
];

/// Takes questions, one at a time: each takes a processor.
pub(super) struct Desk(Semaphore);

impl Default for Desk {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Desk {
    /// Answers a question, beside all other work.
    pub(super) async fn look(
        &self,
        cache: &Arc<Cache>,
        modules: Vec<ModuleHash>,
    ) -> Result<Answer, FetchError> {
        let _turn = self.0.acquire().await;
        let cache = Arc::clone(cache);
        let look = move || of_modules(&cache, &modules);
        let modules = tokio::task::spawn_blocking(look).await?;
        Ok(Answer::Licences { modules })
    }
}

/// Looks at the modules whose zips are in the cache, one after the other.
fn of_modules(cache: &Cache, modules: &[ModuleHash]) -> Vec<ModuleLicences> {
    let begin = Instant::now();
    let one = |module: &ModuleHash| {
        let name = H1::parse(module.h1.as_deref()?).ok()?.hex();
        let zip = cache.get(Kind::Zip, &name).ok()??;
        Some(ModuleLicences {
            path: module.path.clone(),
            version: module.version.clone(),
            licences: of_zip(&zip, &prefix(&module.path, &module.version), begin)?,
        })
    };
    modules.iter().take(LICENCES_MAX).filter_map(one).collect()
}

/// Licences in the root of a module; nothing when the zip is none of that module, or too late.
fn of_zip(zip: &File, prefix: &str, begin: Instant) -> Option<Licences> {
    if begin.elapsed() >= TIME_MAX {
        return None;
    }
    let archive = Archive::open(zip, prefix).ok()?;
    let mut found = Licences::default();
    let named = archive.entries().iter();
    let mut named = named.filter(|entry| is_licence(entry.path(prefix)));
    for entry in named.by_ref().take(FILES_MAX) {
        match text(&archive, entry).as_deref().and_then(recognise) {
            Some(id) if found.ids.contains(&id) => {}
            Some(id) => found.ids.push(id),
            None => found.others = true,
        }
    }
    found.others |= named.next().is_some();
    found.ids.sort();
    Some(found)
}

/// Whether a file in the root is named like the text of a licence: `LICENSE`, `COPYING.LESSER`,
/// `LICENSE-APACHE-2.0.txt`, `MIT-LICENSE`.
fn is_licence(path: &str) -> bool {
    let name = path.to_ascii_lowercase();
    let words = || name.split(['.', '-', '_']);
    let is_beside = |word: &str| BESIDE.contains(&word) || word.bytes().all(|b| b.is_ascii_digit());
    words().any(|word| NAMES.contains(&word))
        && words().all(|word| NAMES.contains(&word) || is_beside(word))
}

/// The content of a file; nothing when it is too long or no text.
fn text(archive: &Archive<'_>, entry: &Entry) -> Option<String> {
    if entry.size > FILE_BYTES_MAX {
        return None;
    }
    let mut content = Vec::new();
    let mut keep = |chunk: &[u8]| {
        content.extend_from_slice(chunk);
        Ok(())
    };
    archive.stream(entry, &mut keep).ok()?;
    String::from_utf8(content).ok()
}

/// The licence with the most similar text, when it is similar enough.
fn recognise(text: &str) -> Option<LicenceId> {
    if !text.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        return None; // nothing to compare
    }
    let text = TextData::new(text);
    let scores = known().iter();
    let scores = scores.map(|(id, known)| (known.match_score(&text), id));
    // Several have the same text; the plain one has the shortest name.
    let plain = |id: &LicenceId| (Reverse(id.as_str().len()), Reverse(id.as_str()));
    let best = scores.max_by(|(a, one), (b, other)| {
        let by_name = || plain(one).cmp(&plain(other));
        a.total_cmp(b).then_with(by_name)
    });
    best.filter(|(score, _)| *score >= CONFIDENCE_MIN)
        .map(|(_, id)| *id)
}

/// The texts of all licences that SPDX knows, prepared when the first module is looked at: a second
/// of work, and 45 MB.
fn known() -> &'static [(LicenceId, TextData)] {
    static KNOWN: OnceLock<Vec<(LicenceId, TextData)>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let mut known = Vec::new();
        for (id, text) in spdx::text::LICENSE_TEXTS {
            // Deprecated names are others for texts that are on the list anyway.
            let is_current = spdx::license_id(id).is_some_and(|id| !id.is_deprecated());
            let Ok(name) = LicenceId::parse(family(id)) else {
                continue;
            };
            if is_current && !id.ends_with("-or-later") {
                known.push((name, TextData::new(text).without_text()));
                let alone = alone(id, text).map(|text| TextData::new(text).without_text());
                known.extend(alone.map(|text| (name, text)));
            }
        }
        known
    })
}

/// The text of a GNU licence does not say whether later versions may be chosen; whoever uses it
/// says so elsewhere.
fn family(id: &str) -> &str {
    let short = id.strip_suffix("-only");
    short.or_else(|| id.strip_suffix("-or-later")).unwrap_or(id)
}

/// The text as it is mostly used where the list has an appendix behind it: how to apply the Apache
/// licence, and the whole GPL that the LGPL is an addition to.
fn alone<'a>(id: &str, text: &'a str) -> Option<&'a str> {
    let end = match id {
        "Apache-2.0" => text.find("END OF TERMS AND CONDITIONS")?,
        "LGPL-3.0-only" => text.rfind("GNU GENERAL PUBLIC LICENSE\nVersion 3")?,
        _ => return None,
    };
    Some(&text[..end])
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    const PREFIX: &str = "a.example/m@v1.0.0/";

    fn listed(id: &str) -> &'static str {
        let mut all = spdx::text::LICENSE_TEXTS.iter();
        all.find(|(name, _)| *name == id).unwrap().1
    }

    fn found(files: &[(&str, &str)]) -> (Vec<&'static str>, bool) {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            let name = format!("{PREFIX}{name}");
            writer
                .start_file(name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(writer.finish().unwrap().get_ref()).unwrap();
        let found = of_zip(&file, PREFIX, Instant::now()).unwrap();
        (
            found.ids.iter().map(|id| id.as_str()).collect(),
            found.others,
        )
    }

    #[test]
    fn texts_are_recognised_as_people_have_them() {
        let mit = listed("MIT").replace("<year> <copyright holders>", "2009 The Gophers");
        let bsd = listed("BSD-3-Clause")
            .replace("the copyright holder nor", "Google Inc. nor")
            .replace("\n", "\r\n");
        let apache = listed("Apache-2.0").replace("\n", "\n  ");
        let short = apache.split("END OF TERMS").next().unwrap();
        let lesser = listed("LGPL-3.0").split("GNU GENERAL PUBLIC LICENSE\nVersion 3");
        for (name, text, id) in [
            ("LICENSE", &*mit, "MIT"),
            ("LICENCE.md", &bsd, "BSD-3-Clause"),
            ("COPYING", listed("GPL-3.0"), "GPL-3.0"),
            ("COPYING.LESSER", lesser.clone().next().unwrap(), "LGPL-3.0"),
            ("license.txt", &apache, "Apache-2.0"),
            ("LICENSE-APACHE", short, "Apache-2.0"),
            ("LICENSE", listed("MPL-2.0"), "MPL-2.0"),
            ("LICENSE", listed("BSD-2-Clause"), "BSD-2-Clause"),
            ("LICENSE", listed("ISC"), "ISC"),
            ("UNLICENSE", listed("Unlicense"), "Unlicense"),
            ("LICENSE", listed("JSON"), "JSON"),
        ] {
            assert_eq!(found(&[(name, text)]), (vec![id], false), "{id}");
        }
    }

    #[test]
    fn several_files_are_several_licences_and_a_foreign_text_is_said() {
        let (mit, apache) = (listed("MIT"), listed("Apache-2.0"));
        let both = [
            ("LICENSE-MIT", mit),
            ("LICENSE-APACHE", apache),
            ("go.mod", "module x"),
        ];
        assert_eq!(found(&both), (vec!["Apache-2.0", "MIT"], false));
        let twice = [("LICENSE", mit), ("LICENSE.txt", mit)];
        assert_eq!(found(&twice), (vec!["MIT"], false));
        let many = [
            "LICENSE",
            "LICENSE-1",
            "LICENSE-2",
            "LICENSE-3",
            "LICENSE-4",
        ];
        assert_eq!(found(&many.map(|name| (name, mit))), (vec!["MIT"], true));
        let own = "You may use this on Tuesdays, when the moon is full, and never for profit.";
        assert_eq!(
            found(&[("LICENSE", own), ("COPYING", mit)]),
            (vec!["MIT"], true)
        );
        assert_eq!(found(&[("main.go", mit)]), (vec![], false));
        assert_eq!(
            found(&[("sub/LICENSE", mit), ("NOTICE", mit)]),
            (vec![], false)
        );
        let number = |number: usize| format!("LICENSE-{number}");
        let names: Vec<_> = (0..FILES_MAX + 9).map(number).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), own)).collect();
        assert_eq!(found(&many), (vec![], true));
    }

    #[test]
    fn hostile_texts_are_not_recognised_and_take_no_time() {
        let long = "MIT License ".repeat(1 << 16);
        let newlines = "\n".repeat(60_000);
        let dense = "a b\tc".repeat(10_000);
        for text in ["", " \n\t", "\u{202e}\u{0}", &long, &newlines, &dense] {
            let begin = Instant::now();
            let (ids, others) = found(&[("LICENSE", text)]);
            assert_eq!((ids, others), (vec![], true));
            assert!(begin.elapsed().as_secs() < 10);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"no zip").unwrap();
        assert_eq!(of_zip(&file, PREFIX, Instant::now()), None);
    }

    #[test]
    fn only_names_of_licences_are_looked_at() {
        for name in [
            "LICENSE",
            "Licence.MD",
            "COPYING.LESSER",
            "MIT-LICENSE.txt",
            "LICENSE-2.0",
        ] {
            assert!(is_licence(name), "{name}");
        }
        for name in [
            "license.go",
            "LICENSE/x",
            "NOTICE",
            "README.md",
            "licenses",
            "LICENSE.sh",
        ] {
            assert!(!is_licence(name), "{name}");
        }
    }

    #[test]
    fn a_question_ends_when_its_time_is_over() {
        let late = Instant::now().checked_sub(TIME_MAX).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"no zip").unwrap();
        assert_eq!(of_zip(&file, PREFIX, late), None);
    }
}
