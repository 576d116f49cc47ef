//! How it stands with each witness, for health, metrics and pages.
//!
//! Written by [`super::client`], read by the service. In memory only: what must survive lies with
//! the log.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How it stands with a witness.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Name of its key.
    pub name: String,
    /// Records of the largest head that it cosigned; 0 for none.
    pub cosigned: u64,
    /// Why it did not cosign the newest head, when it was asked last.
    pub trouble: Option<String>,
    /// Questions that led to no cosignature since the start.
    pub failures: u64,
    /// It has seen another log with our signature.
    pub alarm: bool,
}

/// All witnesses.
#[derive(Default)]
pub struct Board(Mutex<Vec<Standing>>);

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Board").field(&*self.lock()).finish()
    }
}

impl Board {
    pub(super) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let one = |name| Standing {
            name,
            ..Standing::default()
        };
        Self(Mutex::new(names.into_iter().map(one).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// What the home page and health say: what protects from a rollback, and what does not.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let all = self.lock();
        let who: Vec<String> = all
            .iter()
            .filter(|one| one.cosigned > 0)
            .map(|one| format!("{} ({} records)", one.name, one.cosigned))
            .collect();
        let mut protection = "rollback protection: this disk".to_owned();
        match who.is_empty() {
            true => protection += " only",
            false => protection += &format!(", and witnesses: {}", who.join(", ")),
        }
        let troubles = all.iter().filter_map(|one| {
            let why = one.trouble.as_ref()?;
            Some(format!("witness {}: {why}", one.name))
        });
        [protection].into_iter().chain(troubles).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_protects_is_said_and_a_silent_witness_protects_nothing() {
        let disk_only = "rollback protection: this disk only";
        assert_eq!(Board::default().notes(), [disk_only]);
        let board = Board::new(["w1".to_owned(), "w2".to_owned()]);
        assert_eq!(board.notes(), [disk_only]);
        board.change(0, |one| one.cosigned = 7);
        board.change(1, |one| one.trouble = Some("it did not answer".to_owned()));
        board.change(2, |one| one.cosigned = 1);
        assert_eq!(
            board.notes(),
            [
                "rollback protection: this disk, and witnesses: w1 (7 records)",
                "witness w2: it did not answer"
            ]
        );
    }
}
