//! TLS of our own: certificate and key, and how they are replaced while the service runs.
//!
//! Called by the command `serve`, which reads the files, by [`crate::acme`], which gets both from
//! an authority, and by [`super::listen`] for each connection. A pair that browsers would refuse is
//! never used; a new one that is bad leaves the old one in use. Must never open a file.

mod pair;
mod validation;

use std::{
    io::{Error, ErrorKind},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

pub use pair::{Life, Pair, PairError};
pub use validation::{Validation, ValidationError};

use pair::{date, digest};
use validation::Pending;

use crate::roles::PairText;

/// A client has this long for the handshake: two round trips, and little to compute.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Health tells of the end this many seconds before: two weeks, when renewal after two thirds of
/// 90 days has failed for two weeks already.
const END_NEAR_S: u64 = 14 * 24 * 3_600;
/// The same of a shorter life: the sixth part of it.
const END_NEAR_PART: u64 = 6;
/// What to do about an alarm when the pair is in files.
const REMEDY_FILES: &str = "put a certificate that fits, and its key, in the place of those files; \
                            they are read within a minute, or at `kill -HUP`";
/// What to do about an alarm when an authority gives it.
const REMEDY_AUTHORITY: &str = "see that the authority reaches --name on port 443 and that this \
                                machine reaches the authority; `kill -HUP` tries again sooner";
/// What browsers remember of us for a year: never ask without TLS (RFC 6797).
pub(super) const HSTS: &str = "max-age=31536000";
/// The versions that browsers still speak and that have no known break (RFC 9325).
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// HTTP/2 as the handshake names it (RFC 9113, 3.1).
const H2: &[u8] = b"h2";

/// What is given to each handshake that begins; without one it fails.
#[derive(Debug)]
struct Slot(RwLock<Option<Arc<Pair>>>);

impl Slot {
    fn get(&self) -> Option<Arc<Pair>> {
        let pair = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pair.clone()
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get()?.certified))
    }
}

/// How it stands with the certificate. A sentence each, without a full stop.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// When it ends, in seconds since 1970; nothing when there is none yet.
    pub(super) end_s: Option<u64>,
    /// A person must act now.
    pub(super) alarm: Option<String>,
    /// What to do about the alarm.
    pub(super) remedy: &'static str,
    /// A person must act soon.
    pub(super) note: Option<String>,
}

/// Where certificates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Files,
    Authority,
}

/// TLS in front of the service.
pub struct Tls {
    slot: Arc<Slot>,
    config: Arc<ServerConfig>,
    source: Source,
    /// Why what lies in the files, or what the authority should have given, is not in use.
    trouble: Mutex<Option<String>>,
    pending: Arc<Pending>,
}

impl Tls {
    /// Begins with a pair from files.
    ///
    /// # Errors
    /// When the provider of cryptography lacks TLS 1.2 or 1.3.
    pub fn new(pair: Pair) -> Result<Self, rustls::Error> {
        Self::of(Source::Files, Some(pair))
    }

