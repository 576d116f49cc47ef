//! The witness within the role `sign`: its key, and its memory of the heads of other logs.
//!
//! Beside the log's key: `witness.key` (a secret of its own, 0600: a cosignature's text does not
//! name its witness) and `witness.seen` (for each log its key and the head that was cosigned last,
//! with both signatures). Called by the role, for `serve`, whose word it takes for nothing but the
//! list of logs: it reads the request, verifies signature and proof, and takes the time itself. It
//! must never cosign two heads of one log of which neither contains the other, nor let a
//! cosignature out that is not on the disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{CosignError, Cosigned, LOGS_MAX, Unfit};
use crate::{
    log::SignError,
    spec::{hex, unhex},
    store::durable,
    tlog::{
        Note, Tree, VerifierKey, WitnessKey, WitnessSigner,
        cosignature::TIME_MAX_S,
        empty_root,
        judge::{self, Denied},
        text::parse_checkpoint,
    },
};

const KEY: &str = "witness.key";
const SEEN: &str = "witness.seen";
/// Largest file, in bytes: [`LOGS_MAX`] logs of 4 KiB each, at worst with every text escaped.
const FILE_BYTES_MAX: usize = 512 * 1024;
/// The same head within this many seconds gets the same line again. Whoever knows a public
/// checkpoint can send it as often as he likes; the disk has better to do.
const AGAIN_S: u64 = 10;

/// A witness of some logs.
#[derive(Debug)]
pub(super) struct Cosigner {
    folder: PathBuf,
    key: WitnessSigner,
    logs: Vec<VerifierKey>,
    /// What the file says; nothing after a write that may or may not have reached it.
    seen: Mutex<Option<Memory>>,
}

/// By origin.
type Memory = BTreeMap<String, Seen>;

/// The head of a log that was cosigned last.
#[derive(Debug, Clone)]
struct Seen {
    log: VerifierKey,
    tree: Tree,
    text: String,
    cosigned: Cosigned,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    logs: Vec<Line>,
}

/// One log in the file: everything else about it follows from these.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    key: String,
    checkpoint: String,
}

const VERSION: u32 = 1;

impl Cosigner {
    /// Opens the witness that lies in `folder`, the locked folder of the log's key `own`, or makes
    /// its key when there is none; for these logs.
    ///
    /// # Errors
    /// [`SignError::Unfit`] when it cannot be a witness of these logs, [`SignError::StateLost`]
    /// when what it remembers is missing or damaged.
    pub(super) fn open(
        folder: &Path,
        own: &VerifierKey,
        logs: Vec<VerifierKey>,
    ) -> Result<Self, SignError> {
        check_names(own, &logs)?;
        let key = open_key(folder, &format!("{}/witness", own.name()))?;
        let cosigner = Self {
            folder: folder.to_owned(),
            key,
            logs,
            seen: Mutex::new(None),
        };
        let mut seen = cosigner.lock();
        let memory = cosigner.recall(&mut seen)?;
        for log in &cosigner.logs {
            let origin = log.name().to_owned();
            if memory.get(&origin).is_some_and(|seen| seen.log != *log) {
                return Err(Unfit::OtherKey { origin }.into());
            }
        }
        let is_new = |log: &&VerifierKey| !memory.contains_key(log.name());
        if memory.len() + cosigner.logs.iter().filter(is_new).count() > LOGS_MAX {
            return Err(Unfit::Many.into());
        }
        drop(seen);
        Ok(cosigner)
    }

    /// Its public key.
    pub(super) fn public(&self) -> &WitnessKey {
        self.key.public()
    }

    /// Cosigns the head of this request; `now_s` is the time, in seconds since 1970.
    ///
    /// # Errors
    /// [`CosignError::Denied`] when nothing changed; after another error the head may be
    /// remembered, and can be offered again.
    pub(super) fn cosign(&self, body: &[u8], now_s: u64) -> Result<Cosigned, CosignError> {
        let offered = judge::open(body, &self.logs)?;
        let origin = offered.log.name();
        // Held until the new head is on the disk: of two requests the second sees what the first
        // has left.
        let mut seen = self.lock();
        let memory = self.recall(&mut seen)?;
        let last = memory.get(origin);
        let empty = Tree {
            size: 0,
            root: empty_root(),
        };
        offered.follows(&last.map_or(empty, |last| last.tree))?;
        let last_s = last.map_or(1, |last| last.cosigned.time_s);
        if let Some(last) = last
            && last.text == offered.text
            && now_s < last_s.saturating_add(AGAIN_S)
        {
            return Ok(last.cosigned.clone());
        }
        // The clock may go back, a cosignature's time may not. Zero means "no time".
        let time_s = now_s.max(last_s).min(TIME_MAX_S);
        let line = self.key.cosign(&offered.text, time_s);
        let line = line.map_err(|_| CosignError::Denied(Denied::Malformed))?;
        let cosigned = Cosigned {
            origin: origin.to_owned(),
            size: offered.tree.size,
            time_s,
            checkpoint: format!("{}{line}", offered.checkpoint),
            line,
        };
        let mut next = memory.clone();
        next.insert(
            origin.to_owned(),
            Seen {
                log: offered.log.clone(),
                tree: offered.tree,
                text: offered.text,
                cosigned: cosigned.clone(),
            },
        );
        // On the disk before the line leaves. A crash here leaves a head that was cosigned for
        // nobody; the log hears of it by its size and goes on from there.
        *seen = None;
        write(&self.folder, &next)?;
        *seen = Some(next);
        Ok(cosigned)
    }

