//! Trees that are no longer what they were: put away for good, with the reason beside them.
//!
//! Called by workers after a check, and at every start. Under `quarantine` lie, for each such tree,
//! `<id>.reason` (a JSON line, [`Reason`]), `<id>.manifest` and the folder `<id>`. The reason is
//! durable first; whatever is then still under its old name after a crash is moved at the next
//! start, before anybody is served. Nothing in here is ever mounted.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::{At as _, CHECKED, Kind, MANIFEST, Name, StoreError, USED, delete, header};
use crate::wire::{PutAway, Tree};

/// Folder of all of them.
pub(super) const QUARANTINE: &str = "quarantine";
const REASON: &str = "reason";
/// Most trees that are kept as evidence; later ones leave their reason and manifest only, so that
/// a dying disk does not fill itself.
const KEPT_MAX: usize = 8;
/// Most reasons that are listed.
const LISTED_MAX: usize = 1_000;
/// Longest reason file.
const REASON_BYTES_MAX: u64 = 16 * 1024;

/// Why a tree lies here.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Reason {
    /// `sdk/<hex>`.
    tree: String,
    title: String,
    digest: String,
    why: String,
    /// Seconds since 1970.
    found_s: u64,
    /// When it was last found to be what it was; 0 when never.
    sound_s: u64,
}

/// Puts a tree away, and with an SDK all that its compiler made.
///
/// # Errors
/// When a step fails; what is done stays done, the rest is done at the next start.
pub(crate) fn put_away(name: &Name, why: &str) -> Result<Vec<PutAway>, StoreError> {
    let title = header(name).map_or_else(String::new, |header| header.title);
    let mut all = vec![put_one(name, why)?];
    if name.kind == Kind::Sdk && !title.is_empty() {
        let made = format!("{title} ");
        for tree in super::trees()? {
            let other = Name::parse(&tree.name).filter(|it| it.kind == Kind::Std);
            if let Some(other) = other.filter(|_| tree.title.starts_with(&made)) {
                all.push(put_one(
                    &other,
                    &format!("made by {title}, which was put away"),
                )?);
            }
        }
    }
    Ok(all)
}

fn put_one(name: &Name, why: &str) -> Result<PutAway, StoreError> {
    let known = header(name);
    let reason = Reason {
        tree: name.to_string(),
        title: known
            .as_ref()
            .map_or_else(String::new, |it| it.title.clone()),
        digest: known.map_or_else(String::new, |it| it.digest),
        why: why.to_owned(),
        found_s: seconds(SystemTime::now()),
        sound_s: super::marked(name, CHECKED),
    };
    let id = format!("{}-{}-{}", name.kind.word(), name.hex, reason.found_s);
    let path = place(&id).with_extension(REASON);
    let text = serde_json::to_string(&reason)
        .map_err(io::Error::from)
        .at(&path)?;
    // Written aside first: half a reason must not count as one.
    let draft = place(&id).with_extension("draft");
    let mut file = File::create(&draft).at(&draft)?;
    file.write_all(format!("{text}\n").as_bytes()).at(&draft)?;
    file.sync_all().at(&draft)?;
    fs::rename(&draft, &path).at(&path)?;
    sync(QUARANTINE)?; // from here on the tree is put away, whatever happens
    move_tree(name, &id)?;
    Ok(PutAway {
        tree: reason.tree,
        title: reason.title,
        digest: reason.digest,
        why: reason.why,
        sound_s: reason.sound_s,
    })
}

/// Moves what is still under its old name; the manifest first, without which nothing is a tree.
fn move_tree(name: &Name, id: &str) -> Result<(), StoreError> {
    let to = place(id);
    for (from, to) in [
        (name.beside(MANIFEST), to.with_extension(MANIFEST)),
        (name.folder(), to.clone()),
    ] {
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).at(from),
            _ => {}
        }
    }
    delete(&name.beside(USED))?;
    delete(&name.beside(CHECKED))?;
    sync(name.kind.word())?;
    sync(QUARANTINE)?;
    if folders()? > KEPT_MAX {
        super::delete(&to)?;
    }
    Ok(())
}

