//! The table of addresses, line by line: what is served, what starts a build, what is refused.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode, header},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
};
use tower::ServiceExt as _;

use super::{
    ServeConfig, Told,
    app::App,
    cosign::Cosigning,
    ledger::{Health, Ledger},
    limits::blocks::Peer,
    listen, open, router,
    testing::{Bench, KEY, Outcome, fails, key},
    tls::Tls,
};
use crate::{
    build::FailureClass,
    spec::{BuildKey, Record, Sum},
};

mod admin;
mod api;
mod code;
mod commands;
mod cosign;
mod door;
mod h2;
mod limits;
mod links;
mod lists;
mod log_paths;
mod names;
mod observations;
mod pages;
mod ranges;
mod records;
mod rules;
mod shares;
mod shown;
mod starts;
mod targets;
mod tls;
mod withdrawn;

const NAME: &str = "tool-v1.2.3-go1.26.8";

struct Site {
    bench: Bench,
    app: Arc<App>,
    router: Router,
    stop: watch::Sender<bool>,
    tell: watch::Sender<Told>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    async fn new() -> Self {
        let bench = Bench::new();
        let ledger = Arc::clone(&bench.ledger);
        Self::with(bench, ledger).await
    }

    async fn with(bench: Bench, ledger: Arc<dyn Ledger>) -> Self {
        Self::with_cosigning(bench, ledger, None).await
    }

    async fn with_cosigning(
        bench: Bench,
        ledger: Arc<dyn Ledger>,
        cosigning: Option<Arc<Cosigning>>,
    ) -> Self {
        Self::with_tls(bench, ledger, cosigning, None).await
    }

    async fn with_tls(
        bench: Bench,
        ledger: Arc<dyn Ledger>,
        cosigning: Option<Arc<Cosigning>>,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        let (tell, told) = watch::channel(Told::default());
        let config = ServeConfig {
            database: bench.folder.path().join("hotcell.db"),
            artifacts: bench.folder.path().join("artifacts"),
            room_min: bench.room_min,
            hosts: vec!["localhost".to_owned(), "build.example.org".to_owned()],
            behind_tls: false,
            tls,
            builds_max: 1,
            policy_sha256: bench.policy.clone(),
            notes: Vec::new(),
            told,
            witnesses: Arc::default(),
            cosigning,
            quorum: Arc::clone(&bench.quorum),
            budget: bench.budget,
            trusted_proxies: vec!["127.0.0.9".parse().unwrap()],
            access_log: false,
        };
        let (stop, stopped) = watch::channel(false);
        let executor = Arc::clone(&bench.executor);
        let clock = Arc::clone(&bench.clock);
        let app = open(config, executor, ledger, clock, stopped)
            .await
            .unwrap();
        let app = Arc::new(app);
        Self {
            bench,
            router: router::public(Arc::clone(&app)),
            app,
            stop,
            tell,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        self.send_from([127, 0, 0, 1], request).await
    }

    /// Sends it over a connection from `peer`; 127.0.0.9 is a trusted proxy.
    async fn send_from(&self, peer: [u8; 4], mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(Peer(peer.into()));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, 10_000_000).await.unwrap().to_vec();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:8000");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[]).await
    }

    async fn browse(&self, path: &str) -> Answer {
        self.ask(
            "GET",
            path,
            &[("accept", "text/html,*/*"), ("sec-fetch-site", "none")],
        )
        .await
    }

    async fn post(&self, path: &str, body: &str) -> Answer {
        let request = Request::post(path)
            .header("host", "127.0.0.1:8000")
            .header("sec-fetch-site", "same-origin")
            .header("accept", "text/html")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(body.to_owned()))
            .unwrap();
        self.send(request).await
    }

    /// Path of the built result.
    async fn built(&self) -> String {
        let record = self.get(&format!("/{KEY}record")).await;
        let sum = Record::parse(record.text()).unwrap().sum;
        format!("/{KEY}{sum}/")
    }

    fn started(&self) -> usize {
        self.bench.executor.started().len()
    }
}
