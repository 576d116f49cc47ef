//! The auditor of a log: believes its key and nothing else, and computes everything again.
//!
//! Called by the command line, for a log at an address and for the data folder of a service. One
//! pass in bounded memory goes from the leaves to the root and compares on its way every form of
//! every tile, every head that is known, and what stands in the leaves. A lie ends it, with a
//! sentence that names the leaf, tile or key, and the bytes that show it. The key must never come
//! from the log's server; a head is kept only after all of it was verified.

mod ahead;
mod error;
mod folder;
mod follow;
mod heads;
mod leaves;
mod missing;
mod prove;
mod remote;
mod sample;
mod source;
mod walk;

#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{fs, path::Path, sync::Arc};

use crate::{
    get::state::State,
    log::Archive,
    proxy::Transport,
    receipt::Follows,
    store::durable,
    tlog::{NoteError, Tree, VerifierKey},
};
pub use error::{AuditError, Exhibit, Lie};
use folder::Folder;
pub use follow::{FollowError, Told, follow};
use heads::Head;
pub use missing::Copy;
pub use prove::{Proven, Which, prove_folder, prove_url};
use remote::Remote;
use sample::Sample;
pub use sample::{Percent, Sampled};
use source::Source;

/// Folders of keys that are looked at for one that fits an address.
const KEYS_MAX: usize = 1000;

/// A log without fault.
#[derive(Debug)]
pub struct Audited {
    /// The key that signed it.
    pub key: VerifierKey,
    /// Size and root.
    pub tree: Tree,
    /// Records with their companions; each has a key of its own.
    pub builds: u64,
    /// Signed heads whose root was computed again.
    pub heads: u64,
    /// Tiles of hashes that were compared.
    pub tiles: u64,
    /// The newest signed head.
    pub note: String,
    /// The log that it follows, which has ended and has signed that.
    pub follows: Option<Follows>,
    /// Builds to make again.
    pub sample: Vec<Sampled>,
    /// What a person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Parses the text form of a verifier key.
pub fn parse_key(text: &str) -> Result<VerifierKey, AuditError> {
    VerifierKey::parse(text).map_err(AuditError::Key)
}

/// The key that this user has used for the log at `url` before: the one whose name is its host.
pub fn known_key(url: &str, state_folder: &Path) -> Result<VerifierKey, AuditError> {
    let address = remote::address(url)?;
    let host = address.host_str().unwrap_or_default();
    let is_loopback = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let host = match is_loopback.is_ok_and(|address| address.is_loopback()) {
        true => "localhost",
        false => host,
    };
    let no = |why: String| AuditError::NoKey { why };
    let entries = fs::read_dir(state_folder).into_iter().flatten().flatten();
    let mut keys = entries.take(KEYS_MAX).filter_map(|entry| {
        let bytes = durable::read_bounded(&entry.path().join("key"), 1024).ok()??;
        let key = VerifierKey::parse(String::from_utf8(bytes).ok()?.trim_end()).ok()?;
        (key.name() == host && entry.file_name().to_str() == Some(&key.id())).then_some(key)
    });
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (None, _) => Err(no(format!(
            "this user has used no log called `{host}` before"
        ))),
        (Some(_), Some(_)) => Err(no(format!("this user knows several logs called `{host}`"))),
    }
}

/// Audits the log at an address. The head that this user has kept must be a prefix of what the log
/// shows now; the new one is kept when nothing was wrong.
pub async fn audit_url(
    url: &str,
    key: &VerifierKey,
    state_folder: &Path,
    percent: Percent,
    http: Arc<dyn Transport>,
) -> Result<Audited, AuditError> {
    let source: Arc<dyn Source> = Arc::new(Remote::new(url, http)?);
    let mut warnings = Vec::new();
    let state = State::open(state_folder, key, &mut warnings)?;
    // Read before the log is asked: whatever it shows from now on is no older.
    let seen = state.latest()?;
    let mut heads = heads::newest(&source, key).await?;
    let newest = newest(&heads)?;
    if let Some((note, tree)) = &seen {
        let kept = Head {
            from: "the head that this user has kept".to_owned(),
            note: note.clone(),
            tree: *tree,
        };
        heads::agree(&kept, &newest)?;
        if kept.tree.size > newest.tree.size {
            let sentence = format!(
                "the log shows a head of {} leaves, this user has kept one of {}: it was rolled \
                 back, or is an old copy",
                newest.tree.size, kept.tree.size
            );
            return Err(Lie::new(sentence)
                .with_head(kept.from, kept.note)
                .with_head(newest.from, newest.note)
                .into());
        }
        heads.push(kept);
    }
    let audited = audit(&source, key, heads, &newest, percent, warnings).await?;
    keep(&state, seen.as_ref(), audited)
}

