//! Hotcell builds Go modules that nobody trusts.

pub mod build;
pub mod channel;
pub mod fetch;
pub mod get;
pub mod log;
pub mod modzip;
pub mod output;
pub mod provenance;
pub mod proxy;
pub mod relay;
pub mod serve;
pub mod spec;
pub mod store;
pub mod sumdb;
pub mod tlog;
pub mod toolchain;
