//! The asker's side of the fetcher's socket: questions out, answers to whoever waits for them.

use std::{
    collections::HashMap,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::{
    channel::AsyncChannel,
    fetch::wire::{Answer, Ask, Member, ModuleHash, Request, Response, Trouble, TroubleKind},
};

/// Answers that wait for one asker. A download reports progress several times a second; an asker
/// that does not read holds the fetcher's socket back, so everybody reads at once.
const ANSWERS_MAX: usize = 256;
/// Most alarms that are kept; they have one cause.
const ALARMS_MAX: usize = 100;
/// Modules of a lock file in one message: 100 of 400 bytes are far below a message's maximum.
const LOCK_MODULES_MAX: usize = 100;

/// The fetcher, as the asker sees it.
#[derive(Debug)]
pub struct Fetch {
    channel: AsyncChannel,
    next: AtomicU64,
    waiting: Mutex<Option<HashMap<u64, mpsc::Sender<Arrived>>>>,
    alarms: Mutex<Vec<String>>,
}

/// An answer with its descriptor, if it has one.
#[derive(Debug)]
pub struct Arrived {
    /// What `fetch` says.
    pub answer: Answer,
    /// The SDK's folder.
    pub descriptor: Option<OwnedFd>,
}

/// A question that is being answered.
#[derive(Debug)]
pub struct Asked {
    id: u64,
    answers: mpsc::Receiver<Arrived>,
    fetch: Arc<Fetch>,
}

impl Fetch {
    /// Serves answers in the background.
    #[must_use]
    pub fn connect(channel: AsyncChannel) -> Arc<Self> {
        let this = Arc::new(Self {
            channel,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
            alarms: Mutex::default(),
        });
        let serving = Arc::clone(&this);
        tokio::spawn(async move { serving.serve().await });
        this
    }

    async fn serve(&self) {
        while let Ok(Some((response, descriptors))) = self.channel.receive::<Response>().await {
            if let Answer::PutAway { sentence } = response.answer {
                tracing::error!("{sentence}; it was put away");
                let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
                if alarms.len() < ALARMS_MAX {
                    alarms.push(sentence);
                }
                continue;
            }
            let asker = self
                .waiting()
                .as_ref()
                .and_then(|map| map.get(&response.id).cloned());
            let descriptor = descriptors.into_iter().next();
            if let Some(asker) = asker {
                let arrived = Arrived {
                    answer: response.answer,
                    descriptor,
                };
                if matches!(
                    arrived.answer,
                    Answer::Progress { .. } | Answer::Served { .. }
                ) {
                    let _full = asker.try_send(arrived); // progress may be lost
                } else {
                    let _gone = asker.send(arrived).await;
                }
            }
        }
        *self.waiting() = None; // wakes everybody
    }

    /// Files of the module cache that were not what they were: a person must look.
    pub fn alarms(&self) -> Vec<String> {
        let alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.clone()
    }

    /// Asks; answers come through the handle.
    ///
    /// # Errors
    /// When the fetcher is gone.
    pub async fn ask(
        self: &Arc<Self>,
        ask: Ask,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Asked, Trouble> {
        let asked = self.prepare()?;
        self.send(asked.id, ask, descriptors).await?;
        Ok(asked)
    }

    /// Opens a session for a relay. A lock file of any length travels ahead in parts.
    ///
    /// # Errors
    /// When the fetcher is gone.
    pub async fn open(
        self: &Arc<Self>,
        root: Option<Member>,
        locked: Option<&[ModuleHash]>,
        relay: BorrowedFd<'_>,
    ) -> Result<Asked, Trouble> {
        let asked = self.prepare()?;
        for part in locked.unwrap_or_default().chunks(LOCK_MODULES_MAX) {
            let modules = part.to_vec();
            self.send(asked.id, Ask::Lock { modules }, &[]).await?;
        }
        let locked = locked.map(|_| Vec::new());
        self.send(asked.id, Ask::Open { root, locked }, &[relay])
            .await?;
        Ok(asked)
    }

    /// Makes room for answers.
    fn prepare(self: &Arc<Self>) -> Result<Asked, Trouble> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        match self.waiting().as_mut() {
            Some(map) => map.insert(id, sender),
            None => return Err(gone()),
        };
        Ok(Asked {
            id,
            answers,
            fetch: Arc::clone(self),
        })
    }

    async fn send(&self, id: u64, ask: Ask, descriptors: &[BorrowedFd<'_>]) -> Result<(), Trouble> {
        self.channel
            .send(&Request { id, ask }, descriptors)
            .await
            .map_err(|_| gone())
    }

    /// Asks what has one answer.
    ///
    /// # Errors
    /// The trouble that `fetch` reports, or that it is gone.
    pub async fn ask_once(self: &Arc<Self>, ask: Ask) -> Result<Answer, Trouble> {
        self.ask(ask, &[])
            .await?
            .next()
            .await
            .map(|arrived| arrived.answer)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<HashMap<u64, mpsc::Sender<Arrived>>>> {
        // The map is consistent after every statement, so a panic elsewhere does not matter.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// The next answer; trouble is an error.
    ///
    /// # Errors
    /// The trouble that `fetch` reports, or that it is gone.
    pub async fn next(&mut self) -> Result<Arrived, Trouble> {
        match self.answers.recv().await {
            Some(Arrived {
                answer: Answer::Trouble(trouble),
                ..
            }) => Err(trouble),
            Some(arrived) => Ok(arrived),
            None => Err(gone()),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(map) = self.fetch.waiting().as_mut() {
            map.remove(&self.id);
        }
    }
}

fn gone() -> Trouble {
    Trouble {
        kind: TroubleKind::Internal,
        text: "the fetcher is gone".to_owned(),
    }
}
