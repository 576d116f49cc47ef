//! Verified files of modules: proven hash, download, check, cache. One download per file at a time.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use super::{
    cache::{Cache, Kind, Temporary, name_of},
    check,
    error::FetchError,
};
use crate::{
    modzip::{Archive, H1, h1_of_go_mod, prefix, rewrite},
    proxy::{Proxy, ProxyError, Sink},
    spec::{ModulePath, ModuleVersion, Version},
    sumdb::{Sumdb, SumdbError, Sums},
};

/// How long an absence is believed, so that strangers cannot make us ask again and again.
const ABSENT_FOR: Duration = Duration::from_secs(60);
/// Most absences that are remembered; all are forgotten when there are more.
const ABSENT_MAX: usize = 10_000;

/// A verified file.
#[derive(Debug)]
pub(super) struct Verified {
    /// Open for reading.
    pub(super) file: File,
    /// Its length.
    pub(super) bytes: u64,
    /// Its hash.
    pub(super) h1: H1,
}

/// The only way to files of modules.
pub(super) struct Modules {
    pub(super) proxy: Proxy,
    pub(super) cache: Arc<Cache>,
    sumdb: Sumdb,
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    absent: Mutex<HashMap<String, Instant>>,
}

impl Modules {
    pub(super) fn new(proxy: Proxy, sumdb: Sumdb, cache: Arc<Cache>) -> Self {
        let (flights, absent) = (Mutex::default(), Mutex::default());
        Self {
            proxy,
            cache,
            sumdb,
            flights,
            absent,
        }
    }

    /// Lets one task at a time work on a file; the others find its result in the cache.
    pub(super) async fn flight(&self, what: String) -> tokio::sync::OwnedMutexGuard<()> {
        let flight = {
            let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
            flights.retain(|_, flight| flight.strong_count() > 0);
            let known = flights.get(&what).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::new(tokio::sync::Mutex::new(()));
                flights.insert(what, Arc::downgrade(&new));
                new
            })
        };
        flight.lock_owned().await
    }

    /// The hashes that a module's files must have.
    pub(super) async fn sums(&self, module: &ModuleVersion) -> Result<Sums, FetchError> {
        let _flight = self.flight(format!("sums {module}")).await;
        let name = name_of(&module.to_string());
        if let Some(text) = self.cache.get_small(Kind::Sums, &name)?
            && let Some(sums) = parse_sums(&text, module)
        {
            return Ok(sums);
        }
        let what = format!("sums of {module}");
        if self.is_absent(&what) {
            return Err(FetchError::NotFound(format!(
                "the checksum database has no `{module}`, as of a minute ago"
            )));
        }
        match self.sumdb.lookup(module).await {
            Ok(sums) => {
                let text = format!("{module}\n{}\n{}\n", sums.zip, sums.go_mod);
                self.cache.put(Kind::Sums, &name, text.as_bytes())?;
                Ok(sums)
            }
            Err(error) => {
                if matches!(error, SumdbError::Missing { .. }) {
                    self.note_absent(&what);
                }
                Err(error.into())
            }
        }
    }

    /// Proves the hashes of a module now, whatever was proven before; the size of the head.
    pub(super) async fn prove(&self, module: &ModuleVersion) -> Result<u64, FetchError> {
        self.sumdb.lookup(module).await?;
        Ok(self.sumdb.head().map_or(0, |head| head.size))
    }

    /// Whether its hashes were proven before.
    pub(super) fn is_proven(&self, module: &ModuleVersion) -> Result<bool, FetchError> {
        let text = self
            .cache
            .get_small(Kind::Sums, &name_of(&module.to_string()))?;
        Ok(text.is_some_and(|text| parse_sums(&text, module).is_some()))
    }

    /// The concrete version of a query; an absence is remembered for a while.
    pub(super) async fn info(&self, path: &ModulePath, query: &str) -> Result<Version, FetchError> {
        let what = format!("{path}@{query}");
        if self.is_absent(&what) {
            return Err(FetchError::NotFound(format!(
                "the module proxy has no `{what}`, as of a minute ago"
            )));
        }
        let result = self.proxy.info(path, query).await;
        if matches!(result, Err(ProxyError::Missing { .. })) {
            self.note_absent(&what);
        }
        Ok(result?)
    }

    fn is_absent(&self, what: &str) -> bool {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent
            .get(what)
            .is_some_and(|since| since.elapsed() < ABSENT_FOR)
    }

    fn note_absent(&self, what: &str) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(what.to_owned(), Instant::now());
    }

    /// The verified go.mod, and its content.
    pub(super) async fn go_mod(
        &self,
        module: &ModuleVersion,
    ) -> Result<(Verified, Vec<u8>), FetchError> {
        let h1 = self.sums(module).await?.go_mod;
        let name = h1.hex();
        let _flight = self.flight(format!("mod {name}")).await;
        if let Some(mut file) = self.cache.get(Kind::GoMod, &name)? {
            let mut content = Vec::new();
            file.read_to_end(&mut content)?;
            // Costs nothing, and a rotten disk is found here and not by the compiler.
            if h1_of_go_mod(&content) == h1 {
                file.rewind()?;
                return Ok((
                    Verified {
                        file,
                        bytes: content.len() as u64,
                        h1,
                    },
                    content,
                ));
            }
            drop(file);
            self.cache
                .put_away(Kind::GoMod, &name, "has other bytes than its name says")?;
        }
        let content = self.proxy.go_mod(module).await?;
        let found = h1_of_go_mod(&content);
        if found != h1 {
            return Err(mismatch(format!("go.mod of `{module}`"), h1, found));
        }
        let file = self.cache.put(Kind::GoMod, &name, &content)?;
        Ok((
            Verified {
                file,
                bytes: content.len() as u64,
                h1,
            },
            content,
        ))
    }

    /// A zip of the cache, read once more: hashing costs a hundredth of compiling what it holds.
    async fn cached_zip(&self, name: &str) -> Result<Option<File>, FetchError> {
        let (cache, name) = (Arc::clone(&self.cache), name.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let Some(file) = cache.get(Kind::Zip, &name)? else {
                return Ok(None);
            };
            if check::is_named(Kind::Zip, &name, &file)? {
                return Ok(Some(file));
            }
            cache.put_away(Kind::Zip, &name, "has other bytes than its name says")?;
            Ok::<_, io::Error>(None)
        });
        Ok(read.await??)
    }

    /// The verified zip in its canonical form.
    pub(super) async fn zip(&self, module: &ModuleVersion) -> Result<Verified, FetchError> {
        let h1 = self.sums(module).await?.zip;
        let name = h1.hex();
        let _flight = self.flight(format!("zip {name}")).await;
        if let Some(file) = self.cached_zip(&name).await? {
            let bytes = file.metadata()?.len();
            return Ok(Verified { file, bytes, h1 });
        }
        let mut download = Download::new(self.cache.temporary()?, |_, _| {});
        self.proxy.zip(module, &mut download).await?;
        let (cache, module) = (Arc::clone(&self.cache), module.clone());
        let file = tokio::task::spawn_blocking(move || {
            let mut canonical = cache.temporary()?;
            let refused = |source| FetchError::Zip {
                module: module.to_string(),
                source,
            };
            let prefix = prefix(module.path.as_str(), module.version.as_str());
            let archive = Archive::open(&download.new.file, &prefix).map_err(refused)?;
            let hashed = rewrite(&archive, &mut canonical.file).map_err(refused)?;
            if hashed.h1 != h1 {
                return Err(mismatch(format!("zip of `{module}`"), h1, hashed.h1));
            }
            // Only now does it get a name that somebody reads.
            Ok(cache.publish(canonical, Kind::Zip, &name)?)
        });
        let file = file.await??;
        let bytes = file.metadata()?.len();
        Ok(Verified { file, bytes, h1 })
    }
}

