//! Who counts as one client: blocks of addresses, and the proxies that speak for others.
//!
//! A client is an IPv4 address or an IPv6 /64, which is what one line has. Behind a reverse proxy
//! all visitors have the proxy's address; those whom the operator trusts name the visitor in
//! `X-Forwarded-For`. Nobody else is believed: whoever may write that field chooses who they are.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::USER_AGENT};

use super::rules::Rules;

/// Every proxy appends the address that it has seen (the de facto standard before RFC 7239).
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Address of the other side of a connection.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) struct Peer(pub(in crate::serve) IpAddr);

/// Address block of a client: an IPv4 address or an IPv6 /64, which one line has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(IpAddr);

impl Client {
    /// The block of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(block(address, 32, 64))
    }

    /// The block around it that one customer of a provider may have: an IPv4 /24, an IPv6 /48.
    #[must_use]
    pub fn wide(self) -> Self {
        Self(block(self.0, 24, 48))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first address with the same first bits.
fn block(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - v4_bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - v6_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// Counts as one.
    pub client: Client,
    /// Somebody on this machine who comes through no proxy, as far as the headers tell: the
    /// operator, to whom no limit applies.
    pub is_operator: bool,
    /// One of the bad clients by the operator's rules: may read, and begin nothing.
    pub is_barred: bool,
}

impl Visitor {
    /// The visitor behind a connection, and their address. What a trusted proxy forwards is never
    /// the operator's, and without an address in it that can be read the proxy itself is the
    /// client.
    pub(in crate::serve) fn of(
        peer: IpAddr,
        headers: &HeaderMap,
        trusted: &[Cidr],
        rules: &Rules,
    ) -> (Self, IpAddr) {
        let agent = headers
            .get(USER_AGENT)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let agent = String::from_utf8_lossy(agent);
        let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
        if !is_trusted(peer) {
            let is_local = peer.to_canonical().is_loopback();
            let is_operator = is_local && !comes_through_a_proxy(headers);
            let visitor = Self {
                client: Client::of(peer),
                is_operator,
                is_barred: !is_operator && rules.bars(peer, &agent),
            };
            return (visitor, peer);
        }
        let address = forwarded_for(headers, is_trusted).unwrap_or(peer);
        let visitor = Self {
            client: Client::of(address),
            is_operator: false,
            is_barred: rules.bars(address, &agent),
        };
        (visitor, address)
    }
}

/// Whether a reverse proxy says that it has passed this on; one on this machine that nobody named
/// as trusted must not make every visitor the operator.
fn comes_through_a_proxy(headers: &HeaderMap) -> bool {
    let fields = ["x-forwarded-for", "forwarded", "x-real-ip", "via"];
    fields.iter().any(|field| headers.contains_key(*field))
}

/// The last address that no trusted proxy has: it was seen by one, all before it is hearsay. When
/// all are trusted, the first one.
fn forwarded_for(headers: &HeaderMap, is_trusted: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let mut first = None;
    for field in headers.get_all(FORWARDED_FOR).iter().rev() {
        for hop in field.to_str().ok()?.rsplit(',') {
            let address = parse_hop(hop.trim())?;
            if !is_trusted(address) {
                return Some(address);
            }
            first = Some(address);
        }
    }
    first
}

/// An address; some proxies write brackets or a port with it.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    address.or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))
}

/// Addresses that begin with the same bits, such as `10.0.0.0/8`; one address alone is one, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    first: IpAddr,
    bits: u32,
}

/// The text names no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an address, or a network such as `10.0.0.0/8` or `fd00::/8`")]
pub struct NotCidr;

