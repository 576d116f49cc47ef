//! The certificate of the service from an authority, got and renewed by itself (ACME, RFC 8555).
//!
//! ```text
//! keeper ── plan: when? ──▶ order ──▶ carrier ──▶ `fetch` ──▶ authority
//!    └──▶ state, TLS         └──▶ challenge: our TLS port ◀── is it you? ──┘
//! ```
//!
//! Called by the command `serve --acme`. The messages are instant-acme's; the role `fetch` carries
//! them, to one host only. It runs in `serve`, which has the key of the certificate anyway. It must
//! never use a certificate that visitors would refuse, never ask more often than [`plan`] says,
//! whatever restarts the service, and never write over what it could not read.

mod carrier;
mod keeper;
mod order;
mod plan;
mod state;

#[cfg(test)]
mod tests;

use std::fmt;

use instant_acme::LetsEncrypt;

pub use carrier::Carrier;
pub use keeper::{Keeper, KeeperError, Wanted};
pub use state::StateError;

use crate::proxy::Url;

/// Longest address of a directory in bytes: its host is part of a folder's name.
const DIRECTORY_BYTES_MAX: usize = 200;
/// Longest address of a person in bytes (RFC 5321, 4.5.3.1.3).
const CONTACT_BYTES_MAX: usize = 254;

/// Where an authority's directory is (RFC 8555, 7.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(Url);

/// Not an authority.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no authority: it is `letsencrypt`, `letsencrypt-staging`, or the https address of \
     another one's directory"
)]
pub struct BadDirectory(String);

impl Directory {
    /// Parses one of two names, or an address.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, BadDirectory> {
        let address = match text {
            "letsencrypt" => LetsEncrypt::Production.url(),
            "letsencrypt-staging" => LetsEncrypt::Staging.url(),
            other => other,
        };
        let is_address = |url: &Url| {
            let plain = url.username().is_empty() && url.password().is_none();
            let has_host = url.host_str().is_some_and(|host| !host.is_empty());
            let short = url.as_str().len() <= DIRECTORY_BYTES_MAX;
            url.scheme() == "https" && has_host && plain && url.fragment().is_none() && short
        };
        let url = Url::parse(address).ok().filter(is_address);
        url.map(Self).ok_or_else(|| BadDirectory(text.to_owned()))
    }

    /// The host, for people.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().expect("it was parsed with a host")
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// How the authority reaches a person about a certificate, by mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact(String);

/// Not the address of a person.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no address for mail: write it as you@example.org")]
pub struct BadContact(String);

impl Contact {
    /// Parses an address without `mailto:`; one only, and nothing that an authority would take for
    /// more (RFC 8555, 7.3).
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadContact> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"@.-_+".contains(&b);
        let halves = text.split_once('@');
        let is_one = halves.is_some_and(|(person, host)| {
            !person.is_empty() && host.contains('.') && !host.contains('@')
        });
        let short = text.len() <= CONTACT_BYTES_MAX;
        match is_one && short && text.bytes().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(BadContact(text.to_owned())),
        }
    }

    /// As the authority is told it.
    fn url(&self) -> String {
        format!("mailto:{}", self.0)
    }
}

/// Why no authority gives a certificate to a service of this name, if so.
#[must_use]
pub fn unfit(name: &str) -> Option<&'static str> {
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    let is_host = name.contains('.') && !name.starts_with('.') && !name.ends_with('.');
    (is_address || !is_host).then_some("it must be a host name that others know, with a dot in it")
}