fn mismatch(what: String, expected: H1, found: H1) -> FetchError {
    let judge = "the checksum database";
    FetchError::Mismatch {
        what,
        judge,
        expected: expected.to_string(),
        found,
    }
}

/// Reads back what [`Modules::sums`] has written. What does not parse is asked for again.
fn parse_sums(text: &[u8], module: &ModuleVersion) -> Option<Sums> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    let is_same = lines.next()? == module.to_string();
    let zip = H1::parse(lines.next()?).ok()?;
    let go_mod = H1::parse(lines.next()?).ok()?;
    (is_same && lines.next().is_none()).then_some(Sums { zip, go_mod })
}

/// Writes a body into a temporary file and tells how far it is.
pub(super) struct Download<F> {
    new: Temporary,
    bytes: u64,
    bytes_total: Option<u64>,
    progress: F,
}

impl<F: FnMut(u64, Option<u64>) + Send> Download<F> {
    pub(super) fn new(new: Temporary, progress: F) -> Self {
        Self {
            new,
            bytes: 0,
            bytes_total: None,
            progress,
        }
    }

    /// What was received.
    pub(super) fn into_file(self) -> Temporary {
        self.new
    }
}

impl<F: FnMut(u64, Option<u64>) + Send> Sink for Download<F> {
    fn begin(&mut self, bytes_total: Option<u64>) -> io::Result<()> {
        (self.bytes, self.bytes_total) = (0, bytes_total);
        self.new.file.rewind()?;
        self.new.file.set_len(0)
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.new.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        (self.progress)(self.bytes, self.bytes_total);
        Ok(())
    }
}
