//! A log with copies of its folders from before, for tests of what happens when they come back.

use std::{fs, path::PathBuf};

use tempfile::TempDir;

use crate::{
    command::{Ended, Run},
    fake, grown, http, paths,
    service::{Place, Service},
};

/// Builds in the older copy.
pub const FEW: u64 = 130;
/// Builds in the newest state.
pub const MANY: u64 = 400;

/// A place whose log has grown: `data` and `sign`, and from before `older` and `older-sign`.
#[derive(Debug)]
pub struct Rewound {
    folder: TempDir,
    /// Where the service runs.
    pub place: Place,
}

impl Rewound {
    /// Makes it; no service runs on it.
    #[expect(clippy::new_without_default, reason = "it makes folders")]
    pub fn new() -> Self {
        let folder = paths::scratch("faults");
        let place = Place::new(folder.path(), fake::shared());
        grown::append(&place, (0..FEW).map(grown::record));
        let rewound = Self { folder, place };
        rewound.copy("data", "older");
        rewound.copy("sign", "older-sign");
        grown::append(&rewound.place, (FEW..MANY).map(grown::record));
        // The newest head is signed by now, and a start keeps what the signer said.
        assert_eq!(rewound.place.serve(&[]).stop(), 0);
        rewound
    }

    /// A file or folder in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Copies a folder.
    pub fn copy(&self, from: &str, to: &str) {
        Run::new("cp")
            .arg("-a")
            .args([self.path(from), self.path(to)])
            .succeed();
    }

    /// Puts a copy in the place of a folder, which is gone then.
    pub fn restore(&self, from: &str, to: &str) {
        fs::remove_dir_all(self.path(to)).expect("ours");
        self.copy(from, to);
    }

    /// `hotcell log recover`
    pub fn recover(&self, data: &str, from: &str, more: &[&str]) -> Ended {
        let data = self.path(data);
        let mut args = vec!["log", "recover", "--from", from, "--data"];
        args.push(data.to_str().expect("paths of tests are UTF-8"));
        args.extend_from_slice(more);
        self.place.run(args).wait()
    }

    /// The same as an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Size and root of the newest head.
pub fn head(service: &Service) -> (u64, String) {
    let note = http::get(&format!("{}/tlog/latest", service.url())).text();
    let mut lines = note.lines().skip(1);
    let size = lines.next().and_then(|line| line.parse().ok());
    let root = lines.next().unwrap_or_default().to_owned();
    (size.unwrap_or_else(|| panic!("no head: {note}")), root)
}

/// What `/healthz` says.
pub fn health(service: &Service) -> String {
    http::get(&format!("{}/healthz", service.url())).text()
}

/// Leaves of a log of so many builds.
pub const fn leaves(builds: u64) -> u64 {
    1 + 2 * builds
}
