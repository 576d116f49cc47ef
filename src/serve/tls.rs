//! TLS of our own: certificate and key, and how they are replaced while the service runs.
//!
//! Called by the command `serve`, which reads the files, and by [`super::listen`] for each
//! connection. A pair that browsers would refuse is never used; a new one that is bad leaves the
//! old one in use. Must never open a file: `serve` has no power for that when it is here.

use std::{
    fmt,
    io::{Error, ErrorKind},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    CertificateError, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::{ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{provenance::rfc3339, roles::PairText};

/// A client has this long for the handshake: two round trips, and little to compute.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Health tells of the end this many seconds before: two weeks, when renewal after two thirds of
/// 90 days has failed for two weeks already.
const END_NEAR_S: u64 = 14 * 24 * 3_600;
/// What browsers remember of us for a year: never ask without TLS (RFC 6797).
pub(super) const HSTS: &str = "max-age=31536000";
/// The versions that browsers still speak and that have no known break (RFC 9325).
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
/// Later than any certificate can end: they know years up to 9999 (RFC 5280, 4.1.2.5).
const LATE_S: u64 = 1 << 40;
/// HTTP/2 as the handshake names it (RFC 9113, 3.1).
const H2: &[u8] = b"h2";

/// Why certificate and key are not used. What was in use before still is.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// It is another kind of file.
    #[error(
        "the file of the certificate has none in PEM: give the whole chain, that of the service \
         first"
    )]
    NoCertificate,
    /// Damaged, or no certificate of this kind.
    #[error("the certificate cannot be read ({0}): get a new one of version 3 of X.509")]
    Certificate(rustls::Error),
    /// No key, or one with a password.
    #[error("the file of the key has none in PEM that is not encrypted: `openssl pkey` writes one")]
    NoKey,
    /// Of a kind that TLS does not know here.
    #[error("the key cannot be used ({0}): take ECDSA P-256 or RSA with 2048 to 8192 bits")]
    Key(rustls::Error),
    /// From two renewals, most likely.
    #[error("the key does not fit the certificate: give both files of one renewal")]
    Mismatch,
    /// Visitors would get an error.
    #[error("the certificate has expired on {0}: renew it")]
    Expired(String),
    /// Visitors would get an error.
    #[error("the certificate begins on {0}: wait, or look at the clock of this machine")]
    Early(String),
    /// Visitors would get an error.
    #[error("the certificate is not for `{name}` but for {found}: renew it, or change --name")]
    Name {
        /// That of the service.
        name: String,
        /// What it is for.
        found: String,
    },
    /// Visitors would get an error.
    #[error(
        "the certificate is not for a server ({0}): ask your authority for one of a web site; one \
         that signs itself needs `basicConstraints=critical,CA:FALSE`"
    )]
    Purpose(CertificateError),
}

/// A certificate and its key that fit the service.
pub struct Pair {
    certified: Arc<CertifiedKey>,
    end_s: u64,
    digest: [u8; 32],
}

impl fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair(until {})", date(self.end_s))
    }
}

impl Pair {
    /// Reads both files as the certificate of `name`, at a time in seconds since 1970.
    ///
    /// # Errors
    /// See [`PairError`].
    pub fn parse(text: &PairText, name: &str, now_s: u64) -> Result<Self, PairError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| PairError::NoCertificate);
        let chain: Vec<CertificateDer<'static>> = chain?;
        let first = chain.first().ok_or(PairError::NoCertificate)?;
        let end_s = check(first, name, now_s)?;
        let key = PrivateKeyDer::from_pem_slice(text.key.as_bytes());
        let key = key.map_err(|_| PairError::NoKey)?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
            other => PairError::Key(other),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            end_s,
            digest: digest(text),
        })
    }

    /// Until when it is valid, in words.
    #[must_use]
    pub fn until(&self) -> String {
        date(self.end_s)
    }
}

/// Checks what does not depend on who signed it, and tells when it ends, in seconds since 1970.
fn check(first: &CertificateDer<'_>, name: &str, now_s: u64) -> Result<u64, PairError> {
    let parsed = ParsedCertificate::try_from(first).map_err(PairError::Certificate)?;
    // With no authority that is trusted, all else is judged before the missing one is told.
    let judged = |at_s| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(at_s));
        let (none, provider) = (RootCertStore::empty(), provider());
        let all = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &none, &[], time, all)
    };
    let certificate = |error| match error {
        rustls::Error::InvalidCertificate(why) => Ok(why),
        other => Err(PairError::Certificate(other)),
    };
    match judged(now_s).map_err(certificate) {
        Ok(()) | Err(Ok(CertificateError::UnknownIssuer)) => {}
        Err(Ok(CertificateError::ExpiredContext { not_after, .. })) => {
            return Err(PairError::Expired(date(not_after.as_secs())));
        }
        Err(Ok(CertificateError::NotValidYetContext { not_before, .. })) => {
            return Err(PairError::Early(date(not_before.as_secs())));
        }
        Err(Ok(why)) => return Err(PairError::Purpose(why)),
        Err(Err(other)) => return Err(other),
    }
    let server = ServerName::try_from(name).map_err(|_| PairError::Name {
        name: name.to_owned(),
        found: "hosts that have one".to_owned(),
    })?;
    match verify_server_name(&parsed, &server) {
        Ok(()) => {}
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            presented,
            ..
        })) => {
            let name = name.to_owned();
            let found = if presented.is_empty() {
                "no name at all".to_owned()
            } else {
                let bare = presented
                    .iter()
                    .map(|one| one.split('"').nth(1).unwrap_or(one));
                bare.collect::<Vec<_>>().join(", ")
            };
            return Err(PairError::Name { name, found });
        }
        Err(other) => return Err(PairError::Certificate(other)),
    }
    // The end is told to whoever comes too late.
    match judged(LATE_S).map_err(certificate) {
        Err(Ok(CertificateError::ExpiredContext { not_after, .. })) => Ok(not_after.as_secs()),
        Err(Err(other)) => Err(other),
        _ => Err(PairError::Purpose(CertificateError::BadEncoding)),
    }
}

