//! A module proxy and a checksum database of our own, on loopback, with faults on demand.

pub mod hostile;
pub mod middle;
pub mod proxy;
pub mod set;
pub mod sumdb;
pub mod verifier;
pub mod zip;

use std::sync::OnceLock;

pub use proxy::{Fault, Proxy};
pub use zip::Crafted;

/// One version of a module.
#[derive(Debug, Clone)]
pub struct Module {
    /// Module path.
    pub path: String,
    /// Canonical version.
    pub version: String,
    /// Files by name within the module.
    pub files: Vec<(String, Vec<u8>)>,
    /// The zip that is served, when it is not the honest one.
    pub crafted: Option<Crafted>,
}

impl Module {
    /// A module from its text files.
    pub fn new(path: &str, version: &str, files: &[(&str, &str)]) -> Self {
        let files = files
            .iter()
            .map(|(name, text)| ((*name).into(), text.as_bytes().to_vec()));
        Self {
            path: path.into(),
            version: version.into(),
            files: files.collect(),
            crafted: None,
        }
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, name: &str, bytes: &[u8]) -> Self {
        self.files.push((name.into(), bytes.to_vec()));
        self
    }

    /// Serves a zip that is not the honest one.
    #[must_use]
    pub fn crafted(mut self, crafted: Crafted) -> Self {
        self.crafted = Some(crafted);
        self
    }

    /// Its go.mod, or the one that a proxy makes for a module without.
    pub fn go_mod(&self) -> Vec<u8> {
        let own = self.files.iter().find(|(name, _)| name == "go.mod");
        own.map_or_else(
            || format!("module {}\n", self.path).into_bytes(),
            |(_, text)| text.clone(),
        )
    }

    /// Names and contents as they stand in its zip.
    pub fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let prefix = format!("{}@{}/", self.path, self.version);
        let entries = self.files.iter();
        entries
            .map(|(name, bytes)| (format!("{prefix}{name}"), bytes.clone()))
            .collect()
    }

    /// What a proxy serves.
    pub fn zip(&self) -> Vec<u8> {
        let honest = self.entries();
        match self.crafted {
            None => zip::honest(&honest),
            Some(crafted) => zip::crafted(crafted, &honest, &self.path, &self.version),
        }
    }

    /// The directory hash of its honest zip.
    pub fn h1(&self) -> String {
        sumdb::h1(&self.entries())
    }

    /// The hash of its go.mod.
    pub fn go_mod_h1(&self) -> String {
        sumdb::h1(&[("go.mod".into(), self.go_mod())])
    }

    /// `ex.example/hello@v1.0.0`
    pub fn spec(&self) -> String {
        format!("{}@{}", self.path, self.version)
    }
}

/// Escapes upper case as the module proxy protocol demands
/// (<https://go.dev/ref/mod#goproxy-protocol>).
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_uppercase() {
            out.push('!');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// The proxy that all tests share which need no faults: the whole set and one SDK.
pub fn shared() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| Proxy::start(set::all()))
}

/// The same set for the bare go command, which asks for whatever it likes: the other one's request
/// log holds only what hotcell asked for.
pub fn for_bare_go() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| Proxy::start(set::all()))
}
