//! The door: whose name was asked for, and which page asks. In front of every handler.
//!
//! A browser may be made to send requests by any page that its user visits. A foreign `Host` is
//! DNS rebinding and gets 421 before anything is looked at; what changes something must come from
//! a page of ours. Also sets the headers that every answer has, and counts answers.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{self, HOST, ORIGIN},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::{
    access::Seen,
    answer,
    answer::Refusal,
    app::App,
    limits::blocks::{Peer, Visitor},
};

/// Pages load nothing but our own style sheet, script and event stream.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What every answer says unless its handler said otherwise.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not `no-referrer`: with it browsers send `Origin: null` for our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-cache"),
];

/// Checks the host, says who asks, lets the handler work, completes its answer.
pub(super) async fn stand(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    // Every connection has a peer; without one nobody is taken for the operator.
    let peer = request.extensions().get::<Peer>().copied();
    let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(address)| address);
    let (mut visitor, address, has_hosts) = {
        let rules = &app.told.borrow().rules;
        let seen = Visitor::of(peer, request.headers(), &app.trusted_proxies, rules);
        (seen.0, seen.1, rules.has_hosts())
    };
    if has_hosts && !visitor.is_operator && !visitor.is_barred {
        let name = app.host_names.get(address.to_canonical()).await;
        let is_bad = |name: Arc<str>| app.told.borrow().rules.bars_name(&name);
        visitor.is_barred = name.is_some_and(is_bad);
    }
    request.extensions_mut().insert(visitor);
    let seen = app.access_log.then(|| Seen::of(&request, visitor, &app));
    let accept = match answer::Accept::of(request.headers()) {
        answer::Accept::Text if request.uri().path().starts_with("/api/") => answer::Accept::Json,
        accept => accept,
    };
    let response = if is_our_host(request.uri(), request.headers(), &app.hosts) {
        name_host(&mut request);
        next.run(request).await
    } else {
        app.metrics.hosts_refused.fetch_add(1, Relaxed);
        Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "foreign_host",
            "this service does not answer under that host name",
            "use its configured name, or add the name to the configuration",
        )
        .into_response()
    };
    let mut response = answer::negotiate(response, accept);
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    app.metrics.request(response.status().as_u16());
    if let Some(seen) = seen {
        seen.trace(response.status(), &app);
    }
    response
}

/// Puts the host where everybody behind this door looks for it: in HTTP/2 it is part of the address
/// (RFC 9113, 8.3.1), and where both are given that one counts.
fn name_host(request: &mut Request) {
    let host = request.uri().authority();
    let host = host.and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
}

/// Whether the request names us: one host, a configured name or a loopback literal, any port.
fn is_our_host(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> bool {
    let mut named = headers.get_all(HOST).iter();
    let host = match (named.next(), named.next()) {
        (Some(host), None) => host.to_str().ok(),
        (None, _) => uri.authority().map(|authority| authority.as_str()),
        _ => None,
    };
    let is_ours = |host: &str| {
        host_name(host).is_some_and(|name| {
            let is_loopback = name
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
            is_loopback || hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
        })
    };
    host.is_some_and(is_ours) && uri.authority().is_none_or(|named| is_ours(named.as_str()))
}

/// The name or address of `name:port`, `[address]:port`.
fn host_name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            (
                name,
                port.strip_prefix(':').or(port.is_empty().then_some("")),
            )
        }
        None => host
            .split_once(':')
            .map_or((host, Some("")), |(name, port)| (name, Some(port))),
    };
    let is_port = port?.len() <= 5 && port?.bytes().all(|b| b.is_ascii_digit());
    (is_port && !name.is_empty()).then_some(name)
}

/// Stands in front of a body that changes something: nobody else's page is read to its end.
pub(super) struct SameOrigin;

impl FromRequestParts<Arc<App>> for SameOrigin {
    type Rejection = Refusal;

