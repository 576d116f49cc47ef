//! The asker's side of checks of the store: who waits for one, and what a person must be told.

use hotcell_sandbox::wire::{Check, PutAway, Request, Tree};
use tokio::sync::oneshot;

use super::supervise::{Supervise, SuperviseError, Waiting};

/// Sentences about trees that were put away; each stands for some 100 MB that somebody looks at.
const ALARMS_MAX: usize = 100;

/// What a check of a tree found.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// Every byte that was read is what was adopted.
    Sound(Check),
    /// Not what it was: put away, never used again.
    PutAway(PutAway),
}

impl Waiting {
    pub(super) fn judge(&mut self, tree: &str, verdict: &Result<Verdict, String>) {
        for asker in self.checks.remove(tree).unwrap_or_default() {
            let _gone = asker.send(verdict.clone());
        }
    }

    pub(super) fn put_away(&mut self, tree: PutAway) {
        tracing::error!(
            tree = %tree.tree,
            sound_s = tree.sound_s,
            "{}",
            alarm(&tree)
        );
        self.judge(&tree.tree, &Ok(Verdict::PutAway(tree.clone())));
        self.add_alarm(alarm(&tree));
        self.lost.push(tree.digest);
    }

    fn add_alarm(&mut self, sentence: String) {
        if self.alarms.len() < ALARMS_MAX {
            self.alarms.push(sentence);
        }
    }
}

/// What a person must know of a tree that was put away.
fn alarm(tree: &PutAway) -> String {
    let title = if tree.title.is_empty() {
        &tree.tree
    } else {
        &tree.title
    };
    format!(
        "{title} in the store is not what it was: {}; it was put away, what was built with it \
         after {} (seconds since 1970) is in doubt",
        tree.why, tree.sound_s
    )
}

impl Supervise {
    /// Has a tree read, through the page cache and past it.
    ///
    /// # Errors
    /// See [`SuperviseError`]; when the check could not be made.
    pub async fn verify(&self, tree: &str) -> Result<Verdict, SuperviseError> {
        let (sender, receiver) = oneshot::channel();
        self.register(|waiting| {
            waiting
                .checks
                .entry(tree.to_owned())
                .or_default()
                .push(sender);
        })?;
        let tree = tree.to_owned();
        self.send(&Request::Verify { tree }, &[]).await?;
        receiver
            .await
            .map_err(|_| SuperviseError::Gone)?
            .map_err(SuperviseError::Refused)
    }

    /// What lies in the quarantine of the store: a person must look. A sentence each.
    pub fn alarms(&self) -> Vec<String> {
        self.waiting().alarms.clone()
    }

    /// Notes what an earlier process has put away.
    pub(super) fn remember_put_away(&self, trees: &[Tree]) {
        let mut waiting = self.waiting();
        for tree in trees {
            if let Some(why) = &tree.put_away {
                waiting.add_alarm(alarm(&PutAway {
                    tree: tree.name.clone(),
                    title: tree.title.clone(),
                    digest: tree.digest.clone(),
                    why: why.clone(),
                    sound_s: tree.checked_s,
                }));
            }
        }
    }

    /// Whether a tree was put away that somebody may still believe in.
    pub(super) fn has_lost(&self) -> bool {
        !self.waiting().lost.is_empty()
    }

    /// Digests of trees that were put away since this was last asked.
    pub(super) fn take_lost(&self) -> Vec<String> {
        std::mem::take(&mut self.waiting().lost)
    }
}
