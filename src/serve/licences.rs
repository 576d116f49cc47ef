//! Licences of modules: learned after a build of them was published, kept for good.
//!
//! Called by the run of a job, which does not wait for it, and by pages. Nothing depends on it: a
//! module whose licences could not be learned says nothing until the next build that needs it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use rusqlite::{Connection, OptionalExtension as _, params};
use tokio::sync::Semaphore;
use tracing::warn;

use super::{
    catalogue::{Catalogue, CatalogueError},
    queue::Inner,
    rows::to_json,
    run::chain,
};
use crate::fetch::wire::{Licences, ModuleHash, ModuleLicences};

/// Builds whose modules are looked at or wait for that; those beyond are not looked at.
const WAITING_MAX: usize = 64;
/// Modules of one build that are looked at; the largest builds known have some 500.
const MODULES_MAX: usize = 1_000;
/// Modules in memory: pages of popular builds name the same ones. Some 150 bytes each; all are
/// forgotten when there are more.
const KNOWN_MAX: usize = 50_000;

/// What is known of modules just now, also that nothing is.
#[derive(Debug)]
pub(super) struct Book {
    known: Mutex<HashMap<String, Option<Arc<Licences>>>>,
    places: Arc<Semaphore>,
    turn: Semaphore,
    learned: AtomicU64,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            places: Arc::new(Semaphore::new(WAITING_MAX)),
            turn: Semaphore::new(1),
            learned: AtomicU64::new(0),
        }
    }
}

impl Book {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Option<Arc<Licences>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Rises whenever a licence is learned, once it is there to be read.
    pub(super) fn learned(&self) -> u64 {
        self.learned.load(Relaxed)
    }

    /// What was learned counts; what was read before that does not.
    fn note(&self, module: String, licences: Option<Arc<Licences>>) {
        let mut known = self.known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let entry = known.entry(module).or_default();
        if licences.is_some() {
            *entry = licences;
            self.learned.fetch_add(1, Relaxed);
        }
    }
}

/// Learns the licences of a build's modules in the background.
pub(super) fn learn(inner: &Arc<Inner>, modules: &[ModuleHash]) {
    let catalogue = inner.parts.catalogue.clone();
    let Ok(place) = Arc::clone(&catalogue.licences.places).try_acquire_owned() else {
        return;
    };
    let linked = modules.iter().filter(|module| module.h1.is_some());
    let linked: Vec<_> = linked.take(MODULES_MAX).cloned().collect();
    let executor = Arc::clone(&inner.parts.executor);
    tokio::spawn(async move {
        let _place = place;
        let _turn = catalogue.licences.turn.acquire().await;
        let known = catalogue.licences_of(&linked).unwrap_or_default();
        let mut known = known.into_iter();
        let unknown = linked.into_iter();
        let unknown: Vec<_> = unknown
            .filter(|_| known.next().flatten().is_none())
            .collect();
        if unknown.is_empty() {
            return;
        }
        let learned = executor.licences(unknown).await;
        if let Err(cause) = catalogue.keep_licences(learned).await {
            warn!("cannot keep licences: {}", chain(&cause));
        }
    });
}

impl Catalogue {
    /// What is known of each module.
    pub(super) fn licences_of<'a>(
        &self,
        modules: impl IntoIterator<Item = &'a ModuleHash>,
    ) -> Result<Vec<Option<Arc<Licences>>>, CatalogueError> {
        let names = modules.into_iter();
        let names = names.map(|module| format!("{}@{}", module.path, module.version));
        let known: Vec<_> = {
            let known = self.licences.known();
            let get = |name: String| (known.get(&name).cloned(), name);
            names.map(get).collect()
        };
        let read = |(known, name): (Option<Option<_>>, String)| match known {
            Some(known) => Ok(known),
            None => {
                let found = self.look(|db| kept(db, &name))?.map(Arc::new);
                self.licences.note(name, found.clone());
                Ok(found)
            }
        };
        known.into_iter().map(read).collect()
    }

    /// Keeps what was learned.
    async fn keep_licences(&self, learned: Vec<ModuleLicences>) -> Result<(), CatalogueError> {
        let book = Arc::clone(&self.licences);
        self.run(move |db| {
            let tx = db.transaction()?;
            let sql = "INSERT OR REPLACE INTO licence (module, found) VALUES (?1, ?2)";
            for one in &learned {
                let name = format!("{}@{}", one.path, one.version);
                tx.execute(sql, params![name, to_json(&one.licences)?])?;
            }
            tx.commit()?;
            for one in learned {
                let name = format!("{}@{}", one.path, one.version);
                book.note(name, Some(Arc::new(one.licences)));
            }
            Ok(())
        })
        .await
    }
}

fn kept(db: &Connection, name: &str) -> Result<Option<Licences>, CatalogueError> {
    let mut query = db.prepare_cached("SELECT found FROM licence WHERE module = ?1")?;
    let found = query.query_row(params![name], |row| row.get::<_, String>(0));
    let Some(found) = found.optional()? else {
        return Ok(None);
    };
    let broken = |source| CatalogueError::Row {
        key: name.to_owned(),
        source,
    };
    serde_json::from_str(&found).map(Some).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{serve::testing::Bench, spec::LicenceId};

    fn module(number: usize) -> ModuleHash {
        ModuleHash {
            path: format!("a.example/m{number}"),
            version: "v1.0.0".to_owned(),
            h1: Some("h1:x".to_owned()),
            go_mod_h1: None,
        }
    }

    #[tokio::test]
    async fn what_was_learned_is_known_at_once_and_after_a_restart() {
        let bench = Bench::new();
        let modules = [module(1), module(2)];
        let none = bench.catalogue.licences_of(&modules).unwrap();
        assert_eq!(none, [None, None]);
        let licences = Licences {
            ids: vec![LicenceId::parse("MIT").unwrap()],
            others: true,
        };
        let learned = ModuleLicences {
            path: modules[0].path.clone(),
            version: modules[0].version.clone(),
            licences: licences.clone(),
        };
        bench.catalogue.keep_licences(vec![learned]).await.unwrap();
        let again = Catalogue::open(&bench.folder.path().join("hotcell.db")).unwrap();
        for catalogue in [&bench.catalogue, &again] {
            let found = catalogue.licences_of(&modules).unwrap();
            assert_eq!(found[0].as_deref(), Some(&licences));
            assert_eq!(found[1], None);
        }
    }

    #[tokio::test]
    async fn memory_is_bounded_and_a_late_reader_does_not_forget_what_was_learned() {
        let book = Book::default();
        let learned = Some(Arc::new(Licences::default()));
        book.note("a@v1".to_owned(), learned.clone());
        book.note("a@v1".to_owned(), None);
        assert_eq!(book.known().get("a@v1"), Some(&learned));
        for number in 0..KNOWN_MAX + 10 {
            book.note(number.to_string(), None);
        }
        assert!(book.known().len() <= KNOWN_MAX);
    }
}
