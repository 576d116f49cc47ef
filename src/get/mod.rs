//! `hotcell get`: fetches a binary from an instance and believes nothing that it cannot check.
//!
//! Called by the command line. In this order: the record of a lookup answer, its signed head, the
//! head against the one that was seen before (kept per key), record and companion in the tree of
//! the head, record against what was asked, the receipt as `verify` will check it, then the
//! download against size, sum and the full SHA-256. Nothing has its final name before all of it
//! holds. A server that shows two histories is kept as evidence. It must never take a key from the
//! server, nor write outside `bindir` and the state folder of the key.

mod asked;
mod download;
mod error;
mod receipt;
mod remote;
pub(crate) mod state;

#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    proxy::{self, GetError as HttpError, Transport},
    receipt::KeysLeaf,
    spec::{Companion, Record, Sum, hex},
    store::durable::DurableError,
    tlog::{
        ReadError, Tree, VerifierKey, reader,
        text::{parse_record, parse_tree},
    },
};
use asked::Asked;
pub use error::GetError;
use remote::Remote;
pub use state::known_keys;
use state::{State, StateError};

/// How often another process may keep a newer head while this one compares its own.
const RACES_MAX: usize = 10;

/// What is asked, as the command line has it.
#[derive(Debug, Clone)]
pub struct Request {
    /// SPEC in either form.
    pub spec: String,
    /// Key of the log: `name+hash+base64`.
    pub verifier_key: String,
    /// Address of the log, ending in `/tlog`; else it follows from the name of the key.
    pub url: Option<String>,
    /// The sum that the binary must have.
    pub sum: Option<String>,
    /// `linux/amd64`; this machine when absent.
    pub target: Option<String>,
    /// Go release, `latest` when absent.
    pub go: Option<String>,
    /// Without symbol table and debug information.
    pub stripped: bool,
    /// Where the binary goes.
    pub bindir: PathBuf,
    /// Whether to download at all, or only to verify the record.
    pub download: bool,
    /// The log is gobuild's: it has no companions, and 160 bits of the hash are all there is.
    pub gobuild: bool,
}

/// How requests are sent.
#[derive(Clone)]
pub struct Http {
    /// For lookups: the answer may take as long as a build.
    pub lookup: Arc<dyn Transport>,
    /// For everything else.
    pub rest: Arc<dyn Transport>,
}

impl Http {
    /// Over the network.
    pub fn new() -> Result<Self, HttpError> {
        Ok(Self {
            lookup: Arc::new(proxy::Http::new(remote::LOOKUP_TIME)?),
            rest: Arc::new(proxy::Http::new(proxy::Http::STALL)?),
        })
    }
}

/// What was fetched and verified.
#[derive(Debug, Clone)]
pub struct Got {
    /// The record.
    pub record: Record,
    /// Its index in the log.
    pub index: u64,
    /// Size and root of the tree that contains it.
    pub tree: Tree,
    /// Full SHA-256 of the binary: from the companion, or of what was downloaded.
    pub sha256: Option<[u8; 32]>,
    /// SHA-256 of the provenance envelope; absent with `gobuild`.
    pub provenance_sha256: Option<[u8; 32]>,
    /// Where the binary is; absent without download.
    pub path: Option<PathBuf>,
    /// Where its receipt is; absent without download, with `gobuild`, and when there is none.
    pub receipt: Option<PathBuf>,
    /// What a person should know, one sentence each.
    pub warnings: Vec<String>,
}

/// Fetches and verifies. `state_folder` is `$XDG_STATE_HOME/hotcell`.
pub async fn get(request: &Request, state_folder: &Path, http: &Http) -> Result<Got, GetError> {
    let key = VerifierKey::parse(&request.verifier_key).map_err(GetError::Key)?;
    let asked = Asked::parse(request)?;
    let remote = Remote::new(request.url.as_deref(), &key, http.clone())?;
    if request.download {
        make_folder(&request.bindir)?; // nothing is fetched that has no place
    }
    let mut warnings = Vec::new();
    let state = State::open(state_folder, &key, &mut warnings)?;

    let answer = find(&asked, &remote).await?;
    let malformed = |_| GetError::Malformed {
        what: "lookup answer",
    };
    let (index, text, note) = parse_record(&answer).map_err(malformed)?;
    let tree = match advance(&state, &key, note, &remote, &mut warnings).await {
        Err(GetError::Note(wrong)) => {
            let ended = end_of(&key, note, &remote).await;
            return Err(ended.unwrap_or(GetError::Note(wrong)));
        }
        other => other?,
    };
    reader::check_record(tree, index, text.as_bytes(), &remote)
        .await
        .map_err(remote::error)?;

    let record = Record::parse(text).map_err(|error| GetError::OtherRecord {
        what: error.to_string(),
    })?;
    asked.check(&record)?;
    let companion = match request.gobuild {
        true => {
            warnings.push(
                "without a companion, 160 bits of the hash are all that is proved, and there is \
                 no receipt"
                    .into(),
            );
            None
        }
        false => Some(companion(&record, index, tree, &remote).await?),
    };
    let mut sha256 = companion.as_ref().map(|companion| companion.sha256);
    let (mut path, mut receipt) = (None, None);
    if request.download {
        let target = request.bindir.join(record.key.binary_name());
        let staged = match &companion {
            Some(companion) => {
                let fetched = receipt::fetch(&remote, &key, &record, companion).await?;
                if let Some(fetched) = &fetched {
                    let checkpoint = fetched.checkpoint().as_bytes();
                    advance(&state, &key, checkpoint, &remote, &mut warnings).await?;
                }
                fetched.map(|it| it.stage(&target)).transpose()?
            }
            None => None,
        };
        sha256 = Some(download::fetch(&remote, &record, sha256, &target).await?);
        match staged {
            Some(staged) => receipt = Some(staged.keep()?),
            None if companion.is_some() => warnings.push(receipt::NONE.into()),
            None => {}
        }
        path = Some(target);
    }
    let provenance_sha256 = companion.map(|companion| companion.provenance_sha256);
    Ok(Got {
        record,
        index,
        tree,
        sha256,
        provenance_sha256,
        path,
        receipt,
        warnings,
    })
}