    /// Begins with a pair that an authority has given, or without any: handshakes fail until there
    /// is one.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn of_authority(pair: Option<Pair>) -> Result<Self, rustls::Error> {
        Self::of(Source::Authority, pair)
    }

    fn of(source: Source, pair: Option<Pair>) -> Result<Self, rustls::Error> {
        let slot = Arc::new(Slot(RwLock::new(pair.map(Arc::new))));
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
        let mut config = builder
            .with_protocol_versions(&VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&slot) as _);
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            slot,
            config: Arc::new(config),
            source,
            trouble: Mutex::default(),
            pending: Arc::default(),
        })
    }

    /// Looks at what the files have now, or at what the authority has given. New connections get a
    /// new pair, those that are open keep theirs. True when there is something new.
    ///
    /// # Errors
    /// See [`PairError`]; it is also remembered for health.
    pub fn offer(&self, text: &PairText, name: &str, now_s: u64) -> Result<bool, PairError> {
        let is_new = self
            .slot
            .get()
            .is_none_or(|pair| pair.digest != digest(text));
        let pair = is_new.then(|| Pair::parse(text, name, now_s)).transpose();
        let pair = pair.inspect_err(|error| self.refuse(error.to_string()))?;
        if let Some(pair) = pair {
            let mut slot = self.slot.0.write().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(Arc::new(pair));
        }
        self.trouble().take();
        Ok(is_new)
    }

    /// Remembers why there is nothing new to take over.
    pub fn refuse(&self, why: String) {
        *self.trouble() = Some(why);
    }

    /// Why there is nothing new to take over, when there should be.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.trouble().clone()
    }

    /// Until when the certificate in use is valid, in words; empty when there is none yet.
    #[must_use]
    pub fn until(&self) -> String {
        let pair = self.slot.get();
        pair.map_or_else(String::new, |pair| pair.until())
    }

    /// How long the certificate in use lives; nothing when there is none yet.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        Some(self.slot.get()?.life)
    }

    /// Answers an authority that looks for `name` here, with the digest of the key authorization,
    /// for as long as what is returned lives.
    ///
    /// # Errors
    /// When no certificate for that can be made.
    pub fn validate(&self, name: &str, digest: &[u8; 32]) -> Result<Validation, ValidationError> {
        self.pending.begin(name, digest)
    }

    /// How it stands at a time in seconds since 1970.
    pub(super) fn standing(&self, now_s: u64) -> Standing {
        let (life, trouble) = (self.life(), self.refused());
        let (alarm, note) = match (life, self.source) {
            (None, _) => {
                let why = trouble.unwrap_or_else(|| "it is being asked for".to_owned());
                (Some(format!("no certificate yet: {why}")), None)
            }
            (Some(life), source) => life.told(source, trouble, now_s),
        };
        Standing {
            end_s: life.map(|life| life.end_s),
            alarm,
            remedy: match self.source {
                Source::Files => REMEDY_FILES,
                Source::Authority => REMEDY_AUTHORITY,
            },
            note,
        }
    }

    /// The handshake; whether the client speaks HTTP/2, too. Nothing when it was an authority that
    /// has seen what it wanted.
    ///
    /// # Errors
    /// When the client speaks no TLS that we know, or not in time. What a program without TLS sent
    /// is answered with an alert, as TLS has it.
    pub(super) async fn accept<S>(&self, stream: S) -> Result<Option<(TlsStream<S>, bool)>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake(stream)).await;
        accepted.map_err(|_| Error::from(ErrorKind::TimedOut))?
    }

    async fn shake<S>(&self, stream: S) -> Result<Option<(TlsStream<S>, bool)>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        if let Some(challenge) = self.pending.answer(&begun.client_hello()) {
            let mut stream = begun.into_stream(challenge).await?;
            let _gone_already = stream.shutdown().await;
            return Ok(None);
        }
        let stream = begun.into_stream(Arc::clone(&self.config)).await?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok(Some((stream, is_h2)))
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same that outgoing connections use.
fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

