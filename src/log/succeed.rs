//! A log that follows another one, whose data is lost: what is left of the old one, and the first
//! leaf of the new one.
//!
//! Called by `hotcell log succeed`, never by a service, with both keys in the role `sign`. The
//! order of the whole, so that a crash leaves the old log or the new one and never two:
//!
//! 1. the new key is made; after a crash here it is one that was never used;
//! 2. the old log ends, in one sector of its signer's memory that names the new key: from here on
//!    it can sign nothing, and no `serve` begins a log under either name;
//! 3. what is left of its data is set aside, by one rename;
//! 4. the new log begins, in one transaction, with a leaf 0 that says what it follows.
//!
//! Each step finds out whether it was done before. Nothing is ever deleted here.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use super::{
    LoadError, Log, LogConfig, OpenError, records,
    signer::Signer,
    startup::{self, checked_edge, compare},
    tiles::Tiles,
};
use crate::{
    receipt::{Follows, KeysLeaf},
    store::db,
    tlog::VerifierKey,
};

/// Names that are tried for a folder that is set aside; more than one only after copies of the old
/// data were brought back.
const ASIDE_MAX: usize = 100;

/// How much is left of a log that is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// All that its key has signed: records of its newest head.
    Whole(u64),
    /// Not all, and what is wrong.
    Lost(String),
}

/// Looks at what is left of the log of `signer`.
///
/// # Errors
/// When a service runs on it, when it is another log, or the disk does not say.
pub fn left(config: &LogConfig, signer: &dyn Signer) -> Result<Left, OpenError> {
    if !config.database.try_exists().map_err(LoadError::io)? {
        return Ok(Left::Lost("its database is gone".to_owned()));
    }
    let _lock = startup::lock(config)?;
    match judge(config, signer) {
        Ok(left) => Ok(left),
        Err(OpenError::Load(error @ LoadError::Damaged { .. })) => {
            Ok(Left::Lost(error.to_string()))
        }
        Err(error @ OpenError::Orphaned { .. }) => Ok(Left::Lost(error.to_string())),
        Err(OpenError::Database(db::DbError::Sqlite(error)))
        | Err(OpenError::Load(LoadError::Database(error)))
            if is_damage(&error) =>
        {
            Ok(Left::Lost(format!("its database is damaged: {error}")))
        }
        Err(error) => Err(error),
    }
}

fn judge(config: &LogConfig, signer: &dyn Signer) -> Result<Left, OpenError> {
    let Some(key) = startup::key(config)? else {
        return Ok(Left::Lost("its database is empty".to_owned()));
    };
    if key != *signer.verifier() {
        return Err(OpenError::OtherLog {
            key: key.to_string(),
        });
    }
    let db = startup::open_database(config)?;
    let tiles = Tiles::new(&config.tiles);
    let head = records::head(&db).map_err(LoadError::from)?;
    let Some(head) = head else {
        return Ok(Left::Lost("its database has no head".to_owned()));
    };
    if let Some(fence) = compare(&db, &tiles, signer)? {
        return Ok(Left::Lost(fence.why));
    }
    checked_edge(&db, &tiles, &head.tree)?;
    Ok(Left::Whole(head.tree.size))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let code = error.sqlite_error_code();
    // Without a code it is one of ours: a column that is not what was written.
    code.is_none_or(|code| matches!(code, DatabaseCorrupt | NotADatabase))
}

