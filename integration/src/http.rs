//! The HTTP client of the tests, and requests written byte by byte where a client would refuse.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::OnceLock,
    time::Duration,
};

use tokio::runtime::Runtime;

/// The runtime that all tests share; tests themselves are plain functions.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime can be made")
    })
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header field, or nothing.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }
}

fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        let builder = reqwest::Client::builder();
        let builder = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        builder
            .timeout(Duration::from_mins(5))
            .build()
            .expect("a client can be made")
    })
}

/// A GET; redirects are not followed.
pub fn get(url: &str) -> Answer {
    get_with(url, &[])
}

/// A GET with header fields.
pub fn get_with(url: &str, headers: &[(&str, &str)]) -> Answer {
    send(client().get(url), headers)
}

/// A request without a body, of any method.
pub fn send_with(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let method = method.parse().expect("a method");
    send(client().request(method, url), headers)
}

/// A POST of a form.
pub fn post_with(url: &str, form: &str, headers: &[(&str, &str)]) -> Answer {
    let request = client().post(url).body(form.to_owned());
    send(
        request.header("content-type", "application/x-www-form-urlencoded"),
        headers,
    )
}

/// A POST of a JSON document.
pub fn post_json(url: &str, json: &[u8]) -> Answer {
    let request = client().post(url).body(json.to_owned());
    send(
        request,
        &[
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ],
    )
}

/// A GET that follows redirects within the same host, at most ten.
pub fn get_following(base: &str, path: &str) -> (String, Answer) {
    let mut path = path.to_owned();
    for _ in 0..10 {
        let answer = get(&format!("{base}{path}"));
        if !(300..400).contains(&answer.status) {
            return (path, answer);
        }
        let target = answer.header("location");
        path = target.strip_prefix(base).unwrap_or(target).to_owned();
    }
    panic!("more than ten redirects from `{path}`");
}

fn send(request: reqwest::RequestBuilder, headers: &[(&str, &str)]) -> Answer {
    try_send(request, headers).expect("the service answers")
}

/// A GET of a service that may die meanwhile: nothing unless the answer arrived whole.
pub fn try_get(url: &str) -> Option<Answer> {
    try_send(client().get(url), &[]).ok()
}

fn try_send(
    mut request: reqwest::RequestBuilder,
    headers: &[(&str, &str)],
) -> Result<Answer, reqwest::Error> {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    runtime().block_on(async {
        let response = request.send().await?;
        let headers = response.headers().iter().map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        let headers = headers.collect();
        let status = response.status().as_u16();
        let body = response.bytes().await?.to_vec();
        Ok(Answer {
            status,
            headers,
            body,
        })
    })
}

/// Sends these very bytes and reads until the other side closes, or `time_max` passes.
pub fn raw(address: SocketAddr, bytes: &[u8], time_max: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the service listens");
    stream
        .set_read_timeout(Some(time_max))
        .expect("a socket has timeouts");
    stream
        .set_write_timeout(Some(time_max))
        .expect("a socket has timeouts");
    // The other side may answer and close before it has read everything.
    let sent = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count) = stream.read(&mut part) {
        if count == 0 || answer.len() > 1 << 20 {
            break;
        }
        answer.extend_from_slice(&part[..count]);
    }
    drop(sent);
    answer
}

/// The status in a raw answer; 0 when the connection was closed without one.
pub fn raw_status(answer: &[u8]) -> u16 {
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    head.split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}
