//! Client of the checksum database: which hashes the files of a module version must have.
//!
//! Owns: the last signed head that was seen, durably, and the rule that every answer must be in a
//! tree that extends it. Called by `fetch`. Must never return a hash that is not proven to be in
//! that tree, and never forget a head: a database that shows two histories is caught by nothing
//! else. The arithmetic is [`crate::tlog`]'s.

mod head;
mod tiles;

use std::{path::PathBuf, sync::Arc};

use crate::{
    modzip::H1,
    proxy::{Limits, Proxy, ProxyError, Sources},
    spec::ModuleVersion,
    tlog::{
        Note, NoteError, ReadError, TextError, Tree, VerifierKey, reader,
        text::{parse_record, parse_tree},
    },
};
use head::HeadStore;
pub use head::StateError;
use tiles::Tiles;
pub use tiles::{TileCache, TileError};

/// Key of the checksum database that the go command knows by itself (`modfetch/key.go`).
pub const DEFAULT_KEY: &str =
    "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
/// Name of that database, which stands for its key.
const DEFAULT_NAME: &str = "sum.golang.org";
/// Another address of it; same key.
const DEFAULT_NAME_CN: &str = "sum.golang.google.cn";
/// Longest answer to a lookup in bytes; real ones have under 1 KiB.
const LOOKUP_BYTES_MAX: u64 = 64 * 1024;

/// Which database, and where.
#[derive(Debug, Clone)]
pub struct Database {
    key: VerifierKey,
    /// Ask here, and no proxy.
    url: Option<Sources>,
}

/// Why a `GOSUMDB` text names no database.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Nothing would be verified.
    #[error("`off` is refused: modules are always verified against a checksum database")]
    Off,
    /// Not of the form.
    #[error(
        "the checksum database must be given as `name+hash+key`, with its own URL after a space"
    )]
    Form,
}

impl Database {
    /// Parses the form of `GOSUMDB`; nothing stands for the default.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub fn parse(text: Option<&str>) -> Result<Self, DatabaseError> {
        let mut words = text.unwrap_or(DEFAULT_NAME).split_whitespace();
        let name = words.next().unwrap_or(DEFAULT_NAME);
        let (key, mut url) = match name {
            "off" => return Err(DatabaseError::Off),
            DEFAULT_NAME => (DEFAULT_KEY, None),
            DEFAULT_NAME_CN => (DEFAULT_KEY, Some(format!("https://{DEFAULT_NAME_CN}"))),
            key => (key, None),
        };
        url = words.next().map(ToOwned::to_owned).or(url);
        let key = VerifierKey::parse(key).map_err(|_| DatabaseError::Form)?;
        let url = url
            .map(|url| Sources::parse(&url))
            .transpose()
            .map_err(|_| DatabaseError::Form)?;
        if words.next().is_some() {
            return Err(DatabaseError::Form);
        }
        Ok(Self { key, url })
    }
}

/// The hashes of one module version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Of the zip.
    pub zip: H1,
    /// Of the go.mod.
    pub go_mod: H1,
}

