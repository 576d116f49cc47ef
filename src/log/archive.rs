//! A log's data folder for those who only read: the auditor, also while a service appends.
//!
//! Nothing is changed and nothing is judged here. SQLite may lay its own `-wal` and `-shm` files
//! beside the database; the log's files are opened for reading only.

use std::{
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, ErrorCode};

use super::{
    LogConfig,
    records::{self, Head},
    tiles::Tiles,
};
use crate::{
    store::{db, durable},
    tlog::{Tile, Tree, tile::TILE_BYTES},
};

/// Heads that are read at a time; each has two notes of a few hundred bytes.
const HEADS_AT_ONCE: u32 = 1024;

/// The folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no log in it.
    #[error("`{folder}` is no data folder of a log")]
    NoLog {
        /// As it was named.
        folder: String,
    },
    /// The database cannot be opened.
    #[error("cannot open the database of the log")]
    Open(#[from] db::DbError),
    /// The disk, or another process.
    #[error("cannot read the database of the log")]
    Database(#[source] rusqlite::Error),
    /// The database is not what was written.
    #[error("the database of the log is damaged")]
    Damaged(#[source] rusqlite::Error),
    /// A file of the log cannot be read.
    #[error("cannot read a tile of the log")]
    Io(#[source] std::io::Error),
}

impl From<rusqlite::Error> for ArchiveError {
    fn from(error: rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        match (code, &error) {
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _)
            | (
                None,
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::Utf8Error(..)
                | rusqlite::Error::IntegralValueOutOfRange(..),
            ) => Self::Damaged(error),
            _ => Self::Database(error),
        }
    }
}

/// A head of the journal, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredHead {
    /// Size and root.
    pub tree: Tree,
    /// Note and checkpoint; nothing when it was never signed.
    pub notes: Option<(String, String)>,
}

impl From<Head> for StoredHead {
    fn from(Head { tree, notes }: Head) -> Self {
        Self { tree, notes }
    }
}

/// The folder, opened for reading.
pub struct Archive {
    db: Mutex<Connection>,
    tiles: Tiles,
}

impl Archive {
    /// Opens what `serve --data` was given, or the folder in it that is its role's own.
    ///
    /// # Errors
    /// When there is no log.
    pub fn open(folder: &Path) -> Result<Self, ArchiveError> {
        let own = folder.join(LogConfig::FOLDER);
        let configs = [own.as_path(), folder].map(LogConfig::of);
        let config = configs
            .into_iter()
            .find(|config| config.database.is_file())
            .ok_or_else(|| ArchiveError::NoLog {
                folder: folder.display().to_string(),
            })?;
        let db = db::open_to_read(&config.database)?;
        Ok(Self {
            db: Mutex::new(db),
            tiles: Tiles::new(&config.tiles),
        })
    }

    /// Verifier key that the database names.
    pub fn key(&self) -> Result<Option<String>, ArchiveError> {
        Ok(records::key(&self.db())?)
    }

    /// The newest head.
    pub fn newest(&self) -> Result<Option<StoredHead>, ArchiveError> {
        Ok(records::head(&self.db())?.map(StoredHead::from))
    }

    /// The newest signed head.
    pub fn signed(&self) -> Result<Option<StoredHead>, ArchiveError> {
        Ok(records::signed_head(&self.db())?.map(StoredHead::from))
    }

    /// Heads of more than `size` leaves, the smallest first; not all at once.
    pub fn heads_after(&self, size: u64) -> Result<Vec<StoredHead>, ArchiveError> {
        let heads = records::heads_after(&self.db(), size, HEADS_AT_ONCE)?;
        Ok(heads.into_iter().map(StoredHead::from).collect())
    }

    /// Texts of leaves `from..to`, cut behind the longest that a record may have.
    pub fn leaves(&self, from: u64, to: u64) -> Result<Vec<String>, ArchiveError> {
        Ok(records::bodies_cut(&self.db(), from, to)?)
    }

    /// Keys, and indexes of their records, of records `from..to`.
    pub fn keys(&self, from: u64, to: u64) -> Result<Vec<(u64, String)>, ArchiveError> {
        Ok(records::keys(&self.db(), from, to)?)
    }

    /// Index of the record of a key.
    pub fn index(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        let found = records::find(&self.db(), key)?;
        Ok(found.map(|(index, ..)| index))
    }

    /// The file of a full tile, whatever it holds, cut behind the length of a tile.
    pub fn tile(&self, tile: &Tile) -> Result<Option<Vec<u8>>, ArchiveError> {
        match durable::read_bounded(&self.tiles.path(tile), TILE_BYTES) {
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => Ok(Some(Vec::new())),
            other => other.map_err(ArchiveError::Io),
        }
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
