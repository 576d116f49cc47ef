//! The module proxy: serves modules, the SDK and the checksum database, and remembers every
//! question.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Response, StatusCode},
    response::IntoResponse,
};

use super::{
    Module, escaped,
    sumdb::{self, SumDb},
};
use crate::{
    http::runtime,
    sdk::{self, Sdk},
};

/// Records in front of the real ones, so that proofs need more than one tile.
const FILLERS: usize = 700;

/// What goes wrong with one path.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status and no body.
    Status(u16),
    /// Other bytes.
    Instead(Vec<u8>),
    /// The connection breaks after so many bytes, although more were announced.
    Truncated(usize),
    /// The head is sent, then nothing ever again.
    Stalled,
    /// An endless body.
    Endless,
}

/// A running proxy. It lives as long as the tests; its address is free and on loopback.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    modules: Vec<Module>,
    sdks: Vec<(String, PathBuf)>,
    sumdb: SumDb,
    faults: Mutex<HashMap<String, Fault>>,
    asked: Mutex<Vec<String>>,
}

impl Proxy {
    /// Serves `modules` and the SDK that tests use, all of them in the checksum database.
    pub fn start(modules: Vec<Module>) -> Self {
        Self::with_sdks(modules, vec![(sdk::version(sdk::GO), sdk::zip(sdk::GO))])
    }

    /// Serves `modules` and these SDKs, by their versions as modules.
    pub fn with_sdks(modules: Vec<Module>, sdks: Vec<(String, Sdk)>) -> Self {
        let mut records: Vec<(String, String)> = (0..FILLERS)
            .map(|number| {
                record(
                    &format!("filler.example/n{number}"),
                    "v1.0.0",
                    "h1:0",
                    "h1:0",
                )
            })
            .collect();
        for module in &modules {
            let (h1, go_mod_h1) = (module.h1(), module.go_mod_h1());
            records.push(record(&module.path, &module.version, &h1, &go_mod_h1));
        }
        for (version, sdk) in &sdks {
            records.push(record(sdk::MODULE, version, &sdk.h1, &sdk.go_mod_h1));
        }
        let sdks = sdks.into_iter().map(|(version, sdk)| (version, sdk.zip));
        let shared = Arc::new(Shared {
            modules,
            sdks: sdks.collect(),
            sumdb: SumDb::new(records),
            faults: Mutex::default(),
            asked: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let app = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        runtime().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
            axum::serve(listener, app)
                .await
                .expect("serving does not end");
        });
        Self { address, shared }
    }

    /// For `--goproxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For `--sumdb`.
    pub fn verifier_key(&self) -> String {
        self.shared.sumdb.verifier_key()
    }

    /// From now on this path (escaped, with its slash) goes wrong.
    pub fn fault(&self, path: &str, fault: Fault) {
        locked(&self.shared.faults).insert(path.to_owned(), fault);
    }

    /// From now on this path is well again.
    pub fn mend(&self, path: &str) {
        locked(&self.shared.faults).remove(path);
    }

    /// All paths that were asked for so far, in order.
    pub fn asked(&self) -> Vec<String> {
        locked(&self.shared.asked).clone()
    }

