//! The signer that lives in a folder of this machine, outside the data folder.
//!
//! `<sign folder>/<key hash>/`: `log.key`, `statement.key` (secrets, 0600), `last` (what was signed
//! last, written before the signature leaves; a backup of the data folder does not reach it),
//! `lock`, and what a witness of other logs has ([`super::sign`]). Opened by the role `sign`, and
//! by the log itself in tests. It must never sign two roots for one size.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use ed25519_dalek::Signer as _;
use nix::fcntl::{Flock, FlockArg};

use super::signer::{SignError, SignedHead, Signer};
use crate::{
    provenance,
    store::durable::{self, Sector},
    tlog::{
        Hash, SigningKey, Tree, VerifierKey, empty_root, proof,
        text::{checkpoint_text, parse_tree, tree_text},
    },
};

/// Largest file of the signer, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024;

/// Keys and last head in a folder.
#[derive(Debug)]
pub struct LocalSigner {
    folder: PathBuf,
    key: SigningKey,
    statement_key: ed25519_dalek::SigningKey,
    last: Mutex<Memory>,
    /// Held for as long as this process may sign.
    _lock: Flock<File>,
}

/// The last head that may have been signed.
#[derive(Debug)]
struct Memory {
    file: Sector,
    tree: Tree,
    /// False after a write that may or may not have reached the disk: nothing is signed before one
    /// has, not even the same head once more.
    durable: bool,
}

impl LocalSigner {
    /// Makes new keys under `folder`. A crash leaves a folder that no data folder names.
    pub fn create(folder: &Path, name: &str) -> Result<Self, SignError> {
        let mut seeds = [[0; 32]; 2];
        for seed in &mut seeds {
            getrandom::fill(seed).map_err(|error| io(std::io::Error::other(error)))?;
        }
        let lost = |_| SignError::StateLost {
            what: format!("no key can have the name `{name}`"),
        };
        let key = SigningKey::from_seed(name, &seeds[0]).map_err(lost)?;
        let folder = folder.join(key.verifier().id());
        durable::create_folder(&folder, 0o700).map_err(io)?;
        let write = |name: &str, bytes: &[u8]| {
            durable::write_new(&folder.join(name), bytes, durable::SECRET).map_err(io)
        };
        let statement_key = format!("{}\n", crate::spec::hex(&seeds[1]));
        write("statement.key", statement_key.as_bytes())?;
        let none = Tree {
            size: 0,
            root: empty_root(),
        };
        write("last", &Sector::image(&tree_text(&none)))?;
        write("log.key", format!("{}\n", key.secret_text()).as_bytes())?;
        let verifier = key.verifier().clone();
        drop(key);
        let parent = folder.parent().unwrap_or(Path::new("."));
        Self::open(parent, &verifier)?.ok_or(SignError::StateLost {
            what: "log.key".to_owned(),
        })
    }

    /// Opens the signer of a key; nothing when `folder` has none.
    pub fn open(folder: &Path, key: &VerifierKey) -> Result<Option<Self>, SignError> {
        let folder = folder.join(key.id());
        let read = |name: &str| -> Result<Option<String>, SignError> {
            let bytes = durable::read_bounded(&folder.join(name), FILE_BYTES_MAX).map_err(io)?;
            let lost = |_| SignError::StateLost {
                what: name.to_owned(),
            };
            bytes
                .map(|bytes| String::from_utf8(bytes).map_err(lost))
                .transpose()
        };
        let lost = |what: &str| SignError::StateLost {
            what: what.to_owned(),
        };
        let Some(secret) = read("log.key")? else {
            return Ok(None);
        };
        let secret = SigningKey::parse(secret.trim_end()).map_err(|_| lost("log.key"))?;
        if secret.verifier() != key {
            return Err(lost("log.key"));
        }
        let seed = read("statement.key")?.and_then(|text| crate::spec::unhex(text.trim_end()));
        let seed = seed.ok_or_else(|| lost("statement.key"))?;
        let lock = File::create(folder.join("lock")).map_err(io)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, _)| SignError::Locked)?;
        durable::remove_leftovers(&folder).map_err(io)?;
        let last = Sector::open(&folder.join("last")).map_err(io)?;
        let last = Memory::recall(last.ok_or_else(|| lost("last"))?)?;
        Ok(Some(Self {
            key: secret,
            statement_key: ed25519_dalek::SigningKey::from_bytes(&seed),
            last: Mutex::new(last),
            _lock: lock,
            folder,
        }))
    }

    /// Where everything of this key lies, locked for as long as this signer lives.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn note(&self, text: &str) -> Result<String, SignError> {
        self.key.sign(text).map_err(io)
    }
}

impl Signer for LocalSigner {
    fn verifier(&self) -> &VerifierKey {
        self.key.verifier()
    }

    fn statement_key(&self) -> [u8; 32] {
        self.statement_key.verifying_key().to_bytes()
    }

    fn last(&self) -> Result<Tree, SignError> {
        Ok(self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tree)
    }

    fn sign(&self, tree: Tree, proof: &[Hash]) -> Result<SignedHead, SignError> {
        let mut memory = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let last = memory.tree;
        let contains = tree == last
            || last.size == 0 && tree.size > 0
            || last.size < tree.size && proof::check_consistency(proof, &tree, &last).is_ok();
        if !contains {
            return Err(SignError::Refused {
                last: last.size,
                size: tree.size,
            });
        }
        // Remembered before a signature exists. A crash here leaves a head that may be signed once
        // more and no other of its size.
        memory.keep(tree)?;
        let origin = self.verifier().name();
        Ok(SignedHead {
            tree,
            note: self.note(&tree_text(&tree))?,
            checkpoint: self.note(&checkpoint_text(origin, &tree))?,
        })
    }

