//! A log in memory with real keys, builds and receipts, for tests.

use ed25519_dalek::Signer as _;
use sha2::{Digest as _, Sha256};

use super::{Draft, KeysLeaf};
use crate::{
    build::{Built, CellSummary},
    fetch::wire::ModuleHash,
    provenance::{self, Builder, Run},
    spec::{BuildKey, Companion, Record, Sum},
    tlog::{Hash, OfflineProof, SigningKey, leaf_hash, proof, testing::NaiveTree, text},
};

/// The key of build 5.
pub(crate) const KEY: &str = "example.com/mod5@v1.0.0/cmd/tool/linux-amd64-go1.26.8/";
/// Seed of the key that signs envelopes.
const STATEMENT_SEED: [u8; 32] = [77; 32];

pub(crate) fn binary(n: usize) -> Vec<u8> {
    format!("binary {n} ").repeat(100).into_bytes()
}

pub(crate) fn key_of(n: usize) -> BuildKey {
    BuildKey::parse(&KEY.replace("mod5", &format!("mod{n}"))).unwrap()
}

pub(crate) fn record_of(n: usize) -> Record {
    let bytes = binary(n);
    Record {
        key: key_of(n),
        size: bytes.len() as u64,
        sum: Sum::of(&Sha256::digest(&bytes).into()),
    }
}

/// The statement on build `key` whose binary has this hash.
pub(crate) fn statement(key: &BuildKey, sha256: [u8; 32]) -> Vec<u8> {
    let h1 = "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned();
    let built = Built {
        sha256,
        size: 1,
        modules: vec![ModuleHash {
            path: key.module.path.to_string(),
            version: key.module.version.to_string(),
            h1: Some(h1.clone()),
            go_mod_h1: Some(h1.clone()),
        }],
        sdk_h1: h1,
        cell: CellSummary {
            policy: "build".to_owned(),
            policy_sha256: "ab".repeat(32),
            ..CellSummary::default()
        },
        timings_ms: Vec::new(),
        output: crate::output::Output::default(),
        warnings: Vec::new(),
        code: None,
    };
    let run = Run {
        builder: Builder::Instance("build.example.org"),
        finished_ms: 1_795_253_099_000,
    };
    provenance::statement(key, &built, run, &[]).unwrap()
}

/// An envelope signed with the key of this seed.
pub(crate) fn signed(statement: &[u8], seed: &[u8; 32]) -> Vec<u8> {
    let signing = ed25519_dalek::SigningKey::from_bytes(seed);
    let text = provenance::pre_authentication(statement);
    let signature = signing.sign(&text).to_bytes();
    provenance::envelope(statement, &signing.verifying_key().to_bytes(), &signature)
}

pub(crate) fn envelope_of(n: usize) -> Vec<u8> {
    let sha256 = Sha256::digest(binary(n)).into();
    signed(&statement(&key_of(n), sha256), &STATEMENT_SEED)
}

pub(crate) fn companion_of(n: usize) -> Companion {
    Companion {
        key: key_of(n),
        record_index: 1 + 2 * n as u64,
        sha256: Sha256::digest(binary(n)).into(),
        provenance_sha256: Sha256::digest(envelope_of(n)).into(),
    }
}

/// A log whose every leaf can be replaced.
pub(crate) struct FakeLog {
    pub(crate) signing: SigningKey,
    pub(crate) leaves: Vec<String>,
}

impl FakeLog {
    /// Leaf 0, and this many builds.
    pub(crate) fn new(name: &str, seed: u8, builds: usize) -> Self {
        let signing = SigningKey::from_seed(name, &[seed; 32]).unwrap();
        let statement = ed25519_dalek::SigningKey::from_bytes(&STATEMENT_SEED);
        let keys = KeysLeaf {
            log: signing.verifier().clone(),
            statement: statement.verifying_key().to_bytes(),
            follows: None,
        };
        let mut leaves = vec![keys.text()];
        for n in 0..builds {
            leaves.extend([record_of(n).text(), companion_of(n).text()]);
        }
        Self { signing, leaves }
    }

    pub(crate) fn tree(&self) -> NaiveTree {
        let leaves = self.leaves.iter().map(|text| leaf_hash(text.as_bytes()));
        NaiveTree {
            leaves: leaves.collect(),
        }
    }

    /// Text of the newest head.
    pub(crate) fn head(&self) -> String {
        let tree = self.tree().tree(self.leaves.len() as u64);
        text::checkpoint_text(self.signing.verifier().name(), &tree)
    }

    pub(crate) fn checkpoint(&self) -> String {
        self.signing.sign(&self.head()).unwrap()
    }

    pub(crate) fn path(&self, index: u64) -> Vec<Hash> {
        let size = self.leaves.len() as u64;
        let indexes = proof::inclusion_indexes(size, index).unwrap();
        proof::inclusion(size, index, &self.tree().stored(&indexes)).unwrap()
    }

    pub(crate) fn draft(&self, n: usize) -> Draft {
        let record_index = 1 + 2 * n as u64;
        let index = record_index + 1;
        Draft {
            proof: OfflineProof {
                extra: None,
                index,
                path: self.path(index),
                checkpoint: self.checkpoint(),
            },
            companion: companion_of(n).text(),
            record: record_of(n).text(),
            record_index,
            record_path: self.path(record_index),
            keys: self.leaves[0].clone(),
            keys_path: self.path(0),
        }
    }

    pub(crate) fn receipt(&self, n: usize) -> String {
        self.draft(n).finish(Some(envelope_of(n))).to_string()
    }
}
