//! The addresses below `/witness/`: this instance remembers and cosigns the heads of other logs
//! (C2SP `tlog-witness.md`).
//!
//! Answers everybody who has a head that a known log has signed; what is no such head ends here and
//! costs the role `sign` nothing. Who cosigns is that role, through [`Cosign`]; it verifies all of
//! it again. Nothing here may ever tell a cosignature that did not come from it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header::CONTENT_TYPE},
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{Mutex as Place, OwnedMutexGuard, oneshot, watch},
};

use super::{
    answer,
    answer::{Accept, NO_STORE, Refusal},
    guard,
    listen::{self, Door},
    metrics::Metrics,
    tlog::{HEAD_CACHE, note},
    tls::Tls,
    words,
};
use crate::{
    log::{
        SignError,
        sign::{Cosign, CosignError, Cosigned},
    },
    tlog::{
        VerifierKey,
        judge::{self, Denied, Offered},
        text::checkpoint_text,
        witness::{REQUEST_BYTES_MAX, SIZE_TYPE, log_id},
    },
};

/// Where it answers, on the public side.
pub const PREFIX: &str = "/witness/";
/// How long a request waits for others of its log, which are answered one after the other.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Shortest time between two heads of one log: each costs a write of the role that signs our own.
const GAP: Duration = Duration::from_millis(50);
/// How long a request may take to come in.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The witness of other logs that this instance is.
pub struct Cosigning {
    logs: Vec<VerifierKey>,
    cosigner: Arc<dyn Cosign>,
    /// What was cosigned last, by [`log_id`].
    seen: Mutex<BTreeMap<String, Cosigned>>,
    /// Logs that have shown another head of the size that was cosigned: their own two signatures.
    forks: Mutex<BTreeMap<String, u64>>,
    /// One for each log, so that a log is in nobody's way but its own.
    places: BTreeMap<String, Arc<Place<()>>>,
    denied: AtomicU64,
}

/// How it stands with a log that is witnessed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessed {
    /// Name of its key.
    pub origin: String,
    /// Records of the head that was cosigned last, and when in seconds since 1970; nothing before
    /// the first.
    pub last: Option<(u64, u64)>,
    /// It has signed two heads of one size.
    pub forked: bool,
}

impl fmt::Debug for Cosigning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let logs = &self.logs;
        f.debug_struct("Cosigning")
            .field("logs", logs)
            .finish_non_exhaustive()
    }
}

impl Cosigning {
    /// Asks what was cosigned before; the cosigner is one of these logs.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn open(logs: Vec<VerifierKey>, cosigner: Arc<dyn Cosign>) -> Result<Self, SignError> {
        let mut seen = BTreeMap::new();
        for log in &logs {
            if let Some(cosigned) = cosigner.seen(log.name())? {
                seen.insert(log_id(log.name()), cosigned);
            }
        }
        let place = |log: &VerifierKey| (log.name().to_owned(), Arc::default());
        Ok(Self {
            places: logs.iter().map(place).collect(),
            logs,
            cosigner,
            seen: Mutex::new(seen),
            forks: Mutex::default(),
            denied: AtomicU64::new(0),
        })
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<String, Cosigned>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forks(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.forks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All logs, in the order in which they were named.
    #[must_use]
    pub fn standings(&self) -> Vec<Witnessed> {
        let (seen, forks) = (self.seen(), self.forks());
        let one = |log: &VerifierKey| Witnessed {
            origin: log.name().to_owned(),
            last: seen
                .get(&log_id(log.name()))
                .map(|cosigned| (cosigned.size, cosigned.time_s)),
            forked: forks.contains_key(log.name()),
        };
        self.logs.iter().map(one).collect()
    }

    /// Heads that were not cosigned since the start.
    #[must_use]
    pub fn denials(&self) -> u64 {
        self.denied.load(Relaxed)
    }

    /// What the home page and health say.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let standings = self.standings();
        let one = |log: &Witnessed| match log.last {
            Some((size, time_s)) => {
                let when = words::time(time_s.saturating_mul(1_000));
                format!("{} ({size} records, {when})", log.origin)
            }
            None => format!("{} (no head yet)", log.origin),
        };
        let all: Vec<String> = standings.iter().map(one).collect();
        let forks = self.forks();
        let forks = forks.iter().map(|(origin, size)| {
            format!("{origin} has signed two different heads of {size} records: a fork")
        });
        let heads = format!("witness of {}", all.join(", "));
        [heads].into_iter().chain(forks).collect()
    }

