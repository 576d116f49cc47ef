//! How many connections one client may hold, and how often it may begin TLS.
//!
//! Called by [`super::listen`] for each connection, before a byte of it is read. A client that
//! opens connections and says nothing costs little, but all of them together are limited, so that
//! one client must not have them all; and a handshake costs a signature. Whoever comes from this
//! machine or is a trusted proxy stands for many and has no limit here.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use super::limits::{
    blocks::{Cidr, Client},
    buckets::{Buckets, Rate},
};

/// Which part of all connections one client may hold: a browser holds six, an office that shares an
/// address some hundred.
const ONE_PART: u32 = 8;
/// Which part the wider block around it may hold.
const WIDE_PART: u32 = 2;
/// Handshakes of one client: what its connections need at once, then one in 20 ms. With RSA-2048
/// each costs us some 0.7 ms, so that one client takes at most a thirtieth of a processor.
const HANDSHAKES: Rate = Rate {
    burst: 300,
    period_ms: 20,
};
/// How many clients' worth the wider block may begin.
const WIDE: u64 = 4;
/// Most clients whose handshakes are counted apart; then those who are new share what
/// [`SHARED`] may begin.
const TRACKED_MAX: usize = 16_384;
const SHARED: u64 = 16;

/// Whose handshakes a bucket counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    One(Client),
    Wide(Client),
    Newcomers,
}

/// The connections of one listening socket.
#[derive(Debug)]
pub(super) struct Places {
    one_max: u32,
    wide_max: u32,
    trusted: Arc<[Cidr]>,
    held: Mutex<HashMap<(Client, bool), u32>>,
    handshakes: Mutex<Buckets<Whose>>,
    since: Instant,
}

impl Places {
    /// Shares out `most` connections; those whom the operator trusts are not counted.
    pub(super) fn new(most: u32, trusted: Arc<[Cidr]>) -> Arc<Self> {
        Arc::new(Self {
            one_max: (most / ONE_PART).max(1),
            wide_max: (most / WIDE_PART).max(1),
            trusted,
            held: Mutex::default(),
            handshakes: Mutex::new(Buckets::new(TRACKED_MAX)),
            since: Instant::now(),
        })
    }

    /// A place for a connection; nothing when its client has all that it may have.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut place = Place {
            places: Arc::clone(self),
            client: None,
        };
        if self.is_free(peer) {
            return Some(place);
        }
        let client = Client::of(peer);
        let both = [
            ((client, false), self.one_max),
            ((client.wide(), true), self.wide_max),
        ];
        let mut held = self.held();
        let has = |(key, most): &((Client, bool), u32)| held.get(key).is_none_or(|n| n < most);
        if !both.iter().all(has) {
            return None;
        }
        for (key, _) in both {
            *held.entry(key).or_default() += 1;
        }
        place.client = Some(client);
        Some(place)
    }

    /// Counts a handshake, unless its client has begun too many.
    pub(super) fn may_begin_tls(&self, peer: IpAddr) -> bool {
        if self.is_free(peer) {
            return true;
        }
        let client = Client::of(peer);
        let from = [
            (Whose::One(client), HANDSHAKES, ()),
            (Whose::Wide(client.wide()), HANDSHAKES.times(WIDE), ()),
        ];
        let shared = |()| (Whose::Newcomers, HANDSHAKES.times(SHARED));
        let now_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut handshakes = self
            .handshakes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        handshakes.take(&from, shared, now_ms).is_ok()
    }

    fn is_free(&self, peer: IpAddr) -> bool {
        peer.to_canonical().is_loopback() || self.trusted.iter().any(|net| net.contains(peer))
    }

    fn held(&self) -> MutexGuard<'_, HashMap<(Client, bool), u32>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    client: Option<Client>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(client) = self.client else { return };
        let mut held = self.places.held();
        for key in [(client, false), (client.wide(), true)] {
            match held.get_mut(&key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(held.remove(&key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(last: [u8; 2]) -> IpAddr {
        [198, 51, last[0], last[1]].into()
    }

    #[tokio::test]
    async fn one_client_holds_its_part_and_a_network_a_larger_one() {
        let places = Places::new(80, Arc::default());
        let mine: Vec<_> = (0..10)
            .map(|_| places.enter(v4([100, 1])).unwrap())
            .collect();
        assert!(places.enter(v4([100, 1])).is_none());
        let others: Vec<_> = (0..30)
            .map(|n| places.enter(v4([100, 2 + n / 10])).unwrap())
            .collect();
        assert!(places.enter(v4([100, 9])).is_none(), "the /24 has its half");
        let far = places.enter(v4([101, 1])).unwrap();
        drop(mine);
        let again = places.enter(v4([100, 1])).unwrap();
        drop((others, far, again));
        assert!(places.held().is_empty());
    }

    #[tokio::test]
    async fn neighbours_in_an_ipv6_network_are_one_client() {
        let places = Places::new(16, Arc::default());
        let enter = |text: &str| places.enter(text.parse().unwrap());
        let both = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert!(enter("2001:db8::ffff").is_none());
        assert!(enter("2001:db8:0:1::1").is_some());
        drop(both);
    }

    #[tokio::test]
    async fn who_stands_for_many_is_not_counted() {
        let proxy = "192.0.2.0/28".parse().unwrap();
        let places = Places::new(8, Arc::from([proxy]));
        for peer in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "192.0.2.3"] {
            let peer: IpAddr = peer.parse().unwrap();
            let all: Vec<_> = (0..100).map(|_| places.enter(peer).unwrap()).collect();
            assert!((0..1_000).all(|_| places.may_begin_tls(peer)), "{peer}");
            drop(all);
        }
        let held: Vec<_> = (0..2)
            .map(|_| places.enter([192, 0, 2, 99].into()))
            .collect();
        assert!(held[0].is_some() && held[1].is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_have_a_rate_for_each_client_and_its_network() {
        let places = Places::new(8_192, Arc::default());
        let begin = |last| {
            (0..)
                .take_while(|_| places.may_begin_tls(v4([100, last])))
                .count()
        };
        assert_eq!(begin(1), 300);
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!(begin(1), 2);
        assert_eq!(begin(2), 300);
        // The /24 has 1,200, and what has come since.
        assert_eq!((begin(3), begin(4), begin(5)), (300, 300, 6));
        assert!(!places.may_begin_tls(v4([100, 6])) && places.may_begin_tls(v4([101, 6])));
    }
}
