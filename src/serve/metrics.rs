//! Counters for the operator, in the Prometheus text format, on the admin address only.
//!
//! Names end in their unit; labels have few values, all made here or stable codes of ours.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    cosign::{Cosigning, Witnessed},
    limits::{Class, rules::Bar},
    pace::Pace,
};
use crate::{verifiers::board::Standing as Verifier, witness::board::Standing};

/// Most endings counted apart; codes are ours and few, this only bounds a mistake.
const ENDINGS_MAX: usize = 64;

/// What was counted since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    builds: Mutex<BTreeMap<String, (u64, u64)>>,
    mismatches: AtomicU64,
    requests: [AtomicU64; 6],
    limited: [AtomicU64; Class::ALL.len()],
    barred: [AtomicU64; Bar::NAMES.len()],
    /// How long builds take.
    pub pace: Pace,
    /// Requests with a Host that is not ours.
    pub hosts_refused: AtomicU64,
    /// Requests that would have changed something from another origin.
    pub origins_refused: AtomicU64,
    /// Lookups in the log.
    pub lookups: AtomicU64,
    /// Proofs of leaves and receipts asked for.
    pub proofs: AtomicU64,
    /// Downloads of binaries.
    pub downloads: AtomicU64,
    /// Modules whose commands were listed in a cell.
    pub listings: AtomicU64,
    /// Visitors whose address might have had a name that a rule is against, and it was not known.
    pub names_unknown: AtomicU64,
    /// Event streams opened.
    pub streams: AtomicU64,
    /// Requests refused because too many were waiting.
    pub busy: AtomicU64,
    /// Builds refused because the log or a module had grown enough.
    pub over_budget: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections closed because their client held or began too many.
    pub crowded: AtomicU64,
    /// Connections closed because the other side was too slow.
    pub stalled: AtomicU64,
    /// Connections that ended in the handshake of TLS.
    pub handshakes_failed: AtomicU64,
    /// Connections cut because the other side gave up what it had asked for, again and again.
    pub floods: AtomicU64,
}

/// What is read when it is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gauges {
    /// Jobs that wait.
    pub waiting: usize,
    /// Builds that run.
    pub running: usize,
    /// Builds that wait for verifiers.
    pub verifying: usize,
    /// Whether the log takes entries.
    pub live: bool,
    /// SDKs, frozen caches and module files that were not what they were.
    pub put_away: usize,
    /// When our certificate ends, in seconds since 1970.
    pub certificate_end_s: Option<u64>,
}

impl Metrics {
    /// Counts the end of a build.
    pub fn build_ended(&self, ending: &str, duration_ms: u64) {
        let mut builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        if builds.len() < ENDINGS_MAX || builds.contains_key(ending) {
            let (count, total_ms) = builds.entry(ending.to_owned()).or_default();
            *count += 1;
            *total_ms += duration_ms;
        }
    }

    /// Counts a build that gave other bytes than the log has.
    pub fn mismatch(&self) {
        self.mismatches.fetch_add(1, Relaxed);
    }

    /// Counts a request that was refused because its client had asked for too much.
    pub fn limited(&self, class: Class) {
        self.limited[class as usize].fetch_add(1, Relaxed);
    }

    /// Counts a request that the operator's rules are against.
    pub fn barred(&self, why: &Bar) {
        self.barred[why.index()].fetch_add(1, Relaxed);
    }

    /// How many of a class were refused.
    #[cfg(test)]
    pub(super) fn limited_of(&self, class: Class) -> u64 {
        self.limited[class as usize].load(Relaxed)
    }

    /// Counts an answer by the first digit of its status.
    pub fn request(&self, status: u16) {
        let class = usize::from(status / 100).min(self.requests.len() - 1);
        self.requests[class].fetch_add(1, Relaxed);
    }

