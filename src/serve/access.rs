//! The access log: a line of the trace for each request, when the operator wants one.
//!
//! Called by the door. Of a client only the wider block is written down, which many share; what
//! somebody searched for stands in the query and is left out. What a client sent is cut and made
//! visible, so that nobody writes lines of their own. Under the target `access`, by which a filter
//! (`RUST_LOG`) or whoever collects the trace can tell it apart.

use axum::{
    extract::Request,
    http::{StatusCode, header::USER_AGENT},
};
use tracing::info;

use super::{app::App, limits::blocks::Visitor, pages::clean};

/// Longest path and User-Agent that are written, in characters.
const TEXT_MAX: usize = 300;

/// What is known of a request before it is answered.
#[derive(Debug)]
pub(super) struct Seen {
    client: String,
    method: String,
    path: String,
    agent: String,
    since_ms: u64,
}

impl Seen {
    pub(super) fn of(request: &Request, visitor: Visitor, app: &App) -> Self {
        let agent = request.headers().get(USER_AGENT);
        let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        Self {
            client: visitor.client.wide().to_string(),
            method: cut(request.method().as_str()),
            path: cut(request.uri().path()),
            agent: cut(&agent.unwrap_or_default()),
            since_ms: app.clock.now_ms(),
        }
    }

    /// Writes the line. The time is that until the answer began.
    pub(super) fn trace(self, status: StatusCode, app: &App) {
        let Self {
            client,
            method,
            path,
            agent,
            since_ms,
        } = self;
        let (status, duration_ms) = (status.as_u16(), app.clock.now_ms().saturating_sub(since_ms));
        info!(
            target: "access",
            client, method, path, status, duration_ms, agent, "{method} {path} {status}"
        );
    }
}

fn cut(text: &str) -> String {
    clean(&text.chars().take(TEXT_MAX).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_one_line_of_bounded_length() {
        let sent = format!("a\nb\r\u{1b}[31m\u{202e}{}", "x".repeat(10_000));
        let written = cut(&sent);
        assert!(!written.contains(char::is_control), "{written}");
        assert!(!written.contains('\u{202e}'));
        assert!(written.chars().count() < 2 * TEXT_MAX);
    }
}