    /// The place of a log, once those before it were answered.
    async fn place(&self, origin: &str) -> Option<OwnedMutexGuard<()>> {
        let place = Arc::clone(self.places.get(origin)?);
        tokio::time::timeout(PLACE_TIMEOUT, place.lock_owned())
            .await
            .ok()
    }

    /// Cosigns in a task of its own: an asker who goes away changes neither order nor memory.
    async fn cosign(
        self: &Arc<Self>,
        body: String,
        place: OwnedMutexGuard<()>,
    ) -> Result<Cosigned, CosignError> {
        let this = Arc::clone(self);
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let result = this.ask(body).await;
            let good = result.is_ok();
            let _gone = answer.send(result);
            if good {
                tokio::time::sleep(GAP).await;
            }
            drop(place);
        });
        answered
            .await
            .unwrap_or_else(|error| Err(SignError::Io(Box::new(error)).into()))
    }

    /// Asks where it may block, and keeps the answer for monitors.
    async fn ask(&self, body: String) -> Result<Cosigned, CosignError> {
        let cosigner = Arc::clone(&self.cosigner);
        let done = tokio::task::spawn_blocking(move || cosigner.cosign(&body)).await;
        let cosigned = done.unwrap_or_else(|error| Err(SignError::Io(Box::new(error)).into()))?;
        let id = log_id(&cosigned.origin);
        self.seen().insert(id, cosigned.clone());
        Ok(cosigned)
    }

    /// Keeps in mind that a log has signed two heads of one size, which nobody can explain away.
    fn compare(&self, offered: &Offered<'_>) {
        let (origin, size) = (offered.log.name(), offered.tree.size);
        let seen = self.seen();
        let Some(last) = seen.get(&log_id(origin)).filter(|last| last.size == size) else {
            return;
        };
        let same = last
            .checkpoint
            .starts_with(&checkpoint_text(origin, &offered.tree));
        if !same && self.forks().insert(origin.to_owned(), size).is_none() {
            tracing::error!(
                "log {origin} is forked: it has signed two heads of {size} records; keep both: \
                 {:?} {:?}",
                last.checkpoint,
                offered.checkpoint,
            );
        }
    }
}

/// The witness of this instance, if it is one.
type Ours = Option<Arc<Cosigning>>;

/// The addresses of a witness.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(ours: Ours) -> Router<S> {
    let route = get(show).post(add);
    Router::new()
        .route("/witness/{*path}", route)
        .with_state(ours)
}

/// The addresses of a witness on an instance that does nothing else yet.
pub(super) fn early(cosigning: Arc<Cosigning>) -> Router {
    let starting = || async { Refusal::busy("the service is starting") };
    let plain = async |request: Request, next: Next| {
        // Programs ask here, and all that can be asked for is public.
        answer::negotiate(next.run(request).await, Accept::Text)
    };
    routes(Some(cosigning))
        .fallback(starting)
        .layer(middleware::from_fn(plain))
}

/// Answers as a witness until `stop` becomes true. Of two instances that are each other's witness
/// and start at the same moment, each asks the other one before it takes entries.
pub async fn answer_early(
    listener: TcpListener,
    cosigning: Arc<Cosigning>,
    tls: Option<Arc<Tls>>,
    stop: watch::Receiver<bool>,
) {
    let door = Door {
        router: early(cosigning),
        tls,
        metrics: Arc::new(Metrics::default()), // the service counts from its start
    };
    listen::accept(listener, door, Arc::default(), stop).await;
}