impl Life {
    /// What is an alarm, and what a note. A file that is not taken over is a mistake of today. An
    /// authority that does not renew is nobody's: it is tried again, and there is time.
    fn told(
        self,
        source: Source,
        trouble: Option<String>,
        now_s: u64,
    ) -> (Option<String>, Option<String>) {
        let until = date(self.end_s);
        if self.end_s < now_s {
            let why = trouble.map_or_else(String::new, |why| format!(", and {why}"));
            let alarm = format!("the certificate has expired on {until}{why}");
            return (Some(alarm), None);
        }
        let near_s = END_NEAR_S.min(self.end_s.saturating_sub(self.begin_s) / END_NEAR_PART);
        let is_near = self.end_s - now_s < near_s;
        match (source, trouble) {
            (Source::Files, Some(why)) => {
                let alarm = format!("the certificate until {until} stays in use: {why}");
                (Some(alarm), None)
            }
            (Source::Authority, Some(why)) => {
                let said = format!("the certificate until {until} cannot be renewed: {why}");
                if is_near {
                    (Some(said), None)
                } else {
                    (None, Some(said))
                }
            }
            (_, None) => {
                let note = || format!("the certificate expires on {until}: renew it");
                (None, is_near.then(note))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    /// Within the life of the certificates below: 2026-01-01.
    pub(crate) const NOW_S: u64 = 1_767_225_600;
    const DAY_S: u64 = 24 * 3_600;

    fn signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> PairText {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2025, 12, 1);
        params.not_after = date_time_ymd(2026, 3, 1);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        PairText {
            chain: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Valid for `name` from December 2025 to March 2026.
    fn pair(name: &str) -> PairText {
        signed(name, |_| {})
    }

    /// Valid for `name` from December 2025 to the first of December of this year.
    pub(crate) fn lasting(name: &str, year: i32) -> PairText {
        signed(name, |params| params.not_after = date_time_ymd(year, 12, 1))
    }

    fn refused(text: &PairText, name: &str, now_s: u64) -> String {
        Pair::parse(text, name, now_s).unwrap_err().to_string()
    }

    #[test]
    fn a_pair_that_fits_is_taken_with_its_end() {
        let made = Pair::parse(&pair("a.example"), "a.example", NOW_S).unwrap();
        assert_eq!(made.until(), "2026-03-01T00:00:00Z");
        assert!(!format!("{made:?}").contains("KEY"));
        let wide = pair("*.build.example");
        Pair::parse(&wide, "a.build.example", NOW_S).unwrap();
        let mut chain = pair("a.example");
        chain.chain += &pair("other.example").chain;
        Pair::parse(&chain, "a.example", NOW_S).unwrap();
        let address = pair("192.0.2.1");
        Pair::parse(&address, "192.0.2.1", NOW_S).unwrap();
    }

    #[test]
    fn a_pair_that_visitors_would_refuse_is_refused_with_a_remedy() {
        let good = pair("a.example");
        let name = "a.example";
        let with = |chain: &str, key: &str| PairText {
            chain: chain.to_owned(),
            key: key.to_owned(),
        };
        let other = pair(name);
        let cut = good.chain.replacen("MII", "MIA", 1);
        let both = format!("{}{}", other.chain, good.chain);
        let client = signed(name, |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        let authority = signed(name, |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        });
        for (text, part) in [
            (with("", &good.key), "has none in PEM"),
            (with("\u{0}x", &good.key), "has none in PEM"),
            (with(&good.key, &good.key), "has none in PEM"),
            (with(&cut, &good.key), "cannot be read"),
            (with(&good.chain, ""), "`openssl pkey` writes one"),
            (with(&good.chain, &good.chain), "`openssl pkey` writes one"),
            (with(&good.chain, &other.key), "does not fit"),
            (with(&both, &good.key), "does not fit"),
            (pair("b.example"), "not for `a.example` but for "),
            (pair("*.b.example"), "change --name"),
            (client, "is not for a server"),
            (authority, "is not for a server"),
        ] {
            let said = refused(&text, name, NOW_S);
            assert!(said.contains(part), "{part}: {said}");
            assert!(!said.contains("PRIVATE"), "{said}");
        }
        let said = refused(&pair("b.example"), name, NOW_S);
        assert!(said.contains("but for b.example: "), "{said}");
        let late = refused(&good, name, NOW_S + 90 * DAY_S);
        assert_eq!(
            late,
            "the certificate has expired on 2026-03-01T00:00:00Z: renew it"
        );
        assert!(refused(&good, name, NOW_S - 90 * DAY_S).contains("begins on 2025-12-01"));
    }

    #[test]
    fn a_bad_renewal_leaves_the_old_pair_and_is_told_until_a_good_one_comes() {
        let (name, first, second) = ("a.example", pair("a.example"), pair("a.example"));
        let tls = Tls::new(Pair::parse(&first, name, NOW_S).unwrap()).unwrap();
        let in_use = || tls.slot.get().unwrap().digest;
        assert!(!tls.offer(&first, name, NOW_S).unwrap());
        let mixed = PairText {
            chain: second.chain.clone(),
            key: first.key.clone(),
        };
        tls.offer(&mixed, name, NOW_S).unwrap_err();
        assert_eq!(in_use(), digest(&first));
        let alarm = tls.standing(NOW_S).alarm.unwrap();
        assert!(
            alarm.contains("stays in use: the key does not fit"),
            "{alarm}"
        );
        assert!(tls.offer(&second, name, NOW_S).unwrap());
        assert_eq!(in_use(), digest(&second));
        assert_eq!(tls.standing(NOW_S).alarm, None);
        tls.refuse("`c.pem` cannot be read".to_owned());
        assert!(tls.standing(NOW_S).alarm.unwrap().contains("c.pem"));
        // The files are as they were again.
        assert!(!tls.offer(&second, name, NOW_S).unwrap());
        assert_eq!(tls.standing(NOW_S).alarm, None);
    }

    #[test]
    fn the_end_is_told_two_weeks_before_and_is_an_alarm_when_it_has_come() {
        let name = "a.example";
        let tls = Tls::new(Pair::parse(&pair(name), name, NOW_S).unwrap()).unwrap();
        let end_s = NOW_S + 59 * DAY_S;
        for (at_s, note, alarm) in [
            (end_s - 14 * DAY_S, false, false),
            (end_s - 14 * DAY_S + 1, true, false),
            (end_s, true, false),
            (end_s + 1, false, true),
        ] {
            let standing = tls.standing(at_s);
            assert_eq!(standing.end_s, Some(end_s));
            let told = (standing.note.is_some(), standing.alarm.is_some());
            assert_eq!(told, (note, alarm), "{at_s}");
        }
    }
}