/// Keeps the newest head; a crash leaves the older one.
fn keep(
    state: &State,
    seen: Option<&(String, Tree)>,
    mut audited: Audited,
) -> Result<Audited, AuditError> {
    let is_newer = seen.is_none_or(|(_, tree)| tree.size < audited.tree.size);
    let known = seen.map(|(note, _)| note.as_str());
    if is_newer && !state.replace(known, &audited.note)? {
        let text = "another process has kept another head meanwhile; this one was not kept";
        audited.warnings.push(text.to_owned());
    }
    Ok(audited)
}

/// Audits the data folder of a service, up to its newest signed head; the service may run. Without
/// a key, the one that the database names is believed.
pub async fn audit_folder(
    folder: &Path,
    key: Option<&VerifierKey>,
    percent: Percent,
) -> Result<Audited, AuditError> {
    let (own, source, stored) = open_folder(folder, key)?;
    let source: Arc<dyn Source> = source;
    let heads = heads::newest(&source, &own).await?;
    let newest = newest(&heads)?;
    let mut warnings = Vec::new();
    if stored > newest.tree.size {
        let text = "the newest entries are not signed yet and were not audited: the service does \
                    it, or its next start";
        warnings.push(text.to_owned());
    }
    audit(&source, &own, heads, &newest, percent, warnings).await
}

/// The key of a data folder, its log up to the newest signed head, and how many leaves it has.
fn open_folder(
    folder: &Path,
    key: Option<&VerifierKey>,
) -> Result<(VerifierKey, Arc<Folder>, u64), AuditError> {
    let archive = Archive::open(folder)?;
    let named = archive.key()?;
    let named = named.ok_or_else(|| Lie::new("the database names no key"))?;
    let own = VerifierKey::parse(&named).map_err(|error: NoteError| {
        Lie::new(format!("the database names a key that is none: {error}"))
    })?;
    if key.is_some_and(|key| *key != own) {
        let sentence = format!("the database names another key, `{own}`");
        return Err(Lie::new(sentence).into());
    }
    let (signed, newest_stored) = (archive.signed()?, archive.newest()?);
    let notes = signed.and_then(|head| head.notes);
    let (note, checkpoint) = notes.ok_or_else(|| Lie::new("no head of the log was ever signed"))?;
    let source = Arc::new(Folder::new(archive, note, checkpoint));
    let stored = newest_stored.map_or(0, |head| head.tree.size);
    Ok((own, source, stored))
}

fn newest(heads: &[Head]) -> Result<Head, Lie> {
    let newest = heads.last().cloned();
    newest.ok_or_else(|| Lie::new("the log has no head"))
}

async fn audit(
    source: &Arc<dyn Source>,
    key: &VerifierKey,
    heads: Vec<Head>,
    newest: &Head,
    percent: Percent,
    mut warnings: Vec<String>,
) -> Result<Audited, AuditError> {
    let sample = Sample::new(newest.tree.root, percent);
    let shown = heads.clone();
    let found = walk::walk(source, key, heads, sample).await;
    let found = found.map_err(|error| match error {
        AuditError::Lie(lie) => {
            let new = |head: &&Head| !lie.heads.iter().any(|(_, note)| *note == head.note);
            let more: Vec<_> = shown.iter().filter(new).cloned().collect();
            let add = |lie: Lie, head: Head| lie.with_head(head.from, head.note);
            more.into_iter().fold(*lie, add).into()
        }
        other => other,
    })?;
    if found.sample.count > found.sample.chosen.len() as u64 {
        let count = found.sample.count;
        return Err(AuditError::SampleTooLarge { count });
    }
    if found.missing > 0 {
        warnings.push(format!(
            "{} full tiles are no files yet: the service writes them, or its next start",
            found.missing
        ));
    }
    Ok(Audited {
        key: key.clone(),
        tree: found.tree,
        builds: found.builds,
        heads: found.heads,
        tiles: found.tiles,
        note: newest.note.clone(),
        follows: found.keys.and_then(|keys| keys.follows),
        sample: found.sample.chosen,
        warnings,
    })
}

/// The evidence of a build that has become another binary here.
pub fn other_binary(sampled: &Sampled, sha256: &[u8; 32], size: u64) -> Lie {
    let Sampled { index, record, .. } = sampled;
    let sentence = format!(
        "leaf {index}: `{}` was built again and has another SHA-256 or size ({size} bytes here, {} \
         in the log)",
        record.key, record.size
    );
    let path = format!("SHA-256 of leaf {}", index + 1);
    Lie::new(sentence).with(path, Some(&sampled.sha256), Some(sha256))
}

impl Audited {
    /// The document of `--json`.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "key": self.key.to_string(),
            "size": self.tree.size,
            "root": self.tree.root.to_string(),
            "builds": self.builds,
            "heads": self.heads,
            "tiles": self.tiles,
            "note": self.note,
            "follows": self.follows.as_ref().map(follows_json),
            "warnings": self.warnings,
        })
    }
}

/// What a log follows, in documents.
pub fn follows_json(follows: &Follows) -> serde_json::Value {
    serde_json::json!({
        "key": follows.log.to_string(),
        "size": follows.tree.size,
        "root": follows.tree.root.to_string(),
    })
}
