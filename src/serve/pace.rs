//! How long builds take lately, to tell who waits how long it may take.
//!
//! Begins with the builds that the newest results tell of, and goes on with those that end.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Builds that are looked at; older ones say little about the machine of today.
pub(super) const BUILDS: usize = 64;

/// Times of the newest builds that brought a binary.
#[derive(Debug, Default)]
pub struct Pace(Mutex<VecDeque<u64>>);

impl Pace {
    /// Notes a build.
    pub fn note(&self, duration_ms: u64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() == BUILDS {
            times.pop_front();
        }
        times.push_back(duration_ms);
    }

    /// The middle one of these times.
    pub fn usual_ms(&self) -> Option<u64> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times: Vec<u64> = times.iter().copied().collect();
        let middle = times.len() / 2;
        (!times.is_empty()).then(|| *times.select_nth_unstable(middle).1)
    }

    /// When a job at this place of the queue (0 runs) is likely to be done, from now, while
    /// `builds_max` run at a time.
    pub fn expected_ms(&self, place: usize, builds_max: usize) -> Option<u64> {
        let rounds = place.div_ceil(builds_max.max(1)) + 1;
        let rounds = u64::try_from(rounds).unwrap_or(u64::MAX);
        Some(self.usual_ms()?.saturating_mul(rounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_newest_builds_and_the_place_in_the_queue_make_the_time() {
        let pace = Pace::default();
        assert_eq!((pace.usual_ms(), pace.expected_ms(3, 2)), (None, None));
        for ms in [9_000_000, 1_000, 3_000] {
            pace.note(ms);
        }
        assert_eq!(pace.usual_ms(), Some(3_000));
        for (place, builds_max, rounds) in [(0, 2, 1), (1, 2, 2), (2, 2, 2), (3, 2, 3), (1, 0, 2)] {
            assert_eq!(pace.expected_ms(place, builds_max), Some(3_000 * rounds));
        }
        for _ in 0..BUILDS {
            pace.note(7);
        }
        assert_eq!(pace.usual_ms(), Some(7), "old ones are forgotten");
    }
}
