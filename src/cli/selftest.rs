//! `hotcell selftest`: the hostile suite on this kernel, as a table.

use std::{fmt::Write as _, io, path::PathBuf};

use clap::{Args, ValueEnum};
use hotcell_sandbox::{policy::Policy, wire::NotInForce};
use serde_json::json;

use super::{Network, Stop, local, local::Local, print, progress, say, xdg};
use crate::{
    build::{Engine, Executor as _},
    selftest::{
        Attempt, CLASSES, Cells, Evidence, Other, POLICIES, PROGRAM, Timings, UnderError, Verdict,
        counts, measure, run_under,
    },
    spec::GoQuery,
};

/// Cells that `--timings` makes.
const ROUNDS: usize = 30;

/// Try every known way out of a cell, on this machine
#[derive(Debug, Args)]
pub(super) struct Selftest {
    /// Another policy than the built-in one of builds
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The SDK that lies in the cells
    #[arg(long, value_name = "VERSION", default_value = "latest")]
    go: String,
    /// Measure how long a cell takes to make, instead
    #[arg(long, conflicts_with = "under")]
    timings: bool,
    /// Try the same in another sandbox, for comparison
    #[arg(long, value_enum, value_name = "SANDBOX", conflicts_with = "policy")]
    under: Option<Sandbox>,
    /// One JSON document on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sandbox {
    /// bubblewrap
    Bwrap,
    /// The reference runtime of the OCI
    Runc,
    /// The runtime of the OCI in C
    Crun,
}

/// What one run has found.
struct Found {
    mode: String,
    go: Option<String>,
    policy: Option<String>,
    in_force: Vec<String>,
    not_in_force: Vec<NotInForce>,
    attempts: Vec<Attempt>,
}

impl Selftest {
    pub(super) fn run(self, network: &Network) -> Result<(), Stop> {
        if PROGRAM.is_empty() {
            let text = "the hostile program is not there for this architecture yet";
            return Err(Stop::new(Stop::FAILED, text));
        }
        if let Some(sandbox) = self.under {
            return self.under(sandbox);
        }
        let go = GoQuery::parse(&self.go)?;
        let store = xdg("XDG_CACHE_HOME", ".cache")?.join("store");
        let policy = local::policy(self.policy.as_deref())?;
        let local = Local::start_with(network, self.policy.as_deref(), false, &POLICIES)?;
        let json = self.json;
        local.run(async |engine| {
            let go = engine.resolve_go(go).await?;
            let mut evidence = Evidence::lay_out().map_err(io)?;
            let (sender, shown) = progress::quiet(go.to_string());
            let of = local::engine_policy;
            let name = policy.name().to_owned();
            let cells = Cells::new(&engine, go, policy, &evidence, sender, of);
            if self.timings {
                let timings = measure(&cells, ROUNDS).await?;
                return show_timings(&timings, json);
            }
            say("trying every way out, in some 50 cells; this takes a minute");
            let (report, _) = cells.nothing().await?;
            let trees = cells.trees().await?;
            let trees = trees
                .into_iter()
                .map(|(title, name)| (title, store.join(name)));
            evidence
                .look(&store, &trees.collect::<Vec<_>>())
                .map_err(io)?;
            let mut attempts = cells.all(&evidence).await?;
            attempts.push(cells.orphan(&evidence, || kill_supervisor(&engine)).await);
            evidence.correct(&mut attempts);
            attempts.extend(evidence.after());
            drop(shown);
            show(
                Found {
                    mode: mode().to_owned(),
                    go: Some(go.to_string()),
                    policy: Some(name),
                    in_force: report.in_force,
                    not_in_force: report.not_in_force,
                    attempts,
                },
                json,
            )
        })
    }

    fn under(&self, sandbox: Sandbox) -> Result<(), Stop> {
        let other = match sandbox {
            Sandbox::Bwrap => Other::Bwrap,
            Sandbox::Runc => Other::Runc,
            Sandbox::Crun => Other::Crun,
        };
        let evidence = Evidence::lay_out().map_err(io)?;
        say(format_args!("trying every way out of {}", other.name()));
        let run = run_under(other, &evidence, &Policy::build().numbers());
        let attempts = run.map_err(|error| {
            let stop = Stop::chain(Stop::FAILED, &error);
            match error {
                UnderError::Missing(_) => stop.hint(format!("apt-get install {}", other.package())),
                _ => stop,
            }
        })?;
        let found = Found {
            mode: format!("{} as {}", other.name(), mode()),
            go: None,
            policy: None,
            in_force: Vec::new(),
            not_in_force: Vec::new(),
            attempts,
        };
        show(found, self.json)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn io(error: io::Error) -> Stop {
    Stop::chain(Stop::FAILED, &error)
}

fn mode() -> &'static str {
    if hotcell_sandbox::privilege::is_root() {
        "root"
    } else {
        "rootless"
    }
}

/// Kills our own supervisor as nothing else would: without a word, while a cell runs.
fn kill_supervisor(_engine: &Engine) -> io::Result<()> {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    let own = std::process::id();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let ours = parent.is_some_and(|id| id.trim() == own.to_string());
        if ours && line.ends_with(b"\0role\0supervise\0") {
            // Our own child, which nobody has waited for: the number means it and nothing else.
            return Ok(kill(Pid::from_raw(id), Signal::SIGKILL)?);
        }
    }
    Err(io::Error::other("it is not there"))
}

