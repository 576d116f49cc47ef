//! Pebble, the authority that its authors test ACME clients with, and its name server: another
//! implementation of everything that `serve --acme` says.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use crate::{
    authority::{Authority, first},
    command::Run,
    host::{self, free_address},
    hostile, http, paths,
};

/// Its start on two busy cores.
const START_MAX: Duration = Duration::from_secs(30);

/// A running authority; it ends when dropped.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    authority: Option<Child>,
    names: Child,
    address: SocketAddr,
    management: SocketAddr,
    names_management: SocketAddr,
    names_address: SocketAddr,
}

fn background(program: &Path, args: &[&str], folder: &Path) -> Child {
    let mut options = fs::OpenOptions::new();
    let said = options.create(true).append(true);
    let said = said.open(folder.join("pebble.txt"));
    Command::new(program)
        .args(args)
        .current_dir(folder)
        // It looks for us at once, and not some seconds later.
        .env("PEBBLE_VA_NOSLEEP", "1")
        .stdin(Stdio::null())
        .stdout(said.expect("the folder takes files"))
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

impl Pebble {
    /// Starts it. It looks for services at `port`, and its certificates live for `life_s` seconds.
    /// Its own TLS is by an authority of the tests, whose certificate is in [`Pebble::trust`].
    pub fn start(port: u16, life_s: u64) -> Self {
        let folder = paths::scratch("pebble");
        // Other users read the certificate there: that of the role `fetch`.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), open).expect("it is our folder");
        let tls = Authority::default();
        let (chain, key) = tls.pair("127.0.0.1");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("the folder takes files");
        };
        write("ca.pem", &tls.pem());
        write("cert.pem", &chain);
        write("key.pem", &key);
        let [address, management, names_address, names_management] =
            std::array::from_fn(|_| free_address());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": address,
            "managementListenAddress": management,
            "certificate": "cert.pem",
            "privateKey": "key.pem",
            "httpPort": 1,
            "tlsPort": port,
            "keyAlgorithm": "ecdsa",
            "retryAfter": { "authz": 1, "order": 1 },
            "profiles": { "default": { "description": "x", "validityPeriod": life_s } },
        }});
        write("pebble.json", &config.to_string());
        let (dns, management_of_names) = (names_address.to_string(), names_management.to_string());
        let none = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""];
        let own = ["-dnsserver", &dns, "-management", &management_of_names];
        let args = [&none[..], &own, &["-defaultIPv6", ""]].concat();
        let program = hostile::pebble("pebble-challtestsrv");
        let names = background(&program, &args, folder.path());
        let mut pebble = Self {
            folder,
            authority: None,
            names,
            address,
            management,
            names_management,
            names_address,
        };
        pebble.begin();
        pebble
    }

    /// Starts the authority again, which has forgotten everything; it keeps its address.
    pub fn begin(&mut self) {
        let dns = self.names_address.to_string();
        let args = ["-config", "pebble.json", "-dnsserver", &dns];
        let program = hostile::pebble("pebble");
        self.authority = Some(background(&program, &args, self.folder.path()));
        for address in [self.address, self.management, self.names_management] {
            let reached = || std::net::TcpStream::connect(address).ok();
            host::wait_for(START_MAX, reached).expect("it listens");
        }
    }

    /// Ends the authority; nobody listens at its address then.
    pub fn end(&mut self) {
        if let Some(mut child) = self.authority.take() {
            child.kill().expect("our own child can be ended");
            child.wait().expect("a child can be waited for");
        }
    }

    /// For `--acme`.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address)
    }

    /// For `SSL_CERT_FILE` of who asks it.
    pub fn trust(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    /// The certificate at the root of those that it gives; a file with it in PEM, too.
    pub fn root(&self) -> (CertificateDer<'static>, PathBuf) {
        let url = format!("https://{}/roots/0", self.management);
        let run = Run::new("curl").args(["-sS", "--cacert", &self.trust(), &url]);
        let (pem, path) = (run.succeed().out(), self.folder.path().join("root.pem"));
        fs::write(&path, &pem).expect("the folder takes files");
        (first(&pem), path)
    }

    /// Where every name leads from now on.
    pub fn resolve_to(&self, address: &str) {
        let url = format!("http://{}/set-default-ipv4", self.names_management);
        let body = serde_json::json!({ "ip": address }).to_string();
        assert_eq!(http::post_json(&url, body.as_bytes()).status, 200);
    }

    /// How often it has said this so far.
    pub fn said(&self, words: &str) -> usize {
        let text = fs::read_to_string(self.folder.path().join("pebble.txt"));
        text.unwrap_or_default().matches(words).count()
    }

    /// How many certificates it has given.
    pub fn given(&self) -> usize {
        self.said("Issued certificate serial")
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.end();
        self.names.kill().expect("our own child can be ended");
        self.names.wait().expect("a child can be waited for");
    }
}

/// Has the one attempt that a service in this folder has made be its tenth, of two minutes before.
/// The service must not run.
///
/// # Panics
/// When there was no attempt, or another number of them.
pub fn age_attempts(folder: &Path) {
    let acme = folder.join("data/serve/acme");
    let found = Run::new("find").arg(acme).args(["-name", "attempts.json"]);
    let file = found.succeed().out();
    let text = fs::read(file.trim()).expect("there was an attempt");
    let mut attempts: serde_json::Value = serde_json::from_slice(&text).expect("a document");
    assert_eq!(attempts["failures"], 1, "{attempts}");
    let last_s = attempts["last_s"].as_u64().expect("a time");
    attempts["failures"] = 10.into();
    attempts["last_s"] = (last_s - 120).into();
    fs::write(file.trim(), attempts.to_string()).expect("the folder takes files");
}
