//! Machine code of published binaries by package: SQL, and its sums by module.
//!
//! Written in the transaction of the result, read by its page, the comparison and the interface for
//! programs. What a page shows is summed once, when it is written.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::{
    catalogue::{Catalogue, CatalogueError},
    rows::to_json,
};
use crate::{
    build::{Built, Code, Owner, Owners, PackageCode},
    spec::BuildKey,
};

/// Packages that a page lists; programs get all of them.
const LARGEST: usize = 40;

/// Code of a binary by module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    /// By path.
    pub(super) modules: BTreeMap<String, u64>,
    pub(super) standard_library: u64,
    /// Made for no package, or for one that belongs to nobody.
    pub(super) other: u64,
    /// How many packages there are.
    pub(super) packages: usize,
}

impl Sums {
    fn of(code: &Code, built: &Built) -> Self {
        let owners = Owners::of(&built.modules);
        let mut sums = Self {
            other: code.other,
            packages: code.packages.len(),
            ..Self::default()
        };
        for package in &code.packages {
            // All of it together fits in 64 bits; see `Code::new`.
            *match owners.owner(&package.path) {
                Owner::Module(path) => sums.modules.entry(path.to_owned()).or_default(),
                Owner::StandardLibrary => &mut sums.standard_library,
                Owner::Other => &mut sums.other,
            } += package.bytes;
        }
        sums
    }

    /// All of it.
    pub(super) fn bytes(&self) -> u64 {
        self.modules.values().sum::<u64>() + self.standard_library + self.other
    }
}

/// The sums, and the packages that belong to them.
pub(super) type Measured = (Sums, Vec<PackageCode>);

/// Writes down what a build said of its code, if it did; also for a result that is older than this
/// table and was built again.
pub(super) fn insert(db: &Connection, key: &str, built: &Built) -> rusqlite::Result<()> {
    let Some(code) = &built.code else {
        return Ok(());
    };
    let largest = &code.packages[..code.packages.len().min(LARGEST)];
    db.execute(
        "INSERT OR IGNORE INTO code (result, sums, largest, packages)
         SELECT id, ?2, ?3, ?4 FROM result WHERE key = ?1",
        params![
            key,
            to_json(&Sums::of(code, built))?,
            to_json(&largest)?,
            to_json(&code.packages)?
        ],
    )?;
    Ok(())
}

impl Catalogue {
    /// Code of a published binary, with its largest packages; nothing when it is not known.
    pub(super) fn code(&self, key: &BuildKey) -> Result<Option<Measured>, CatalogueError> {
        const SQL: &str = "SELECT code.sums, code.largest FROM result
             JOIN code ON code.result = result.id WHERE result.key = ?1";
        self.measured(SQL, key)
    }

    /// The same with all packages.
    pub(super) fn all_code(&self, key: &BuildKey) -> Result<Option<Measured>, CatalogueError> {
        const SQL: &str = "SELECT code.sums, code.packages FROM result
             JOIN code ON code.result = result.id WHERE result.key = ?1";
        self.measured(SQL, key)
    }

    fn measured(
        &self,
        sql: &'static str,
        key: &BuildKey,
    ) -> Result<Option<Measured>, CatalogueError> {
        let key = key.to_string();
        self.look(move |db| {
            let mut query = db.prepare_cached(sql)?;
            let row = query.query_row(params![key], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            });
            let Some((sums, packages)) = row.optional()? else {
                return Ok(None);
            };
            let measured = serde_json::from_str(&sums)
                .and_then(|sums| Ok((sums, serde_json::from_str(&packages)?)));
            Ok(Some(
                measured.map_err(|source| CatalogueError::Row { key, source })?,
            ))
        })
    }
}