/// Where the binary goes, made when it is missing, as by `go install`.
fn make_folder(path: &Path) -> Result<(), GetError> {
    let failed = |source| DurableError::Io {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path)
        .map_err(failed)
        .map_err(GetError::Write)
}

/// Whether the log that has another key is there because that of `key` has ended.
async fn end_of(key: &VerifierKey, note: &[u8], remote: &Remote) -> Option<GetError> {
    let size = parse_tree(std::str::from_utf8(note).ok()?).ok()?.size;
    let leaf = remote.leaf(0, size).await.ok()?;
    KeysLeaf::end_of(key, &leaf).map(GetError::from)
}

/// Asks for the record; for a package whose module is not named, of the longest module first.
async fn find(asked: &Asked, remote: &Remote) -> Result<Vec<u8>, GetError> {
    let candidates = asked.package.candidates();
    let mut refused = None;
    for module in &candidates {
        let Some(key) = asked.key(module) else {
            continue;
        };
        match remote.lookup(&key).await {
            Err(GetError::Refused(error)) => refused = Some(error),
            other => return other,
        }
    }
    Err(refused.map_or(GetError::NoModule, GetError::Refused))
}

/// Verifies the note of an answer and reconciles its head with the one seen before. The result is
/// the newer of both, and is kept before anything that depends on it is believed.
async fn advance(
    state: &State,
    key: &VerifierKey,
    note: &[u8],
    remote: &Remote,
    warnings: &mut Vec<String>,
) -> Result<Tree, GetError> {
    let (note, head) = state::verify(key, note).map_err(|error| match error {
        state::BadHead::Note(error) => GetError::Note(error),
        state::BadHead::Text => GetError::Malformed {
            what: "signed head",
        },
    })?;
    for _ in 0..RACES_MAX {
        let seen = state.latest()?;
        let Some((seen_note, seen_tree)) = &seen else {
            if state.replace(None, &note)? {
                return Ok(head);
            }
            continue; // another process was first: compare with what it kept
        };
        let (older, newer) = match seen_tree.size <= head.size {
            true => (*seen_tree, head),
            false => (head, *seen_tree),
        };
        // Two roots for one size are a fork, whatever tiles the instance shows.
        let forked = older.size == newer.size && older.root != newer.root;
        match reader::check_prefix(older, newer, remote).await {
            Ok(()) => {}
            Err(error) if forked || matches!(error, ReadError::NotContained { .. }) => {
                let evidence = state.keep_evidence(seen_note, &note)?;
                return Err(GetError::Fork { evidence });
            }
            // Without the tiles of the newer head the older one cannot be placed.
            Err(ReadError::Source(GetError::Unavailable { source, .. }))
                if head.size < seen_tree.size && source.is_missing() =>
            {
                return Err(GetError::OldHead {
                    shown: head.size,
                    seen: seen_tree.size,
                });
            }
            Err(error) => return Err(remote::error(error)),
        }
        if head.size < seen_tree.size {
            warnings.push(format!(
                "the instance showed a head of {} records, this user has seen {} before",
                head.size, seen_tree.size
            ));
        }
        if head.size <= seen_tree.size || state.replace(Some(seen_note), &note)? {
            return Ok(newer);
        }
    }
    Err(StateError::Busy.into())
}

/// Reads and verifies the leaf after the record.
async fn companion(
    record: &Record,
    index: u64,
    tree: Tree,
    remote: &Remote,
) -> Result<Companion, GetError> {
    let no = |what| GetError::NoCompanion { what };
    let next = index + 1;
    if next >= tree.size {
        return Err(no("the record is the last leaf"));
    }
    let text = remote.leaf(next, tree.size).await?;
    reader::check_record(tree, next, text.as_bytes(), remote)
        .await
        .map_err(remote::error)?;
    let companion = Companion::parse(&text).map_err(|_| no("the next leaf is something else"))?;
    if companion.key != record.key || companion.record_index != index {
        return Err(no("it is that of another record"));
    }
    if Sum::of(&companion.sha256) != record.sum {
        return Err(no("its SHA-256 is not that of the record's sum"));
    }
    Ok(companion)
}

impl Got {
    /// The document of `--json`.
    pub fn json(&self) -> serde_json::Value {
        let Record { key, size, sum } = &self.record;
        let mut got = serde_json::json!({
            "key": key.to_string(),
            "sum": sum.to_string(),
            "size": size,
            "sha256": self.sha256.as_ref().map(|sha256| hex(sha256)),
            "provenance_sha256": self.provenance_sha256.as_ref().map(|sha256| hex(sha256)),
            "log_index": self.index,
            "log_size": self.tree.size,
            "path": self.path,
            "receipt": self.receipt,
            "warnings": self.warnings,
        });
        key.tell(&mut got);
        got
    }
}
