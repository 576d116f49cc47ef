//! The proof of one leaf, made here from a log that nobody believes.
//!
//! Called by `hotcell log proof`, for a log at an address (any mirror in the form of the checksum
//! database has enough) and for the data folder of a service. The checkpoint must be signed by the
//! log's key, and every tile and the leaf's text must belong to it: what comes out holds for
//! whoever has the key. A head that this user has seen before is not compared here; an audit does.

use std::{path::Path, sync::Arc};

use super::{
    AuditError, Lie,
    folder::Folder,
    heads::{self, Head},
    missing, open_folder,
    remote::Remote,
    source::{Part, Source},
};
use crate::{
    proxy::Transport,
    spec::{BuildKey, Record, SpecError},
    tlog::{
        OfflineProof, ReadError, TileSource, Tree, VerifierKey, leaf_hash, proof, reader,
        text::parse_decimal,
    },
};

/// The leaf that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By its index.
    Index(u64),
    /// The record of this build.
    Key(BuildKey),
}

impl Which {
    /// Parses a decimal number, or a key of the log, whose last slash may be missing.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        if let Some(index) = parse_decimal(text) {
            return Ok(Self::Index(index));
        }
        let whole = BuildKey::parse(&format!("{}/", text.trim_end_matches('/')));
        whole.map(Self::Key)
    }
}

/// A leaf that is in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Its index, path and checkpoint, without extra data.
    pub proof: OfflineProof,
    /// Size and root of the checkpoint.
    pub tree: Tree,
    /// The text of the leaf.
    pub text: String,
}

/// Proves a leaf of the log at an address. Nothing is built for it.
///
/// # Errors
/// [`AuditError::NotInLog`] when the log does not have it; the log may be wrong, or not answer.
pub async fn prove_url(
    url: &str,
    key: &VerifierKey,
    which: &Which,
    http: Arc<dyn Transport>,
) -> Result<Proven, AuditError> {
    let remote = Remote::new(url, http)?;
    let index = match which {
        Which::Index(index) => Some(*index),
        Which::Key(build) => remote.record_index(build).await?,
    };
    prove(&remote, key, which, index).await
}

/// Proves a leaf of the log in a data folder; without a key, the one that it names is believed.
///
/// # Errors
/// As [`prove_url`].
pub async fn prove_folder(
    folder: &Path,
    key: Option<&VerifierKey>,
    which: &Which,
) -> Result<Proven, AuditError> {
    let (key, folder, _) = open_folder(folder, key)?;
    let folder: &Folder = &folder;
    let index = match which {
        Which::Index(index) => Some(*index),
        Which::Key(build) => folder.record_index(build)?,
    };
    prove(folder, &key, which, index).await
}

