//! Checks of what is shared: after a cell that behaved like an attack, on a schedule, on request.
//!
//! One at a time, in a worker. A tree that is suspect is used by no new cell until it was found to
//! be what it was: requests for it wait here. A tree that differs is put away by the worker; its
//! cells are ended, and the asker is told, unasked.

use std::{
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant, SystemTime},
};

use super::{
    events::Supervisor,
    job,
    worker::{Done, Task},
};
use crate::{
    store::{self, Name, StoreError, Verdict},
    sys::process,
    wire::{CancelReason, CellRequest, Ending, Job, PutAway, Reply},
};

/// From the start to the first look at the schedule: longer than most commands live.
const FIRST: Duration = Duration::from_secs(30);
/// Between two looks: a check reads some 300 MB, so the disk is left alone most of the time, and
/// 2,880 trees can be read in a day.
const PAUSE: Duration = Duration::from_secs(30);
/// Requests for cells that wait for a check; there are never more than cells.
const HELD_MAX: usize = super::CELLS_MAX;
/// Checks that somebody waits for.
const ASKED_MAX: usize = 1_000;

/// What is to be read, and who waits for it.
pub(super) struct Checks {
    next: Instant,
    /// No cell uses these until they were read.
    suspects: Vec<Name>,
    asked: Vec<Name>,
    held: Vec<(CellRequest, Vec<OwnedFd>)>,
    /// Differ, and could not be moved away.
    banned: Vec<Name>,
}

impl Checks {
    /// Begins with what an earlier process found suspect and did not read.
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(Self {
            next: Instant::now() + FIRST,
            suspects: store::suspects()?,
            asked: Vec::new(),
            held: Vec::new(),
            banned: Vec::new(),
        })
    }

    /// Time until the schedule wants to be looked at.
    pub(super) fn sleep(&self, now: Instant) -> Duration {
        self.next.saturating_duration_since(now)
    }

    /// Takes a waiting request back; true when there was one.
    pub(super) fn forget(&mut self, cell: u64) -> bool {
        let before = self.held.len();
        self.held.retain(|(request, _)| request.cell != cell);
        self.held.len() < before
    }
}

/// The trees that a cell would mount, or make others from.
fn uses(request: &CellRequest) -> Vec<Name> {
    let sdk = store::digest_hex(&request.sdk).map(Name::sdk);
    let std = request
        .frozen
        .then(|| Name::std(&request.sdk, &request.goos, &request.goarch, job::STD_FLAGS));
    sdk.into_iter().chain(std).collect()
}

impl Supervisor {
    /// Starts a cell, or lets it wait until what it needs was read.
    pub(super) fn cell_or_hold(
        &mut self,
        request: CellRequest,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let needs = uses(&request);
        let is_in = |list: &[Name]| needs.iter().any(|name| list.contains(name));
        if is_in(&self.checks.banned) {
            return Err("what it needs is not what it was, and nothing may use it".to_owned());
        }
        if !is_in(&self.checks.suspects) {
            return self.new_cell(request, descriptors);
        }
        if self.checks.held.len() >= HELD_MAX {
            return Err("too many cells wait for a check of the store".to_owned());
        }
        self.checks.held.push((request, descriptors));
        Ok(())
    }

    /// Looks at how a cell ended: what an attack may have touched is read again.
    pub(super) fn after(&mut self, slot: usize, reply: &Reply) {
        let attack = match reply {
            Reply::Ended { ending, report, .. } => {
                matches!(ending, Ending::ForbiddenCall { .. }) || !report.forbidden.is_empty()
            }
            _ => false,
        };
        let Some(cell) = self.cells.get(slot).and_then(Option::as_ref) else {
            return;
        };
        if !attack {
            return;
        }
        let frozen = cell.order.request.frozen.then(|| cell.order.std.clone());
        for name in frozen.into_iter().chain([cell.order.sdk.clone()]) {
            // When the mark stays, only a restart before the check would forget the suspicion.
            let _still_in_memory = store::mark_suspect(&name);
            if store::header(&name).is_some() && !self.checks.suspects.contains(&name) {
                self.checks.suspects.push(name);
            }
        }
    }

    /// Somebody wants to know about a tree.
    pub(super) fn verify(&mut self, tree: &str) -> Result<(), String> {
        let name = Name::parse(tree).ok_or("there is no such tree")?;
        store::header(&name).ok_or("there is no such tree")?;
        if self.checks.asked.len() >= ASKED_MAX {
            return Err("too many checks are asked for".to_owned());
        }
        if !self.checks.asked.contains(&name) {
            self.checks.asked.push(name);
        }
        Ok(())
    }

    /// Starts the next check, when none runs.
    pub(super) fn look(&mut self, now: Instant) {
        let running = |task: &Task| matches!(task, Task::Verify { .. });
        let busy = self.workers.iter().any(|worker| running(&worker.task));
        let checks = &mut self.checks;
        let is_time = now >= checks.next;
        if is_time {
            checks.next = now + PAUSE; // also when busy, else the loop would not sleep
        }
        if busy {
            return;
        }
        let wanted = checks.suspects.first().or_else(|| checks.asked.first());
        let (name, scheduled) = match wanted.cloned() {
            Some(name) => (name, false),
            None if is_time => {
                // A store that cannot be listed is told to whoever asks for a cell.
                match store::due(SystemTime::now()) {
                    Ok(Some(name)) => (name, true),
                    _ => return,
                }
            }
            None => return,
        };
        let task = Task::Verify { tree: name.clone() };
        let started = File::open(".").map_err(|error| error.to_string());
        let started = started
            .and_then(|here| self.work(task, here.as_fd(), |here| read(here, &name, scheduled)));
        if let Err(why) = started {
            self.checked(&name, Err(why));
        }
    }

