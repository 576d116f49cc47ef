//! Progress of one job as events: a bounded ring that any number of streams read at their own pace.
//!
//! The queue pushes, streams and pages read. A reader holds a cursor and nothing else, so a slow
//! one costs no memory: what it missed is gone, and a `gap` event says so. Event ids are
//! `<job>.<attempt>.<number>`; a reader that comes back with one goes on behind it, and one whose
//! attempt is over (the service was restarted) gets a `reset` and all there is.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::json;
use tokio::sync::watch;

use crate::{
    build::{Phase, Progress},
    output::Output,
    serve::words,
    spec::BuildKey,
};

/// Most events kept for readers that come late.
const EVENTS_MAX: usize = 2_000;
/// Most bytes of their data; with `EVENTS_MAX` this bounds a job's memory.
const BYTES_MAX: usize = 512 * 1024;
/// Output kept for the page that reloads instead of streaming.
const OUTPUT_BYTES_MAX: usize = 128 * 1024;
/// Longest data of one event; a longer piece of output is cut.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// One event of a stream. `data` is one line of JSON without a raw control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Rises by one with each event of an attempt.
    pub number: u64,
    /// `queue`, `phase`, `bytes`, `module`, `output`, `end`.
    pub kind: &'static str,
    /// JSON.
    pub data: String,
}

/// What a page shows that has no stream.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Plain words for what goes on.
    pub doing: String,
    /// Phases begun so far, in their order.
    pub phases: Vec<Phase>,
    /// Modules handed to the cell.
    pub modules: u64,
    /// What the go command printed so far.
    pub output: Output,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(u64);

/// What a reader gets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Events were dropped between the cursor and the first of these.
    pub gap: bool,
    /// In their order.
    pub events: Vec<Event>,
}

/// Progress of one attempt at a job.
#[derive(Debug)]
pub struct Live {
    job: u64,
    attempt: u64,
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    bytes: usize,
    next: u64,
    dropped: u64,
    snapshot: Snapshot,
    partial: Output,
}

impl Live {
    /// Starts with nothing. `attempt` differs between any two runs of the same job.
    #[must_use]
    pub fn new(job: u64, attempt: u64) -> Self {
        let ring = Ring {
            next: 1,
            ..Ring::default()
        };
        Self {
            job,
            attempt,
            ring: Mutex::new(ring),
            newest: watch::Sender::new(0),
        }
    }

    /// Notes the place in the queue; 0 is running.
    pub fn place(&self, place: usize) {
        let text = words::place(place);
        self.push(
            "queue",
            json!({ "place": place, "text": text }).to_string(),
            |snapshot| {
                snapshot.doing = text.clone();
            },
        );
    }

    /// Notes what the executor says.
    pub fn progress(&self, key: &BuildKey, progress: Progress) {
        match progress {
            Progress::Phase { phase } => {
                let text = words::phase(phase, key);
                let data = json!({ "phase": phase, "text": text }).to_string();
                self.push("phase", data, |snapshot| {
                    snapshot.doing = text.clone();
                    snapshot.phases.push(phase);
                });
            }
            Progress::Bytes { bytes, bytes_total } => {
                let text = words::progress_bytes(bytes, bytes_total);
                let data = json!({ "bytes": bytes, "bytes_total": bytes_total, "text": text });
                self.push("bytes", data.to_string(), |_| ());
            }
            Progress::Module { module } => {
                let data = json!({ "path": module.path, "version": module.version }).to_string();
                self.push("module", data, |snapshot| snapshot.modules += 1);
            }
            Progress::Output { output } => self.output(&output),
        }
    }

    /// Notes that the build is done and waits for those who verify it.
    pub fn verifying(&self) {
        let data = json!({ "place": 0, "text": words::VERIFYING }).to_string();
        self.push("queue", data, |snapshot| {
            words::VERIFYING.clone_into(&mut snapshot.doing);
        });
    }

    /// Notes the end; `data` is JSON.
    pub fn end(&self, data: String) {
        let rest = std::mem::take(&mut self.lock().partial);
        self.push_output(&rest);
        self.push("end", data, |_| ());
    }

