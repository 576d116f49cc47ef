//! Pages that lead through what has been built: search, failures, two results side by side, what
//! was withdrawn, the instance itself. They lie below `/-/`, which no module path can begin with.

mod compare;
mod instance;
mod search;
mod withdrawn;

pub(super) use compare::{Choice, show as compare};
pub(super) use instance::show as instance;
pub(super) use search::{failures, show as search};
pub(super) use withdrawn::show as withdrawn;