/// `POST /witness/add-checkpoint`
async fn add(
    State(ours): State<Ours>,
    headers: HeaderMap,
    uri: Uri,
    body: Body,
) -> Result<Response, Refusal> {
    let cosigning = witness(&ours)?;
    if uri.path().strip_prefix(PREFIX) != Some("add-checkpoint") {
        return Err(nothing_here());
    }
    // A page of another site could do no harm here, but it has no business either. Programs name
    // no origin.
    if !guard::may_wait(&headers) {
        cosigning.denied.fetch_add(1, Relaxed);
        return Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "other_origin",
            "a page of another site may not ask for a cosignature",
            "ask with a program of the log",
        ));
    }
    let answer = judged(cosigning, body).await;
    if answer.is_err()
        || answer
            .as_ref()
            .is_ok_and(|it| it.status() != StatusCode::OK)
    {
        cosigning.denied.fetch_add(1, Relaxed);
    }
    answer
}

async fn judged(cosigning: &Arc<Cosigning>, body: Body) -> Result<Response, Refusal> {
    let read = to_bytes(body, REQUEST_BYTES_MAX);
    let Ok(Ok(bytes)) = tokio::time::timeout(BODY_TIMEOUT, read).await else {
        return denied(Denied::Malformed);
    };
    let offered = match judge::open(&bytes, &cosigning.logs) {
        Ok(offered) => offered,
        Err(why) => return denied(why),
    };
    let Some(place) = cosigning.place(offered.log.name()).await else {
        return Err(Refusal::busy(
            "too many heads of this log wait to be cosigned",
        ));
    };
    // What could be opened is text.
    let text = String::from_utf8(bytes.to_vec()).unwrap_or_default();
    match cosigning.cosign(text, place).await {
        Ok(cosigned) => Ok(note(cosigned.line, NO_STORE)),
        Err(CosignError::Denied(why)) => {
            if why == Denied::Inconsistent {
                cosigning.compare(&offered);
            }
            denied(why)
        }
        Err(CosignError::Sign(cause)) => Err(Refusal::internal(&cause)),
    }
}

/// The status that the protocol has for each reason.
fn denied(why: Denied) -> Result<Response, Refusal> {
    let form = "see https://c2sp.org/tlog-witness";
    let (status, code, remedy) = match why {
        Denied::Stale { size } => {
            let mut response = Response::new(format!("{size}\n").into());
            *response.status_mut() = StatusCode::CONFLICT;
            let kind = HeaderValue::from_static(SIZE_TYPE);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            return Ok(answer::cached(response, NO_STORE));
        }
        Denied::Malformed => (StatusCode::BAD_REQUEST, "bad_request", form),
        Denied::Smaller => (StatusCode::BAD_REQUEST, "bad_size", form),
        Denied::UnknownLog => (
            StatusCode::NOT_FOUND,
            "unknown_log",
            "its operator names logs with --witness-log",
        ),
        Denied::Unsigned => (
            StatusCode::FORBIDDEN,
            "unsigned",
            "compare the log's key with the one that the operator of this witness has",
        ),
        Denied::Inconsistent => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "inconsistent",
            "compare the log with the head at <prefix>/<origin hash>/checkpoint",
        ),
    };
    Err(Refusal::new(status, code, &why.to_string(), remedy))
}

/// `GET /witness/<SHA-256 of the origin>/checkpoint`
async fn show(State(ours): State<Ours>, uri: Uri) -> Result<Response, Refusal> {
    let cosigning = witness(&ours)?;
    let path = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let id = path.strip_suffix("/checkpoint").ok_or_else(nothing_here)?;
    let seen = cosigning.seen();
    let cosigned = seen.get(id);
    let none = || Refusal::not_found("this witness has cosigned no head of such a log");
    Ok(note(
        cosigned.ok_or_else(none)?.checkpoint.clone(),
        HEAD_CACHE,
    ))
}

fn witness(ours: &Ours) -> Result<&Arc<Cosigning>, Refusal> {
    let none = || Refusal::not_found("this instance is no witness of other logs");
    ours.as_ref().ok_or_else(none)
}

fn nothing_here() -> Refusal {
    Refusal::not_found("a witness has add-checkpoint and <origin hash>/checkpoint, nothing else")
}
