//! HTTP(S) with limits. Certificates are judged by the platform's verifier and roots.

use std::time::Duration;

use reqwest::{
    Client, Response, StatusCode, Url,
    header::{DATE, HeaderValue},
    redirect::Policy,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Boxed, GetError, Limits, Said, Sink, Transport};

/// Most redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Longest time for a connection.
const CONNECT: Duration = Duration::from_secs(15);
/// Bytes of an error's body that are read for its first line.
const ERROR_BYTES_MAX: usize = 1024;

/// The transport of real life.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    /// Longest silence before the head of an answer, and between two parts of its body.
    stall: Duration,
}

impl Http {
    /// Longest silence unless configured otherwise; a proxy may fetch the module first.
    pub const STALL: Duration = Duration::from_secs(60);

    /// Loads the platform's roots.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(stall: Duration) -> Result<Self, GetError> {
        let client = Client::builder()
            .user_agent(concat!("hotcell/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(Policy::custom(redirect))
            .referer(false) // an address may hold credentials
            .no_proxy()
            .build()
            .map_err(|error| network(&error))?;
        Ok(Self { client, stall })
    }

    async fn body(&self, url: &Url, limits: Limits, sink: &mut dyn Sink) -> Result<(), GetError> {
        let stalled = |_| GetError::TimedOut(self.stall);
        let request = self.client.get(url.clone()).send();
        let mut response = timeout(self.stall, request)
            .await
            .map_err(stalled)?
            .map_err(|e| network(&e))?;
        if response.status() != StatusCode::OK {
            let code = response.status().as_u16();
            return Err(GetError::Status {
                code,
                said: self.first_line(&mut response).await,
            });
        }
        if let Some(Ok(date)) = response.headers().get(DATE).map(HeaderValue::to_str) {
            sink.date(date);
        }
        let bytes_total = response.content_length();
        let too_long = GetError::TooLong {
            bytes_max: limits.bytes_max,
        };
        if bytes_total.is_some_and(|total| total > limits.bytes_max) {
            return Err(too_long);
        }
        sink.begin(bytes_total).map_err(GetError::Sink)?;
        let mut bytes = 0;
        loop {
            let next = timeout(self.stall, response.chunk())
                .await
                .map_err(stalled)?;
            let Some(chunk) = next.map_err(|error| network(&error))? else {
                return Ok(());
            };
            bytes += chunk.len() as u64;
            if bytes > limits.bytes_max {
                return Err(too_long);
            }
            sink.chunk(&chunk).map_err(GetError::Sink)?;
        }
    }

    /// What an error's body says; nothing when that fails too.
    async fn first_line(&self, response: &mut Response) -> Said {
        let mut body = Vec::new();
        while body.len() < ERROR_BYTES_MAX {
            match timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                _ => break,
            }
        }
        body.truncate(ERROR_BYTES_MAX);
        Said::first_line(&body)
    }
}

impl Transport for Http {
    fn get<'a>(
        &'a self,
        url: &'a Url,
        limits: Limits,
        sink: &'a mut dyn Sink,
    ) -> Boxed<'a, Result<(), GetError>> {
        Box::pin(async move {
            timeout_at(Instant::now() + limits.total, self.body(url, limits, sink))
                .await
                .map_err(|_| GetError::TimedOut(limits.total))?
        })
    }
}

fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    match check_redirect(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    }
}

/// Few redirects, and never from an encrypted connection to an open one.
fn check_redirect(previous: &[Url], next: &Url) -> Result<(), &'static str> {
    let from_https = previous.iter().any(|url| url.scheme() == "https");
    if previous.len() > REDIRECTS_MAX {
        Err("too many redirects")
    } else if from_https && next.scheme() != "https" {
        Err("redirect from https to http")
    } else {
        Ok(())
    }
}

/// The innermost cause. Outer ones name the address.
fn network(error: &reqwest::Error) -> GetError {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if cause.is::<reqwest::Error>() {
        // No cause inside: only the kind is safe to show.
        let kind = if error.is_redirect() {
            "bad redirect"
        } else {
            "bad request or answer"
        };
        return GetError::Network(kind.to_owned());
    }
    GetError::Network(Said::first_line(cause.to_string().as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_few_and_never_to_an_open_connection() {
        use std::slice::from_ref;
        let url = |text: &str| Url::parse(text).unwrap();
        let (open, secure) = (url("http://a.test/"), url("https://a.test/"));
        assert!(check_redirect(from_ref(&open), &open).is_ok());
        assert!(check_redirect(from_ref(&open), &secure).is_ok());
        assert!(check_redirect(from_ref(&secure), &secure).is_ok());
        assert!(check_redirect(from_ref(&secure), &open).is_err());
        assert!(check_redirect(&[open.clone(), secure.clone()], &open).is_err());
        assert!(check_redirect(&vec![secure.clone(); REDIRECTS_MAX], &secure).is_ok());
        assert!(check_redirect(&vec![secure.clone(); REDIRECTS_MAX + 1], &secure).is_err());
    }
}
