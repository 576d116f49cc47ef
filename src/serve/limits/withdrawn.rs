//! Builds that the operator does not hand out any more.
//!
//! The list is a part of the configuration, so that it is durable before it is told, can be
//! reviewed and undone like everything there, and outlives a database that was recovered from the
//! log. Read before a download and before a new build. The record and the log stay as they are; a
//! copy that somebody has stays verifiable.

use std::{fmt, str::FromStr};

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::spec::{BuildKey, ModuleVersion, PackageDir};

/// Longest reason, in bytes.
const REASON_BYTES_MAX: usize = 500;

/// How a download is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 410: the operator took it away.
    Gone,
    /// 451: somebody who may demand it demands it (RFC 7725).
    Legal,
}

impl Status {
    /// As HTTP has it.
    #[must_use]
    pub fn code(self) -> StatusCode {
        match self {
            Self::Gone => StatusCode::GONE,
            Self::Legal => StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "taken away",
            Self::Legal => "unavailable for legal reasons",
        })
    }
}

/// One build that was withdrawn, or all that begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// A key of the log, or its beginning: a version of a module, perhaps with a folder. Ends in a
    /// slash.
    pub what: String,
    /// How a download is answered.
    pub status: Status,
    /// Why, in the words of the operator.
    pub reason: String,
}

/// The text says not what was withdrawn, or not why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write KEY REASON or KEY 410 REASON; the key as the log has it, or its beginning such as \
     `example.com/m@v1.2.3/`, and the reason in {REASON_BYTES_MAX} bytes of one line"
)]
pub struct NotWithdrawn;

impl Withdrawn {
    /// Whether the build of this key is among them.
    #[must_use]
    pub fn covers(&self, key: &str) -> bool {
        key.starts_with(&self.what)
    }

    pub(in crate::serve) fn json(&self) -> Value {
        let Self {
            what,
            status,
            reason,
        } = self;
        json!({ "what": what, "status": status.code().as_u16(), "reason": reason })
    }
}

impl FromStr for Withdrawn {
    type Err = NotWithdrawn;

    fn from_str(text: &str) -> Result<Self, NotWithdrawn> {
        let (what, reason) = text.trim().split_once(' ').ok_or(NotWithdrawn)?;
        let reason = reason.trim();
        let (status, reason) = match reason.split_once(' ') {
            Some(("410", reason)) => (Status::Gone, reason.trim()),
            Some(("451", reason)) => (Status::Legal, reason.trim()),
            _ => (Status::Legal, reason),
        };
        let is_line = !reason.is_empty()
            && reason.len() <= REASON_BYTES_MAX
            && !reason.contains(char::is_control);
        (is_line && is_beginning(what))
            .then(|| Self {
                what: what.to_owned(),
                status,
                reason: reason.to_owned(),
            })
            .ok_or(NotWithdrawn)
    }
}

/// Whether a key can begin so: `module@version/`, `module@version/folder/`, or a whole key.
fn is_beginning(what: &str) -> bool {
    let parts = || {
        let (module, rest) = what.strip_suffix('/')?.split_once('@')?;
        let (version, dir) = rest.split_once('/').unwrap_or((rest, ""));
        ModuleVersion::parse(module, version).ok()?;
        // Printed back, so that nothing is taken that no key can begin with.
        Some(match PackageDir::parse(dir).ok()? {
            dir if dir.is_root() => what == format!("{module}@{version}/"),
            dir => what == format!("{module}@{version}/{dir}/"),
        })
    };
    BuildKey::parse(what).is_ok() || parts() == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "example.org/m@v1.2.3/cmd/tool/linux-amd64-go1.26.8/";

    #[test]
    fn a_key_or_its_beginning_is_withdrawn_with_a_reason() {
        for (text, status, reason, covers) in [
            (
                format!("{KEY} order 7 of a court"),
                Status::Legal,
                "order 7 of a court",
                true,
            ),
            (
                format!("{KEY} 410 leaks a key"),
                Status::Gone,
                "leaks a key",
                true,
            ),
            (format!("{KEY} 451 x"), Status::Legal, "x", true),
            (format!("{KEY} 410"), Status::Legal, "410", true),
            (
                "example.org/m@v1.2.3/ x y".into(),
                Status::Legal,
                "x y",
                true,
            ),
            (
                "example.org/m@v1.2.3/cmd/ x".into(),
                Status::Legal,
                "x",
                true,
            ),
            ("example.org/m@v1.2.30/ x".into(), Status::Legal, "x", false),
            (
                "example.org/m@v1.2.3/cm/ x".into(),
                Status::Legal,
                "x",
                false,
            ),
        ] {
            let one: Withdrawn = text.parse().unwrap();
            assert_eq!((one.status, &*one.reason), (status, reason), "{text}");
            assert_eq!(one.covers(KEY), covers, "{text}");
        }
    }

    #[test]
    fn what_can_cover_nothing_or_has_no_reason_is_a_mistake() {
        let long = format!("{KEY} {}", "x".repeat(REASON_BYTES_MAX + 1));
        for text in [
            "",
            KEY,
            "example.org/m x",
            "example.org/m/ x",
            "example.org/m@v1.2.3 x",
            "example.org/m@latest/ x",
            "example.org/m@v1.2/ x",
            "example.org/m@v1.2.3/../ x",
            "example.org/m@v1.2.3// x",
            "example.org/m@v2.0.0/ x",
            "example.org/m@v1.2.3/ a\u{7}b",
            &long,
        ] {
            assert_eq!(text.parse::<Withdrawn>(), Err(NotWithdrawn), "{text:?}");
        }
    }
}