    /// A check is over.
    pub(super) fn checked(&mut self, name: &Name, done: Result<Done, String>) {
        let checks = &mut self.checks;
        checks.next = checks.next.max(Instant::now() + PAUSE);
        let asked = checks.asked.contains(name);
        checks.asked.retain(|it| it != name);
        // Also after a check that failed: its mark is missing, so that the schedule tries again.
        checks.suspects.retain(|it| it != name);
        let tree = name.to_string();
        let done = match done {
            // It was put away, and the worker died before it could say so.
            Err(why) if store::header(name).is_none() => Ok(Done::Differs {
                put_away: vec![told(name, why)],
                stuck: None,
            }),
            done => done,
        };
        let why = match done {
            Ok(Done::Sound(check)) => {
                if asked {
                    self.outbox.push_back(Reply::Verified { tree, check });
                }
                None
            }
            Ok(Done::Differs { put_away, stuck }) => {
                if stuck.is_some() {
                    self.checks.banned.push(name.clone());
                }
                for tree in put_away {
                    self.end_users(&tree);
                    self.outbox.push_back(Reply::PutAway(tree));
                }
                None
            }
            Ok(Done::Nothing) => Some("the worker did nothing".to_owned()),
            Err(why) => Some(why),
        };
        if let (Some(why), true) = (&why, asked) {
            self.outbox.push_back(Reply::Refused {
                cell: None,
                tree: Some(name.to_string()),
                why: why.clone(),
            });
        }
        self.release(why.as_deref());
    }

    /// Lets waiting requests go on, or refuses them when a check could not be made.
    fn release(&mut self, failed: Option<&str>) {
        for (request, descriptors) in std::mem::take(&mut self.checks.held) {
            let cell = request.cell;
            let result = match failed {
                Some(why) => Err(format!("what it needs could not be checked: {why}")),
                None => self.cell_or_hold(request, descriptors),
            };
            if let Err(why) = result {
                let (cell, tree) = (Some(cell), None);
                self.outbox.push_back(Reply::Refused { cell, tree, why });
            }
        }
    }

    /// Ends the cells on a tree, and the freezing of what they made.
    fn end_users(&mut self, gone: &PutAway) {
        let Some(name) = Name::parse(&gone.tree) else {
            return;
        };
        let cells = self.cells.iter_mut().flatten();
        for cell in cells.filter(|cell| !cell.is_over()) {
            let frozen = cell.order.request.frozen && cell.order.std == name;
            if cell.order.sdk == name || frozen {
                cell.end(Ending::Cancelled {
                    why: CancelReason::PutAway,
                });
                let slot = cell.slot;
                let freezes =
                    |task: &Task| matches!(task, Task::Freeze { slot: other } if *other == slot);
                for worker in self.workers.iter().filter(|it| freezes(&it.task)) {
                    let _dead_already = process::kill(worker.pidfd.as_fd());
                }
            }
        }
    }

    /// What came of freezing in a slot whose compiler may have been put away meanwhile.
    pub(super) fn is_trusted(&mut self, slot: usize) -> Result<(), String> {
        let Some(cell) = self.cells.get(slot).and_then(Option::as_ref) else {
            return Ok(());
        };
        let made_std = cell.order.request.job == Job::Std;
        if !made_std || store::header(&cell.order.sdk).is_some() {
            return Ok(());
        }
        let std = cell.order.std.clone();
        if store::header(&std).is_some() {
            let put_away = store::put_away(&std, "made by an SDK that was put away");
            for tree in put_away.map_err(|error| error.to_string())? {
                self.outbox.push_back(Reply::PutAway(tree));
            }
        }
        Err("the SDK that made it was put away".to_owned())
    }
}

/// What is known without the worker.
fn told(name: &Name, why: String) -> PutAway {
    let header = store::header(name);
    PutAway {
        tree: name.to_string(),
        title: header
            .as_ref()
            .map_or_else(String::new, |it| it.title.clone()),
        digest: header.map_or_else(String::new, |it| it.digest),
        why,
        sound_s: 0,
    }
}

/// The work of a check's process.
fn read(
    here: std::os::fd::BorrowedFd<'_>,
    name: &Name,
    scheduled: bool,
) -> Result<Done, StoreError> {
    if scheduled {
        // Builds come first; the disk's order follows from it as well (ioprio_set(2)).
        let _only_a_wish = process::set_nice(0, 19);
    }
    match store::verify(here, name)? {
        Verdict::Sound(check) => {
            store::mark_sound(name)?;
            Ok(Done::Sound(check))
        }
        Verdict::Differs(why) => Ok(match store::put_away(name, &why) {
            Ok(put_away) => Done::Differs {
                put_away,
                stuck: None,
            },
            Err(error) => Done::Differs {
                put_away: vec![told(
                    name,
                    format!("{why}; it could not be moved away: {error}"),
                )],
                stuck: Some(error.to_string()),
            },
        }),
    }
}
