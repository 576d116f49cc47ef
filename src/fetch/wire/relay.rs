//! Messages between `fetch` and a relay, on the relay's own socket.

use serde::{Deserialize, Serialize};

use super::Member;

/// From a relay to `fetch`, on the relay's own socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Wanted {
    /// Chosen by the relay.
    pub id: u64,
    /// Which file.
    pub want: Want,
}

/// A file of the module proxy protocol (<https://go.dev/ref/mod#goproxy-protocol>), unescaped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum Want {
    /// `@v/list`
    List {
        /// Module path.
        path: String,
    },
    /// `@v/<version>.info`
    Info(Member),
    /// `@v/<version>.mod`
    Mod(Member),
    /// `@v/<version>.zip`
    Zip(Member),
}

/// From `fetch` to a relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Given {
    /// Of the request.
    pub id: u64,
    /// The file, or why not.
    pub given: Give,
}

/// A file for the cell.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "give", rename_all = "snake_case")]
pub enum Give {
    /// A small text made by us (list, info).
    Text {
        /// The body.
        text: String,
    },
    /// Descriptor: the verified file, read only.
    File {
        /// Its length.
        bytes: u64,
        /// `h1:` of the zip or go.mod.
        h1: String,
    },
    /// Not in the closure, or nowhere: 404.
    NotFound,
    /// In the closure, but it could not be had or verified: 502.
    Trouble {
        /// For the go command's message.
        text: String,
    },
}
