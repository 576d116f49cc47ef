//! Whoever sits between a client and a service: hands on everything, and changes some of it.

use std::net::{SocketAddr, TcpListener};

use axum::{
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
    response::IntoResponse,
};

use super::proxy;
use crate::http::{self, runtime};

/// Changes a body.
pub type Change = fn(Vec<u8>) -> Vec<u8>;

/// Listens on loopback and asks `target` for everything; answers to paths that contain `part` are
/// changed on the way.
pub fn start(target: String, part: &'static str, change: Change) -> SocketAddr {
    serve(target, part, move |body| Body::from(change(body)))
}

/// The same, but these answers never end.
pub fn endless(target: String, part: &'static str) -> SocketAddr {
    serve(target, part, |_| proxy::endless())
}

fn serve<F>(target: String, part: &'static str, change: F) -> SocketAddr
where
    F: Fn(Vec<u8>) -> Body + Clone + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .set_nonblocking(true)
        .expect("a listener can be non-blocking");
    let address = listener.local_addr().expect("a listener has an address");
    let app = axum::Router::new().fallback(move |request: Request| {
        let url = format!("{target}{}", request.uri());
        let change = change.clone();
        async move {
            let asked = url.clone();
            let answer = tokio::task::spawn_blocking(move || http::get(&asked)).await;
            let answer = answer.expect("the service answers");
            let body = if url.contains(part) {
                change(answer.body)
            } else {
                Body::from(answer.body)
            };
            let status = StatusCode::from_u16(answer.status).expect("a valid status");
            let response: Response<_> = (status, body).into_response();
            response
        }
    });
    runtime().spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
        axum::serve(listener, app)
            .await
            .expect("serving does not end");
    });
    address
}
