//! Pages of results as they were made last, so that what many look at is not made for each of them.
//!
//! Called by [`super::result_page`]. A page is shown again only while nothing that it was made from
//! can have changed: no transaction in the database, no licence learned, no word of the operator
//! about the build, no compressed file made or evicted. Must never hold anything that differs
//! between visitors but the address under which they see us.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::body::Bytes;

use super::{
    catalogue::{Catalogue, CatalogueError},
    limits::withdrawn::Withdrawn,
};

/// Most pages that are kept, and most bytes of them: some 30 KiB each.
const PAGES_MAX: usize = 1_024;
const BYTES_MAX: usize = 16 << 20;

/// What a page depends on beside its own name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    /// Where its visitor saw us. One page of a build is kept, for the last such place: whoever
    /// makes up ports pushes that page out and no other.
    pub(super) origin: String,
    /// Of the binary.
    pub(super) sha256: [u8; 32],
    /// Changes with each transaction in the database.
    pub(super) database: i64,
    /// How many licences were learned.
    pub(super) licences: u64,
    /// Bytes of the compressed binary, where there is one.
    pub(super) gzip: Option<u64>,
    pub(super) withdrawn: Option<Withdrawn>,
}

/// Pages that were made, by build key.
#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    all: HashMap<String, (Version, Bytes)>,
    bytes: usize,
}

impl Shown {
    /// The page that was made last, and of what. It may be shown when all of that is so now.
    pub(super) fn get(&self, name: &str) -> Option<(Version, Bytes)> {
        self.pages().all.get(name).cloned()
    }

    /// Keeps a page. `version` was read before the page was made, so that what changed meanwhile
    /// makes it old. When there is no room all others go: those that many look at are back at once.
    pub(super) fn keep(&self, name: String, version: Version, page: Bytes) {
        let mut pages = self.pages();
        if let Some((_, old)) = pages.all.remove(&name) {
            pages.bytes -= old.len();
        }
        if page.len() > BYTES_MAX {
            return;
        }
        if pages.all.len() >= PAGES_MAX || pages.bytes + page.len() > BYTES_MAX {
            *pages = Pages::default();
        }
        pages.bytes += page.len();
        pages.all.insert(name, (version, page));
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Catalogue {
    /// Differs after any transaction of anybody in the database (`PRAGMA data_version`).
    pub(super) fn version(&self) -> Result<i64, CatalogueError> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut query = watch.prepare_cached("PRAGMA data_version")?;
        Ok(query.query_row([], |row| row.get(0))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(database: i64) -> Version {
        Version {
            origin: String::new(),
            sha256: [0; 32],
            database,
            licences: 0,
            gzip: None,
            withdrawn: None,
        }
    }

    #[test]
    fn memory_is_bounded_whatever_is_looked_at() {
        let shown = Shown::default();
        let large = Bytes::from(vec![b'x'; BYTES_MAX / 3]);
        for (number, page) in [&large; 10].into_iter().enumerate() {
            shown.keep(number.to_string(), version(1), page.clone());
            shown.keep(number.to_string(), version(2), page.clone());
            assert!(shown.pages().bytes <= BYTES_MAX);
        }
        for number in 0..2 * PAGES_MAX {
            shown.keep(number.to_string(), version(1), Bytes::from_static(b"x"));
            assert!(shown.pages().all.len() <= PAGES_MAX);
        }
        let pages = shown.pages();
        let bytes: usize = pages.all.values().map(|(_, page)| page.len()).sum();
        assert_eq!(pages.bytes, bytes);
        drop(pages);
        shown.keep("huge".to_owned(), version(1), vec![0; BYTES_MAX + 1].into());
        assert_eq!(shown.get("huge"), None);
        shown.keep("a".to_owned(), version(2), Bytes::from_static(b"page"));
        let (made, page) = shown.get("a").unwrap();
        assert_eq!((made, &*page), (version(2), &b"page"[..]));
    }
}
