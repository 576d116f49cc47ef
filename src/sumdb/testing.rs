//! A checksum database for tests: a table of answers, recomputed from its records.

use std::sync::Arc;

use super::*;
use crate::{
    proxy::table::Table,
    tlog::{
        Hash, SigningKey, leaf_hash, node_hash,
        text::{format_record, tree_text},
        tile::new_tiles,
    },
};

/// A checksum database in a table: everything is recomputed from the records.
pub(crate) struct Fake {
    pub(crate) table: Table,
    pub(crate) key: SigningKey,
    pub(crate) records: Vec<String>,
    pub(crate) base: String,
}

pub(crate) const DIRECT: &str = "https://sum.test";
pub(crate) const PROXIED: &str = "http://proxy.test/sumdb/sum.test";

impl Fake {
    pub(crate) fn new(base: &str, records: usize) -> Self {
        let key = SigningKey::from_seed("sum.test", &[7; 32]).unwrap();
        let mut fake = Self {
            table: Table::default(),
            key,
            records: Vec::new(),
            base: base.into(),
        };
        fake.grow("m", records);
        fake
    }

    pub(crate) fn grow(&mut self, name: &str, records: usize) {
        for number in 0..records {
            self.records
                .push(record(&format!("example.com/{name}{number}")));
        }
    }

    pub(crate) fn root(&self, lo: usize, hi: usize) -> Hash {
        if hi - lo == 1 {
            return leaf_hash(self.records[lo].as_bytes());
        }
        let half = (hi - lo).next_power_of_two() / 2;
        node_hash(&self.root(lo, lo + half), &self.root(lo + half, hi))
    }

    pub(crate) fn tree(&self) -> Tree {
        Tree {
            size: self.records.len() as u64,
            root: self.root(0, self.records.len()),
        }
    }

    /// Puts all tiles of the present size and all lookups below it.
    pub(crate) fn publish(&self) {
        let size = self.records.len() as u64;
        for tile in new_tiles(0, size) {
            let span = 256_usize.pow(tile.level().into());
            let first = usize::try_from(tile.number()).unwrap() * 256 * span;
            let hashes = (0..usize::from(tile.width()))
                .map(|at| self.root(first + at * span, first + (at + 1) * span).0);
            let bytes: Vec<u8> = hashes.flatten().collect();
            self.table
                .put(&format!("{}/{}", self.base, tile.sumdb_path()), &bytes);
        }
        let note = self.key.sign(&tree_text(&self.tree())).unwrap();
        for (index, text) in self.records.iter().enumerate() {
            let module = text.split(' ').next().unwrap();
            self.put_lookup(module, index, text, &note);
        }
    }

    /// As `publish`, for records that name their versions.
    pub(crate) fn publish_versions(&self) {
        self.publish();
        for (index, text) in self.records.iter().enumerate() {
            let words: Vec<_> = text.split(' ').collect();
            let answer = format_record(index as u64, text).unwrap() + &self.note();
            let url = format!("{}/lookup/{}@{}", self.base, words[0], words[1]);
            self.table.put(&url, answer.as_bytes());
        }
    }

    pub(crate) fn put_lookup(&self, module: &str, index: usize, text: &str, note: &str) {
        let answer = format_record(index as u64, text).unwrap() + note;
        self.table.put(
            &format!("{}/lookup/{module}@v1.0.0", self.base),
            answer.as_bytes(),
        );
    }

    pub(crate) fn note(&self) -> String {
        self.key.sign(&tree_text(&self.tree())).unwrap()
    }

    pub(crate) fn client(&self, folder: &std::path::Path) -> Sumdb {
        let key = self.key.verifier().to_string();
        let database = Database::parse(Some(&key)).unwrap();
        let sources = Sources::parse("http://proxy.test").unwrap();
        let proxy = Proxy::new(sources, Arc::new(self.table.clone()));
        Sumdb::open(database, &proxy, folder.to_path_buf(), Arc::new(NoCache)).unwrap()
    }
}

pub(crate) struct NoCache;

impl TileCache for NoCache {
    fn get(&self, _: &str) -> Option<Vec<u8>> {
        None
    }
    fn put(&self, _: &str, _: &[u8]) {}
}

pub(crate) fn h1(text: &str) -> H1 {
    crate::modzip::h1_of_go_mod(text.as_bytes())
}

pub(crate) fn record(module: &str) -> String {
    let (zip, go_mod) = (h1(module), h1(&format!("{module} go.mod")));
    format!("{module} v1.0.0 {zip}\n{module} v1.0.0/go.mod {go_mod}\n")
}