    /// What was cosigned last for the log of this origin.
    pub(super) fn seen(&self, origin: &str) -> Result<Option<Cosigned>, SignError> {
        let mut seen = self.lock();
        let memory = self.recall(&mut seen)?;
        Ok(memory.get(origin).map(|seen| seen.cosigned.clone()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Memory>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recall<'a>(&self, seen: &'a mut Option<Memory>) -> Result<&'a Memory, SignError> {
        let memory = match seen.take() {
            Some(memory) => memory,
            None => {
                // What is read may not be on the disk: its writer was killed, or failed, between
                // rename and sync. A line from it could leave, and then be lost with the power.
                let memory = read(&self.folder, self.key.public())?;
                write(&self.folder, &memory)?;
                memory
            }
        };
        Ok(seen.insert(memory))
    }
}

/// Each log once, none of them this one.
fn check_names(own: &VerifierKey, logs: &[VerifierKey]) -> Result<(), Unfit> {
    if logs.iter().any(|log| log.name() == own.name()) {
        let origin = own.name().to_owned();
        return Err(Unfit::Own { origin });
    }
    let mut names: Vec<&str> = logs.iter().map(VerifierKey::name).collect();
    names.sort_unstable();
    if let Some(two) = names.windows(2).find(|two| two[0] == two[1]) {
        let origin = two[0].to_owned();
        return Err(Unfit::Twice { origin });
    }
    (logs.len() <= LOGS_MAX).then_some(()).ok_or(Unfit::Many)
}

/// The key and, when it is made here, an empty memory before it: a key without memory is one that
/// has lost it.
fn open_key(folder: &Path, name: &str) -> Result<WitnessSigner, SignError> {
    let no_name = |_| SignError::StateLost {
        what: format!("no key can have the name `{name}`"),
    };
    let path = folder.join(KEY);
    if let Some(bytes) = durable::read_bounded(&path, FILE_BYTES_MAX).map_err(io)? {
        let text = String::from_utf8(bytes).map_err(|_| lost(KEY))?;
        let seed = unhex(text.trim_end()).ok_or_else(|| lost(KEY))?;
        return WitnessSigner::from_seed(name, &seed).map_err(no_name);
    }
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| io(std::io::Error::other(error)))?;
    let key = WitnessSigner::from_seed(name, &seed).map_err(no_name)?;
    match read_file(folder)? {
        None => write(folder, &Memory::new())?,
        // A crash between the two files; what has heads in it had a key.
        Some(file) if file.logs.is_empty() => {}
        Some(_) => return Err(lost(KEY)),
    }
    let text = format!("{}\n", hex(&seed));
    durable::write_new(&path, text.as_bytes(), durable::SECRET).map_err(io)?;
    Ok(key)
}

fn read_file(folder: &Path) -> Result<Option<File>, SignError> {
    let bytes = durable::read_bounded(&folder.join(SEEN), FILE_BYTES_MAX).map_err(io)?;
    let parse = |bytes: Vec<u8>| serde_json::from_slice::<File>(&bytes).ok();
    let known = |file: &File| file.version == VERSION && file.logs.len() <= LOGS_MAX;
    let file = bytes.map(|bytes| parse(bytes).filter(known).ok_or_else(|| lost(SEEN)));
    file.transpose()
}

fn read(folder: &Path, witness: &WitnessKey) -> Result<Memory, SignError> {
    let file = read_file(folder)?.ok_or_else(|| lost(SEEN))?;
    let memory: Option<Memory> = file.logs.iter().map(|line| parse(line, witness)).collect();
    let memory = memory.filter(|memory| memory.len() == file.logs.len());
    memory.ok_or_else(|| lost(SEEN))
}

/// A line as it was written: with a good signature of the log and one of this witness.
fn parse(line: &Line, witness: &WitnessKey) -> Option<(String, Seen)> {
    let log = VerifierKey::parse(&line.key).ok()?;
    let note = Note::parse(line.checkpoint.as_bytes()).ok()?;
    let text = note.verify(&log).ok()?;
    let (origin, tree) = parse_checkpoint(text).ok()?;
    let time_s = witness.cosigned(&note).ok()??;
    let last = line.checkpoint.strip_suffix('\n')?.rsplit('\n').next()?;
    let cosigned = Cosigned {
        origin: origin.to_owned(),
        size: tree.size,
        time_s,
        line: format!("{last}\n"),
        checkpoint: line.checkpoint.clone(),
    };
    let seen = Seen {
        text: text.to_owned(),
        tree,
        cosigned,
        log: log.clone(),
    };
    (origin == log.name()).then(|| (origin.to_owned(), seen))
}

fn write(folder: &Path, memory: &Memory) -> Result<(), SignError> {
    let line = |seen: &Seen| Line {
        key: seen.log.to_string(),
        checkpoint: seen.cosigned.checkpoint.clone(),
    };
    let file = File {
        version: VERSION,
        logs: memory.values().map(line).collect(),
    };
    let text = serde_json::to_vec(&file).map_err(io)?;
    durable::replace(&folder.join(SEEN), &text, durable::SECRET).map_err(io)
}

fn lost(what: &str) -> SignError {
    SignError::StateLost {
        what: what.to_owned(),
    }
}

fn io(error: impl std::error::Error + Send + Sync + 'static) -> SignError {
    SignError::Io(Box::new(error))
}
