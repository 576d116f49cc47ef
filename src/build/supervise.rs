//! The asker's side of the supervisor's socket: requests out, replies to whoever waits for them.

use std::{
    collections::HashMap,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hotcell_sandbox::{
    channel::ChannelError,
    wire::{CancelReason, CellId, CellRequest, NotInForce, PolicyName, Reply, Request, Tree},
};
use tokio::sync::{mpsc, oneshot};

pub use super::checks::Verdict;
use crate::channel::AsyncChannel;

/// Replies that wait for one cell's asker; there are two or three in all.
const REPLIES_MAX: usize = 8;

/// Why the supervisor did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SuperviseError {
    /// It said no; nothing was changed.
    #[error("the supervisor refused: {0}")]
    Refused(String),
    /// It is gone, and with it every cell.
    #[error("the supervisor is gone")]
    Gone,
}

/// What the supervisor said of itself when it was ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Policies that it has compiled.
    pub policies: Vec<PolicyName>,
    /// What this host cannot enforce, whatever the policy.
    pub not_in_force: Vec<NotInForce>,
}

/// The supervisor, as the asker sees it.
#[derive(Debug)]
pub struct Supervise {
    channel: AsyncChannel,
    next: AtomicU64,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
pub(super) struct Waiting {
    cells: HashMap<CellId, mpsc::Sender<Reply>>,
    /// Adoptions and removals, by `h1:` or tree name.
    trees: HashMap<String, oneshot::Sender<Result<(), String>>>,
    /// Listings are answered in order.
    lists: Vec<(Vec<Tree>, oneshot::Sender<Vec<Tree>>)>,
    /// Checks, by tree name; several may wait for one.
    pub(super) checks: HashMap<String, Vec<oneshot::Sender<Result<Verdict, String>>>>,
    /// What lies in the store's quarantine, a sentence each.
    pub(super) alarms: Vec<String>,
    /// Digests of trees that were put away and that somebody may still believe in.
    pub(super) lost: Vec<String>,
    gone: bool,
}

impl Supervise {
    /// Waits for the supervisor's first message, then serves its replies in the background.
    ///
    /// # Errors
    /// When it ends, or says something else first.
    pub async fn connect(channel: AsyncChannel) -> Result<(Arc<Self>, Ready), SuperviseError> {
        let ready = match channel.receive::<Reply>().await {
            Ok(Some((
                Reply::Ready {
                    policies,
                    not_in_force,
                },
                _,
            ))) => Ready {
                policies,
                not_in_force,
            },
            Ok(Some((Reply::Refused { why, .. }, _))) => return Err(SuperviseError::Refused(why)),
            _ => return Err(SuperviseError::Gone),
        };
        let this = Arc::new(Self {
            channel,
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        });
        let serving = Arc::clone(&this);
        tokio::spawn(async move { serving.serve().await });
        Ok((this, ready))
    }

    /// Whether the supervisor is gone, and with it every cell.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.waiting().gone
    }

    async fn serve(&self) {
        while let Ok(Some((reply, _))) = self.channel.receive::<Reply>().await {
            self.dispatch(reply);
        }
        let mut waiting = self.waiting();
        *waiting = Waiting {
            gone: true,
            ..Waiting::default()
        }; // wakes everybody
    }

    fn dispatch(&self, reply: Reply) {
        let mut waiting = self.waiting();
        match reply {
            Reply::Started { cell, .. }
            | Reply::Refused {
                cell: Some(cell), ..
            } => {
                if let Some(asker) = waiting.cells.get(&cell) {
                    let _full = asker.try_send(reply);
                }
            }
            Reply::Ended { cell, .. } => {
                if let Some(asker) = waiting.cells.remove(&cell) {
                    let _full = asker.try_send(reply);
                }
            }
            Reply::Adopted { h1: tree } | Reply::Removed { tree } => {
                if let Some(asker) = waiting.trees.remove(&tree) {
                    let _gone = asker.send(Ok(()));
                }
            }
            Reply::Verified { tree, check } => waiting.judge(&tree, &Ok(Verdict::Sound(check))),
            Reply::PutAway(tree) => waiting.put_away(tree),
            Reply::Refused {
                tree: Some(tree),
                why,
                ..
            } => {
                waiting.judge(&tree, &Err(why.clone()));
                if let Some(asker) = waiting.trees.remove(&tree) {
                    let _gone = asker.send(Err(why));
                }
            }
            Reply::Trees { mut trees, more } => {
                if let Some((list, _)) = waiting.lists.first_mut() {
                    list.append(&mut trees);
                }
                if !more && !waiting.lists.is_empty() {
                    let (list, asker) = waiting.lists.remove(0);
                    let _gone = asker.send(list);
                }
            }
            Reply::Ready { .. } | Reply::Refused { .. } => {}
        }
    }

