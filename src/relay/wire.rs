//! Messages between a relay and the asker (`serve`, `hotcell build`), on the relay's own socket.

use serde::{Deserialize, Serialize};

use crate::{build::PackageCode, fetch::wire::ModuleHash};

/// Most bytes of output in one message: base64 of it stays far below the message's maximum.
pub const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Packages in one message: 100 with paths of [`crate::spec::ImportPath::LEN_MAX`] have 55 KB.
pub const PACKAGES_MAX: usize = 100;

/// From the asker to the relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Order {
    /// Every process of the cell is dead: check the output folder, copy the one file in it.
    Gate {
        /// Import path of the main package.
        package: String,
        /// Module path of the main module.
        module: String,
        /// Its version.
        version: String,
        /// Folder that a cross build uses: `goos_goarch`.
        cross: String,
    },
}

/// From the relay to the asker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A piece of what the program printed, in base64: hostile bytes.
    Output {
        /// At most [`OUTPUT_BYTES_MAX`] bytes.
        base64: String,
    },
    /// The program and all its children have closed their output.
    OutputEnd,
    /// The cell asked for something.
    Asked,
    /// The cell asked for something outside the grammar of the proxy protocol, and got nothing.
    Refused {
        /// The first 200 bytes of it, escaped.
        what: String,
    },
    /// The artifact is in the file that the asker gave, whole and checked.
    Gated {
        /// SHA-256 in hex.
        sha256: String,
        /// Bytes.
        size: u64,
    },
    /// After [`Event::Gated`]: code of some of its packages.
    Packages {
        /// At most [`PACKAGES_MAX`].
        packages: Vec<PackageCode>,
    },
    /// After [`Event::Gated`]: all packages were said.
    Measured {
        /// Code of no package; nothing when the binary does not say what code it has.
        other: Option<u64>,
    },
    /// The gate let nothing through.
    GateRefused {
        /// One sentence without a full stop.
        why: String,
        /// The build information disagrees with what was served: somebody must look at this.
        alarm: bool,
    },
}

/// What one module of the build information must be.
pub(super) type Served = Vec<ModuleHash>;
