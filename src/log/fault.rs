//! Places where a crash or an error can be injected, so that tests can try all of them.
//!
//! In the program the hook does nothing; the steps are also the list of an append's order.

use std::sync::Arc;

use super::LoadError;

/// A place between two effects. Each is reached once per batch, [`Step::Tile`] once per full tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Nothing has happened.
    Insert,
    /// All rows are in the open transaction.
    Commit,
    /// They are durable; the head has no signature.
    Committed,
    /// The signer remembers the head; nobody else has the signatures.
    Signed,
    /// The signatures are in the database, which may forget them in a power cut.
    Stored,
    /// Readers see the head; nobody has an answer.
    Published,
    /// Answers are out; a full tile is no file yet.
    Tile,
}

/// Called at each step.
pub(super) type Hook = Arc<dyn Fn(Step) -> Result<(), LoadError> + Send + Sync>;

/// The hook of the program.
pub(super) fn none() -> Hook {
    Arc::new(|_| Ok(()))
}
