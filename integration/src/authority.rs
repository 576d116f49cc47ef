//! An authority of the tests: certificates for names on loopback, and a client that trusts it.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Who signs.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Default for Authority {
    fn default() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
        // Another name than those it signs: else OpenSSL takes them for self-signed.
        let name = "authority of the tests";
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        Self { issuer }
    }
}

impl Authority {
    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for `name` and its key, in PEM.
    pub fn pair(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]);
        let mut params = params.expect("a name of the tests");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("the authority signs");
        (certificate.pem(), key.serialize_pem())
    }

    /// Connects as `localhost`, whatever the address; the handshake must succeed.
    ///
    /// # Errors
    /// When it does not.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocol: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        connect(self.issuer.der(), "localhost", address, protocol).await
    }
}

/// Connects as `name`, whatever the address, trusting one authority; the handshake must succeed.
///
/// # Errors
/// When it does not.
pub async fn connect(
    root: &CertificateDer<'static>,
    name: &str,
    address: SocketAddr,
    protocol: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).expect("it is an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions();
    let mut config = builder
        .expect("the provider has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from(name.to_owned()).expect("it is a name");
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Puts a pair where a service finds it, as a program that renews certificates does.
pub fn put(folder: &Path, pair: &(String, String)) {
    let write = |name: &str, text: &str, mode| {
        let new = folder.join(format!("{name}.new"));
        fs::write(&new, text).expect("the folder takes files");
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("it is our file");
        fs::rename(&new, folder.join(name)).expect("files can be replaced");
    };
    write("key.pem", &pair.1, 0o600);
    write("cert.pem", &pair.0, 0o644);
}

/// The first certificate of a chain in PEM, as it is shown in a handshake.
pub fn first(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).expect("it is PEM")
}
