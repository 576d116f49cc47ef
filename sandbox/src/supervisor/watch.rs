//! What a running cell uses, looked at four times a second, and what that says about its end.
//!
//! Called by the loop for each cell that runs, and once more when its processes are dead. A limit
//! that the kernel keeps by refusing does not end a program that tries again for ever: this does.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::sys::statfs::fstatfs;

use super::group::{Counters, Group};
use crate::wire::Ending;

/// A limit that was reached must end a cell within a second; two looks are needed for a full disk.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A scratch file system was full when less than this part of it is free at some look: who failed
/// to write has often tidied up before the next one.
const NEARLY_PART: u64 = 256;

/// The watch over one cell.
#[derive(Debug)]
pub(super) struct Watch {
    /// Any file of the scratch file system; keeps it alive.
    scratch: OwnedFd,
    pub(super) next: Instant,
    bytes: Level,
    inodes: Level,
}

/// How far a limited number has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Level {
    limit: u64,
    peak: u64,
    /// Looks in a row at which nothing was left.
    full: u32,
}

impl Level {
    fn look(&mut self, limit: u64, free: u64) {
        let used = limit.saturating_sub(free);
        self.limit = limit;
        self.peak = self.peak.max(used);
        self.full = if limit > 0 && free == 0 {
            self.full + 1
        } else {
            0
        };
    }

    /// Twice, as the last page may just have been taken by who needs no more.
    fn stays_full(&self) -> bool {
        self.full >= 2
    }

    fn was_full(&self) -> bool {
        self.limit > 0 && self.limit - self.peak <= self.limit / NEARLY_PART
    }
}

impl Watch {
    pub(super) fn new(scratch: OwnedFd, now: Instant) -> Self {
        Self {
            scratch,
            next: now,
            bytes: Level::default(),
            inodes: Level::default(),
        }
    }

    /// Looks; tells the ending when a limit has been reached for good.
    pub(super) fn look(&mut self, now: Instant, group: Option<&Group>) -> Option<Ending> {
        self.next = now + LOOK_EVERY;
        self.measure();
        if self.bytes.stays_full() || self.inodes.stays_full() {
            return self.disk();
        }
        let group = group?;
        let refused = group.counters().forks_refused > 0;
        refused.then(|| Ending::Processes {
            limit: group.limits().processes,
        })
    }

    /// The limit for which a job that has failed by itself did so, as far as the kernel tells.
    pub(super) fn verdict(&mut self, group: Option<(&Group, &Counters)>) -> Option<Ending> {
        self.measure();
        if let Some((group, counters)) = group {
            let limits = group.limits();
            if counters.killed_for_memory > 0 {
                return Some(Ending::Memory {
                    limit_bytes: limits.memory_bytes,
                    peak_bytes: counters.memory_peak_bytes.unwrap_or(0),
                });
            }
            if counters.forks_refused > 0 {
                return Some(Ending::Processes {
                    limit: limits.processes,
                });
            }
        }
        let full = self.bytes.was_full() || self.inodes.was_full();
        full.then(|| self.disk()).flatten()
    }

    /// Most bytes and most files at a time that were seen.
    pub(super) fn peaks(&self) -> (u64, u64) {
        (self.bytes.peak, self.inodes.peak)
    }

    fn measure(&mut self) {
        let Ok(now) = fstatfs(&self.scratch) else {
            return; // an open file's file system always answers; if not, nothing is claimed
        };
        let block = u64::try_from(now.block_size()).unwrap_or(0);
        self.bytes
            .look(now.blocks() * block, now.blocks_free() * block);
        self.inodes.look(now.files(), now.files_free());
    }

    fn disk(&self) -> Option<Ending> {
        if self.inodes.was_full() {
            return Some(Ending::Inodes {
                limit: self.inodes.limit,
                used: self.inodes.peak,
            });
        }
        Some(Ending::Disk {
            limit_bytes: self.bytes.limit,
            used_bytes: self.bytes.peak,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_ends_a_cell_only_when_it_stays_full() {
        let mut level = Level::default();
        level.look(1000, 0);
        assert!(!level.stays_full() && level.was_full());
        level.look(1000, 10);
        level.look(1000, 0);
        assert!(!level.stays_full(), "something was free in between");
        level.look(1000, 0);
        assert!(level.stays_full());
    }

    #[test]
    fn the_highest_level_is_remembered() {
        let mut level = Level::default();
        level.look(25_600, 99);
        level.look(25_600, 20_000);
        assert!(level.was_full(), "99 of 25600 were free");
        let mut level = Level::default();
        level.look(25_600, 101);
        assert!(!level.was_full());
        assert!(
            !Level::default().was_full(),
            "a file system without limit is never full"
        );
    }
}
