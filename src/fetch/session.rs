//! One relay's session: its closure, its questions, its verified files.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hotcell_sandbox::channel::ChannelError;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    cache::Name,
    closure::{Closure, Verdict},
    error::FetchError,
    gomod::GoMod,
    modules::{Modules, Verified},
    role::Asker,
    wire::{Answer, Give, Given, Member, ModuleHash, TroubleKind, Want, Wanted},
};
use crate::{channel::AsyncChannel, modzip::H1};

/// Files of one session that are worked on at once; the relay has at most 64 connections.
const WORK_MAX: usize = 32;
/// Modules of one part of [`Answer::Closed`]: each has under 600 bytes of a message's 64 KiB.
const PART_MODULES: usize = 100;

/// A session while it lasts.
pub(super) struct Session {
    closure: Mutex<Closure>,
    modules: Arc<Modules>,
    asker: Asker,
}

impl Session {
    pub(super) fn new(closure: Closure, modules: Arc<Modules>, asker: Asker) -> Self {
        Self {
            closure: Mutex::new(closure),
            modules,
            asker,
        }
    }

    fn closure(&self) -> MutexGuard<'_, Closure> {
        self.closure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of all cached files that the cell has read and may read again.
    pub(super) fn in_use(&self) -> Vec<Name> {
        let hashes = self.closure().served();
        let hashes = hashes
            .into_iter()
            .flat_map(|module| [module.h1, module.go_mod_h1]);
        hashes
            .flatten()
            .filter_map(|h1| H1::parse(&h1).ok())
            .map(|h1| h1.hex())
            .collect()
    }

    /// Answers a relay until it closes its end; then tells the asker what was served.
    pub(super) async fn run(self: Arc<Self>, relay: AsyncChannel) {
        let relay = Arc::new(relay);
        let permits = Arc::new(Semaphore::new(WORK_MAX));
        let mut work = JoinSet::new(); // dropped with everything in it when the relay is gone
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            match relay.receive::<Wanted>().await {
                Ok(Some((wanted, _))) => {
                    let (session, relay) = (Arc::clone(&self), Arc::clone(&relay));
                    work.spawn(async move {
                        session.answer(&relay, wanted).await;
                        drop(permit);
                    });
                    while work.try_join_next().is_some() {}
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a relay's session is broken");
                    break;
                }
            }
        }
        work.shutdown().await;
        self.close().await;
    }

    async fn answer(&self, relay: &AsyncChannel, wanted: Wanted) {
        let (given, file) = match self.give(&wanted.want).await {
            Ok(Found::Text(text)) => (Give::Text { text }, None),
            Ok(Found::File(verified)) => {
                let h1 = verified.h1.to_string();
                (
                    Give::File {
                        bytes: verified.bytes,
                        h1,
                    },
                    Some(OwnedFd::from(verified.file)),
                )
            }
            Ok(Found::Nothing) => (Give::NotFound, None),
            Err(error) => {
                let trouble = error.trouble();
                tracing::warn!(want = ?wanted.want, "{}", trouble.text);
                let give = match trouble.kind {
                    TroubleKind::NotFound => Give::NotFound,
                    _ => Give::Trouble {
                        text: trouble.text.clone(),
                    },
                };
                self.closure().trouble.get_or_insert(trouble);
                (give, None)
            }
        };
        let descriptors: Vec<BorrowedFd<'_>> = file.iter().map(|file| file.as_fd()).collect();
        match relay
            .send(
                &Given {
                    id: wanted.id,
                    given,
                },
                &descriptors,
            )
            .await
        {
            // The relay is gone: `run` will see it.
            Ok(()) | Err(ChannelError::Io(_)) => {}
            Err(error) => tracing::warn!(%error, "cannot answer a relay"),
        }
    }

    async fn give(&self, want: &Want) -> Result<Found, FetchError> {
        let verdict = self.closure().judge(want);
        match verdict {
            Verdict::Text(text) => Ok(Found::Text(text)),
            Verdict::NotFound => Ok(Found::Nothing),
            Verdict::NotLocked(member) => {
                let kind = if matches!(want, Want::Zip(_)) {
                    "zip"
                } else {
                    "go.mod"
                };
                let Member { path, version } = member;
                Err(FetchError::NotLocked(format!(
                    "the {kind} of `{path}@{version}`"
                )))
            }
            Verdict::Mod(module) => {
                let (verified, content) = self.modules.go_mod(&module).await?;
                self.check_lock(want, verified.h1, || format!("go.mod of `{module}`"))?;
                let content = GoMod::parse(&content)?;
                let h1 = verified.h1.to_string();
                let (path, version) = (module.path.to_string(), module.version.to_string());
                let member = Member { path, version };
                let first = self
                    .closure()
                    .add_go_mod(&member, &h1, verified.bytes, &content)?;
                self.tell(first).await;
                Ok(Found::File(verified))
            }
            Verdict::Zip(module) => {
                let verified = self.modules.zip(&module).await?;
                self.check_lock(want, verified.h1, || format!("zip of `{module}`"))?;
                let h1 = verified.h1.to_string();
                let (path, version) = (module.path.to_string(), module.version.to_string());
                let first =
                    self.closure()
                        .add_zip(&Member { path, version }, &h1, verified.bytes)?;
                self.tell(first).await;
                Ok(Found::File(verified))
            }
        }
    }

    fn check_lock(
        &self,
        want: &Want,
        found: H1,
        what: impl FnOnce() -> String,
    ) -> Result<(), FetchError> {
        match self.closure().demanded(want) {
            Some(expected) if expected != found.to_string() => {
                let expected = expected.to_owned();
                Err(FetchError::LockDiffers {
                    what: what(),
                    expected,
                    found,
                })
            }
            _ => Ok(()),
        }
    }

    async fn tell(&self, first: Option<ModuleHash>) {
        if let Some(module) = first {
            self.asker.say(Answer::Served { module }, None).await;
        }
    }

    async fn close(&self) {
        let (mut served, missing, trouble) = {
            let closure = self.closure();
            (closure.served(), closure.missing(), closure.trouble.clone())
        };
        loop {
            let rest = served.split_off(served.len().min(PART_MODULES));
            let more = !rest.is_empty();
            let (missing, trouble) = if more {
                (Vec::new(), None)
            } else {
                (missing.clone(), trouble.clone())
            };
            self.asker
                .say(
                    Answer::Closed {
                        served,
                        more,
                        missing,
                        trouble,
                    },
                    None,
                )
                .await;
            if !more {
                return;
            }
            served = rest;
        }
    }
}

/// What a relay gets.
enum Found {
    Text(String),
    File(Verified),
    Nothing,
}