    /// Has an SDK copied into the store. `h1` must not be in the middle of another adoption.
    ///
    /// # Errors
    /// See [`SuperviseError`].
    pub async fn adopt(
        &self,
        go: &str,
        h1: &str,
        folder: BorrowedFd<'_>,
    ) -> Result<(), SuperviseError> {
        let request = Request::Adopt {
            go: go.to_owned(),
            h1: h1.to_owned(),
        };
        self.tree_request(&request, h1, &[folder]).await
    }

    /// Deletes a tree of the store.
    ///
    /// # Errors
    /// See [`SuperviseError`]; a tree in use is refused.
    pub async fn remove(&self, tree: &str) -> Result<(), SuperviseError> {
        self.tree_request(
            &Request::Remove {
                tree: tree.to_owned(),
            },
            tree,
            &[],
        )
        .await
    }

    async fn tree_request(
        &self,
        request: &Request,
        tree: &str,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SuperviseError> {
        let (sender, receiver) = oneshot::channel();
        self.register(|waiting| {
            waiting.trees.insert(tree.to_owned(), sender);
        })?;
        self.send(request, descriptors).await?;
        receiver
            .await
            .map_err(|_| SuperviseError::Gone)?
            .map_err(SuperviseError::Refused)
    }

    /// All trees of the store.
    ///
    /// # Errors
    /// See [`SuperviseError`].
    pub async fn trees(&self) -> Result<Vec<Tree>, SuperviseError> {
        let (sender, receiver) = oneshot::channel();
        self.register(|waiting| waiting.lists.push((Vec::new(), sender)))?;
        self.send(&Request::Trees, &[]).await?;
        receiver.await.map_err(|_| SuperviseError::Gone)
    }

    /// Starts a cell; its replies come through the handle, which ends the cell when dropped.
    ///
    /// # Errors
    /// See [`SuperviseError`].
    pub async fn cell(
        self: &Arc<Self>,
        make: impl FnOnce(CellId) -> CellRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<CellHandle, SuperviseError> {
        let cell = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, replies) = mpsc::channel(REPLIES_MAX);
        self.register(|waiting| {
            waiting.cells.insert(cell, sender);
        })?;
        let handle = CellHandle {
            cell,
            replies,
            supervise: Arc::clone(self),
            over: false,
        };
        self.send(&Request::Cell(make(cell)), descriptors).await?;
        Ok(handle)
    }

    pub(super) fn register(&self, add: impl FnOnce(&mut Waiting)) -> Result<(), SuperviseError> {
        let mut waiting = self.waiting();
        if waiting.gone {
            return Err(SuperviseError::Gone);
        }
        add(&mut waiting);
        Ok(())
    }

    pub(super) async fn send(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SuperviseError> {
        self.channel
            .send(request, descriptors)
            .await
            .map_err(|error| match error {
                ChannelError::TooLong => {
                    SuperviseError::Refused("the request is too long".to_owned())
                }
                _ => SuperviseError::Gone,
            })
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // The maps are consistent after every statement, so a panic elsewhere does not matter.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One cell that was asked for. Dropping it ends the cell.
#[derive(Debug)]
pub struct CellHandle {
    cell: CellId,
    replies: mpsc::Receiver<Reply>,
    supervise: Arc<Supervise>,
    over: bool,
}

impl CellHandle {
    /// The next reply: started, ended, refused.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn next(&mut self) -> Result<Reply, SuperviseError> {
        let reply = self.replies.recv().await.ok_or(SuperviseError::Gone)?;
        self.over |= matches!(reply, Reply::Ended { .. } | Reply::Refused { .. });
        Ok(reply)
    }

    /// Ends the cell; its [`Reply::Ended`] still comes.
    pub fn cancel(&self, why: CancelReason) {
        cancel(&self.supervise, self.cell, why);
    }
}

impl Drop for CellHandle {
    fn drop(&mut self) {
        self.supervise.waiting().cells.remove(&self.cell);
        if !self.over {
            cancel(&self.supervise, self.cell, CancelReason::Unwanted);
        }
    }
}

/// Sends without waiting for the caller, who may be a destructor.
fn cancel(supervise: &Arc<Supervise>, cell: CellId, why: CancelReason) {
    let supervise = Arc::clone(supervise);
    tokio::spawn(async move {
        let _gone = supervise.send(&Request::Cancel { cell, why }, &[]).await;
    });
}