    async fn from_request_parts(head: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        check_same_origin(app, &head.headers).map(|()| Self)
    }
}

/// Stands in front of the body of a program's question, see [`may_wait`].
pub(super) struct MayWait;

impl FromRequestParts<Arc<App>> for MayWait {
    type Rejection = Refusal;

    async fn from_request_parts(head: &mut Parts, _: &Arc<App>) -> Result<Self, Refusal> {
        match may_wait(&head.headers) {
            true => Ok(Self),
            false => Err(Refusal::other_origin()),
        }
    }
}

/// Whether a page of ours, or a person, sent this request that changes something.
pub(super) fn check_same_origin(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let is_ours = match text(headers, "sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "none"),
        None => is_own_origin(headers) == Some(true),
    };
    if is_ours {
        return Ok(());
    }
    app.metrics.origins_refused.fetch_add(1, Relaxed);
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "other_origin",
        "only a page of this service may ask for that",
        "open the page here and use its button; a program sends `Origin` with our address",
    ))
}

/// Whether an event stream may start a build: not for a page of somebody else.
pub(super) fn may_start(headers: &HeaderMap) -> bool {
    match text(headers, "sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => is_own_origin(headers) != Some(false),
    }
}

/// Whether a plain request may start a build and wait for it. Programs send no `Sec-Fetch-Site`; a
/// person who types an address sends `none`; an image or a link on somebody else's page does not
/// make this machine build and log something.
pub(super) fn may_wait(headers: &HeaderMap) -> bool {
    text(headers, "sec-fetch-site") == Some("none") || may_start(headers)
}

/// Whether `Origin` is this host; nothing when the header is missing.
fn is_own_origin(headers: &HeaderMap) -> Option<bool> {
    let origin = headers.get(ORIGIN)?.to_str().unwrap_or_default();
    let origin = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    let host = text(headers, "host");
    Some(
        origin
            .zip(host)
            .is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host)),
    )
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn configured_names_and_loopback_literals_are_ours_with_any_port() {
        let hosts = ["localhost".to_owned(), "build.example.org".to_owned()];
        let is_ours =
            |host| is_our_host(&Uri::from_static("/"), &headers(&[("host", host)]), &hosts);
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1",
            "127.8.9.1:1",
            "[::1]:8000",
            "[::1]",
            "build.example.org:443",
        ] {
            assert!(is_ours(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:8000:1",
            "localhost:x",
            "[::2]",
            "[::1",
            "::1",
            "10.0.0.1",
            "0.0.0.0",
            "localhost:123456",
            "evil@localhost",
            "[::1]x",
            "2130706433",
            "localhost.",
        ] {
            assert!(!is_ours(host), "{host}");
        }
        let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(!is_our_host(&Uri::from_static("/"), &twice, &hosts));
        let absolute = Uri::from_static("http://evil.example/");
        assert!(!is_our_host(
            &absolute,
            &headers(&[("host", "localhost")]),
            &hosts
        ));
        assert!(!is_our_host(&Uri::from_static("/"), &headers(&[]), &hosts));
    }

    #[test]
    fn an_event_stream_of_another_page_starts_nothing() {
        let host = ("host", "127.0.0.1:8000");
        for (site, origin, may) in [
            (Some("same-origin"), None, true),
            (Some("same-site"), None, false),
            (Some("cross-site"), Some("http://127.0.0.1:8000"), false),
            (Some("none"), None, false),
            (None, None, true),
            (None, Some("http://127.0.0.1:8000"), true),
            (None, Some("http://127.0.0.1:8001"), false),
            (None, Some("null"), false),
        ] {
            let mut pairs = vec![host];
            pairs.extend(site.map(|site| ("sec-fetch-site", site)));
            pairs.extend(origin.map(|origin| ("origin", origin)));
            assert_eq!(may_start(&headers(&pairs)), may, "{pairs:?}");
        }
    }
}
