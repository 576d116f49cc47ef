//! Parts of downloads (RFC 9110, section 14): one range of a binary, so that a download which broke
//! off goes on where it was.
//!
//! Called for each download. Several ranges in one request are answered with the whole, as the RFC
//! allows: no client needs them for a binary, and each would cost us a head of its own.

use std::ops::Range;

use axum::http::{
    HeaderMap, HeaderValue,
    header::{IF_RANGE, RANGE},
};
use http_range_header::parse_range_header;

/// What of a file a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// These bytes, not none.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Beyond,
}

impl Asked {
    /// What these headers want of a file with this tag and length in bytes. What is no range of
    /// bytes is ignored, as is one that was meant for another file.
    pub(super) fn of(headers: &HeaderMap, etag: &HeaderValue, bytes: u64) -> Self {
        let mut ranges = headers.get_all(RANGE).iter();
        let (Some(range), None) = (ranges.next(), ranges.next()) else {
            return Self::Whole;
        };
        // A tag counts when it is the same and strong, a date never: there are none here.
        if headers.get_all(IF_RANGE).iter().any(|tag| tag != etag) {
            return Self::Whole;
        }
        let Some(parsed) = range.to_str().ok().and_then(|r| parse_range_header(r).ok()) else {
            return Self::Whole;
        };
        if parsed.len() != 1 {
            return Self::Whole;
        }
        let found = parsed.validate(bytes).ok();
        found
            .and_then(|found| found.into_iter().next())
            .map_or(Self::Beyond, |part| {
                Self::Part(*part.start()..part.end().saturating_add(1))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: HeaderValue = HeaderValue::from_static("\"tag\"");

    fn asked(pairs: &[(axum::http::HeaderName, &'static str)]) -> Asked {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        Asked::of(&headers, &TAG, 100)
    }

    #[test]
    fn one_range_of_bytes_is_a_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=90-", 90..100),
            ("bytes=90-1000", 90..100),
            ("bytes=0-18446744073709551615", 0..100),
            ("bytes=-1", 99..100),
            ("bytes=-1000", 0..100),
        ] {
            assert_eq!(asked(&[(RANGE, range)]), Asked::Part(part), "{range}");
        }
    }

    #[test]
    fn what_the_file_does_not_have_is_said() {
        for range in ["bytes=100-", "bytes=200-300", "bytes=-0"] {
            assert_eq!(asked(&[(RANGE, range)]), Asked::Beyond, "{range}");
        }
    }

    #[test]
    fn what_is_no_single_range_is_ignored() {
        let whole = Asked::Whole;
        assert_eq!(asked(&[]), whole);
        for range in [
            "",
            "bytes=",
            "bytes=-",
            "bytes=x-y",
            "bytes=+0-1",
            "lines=0-1",
            "bytes=0-1,5-6",
            "bytes=0-18446744073709551616000000000000000000",
        ] {
            assert_eq!(asked(&[(RANGE, range)]), whole, "{range}");
        }
        let twice = [(RANGE, "bytes=0-1"), (RANGE, "bytes=0-1")];
        assert_eq!(asked(&twice), whole);
    }

    #[test]
    fn a_range_of_another_file_is_ignored() {
        let range = (RANGE, "bytes=0-1");
        let with = |tag| asked(&[range.clone(), (IF_RANGE, tag)]);
        assert_eq!(with("\"tag\""), Asked::Part(0..2));
        for other in [
            "W/\"tag\"",
            "\"other\"",
            "",
            "Sat, 28 Nov 2026 00:00:00 GMT",
        ] {
            assert_eq!(with(other), Asked::Whole, "{other}");
        }
    }
}
