//! Shares: how many of some places one client may hold at a time.
//!
//! Called wherever places are few: connections, event streams, waiting requests, downloads, names
//! that are looked up. A limit for all alone would let one client take every place and keep the
//! others out; a rate does not help, for a place that is held for an hour costs one request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::limits::blocks::{Client, Visitor};

/// Which part of all places one client may hold: an office that shares an address is one.
const ONE_PART: u32 = 8;
/// Which part the wider block around it may hold.
const WIDE_PART: u32 = 2;

/// Places of one kind.
#[derive(Debug)]
pub(super) struct Shares {
    all_max: u32,
    one_max: u32,
    wide_max: u32,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: u32,
    /// By client, and by the wider block.
    by: HashMap<(Client, bool), u32>,
}

impl Shares {
    /// So many places.
    pub(super) fn new(all_max: u32) -> Arc<Self> {
        Self::of(all_max, all_max)
    }

    /// Parts of `most` places, when somebody else counts how many are taken.
    pub(super) fn beside(most: u32) -> Arc<Self> {
        Self::of(u32::MAX, most)
    }

    fn of(all_max: u32, most: u32) -> Arc<Self> {
        Arc::new(Self {
            all_max,
            one_max: (most / ONE_PART).max(1),
            wide_max: (most / WIDE_PART).max(1),
            held: Mutex::default(),
        })
    }

    /// A place; nothing when all are taken, or those of this client. Who stands for many has no
    /// part of its own.
    pub(super) fn enter(self: &Arc<Self>, client: Option<Client>) -> Option<Share> {
        let mut held = self.held();
        if held.all >= self.all_max {
            return None;
        }
        if let Some(client) = client {
            let both = [
                ((client, false), self.one_max),
                ((client.wide(), true), self.wide_max),
            ];
            let has = |(key, most): &((Client, bool), u32)| {
                held.by.get(key).is_none_or(|count| count < most)
            };
            if !both.iter().all(has) {
                return None;
            }
            for (key, _) in both {
                *held.by.entry(key).or_default() += 1;
            }
        }
        held.all += 1;
        Some(Share {
            of: Arc::clone(self),
            client,
        })
    }

    /// The same for a visitor; the operator has no part of their own.
    pub(super) fn enter_as(self: &Arc<Self>, visitor: Visitor) -> Option<Share> {
        self.enter((!visitor.is_operator).then_some(visitor.client))
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u32 {
        self.held().all
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    client: Option<Client>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held();
        held.all -= 1;
        let Some(client) = self.client else { return };
        for key in [(client, false), (client.wide(), true)] {
            match held.by.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(held.by.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(third: u8, last: u8) -> Option<Client> {
        Some(Client::of([198, 51, third, last].into()))
    }

    #[test]
    fn one_client_holds_its_part_and_a_network_a_larger_one() {
        let shares = Shares::new(80);
        let mine: Vec<_> = (0..10).map(|_| shares.enter(v4(100, 1)).unwrap()).collect();
        assert!(shares.enter(v4(100, 1)).is_none());
        let others: Vec<_> = (0..30)
            .map(|n| shares.enter(v4(100, 2 + n / 10)).unwrap())
            .collect();
        assert!(shares.enter(v4(100, 9)).is_none(), "the /24 has its half");
        let far = shares.enter(v4(101, 1)).unwrap();
        drop(mine);
        let again = shares.enter(v4(100, 1)).unwrap();
        drop((others, far, again));
        assert_eq!(shares.taken(), 0);
        assert!(shares.held().by.is_empty());
    }

    #[test]
    fn all_together_hold_no_more_than_there_are_also_who_has_no_part() {
        let shares = Shares::new(16);
        let many: Vec<_> = (0..15).map(|_| shares.enter(None).unwrap()).collect();
        let last = shares.enter(v4(100, 1)).unwrap();
        assert!(shares.enter(None).is_none() && shares.enter(v4(101, 1)).is_none());
        drop(last);
        assert!(shares.enter(v4(101, 1)).is_some());
        drop(many);
    }
}
