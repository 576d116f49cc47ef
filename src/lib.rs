//! Hotcell builds Go modules that nobody trusts.

pub mod channel;
pub mod spec;
