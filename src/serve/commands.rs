//! The commands of a module, for its page: listed once in a cell, then kept.
//!
//! Called by [`super::home`]. Looking at a page lists nothing: its button is a POST, which its
//! script sends by itself, and it counts like a build. Builds have places of their own; one listing
//! runs beside them. What is permanent is kept, also why something cannot be listed, until somebody
//! presses the button again.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rusqlite::{OptionalExtension as _, params};
use tokio::sync::Semaphore;

use super::{
    answer::Refusal,
    app::{App, Limit},
    catalogue::{Catalogue, CatalogueError},
    clock::Clock,
    limits::{Class, blocks::Visitor, names::Names},
    queue::QueueError,
    rows::to_json,
};
use crate::{
    build::{BoxFuture, Command, Failure, FailureClass, ending},
    spec::ModuleVersion,
};

/// Listings at a time: a large module takes as much memory as a small build.
const RUNNING_MAX: usize = 1;
/// Listings that run or wait.
const WAITING_MAX: u32 = 16;
/// How long one may take, with its turn and its SDK.
const PATIENCE: Duration = Duration::from_secs(300);
/// Listings kept; the oldest go first and are made again.
const KEPT_MAX: i64 = 100_000;

/// What a module's version was found to have, or why that cannot be found out.
pub(super) type Listed = Result<Vec<Command>, Failure>;

/// Listings that are made just now.
pub(super) struct Listings {
    names: Names<Vec<Command>>,
    waiting: Limit,
    running: Arc<Semaphore>,
}

impl Listings {
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        Self {
            names: Names::new(Arc::clone(clock), PATIENCE),
            waiting: Limit::new(WAITING_MAX, "too many modules are listed"),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
        }
    }
}

impl App {
    /// Lists the commands of a module, or waits for whoever does so already.
    pub(super) async fn list(
        &self,
        visitor: Visitor,
        module: &ModuleVersion,
    ) -> Result<Vec<Command>, Refusal> {
        let kept = self.catalogue.listed(module.to_string());
        if let Some(Ok(commands)) = kept.map_err(|cause| Refusal::internal(&cause))? {
            return Ok(commands);
        }
        if !self.has_room()? {
            return Err(QueueError::NoRoom.into());
        }
        let _place = self.place(&self.limits.waiters, visitor)?;
        let listings = &self.listings;
        let mut coming = listings.names.get(module.to_string(), || {
            self.rates.check_module(module.path.as_str())?;
            let place = self.place(&listings.waiting, visitor)?;
            self.rates.take(visitor, &[Class::Build])?;
            self.metrics.listings.fetch_add(1, Relaxed);
            Ok::<_, Refusal>((place, self.listing(module.clone())))
        })?;
        let listed = coming.wait_for(Option::is_some).await;
        let listed = listed.map_err(|cause| Refusal::internal(&cause))?.clone();
        Ok(listed.expect("waited for")?)
    }

    fn listing(&self, module: ModuleVersion) -> BoxFuture<'static, Listed> {
        let (executor, catalogue) = (Arc::clone(&self.executor), self.catalogue.clone());
        let (clock, running) = (Arc::clone(&self.clock), Arc::clone(&self.listings.running));
        Box::pin(async move {
            let ours = |cause: &dyn std::fmt::Display| {
                let sentence = format!("the list cannot be made: {cause}");
                let class = FailureClass::Internal;
                ending::failure("internal", class, sentence, ending::IN_TRACE)
            };
            let _turn = running.acquire_owned().await.map_err(|e| ours(&e))?;
            let name = module.to_string();
            let listed = executor.commands(module).await;
            let permanent = match &listed {
                Ok(_) => true,
                Err(failure) => failure.repeats(),
            };
            if permanent {
                let kept = catalogue.keep_listing(name, listed.clone(), clock.now_ms());
                kept.await.map_err(|e| ours(&e))?;
            }
            listed
        })
    }
}

impl Catalogue {
    /// What a module's version is known to have.
    pub(super) fn listed(&self, module: String) -> Result<Option<Listed>, CatalogueError> {
        self.look(move |db| {
            let sql = "SELECT commands, failure FROM listing WHERE module = ?1";
            let mut query = db.prepare_cached(sql)?;
            let row = query.query_row(params![module], |row| {
                Ok((row.get(0)?, row.get::<_, Option<String>>(1)?))
            });
            let Some((commands, failure)) = row.optional()? else {
                return Ok(None);
            };
            let commands: String = commands;
            let listed = match failure {
                None => serde_json::from_str(&commands).map(Ok),
                Some(failure) => serde_json::from_str(&failure).map(Err),
            };
            let broken = |source| CatalogueError::Row {
                key: module,
                source,
            };
            Ok(Some(listed.map_err(broken)?))
        })
    }

    async fn keep_listing(
        &self,
        module: String,
        listed: Listed,
        now_ms: u64,
    ) -> Result<(), CatalogueError> {
        self.run(move |db| {
            let (commands, failure) = match listed {
                Ok(commands) => (commands, None),
                Err(failure) => (Vec::new(), Some(to_json(&failure)?)),
            };
            let tx = db.transaction()?;
            tx.execute(
                "INSERT OR REPLACE INTO listing (module, listed_ms, commands, failure)
                 VALUES (?1, ?2, ?3, ?4)",
                params![module, now_ms, to_json(&commands)?, failure],
            )?;
            tx.execute(
                "DELETE FROM listing WHERE id <= (SELECT max(id) FROM listing) - ?1",
                params![KEPT_MAX],
            )?;
            Ok(tx.commit()?)
        })
        .await
    }
}
