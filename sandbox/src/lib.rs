//! The cell: policies, the supervisor that makes cells, and the process that becomes the build.
//!
//! - [`policy`]: what a cell may do, as data; [`policy::builtin`], [`policy::Policy::limits`].
//! - [`supervisor`]: [`supervisor::run`] is the role `supervise`.
//! - [`direct`]: reads past the page cache, for checks of what is kept.
//! - [`probe`]: what this kernel lets this user do, for `hotcell doctor`.
//! - [`wire`], [`channel`]: how the asker speaks with it; [`inherit`]: a role's own sockets.
mod cell;
pub mod channel;
pub mod direct;
pub mod inherit;
pub mod policy;
pub mod privilege;
pub mod probe;
mod store;
pub mod supervisor;
mod sys;
pub mod wire;
