//! The signer that lives in a folder of this machine, outside the data folder.
//!
//! `<sign folder>/<key hash>/`: `log.key`, `statement.key` (secrets, 0600), `last` (what was signed
//! last, written before the signature leaves; a backup of the data folder does not reach it; see
//! [`super::memory`]), `lock`, and what a witness of other logs has ([`super::sign`]). Opened by
//! the role `sign`, and by the log itself in tests. It must never sign two roots for one size, nor
//! anything for a log that has ended.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ed25519_dalek::Signer as _;
use nix::fcntl::{Flock, FlockArg};

use super::{
    kept,
    kept::Kept,
    memory::Memory,
    signer::{SignError, SignedHead, Signer},
};
use crate::{
    provenance,
    receipt::Follows,
    store::durable::{self, Sector},
    tlog::{
        Hash, SigningKey, Tree, VerifierKey, proof,
        text::{checkpoint_text, tree_text},
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

impl LocalSigner {
    /// Makes new keys under `folder`. A crash leaves a folder that no data folder names.
    pub fn create(folder: &Path, name: &str) -> Result<Self, SignError> {
        let mut seeds = [[0; 32]; 2];
        for seed in &mut seeds {
            getrandom::fill(seed).map_err(|error| SignError::io(std::io::Error::other(error)))?;
        }
        let lost = |_| SignError::StateLost {
            what: format!("no key can have the name `{name}`"),
        };
        let key = SigningKey::from_seed(name, &seeds[0]).map_err(lost)?;
        let folder = folder.join(key.verifier().id());
        durable::create_folder(&folder, 0o700).map_err(SignError::io)?;
        let write = |name: &str, bytes: &[u8]| {
            durable::write_new(&folder.join(name), bytes, durable::SECRET).map_err(SignError::io)
        };
        let statement_key = format!("{}\n", crate::spec::hex(&seeds[1]));
        write("statement.key", statement_key.as_bytes())?;
        write("last", &Sector::image(&Memory::fresh()))?;
        write("log.key", format!("{}\n", key.secret_text()).as_bytes())?;
        let verifier = key.verifier().clone();
        drop(key);
        let parent = folder.parent().unwrap_or(Path::new("."));
        Self::open(parent, &verifier)?.ok_or(SignError::StateLost {
            what: "log.key".to_owned(),
        })
    }

    /// The signer for a log that has nothing yet: with the one key of this name that lies there and
    /// was never used (by `hotcell log keygen`, or before a crash), else with a new one.
    ///
    /// # Errors
    /// [`SignError::Taken`] when a key of this name has a past: nobody begins a second log of one
    /// name without saying so.
    pub fn begin(folder: &Path, name: &str) -> Result<Self, SignError> {
        let mut kept = kept::all(folder)?;
        kept.retain(|one| one.is_called(name));
        match kept.as_slice() {
            [] => Self::create(folder, name),
            [one] if one.is_unused() => Self::unused(folder, one),
            _ => Err(SignError::Taken { kept }),
        }
    }

    /// As [`LocalSigner::begin`], for `serve` with an empty data folder, which is a new log with a
    /// new key: other keys of the name stay as they are.
    ///
    /// # Errors
    /// [`SignError::Taken`] when a log of this name has ended, or follows one that has.
    pub fn begin_beside(folder: &Path, name: &str) -> Result<Self, SignError> {
        let kept = match Self::begin(folder, name) {
            Err(SignError::Taken { kept }) if !kept.iter().any(Kept::is_succession) => kept,
            done => return done,
        };
        match kept.iter().find(|one| one.is_unused()) {
            Some(one) => Self::unused(folder, one),
            None => Self::create(folder, name),
        }
    }

    fn unused(folder: &Path, one: &Kept) -> Result<Self, SignError> {
        let lost = || SignError::StateLost {
            what: "log.key".to_owned(),
        };
        let key = VerifierKey::parse(&one.key).map_err(|_| lost())?;
        Self::open(folder, &key)?.ok_or_else(lost)
    }

    /// A new key that no log has yet.
    ///
    /// # Errors
    /// [`SignError::Taken`] when there is any key of this name.
    pub fn generate(folder: &Path, name: &str) -> Result<Self, SignError> {
        let mut kept = kept::all(folder)?;
        kept.retain(|one| one.is_called(name));
        match kept.is_empty() {
            true => Self::create(folder, name),
            false => Err(SignError::Taken { kept }),
        }
    }

    /// Opens the signer of a key; nothing when `folder` has none.
    pub fn open(folder: &Path, key: &VerifierKey) -> Result<Option<Self>, SignError> {
        let folder = folder.join(key.id());
        let read = |name: &str| -> Result<Option<String>, SignError> {
            let bytes =
                durable::read_bounded(&folder.join(name), FILE_BYTES_MAX).map_err(SignError::io)?;
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
        let lock = File::create(folder.join("lock")).map_err(SignError::io)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, _)| SignError::Locked)?;
        durable::remove_leftovers(&folder).map_err(SignError::io)?;
        let last = Sector::open(&folder.join("last")).map_err(SignError::io)?;
        let last = Memory::recall(last.ok_or_else(|| lost("last"))?)?;
        Ok(Some(Self {
            key: secret,
            statement_key: ed25519_dalek::SigningKey::from_bytes(&seed),
            last: Mutex::new(last),
            _lock: lock,
            folder,
        }))
    }

    /// Ends the log with the head that was signed last: `next` follows it. The answer is that head
    /// and its checkpoint, which says so (see [`Follows`]); the same again gives the same. From now
    /// on, and after each start, nothing is signed any more.
    ///
    /// # Errors
    /// [`SignError::Ended`] when another log follows it already, [`SignError::Nothing`] when
    /// nothing was signed that could end.
    pub fn end(&self, next: &VerifierKey) -> Result<(Tree, String), SignError> {
        let mut memory = self.memory();
        let tree = memory.tree();
        if tree.size == 0 || next.name() == self.verifier().name() {
            return Err(SignError::Nothing);
        }
        if memory.next() != Some(next) {
            memory.goes_on()?;
        }
        // Remembered before anybody can show that it has ended, and written again for a memory that
        // may not have reached the disk.
        memory.end(next)?;
        let text = Follows::last_words(self.verifier(), &tree, next);
        Ok((tree, self.note(&text)?))
    }

    /// Refuses what only a log that goes on may do.
    pub(super) fn goes_on(&self) -> Result<(), SignError> {
        self.memory().goes_on()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where everything of this key lies, locked for as long as this signer lives.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    fn note(&self, text: &str) -> Result<String, SignError> {
        self.key.sign(text).map_err(SignError::io)
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
        let memory = self.memory();
        memory.goes_on()?;
        Ok(memory.tree())
    }

    fn sign(&self, tree: Tree, proof: &[Hash]) -> Result<SignedHead, SignError> {
        let mut memory = self.memory();
        memory.goes_on()?;
        let last = memory.tree();
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
        self.goes_on()?;
        Ok(self
            .statement_key
            .sign(&provenance::pre_authentication(statement))
            .to_bytes())
    }
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
    fn a_log_that_has_ended_signs_nothing_more_and_says_again_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let naive = NaiveTree::of_vectors();
        let unused = |name| {
            let signer = LocalSigner::create(folder.path(), name).unwrap();
            signer.verifier().clone()
        };
        let (next, other) = (unused("next.example.org"), unused("other.example.org"));
        let signer = LocalSigner::create(folder.path(), "log.example.org").unwrap();
        let key = signer.verifier().clone();
        // Nothing was signed that could end, and no name follows itself.
        assert!(matches!(signer.end(&next), Err(SignError::Nothing)));
        signer.sign(naive.tree(5), &[]).unwrap();
        assert!(matches!(signer.end(&key), Err(SignError::Nothing)));
        let (tree, checkpoint) = signer.end(&next).unwrap();
        assert_eq!(tree, naive.tree(5));
        let heard = Follows::hear(&key, checkpoint.as_bytes());
        assert_eq!(heard, Some((tree, next.clone())));
        let refuses = |signer: &LocalSigner| {
            let proof = proof(&naive, 9, 5);
            for (tree, proof) in [(naive.tree(5), &[][..]), (naive.tree(9), &proof)] {
                let refused = signer.sign(tree, proof);
                assert!(matches!(refused, Err(SignError::Ended { size: 5, .. })));
            }
            assert!(matches!(signer.last(), Err(SignError::Ended { .. })));
            let statement = signer.sign_statement(b"{}");
            assert!(matches!(statement, Err(SignError::Ended { .. })));
            assert!(matches!(signer.end(&other), Err(SignError::Ended { .. })));
            assert_eq!(signer.end(&next).unwrap(), (tree, checkpoint.clone()));
        };
        refuses(&signer);
        drop(signer);
        refuses(&LocalSigner::open(folder.path(), &key).unwrap().unwrap());
        // What stands in its memory is no head for a release that knows no end either.
        let path = folder.path().join(key.id()).join("last");
        let text = Sector::open(&path).unwrap().unwrap().read().unwrap();
        assert_eq!(
            text.unwrap(),
            format!("{}ended/1 {next}\n", tree_text(&tree))
        );
        // Its name, and that of the one that is to follow it, begin no other log.
        for name in ["log.example.org", "next.example.org"] {
            let taken = LocalSigner::begin(folder.path(), name);
            assert!(matches!(taken, Err(SignError::Taken { .. })), "{name}");
            let taken = LocalSigner::begin_beside(folder.path(), name);
            assert!(matches!(taken, Err(SignError::Taken { .. })), "{name}");
        }
        assert_eq!(
            *LocalSigner::begin(folder.path(), other.name())
                .unwrap()
                .verifier(),
            other
        );
    }

    #[test]
    fn a_key_made_ahead_is_used_once_and_one_with_a_past_never_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, name) = (folder.path().join("sign"), "log.example.org");
        let made = LocalSigner::generate(&path, name).unwrap();
        let key = made.verifier().clone();
        for _ in 0..2 {
            let Err(SignError::Taken { kept }) = LocalSigner::generate(&path, name) else {
                panic!("a second key was made");
            };
            assert!(kept.len() == 1 && kept[0].is_unused(), "{kept:?}");
        }
        drop(made);
        durable::create_folder(&path.join("something else"), 0o700).unwrap();
        let signer = LocalSigner::begin(&path, name).unwrap();
        assert_eq!(*signer.verifier(), key);
        drop(signer);
        let signer = LocalSigner::begin(&path, name).unwrap();
        signer.sign(NaiveTree::of_vectors().tree(5), &[]).unwrap();
        let Err(SignError::Taken { kept }) = LocalSigner::begin(&path, name) else {
            panic!("a key with a past was used again");
        };
        assert_eq!((kept[0].size, kept.len()), (Some(5), 1));
        assert!(LocalSigner::begin(&path, "other.example.org").is_ok());
        let beside = LocalSigner::begin_beside(&path, name).unwrap();
        assert_ne!(*beside.verifier(), key);
        let second = beside.verifier().clone();
        drop(beside);
        // Unused, as before a crash: the same once more.
        let again = LocalSigner::begin_beside(&path, name).unwrap();
        assert_eq!(*again.verifier(), second);
        drop(again);
        std::fs::remove_dir_all(path.join(second.id())).unwrap();
        // A memory that is damaged is no reason to begin anew.
        durable::replace(&path.join(key.id()).join("last"), b"x", 0o600).unwrap();
        let Err(SignError::Taken { kept }) = LocalSigner::begin(&path, name) else {
            panic!("a key without a memory was used");
        };
        assert!(kept[0].to_string().contains("damaged"), "{}", kept[0]);
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
