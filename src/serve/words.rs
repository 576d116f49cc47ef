//! Plain words for pages and streams: places, phases, sizes, times.
//!
//! Text only, made of checked types; whoever shows it escapes it for its sink.

use crate::{build::Phase, fetch::wire::Licences, spec::BuildKey};

/// A place in the queue; 0 is running.
#[must_use]
pub fn place(place: usize) -> String {
    match place {
        0 => "starting".to_owned(),
        1 => "waiting: next in the queue".to_owned(),
        _ => format!("waiting: number {place} in the queue"),
    }
}

/// What goes on after a build that others have to make as well.
pub const VERIFYING: &str = "built; asking others who have built it";

/// What goes on.
#[must_use]
pub fn phase(phase: Phase, key: &BuildKey) -> String {
    match phase {
        Phase::Sdk => format!("getting and checking the Go SDK {}: happens once", key.go),
        Phase::StandardLibrary => format!(
            "compiling the standard library for {}/{} with {}: happens once",
            key.target.goos(),
            key.target.goarch(),
            key.go
        ),
        Phase::Build => format!("building {} in its cell", key.package()),
        Phase::Gate => "checking and hashing the binary".to_owned(),
    }
}

/// The name of a phase in a list.
#[must_use]
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Sdk => "Go SDK",
        Phase::StandardLibrary => "standard library",
        Phase::Build => "build",
        Phase::Gate => "gate",
    }
}

/// How far a download or an unpacking is.
#[must_use]
pub fn progress_bytes(bytes: u64, bytes_total: Option<u64>) -> String {
    match bytes_total {
        Some(total) => format!("{} of {}", size(bytes), size(total.max(bytes))),
        None => size(bytes),
    }
}

/// A size as people read it.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    for (name, unit) in UNITS {
        if bytes >= unit {
            return format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit);
        }
    }
    format!("{bytes} bytes")
}

/// A duration as people read it.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Licences of a module; nothing when nobody has looked.
#[must_use]
pub fn licences(found: Option<&Licences>) -> String {
    let Some(found) = found else {
        return String::new();
    };
    let ids: Vec<_> = found.ids.iter().map(|id| id.as_str()).collect();
    match (ids.is_empty(), found.others) {
        (true, true) => "not recognised".to_owned(),
        (true, false) => "none found".to_owned(),
        (false, true) => format!("{} and another text", ids.join(", ")),
        (false, false) => ids.join(", "),
    }
}

/// How long ago something was.
#[must_use]
pub fn ago(then_ms: u64, now_ms: u64) -> String {
    let minutes = now_ms.saturating_sub(then_ms) / 60_000;
    let (count, unit) = match minutes {
        0 => return "just now".to_owned(),
        1..60 => (minutes, "minute"),
        60..1_440 => (minutes / 60, "hour"),
        _ => (minutes / 1_440, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// A point in time in UTC, as `2026-11-21 09:24`.
#[must_use]
pub fn time(at_ms: u64) -> String {
    let minutes = at_ms / 60_000;
    let (year, month, day) = civil(minutes / 1_440);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        minutes / 60 % 24,
        minutes % 60
    )
}

/// Days since 1970 to a date, by H. Hinnant, "chrono-compatible low-level date algorithms".
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LicenceId;

    #[test]
    fn sizes_and_durations_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.0 kB"),
            (4_567_890, "4.5 MB"),
            (2_000_000_000, "2.0 GB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (ms, text) in [(999, "999 ms"), (3_456, "3.4 s"), (61_000, "1 min 1 s")] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(progress_bytes(2_000, Some(1_000)), "2.0 kB of 2.0 kB");
    }

    #[test]
    fn licences_say_what_was_found_and_nothing_else() {
        let ids = |ids: &[&str]| ids.iter().map(|id| LicenceId::parse(id).unwrap()).collect();
        for (found, others, text) in [
            (&["MIT"][..], false, "MIT"),
            (&["Apache-2.0", "MIT"], false, "Apache-2.0, MIT"),
            (&["MIT"], true, "MIT and another text"),
            (&[], true, "not recognised"),
            (&[], false, "none found"),
        ] {
            let ids = ids(found);
            assert_eq!(licences(Some(&Licences { ids, others })), text);
        }
        assert_eq!(licences(None), "");
    }

    #[test]
    fn times_are_utc_and_leap_years_count() {
        for (ms, text) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (1_795_253_099_000, "2026-11-21 09:24 UTC"),
        ] {
            assert_eq!(time(ms), text);
        }
        assert_eq!(ago(0, 59_000), "just now");
        assert_eq!(ago(0, 60_000), "1 minute ago");
        assert_eq!(ago(0, 7_200_000), "2 hours ago");
        assert_eq!(ago(9, 3), "just now");
    }
}
