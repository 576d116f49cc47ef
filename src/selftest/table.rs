//! The hostile program's table, as the host reads it.
//!
//! The rows themselves are in the repository's folder `selftest/table/`, which the program is
//! compiled from; this file only says what the host takes of each.

macro_rules! attempts {
    ($(($id:literal, $class:literal, $lock:expr, $what:literal, $attempt:expr)),* $(,)?) => {
        /// Rows of this part.
        pub(crate) const ROWS: &[crate::selftest::Row] = {
            #[expect(unused_imports, reason = "no part has every lock")]
            use crate::selftest::Lock::{
                Abi, Answer, Bomb, Call, Family, Gate, Gone, Landlock, Limit, Mount, Namespace,
                Network, Nothing, Other, Relay,
            };
            &[$(crate::selftest::Row { id: $id, class: $class, lock: $lock, what: $what }),*]
        };
    };
}

#[path = "../../selftest/table/mod.rs"]
mod rows;

use super::{Lock, Row};

/// Every row, in the order of its number.
pub(super) fn all() -> impl Iterator<Item = &'static Row> {
    rows::ALL.iter().flat_map(|part| part.iter())
}

/// Parts that share a cell, as ranges of numbers; each makes fewer forbidden calls than a report
/// lists.
pub(super) fn together() -> Vec<std::ops::Range<usize>> {
    let mut first = 0;
    let mut ranges = Vec::new();
    for part in &rows::ALL[..rows::ALL.len() - 1] {
        ranges.push(first..first + part.len());
        first += part.len();
    }
    ranges
}

/// Rows that need a cell of their own, with their numbers.
pub(super) fn alone() -> impl Iterator<Item = (usize, &'static Row)> {
    let first = together().last().map_or(0, |range| range.end);
    all().enumerate().skip(first)
}

/// The number and row of a name.
pub(super) fn named(id: &str) -> Option<(usize, &'static Row)> {
    all().enumerate().find(|(_, row)| row.id == id)
}

/// The sweep over all numbers, which is no row of the program's table.
pub(super) const NUMBERS: [(std::ops::Range<i64>, Row); 3] = [
    (
        0..200,
        sweep("numbers-0", "call every number from 0 to 199"),
    ),
    (
        200..400,
        sweep("numbers-200", "call every number from 200 to 399"),
    ),
    (
        400..601,
        sweep(
            "numbers-400",
            "call every number from 400 to 600, known or not",
        ),
    ),
];

const fn sweep(id: &'static str, what: &'static str) -> Row {
    Row {
        id,
        class: 13,
        lock: Lock::Call("each"),
        what,
    }
}
