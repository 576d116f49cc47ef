//! What stands in the leaves: the keys, then a record and its companion, again and again.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::{
    receipt::KeysLeaf,
    spec::{BuildKey, Companion, Record, Sum},
    tlog::VerifierKey,
};

/// A leaf that says what it must.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leaf {
    /// Leaf 0: the log's key, the key of its statements, and the log that it follows.
    Keys(Box<KeysLeaf>),
    /// A record, whose companion must follow.
    Record(Record),
    /// The companion of the record before, and that record.
    Companion(Companion, Record),
}

/// Checks leaves one after another.
#[derive(Debug)]
pub(super) struct Leaves {
    key: VerifierKey,
    next: u64,
    /// A record whose companion has not come yet.
    open: Option<Record>,
    /// The first 16 bytes of the SHA-256 of each build key: with the table's own overhead 20 to 39
    /// bytes per build, 39 MB for a million. To find two keys with one hash takes 2^64 work, and
    /// would only accuse the log that logged both.
    seen: Option<HashSet<[u8; 16]>>,
    builds: u64,
}

impl Leaves {
    /// From leaf 0 on; no key may come twice.
    pub(super) fn new(key: &VerifierKey) -> Self {
        Self {
            seen: Some(HashSet::new()),
            ..Self::from(key, 0)
        }
    }

    /// From a leaf on that is leaf 0 or a record; whether a key came before is not known.
    pub(super) fn from(key: &VerifierKey, next: u64) -> Self {
        Self {
            key: key.clone(),
            next,
            open: None,
            seen: None,
            builds: 0,
        }
    }

    /// Builds so far.
    pub(super) fn builds(&self) -> u64 {
        self.builds
    }

    /// Whether the log may end here, and why not.
    pub(super) fn end(&self) -> Result<(), String> {
        if self.next == 0 {
            return Err("the log has no leaf 0, which names its keys".to_owned());
        }
        match &self.open {
            Some(record) => Err(format!(
                "leaf {}: the record of `{}` is the last leaf, its companion is missing",
                self.next - 1,
                record.key
            )),
            None => Ok(()),
        }
    }

    /// Takes the next leaf; else a sentence that names it.
    pub(super) fn push(&mut self, text: &str) -> Result<Leaf, String> {
        let index = self.next;
        self.next += 1;
        let leaf = match (index, self.open.take()) {
            (0, _) => self.keys(text),
            (_, Some(record)) => companion(text, index - 1, record),
            (_, None) => self.record(text),
        };
        leaf.map_err(|why| format!("leaf {index}: {why}"))
    }

    fn keys(&self, text: &str) -> Result<Leaf, String> {
        let keys = KeysLeaf::parse(text).ok();
        let keys = keys.filter(|keys| keys.log == self.key).ok_or_else(|| {
            format!(
                "it does not name the log's key `{}` and a DSSE key",
                self.key
            )
        })?;
        if let Some(follows) = &keys.follows
            && !follows.is_signed(&self.key)
        {
            let old = &follows.log;
            return Err(format!(
                "it says that the log follows `{old}`, which has not signed that"
            ));
        }
        Ok(Leaf::Keys(Box::new(keys)))
    }

    fn record(&mut self, text: &str) -> Result<Leaf, String> {
        let record = Record::parse(text).map_err(|error| error.to_string())?;
        if let Some(seen) = &mut self.seen
            && !seen.insert(short(&record.key))
        {
            return Err(format!("there is a record of `{}` before it", record.key));
        }
        self.builds += 1;
        self.open = Some(record.clone());
        Ok(Leaf::Record(record))
    }
}

fn companion(text: &str, index: u64, record: Record) -> Result<Leaf, String> {
    let key = &record.key;
    let no = |why: &str| format!("no companion of the record of `{key}` at {index}: {why}");
    let companion = Companion::parse(text).map_err(|error| no(&error.to_string()))?;
    if companion.key != record.key {
        return Err(no("it names another key"));
    }
    if companion.record_index != index {
        return Err(no("it names another index"));
    }
    if Sum::of(&companion.sha256) != record.sum {
        return Err(no("the record's sum is not the beginning of its SHA-256"));
    }
    Ok(Leaf::Companion(companion, record))
}

fn short(key: &BuildKey) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(key.to_string()).into();
    let (short, _) = digest.split_first_chunk().expect("32 bytes begin with 16");
    *short
}