/// Why there are no hashes. Nothing of the module may be used then.
#[derive(Debug, thiserror::Error)]
pub enum SumdbError {
    /// The database does not have this version: it does not exist, or is not public.
    #[error("the checksum database has no `{module}`")]
    Missing {
        /// Which one.
        module: ModuleVersion,
        /// Its answer.
        source: ProxyError,
    },
    /// It cannot be reached.
    #[error("cannot ask the checksum database")]
    Unreachable(#[source] ProxyError),
    /// What came back is not an answer.
    #[error("the checksum database answers `{module}` with something else")]
    Garbage {
        /// Which one.
        module: ModuleVersion,
        /// What is wrong.
        source: TextError,
    },
    /// The head is not signed by the key that is trusted, or not at all.
    #[error("the answer of the checksum database for `{module}` is not signed by it")]
    Signature {
        /// Which one.
        module: ModuleVersion,
        /// What is wrong.
        source: NoteError,
    },
    /// The database contradicts itself: somebody shows us another history than before, or forged
    /// this answer. The head on disk is still the old one.
    #[error(
        "security alarm: the checksum database of {size} records contradicts itself at `{module}`"
    )]
    Contradiction {
        /// Which one.
        module: ModuleVersion,
        /// Size of its tree.
        size: u64,
        /// The proof that failed.
        source: ReadError<TileError>,
    },
    /// A proof could not be had.
    #[error("cannot prove the answer of the checksum database for `{module}`")]
    Unproven {
        /// Which one.
        module: ModuleVersion,
        /// Why.
        source: ReadError<TileError>,
    },
    /// The record is genuine, and another module's.
    #[error("the checksum database answers with a record that has no hashes of `{module}`")]
    OtherRecord {
        /// Which one.
        module: ModuleVersion,
    },
    /// The head on our disk.
    #[error("cannot keep the head of the checksum database")]
    State(#[from] StateError),
}

/// A client of one database.
#[derive(Clone)]
pub struct Sumdb {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    key: VerifierKey,
    /// Goes through the module proxies, below `sumdb/<name>/`.
    proxied: Option<Proxy>,
    /// Goes to the database itself.
    direct: Option<Proxy>,
    is_proxied: tokio::sync::OnceCell<bool>,
    head: HeadStore,
    tiles: Tiles,
}

