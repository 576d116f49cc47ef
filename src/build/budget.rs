//! One disk budget over SDKs, frozen caches, module files and binaries: who was used least
//! recently goes first. Everything here can be fetched or built again from its hash.

use crate::{
    build::{Engine, supervise::SuperviseError},
    fetch::wire::{Answer, Ask, Trouble},
    store::lru::{self, Item},
};

/// Part of the budget that module files may keep when there is too much: they are small, fetched
/// again in a second, and their cache sorts them by use itself.
const MODULES_PART: u64 = 8;

/// Why the budget could not be kept; the disk may fill up, nothing else is at risk.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// The store could not be asked.
    #[error("cannot ask for the trees of the store")]
    Supervise(#[from] SuperviseError),
    /// The module cache could not be asked.
    #[error("cannot ask for the size of the module cache: {}", _0.text)]
    Fetch(Trouble),
}

/// Brings everything down to `bytes_max` and returns the names of the `binaries` that have to go;
/// their owner deletes them. Trees that a cell uses stay.
///
/// # Errors
/// See [`BudgetError`]; nothing was deleted then, or less than necessary.
pub async fn enforce(
    engine: &Engine,
    binaries: Vec<Item>,
    bytes_max: u64,
) -> Result<Vec<String>, BudgetError> {
    let mut trees = engine.supervise().trees().await?;
    trees.retain(|tree| tree.put_away.is_none()); // evidence stays until a person has looked
    let tree_items = trees.iter().map(|tree| Item {
        name: tree.name.clone(),
        bytes: tree.bytes,
        used_s: tree.used_s,
    });
    let items: Vec<Item> = tree_items.chain(binaries).collect();
    let modules = modules_bytes(engine).await?;
    let all = items
        .iter()
        .map(|item| item.bytes)
        .sum::<u64>()
        .saturating_add(modules);
    if all <= bytes_max {
        return Ok(Vec::new());
    }
    let kept = modules.min(bytes_max / MODULES_PART);
    if kept < modules {
        engine
            .fetch()
            .ask_once(Ask::Shrink { bytes_max: kept })
            .await
            .map_err(BudgetError::Fetch)?;
    }
    let mut gone = Vec::new();
    for name in lru::surplus(items, bytes_max - kept) {
        if trees.iter().any(|tree| tree.name == name) {
            match engine.remove_tree(&name).await {
                // In use, or gone already: the next round sees it again.
                Ok(()) | Err(SuperviseError::Refused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            gone.push(name);
        }
    }
    Ok(gone)
}

async fn modules_bytes(engine: &Engine) -> Result<u64, BudgetError> {
    match engine
        .fetch()
        .ask_once(Ask::Usage)
        .await
        .map_err(BudgetError::Fetch)?
    {
        Answer::Usage { bytes } => Ok(bytes),
        _ => Ok(0),
    }
}

/// A fifth of the file system that holds `folder`: enough for some twenty releases on a usual disk.
///
/// # Errors
/// When the file system cannot be asked.
pub fn default_bytes(folder: &std::path::Path) -> std::io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(folder)?;
    Ok(stat.blocks().saturating_mul(stat.fragment_size()) / 5)
}
