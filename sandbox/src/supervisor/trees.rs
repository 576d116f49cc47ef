//! Requests about the store: adoption, freezing, removal, lists. The work itself is a worker's.

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use super::{
    events::Supervisor,
    legacy, request,
    worker::{self, Done, Finished, Task, Worker},
};
use crate::{
    store::{self, Name},
    sys::process,
    wire::{Ending, Job, Reply, Tree},
};

/// Trees in one message: each is some 300 bytes of at most 64 KiB.
const TREES_IN_MESSAGE: usize = 100;
/// Workers at a time; each copies some 200 MB.
const WORKERS_MAX: usize = 8;

impl Supervisor {
    pub(super) fn list(&mut self, trees: &[Tree]) {
        let mut parts = trees.chunks(TREES_IN_MESSAGE).peekable();
        if parts.peek().is_none() {
            self.outbox.push_back(Reply::Trees {
                trees: Vec::new(),
                more: false,
            });
        }
        while let Some(part) = parts.next() {
            self.outbox.push_back(Reply::Trees {
                trees: part.to_vec(),
                more: parts.peek().is_some(),
            });
        }
    }

    /// True when the tree is there already.
    pub(super) fn adopt(
        &mut self,
        go: &str,
        h1: &str,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<bool, String> {
        let (Some(folder), true) = (descriptors.pop(), descriptors.is_empty()) else {
            return Err("adoption takes one descriptor".to_owned());
        };
        request::go_minor(go).ok_or("the Go version is not of the form `go1.26.8`")?;
        let name = Name::sdk(store::digest_hex(h1).ok_or("the hash is no `h1:`")?);
        if let Some(header) = store::header(&name) {
            let same = header.title == go;
            return if same {
                Ok(true)
            } else {
                Err(format!("this is {}", header.title))
            };
        }
        let task = Task::Adopt { h1: h1.to_owned() };
        let same = |it: &Worker| matches!(&it.task, Task::Adopt { h1: other } if other == h1);
        if self.workers.iter().any(same) {
            return Err("this SDK is being adopted".to_owned());
        }
        self.work(task, folder.as_fd(), |folder| {
            store::adopt(folder, &name, go, h1).map(|()| Done::Nothing)
        })?;
        Ok(false)
    }

    pub(super) fn remove(&mut self, tree: &str) -> Result<(), String> {
        let put_away = store::known_put_away(tree).is_some();
        if !put_away {
            let name = Name::parse(tree).ok_or("there is no such tree")?;
            store::header(&name).ok_or("there is no such tree")?;
            self.is_unused(&name)?;
        }
        // A check of another tree is no hindrance.
        let busy = |task: &Task| match task {
            Task::Verify { tree: other } => other.to_string() == tree,
            _ => true,
        };
        if self.workers.iter().any(|worker| busy(&worker.task)) {
            return Err("a tree is being made, checked or removed".to_owned());
        }
        let alone = self.settings.presence.is_alone();
        if !alone.map_err(|error| error.to_string())? {
            return Err("another hotcell uses the same store".to_owned());
        }
        let tree = tree.to_owned();
        let task = Task::Remove { tree: tree.clone() };
        let here = File::open(".").map_err(|error| error.to_string())?;
        self.work(task, here.as_fd(), |_| {
            match Name::parse(&tree) {
                Some(name) => store::remove(&name)?,
                None => store::remove_put_away(&tree)?,
            }
            Ok(Done::Nothing)
        })
    }

    fn is_unused(&self, name: &Name) -> Result<(), String> {
        let mut orders = self
            .cells
            .iter()
            .flatten()
            .filter(|it| !it.is_over())
            .map(|it| &it.order);
        if orders.any(|order| {
            order.sdk == *name || order.std == *name || order.command.as_ref() == Some(name)
        }) {
            return Err("a cell uses this tree".to_owned());
        }
        Ok(())
    }

    pub(super) fn freeze(&mut self, slot: usize) {
        let Some(cell) = self.cells[slot].as_mut() else {
            return;
        };
        let request = &cell.order.request;
        let command = request.job == Job::Command;
        let (name, title) = if command {
            (legacy::made(&request.sdk), legacy::title(&request.go))
        } else {
            let title = format!("{} {}/{}", request.go, request.goos, request.goarch);
            (cell.order.std.clone(), title)
        };
        let pinned = legacy::pinned(&request.go);
        let started = match cell.kept.take() {
            Some(kept) => self.work(Task::Freeze { slot }, kept.as_fd(), |kept| {
                let made = if command {
                    store::command(kept, &name, &title, pinned)
                } else {
                    store::freeze(kept, &name, &title)
                };
                made.map(|()| Done::Nothing)
            }),
            None => Err("what was made is gone".to_owned()),
        };
        if let Err(error) = started {
            self.frozen(slot, Some(error));
        }
    }

    fn frozen(&mut self, slot: usize, error: Option<String>) {
        let error = self.is_trusted(slot).err().or(error);
        let Some(cell) = self.cells[slot].as_mut() else {
            return;
        };
        let ending = match error {
            None => Ending::Success,
            Some(error) => Ending::Setup {
                step: "freeze".to_owned(),
                error,
            },
        };
        self.outbox.push_back(cell.finish(ending));
    }

    pub(super) fn work(
        &mut self,
        task: Task,
        source: BorrowedFd<'_>,
        work: impl FnOnce(BorrowedFd<'_>) -> Result<Done, store::StoreError>,
    ) -> Result<(), String> {
        if self.workers.len() >= WORKERS_MAX {
            return Err("too much work on the store at once".to_owned());
        }
        self.workers
            .push(worker::start(task, source, work).map_err(|error| error.to_string())?);
        Ok(())
    }

    /// A worker is dead; what it said lies in its channel.
    pub(super) fn on_worker(&mut self, pid: i32) {
        let Some(index) = self.workers.iter().position(|worker| worker.pid == pid) else {
            return;
        };
        let worker = self.workers.swap_remove(index);
        let said = worker.channel.receive::<Finished>();
        let done = match said {
            Ok(Some((Finished { done }, _))) => done,
            _ => Err("the worker died".to_owned()),
        };
        let _status = process::reap(pid);
        let refused = |tree, why| Reply::Refused {
            cell: None,
            tree: Some(tree),
            why,
        };
        let reply = match (worker.task, done) {
            (Task::Freeze { slot }, done) => return self.frozen(slot, done.err()),
            (Task::Verify { tree }, done) => return self.checked(&tree, done),
            (Task::Adopt { h1 }, Ok(_)) => Reply::Adopted { h1 },
            (Task::Adopt { h1 }, Err(why)) => refused(h1, why),
            (Task::Remove { tree }, Ok(_)) => Reply::Removed { tree },
            (Task::Remove { tree }, Err(why)) => refused(tree, why),
        };
        self.outbox.push_back(reply);
    }
}
