//! What the hostile program tries: one row per attempt, with the class of attacks it belongs to,
//! the lock that should hold first, and what happens, in words.
//!
//! Read twice: the program takes the function of each row, `hotcell selftest` all the rest. Both
//! count rows through [`ALL`], so their order is the numbering.

mod alone;
mod files;
mod reach;
mod surface;

/// Every row; the last part needs a cell for each.
pub(crate) const ALL: [&[super::Row]; 4] = [reach::ROWS, files::ROWS, surface::ROWS, alone::ROWS];
