//! A clock that is wrong, stands still or jumps under a running service: the log never asks it.
//!
//! The role `serve` alone is given such a clock, by `libfaketime`: the others get no environment,
//! and `sign` asks for the time only when it cosigns heads of other logs.

use std::{fs, os::unix::fs::lchown, path::PathBuf};

use hotcell::roles::SERVE_ID;
use hotcell_integration::{command::Run, kept::Kept, paths, promised::Promised, verifying::Reader};

/// Clocks as `libfaketime` takes them, and as `date` does: one day back, ten years forward,
/// standing still in the past, and the right one again.
const CLOCKS: [(&str, &str); 4] = [
    ("-1d", "-1 day"),
    ("+10y", "+3650 days"), // its years have 365 days
    ("2001-02-03 04:05:06", "2001-02-03"),
    ("+0", "now"),
];
/// Where `serve` sees its own folder, once it has given its powers up.
const FOLDER: &str = "/tmp/hotcell-data";

/// Debian keeps it in a folder of the machine's own libraries.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("there are libraries");
    let paths = folders.flatten().map(|folder| folder.path());
    let mut paths = paths.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = paths.find(|path| path.is_file());
    found.expect("no libfaketime: install `faketime`")
}

fn day(date: &str) -> String {
    let args = ["-u", "-d", date, "+%F"];
    Run::new("date")
        .args(args)
        .succeed()
        .out()
        .trim()
        .to_owned()
}

#[test]
fn a_clock_that_jumps_or_stands_still_changes_no_append_and_no_head() {
    let mut kept = Kept::new();
    let module = |n: usize| format!("ex.example/kept{n}");
    kept.multiply((0..2 * CLOCKS.len()).map(module));
    let clock = kept.path("data/serve/clock");
    let set = |text: &str| {
        fs::write(&clock, format!("{text}\n")).expect("ours");
        if paths::is_root() {
            lchown(&clock, Some(SERVE_ID), Some(SERVE_ID)).expect("root can give away");
        }
    };
    kept.place.variables = [
        ("LD_PRELOAD", library()),
        (
            "FAKETIME_TIMESTAMP_FILE",
            PathBuf::from(FOLDER).join("clock"),
        ),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
    .map(|(name, value)| (name.to_owned(), value.display().to_string()))
    .to_vec();
    let promised = Promised::default();
    let mut service = kept.place.serve(&[]);
    let mut modules = (0..).map(module);
    for (text, date) in CLOCKS {
        let before = Reader::of(&service).latest();
        let traced = service.trace().len();
        let days = [day(date), {
            set(text);
            // Once under a running service, and once after a start.
            for module in modules.by_ref().take(2) {
                let status = promised.ask(&service.url(), &module);
                assert_eq!(status, Some(200), "{text}: {}", service.trace());
                assert_eq!(service.stop(), 0, "{text}");
                service = kept.place.serve(&[]);
            }
            day(date)
        }];
        let trace = service.trace();
        let is_seen = |day: &String| trace[traced..].contains(&format!("\"timestamp\":\"{day}"));
        assert!(
            days.iter().any(is_seen),
            "not {days:?}: {}",
            &trace[traced..]
        );
        let reader = Reader::of(&service);
        let after = reader.checkpoint();
        assert_eq!(after.size, before.size + 4, "{text}");
        assert_eq!(reader.latest(), after, "{text}");
        promised.assert_kept(&service, &kept.database(), &[], text);
    }
    assert_eq!(service.stop(), 0);
    kept.audit();
}