/// Takes everybody's right to write the files of the log of `key`, and puts its folder aside,
/// beside itself; says where it is. A crash leaves it here, to be done again, or there.
///
/// # Errors
/// When the disk refuses.
pub fn set_aside(own: &Path, key: &VerifierKey) -> io::Result<PathBuf> {
    let id = key.id();
    let short = id.get(..16).unwrap_or(&id);
    for n in 1..=ASIDE_MAX {
        let name = match n {
            1 => format!("ended-{short}"),
            n => format!("ended-{short}-{n}"),
        };
        let aside = own.with_file_name(name);
        if aside.try_exists()? {
            continue;
        }
        protect(own)?;
        fs::rename(own, &aside)?;
        let parent = own.parent().filter(|path| !path.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        return Ok(aside);
    }
    let text = format!("`{}` was set aside {ASIDE_MAX} times", own.display());
    Err(io::Error::other(text))
}

/// Makes all files below a folder read-only. Not SQLite's index of its write-ahead log, which has
/// no data and which readers write.
fn protect(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            protect(&path)?;
            continue;
        }
        if !entry.file_type()?.is_file() || path.to_string_lossy().ends_with("-shm") {
            continue;
        }
        // By descriptor: the folder is that of another user, who may put a link there.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags.bits()).open(&path)?;
        let meta = file.metadata()?;
        if meta.is_file() {
            let mode = meta.permissions().mode() & !0o222;
            file.set_permissions(Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

impl Log {
    /// What it says in leaf 0 of the log that it follows; nothing for most.
    pub fn follows(&self) -> Option<Follows> {
        let leaf = self.leaves(0, 1).ok()?.into_iter().next()?;
        KeysLeaf::parse(&leaf).ok()?.follows
    }

    /// Begins the log of `signer` in an empty folder, with a leaf 0 that says what it follows. A
    /// crash leaves an empty folder, or a log whose first head the next start signs.
    ///
    /// # Errors
    /// When the folder is not empty, or the old key has not signed that this one follows.
    pub fn begin_after(
        config: &LogConfig,
        signer: &dyn Signer,
        follows: &Follows,
    ) -> Result<(), OpenError> {
        let begin = |why: &str| OpenError::Begin(why.into());
        if !follows.is_signed(signer.verifier()) {
            return Err(begin("the old key has not signed that this log follows"));
        }
        let db = startup::open_database(config)?;
        let _lock = startup::lock(config)?;
        if let Some(key) = startup::key(config)? {
            let key = key.to_string();
            return Err(OpenError::OtherLog { key });
        }
        startup::begin(&db, Some(signer), Some(follows)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        log::LocalSigner,
        store::durable,
        tlog::{Tree, leaf_hash},
    };

    struct Scene {
        folder: tempfile::TempDir,
        key: VerifierKey,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (own, sign) = (folder.path().join("serve"), folder.path().join("sign"));
            let log = Log::open_local(&LogConfig::of(&own), &sign, "old.example").unwrap();
            let key = VerifierKey::parse(log.verifier_key()).unwrap();
            Self { folder, key }
        }

        fn own(&self) -> PathBuf {
            self.folder.path().join("serve")
        }

        fn config(&self) -> LogConfig {
            LogConfig::of(&self.own())
        }

        fn signer(&self) -> LocalSigner {
            let signer = LocalSigner::open(&self.folder.path().join("sign"), &self.key);
            signer.unwrap().unwrap()
        }

        fn next(&self) -> LocalSigner {
            LocalSigner::begin(&self.folder.path().join("sign"), "new.example").unwrap()
        }
    }

    #[test]
    fn what_is_left_of_a_log_is_judged_by_what_its_signer_remembers() {
        let scene = Scene::new();
        let judge = || left(&scene.config(), &scene.signer());
        assert_eq!(judge().unwrap(), Left::Whole(1));
        let lost = |what: &str| match judge().unwrap() {
            Left::Lost(why) => assert!(why.contains(what), "no `{what}` in {why}"),
            Left::Whole(_) => panic!("it is not whole: {what}"),
        };
        let damage = |sql: &str| {
            let db = rusqlite::Connection::open(scene.config().database).unwrap();
            db.execute_batch(sql).unwrap();
        };
        damage("UPDATE log_record SET body = 'x' || body");
        lost("a fork"); // one of both is not what was signed
        damage("UPDATE log_record SET body = substr(body, 2)");
        assert_eq!(judge().unwrap(), Left::Whole(1));
        // The signer has signed more than the folder has.
        let (size, root) = (3, leaf_hash(b"another"));
        let memory = crate::tlog::text::tree_text(&Tree { size, root });
        let path = scene.folder.path().join("sign").join(scene.key.id());
        let before = std::fs::read(path.join("last")).unwrap();
        let newer = durable::Sector::image(&memory);
        durable::replace(&path.join("last"), &newer, 0o600).unwrap();
        lost("an older copy was restored");
        durable::replace(&path.join("last"), &before, 0o600).unwrap();
        damage("DELETE FROM log_head");
        lost("no head");
        // Another log, a service that runs, and a disk that does not say, are no losses.
        let other = left(&scene.config(), &scene.next());
        assert!(matches!(other, Err(OpenError::OtherLog { .. })));
        let lock = startup::lock(&scene.config()).unwrap();
        assert!(matches!(judge(), Err(OpenError::Locked)));
        drop(lock);
        damage("DELETE FROM log_meta");
        lost("empty");
        durable::replace(&scene.config().database, &[b'x'; 4096], 0o600).unwrap();
        lost("damaged");
        std::fs::remove_file(scene.config().database).unwrap();
        lost("gone");
    }

    #[test]
    fn the_next_log_begins_once_in_an_empty_folder_with_the_word_of_the_old_one() {
        let scene = Scene::new();
        let (old, next) = (scene.signer(), scene.next());
        let (tree, checkpoint) = old.end(next.verifier()).unwrap();
        let follows = Follows::new(&scene.key, &checkpoint, next.verifier()).unwrap();
        let begin = || Log::begin_after(&scene.config(), &next, &follows);
        assert!(matches!(begin(), Err(OpenError::OtherLog { .. })));
        let aside = set_aside(&scene.own(), &scene.key).unwrap();
        let database = LogConfig::of(&aside).database;
        let mode = std::fs::metadata(&database).unwrap().permissions().mode();
        assert_eq!((mode & 0o222, scene.own().exists()), (0, false));
        let not_signed = Log::begin_after(&scene.config(), &old, &follows);
        assert!(matches!(not_signed, Err(OpenError::Begin(_))));
        begin().unwrap();
        assert!(begin().is_err());
        // As after a crash here: the next start signs its first head.
        let log = Log::open(&scene.config(), Some(std::sync::Arc::new(next))).unwrap();
        assert_eq!(log.health(), crate::log::Health::Live);
        let said = log.follows().unwrap();
        assert_eq!((&said, said.tree), (&follows, tree));
        // Brought back and set aside once more, nothing is overwritten.
        drop(log);
        let again = set_aside(&scene.own(), &scene.key).unwrap();
        assert!(again != aside && database.is_file());
    }
}
