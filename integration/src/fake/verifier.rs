//! Whoever answers for a verifier: asks an instance, and is honest about the answer or not.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use hotcell::{provenance, spec::Sum};
use serde_json::Value;

use super::proxy;
use crate::http::{self, runtime};

/// What it does with an answer of the instance behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Hands it on.
    Honest,
    /// Says the same with its own key.
    Agrees,
    /// Says with its own key that it got other bits.
    Lies,
    /// Says something else.
    Garbage,
    /// Never ends.
    Endless,
    /// Never begins.
    Silent,
    /// Says that it cannot build.
    Refuses,
}

/// Listens on loopback before the instance behind it exists.
#[derive(Debug)]
pub struct Verifier {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    behind: Arc<OnceLock<String>>,
}

/// Its own key; an instance's is never this one.
fn own() -> SigningKey {
    SigningKey::from_bytes(&[0x5a; 32])
}

impl Verifier {
    /// Starts it.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let this = Self {
            address,
            manner: Arc::new(Mutex::new(manner)),
            behind: Arc::default(),
        };
        let (manner, behind) = (Arc::clone(&this.manner), Arc::clone(&this.behind));
        let app = axum::Router::new().fallback(move |body: Bytes| {
            let manner = *manner.lock().expect("nobody panics");
            let behind = behind.get().cloned();
            async move { answer(manner, behind, body).await }
        });
        runtime().spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
            axum::serve(listener, app)
                .await
                .expect("serving does not end");
        });
        this
    }

    /// The instance behind it, by its address; once.
    ///
    /// # Panics
    /// When there is one already.
    pub fn set_behind(&self, url: String) {
        self.behind.set(url).expect("nobody was behind it yet");
    }

    /// Changes what it does.
    ///
    /// # Panics
    /// When another thread has panicked.
    pub fn set_manner(&self, manner: Manner) {
        *self.manner.lock().expect("nobody panics") = manner;
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// For `--verifier`, with its own key.
    pub fn option(&self, name: &str) -> String {
        let key = provenance::observation::key_text(&own().verifying_key().to_bytes());
        format!("{name} {key} {}", self.url())
    }
}

async fn answer(manner: Manner, behind: Option<String>, question: Bytes) -> Response {
    let Some(behind) = behind else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    match manner {
        Manner::Garbage => return "<html>moved</html>".into_response(),
        Manner::Endless => return proxy::endless().into_response(),
        Manner::Silent => tokio::time::sleep(Duration::from_hours(1)).await,
        Manner::Refuses => {
            let body = r#"{"code":"build_failed","detail":"no\u001b[31m","remedy":""}"#;
            return (StatusCode::NOT_FOUND, body).into_response();
        }
        Manner::Honest | Manner::Agrees | Manner::Lies => {}
    }
    let url = format!("{behind}/api/v1/observations");
    let asked = tokio::task::spawn_blocking(move || http::post_json(&url, &question));
    let answer = asked.await.expect("the instance answers");
    let status = StatusCode::from_u16(answer.status).expect("a valid status");
    let body = match manner {
        Manner::Agrees | Manner::Lies if status == StatusCode::OK => {
            resigned(&answer.body, manner == Manner::Lies)
        }
        _ => answer.body,
    };
    (status, Body::from(body)).into_response()
}

/// The same observation, or one of other bits, with our own key.
fn resigned(body: &[u8], lie: bool) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(body).expect("JSON");
    let envelope = body["envelope"].as_str().expect("an envelope");
    let mut statement = statement(envelope);
    if lie {
        let other = [7; 32];
        statement["subject"][0]["digest"]["sha256"] = hotcell::spec::hex(&other).into();
        statement["predicate"]["sum"] = Sum::of(&other).to_string().into();
    }
    let statement = statement.to_string().into_bytes();
    let signature = own().sign(&provenance::pre_authentication(&statement));
    let key = own().verifying_key().to_bytes();
    let envelope = provenance::envelope(&statement, &key, &signature.to_bytes());
    body["envelope"] = String::from_utf8(envelope).expect("JSON is text").into();
    body.to_string().into_bytes()
}

/// The statement in an envelope, unverified.
///
/// # Panics
/// When it is no envelope.
pub fn statement(envelope: &str) -> Value {
    let envelope: Value = serde_json::from_str(envelope).expect("an envelope is JSON");
    let payload = envelope["payload"].as_str().expect("it has a payload");
    let payload = STANDARD.decode(payload).expect("in base64");
    serde_json::from_slice(&payload).expect("a statement is JSON")
}