    /// Everything as Prometheus text.
    #[must_use]
    pub fn text(
        &self,
        gauges: Gauges,
        witnesses: &[Standing],
        cosigning: Option<&Cosigning>,
        verifiers: &[Verifier],
    ) -> String {
        let mut text = Text::default();
        self.write_builds(&mut text);
        text.head(
            "http_requests_total",
            "counter",
            "Answers by class of status.",
        );
        for (class, count) in self.requests.iter().enumerate().skip(1) {
            let labels = format!("{{status=\"{class}xx\"}}");
            text.line("http_requests_total", &labels, count.load(Relaxed));
        }
        let help = "Requests refused because their client had asked for too much.";
        text.head("limited_total", "counter", help);
        for (class, count) in Class::ALL.iter().zip(&self.limited) {
            let labels = format!("{{class=\"{}\"}}", class.name());
            text.line("limited_total", &labels, count.load(Relaxed));
        }
        let help = "Requests refused because the operator's rules are against them.";
        text.head("barred_total", "counter", help);
        for (rule, count) in Bar::NAMES.iter().zip(&self.barred) {
            let labels = format!("{{rule=\"{rule}\"}}");
            text.line("barred_total", &labels, count.load(Relaxed));
        }
        for (name, help, value) in self.counters() {
            text.head(name, "counter", help);
            text.line(name, "", value.load(Relaxed));
        }
        let put_away = "Stored things that were found changed and put away: look now.";
        let live = "1 when the log takes entries, 0 when it is fenced.";
        for (name, help, value) in [
            ("jobs_waiting", "Jobs in the queue.", gauges.waiting),
            ("builds_running", "Builds that run now.", gauges.running),
            (
                "builds_verifying",
                "Builds that wait for verifiers.",
                gauges.verifying,
            ),
            ("log_live", live, gauges.live.into()),
            ("store_put_away", put_away, gauges.put_away),
        ] {
            text.head(name, "gauge", help);
            text.line(name, "", u64::try_from(value).unwrap_or(u64::MAX));
        }
        if let Some(end_s) = gauges.certificate_end_s {
            let (name, help) = ("certificate_end_time_seconds", "When our certificate ends.");
            text.head(name, "gauge", help);
            text.line(name, "", end_s);
        }
        write_witnesses(&mut text, witnesses);
        if let Some(cosigning) = cosigning {
            write_cosigned(&mut text, &cosigning.standings());
            let name = "cosign_denied_total";
            text.head(
                name,
                "counter",
                "Heads of other logs that were not cosigned.",
            );
            text.line(name, "", cosigning.denials());
        }
        write_verifiers(&mut text, verifiers);
        text.0
    }

    fn write_builds(&self, text: &mut Text) {
        let builds = self.builds.lock().unwrap_or_else(PoisonError::into_inner);
        text.head("builds_total", "counter", "Builds by ending.");
        for (ending, (count, _)) in builds.iter() {
            let labels = format!("{{ending=\"{}\"}}", label(ending));
            text.line("builds_total", &labels, *count);
        }
        text.head(
            "build_milliseconds_total",
            "counter",
            "Time of builds by ending.",
        );
        for (ending, (_, ms)) in builds.iter() {
            let labels = format!("{{ending=\"{}\"}}", label(ending));
            text.line("build_milliseconds_total", &labels, *ms);
        }
    }

    fn counters(&self) -> [(&'static str, &'static str, &AtomicU64); 16] {
        [
            (
                "mismatches_total",
                "Builds that differ from the log: look now.",
                &self.mismatches,
            ),
            (
                "hosts_refused_total",
                "Requests with a foreign Host.",
                &self.hosts_refused,
            ),
            (
                "origins_refused_total",
                "Changes asked by other origins.",
                &self.origins_refused,
            ),
            ("lookups_total", "Lookups in the log.", &self.lookups),
            ("proofs_total", "Proofs and receipts.", &self.proofs),
            ("downloads_total", "Downloads of binaries.", &self.downloads),
            (
                "listings_total",
                "Modules whose commands were listed.",
                &self.listings,
            ),
            (
                "names_unknown_total",
                "Visitors whose address had no name in time while a rule asked for it.",
                &self.names_unknown,
            ),
            ("streams_total", "Event streams opened.", &self.streams),
            (
                "busy_total",
                "Requests refused because too many waited.",
                &self.busy,
            ),
            (
                "over_budget_total",
                "Builds refused because the log or a module had grown enough in a day.",
                &self.over_budget,
            ),
            (
                "connections_total",
                "Connections accepted.",
                &self.connections,
            ),
            (
                "crowded_total",
                "Connections closed at once because their client had too many.",
                &self.crowded,
            ),
            (
                "stalled_total",
                "Connections closed for a slow client.",
                &self.stalled,
            ),
            (
                "handshakes_failed_total",
                "Connections that ended in the handshake of TLS.",
                &self.handshakes_failed,
            ),
            (
                "floods_total",
                "Connections cut because the client gave up too many answers.",
                &self.floods,
            ),
        ]
    }
}

/// One line for each witness; their names are the operator's, and few.
fn write_witnesses(text: &mut Text, all: &[Standing]) {
    let cosigned = "Records of the largest head that the witness cosigned.";
    let failures = "Offers to the witness that led to no cosignature.";
    let alarm = "1 when the witness has seen another log with our signature: look now.";
    type Value = fn(&Standing) -> u64;
    let values: [(&str, &str, &str, Value); 3] = [
        ("witness_cosigned_records", "gauge", cosigned, |one| {
            one.cosigned
        }),
        ("witness_failures_total", "counter", failures, |one| {
            one.failures
        }),
        ("witness_alarm", "gauge", alarm, |one| one.alarm.into()),
    ];
    for (name, kind, help, value) in values {
        text.head(name, kind, help);
        for one in all {
            let labels = format!("{{witness=\"{}\"}}", name_label(&one.name));
            text.line(name, &labels, value(one));
        }
    }
}

