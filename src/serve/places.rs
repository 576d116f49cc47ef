//! How many connections one client may hold, and how often it may begin TLS.
//!
//! Called by [`super::listen`] for each connection, before a byte of it is read. A client that
//! opens connections and says nothing costs little, but all of them together are limited, so that
//! one client must not have them all; and a handshake costs a signature. Whoever comes from this
//! machine or is a trusted proxy stands for many and has no limit here.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::{
    limits::{
        blocks::{Cidr, Client},
        buckets::{Buckets, Rate},
    },
    shares::{Share, Shares},
};

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
    shares: Arc<Shares>,
    trusted: Arc<[Cidr]>,
    handshakes: Mutex<Buckets<Whose>>,
    since: Instant,
}

impl Places {
    /// Shares out `most` connections; those whom the operator trusts are not counted.
    pub(super) fn new(most: u32, trusted: Arc<[Cidr]>) -> Self {
        Self {
            shares: Shares::beside(most),
            trusted,
            handshakes: Mutex::new(Buckets::new(TRACKED_MAX)),
            since: Instant::now(),
        }
    }

    /// A place for a connection; nothing when its client has all that it may have.
    pub(super) fn enter(&self, peer: IpAddr) -> Option<Share> {
        self.shares
            .enter((!self.is_free(peer)).then(|| Client::of(peer)))
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
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn v4(last: [u8; 2]) -> IpAddr {
        [198, 51, last[0], last[1]].into()
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
