//! The relay's side of its session with `fetch`: questions and answers, matched by number.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::OwnedFd,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hotcell_sandbox::channel::ChannelError;
use tokio::sync::oneshot;

use crate::{
    channel::AsyncChannel,
    fetch::wire::{Give, Given, Member, ModuleHash, Want, Wanted},
};

/// What a question brought.
pub(super) enum Reply {
    /// A small text.
    Text(String),
    /// A verified file.
    File { file: File, bytes: u64 },
    /// Nothing, and that is an answer.
    NotFound,
    /// Nothing, and somebody is at fault.
    Trouble(String),
}

/// One session; lives as long as its cell.
pub(super) struct Session {
    channel: AsyncChannel,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<(Give, Option<OwnedFd>)>>,
    /// Zip hashes of all modules that were handed to the cell.
    served: HashMap<(String, String), String>,
    /// `fetch` is gone: nobody will answer any more.
    over: bool,
}

impl Session {
    pub(super) fn new(channel: AsyncChannel) -> Self {
        Self {
            channel,
            next: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// Hands answers to those who wait, until `fetch` closes the session.
    ///
    /// # Errors
    /// When the channel fails; everybody who waits is told first.
    pub(super) async fn run(&self) -> Result<(), ChannelError> {
        let result = loop {
            match self.channel.receive::<Given>().await {
                Ok(Some((given, descriptors))) => {
                    let waiting = self.state().waiting.remove(&given.id);
                    if let Some(waiting) = waiting {
                        // The connection may be gone already; then nobody needs the answer.
                        let _unwanted = waiting.send((given.given, descriptors.into_iter().next()));
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let mut state = self.state();
        state.over = true;
        state.waiting.clear(); // dropping the senders wakes everybody
        result
    }

    /// Asks for a file.
    pub(super) async fn ask(&self, want: Want) -> Reply {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            if state.over {
                return Reply::Trouble("the fetcher is gone".to_owned());
            }
            state.waiting.insert(id, sender);
        }
        let zip = match &want {
            Want::Zip(member) => Some(member.clone()),
            _ => None,
        };
        if let Err(error) = self.channel.send(&Wanted { id, want }, &[]).await {
            self.state().waiting.remove(&id);
            return Reply::Trouble(error.to_string());
        }
        match receiver.await {
            Ok((give, descriptor)) => self.reply(give, descriptor, zip),
            Err(_) => Reply::Trouble("the fetcher is gone".to_owned()),
        }
    }

    fn reply(&self, give: Give, descriptor: Option<OwnedFd>, zip: Option<Member>) -> Reply {
        match (give, descriptor) {
            (Give::Text { text }, _) => Reply::Text(text),
            (Give::NotFound, _) => Reply::NotFound,
            (Give::Trouble { text }, _) => Reply::Trouble(text),
            (Give::File { bytes, h1 }, Some(descriptor)) => {
                if let Some(Member { path, version }) = zip {
                    self.state().served.insert((path, version), h1);
                }
                Reply::File {
                    file: File::from(descriptor),
                    bytes,
                }
            }
            (Give::File { .. }, None) => Reply::Trouble("the fetcher sent no file".to_owned()),
        }
    }

    /// Zip hashes of all modules that the cell was given.
    pub(super) fn served(&self) -> Vec<ModuleHash> {
        let state = self.state();
        let modules = state.served.iter().map(|((path, version), h1)| ModuleHash {
            path: path.clone(),
            version: version.clone(),
            h1: Some(h1.clone()),
            go_mod_h1: None,
        });
        modules.collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is consistent after every statement, so a panic elsewhere does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