/// Makes the folder and finishes what a crash has interrupted.
pub(super) fn finish() -> Result<(), StoreError> {
    let mut options = DirBuilder::new();
    options.recursive(true).mode(0o700);
    options.create(QUARANTINE).at(QUARANTINE)?;
    for (id, reason) in reasons()? {
        let there = fs::symlink_metadata(place(&id)).is_ok();
        let named = Name::parse(&reason.tree);
        // A tree that was fetched again since has a folder here already, or is too new.
        if let Some(name) = named.filter(|name| !there && !is_newer(name, reason.found_s)) {
            move_tree(&name, &id)?;
        }
    }
    Ok(())
}

/// Whether what lies under a name was adopted after that moment.
fn is_newer(name: &Name, found_s: u64) -> bool {
    let made = fs::metadata(name.beside(MANIFEST)).and_then(|meta| meta.modified());
    made.is_ok_and(|made| seconds(made) > found_s)
}

/// Everything that was put away, as trees that no cell may use.
pub(super) fn list() -> Result<Vec<Tree>, StoreError> {
    let all = reasons()?.into_iter().map(|(id, reason)| Tree {
        name: format!("{QUARANTINE}/{id}"),
        title: reason.title,
        digest: reason.digest,
        bytes: 0,
        used_s: reason.found_s,
        checked_s: reason.sound_s,
        put_away: Some(reason.why),
    });
    Ok(all.collect())
}

/// Deletes what was put away; a person has looked at it.
pub(crate) fn remove(tree: &str) -> Result<(), StoreError> {
    let Some(id) = known(tree) else {
        return Ok(());
    };
    delete(&place(&id))?;
    delete(&place(&id).with_extension(MANIFEST))?;
    delete(&place(&id).with_extension(REASON))?; // last: until here it is listed
    sync(QUARANTINE)
}

/// The id in `quarantine/<id>`, when there is such a tree.
pub(crate) fn known(tree: &str) -> Option<String> {
    let id = tree.strip_prefix(QUARANTINE)?.strip_prefix('/')?;
    let mut parts = id.splitn(3, '-');
    let (kind, hex, found) = (parts.next()?, parts.next()?, parts.next()?);
    Name::parse(&format!("{kind}/{hex}"))?;
    let digits = !found.is_empty() && found.len() < 20 && found.bytes().all(|b| b.is_ascii_digit());
    (digits && place(id).with_extension(REASON).is_file()).then(|| id.to_owned())
}

fn reasons() -> Result<Vec<(String, Reason)>, StoreError> {
    let mut all = Vec::new();
    for entry in fs::read_dir(QUARANTINE).at(QUARANTINE)? {
        let path = entry.at(QUARANTINE)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (Some(stem), true) = (stem, path.extension().is_some_and(|it| it == REASON)) else {
            continue;
        };
        let mut text = String::new();
        let file = File::open(&path).at(&path)?;
        let read = io::Read::read_to_string(&mut io::Read::take(file, REASON_BYTES_MAX), &mut text);
        let reason = read.ok().and_then(|_| serde_json::from_str(&text).ok());
        // One that cannot be read still says that something lies here.
        let reason = reason.unwrap_or_else(|| Reason {
            tree: String::new(),
            title: String::new(),
            digest: String::new(),
            why: "its reason cannot be read any more".to_owned(),
            found_s: 0,
            sound_s: 0,
        });
        all.push((stem.to_owned(), reason));
        if all.len() == LISTED_MAX {
            break;
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

fn folders() -> Result<usize, StoreError> {
    let all = fs::read_dir(QUARANTINE).at(QUARANTINE)?.flatten();
    Ok(all.filter(|entry| entry.path().is_dir()).count())
}

fn place(id: &str) -> PathBuf {
    Path::new(QUARANTINE).join(id)
}

fn sync(folder: &str) -> Result<(), StoreError> {
    File::open(folder).at(folder)?.sync_all().at(folder)
}

/// Seconds since 1970 of a time; 0 before.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
