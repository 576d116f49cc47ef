//! A log in a table whose every answer can be replaced, for the tests of this module.

use std::{path::PathBuf, sync::Arc};

use sha2::{Digest, Sha256};

use super::*;
use crate::{
    proxy::table::Table,
    spec::{BuildKey, Companion, Record, Sum},
    tlog::{
        SigningKey, leaf_hash,
        testing::NaiveTree,
        text::{checkpoint_text, data_tile, entry_bundle, tree_text},
        tile::{self, new_tiles},
    },
};

pub(super) const URL: &str = "https://log.example.org/tlog";

pub(super) fn key_of(n: usize) -> BuildKey {
    BuildKey::parse(&format!(
        "example.com/mod{n}@v1.0.0/cmd/tool/linux-amd64-go1.26.8/"
    ))
    .unwrap()
}

pub(super) fn record_of(n: usize) -> Record {
    let sha256: [u8; 32] = Sha256::digest(format!("binary {n}")).into();
    Record {
        key: key_of(n),
        size: 1000,
        sum: Sum::of(&sha256),
    }
}

pub(super) fn companion_of(n: usize) -> Companion {
    Companion {
        key: key_of(n),
        record_index: 1 + 2 * n as u64,
        sha256: Sha256::digest(format!("binary {n}")).into(),
        provenance_sha256: [9; 32],
    }
}

/// A log, honest until a test changes its table.
#[derive(Clone)]
pub(super) struct FakeLog {
    pub(super) signing: Arc<SigningKey>,
    pub(super) leaves: Vec<String>,
    pub(super) table: Table,
}

impl FakeLog {
    /// Leaf 0 and this many builds.
    pub(super) fn new(builds: usize) -> Self {
        let signing = SigningKey::from_seed("log.example.org", &[5; 32]).unwrap();
        let zero = format!(
            "key/1 log {}\nkey/1 dsse ed25519:{}\n",
            signing.verifier(),
            "ab".repeat(32)
        );
        let mut log = Self {
            signing: Arc::new(signing),
            leaves: vec![zero],
            table: Table::default(),
        };
        log.grow(builds);
        log.publish();
        log
    }

    /// The same log with another table.
    pub(super) fn elsewhere(&self) -> Self {
        Self {
            table: Table::default(),
            ..self.clone()
        }
    }

    pub(super) fn grow(&mut self, builds: usize) {
        let first = self.leaves.len() / 2;
        for n in first..first + builds {
            self.leaves
                .extend([record_of(n).text(), companion_of(n).text()]);
        }
    }

    pub(super) fn tree(&self) -> NaiveTree {
        let leaves = self.leaves.iter().map(|text| leaf_hash(text.as_bytes()));
        NaiveTree {
            leaves: leaves.collect(),
        }
    }

    pub(super) fn head(&self) -> Tree {
        self.tree().tree(self.leaves.len() as u64)
    }

    pub(super) fn note(&self) -> String {
        self.signing.sign(&tree_text(&self.head())).unwrap()
    }

    pub(super) fn checkpoint(&self) -> String {
        let name = self.signing.verifier().name();
        self.signing
            .sign(&checkpoint_text(name, &self.head()))
            .unwrap()
    }

    pub(super) fn put(&self, path: &str, body: &[u8]) {
        self.table.put(&format!("{URL}/{path}"), body);
    }

    /// All parts of the present leaves, honest.
    pub(super) fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let naive = self.tree();
        let mut parts = vec![
            ("latest".to_owned(), self.note().into_bytes()),
            ("checkpoint".to_owned(), self.checkpoint().into_bytes()),
        ];
        for tile in new_tiles(0, self.leaves.len() as u64) {
            let hashes = naive.tile(&tile);
            parts.push((tile.sumdb_path(), hashes.clone()));
            parts.push((tile.c2sp_path(), hashes));
            if tile.level() == 0 {
                let first = usize::try_from(tile.number()).unwrap() * 256;
                let texts = &self.leaves[first..first + usize::from(tile.width())];
                let texts = texts.iter().map(String::as_str);
                parts.push((tile::data_path(&tile), data_tile(texts.clone())));
                parts.push((tile::entries_path(&tile), entry_bundle(texts).unwrap()));
            }
        }
        parts
    }

    pub(super) fn publish(&self) {
        for (path, body) in self.parts() {
            self.put(&path, &body);
        }
    }

    pub(super) fn key(&self) -> &VerifierKey {
        self.signing.verifier()
    }

    pub(super) async fn audit(&self, user: &User) -> Result<Audited, AuditError> {
        let http = Arc::new(self.table.clone());
        audit_url(URL, self.key(), &user.state(), Percent::ALL, http).await
    }
}

/// A user's state.
pub(super) struct User(tempfile::TempDir);

impl User {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    /// The head that was kept for a log.
    pub(super) fn kept(&self, log: &FakeLog) -> Option<Tree> {
        let state = State::open(&self.state(), log.key(), &mut Vec::new()).unwrap();
        state.latest().unwrap().map(|(_, tree)| tree)
    }
}
