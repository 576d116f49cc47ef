//! What a build needs before it can begin: an SDK, its go command where the SDK's own cannot run in
//! a cell, and a frozen standard library in the store.

use std::os::fd::AsFd;

use hotcell_sandbox::{
    supervisor::DRIVER_GO,
    wire::{Ending, Job},
};
use tokio::sync::{Mutex, MutexGuard, mpsc};

use super::{
    Failure, FailureClass, Phase, Progress, cell, ending, engine::Engine, supervise::SuperviseError,
};
use crate::{
    fetch::wire::{Answer, Ask, Trouble, TroubleKind},
    spec::{GoVersion, Target},
};

impl Engine {
    /// Makes sure that an SDK is in the store and returns its `h1:`.
    ///
    /// # Errors
    /// When it cannot be had, verified or adopted.
    pub async fn sdk(
        &self,
        go: GoVersion,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<String, Failure> {
        if go < GoVersion::OLDEST_LOGGED {
            return Err(ending::go_too_old(go));
        }
        let making = self.making(&format!("sdk {go}"));
        let _one_at_a_time = turn(&making, Phase::Sdk, progress).await;
        let lost = self.supervise().take_lost();
        self.sdks().retain(|_, h1| !lost.contains(h1));
        let known = self.sdks().get(&go).cloned();
        if let Some(h1) = known {
            return Ok(h1);
        }
        let _full = progress.try_send(Progress::Phase { phase: Phase::Sdk });
        let ask = Ask::Sdk { go: go.to_string() };
        let mut asked = self
            .fetch()
            .ask(ask, &[])
            .await
            .map_err(ending::of_trouble)?;
        let (h1, folder) = loop {
            let arrived = asked
                .next()
                .await
                .map_err(|trouble| no_release(go, trouble))?;
            match (arrived.answer, arrived.descriptor) {
                (Answer::Sdk { h1 }, Some(folder)) => break (h1, folder),
                (
                    Answer::Progress {
                        bytes, bytes_total, ..
                    },
                    _,
                ) => {
                    let _full = progress.try_send(Progress::Bytes { bytes, bytes_total });
                }
                _ => return Err(cell::internal(&"the fetcher sent no folder")),
            }
        };
        let adopted = self
            .supervise()
            .adopt(&go.to_string(), &h1, folder.as_fd())
            .await;
        let forget = Ask::SdkAdopted { go: go.to_string() };
        let _left_behind = self.fetch().ask_once(forget).await; // swept at the next start
        adopted.map_err(|error| cell::supervisor(&error))?;
        self.sdks().insert(go, h1.clone());
        Ok(h1)
    }

    /// Makes sure that an SDK has a go command that runs in a cell: before Go 1.21 one is made from
    /// its source, by a go command that is made for this from a newer SDK.
    ///
    /// # Errors
    /// When it cannot be made, or is not the one that is pinned.
    pub async fn go_command(
        &self,
        go: GoVersion,
        h1: &str,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(), Failure> {
        if go >= GoVersion::STATIC_SINCE || self.has(&command_title(go)).await? {
            return Ok(());
        }
        let driver = GoVersion::parse(DRIVER_GO).map_err(|error| cell::internal(&error))?;
        if !self.has(&command_title(driver)).await? {
            let h1 = self.sdk(driver, progress).await?;
            self.make_command(driver, &h1, progress).await?;
        }
        self.make_command(go, h1, progress).await
    }

    async fn make_command(
        &self,
        go: GoVersion,
        h1: &str,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(), Failure> {
        let making = self.making(&format!("command {go}"));
        let _one_at_a_time = making.lock().await;
        if self.has(&command_title(go)).await? {
            return Ok(());
        }
        // A part of getting the SDK ready, also for those who watch.
        let _full = progress.try_send(Progress::Phase { phase: Phase::Sdk });
        let work = self.work(None, None, None, progress);
        let outcome = self
            .cell(work, go, h1, Target::HOST, Job::Command, false)
            .await?;
        match outcome.ending {
            Ending::Success => Ok(()),
            _ => Err(outcome.into_failure(&self.policy_for(go)?.name)),
        }
    }

    /// Whether the store has a tree of this title that was not put away.
    async fn has(&self, title: &str) -> Result<bool, Failure> {
        let trees = self.supervise().trees().await;
        let trees = trees.map_err(|error| cell::supervisor(&error))?;
        let mut sound = trees.iter().filter(|tree| tree.put_away.is_none());
        Ok(sound.any(|tree| tree.title == title))
    }

    /// Makes sure that the frozen standard library of an SDK and target is in the store.
    pub(super) async fn standard_library(
        &self,
        go: GoVersion,
        h1: &str,
        target: Target,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(), Failure> {
        let making = self.making(&format!("std {go} {target}"));
        let _one_at_a_time = turn(&making, Phase::StandardLibrary, progress).await;
        if self
            .has(&format!("{go} {}/{}", target.goos(), target.goarch()))
            .await?
        {
            return Ok(());
        }
        let _full = progress.try_send(Progress::Phase {
            phase: Phase::StandardLibrary,
        });
        let work = self.work(None, None, None, progress);
        let outcome = self.cell(work, go, h1, target, Job::Std, false).await?;
        match outcome.ending {
            Ending::Success => Ok(()),
            _ => Err(outcome.into_failure(&self.policy_for(go)?.name)),
        }
    }

    /// Deletes a tree of the store and forgets it.
    ///
    /// # Errors
    /// When a cell uses it, or the supervisor is gone.
    pub async fn remove_tree(&self, name: &str) -> Result<(), SuperviseError> {
        let trees = self.supervise().trees().await?;
        self.supervise().remove(name).await?;
        let digest = trees
            .into_iter()
            .find(|tree| tree.name == name)
            .map(|tree| tree.digest);
        self.sdks().retain(|_, h1| Some(&*h1) != digest.as_ref());
        Ok(())
    }
}

/// What the supervisor calls the go command that was made from an SDK.
fn command_title(go: GoVersion) -> String {
    format!("{go} go command")
}

/// A release that does not exist deserves another sentence than a module that does not exist.
fn no_release(go: GoVersion, trouble: Trouble) -> Failure {
    if trouble.kind != TroubleKind::NotFound {
        return ending::of_trouble(trouble);
    }
    let sentence = format!("there is no Go release {go} for this machine");
    let remedy = "choose one that https://go.dev/dl/ lists";
    ending::failure("no_such_go", FailureClass::CannotBuild, sentence, remedy)
}

/// Waits for its turn to make something. Whoever has to wait for another build that makes it is in
/// that phase, too, for those who watch.
async fn turn<'a>(
    making: &'a Mutex<()>,
    phase: Phase,
    progress: &mpsc::Sender<Progress>,
) -> MutexGuard<'a, ()> {
    if let Ok(turn) = making.try_lock() {
        return turn;
    }
    let _full = progress.try_send(Progress::Phase { phase });
    making.lock().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_build_that_waits_for_what_another_one_makes_says_so() {
        let (to, mut from) = mpsc::channel(4);
        let making = Mutex::new(());
        let first = turn(&making, Phase::StandardLibrary, &to).await;
        assert!(from.try_recv().is_err(), "it says what it does itself");
        let second = turn(&making, Phase::StandardLibrary, &to);
        let told = async {
            let told = from.recv().await;
            drop(first);
            told
        };
        let (_second, told) = tokio::join!(second, told);
        let phase = Phase::StandardLibrary;
        assert!(matches!(told, Some(Progress::Phase { phase: told }) if told == phase));
    }

    #[test]
    fn a_release_that_does_not_exist_is_told_to_people_without_this_program() {
        let trouble = Trouble {
            kind: TroubleKind::NotFound,
            text: "404".to_owned(),
        };
        let failure = no_release(GoVersion::parse("go1.26.99").unwrap(), trouble);
        assert_eq!(failure.code, "no_such_go");
        assert!(!failure.remedy.contains("hotcell"), "{}", failure.remedy);
    }
}
