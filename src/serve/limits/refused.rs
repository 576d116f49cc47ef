//! Which clients are refused most, in bounded memory.
//!
//! The space-saving algorithm (Metwally, Agrawal, El Abbadi 2005): who is new takes the place of
//! the one with the fewest, and its count as well. So whoever is refused more often than one in
//! [`KEPT`] is always there, and no count is too small.

use super::Client;

/// Clients that are counted.
const KEPT: usize = 256;
/// Clients that are told.
const SHOWN: usize = 20;

/// Clients that were refused, and how often at most.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(Client, u64)>);

impl Refused {
    pub(super) fn add(&mut self, client: Client) {
        let known = self.0.iter_mut().find(|(known, _)| *known == client);
        if let Some((_, count)) = known {
            *count += 1;
        } else if self.0.len() < KEPT {
            self.0.push((client, 1));
        } else if let Some(least) = self.0.iter_mut().min_by_key(|(_, count)| *count) {
            *least = (client, least.1 + 1);
        }
    }

    /// Those with the most, in order.
    pub(super) fn most(&self) -> Vec<(Client, u64)> {
        let mut all = self.0.clone();
        all.sort_by_key(|(client, count)| (std::cmp::Reverse(*count), *client));
        all.truncate(SHOWN);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_often_is_found_among_any_number_of_others() {
        let client = |n: u32| Client::of(std::net::Ipv4Addr::from_bits(n).into());
        let mut refused = Refused::default();
        for n in 0..100_000_u32 {
            refused.add(client(n));
            if n % 50 == 0 {
                refused.add(client(u32::MAX));
            }
        }
        let most = refused.most();
        assert_eq!((most[0].0, most.len()), (client(u32::MAX), SHOWN));
        assert!(most[0].1 >= 2_000, "{most:?}");
        assert_eq!(refused.0.len(), KEPT);
    }
}