async fn prove<S: Source + TileSource<Error = AuditError>>(
    source: &S,
    key: &VerifierKey,
    which: &Which,
    index: Option<u64>,
) -> Result<Proven, AuditError> {
    let head = heads::read(source, key, Part::Checkpoint).await?;
    let Head { tree, note, .. } = head.clone();
    let absent = || AuditError::NotInLog {
        what: match which {
            Which::Index(index) => format!("leaf {index}"),
            Which::Key(build) => format!("record of `{build}`"),
        },
        size: tree.size,
    };
    // A build that came after this head is in the next one.
    let index = index
        .filter(|index| *index < tree.size)
        .ok_or_else(absent)?;
    let lie = |why: String| {
        let lie = Lie::new(format!("leaf {index}: {why}"));
        AuditError::from(lie.with_head(&head.from, &head.note))
    };
    let path = reader::read_inclusion(tree, index, source).await;
    let path = path.map_err(|error| match error {
        ReadError::Source(error) => error,
        error => lie(error.to_string()),
    })?;
    let text = missing::leaves(source, tree.size, index).await?;
    let text = text.into_iter().next().ok_or_else(absent)?;
    let leaf = leaf_hash(text.as_bytes());
    if proof::check_inclusion(&path, &tree, index, &leaf).is_err() {
        return Err(lie("its text is not in the signed tree".to_owned()));
    }
    if let Which::Key(build) = which
        && !Record::parse(&text).is_ok_and(|record| record.key == *build)
    {
        return Err(lie(format!(
            "it is not the record of `{build}`, as the log says"
        )));
    }
    let proof = OfflineProof {
        extra: None,
        index,
        path,
        checkpoint: note,
    };
    Ok(Proven { proof, tree, text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::testing::{FakeLog, URL, key_of},
        log::{Log, LogConfig},
        tlog::{Note, text::parse_checkpoint},
    };

    async fn ask(log: &FakeLog, which: &str) -> Result<Proven, AuditError> {
        let which = Which::parse(which).unwrap();
        prove_url(URL, log.key(), &which, Arc::new(log.table.clone())).await
    }

    /// What somebody with the key alone finds out.
    fn check(proven: &Proven, key: &VerifierKey) {
        let parsed = OfflineProof::parse(proven.proof.to_string().as_bytes()).unwrap();
        let note = Note::parse(parsed.checkpoint.as_bytes()).unwrap();
        let (_, tree) = parse_checkpoint(note.verify(key).unwrap()).unwrap();
        let leaf = leaf_hash(proven.text.as_bytes());
        proof::check_inclusion(&parsed.path, &tree, parsed.index, &leaf).unwrap();
    }

    #[tokio::test]
    async fn every_leaf_of_a_log_is_proved_by_index_and_every_record_by_key() {
        for builds in [0, 1, 127, 128, 300] {
            let log = FakeLog::new(builds);
            let size = log.leaves.len();
            for index in [0, 1, size / 2, 255, 256, size - 1] {
                let proven = ask(&log, &index.to_string()).await;
                if index >= size {
                    assert!(matches!(proven, Err(AuditError::NotInLog { .. })));
                    continue;
                }
                let proven = proven.unwrap();
                assert_eq!(proven.text, log.leaves[index], "{index} of {size}");
                check(&proven, log.key());
            }
        }
        let log = FakeLog::new(3);
        let key = key_of(1);
        let missing = ask(&log, &key.to_string()).await.unwrap_err();
        assert_eq!(missing.exit_code(), 1, "{missing}");
        let companion = ask(&log, "4").await.unwrap().proof;
        log.put(
            &format!("proof/by-key/{key}"),
            companion.to_string().as_bytes(),
        );
        let text = key.to_string();
        for text in [text.as_str(), text.trim_end_matches('/')] {
            let proven = ask(&log, text).await.unwrap();
            assert_eq!((proven.proof.index, &proven.text), (3, &log.leaves[3]));
        }
        for lie in [
            ask(&log, "2").await.unwrap().proof.to_string(),
            "no proof".to_owned(),
        ] {
            log.put(&format!("proof/by-key/{key}"), lie.as_bytes());
            assert!(
                matches!(ask(&log, &text).await, Err(AuditError::Lie(_))),
                "{lie}"
            );
        }
    }

    #[tokio::test]
    async fn what_the_key_has_not_signed_is_never_given_out() {
        let log = FakeLog::new(5);
        let honest = log.parts();
        let other = FakeLog::new(6);
        for (path, body) in &honest {
            let mut changed = body.clone();
            changed[body.len() / 2] ^= 1;
            log.put(path, &changed);
            for index in ["0", "7"] {
                match ask(&log, index).await {
                    Ok(proven) => check(&proven, log.key()), // another form was not asked for
                    Err(error) => assert_eq!(error.exit_code(), 3, "{path}: {error}"),
                }
            }
            log.put(path, body);
        }
        for (path, body) in other.parts() {
            log.put(&path, &body);
        }
        check(&ask(&log, "7").await.unwrap(), log.key()); // signed by the same key
        let stranger = crate::tlog::SigningKey::from_seed("log.example.org", &[9; 32]).unwrap();
        let (which, http) = (Which::Index(7), Arc::new(log.table.clone()));
        let wrong = prove_url(URL, stranger.verifier(), &which, http).await;
        assert_eq!(wrong.unwrap_err().exit_code(), 3);
        assert!(Which::parse("-1").is_err() && Which::parse("example.com/x").is_err());
    }

    #[tokio::test]
    async fn a_data_folder_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let (data, sign) = (folder.path().join("data"), folder.path().join("sign"));
        let log = Log::open_local(&LogConfig::of(&data), &sign, "log.example.org").unwrap();
        let key = VerifierKey::parse(log.verifier_key()).unwrap();
        let prove = async |which| prove_folder(&data, Some(&key), &which).await;
        check(&prove(Which::Index(0)).await.unwrap(), &key);
        for n in 0..140 {
            let record = crate::audit::testing::record_of(n);
            let with = Box::new(|_: &rusqlite::Transaction<'_>, _| Ok(()));
            let entry = crate::log::NewEntry {
                record,
                sha256: crate::audit::testing::companion_of(n).sha256,
                provenance_sha256: [9; 32],
                with,
            };
            log.append(entry).await.unwrap();
        }
        for index in [0, 1, 255, 256, 280] {
            check(&prove(Which::Index(index)).await.unwrap(), &key);
        }
        let proven = prove(Which::Key(key_of(130))).await.unwrap();
        assert_eq!(proven.proof.index, 261);
        check(&proven, &key);
        for absent in [Which::Index(281), Which::Key(key_of(140))] {
            let error = prove(absent).await.unwrap_err();
            assert!(
                matches!(error, AuditError::NotInLog { size: 281, .. }),
                "{error}"
            );
        }
    }
}