/// One line for each log that this instance is a witness of; the operator has named them, too.
fn write_cosigned(text: &mut Text, all: &[Witnessed]) {
    let records = "Records of the largest head of another log that was cosigned here.";
    let time = "When that was, in seconds since 1970.";
    let forked = "1 when the other log has signed two heads of one size: tell its users.";
    type Value = fn(&Witnessed) -> u64;
    let values: [(&str, &str, Value); 3] = [
        ("cosigned_records", records, |one| {
            one.last.map_or(0, |last| last.0)
        }),
        ("cosigned_time_seconds", time, |one| {
            one.last.map_or(0, |last| last.1)
        }),
        ("cosigned_log_forked", forked, |one| one.forked.into()),
    ];
    for (name, help, value) in values {
        text.head(name, "gauge", help);
        for one in all {
            let labels = format!("{{log=\"{}\"}}", name_label(&one.origin));
            text.line(name, &labels, value(one));
        }
    }
}

/// One line for each verifier; their names are the operator's, and few.
fn write_verifiers(text: &mut Text, all: &[Verifier]) {
    type Value = fn(&Verifier) -> u64;
    let values: [(&str, &str, Value); 3] = [
        (
            "verifier_agreed_total",
            "Builds of which the verifier has the same bits.",
            |one| one.agreed,
        ),
        (
            "verifier_differed_total",
            "Builds of which the verifier has other bits: look now.",
            |one| one.differed,
        ),
        (
            "verifier_silent_total",
            "Builds about which the verifier said nothing that counts.",
            |one| one.silent,
        ),
    ];
    for (name, help, value) in values {
        text.head(name, "counter", help);
        for one in all {
            let verifier = name_label(&one.name);
            text.line(name, &format!("{{verifier=\"{verifier}\"}}"), value(one));
        }
    }
}

/// The name of a key without what would end a label.
fn name_label(name: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-._/:".contains(*c);
    name.chars().filter(plain).collect()
}

/// Text in the making.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(
            self.0,
            "# HELP hotcell_{name} {help}\n# TYPE hotcell_{name} {kind}"
        )
        .expect("a string takes all");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        writeln!(self.0, "hotcell_{name}{labels} {value}").expect("a string takes all");
    }
}

/// Escapes nothing because nothing else is let through.
fn label(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_help_type_and_value() {
        let metrics = Metrics::default();
        metrics.build_ended("success", 1_500);
        metrics.build_ended("bad\"\n", 1);
        metrics.request(200);
        metrics.request(999);
        metrics.limited(Class::OldGo);
        let gauges = Gauges {
            waiting: 3,
            running: 1,
            verifying: 4,
            live: true,
            put_away: 2,
            certificate_end_s: Some(1_772_323_200),
        };
        let witness = Standing {
            name: "w.example/1\"\n".to_owned(),
            cosigned: 7,
            ..Standing::default()
        };
        let verifier = Verifier {
            name: "peer\"".to_owned(),
            differed: 2,
            ..Verifier::default()
        };
        let text = metrics.text(gauges, &[witness], None, &[verifier]);
        for line in [
            "hotcell_builds_total{ending=\"success\"} 1",
            "hotcell_builds_total{ending=\"bad\"} 1",
            "hotcell_build_milliseconds_total{ending=\"success\"} 1500",
            "hotcell_http_requests_total{status=\"2xx\"} 1",
            "hotcell_limited_total{class=\"old_go\"} 1",
            "hotcell_jobs_waiting 3",
            "hotcell_proofs_total 0",
            "hotcell_log_live 1",
            "hotcell_store_put_away 2",
            "hotcell_certificate_end_time_seconds 1772323200",
            "hotcell_witness_cosigned_records{witness=\"w.example/1\"} 7",
            "hotcell_witness_alarm{witness=\"w.example/1\"} 0",
            "hotcell_builds_verifying 4",
            "hotcell_verifier_differed_total{verifier=\"peer\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let helps = text
            .lines()
            .filter(|line| line.starts_with("# HELP"))
            .count();
        assert_eq!(
            helps,
            text.lines()
                .filter(|line| line.starts_with("# TYPE"))
                .count()
        );
    }

    #[test]
    fn every_metric_of_the_alert_rules_is_exported() {
        const RULES: &str = include_str!("../../packaging/alerts.yml");
        let mut text = Text::default();
        write_cosigned(&mut text, &[]);
        let text = Metrics::default().text(Gauges::default(), &[], None, &[]) + &text.0;
        let exported: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = RULES.split(|c| !is_name(c));
        let names: Vec<&str> = names.filter(|word| word.starts_with("hotcell_")).collect();
        assert!(names.len() > 15, "{names:?}");
        for name in names {
            assert!(exported.contains(&name), "{name} is not exported");
        }
        let alerts = RULES.matches("- alert: ").count();
        assert_eq!(RULES.matches("summary: ").count(), alerts);
        assert_eq!(RULES.matches("severity: ").count(), alerts + 1);
    }
}
