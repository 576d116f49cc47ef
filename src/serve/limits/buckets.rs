//! Token buckets in bounded memory: a few at once, then one at a time.
//!
//! A bucket is one number, the time at which it will be full again (GCRA, ITU-T I.371). A bucket
//! that is full says nothing and is forgotten; no other ever is, so nobody gets a full bucket by
//! having theirs pushed out. When there is no room, whoever is new shares one bucket with all
//! others that are new.

use std::{collections::HashMap, hash::Hash};

/// Full buckets are looked for at most this often, however many ask for room.
const SWEEP_MS: u64 = 1_000;

/// How much of something one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serve) struct Rate {
    /// At once, after a pause.
    pub(in crate::serve) burst: u64,
    /// Then one each so many milliseconds.
    pub(in crate::serve) period_ms: u64,
}

impl Rate {
    /// So many times as much.
    pub(in crate::serve) fn times(self, factor: u64) -> Self {
        let (burst, period_ms) = (self.burst * factor, (self.period_ms / factor).max(1));
        Self { burst, period_ms }
    }

    /// How long an empty bucket takes to be full.
    fn depth_ms(self) -> u64 {
        self.burst * self.period_ms
    }

    /// When the bucket is full after one more, or how long until there is one to take.
    fn take(self, full_ms: u64, now_ms: u64) -> Result<u64, u64> {
        let depth_ms = self.depth_ms();
        // Never further away than an empty bucket, even when the clock was set back.
        let full_ms = full_ms.clamp(now_ms, now_ms + depth_ms) + self.period_ms;
        match full_ms.checked_sub(now_ms + depth_ms) {
            None | Some(0) => Ok(full_ms),
            Some(wait_ms) => Err(wait_ms),
        }
    }
}

/// Buckets that are not full.
#[derive(Debug)]
pub(in crate::serve) struct Buckets<K> {
    full_ms: HashMap<K, u64>,
    max: usize,
    swept_ms: u64,
}

impl<K: Copy + Eq + Hash> Buckets<K> {
    pub(in crate::serve) fn new(max: usize) -> Self {
        Self {
            full_ms: HashMap::new(),
            max,
            swept_ms: 0,
        }
    }

    /// Takes one from each of some buckets, or none from any; then says from which there was none
    /// and for how long. `shared` stands in for a bucket for which there is no room.
    pub(in crate::serve) fn take<T: Copy>(
        &mut self,
        from: &[(K, Rate, T)],
        shared: impl Fn(T) -> (K, Rate),
        now_ms: u64,
    ) -> Result<(), (T, u64)> {
        let has_room = self.has_room(from.len(), now_ms);
        let mut taken: Vec<(K, u64)> = Vec::with_capacity(from.len());
        for (key, rate, of) in from {
            let (key, rate) = match has_room || self.full_ms.contains_key(key) {
                true => (*key, *rate),
                false => shared(*of),
            };
            // A rate that was changed, or a clock that was set back, leaves nobody with more to
            // wait for than an empty bucket has.
            if let Some(full_ms) = self.full_ms.get_mut(&key) {
                *full_ms = (*full_ms).min(now_ms + rate.depth_ms());
            }
            let full_ms = taken
                .iter()
                .rev()
                .find(|(taken, _)| *taken == key)
                .map(|(_, full_ms)| *full_ms)
                .or_else(|| self.full_ms.get(&key).copied());
            let full_ms = rate.take(full_ms.unwrap_or(0), now_ms);
            taken.push((key, full_ms.map_err(|wait_ms| (*of, wait_ms))?));
        }
        self.full_ms.extend(taken);
        Ok(())
    }

