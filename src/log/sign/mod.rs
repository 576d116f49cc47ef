//! The keys in a process of their own: the role `sign` and how the log asks it.
//!
//! [`role`] runs in that process, [`RemoteSigner`] in `serve`. Neither must hold what the other one
//! is there to keep: `serve` never sees a key, the role never sees a record.

mod remote;
pub mod role;
mod wire;

#[cfg(test)]
mod tests;

pub use remote::RemoteSigner;
pub use wire::SignStart;
