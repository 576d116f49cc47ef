//! The role that alone goes out: to the module proxy and the checksum database, and to the
//! witnesses, verifiers and authority that its start named.
//!
//! Owns: the cache of verified files, the closure of every session, and SDKs until the supervisor
//! has adopted them. Talks to the asker (`serve` or the command line) and to each relay in the
//! messages of [`wire`]. Must never hand out, or keep under a final name, a byte that was not
//! verified, and never ask upstream for a module outside a session's closure on a relay's behalf.

mod asker;
pub mod authority;
mod cache;
mod check;
mod closure;
mod error;
mod gomod;
mod licences;
mod modules;
mod peers;
mod probe;
mod releases;
mod resolve;
mod reverse;
mod role;
mod rounds;
mod sdk;
mod session;
pub mod verifier;
pub mod wire;
mod witness;

pub use role::{FetchConfig, RoleError, run};

#[cfg(test)]
mod tests;
