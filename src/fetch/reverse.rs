//! Names of addresses, for the operator's rules about clients.
//!
//! A lookup in the resolver of the host, which blocks its thread until the name server has answered
//! or the resolver gives up, so few run at a time. What comes back was chosen by whoever owns the
//! address: it may only bar them, and only a name leaves this file.

use std::{net::IpAddr, sync::Arc};

use dns_lookup::{LookupError, LookupErrorKind, lookup_addr};
use tokio::sync::Semaphore;

use super::{error::FetchError, wire::Answer};

/// Lookups at the same time; each holds a thread.
const LOOKUPS_MAX: usize = 16;
/// Longest name, in bytes (RFC 1035, 2.3.4).
const NAME_LEN_MAX: usize = 253;

/// The resolver of the host.
#[derive(Debug)]
pub(super) struct Reverse(Arc<Semaphore>);

impl Default for Reverse {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

impl Reverse {
    /// The name that an address has, if it has one.
    pub(super) async fn ask(&self, address: IpAddr) -> Result<Answer, FetchError> {
        let place = Arc::clone(&self.0).acquire_owned().await;
        let found = tokio::task::spawn_blocking(move || {
            let found = lookup_addr(&address);
            drop(place);
            found
        });
        let name = name(found.await?)?;
        Ok(Answer::HostName { name })
    }
}

fn name(found: Result<String, LookupError>) -> Result<Option<String>, FetchError> {
    match found {
        Ok(name) => Ok(plain(&name)),
        Err(error) if matches!(error.kind(), LookupErrorKind::NoName) => Ok(None),
        Err(error) => Err(FetchError::Resolver(error.into())),
    }
}

/// The name in lower case, without the dot of the root; none that no host can have (RFC 1123, 2.1,
/// and the underscore, which some have all the same).
fn plain(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let is_name = (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_plain);
    is_name.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_hosts_are_told() {
        for (name, told) in [
            ("Crawler-7.Example.", Some("crawler-7.example")),
            ("a_b.example", Some("a_b.example")),
            ("", None),
            (".", None),
            ("a b.example", None),
            ("<script>.example", None),
            ("é.example", None),
            ("a\n.example", None),
            (&"a".repeat(NAME_LEN_MAX + 1), None),
        ] {
            assert_eq!(plain(name).as_deref(), told, "{name:?}");
        }
    }

    #[tokio::test]
    async fn this_machine_has_a_name_and_an_address_for_documentation_has_none() {
        let reverse = Reverse::default();
        let answer = reverse.ask("127.0.0.1".parse().unwrap()).await.unwrap();
        let Answer::HostName { name: Some(name) } = answer else {
            panic!("{answer:?}");
        };
        assert!(name.starts_with("localhost"), "{name}");
        let none = LookupError::new(libc::EAI_NONAME);
        assert_eq!(name_of(none).unwrap(), None);
        let trouble = name_of(LookupError::new(libc::EAI_AGAIN)).unwrap_err();
        let trouble = trouble.trouble();
        assert!(trouble.text.contains("resolver"), "{trouble:?}");
    }

    fn name_of(error: LookupError) -> Result<Option<String>, FetchError> {
        name(Err(error))
    }
}