    /// Whether so many more can be kept, perhaps after those that are full have gone.
    fn has_room(&mut self, more: usize, now_ms: u64) -> bool {
        let is_full = |this: &Self| this.full_ms.len() + more > this.max;
        if is_full(self) && now_ms.abs_diff(self.swept_ms) >= SWEEP_MS {
            self.swept_ms = now_ms;
            self.full_ms.retain(|_, full_ms| *full_ms > now_ms);
        }
        !is_full(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        period_ms: 1_000,
    };
    const SHARED: u16 = u16::MAX;

    fn take(buckets: &mut Buckets<u16>, client: u16, now_ms: u64) -> Result<(), u64> {
        let shared = |()| (SHARED, RATE.times(2));
        let taken = buckets.take(&[(client, RATE, ())], shared, now_ms);
        taken.map_err(|((), wait_ms)| wait_ms)
    }

    #[test]
    fn a_burst_is_followed_by_one_each_period() {
        let mut buckets = Buckets::new(10);
        for _ in 0..3 {
            take(&mut buckets, 1, 5_000).unwrap();
        }
        assert_eq!(take(&mut buckets, 1, 5_000), Err(1_000));
        assert_eq!(take(&mut buckets, 1, 5_999), Err(1));
        take(&mut buckets, 2, 5_999).unwrap();
        take(&mut buckets, 1, 6_000).unwrap();
        assert_eq!(take(&mut buckets, 1, 6_000), Err(1_000));
        for _ in 0..3 {
            take(&mut buckets, 1, 60_000).unwrap();
        }
        assert!(take(&mut buckets, 1, 60_000).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut buckets = Buckets::new(10);
        take(&mut buckets, 1, 86_400_000).unwrap();
        assert_eq!(take(&mut buckets, 1, 0), Err(1_000));
        take(&mut buckets, 1, 999).unwrap_err();
        take(&mut buckets, 1, 1_000).unwrap();
    }

    #[test]
    fn all_or_none_is_taken() {
        let mut buckets = Buckets::new(10);
        let both = [(1, RATE, 'a'), (2, RATE.times(2), 'b')];
        let shared = |_| (SHARED, RATE);
        for _ in 0..3 {
            buckets.take(&both, shared, 0).unwrap();
        }
        for _ in 0..9 {
            assert_eq!(buckets.take(&both, shared, 0), Err(('a', 1_000)));
        }
        for _ in 0..3 {
            buckets.take(&both[1..], shared, 0).unwrap();
        }
        assert_eq!(buckets.take(&both[1..], shared, 0), Err(('b', 500)));
    }

    proptest! {
        /// Whoever else asks, and however little room there is.
        #[test]
        fn nobody_gets_more_than_burst_and_rate_in_any_window(
            asks in prop::collection::vec((0..12u16, 0..700u64), 1..400),
            max in 1..8usize,
        ) {
            let mut buckets = Buckets::new(max);
            let (mut now_ms, mut taken) = (1_000_000, Vec::new());
            for (client, pause_ms) in asks {
                now_ms += pause_ms;
                let known = buckets.full_ms.get(&client).copied();
                let is_shared = known.is_none() && !buckets.has_room(1, now_ms);
                if take(&mut buckets, client, now_ms).is_ok() {
                    taken.push((if is_shared { SHARED } else { client }, now_ms));
                }
                // The shared one may be kept beside the others.
                prop_assert!(buckets.full_ms.len() <= max + 1);
            }
            for client in (0..12).chain([SHARED]) {
                let rate = if client == SHARED { RATE.times(2) } else { RATE };
                let times: Vec<u64> = taken
                    .iter()
                    .filter(|(one, _)| *one == client)
                    .map(|(_, at_ms)| *at_ms)
                    .collect();
                for (first, from_ms) in times.iter().enumerate() {
                    for (last, to_ms) in times.iter().enumerate().skip(first) {
                        let count = u64::try_from(last - first + 1).unwrap();
                        let most = rate.burst + (to_ms - from_ms) / rate.period_ms;
                        prop_assert!(count <= most, "{client}: {count} > {most}");
                    }
                }
            }
        }
    }
}
