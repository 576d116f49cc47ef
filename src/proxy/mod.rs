//! The module proxy: where it is, and its protocol (<https://go.dev/ref/mod#goproxy-protocol>).
//!
//! Owns: `GOPROXY` lists, requests with limits, and the parsing of `info`, `list` and `@latest`.
//! Called by `fetch` and `sumdb`. Must never print a credential of a proxy's address, follow
//! `direct`, or treat anything that it received as verified: that is the business of `sumdb`.

mod client;
mod http;
pub mod sources;

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

pub use client::{Proxy, ProxyError};
pub use http::Http;
pub use sources::{Given, Source, Sources, SourcesError};

pub use reqwest::Url;

/// A request's limits. Every request has them.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest answer in bytes.
    pub bytes_max: u64,
    /// Longest time for all of it.
    pub total: Duration,
}

impl Limits {
    /// For everything but zips. A proxy may have to ask the module's own server first.
    pub const fn small(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            total: Duration::from_secs(120),
        }
    }

    /// For zips: 500 MiB in this time is 0.6 MB/s.
    pub const fn zip() -> Self {
        let bytes_max = crate::modzip::TOTAL_BYTES_MAX;
        Self {
            bytes_max,
            total: Duration::from_secs(15 * 60),
        }
    }
}

/// Receives the body of an answer.
pub trait Sink: Send {
    /// A body begins; whatever came before, from another source, is to be forgotten.
    ///
    /// # Errors
    /// When it cannot be forgotten; ends the request.
    fn begin(&mut self, bytes_total: Option<u64>) -> io::Result<()>;

    /// The server's clock, as it says itself (RFC 9110, 6.6.1).
    fn date(&mut self, _date: &str) {}

    /// More of the body.
    ///
    /// # Errors
    /// When it cannot be kept; ends the request.
    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Sink for Vec<u8> {
    fn begin(&mut self, _: Option<u64>) -> io::Result<()> {
        self.clear();
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A future in a box, so that [`Transport`] can be one.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Sends GET requests. One implementation speaks HTTP, one of the tests is a table.
pub trait Transport: Send + Sync {
    /// Asks for `url` and hands the body of a 200 answer to `sink`.
    fn get<'a>(
        &'a self,
        url: &'a Url,
        limits: Limits,
        sink: &'a mut dyn Sink,
    ) -> Boxed<'a, Result<(), GetError>>;
}

/// Why a request has no answer. Holds neither addresses nor credentials.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// Another status than 200.
    #[error("it answered {code}{}{said}", if said.0.is_empty() { "" } else { ": " })]
    Status {
        /// The status.
        code: u16,
        /// First line of the body.
        said: Said,
    },
    /// The body is longer than the limit.
    #[error("its answer is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// Nothing came for too long, or too little.
    #[error("it did not answer in time ({0:?})")]
    TimedOut(Duration),
    /// The connection failed, or the answer was cut off.
    #[error("the connection failed: {0}")]
    Network(String),
    /// The receiver of the body failed.
    #[error("cannot keep its answer")]
    Sink(#[source] io::Error),
}

impl GetError {
    /// Whether the source says that it does not have this, which lets the next source answer.
    /// 400 and 403 are among them: some proxies answer so for modules that they do not offer.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Status {
                code: 400 | 403 | 404 | 410,
                ..
            }
        )
    }
}

/// Text of a server, cut and escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(String);

impl Said {
    /// Most characters that are repeated.
    const CHARS_MAX: usize = 200;

    /// Keeps the first line.
    #[must_use]
    pub fn first_line(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().next().unwrap_or_default().trim();
        let shown = line.chars().take(Self::CHARS_MAX);
        let plain = |c: char| c.is_ascii_graphic() || c == ' ';
        Self(shown.map(|c| if plain(c) { c } else { '?' }).collect())
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
pub(crate) mod table;