impl Cidr {
    pub(in crate::serve) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4()
            && block(address, self.bits.min(32), self.bits) == self.first
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl FromStr for Cidr {
    type Err = NotCidr;

    /// Bits behind the network's own must be zero: `10.0.0.1/8` is a mistake.
    fn from_str(text: &str) -> Result<Self, NotCidr> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NotCidr)?;
        let bits_max = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            Some(bits) if bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit()) => {
                bits.parse().map_err(|_| NotCidr)?
            }
            Some(_) => return Err(NotCidr),
        };
        let is_whole = bits <= bits_max
            && first == first.to_canonical()
            && block(first, bits.min(32), bits) == first;
        is_whole.then_some(Self { first, bits }).ok_or(NotCidr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn visitor(peer: &str, fields: &[&str], trusted: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(
                FORWARDED_FOR,
                HeaderValue::from_bytes(field.as_bytes()).unwrap(),
            );
        }
        let trusted: Vec<Cidr> = trusted.iter().map(|text| text.parse().unwrap()).collect();
        let (visitor, _) = Visitor::of(ip(peer), &headers, &trusted, &Rules::default());
        (visitor.client.to_string(), visitor.is_operator)
    }

    #[test]
    fn a_client_is_an_address_or_a_64_bit_block_within_a_larger_one() {
        for (address, client, wide) in [
            ("192.0.2.7", "192.0.2.7", "192.0.2.0"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.0"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
        ] {
            let block = Client::of(ip(address));
            assert_eq!(
                (block.to_string(), block.wide().to_string()),
                (client.into(), wide.into())
            );
        }
    }

    #[test]
    fn nobody_is_believed_by_default() {
        let claim = ["198.51.100.9"];
        let own = ("192.0.2.1".to_owned(), false);
        assert_eq!(visitor("192.0.2.1", &claim, &[]), own);
        assert_eq!(visitor("192.0.2.1", &claim, &["10.0.0.0/8"]), own);
        let proxy = ("127.0.0.1".to_owned(), false);
        assert_eq!(visitor("127.0.0.1", &claim, &["10.0.0.0/8"]), proxy);
        let operator = ("127.0.0.1".to_owned(), true);
        assert_eq!(visitor("::ffff:127.0.0.1", &[], &[]), operator);
        assert_eq!(visitor("::1", &[], &[]), ("::".to_owned(), true));
    }

    #[test]
    fn the_last_hop_that_is_not_trusted_is_the_client() {
        let trusted = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"];
        for (fields, client) in [
            (&["198.51.100.9"][..], "198.51.100.9"),
            (&["1.2.3.4, 198.51.100.9"], "198.51.100.9"),
            (&["1.2.3.4,198.51.100.9 , 10.1.2.3"], "198.51.100.9"),
            (
                &["1.2.3.4", "198.51.100.9, fd12::1", "10.1.2.3"],
                "198.51.100.9",
            ),
            (&["garbage, 198.51.100.9"], "198.51.100.9"),
            (&["198.51.100.9:4711"], "198.51.100.9"),
            (&["[2001:db8::7]:4711"], "2001:db8::"),
            (&["[2001:db8::7]"], "2001:db8::"),
            (&["::ffff:198.51.100.9"], "198.51.100.9"),
            (&["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
            (&["198.51.100.9, 127.0.0.1"], "198.51.100.9"),
            (&["127.0.0.2"], "127.0.0.2"),
        ] {
            let found = visitor("127.0.0.1", fields, &trusted);
            assert_eq!(found, (client.to_owned(), false), "{fields:?}");
        }
    }

    #[test]
    fn a_trusted_proxy_that_says_nothing_readable_is_the_client_itself() {
        let long = "9".repeat(10_000);
        for field in [
            "",
            ",",
            "unknown",
            "198.51.100.9,",
            "_x",
            "1.2.3",
            "\u{e9}",
            &long,
        ] {
            let found = visitor("127.0.0.1", &[field], &["127.0.0.0/8"]);
            assert_eq!(found, ("127.0.0.1".to_owned(), false), "{field:?}");
        }
        let silent = visitor("127.0.0.1", &[], &["127.0.0.0/8"]);
        assert_eq!(silent, ("127.0.0.1".to_owned(), false));
    }

    #[test]
    fn networks_are_whole_and_of_one_family() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
        ] {
            let network: Cidr = text.parse().unwrap();
            assert!(
                network.contains(ip(inside)) && !network.contains(ip(outside)),
                "{text}"
            );
        }
        for text in [
            "",
            "x",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "fd00::/129",
            "fd00::1/64",
            "10.0.0/8",
            "::ffff:10.0.0.0/104",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(NotCidr), "{text}");
        }
    }
}
