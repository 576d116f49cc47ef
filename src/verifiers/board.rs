//! How it stands with each verifier, for health, metrics and pages.
//!
//! Written by [`super::quorum`], read by the service. In memory only: what a person must see after
//! a restart lies in the service's database.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How it stands with a verifier since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Builds of which it has the same bits.
    pub agreed: u64,
    /// Builds of which it has other bits.
    pub differed: u64,
    /// Builds about which it said nothing that counts.
    pub silent: u64,
    /// Why it said nothing, when it was asked last.
    pub trouble: Option<String>,
    /// The last build of which it has other bits.
    pub other: Option<String>,
}

/// All verifiers, and how many must agree.
#[derive(Default)]
pub struct Board {
    needed: usize,
    all: Mutex<Vec<Standing>>,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Board").field(&*self.lock()).finish()
    }
}

impl Board {
    pub(super) fn new(needed: usize, names: impl IntoIterator<Item = String>) -> Self {
        let one = |name| Standing {
            name,
            ..Standing::default()
        };
        let all = Mutex::new(names.into_iter().map(one).collect());
        Self { needed, all }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, at: usize, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.lock().get_mut(at) {
            change(standing);
        }
    }

    /// All of them, in the order in which they were named.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.lock().clone()
    }

    /// What the home page and health say; nothing for an instance that nobody verifies.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let all = self.lock();
        if all.is_empty() {
            return Vec::new();
        }
        let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        let (needed, names) = (self.needed, names.join(", "));
        let rule =
            format!("a build is published when {needed} of these got the same bits: {names}");
        let mut notes = vec![rule];
        for one in all.iter() {
            if let Some(key) = &one.other {
                notes.push(format!("verifier {} has other bits of {key}", one.name));
            }
            if let Some(why) = &one.trouble {
                notes.push(format!("verifier {}: {why}", one.name));
            }
        }
        notes
    }
}
