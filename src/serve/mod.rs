//! The service: pages, downloads, the log's addresses, and the queue behind them.
//!
//! ```text
//! listen → guard → router → home · builds · events · tlog → queue → run → artifacts, ledger
//!                       └─▶ cosign → sign
//! ```
//!
//! Called by the command `serve` with sockets that are open already. It holds the database and the
//! listening sockets, reads bytes from the public over HTTP only, and must never start a program,
//! open a path made of a request's text, or show output of a cell but through
//! [`Output`](crate::output::Output).

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch};
use tracing::{error, info};

use self::{
    api::observations::Observed,
    app::{AllNames, App, Limits},
    artifacts::{ArtifactError, Artifacts},
    catalogue::{Catalogue, CatalogueError},
    clock::{Clock, SystemClock},
    commands::Listings,
    cosign::Cosigning,
    ledger::Ledger,
    limits::{Rates, blocks::Cidr, budget::Budget, reverse::HostNames, rules::Rules},
    listen::Door,
    metrics::Metrics,
    queue::{Parts, Queue, QueueError},
    shown::Shown,
    tls::Tls,
};
use crate::{build::Executor, verifiers::Quorum, witness::Board};

mod access;
mod admin;
mod admit;
pub mod agent;
mod answer;
mod api;
mod app;
pub mod artifacts;
mod bodies;
mod build_pages;
mod builds;
pub mod catalogue;
pub mod clock;
mod code;
mod commands;
pub mod cosign;
mod downloads;
mod events;
mod failures;
mod fair;
pub mod guard;
mod health;
mod home;
mod hot;
mod job;
mod kept;
pub mod ledger;
mod licences;
pub mod limits;
mod line;
mod listen;
mod lists;
pub mod live;
pub mod metrics;
mod own;
mod pace;
mod pages;
mod places;
mod proofs;
pub mod queue;
mod ranges;
mod result_page;
mod router;
mod rows;
mod run;
mod shares;
mod shown;
mod streams;
mod targets;
mod tlog;
pub mod tls;
mod verified;
pub mod words;

pub(crate) use run::chain;

#[cfg(test)]
mod fake_ledger;
#[cfg(test)]
mod http_tests;
#[cfg(test)]
mod queue_tests;
#[cfg(test)]
mod testing;

/// How often jobs without interest are looked for; a fraction of the interest's life.
const SWEEP: Duration = Duration::from_secs(5);

/// What the service needs to know.
#[derive(Clone)]
pub struct ServeConfig {
    /// The database, shared with the log.
    pub database: PathBuf,
    /// Folder of the binaries.
    pub artifacts: PathBuf,
    /// Free bytes of their file system without which no build begins; reading goes on.
    pub room_min: u64,
    /// Names under which the service answers, without ports; loopback literals always work.
    pub hosts: Vec<String>,
    /// Whether visitors come through TLS, ended in front of us; decides the links that are shown.
    pub behind_tls: bool,
    /// TLS of our own, which the public socket speaks then.
    pub tls: Option<Arc<Tls>>,
    /// Builds at a time.
    pub builds_max: usize,
    /// SHA-256 of the build policy, hex; failures under another are forgotten.
    pub policy_sha256: String,
    /// What the start has to say: weaknesses that were accepted. Shown on the home page and by
    /// `/healthz`, before what protects from a rollback.
    pub notes: Vec<String>,
    /// What the operator says today; shown before the notes.
    pub told: watch::Receiver<Told>,
    /// How it stands with the witnesses of the log.
    pub witnesses: Arc<Board>,
    /// The witness of other logs, if this instance is one.
    pub cosigning: Option<Arc<Cosigning>>,
    /// Who must have the same bits before a build is published.
    pub quorum: Arc<Quorum>,
    /// How much the log may grow in a day.
    pub budget: Budget,
    /// Who is believed when it says in `X-Forwarded-For` for whom it asks; nobody by default.
    pub trusted_proxies: Vec<Cidr>,
    /// Whether the trace has a line for each request.
    pub access_log: bool,
}

/// What the operator says to visitors, and lets them do. It may change while the service runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// A sentence each, for the home page, the page of the instance and `/healthz`.
    pub notes: Vec<String>,
    /// How the operator is reached, for the page of the instance.
    pub contact: Option<String>,
    /// What may begin here, and how much of it.
    pub rules: Rules,
}

/// The sockets, open and bound; the caller says their addresses.
#[derive(Debug)]
pub struct Listeners {
    /// For everyone.
    pub public: TcpListener,
    /// For the operator.
    pub admin: Option<TcpListener>,
    /// For those who come without TLS, and where they are sent, as `https://HOST`.
    pub redirect: Option<(TcpListener, String)>,
}