/// The same that outgoing connections use.
fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn date(at_s: u64) -> String {
    rfc3339(at_s.saturating_mul(1_000))
}

fn digest(text: &PairText) -> [u8; 32] {
    let whole = Sha256::new().chain_update((text.chain.len() as u64).to_be_bytes());
    let whole = whole.chain_update(&text.chain).chain_update(&text.key);
    whole.finalize().into()
}

/// What is given to each handshake that begins.
#[derive(Debug)]
struct Slot(RwLock<Arc<Pair>>);

impl Slot {
    fn get(&self) -> Arc<Pair> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Slot {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().certified))
    }
}

/// How it stands with the certificate. A sentence each, without a full stop.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// When it ends, in seconds since 1970.
    pub(super) end_s: u64,
    /// A person must act now.
    pub(super) alarm: Option<String>,
    /// A person must act soon.
    pub(super) note: Option<String>,
}

/// TLS in front of the service.
pub struct Tls {
    slot: Arc<Slot>,
    config: Arc<ServerConfig>,
    /// Why what lies in the files is not in use.
    trouble: Mutex<Option<String>>,
}

impl Tls {
    /// Begins with a pair.
    ///
    /// # Errors
    /// When the provider of cryptography lacks TLS 1.2 or 1.3.
    pub fn new(pair: Pair) -> Result<Self, rustls::Error> {
        let slot = Arc::new(Slot(RwLock::new(Arc::new(pair))));
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
        let mut config = builder
            .with_protocol_versions(&VERSIONS)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&slot) as _);
        config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            slot,
            config: Arc::new(config),
            trouble: Mutex::default(),
        })
    }

    /// Looks at what the files have now. New connections get a new pair, those that are open keep
    /// theirs. True when there is something new.
    ///
    /// # Errors
    /// See [`PairError`]; it is also remembered for health.
    pub fn offer(&self, text: &PairText, name: &str, now_s: u64) -> Result<bool, PairError> {
        let is_new = self.slot.get().digest != digest(text);
        let pair = is_new.then(|| Pair::parse(text, name, now_s)).transpose();
        let pair = pair.inspect_err(|error| self.refuse(error.to_string()))?;
        if let Some(pair) = pair {
            *self.slot.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(pair);
        }
        self.trouble().take();
        Ok(is_new)
    }

    /// Remembers why the files cannot be taken over.
    pub fn refuse(&self, why: String) {
        *self.trouble() = Some(why);
    }

    /// Why what lies in the files is not in use.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        self.trouble().clone()
    }

    /// Until when the certificate in use is valid, in words.
    #[must_use]
    pub fn until(&self) -> String {
        self.slot.get().until()
    }

    /// How it stands at a time in seconds since 1970.
    pub(super) fn standing(&self, now_s: u64) -> Standing {
        let end_s = self.slot.get().end_s;
        let (until, trouble) = (date(end_s), self.refused());
        let alarm = if end_s < now_s {
            let why = trouble.map_or_else(String::new, |why| format!(", and {why}"));
            Some(format!("the certificate has expired on {until}{why}"))
        } else {
            trouble.map(|why| format!("the certificate until {until} stays in use: {why}"))
        };
        let is_near = alarm.is_none() && end_s - now_s < END_NEAR_S;
        let note = is_near.then(|| format!("the certificate expires on {until}: renew it"));
        Standing { end_s, alarm, note }
    }

    /// The handshake; whether the client speaks HTTP/2, too.
    ///
    /// # Errors
    /// When the client speaks no TLS that we know, or not in time. What a program without TLS sent
    /// is answered with an alert, as TLS has it.
    pub(super) async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, bool), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream);
        let accepted = tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await;
        let stream = accepted.map_err(|_| Error::from(ErrorKind::TimedOut))??;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok((stream, is_h2))
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
    };

    use super::*;

    /// Within the life of the certificates below: 2026-01-01.
    pub(in crate::serve) const NOW_S: u64 = 1_767_225_600;
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
    pub(in crate::serve) fn lasting(name: &str, year: i32) -> PairText {
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
        let in_use = || tls.slot.get().digest;
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
            assert_eq!(standing.end_s, end_s);
            let told = (standing.note.is_some(), standing.alarm.is_some());
            assert_eq!(told, (note, alarm), "{at_s}");
        }
    }
}