impl Sumdb {
    /// A client whose last head is kept below `folder`, and authenticated tiles in `cache`.
    ///
    /// # Errors
    /// When the head on disk is damaged or has vanished.
    pub fn open(
        database: Database,
        proxy: &Proxy,
        folder: PathBuf,
        cache: Arc<dyn TileCache>,
    ) -> Result<Self, StateError> {
        let own = Sources::parse(&format!("https://{}", database.key.name())).ok();
        let proxied = database.url.is_none().then(|| proxy.clone());
        let direct = database.url.or(own).map(|sources| proxy.with(sources));
        let head = HeadStore::open(folder.join(database.key.id()), &database.key)?;
        let tiles = Tiles::new(cache, database.key.id());
        let is_proxied = tokio::sync::OnceCell::new();
        let inner = Inner {
            key: database.key,
            proxied,
            direct,
            is_proxied,
            head,
            tiles,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The hashes of a module version, proven.
    ///
    /// # Errors
    /// See [`SumdbError`].
    pub async fn lookup(&self, module: &ModuleVersion) -> Result<Sums, SumdbError> {
        let path = format!(
            "lookup/{}@{}",
            module.path.escaped(),
            module.version.escaped()
        );
        let answer =
            self.inner
                .get(&path, LOOKUP_BYTES_MAX)
                .await
                .map_err(|source| match source {
                    ProxyError::Missing { .. } => SumdbError::Missing {
                        module: module.clone(),
                        source,
                    },
                    source => SumdbError::Unreachable(source),
                })?;
        let garbage = |source| SumdbError::Garbage {
            module: module.clone(),
            source,
        };
        let unsigned = |source| SumdbError::Signature {
            module: module.clone(),
            source,
        };
        let (index, text, note) = parse_record(&answer).map_err(garbage)?;
        let signed = Note::parse(note).map_err(unsigned)?;
        let tree =
            parse_tree(signed.verify(&self.inner.key).map_err(unsigned)?).map_err(garbage)?;
        let head = self.merge(tree, note, module).await?;
        let prove = |fresh| {
            let source = self.source(fresh);
            async move { reader::check_record(head, index, text.as_bytes(), &source).await }
        };
        twice(prove)
            .await
            .map_err(|error| unproven(module, head, error))?;
        sums(text, module).ok_or_else(|| SumdbError::OtherRecord {
            module: module.clone(),
        })
    }

    /// The newest head that was verified.
    #[must_use]
    pub fn head(&self) -> Option<Tree> {
        self.inner.head.current()
    }

    /// Takes in a head whose signature was verified; returns the newest one known.
    async fn merge(
        &self,
        tree: Tree,
        note: &[u8],
        module: &ModuleVersion,
    ) -> Result<Tree, SumdbError> {
        loop {
            let Some(known) = self.inner.head.current() else {
                // First contact: nothing to compare with.
                if self.inner.head.replace(None, tree, note, &self.inner.key)? {
                    return Ok(tree);
                }
                continue; // another process was faster: compare with its head
            };
            if known == tree {
                return Ok(known);
            }
            let (older, newer) = if tree.size <= known.size {
                (tree, known)
            } else {
                (known, tree)
            };
            let prove = |fresh| {
                let source = self.source(fresh);
                async move { reader::check_prefix(older, newer, &source).await }
            };
            twice(prove)
                .await
                .map_err(|error| unproven(module, newer, error))?;
            if newer == known
                || self
                    .inner
                    .head
                    .replace(Some(known), tree, note, &self.inner.key)?
            {
                return Ok(newer);
            }
        }
    }

    fn source(&self, fresh: bool) -> tiles::Source {
        tiles::Source {
            inner: Arc::clone(&self.inner),
            fresh,
        }
    }
}

/// Proves with what is in the cache, and once more with nothing from there when that contradicts
/// itself: then the disk may be at fault.
async fn twice<F: Future<Output = Result<(), ReadError<TileError>>>>(
    prove: impl Fn(bool) -> F,
) -> Result<(), ReadError<TileError>> {
    match prove(false).await {
        Err(ReadError::Inconsistent | ReadError::NotContained { .. }) => prove(true).await,
        result => result,
    }
}

fn unproven(module: &ModuleVersion, tree: Tree, source: ReadError<TileError>) -> SumdbError {
    let module = module.clone();
    match source {
        ReadError::Source(_) => SumdbError::Unproven { module, source },
        _ => SumdbError::Contradiction {
            module,
            size: tree.size,
            source,
        },
    }
}

impl Inner {
    /// Asks for a path below the database's root.
    async fn get(&self, path: &str, bytes_max: u64) -> Result<Vec<u8>, ProxyError> {
        let limits = Limits::small(bytes_max);
        let what = format!("`{path}` of the checksum database `{}`", self.key.name());
        let mut body = Vec::new();
        let is_proxied = *self.is_proxied.get_or_try_init(|| self.find_way()).await?;
        match (&self.proxied, &self.direct) {
            (Some(proxy), _) if is_proxied => {
                let path = format!("sumdb/{}/{path}", self.key.name());
                proxy.get(&path, &what, limits, &mut body).await?;
            }
            (_, Some(direct)) => direct.get(path, &what, limits, &mut body).await?,
            _ => {
                return Err(ProxyError::Garbage {
                    what,
                    why: "its name is no address",
                });
            }
        }
        Ok(body)
    }

    /// Whether a proxy offers the database (`/sumdb/<name>/supported`).
    async fn find_way(&self) -> Result<bool, ProxyError> {
        let Some(proxy) = &self.proxied else {
            return Ok(false);
        };
        let path = format!("sumdb/{}/supported", self.key.name());
        let mut body = Vec::new();
        match proxy
            .get(&path, "checksum database", Limits::small(1024), &mut body)
            .await
        {
            Ok(()) => Ok(true),
            Err(ProxyError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Finds both hashes in a record.
fn sums(text: &str, module: &ModuleVersion) -> Option<Sums> {
    let find = |version: &str| {
        let head = format!("{} {version} ", module.path);
        let mut hashes = text.lines().filter_map(|line| line.strip_prefix(&head));
        let hash = hashes.next()?;
        hashes.next().is_none().then(|| H1::parse(hash).ok())?
    };
    let zip = find(module.version.as_str())?;
    let go_mod = find(&format!("{}/go.mod", module.version))?;
    Some(Sums { zip, go_mod })
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
