//! A verifier of another kind: an instance of gobuild, or whoever has a log of its form.
//!
//! It gives no observations; it is asked for the record in its own log, which it makes when there
//! is none, and the record is proven as `hotcell get --gobuild` proves it: signed head, inclusion,
//! consistency with the head that was seen before. Its word is weaker: 160 bits of the hash. And it
//! may ask others itself before it answers: two instances must never verify each other in this way.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    Carrier,
    ask::{FAILURES_MAX, WAIT_MIN},
};
use crate::{
    get::{self, GetError, Http, Request},
    proxy::{self, Boxed, Limits, Sink, Transport, Url},
    spec::{BuildKey, Record, Variant},
    tlog::VerifierKey,
};

/// A record that is proven to be in the verifier's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The record.
    pub record: Record,
    /// The answer to the lookup: record and signed head.
    pub answer: Vec<u8>,
}

/// Looks a build up in the log of verifier number `verifier` at `url`, which ends in `/tlog`.
/// `state` keeps the heads of logs. The error is a sentence for a person.
pub async fn ask(
    carrier: &Arc<dyn Carrier>,
    verifier: usize,
    log: (&VerifierKey, &Url),
    state: &Path,
    key: &BuildKey,
) -> Result<Recorded, String> {
    let (log_key, url) = log;
    let url = url.as_str().trim_end_matches('/').to_owned();
    let way = Arc::new(Way {
        carrier: Arc::clone(carrier),
        verifier,
        below: format!("{url}/"),
        looked_up: Mutex::default(),
    });
    let http = Http {
        lookup: Arc::clone(&way) as _,
        rest: Arc::clone(&way) as _,
    };
    let request = request(key, log_key, url);
    let (mut failures, mut wait) = (0, WAIT_MIN);
    let got = loop {
        match get::get(&request, state, &http).await {
            Ok(got) => break got,
            Err(GetError::Unavailable { .. }) if failures + 1 < FAILURES_MAX => {
                failures += 1;
                tokio::time::sleep(wait).await;
                wait *= 2;
            }
            Err(error) => return Err(sentence(&error)),
        }
    };
    if got.record.key != *key {
        return Err("its record is about another build".to_owned());
    }
    let answer = way.looked_up.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Recorded {
        record: got.record,
        answer: answer.clone(),
    })
}

fn request(key: &BuildKey, log: &VerifierKey, url: String) -> Request {
    let slash = if key.dir.is_root() { "" } else { "/" };
    Request {
        spec: format!(
            "{}@{}{slash}{}",
            key.module.path, key.module.version, key.dir
        ),
        verifier_key: log.to_string(),
        url: Some(url),
        sum: None,
        target: Some(format!("{}/{}", key.target.goos(), key.target.goarch())),
        go: Some(key.go.to_string()),
        stripped: key.variant == Variant::Stripped,
        bindir: Path::new(".").to_owned(),
        download: false,
        gobuild: true,
    }
}

/// With all causes. What a log contradicts itself about is told to a person as well.
fn sentence(error: &GetError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    if matches!(error, GetError::Fork { .. } | GetError::Proof(_)) {
        tracing::error!("a verifier's log: {text}");
    }
    text
}

/// Requests below the log's address, through the carrier.
struct Way {
    carrier: Arc<dyn Carrier>,
    verifier: usize,
    below: String,
    looked_up: Mutex<Vec<u8>>,
}

impl Transport for Way {
    fn get<'a>(
        &'a self,
        url: &'a Url,
        limits: Limits,
        sink: &'a mut dyn Sink,
    ) -> Boxed<'a, Result<(), proxy::GetError>> {
        Box::pin(async move {
            let network = |why: &str| proxy::GetError::Network(why.to_owned());
            let path = url.as_str().strip_prefix(&self.below);
            let path = path.ok_or_else(|| network("not an address of this log"))?;
            let said = self.carrier.read(self.verifier, path).await;
            let (code, body) = said.map_err(|why| network(&why))?;
            if code != 200 {
                let said = proxy::Said::first_line(&body);
                return Err(proxy::GetError::Status { code, said });
            }
            if body.len() as u64 > limits.bytes_max {
                let bytes_max = limits.bytes_max;
                return Err(proxy::GetError::TooLong { bytes_max });
            }
            if path.starts_with("lookup/") {
                let mut kept = self
                    .looked_up
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                kept.clone_from(&body);
            }
            sink.begin(Some(body.len() as u64))
                .and_then(|()| sink.chunk(&body))
                .map_err(proxy::GetError::Sink)
        })
    }
}