/// The service could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing was served.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Nothing was served.
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    /// Nothing was served.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// A service that can answer: database and folders are open, what a crash left is swept.
pub struct Service {
    app: Arc<App>,
    stopping: watch::Sender<bool>,
}

impl Service {
    /// Opens everything; jobs that somebody still wants go on at once.
    ///
    /// # Errors
    /// When the database or the folder of binaries cannot be used.
    pub async fn open(
        config: ServeConfig,
        executor: Arc<dyn Executor>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self, ServeError> {
        let (stopping, stopped) = watch::channel(false);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let app = Arc::new(open(config, executor, ledger, clock, stopped).await?);
        Ok(Self { app, stopping })
    }

    /// Serves until `stop` is done; then nothing new is taken, streams end, builds are ended and
    /// wait for the next start.
    pub async fn run(self, listeners: Listeners, stop: impl Future<Output = ()> + Send) {
        let Self { app, stopping } = self;
        let stopped = stopping.subscribe();
        let door = |router| Door {
            router,
            tls: None,
            metrics: Arc::clone(&app.metrics),
        };
        let public = Door {
            tls: app.tls.clone(),
            ..door(router::public(Arc::clone(&app)))
        };
        let trusted: Arc<[Cidr]> = app.trusted_proxies.as_slice().into();
        let public = listen::accept(
            listeners.public,
            public,
            Arc::clone(&trusted),
            stopped.clone(),
        );
        let admin = async {
            if let Some(listener) = listeners.admin {
                let admin = door(router::admin(Arc::clone(&app)));
                listen::accept(listener, admin, Arc::clone(&trusted), stopped.clone()).await;
            }
        };
        let redirect = async {
            if let Some((listener, to)) = listeners.redirect {
                let redirect = door(router::redirect(to));
                listen::accept(listener, redirect, Arc::clone(&trusted), stopped.clone()).await;
            }
        };
        let sweep = sweep(app.queue.clone(), stopped.clone());
        let end = async {
            stop.await;
            info!("the service stops");
            stopping.send_replace(true);
            app.queue.stop();
        };
        tokio::join!(public, admin, redirect, sweep, end);
    }
}

async fn open(
    config: ServeConfig,
    executor: Arc<dyn Executor>,
    ledger: Arc<dyn Ledger>,
    clock: Arc<dyn Clock>,
    stopping: watch::Receiver<bool>,
) -> Result<App, ServeError> {
    let catalogue = Catalogue::open(&config.database)?;
    let artifacts = Artifacts::open(&config.artifacts, config.room_min)?;
    let metrics = Arc::new(Metrics::default());
    for duration_ms in catalogue.durations(pace::BUILDS)? {
        metrics.pace.note(duration_ms);
    }
    let (time, told) = (Arc::clone(&clock), config.told.clone());
    let rates = Arc::new(Rates::new(time, Arc::clone(&metrics), told));
    let names = AllNames::new(&clock);
    let seams = (Arc::clone(&executor), Arc::clone(&clock));
    let host_names = HostNames::new(seams.0, seams.1, Arc::clone(&metrics));
    let listings = Listings::new(&clock);
    let verifiers = config.quorum.board();
    let queue = Queue::open(Parts {
        catalogue: catalogue.clone(),
        artifacts: artifacts.clone(),
        executor: Arc::clone(&executor),
        ledger: Arc::clone(&ledger),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&metrics),
        policy_sha256: config.policy_sha256.clone(),
        builds_max: config.builds_max,
        budget: config.budget,
        rates: Arc::clone(&rates),
        quorum: config.quorum,
    })
    .await?;
    Ok(App {
        queue,
        catalogue,
        artifacts,
        executor,
        ledger,
        clock,
        metrics,
        hosts: config.hosts,
        behind_tls: config.behind_tls,
        tls: config.tls,
        fixed_notes: config.notes,
        told: config.told,
        witnesses: config.witnesses,
        cosigning: config.cosigning,
        verifiers,
        observed: Observed::default(),
        builds_max: config.builds_max,
        policy_sha256: config.policy_sha256,
        host_names,
        names,
        listings,
        hot: Arc::default(),
        shown: Shown::default(),
        trusted_proxies: config.trusted_proxies,
        access_log: config.access_log,
        rates,
        stopping,
        limits: Limits::default(),
    })
}

async fn sweep(queue: Queue, mut stopped: watch::Receiver<bool>) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        if let Err(cause) = queue.sweep().await {
            error!(
                "cannot drop jobs that nobody waits for: {}",
                run::chain(&cause)
            );
        }
    }
}