    /// What there is to see now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot.clone()
    }

    /// Wakes when there is something new behind the number that it holds.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Id of an event as the stream carries it.
    #[must_use]
    pub fn id(&self, number: u64) -> String {
        format!("{}.{}.{number}", self.job, self.attempt)
    }

    /// Where a reader goes on that says it has seen `last_id`; `None` when it must start over.
    #[must_use]
    pub fn resume(&self, last_id: &str) -> Option<Cursor> {
        let number = last_id.strip_prefix(&format!("{}.{}.", self.job, self.attempt))?;
        let number: u64 = number.parse().ok()?;
        (number < self.lock().next).then_some(Cursor(number))
    }

    /// Where a new reader begins.
    #[must_use]
    pub fn start(&self) -> Cursor {
        Cursor(0)
    }

    /// Everything behind `cursor`, which moves on.
    #[must_use]
    pub fn read(&self, cursor: &mut Cursor) -> Batch {
        let ring = self.lock();
        let events: Vec<_> = ring
            .events
            .iter()
            .filter(|event| event.number > cursor.0)
            .cloned()
            .collect();
        // A replaced event leaves a hole in the numbers too, but nothing is lost with it.
        let gap = cursor.0 < ring.dropped;
        cursor.0 = ring.next - 1;
        Batch { gap, events }
    }

    fn output(&self, more: &Output) {
        let whole = {
            let mut ring = self.lock();
            ring.partial.append(more, EVENT_BYTES_MAX);
            ring.partial.take_complete()
        };
        self.push_output(&whole);
    }

    fn push_output(&self, output: &Output) {
        if output.is_empty() {
            return;
        }
        let data = format!("{{\"text\":{}}}", output.json());
        self.push("output", data, |snapshot| {
            snapshot.output.append(output, OUTPUT_BYTES_MAX)
        });
    }

    fn push(&self, kind: &'static str, data: String, note: impl FnOnce(&mut Snapshot)) {
        let mut ring = self.lock();
        note(&mut ring.snapshot);
        // Only the newest place and byte count matter, so they replace the one before.
        let replaces = matches!(kind, "queue" | "bytes")
            && ring.events.back().is_some_and(|last| last.kind == kind);
        if replaces && let Some(last) = ring.events.pop_back() {
            ring.bytes -= last.data.len();
        }
        let number = ring.next;
        ring.next += 1;
        ring.bytes += data.len();
        ring.events.push_back(Event { number, kind, data });
        while ring.events.len() > EVENTS_MAX || ring.bytes > BYTES_MAX {
            let Some(first) = ring.events.pop_front() else {
                break;
            };
            ring.bytes -= first.data.len();
            ring.dropped = first.number;
        }
        drop(ring);
        self.newest.send_replace(number);
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: &str) -> Progress {
        Progress::Output {
            output: Output::from(text.as_bytes().to_vec()),
        }
    }

    fn key() -> BuildKey {
        BuildKey::parse("example.org/m@v1.0.0/linux-amd64-go1.26.8/").unwrap()
    }

    fn kinds(batch: &Batch) -> Vec<&'static str> {
        batch.events.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn a_reader_goes_on_behind_the_id_it_saw_last() {
        let live = Live::new(7, 1);
        live.place(2);
        live.progress(
            &key(),
            Progress::Phase {
                phase: Phase::Build,
            },
        );
        live.progress(&key(), output("a\n"));
        let mut cursor = live.start();
        let all = live.read(&mut cursor);
        assert_eq!(kinds(&all), ["queue", "phase", "output"]);
        let mut cursor = live.resume(&live.id(all.events[1].number)).unwrap();
        assert_eq!(kinds(&live.read(&mut cursor)), ["output"]);
        assert_eq!(live.read(&mut cursor), Batch::default());
    }

    #[test]
    fn ids_of_another_attempt_or_from_the_future_start_over() {
        let live = Live::new(7, 2);
        live.place(1);
        for id in ["", "7.1.1", "8.2.1", "7.2.2", "7.2.-1", "7.2.x", "7.2."] {
            assert_eq!(live.resume(id), None, "{id}");
        }
        assert!(live.resume("7.2.1").is_some());
    }

    #[test]
    fn only_the_newest_place_and_byte_count_are_kept_and_are_no_gap() {
        let live = Live::new(1, 1);
        live.place(3);
        let mut cursor = live.start();
        assert_eq!(live.read(&mut cursor).events.len(), 1);
        for place in [2, 1, 0] {
            live.place(place);
        }
        let batch = live.read(&mut cursor);
        assert_eq!((batch.gap, kinds(&batch)), (false, vec!["queue"]));
    }

    #[test]
    fn a_slow_reader_is_told_about_what_it_missed() {
        let live = Live::new(1, 1);
        live.progress(&key(), output("first\n"));
        let mut cursor = live.start();
        assert!(!live.read(&mut cursor).gap);
        for _ in 0..EVENTS_MAX + 10 {
            live.progress(&key(), output("x\n"));
        }
        let batch = live.read(&mut cursor);
        assert!(batch.gap);
        assert_eq!(batch.events.len(), EVENTS_MAX);
    }

    #[test]
    fn memory_is_bounded_whatever_is_printed() {
        let live = Live::new(1, 1);
        for _ in 0..1_000 {
            live.progress(&key(), output(&"\u{1b}".repeat(10_000)));
        }
        let ring = live.lock();
        assert!(ring.bytes <= BYTES_MAX && ring.snapshot.output.len() <= OUTPUT_BYTES_MAX);
    }

    #[test]
    fn hostile_output_stays_one_line_of_json() {
        let live = Live::new(1, 1);
        live.progress(&key(), output("x\r\ndata: evil\n\n\u{1b}</script>"));
        let batch = live.read(&mut live.start());
        let data = &batch.events[0].data;
        assert!(
            data.is_ascii() && !data.contains(['\r', '\n', '\u{1b}', '<']),
            "{data}"
        );
    }

    #[test]
    fn the_rest_of_a_broken_character_is_shown_at_the_end() {
        let live = Live::new(1, 1);
        live.progress(
            &key(),
            Progress::Output {
                output: Output::from(b"\xf0\x9f".to_vec()),
            },
        );
        assert_eq!(live.snapshot().output.len(), 0);
        live.end("{}".to_owned());
        assert_eq!(live.snapshot().output.terminal(), "\\xf0\\x9f");
    }
}