    fn sign_statement(&self, statement: &[u8]) -> Result<[u8; 64], SignError> {
        Ok(self
            .statement_key
            .sign(&provenance::pre_authentication(statement))
            .to_bytes())
    }
}

impl Memory {
    fn recall(file: Sector) -> Result<Self, SignError> {
        let lost = || SignError::StateLost {
            what: "last".to_owned(),
        };
        let text = file.read().map_err(io)?.ok_or_else(lost)?;
        let tree = parse_tree(&text).map_err(|_| lost())?;
        if tree_text(&tree) != text || (tree.size == 0) != (tree.root == empty_root()) {
            return Err(lost());
        }
        Ok(Self {
            file,
            tree,
            durable: false, // written by a process that was killed, perhaps, before its sync
        })
    }

    /// Remembers a head that contains the last one.
    fn keep(&mut self, tree: Tree) -> Result<(), SignError> {
        if tree == self.tree && self.durable {
            return Ok(());
        }
        // Also when the write fails: then either of both may be what the disk has.
        (self.tree, self.durable) = (tree, false);
        self.file.write(&tree_text(&tree)).map_err(io)?;
        self.durable = true;
        Ok(())
    }
}

fn io(error: impl std::error::Error + Send + Sync + 'static) -> SignError {
    SignError::Io(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlog::{Note, leaf_hash, testing::NaiveTree};

    fn proof(naive: &NaiveTree, size: u64, old: u64) -> Vec<Hash> {
        let indexes = proof::consistency_indexes(size, old).unwrap();
        proof::consistency(size, old, &naive.stored(&indexes)).unwrap()
    }

    #[test]
    fn only_heads_that_contain_the_last_are_signed_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let naive = NaiveTree::of_vectors();
        let signer = LocalSigner::create(folder.path(), "log.example.org").unwrap();
        let key = signer.verifier().clone();
        let first = signer.sign(naive.tree(5), &[]).unwrap();
        assert_eq!(signer.sign(naive.tree(5), &[]).unwrap(), first);
        signer.sign(naive.tree(9), &proof(&naive, 9, 5)).unwrap();
        drop(signer);
        let signer = LocalSigner::open(folder.path(), &key).unwrap().unwrap();
        assert_eq!(signer.last().unwrap(), naive.tree(9));
        let fork = Tree {
            size: 9,
            root: leaf_hash(b"fork"),
        };
        let later = Tree { size: 12, ..fork };
        for (tree, proof) in [
            (naive.tree(5), vec![]),
            (naive.tree(0), vec![]),
            (naive.tree(12), vec![]),
            (naive.tree(12), proof(&naive, 12, 5)),
            (later, proof(&naive, 12, 9)),
            (fork, vec![]),
        ] {
            let refused = signer.sign(tree, &proof);
            assert!(
                matches!(refused, Err(SignError::Refused { last: 9, .. })),
                "{tree:?}"
            );
        }
        signer.sign(naive.tree(12), &proof(&naive, 12, 9)).unwrap();
    }

    #[test]
    fn both_notes_are_of_this_key_and_tree() {
        let folder = tempfile::tempdir().unwrap();
        let naive = NaiveTree::of_vectors();
        let signer = LocalSigner::create(folder.path(), "log.example.org").unwrap();
        let head = signer.sign(naive.tree(7), &[]).unwrap();
        let text = |note: &str| {
            let note = Note::parse(note.as_bytes()).unwrap();
            note.verify(signer.verifier()).unwrap().to_owned()
        };
        assert_eq!(text(&head.note), tree_text(&naive.tree(7)));
        assert_eq!(
            text(&head.checkpoint),
            checkpoint_text("log.example.org", &naive.tree(7))
        );
    }

    #[test]
    fn missing_or_damaged_memory_is_an_error_and_never_a_fresh_start() {
        for name in ["last", "statement.key"] {
            let folder = tempfile::tempdir().unwrap();
            let signer = LocalSigner::create(folder.path(), "x").unwrap();
            let key = signer.verifier().clone();
            drop(signer);
            let path = folder.path().join(key.id()).join(name);
            let empty = Tree {
                size: 0,
                root: leaf_hash(b"x"),
            };
            let (short, odd) = ("go.sum database tree\n7\n", tree_text(&empty));
            for bytes in [None, Some(""), Some(short), Some(odd.as_str())] {
                std::fs::remove_file(&path).unwrap();
                if let Some(bytes) = bytes {
                    durable::write_new(&path, bytes.as_bytes(), 0o600).unwrap();
                }
                let opened = LocalSigner::open(folder.path(), &key);
                assert!(
                    matches!(opened, Err(SignError::StateLost { .. })),
                    "{name} {bytes:?}"
                );
                if bytes.is_none() {
                    durable::write_new(&path, b"", 0o600).unwrap();
                }
            }
        }
    }

    #[test]
    fn one_process_at_a_time_and_secrets_are_secret() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let signer = LocalSigner::create(folder.path(), "x").unwrap();
        let again = LocalSigner::open(folder.path(), signer.verifier());
        assert!(matches!(again, Err(SignError::Locked)));
        for name in ["log.key", "statement.key"] {
            let path = folder.path().join(signer.verifier().id()).join(name);
            assert_eq!(
                std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let none = crate::tlog::SigningKey::from_seed("x", &[1; 32]).unwrap();
        assert!(
            LocalSigner::open(folder.path(), none.verifier())
                .unwrap()
                .is_none()
        );
        assert!(LocalSigner::create(folder.path(), "a b").is_err());
    }
}
