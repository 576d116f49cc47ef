//! `hotcell toolchain verify`: everything that builds share is read again and compared.

use hotcell_sandbox::wire::Check;
use serde_json::{Value, json};

use super::{Stop, print, say, toolchain};
use crate::{
    build::{Engine, supervise::Verdict},
    fetch::wire::{Answer, Ask},
    spec::GoVersion,
};

/// What was looked at, and what was found.
struct Line {
    what: String,
    digest: String,
    check: Check,
    /// Why it was put away.
    put_away: Option<String>,
}

/// Checks the trees of one release, or all of them and the module files.
pub(super) async fn run(engine: &Engine, go: Option<GoVersion>, as_json: bool) -> Result<(), Stop> {
    let mut lines = Vec::new();
    let name = go.map(|go| go.to_string());
    for tree in toolchain::trees(engine).await? {
        let is_meant = name
            .as_ref()
            .is_none_or(|name| tree.title == *name || tree.title.starts_with(&format!("{name} ")));
        if !is_meant {
            continue;
        }
        let mut line = Line {
            what: tree.title,
            digest: tree.digest,
            check: Check::default(),
            put_away: tree.put_away,
        };
        if line.put_away.is_none() {
            match engine.supervise().verify(&tree.name).await {
                Ok(Verdict::Sound(check)) => line.check = check,
                Ok(Verdict::PutAway(tree)) => line.put_away = Some(tree.why),
                // Gone with the SDK that made it, or removed meanwhile.
                Err(error) => match gone_with_sdk(engine, &line.digest).await? {
                    Some(why) => line.put_away = Some(why),
                    None => return Err(Stop::chain(Stop::FAILED, &error)),
                },
            }
        }
        lines.push(line);
    }
    match name {
        Some(name) if lines.is_empty() => {
            let text = format!("{name} is not in the store");
            return Err(Stop::new(Stop::FAILED, text));
        }
        Some(_) => {}
        None => lines.append(&mut modules(engine).await?),
    }
    show(&lines, as_json)
}

/// Why a tree lies in quarantine, when it does.
async fn gone_with_sdk(engine: &Engine, digest: &str) -> Result<Option<String>, Stop> {
    let mut all = toolchain::trees(engine).await?.into_iter();
    Ok(all.find_map(|tree| tree.put_away.filter(|_| tree.digest == digest)))
}

async fn modules(engine: &Engine) -> Result<Vec<Line>, Stop> {
    let answer = engine.fetch().ask_once(Ask::Verify).await;
    let answer = answer.map_err(crate::build::ending::of_trouble)?;
    let Answer::Verified { check, put_away } = answer else {
        let text = "the fetcher answered something else";
        return Err(Stop::new(Stop::FAILED, text));
    };
    let line = |put_away| Line {
        what: "module files".to_owned(),
        digest: "each has its own hash".to_owned(),
        check: Check::default(),
        put_away,
    };
    let bad = put_away.into_iter().map(|why| line(Some(why)));
    let good = Line {
        check,
        ..line(None)
    };
    Ok([good].into_iter().chain(bad).collect())
}

fn show(lines: &[Line], as_json: bool) -> Result<(), Stop> {
    if as_json {
        let all: Vec<Value> = lines
            .iter()
            .map(|line| {
                json!({
                    "what": line.what, "digest": line.digest, "sound": line.put_away.is_none(),
                    "files": line.check.files, "bytes": line.check.bytes,
                    "not_past_cache": line.check.not_past_cache, "put_away": line.put_away,
                })
            })
            .collect();
        print(json!({ "checked": all }))?;
    }
    for line in lines {
        let Line { what, check, .. } = line;
        match &line.put_away {
            Some(why) => say(format_args!("{what}: PUT AWAY: {why}")),
            None if as_json => {}
            None => {
                let how = check.not_past_cache.as_ref().map_or_else(
                    || "page cache and disk".to_owned(),
                    |why| format!("not checked past the page cache: {why}"),
                );
                let (files, size) = (check.files, check.bytes >> 20);
                let digest = &line.digest;
                print(format_args!(
                    "{what}\t{digest}\t{files} files\t{size} MiB\t{how}"
                ))?;
            }
        }
    }
    match lines.iter().filter(|line| line.put_away.is_some()).count() {
        0 => Ok(()),
        count => Err(Stop::new(
            Stop::WRONG,
            format!("{count} stored things are not what they were and were put away"),
        )
        .hint(
            "look for the cause: a disk, memory, or an attack; the next build fetches them afresh; \
             hotcell toolchain remove deletes the evidence of a release",
        )),
    }
}
