//! What must survive: files written durably, and the database.
//!
//! Called by the log, its signer, the service and `get`. Nothing else in the crate writes a file
//! that somebody relies on after a crash.

pub mod db;
pub mod durable;
pub mod lru;
