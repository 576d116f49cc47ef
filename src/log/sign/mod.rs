//! The keys in a process of their own: the role `sign` and how the log asks it.
//!
//! [`role`] runs in that process, [`RemoteSigner`] in `serve`. Neither must hold what the other one
//! is there to keep: `serve` never sees a key, the role never sees a record. The role is also a
//! witness of other logs ([`Cosign`]), with a key and a memory of its own. To make a key ahead of
//! its log and to end a log is the [`Operator`]'s, who starts a role of his own, and never
//! `serve`'s.

mod cosign;
mod cosigner;
mod operator;
mod remote;
pub mod role;
mod wire;

#[cfg(test)]
mod cosigner_tests;
#[cfg(test)]
mod tests;

pub use cosign::{Cosign, CosignError, Cosigned, LOGS_MAX, Unfit};
pub use operator::Operator;
pub use remote::RemoteSigner;
pub use wire::SignStart;
