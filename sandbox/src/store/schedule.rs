//! When trees are looked at again: a mark beside each says when it was last found sound.
//!
//! A tree without a mark is suspect: a cell on it behaved like an attack and the check was not made
//! yet. The mark is a file's time, so a suspicion outlives the process that had it.

use std::time::{Duration, SystemTime};

use super::{CHECKED, Name, StoreError, delete, mark, names, seconds};

/// Every tree is read so often. A day bounds how long a change by a disk or a bug goes unseen, at
/// the price of reading some 500 MB a day for each release and target.
const CHECK_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Notes that every byte is what it was.
pub(crate) fn mark_sound(name: &Name) -> Result<(), StoreError> {
    mark(name, CHECKED)
}

/// Notes that it may have been attacked.
pub(crate) fn mark_suspect(name: &Name) -> Result<(), StoreError> {
    delete(&name.beside(CHECKED))
}

/// Trees that must be read before anything uses them.
pub(crate) fn suspects() -> Result<Vec<Name>, StoreError> {
    let mut all = names()?;
    all.retain(|name| super::marked(name, CHECKED) == 0);
    Ok(all)
}

/// The tree whose last check is longest ago, when that is too long.
pub(crate) fn due(now: SystemTime) -> Result<Option<Name>, StoreError> {
    let all = names()?;
    let dated = all
        .into_iter()
        .map(|name| (super::marked(&name, CHECKED), name));
    let oldest = dated.min_by_key(|(checked_s, _)| *checked_s);
    Ok(oldest
        .filter(|(checked_s, _)| is_due(*checked_s, seconds(now)))
        .map(|(_, name)| name))
}

/// A mark of the future comes from a clock that was wrong, and says nothing.
fn is_due(checked_s: u64, now_s: u64) -> bool {
    checked_s > now_s || now_s - checked_s >= CHECK_EVERY.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_due_after_a_day_and_when_its_mark_cannot_be() {
        let day = CHECK_EVERY.as_secs();
        let now = 1_800_000_000;
        for (checked, due) in [
            (now, false),
            (now - 1, false),
            (now - day + 1, false),
            (now - day, true),
            (0, true),
            (now + 1, true),
        ] {
            assert_eq!(is_due(checked, now), due, "{checked}");
        }
    }
}
