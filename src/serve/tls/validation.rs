//! The answer to an authority that looks for us at our own TLS port (TLS-ALPN-01, RFC 8737).
//!
//! Called by [`super::Tls`], which hands each client's first message here. Only who asks for
//! nothing but `acme-tls/1`, and for the one name that is being validated at this moment, gets the
//! certificate of the challenge; it proves nothing to anybody else. Must never answer when nothing
//! is pending.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::PrivateKeyDer,
    server::{ClientHello, NoServerSessionStorage},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{VERSIONS, provider};

/// What an authority, and nobody else, speaks (RFC 8737, 6.2).
const ACME_TLS: &[u8] = b"acme-tls/1";

/// No certificate of a challenge could be made.
#[derive(Debug, thiserror::Error)]
pub enum ValidationError {
    /// The name, or the key.
    #[error("cannot make the certificate of the challenge")]
    Certificate(#[from] rcgen::Error),
    /// The provider of cryptography.
    #[error("cannot use the certificate of the challenge")]
    Tls(#[from] rustls::Error),
}

/// What is validated just now, if anything.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<Option<Expected>>);

#[derive(Debug)]
struct Expected {
    name: String,
    config: Arc<ServerConfig>,
}

/// The authority is answered for as long as this lives.
#[derive(Debug)]
pub struct Validation(Arc<Pending>);

impl Drop for Validation {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

impl Pending {
    /// Begins to answer for `name` with the digest of the key authorization; an earlier name is
    /// not answered for any more.
    pub(super) fn begin(
        self: &Arc<Self>,
        name: &str,
        digest: &[u8; 32],
    ) -> Result<Validation, ValidationError> {
        let config = Arc::new(config(name, digest)?);
        let name = name.to_owned();
        *self.lock() = Some(Expected { name, config });
        Ok(Validation(Arc::clone(self)))
    }

    /// How to answer this client, when it is the authority.
    pub(super) fn answer(&self, client: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let mut protocols = client.alpn()?;
        let is_acme = protocols.next() == Some(ACME_TLS) && protocols.next().is_none();
        let name = client.server_name().filter(|_| is_acme)?;
        let pending = self.lock();
        let expected = pending.as_ref()?;
        let is_name = expected.name.eq_ignore_ascii_case(name);
        is_name.then(|| Arc::clone(&expected.config))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers with a certificate that signs itself, for the name alone, and with the digest in its
/// critical extension (RFC 8737, 3).
fn config(name: &str, digest: &[u8; 32]) -> Result<ServerConfig, ValidationError> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(provider());
    // Not compared with each other: no verifier knows that extension, which is what it is for.
    let key = provider.key_provider.load_private_key(key)?;
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let builder = ServerConfig::builder_with_provider(provider);
    let mut config = builder
        .with_protocol_versions(&VERSIONS)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    config.send_tls13_tickets = 0; // nobody comes back
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
