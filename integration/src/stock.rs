//! The Go SDK and the compiled standard library for tests that are about something else: fetched
//! and compiled once in each run, then copied.
//!
//! Called by whoever makes a [`Place`] that builds; the copy takes two seconds, a first build a
//! minute of work. Tests of the first build itself stay without it. Copies share no file with the
//! stock, as tests damage what they have.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::{
    command::Run,
    fake,
    service::{Place, warm},
};

/// Where `serve` has its store.
const OF_SERVICE: &str = "data/store";
/// Where commands have theirs.
const OF_COMMANDS: &str = "cache/hotcell/store";

/// The store of a place where one build was made. Nobody builds there again.
fn stock() -> &'static Path {
    static STOCK: OnceLock<PathBuf> = OnceLock::new();
    STOCK.get_or_init(|| {
        let place = Place::new(&warm("stock"), fake::shared());
        place.builds_hello();
        place.folder.join(OF_COMMANDS)
    })
}

/// Makes this folder a store that has SDK and standard library, ours alone as the program's own.
///
/// # Panics
/// When it cannot be copied.
pub fn lay(store: &Path) {
    fs::create_dir_all(store).expect("the folder can be made");
    let all = stock().join(".");
    Run::new("cp").arg("-a").arg(all).arg(store).succeed();
    close(store);
}

/// Takes it from everybody else.
fn close(folder: &Path) {
    let own = Permissions::from_mode(0o700);
    fs::set_permissions(folder, own).expect("it is our folder");
}

impl Place {
    /// The same, and the first build of `serve` is none that compiles the standard library.
    ///
    /// The place of another user stays as it is: he could not read what is ours. Call it after
    /// [`Place::as_user`], therefore.
    #[must_use]
    pub fn stocked(self) -> Self {
        if self.uid.is_none() {
            lay(&self.folder.join(OF_SERVICE));
            close(&self.folder.join("data"));
        }
        self
    }

    /// As [`Place::stocked`], for commands.
    #[must_use]
    pub fn stocked_for_commands(self) -> Self {
        if self.uid.is_none() {
            lay(&self.folder.join(OF_COMMANDS));
        }
        self
    }
}
