//! What this machine has and lacks for cells, and what to do about it.
//!
//! Called by `hotcell doctor`. Looks and tries; must never change anything of the host. A finding
//! says in one sentence what is, and, unless all is well, what to do.

pub mod kernel;
pub mod machine;
pub mod outside;
mod sysctl;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Ok,
    /// Cells can be made; something is weaker or missing.
    Warning,
    /// No cell can be made here, or nothing can be fetched for it.
    Bad,
}

impl State {
    /// For people; never only a colour.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name, such as `landlock`.
    pub what: String,
    /// How bad it is.
    pub state: State,
    /// One sentence without a full stop.
    pub says: String,
    /// What to do; empty when nothing has to be done.
    pub todo: String,
    /// Whether no cell can be made because of it.
    pub no_cell: bool,
}

impl Finding {
    /// As it should be.
    #[must_use]
    pub fn ok(what: &str, says: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            state: State::Ok,
            says: says.into(),
            todo: String::new(),
            no_cell: false,
        }
    }

    /// Weaker than it could be.
    #[must_use]
    pub fn warning(what: &str, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            state: State::Warning,
            todo: todo.into(),
            ..Self::ok(what, says)
        }
    }

    /// Cells can be made, but something else cannot work.
    #[must_use]
    pub fn bad(what: &str, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            state: State::Bad,
            ..Self::warning(what, says, todo)
        }
    }

    /// No cell can be made.
    #[must_use]
    pub fn no_cell(what: &str, says: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            no_cell: true,
            ..Self::bad(what, says, todo)
        }
    }
}
