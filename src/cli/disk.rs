//! The disk budget of `hotcell serve`, looked at while it runs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::Stop;
use crate::{
    build::{Engine, budget},
    store::lru,
};

/// How often the disk budget is looked at.
const BUDGET_EVERY: Duration = Duration::from_secs(60);

/// Keeps SDKs, caches and binaries within the disk budget.
pub(super) async fn keep_budget(engine: Engine, artifacts: PathBuf, bytes_max: u64) {
    loop {
        tokio::time::sleep(BUDGET_EVERY).await;
        if let Err(error) = keep_once(&engine, &artifacts, bytes_max).await {
            tracing::warn!(error = %error.text, "cannot keep the disk budget: {}", error.text);
        }
    }
}

async fn keep_once(engine: &Engine, folder: &Path, bytes_max: u64) -> Result<(), Stop> {
    let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
    let items = binaries(folder).map_err(|error| failed(&error))?;
    let gone = budget::enforce(engine, items, bytes_max)
        .await
        .map_err(|error| failed(&error))?;
    for name in gone {
        std::fs::remove_file(folder.join(&name)).map_err(|error| failed(&error))?;
        tracing::info!(artifact = %name, "artifact {name} gave way to newer ones");
    }
    Ok(())
}

/// All binaries and their compressed forms, which lie in folders of two hex digits.
fn binaries(folder: &Path) -> std::io::Result<Vec<lru::Item>> {
    let mut items = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Ok(part) = entry?.file_name().into_string() else {
            continue;
        };
        if part.len() == 2 {
            let files = lru::files(&folder.join(&part))?;
            items.extend(files.into_iter().map(|item| lru::Item {
                name: format!("{part}/{}", item.name),
                ..item
            }));
        }
    }
    Ok(items)
}
