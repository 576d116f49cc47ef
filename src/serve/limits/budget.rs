//! How much the log may grow in a day: whatever is appended stays for ever, for everybody.
//!
//! Called when something is about to be built for the log. What was built in the last 24 hours is
//! counted from the catalogue, so that a restart resets nothing, and what waits or runs is counted
//! as if it were done. What exists already is served whatever the budget says.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    serve::{
        job::Purpose,
        limits::Asker,
        queue::{Queue, QueueError},
    },
    spec::BuildKey,
};

/// Length of the window.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// Nobody is sent away for longer; the budget frees up all the time.
const AFTER_S_MAX: u64 = 3_600;
/// Nobody comes back earlier.
const AFTER_S_MIN: u64 = 60;

/// Most new records in 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of all modules.
    pub all: u64,
    /// Of one module.
    pub module: u64,
}

impl Default for Budget {
    /// Four builds a minute on average, day and night, are 6,000; a burst may be larger. A main
    /// package has some 14,000 possible keys: to log all of one module takes a fortnight.
    fn default() -> Self {
        Self {
            all: 20_000,
            module: 1_000,
        }
    }
}

/// The log has grown enough; nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} has got its new records of the day", module.as_deref().unwrap_or("the log"))]
pub struct OverBudget {
    /// The module, when it is only that one.
    pub module: Option<String>,
    /// When to come back.
    pub after_s: u32,
}

/// What was built for the log since some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// How many.
    pub count: u64,
    /// When the first of them.
    pub first_ms: Option<u64>,
}

impl Queue {
    /// Refuses what would grow the log, or the part of one module, beyond the budget. The operator
    /// may spend on one module what they like, and no more than all of it either.
    pub(in crate::serve) async fn check_budget(
        &self,
        key: &BuildKey,
        asker: Asker,
    ) -> Result<(), QueueError> {
        let parts = &self.0.parts;
        let now_ms = parts.clock.now_ms();
        let since_ms = now_ms.saturating_sub(DAY_MS);
        let module = &key.module.path;
        let (all, of_module) = parts.catalogue.grown(module, since_ms).await?;
        let (mut waiting, mut waiting_of_module) = (0, 0);
        for job in self.0.lock().by_key.values() {
            if job.purpose() == Purpose::Publication {
                waiting += 1;
                waiting_of_module += u64::from(job.key.module.path == *module);
            }
        }
        let budget = parts.budget;
        let (grown, module) = if all.count + waiting >= budget.all {
            (all, None)
        } else if !asker.visitor.is_operator && of_module.count + waiting_of_module >= budget.module
        {
            (of_module, Some(module.to_string()))
        } else {
            return Ok(());
        };
        parts.metrics.over_budget.fetch_add(1, Relaxed);
        let first_ms = grown.first_ms.unwrap_or(now_ms);
        let free_s = (first_ms + DAY_MS).saturating_sub(now_ms).div_ceil(1_000);
        let after_s = u32::try_from(free_s.clamp(AFTER_S_MIN, AFTER_S_MAX)).unwrap_or(u32::MAX);
        Err(QueueError::OverBudget(OverBudget { module, after_s }))
    }
}
