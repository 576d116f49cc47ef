//! A certificate and its key: what visitors would accept, and for how long.
//!
//! Called by [`super`], with what files have or an authority has given. Must never let a pair pass
//! that a browser would refuse for another reason than who signed it.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    CertificateError, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

use super::provider;
use crate::{provenance::rfc3339, roles::PairText};

/// Later than any certificate can end: they know years up to 9999 (RFC 5280, 4.1.2.5).
const LATE_S: u64 = 1 << 40;

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
    pub(super) certified: Arc<CertifiedKey>,
    pub(super) life: Life,
    pub(super) digest: [u8; 32],
}

impl fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pair(until {})", self.until())
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
        let life = check(first, name, now_s)?;
        let key = PrivateKeyDer::from_pem_slice(text.key.as_bytes());
        let key = key.map_err(|_| PairError::NoKey)?;
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
            other => PairError::Key(other),
        })?;
        Ok(Self {
            certified: Arc::new(certified),
            life,
            digest: digest(text),
        })
    }

    /// Until when it is valid, in words.
    #[must_use]
    pub fn until(&self) -> String {
        date(self.life.end_s)
    }
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The first one.
    pub begin_s: u64,
    /// The last one.
    pub end_s: u64,
}

/// Checks what does not depend on who signed it, and tells how long it lives.
fn check(first: &CertificateDer<'_>, name: &str, now_s: u64) -> Result<Life, PairError> {
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
    // The begin is told to whoever comes too early, and the end to whoever comes too late.
    let begin_s = match judged(0).map_err(certificate) {
        Err(Ok(CertificateError::NotValidYetContext { not_before, .. })) => not_before.as_secs(),
        Err(Err(other)) => return Err(other),
        _ => 0,
    };
    match judged(LATE_S).map_err(certificate) {
        Err(Ok(CertificateError::ExpiredContext { not_after, .. })) => {
            let end_s = not_after.as_secs();
            Ok(Life { begin_s, end_s })
        }
        Err(Err(other)) => Err(other),
        _ => Err(PairError::Purpose(CertificateError::BadEncoding)),
    }
}

pub(super) fn date(at_s: u64) -> String {
    rfc3339(at_s.saturating_mul(1_000))
}

pub(super) fn digest(text: &PairText) -> [u8; 32] {
    let whole = Sha256::new().chain_update((text.chain.len() as u64).to_be_bytes());
    let whole = whole.chain_update(&text.chain).chain_update(&text.key);
    whole.finalize().into()
}