    /// All paths asked for that contain this text.
    pub fn asked_for(&self, part: &str) -> Vec<String> {
        self.asked()
            .into_iter()
            .filter(|path| path.contains(part))
            .collect()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Key and text of a record of the checksum database.
fn record(path: &str, version: &str, h1: &str, go_mod_h1: &str) -> (String, String) {
    let text = format!("{path} {version} {h1}\n{path} {version}/go.mod {go_mod_h1}\n");
    (format!("{path}@{version}"), text)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let path = request.uri().path().replace("%21", "!");
    locked(&shared.asked).push(path.clone());
    let fault = locked(&shared.faults).get(&path).cloned();
    let found = tokio::task::spawn_blocking(move || shared.find(&path)).await;
    let found = found.expect("finding does not panic");
    match (fault, found) {
        (None, Some(found)) => found.into_response(),
        (None, None) => (StatusCode::NOT_FOUND, "not found: no such module\n").into_response(),
        (Some(fault), found) => faulty(&fault, found.unwrap_or_default()),
    }
}

fn faulty(fault: &Fault, bytes: Vec<u8>) -> Response<Body> {
    let announced = bytes.len().max(1 << 20);
    let streamed = |parts: Vec<Bytes>, then_hang: bool| {
        let body = tokio_body(parts, then_hang);
        let response = Response::builder().header("content-length", announced);
        response.body(body).expect("a well-formed response")
    };
    match fault {
        Fault::Status(code) => StatusCode::from_u16(*code)
            .expect("a valid status")
            .into_response(),
        Fault::Instead(bytes) => bytes.clone().into_response(),
        Fault::Truncated(at) => {
            let part = Bytes::copy_from_slice(&bytes[..bytes.len().min(*at)]);
            streamed(vec![part], false)
        }
        Fault::Stalled => streamed(Vec::new(), true),
        Fault::Endless => Response::new(endless()),
    }
}

type Part = Result<Bytes, std::io::Error>;

/// A body that is fed from elsewhere; when the feeder goes, so does the connection.
fn body_channel() -> (tokio::sync::mpsc::Sender<Part>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    (sender, Body::from_stream(Feed(receiver)))
}

/// A body without an end.
pub(super) fn endless() -> Body {
    let (sender, body) = body_channel();
    runtime().spawn(async move {
        let part = Bytes::from_static(&[b'a'; 64 << 10]);
        while sender.send(Ok(part.clone())).await.is_ok() {}
    });
    body
}

/// Sends `parts`, then breaks off, or waits for ever.
fn tokio_body(parts: Vec<Bytes>, then_hang: bool) -> Body {
    let (sender, body) = body_channel();
    runtime().spawn(async move {
        for part in parts {
            if sender.send(Ok(part)).await.is_err() {
                return;
            }
        }
        if then_hang {
            sender.closed().await;
        } else {
            let broken = std::io::Error::other("broken on purpose");
            // The asker may be gone already.
            drop(sender.send(Err(broken)).await);
        }
    });
    body
}

struct Feed(tokio::sync::mpsc::Receiver<Part>);

impl tokio_stream::Stream for Feed {
    type Item = Part;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Part>> {
        self.0.poll_recv(context)
    }
}

impl Shared {
    fn find(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(rest) = path.strip_prefix(&format!("/sumdb/{}/", sumdb::NAME)) {
            return self.find_sumdb(rest);
        }
        let (module, file) = path.strip_prefix('/')?.rsplit_once("/@")?;
        if file == "v/list" {
            let versions = self.versions(module);
            return (!versions.is_empty()).then(|| versions.join("\n").into_bytes());
        }
        if file == "latest" {
            let newest = self.versions(module).pop()?;
            return Some(info(&newest));
        }
        let (version, kind) = file.strip_prefix("v/")?.rsplit_once('.')?;
        if let Some((_, zip)) = self
            .sdks
            .iter()
            .find(|(known, _)| module == sdk::MODULE && escaped(known) == version)
        {
            return Some(match kind {
                "info" => info(version),
                "mod" => sdk::GO_MOD.as_bytes().to_vec(),
                "zip" => std::fs::read(zip).expect("the SDK is in the cache"),
                _ => return None,
            });
        }
        let known = self
            .modules
            .iter()
            .find(|known| escaped(&known.path) == module && escaped(&known.version) == version)?;
        match kind {
            "info" => Some(info(&known.version)),
            "mod" => Some(known.go_mod()),
            "zip" => Some(known.zip()),
            _ => None,
        }
    }

    fn find_sumdb(&self, path: &str) -> Option<Vec<u8>> {
        if path == "supported" {
            return Some(Vec::new());
        }
        if path == "latest" {
            return Some(self.sumdb.latest().into_bytes());
        }
        if let Some(tile) = path.strip_prefix("tile/") {
            return self.sumdb.tile(tile);
        }
        let key = unescaped(path.strip_prefix("lookup/")?);
        self.sumdb.lookup(&key).map(String::into_bytes)
    }

    /// Versions in the order of the set, oldest first.
    fn versions(&self, module: &str) -> Vec<String> {
        if module == sdk::MODULE {
            return self
                .sdks
                .iter()
                .map(|(version, _)| version.clone())
                .collect();
        }
        let known = self
            .modules
            .iter()
            .filter(|known| escaped(&known.path) == module);
        known.map(|known| known.version.clone()).collect()
    }
}

fn info(version: &str) -> Vec<u8> {
    format!("{{\"Version\":\"{version}\",\"Time\":\"2024-01-01T00:00:00Z\"}}").into_bytes()
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '!' => out.extend(letters.next().map(|next| next.to_ascii_uppercase())),
            other => out.push(other),
        }
    }
    out
}