fn kernel() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn show(found: Found, as_json: bool) -> Result<(), Stop> {
    let Found {
        mode,
        go,
        policy,
        in_force,
        not_in_force,
        attempts,
    } = found;
    let [stopped, escaped, missing, unjudged] = counts(&attempts);
    if as_json {
        print(json!({
            "kernel": kernel(),
            "mode": mode,
            "go": go,
            "policy": policy,
            "in_force": in_force,
            "not_in_force": not_in_force,
            "counts": {
                "attempts": attempts.len(),
                "stopped": stopped,
                "escaped": escaped,
                "not-in-force": missing,
                "unjudged": unjudged,
            },
            "attempts": attempts,
        }))?;
    } else {
        let mut text = table(&attempts);
        for missing in &not_in_force {
            let _infallible = writeln!(text, "not in force: {}: {}", missing.what, missing.why);
        }
        let _infallible = write!(
            text,
            "Linux {}, {mode}: {} attempts, {stopped} stopped, {escaped} escaped, \
             {missing} not in force, {unjudged} unjudged",
            kernel(),
            attempts.len(),
        );
        print(text)?;
    }
    if escaped == 0 {
        Ok(())
    } else {
        Err(Stop::new(
            Stop::FAILED,
            format!("{escaped} attempts got out"),
        ))
    }
}

/// The attempts, by class.
fn table(attempts: &[Attempt]) -> String {
    let mut text = String::new();
    for (class, title) in (1_u8..).zip(CLASSES) {
        let _infallible = writeln!(text, "{class:2}  {title}");
        for attempt in attempts.iter().filter(|attempt| attempt.class == class) {
            let result = match (attempt.verdict, &attempt.stopped_by) {
                (Verdict::Stopped, Some(by)) => by.clone(),
                (Verdict::Stopped, None) => "stopped".to_owned(),
                (Verdict::Escaped, _) => "ESCAPED".to_owned(),
                (Verdict::NotInForce, _) => "not in force".to_owned(),
                (Verdict::Unjudged, _) => "unjudged".to_owned(),
            };
            let plain = attempt.verdict == Verdict::Stopped || attempt.detail.is_empty();
            let detail = if plain {
                String::new()
            } else {
                format!(" ({})", attempt.detail)
            };
            let judge = attempt.judged_by;
            let _infallible = writeln!(text, "    {result:20} {judge:10} {}{detail}", attempt.what);
        }
    }
    text
}

fn show_timings(timings: &Timings, as_json: bool) -> Result<(), Stop> {
    if as_json {
        let document = serde_json::to_value(timings);
        return print(document.map_err(|error| Stop::chain(Stop::FAILED, &error))?);
    }
    let mut text = format!("{:32}{:>10}{:>10}\n", "microseconds", "p50", "p95");
    let all = [&timings.cell, &timings.bare];
    let rows = timings.steps.iter().chain(all).chain(&timings.bwrap);
    for row in rows {
        let _infallible = writeln!(text, "{:32}{:>10}{:>10}", row.what, row.p50_us, row.p95_us);
    }
    match timings.ratio {
        Some(ratio) => {
            let _infallible = write!(
                text,
                "a cell takes {ratio} of bubblewrap, {} rounds each",
                timings.rounds
            );
        }
        None => text.push_str("bubblewrap is not installed: nothing to compare with"),
    }
    print(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_attempt_below_its_class() {
        let attempt = |class, verdict| Attempt {
            id: "x".to_owned(),
            class,
            what: format!("way {class}"),
            verdict,
            stopped_by: None,
            judged_by: "host",
            detail: "because".to_owned(),
        };
        let all = [attempt(2, Verdict::Escaped), attempt(1, Verdict::Unjudged)];
        let text = table(&all);
        let place = |word: &str| text.find(word).unwrap_or(usize::MAX);
        assert!(place(CLASSES[0]) < place("way 1") && place("way 1") < place(CLASSES[1]));
        assert!(place(CLASSES[1]) < place("ESCAPED") && place("ESCAPED") < place("way 2"));
        assert!(text.contains("unjudged"));
    }
}
