//! Hotcell builds Go modules that nobody trusts.

pub mod channel;
pub mod output;
pub mod spec;
pub mod store;
pub mod tlog;
