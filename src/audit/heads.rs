//! The heads that a log shows: both forms, signed by the key, of one history.

use std::{sync::Arc, time::Duration};

use super::{
    error::{AuditError, Lie},
    missing,
    source::{Answer, Part, Source},
};
use crate::{
    receipt::KeysLeaf,
    tlog::{
        Note, Tree, VerifierKey,
        text::{parse_checkpoint, parse_decimal, parse_tree},
    },
};

/// How often both forms are read again before one of them counts as left behind: a cache in front
/// of the log may hold one of them for a few seconds.
const TRIES: u32 = 4;
/// How long a cache is given to catch up.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A signed head, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Where it is from, for people.
    pub(super) from: String,
    /// The note as it was shown.
    pub(super) note: String,
    pub(super) tree: Tree,
}

/// Which form a head has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Sumdb,
    C2sp,
}

/// Verifies a head.
pub(super) fn verify(key: &VerifierKey, form: Form, from: &str, bytes: &[u8]) -> Result<Head, Lie> {
    let note = String::from_utf8_lossy(bytes).into_owned();
    let lie = |why: &str| Lie::new(format!("`{from}`: {why}")).with_head(from, note.clone());
    let parsed = Note::parse(bytes).map_err(|error| lie(&error.to_string()))?;
    let text = parsed
        .verify(key)
        .map_err(|error| lie(&error.to_string()))?;
    let tree = match form {
        Form::Sumdb => parse_tree(text).map_err(|error| lie(&error.to_string()))?,
        Form::C2sp => {
            let (origin, tree) = parse_checkpoint(text).map_err(|error| lie(&error.to_string()))?;
            if origin != key.name() {
                return Err(lie("it is the head of another log"));
            }
            tree
        }
    };
    let from = from.to_owned();
    Ok(Head { from, note, tree })
}

/// Two signed heads of one size must have one root.
pub(super) fn agree(one: &Head, other: &Head) -> Result<(), Lie> {
    if one.tree.size != other.tree.size || one.tree.root == other.tree.root {
        return Ok(());
    }
    let sentence = format!(
        "the log shows two histories: `{}` and `{}` are signed for {} leaves with different roots",
        one.from, other.from, one.tree.size
    );
    Err(Lie::new(sentence)
        .with_head(&one.from, &one.note)
        .with_head(&other.from, &other.note))
}

/// Reads one head.
pub(super) async fn read(
    source: &dyn Source,
    key: &VerifierKey,
    part: Part,
) -> Result<Head, AuditError> {
    let path = part.path();
    let form = match part {
        Part::Note => Form::Sumdb,
        _ => Form::C2sp,
    };
    match source.read(part).await? {
        Answer::Bytes(bytes) => match verify(key, form, &path, &bytes) {
            Ok(head) => Ok(head),
            Err(lie) => {
                let ended = end_of(source, key, &bytes).await;
                Err(ended.unwrap_or_else(|| lie.into()))
            }
        },
        Answer::Missing => Err(Lie::new(format!("the log has no `{path}`")).into()),
        Answer::TooLong => Err(Lie::new(format!("`{path}` is longer than any head")).into()),
    }
}

/// Whether a head of another key is there because the log of `key` has ended.
async fn end_of(source: &dyn Source, key: &VerifierKey, head: &[u8]) -> Option<AuditError> {
    // Of either form: the size is in its second line.
    let size = std::str::from_utf8(head).ok()?.lines().nth(1)?;
    let leaves = missing::leaves(source, parse_decimal(size)?, 0)
        .await
        .ok()?;
    KeysLeaf::end_of(key, leaves.first()?).map(AuditError::from)
}

/// Reads both forms of the newest head. The log may grow between two requests, but it publishes
/// both forms at once: what is asked later is never smaller. The last one is the newest.
pub(super) async fn newest(
    source: &Arc<dyn Source>,
    key: &VerifierKey,
) -> Result<Vec<Head>, AuditError> {
    let mut tries = 0;
    loop {
        let first = read(source.as_ref(), key, Part::Note).await?;
        let checkpoint = read(source.as_ref(), key, Part::Checkpoint).await?;
        agree(&first, &checkpoint)?;
        let heads = if first.tree.size == checkpoint.tree.size {
            vec![checkpoint, first]
        } else {
            let last = read(source.as_ref(), key, Part::Note).await?;
            agree(&checkpoint, &last)?;
            agree(&first, &last)?;
            vec![first, checkpoint, last]
        };
        let behind = heads
            .windows(2)
            .find(|pair| pair[1].tree.size < pair[0].tree.size);
        let Some([newer, older]) = behind else {
            return Ok(heads);
        };
        tries += 1;
        if tries == TRIES {
            let sentence = format!(
                "`{}` is signed for {} leaves, `{}`, read after it, for {} only",
                newer.from, newer.tree.size, older.from, older.tree.size
            );
            return Err(Lie::new(sentence)
                .with_head(&newer.from, &newer.note)
                .with_head(&older.from, &older.note)
                .into());
        }
        tokio::time::sleep(CATCH_UP).await;
    }
}
