//! The hostile program in production cells: many attempts together where they do not disturb each
//! other, one cell for each where they do.

use std::{fs::File, io, path::PathBuf, time::Duration};

use hotcell_sandbox::{
    policy::Policy,
    wire::{Ending, Report},
};
use tokio::sync::mpsc;

use super::{
    Attempt, Evidence, Lock, Row, Verdict, archive,
    judge::{self, How, Recorded},
    outcome::{claim, not_tried, of_bomb, of_cell, of_gate},
    table,
};
use crate::{
    build::{
        Engine, EnginePolicy, Failure, FailureClass, ProgramRequest, ProgramRun, Progress, ending,
    },
    relay::wire::Order,
    spec::GoVersion,
};

/// Policies with small limits, by name and text, which the supervisor must know: so that no bomb
/// can grow large, and every clock runs out soon.
pub const POLICIES: [(&str, &str); 3] = [
    ("selftest-small", include_str!("../../selftest/small.toml")),
    ("selftest-wall", include_str!("../../selftest/wall.toml")),
    (
        "selftest-silence",
        include_str!("../../selftest/silence.toml"),
    ),
];

/// A cell that has not said what it was started for is given up.
const READY_MAX: Duration = Duration::from_secs(60);
/// Messages of progress that may wait; the rest is dropped.
const PROGRESS_MAX: usize = 256;

/// Runs attempts in cells.
#[derive(Debug)]
pub struct Cells {
    engine: Engine,
    go: GoVersion,
    policy: Policy,
    /// Engines of [`POLICIES`].
    small: [Engine; 3],
    /// The hostile program.
    program: PathBuf,
    /// Arguments for every program.
    args: Vec<String>,
    progress: mpsc::Sender<Progress>,
}

/// What came of one cell.
pub(super) type Ran = Result<ProgramRun, Failure>;

impl Cells {
    /// Prepares; `of` makes what an engine must know of a policy.
    #[must_use]
    pub fn new(
        engine: &Engine,
        go: GoVersion,
        policy: Policy,
        evidence: &Evidence,
        progress: mpsc::Sender<Progress>,
        of: fn(&Policy) -> EnginePolicy,
    ) -> Self {
        let small = POLICIES.map(|(name, text)| {
            let policy = Policy::parse(name, text).expect("a test parses it");
            engine.with_policy(of(&policy))
        });
        Self {
            engine: engine.clone(),
            go,
            policy,
            small,
            program: evidence.program(),
            args: evidence.args(),
            progress,
        }
    }

    /// Where the trees lie that the cells of this run share, by title, below the store.
    ///
    /// # Errors
    /// When the supervisor is gone.
    pub async fn trees(&self) -> Result<Vec<(String, PathBuf)>, Failure> {
        let trees = self.engine.supervise().trees().await;
        let trees = trees.map_err(|error| internal(&error))?;
        let go = self.go.to_string();
        let ours = trees
            .into_iter()
            .filter(|tree| tree.title.split(' ').next() == Some(&go));
        Ok(ours
            .map(|tree| (tree.title, PathBuf::from(tree.name)))
            .collect())
    }

    /// A cell in which nothing is tried: what holds it, and how long it took to make.
    ///
    /// # Errors
    /// When no cell can be made.
    pub async fn nothing(&self) -> Result<(Report, u64), Failure> {
        let run = self.run(&self.engine, &["0", "0"], &[], None).await?;
        if run.ending != Ending::Success {
            let why = format!(
                "a cell in which nothing happens ended otherwise: {:?}",
                run.ending
            );
            return Err(internal(&why));
        }
        Ok((run.report, run.setup_us))
    }

    /// Tries everything but [`Self::orphan`].
    ///
    /// # Errors
    /// When a cell cannot be made; what came out of cells is judged.
    pub async fn all(&self, evidence: &Evidence) -> Result<Vec<Attempt>, Failure> {
        let mut all = archive::attempts().map_err(|e| internal(&e))?;
        for range in table::together() {
            let (first, last) = (range.start.to_string(), range.end.to_string());
            let run = self.run(&self.engine, &[&first, &last], &[], None).await?;
            let claims = judge::claims(&run.output.terminal());
            let mut recorded = Recorded::new(&run.report.forbidden);
            for row in table::all().skip(range.start).take(range.len()) {
                let claim = claims.rows.get(row.id).copied();
                let mut attempt = judge::judge(row, claim, Some(&mut recorded));
                if attempt.stopped_by.as_deref() == Some("relay") && run.served.is_empty() {
                    attempt.judged_by = "host"; // nothing was served, as the fetcher says
                }
                all.push(attempt);
            }
        }
        let allowed = self.policy.numbers();
        for (range, row) in table::NUMBERS {
            let (first, last) = (range.start.to_string(), range.end.to_string());
            let args = ["numbers", &first, &last];
            let run = self.run(&self.engine, &args, &[], None).await?;
            let claims = judge::claims(&run.output.terminal()).numbers;
            let recorded = &run.report.forbidden;
            all.push(judge::judge_numbers(
                &row, range, &claims, &allowed, recorded,
            ));
        }
        for (number, row) in table::alone() {
            if row.id != "orphan" {
                all.push(self.alone(number, row, evidence).await);
            }
        }
        Ok(all)
    }

    /// Tries one row in a cell of its own.
    async fn alone(&self, number: usize, row: &Row, evidence: &Evidence) -> Attempt {
        match row.lock {
            Lock::Gate => {
                let order = Order::Gate {
                    package: "selftest.example/m/program".to_owned(),
                    module: "selftest.example/m".to_owned(),
                    version: "v1.0.0".to_owned(),
                    cross: "linux_amd64".to_owned(),
                };
                of_gate(row, self.one(&self.engine, number, &[], Some(order)).await)
            }
            Lock::Bomb(limit) => self.bomb(number, row, limit).await,
            Lock::Other if row.id != "poisoned" => self.pair(number, row).await,
            _ => {
                let run = self.one(&self.engine, number, &[], None).await;
                of_cell(row, run, &evidence.left())
            }
        }
    }

    /// A bomb, under a policy whose limits are small.
    async fn bomb(&self, number: usize, row: &Row, limit: &str) -> Attempt {
        let engine = match row.id {
            "bomb-stubborn" => &self.small[1],
            "bomb-silence" => &self.small[2],
            _ => &self.small[0],
        };
        if let Some(missing) = not_tried(limit, engine.not_in_force()) {
            return Attempt::of(row, Verdict::NotInForce, None, "host")
                .detail(format!("not tried: {} ({})", missing.what, missing.why));
        }
        of_bomb(row, self.one(engine, number, &BOUNDS, None).await)
    }

    /// Two cells at once: the first holds something, the second looks for it.
    async fn pair(&self, number: usize, row: &Row) -> Attempt {
        let (sender, mut heard) = mpsc::channel(PROGRESS_MAX);
        let unjudged = |why: String| Attempt::of(row, Verdict::Unjudged, None, "host").detail(why);
        let request = match self.request(&number_args(number), &["hold=1", "alone=1"], None) {
            Ok(request) => request,
            Err(error) => return unjudged(error.to_string()),
        };
        let holder = self.engine.program(request, &sender);
        tokio::pin!(holder);
        let ready = async {
            loop {
                match heard.recv().await {
                    Some(Progress::Output { output }) if output.terminal().contains("holding") => {
                        return;
                    }
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            _ended = &mut holder => return unjudged("the first cell could not hold it".to_owned()),
            () = ready => {}
            () = tokio::time::sleep(READY_MAX) => return unjudged("it took too long".to_owned()),
        }
        let other = self.one(&self.engine, number, &[], None).await;
        match claim(row, &other) {
            Some(How::Exit(200)) => Attempt::of(row, Verdict::NotInForce, None, "program").detail(
                "cells that run at the same time share this file, and a file has one set of locks",
            ),
            other => judge::judge(row, other, Some(&mut Recorded::new(&[]))),
        }
    }

    /// Kills the supervisor while a cell runs; nothing of it may go on. The last attempt of all.
    pub async fn orphan(
        self,
        evidence: &Evidence,
        kill: impl FnOnce() -> io::Result<()>,
    ) -> Attempt {
        let (number, row) = table::named("orphan").expect("a test finds it");
        let unjudged = |why: String| Attempt::of(row, Verdict::Unjudged, None, "host").detail(why);
        let (sender, mut heard) = mpsc::channel(PROGRESS_MAX);
        let request = match self.request(&number_args(number), &["alone=1"], None) {
            Ok(request) => request,
            Err(error) => return unjudged(error.to_string()),
        };
        let cell = self.engine.program(request, &sender);
        tokio::pin!(cell);
        let ready = async {
            while let Some(progress) = heard.recv().await {
                let Progress::Output { output } = progress else {
                    continue;
                };
                if output.terminal().contains("waiting") {
                    break;
                }
            }
        };
        tokio::select! {
            _ended = &mut cell => return unjudged("the cell ended too early".to_owned()),
            () = ready => {}
            () = tokio::time::sleep(READY_MAX) => return unjudged("it took too long".to_owned()),
        }
        if let Err(error) = kill() {
            return unjudged(format!("the supervisor could not be killed: {error}"));
        }
        let left = evidence.left();
        if left.is_empty() {
            Attempt::of(row, Verdict::Stopped, Some(row.lock.word()), "host")
        } else {
            Attempt::of(row, Verdict::Escaped, None, "host").detail(format!("left: {left:?}"))
        }
    }

    /// One row alone, for as long as it takes.
    async fn one(&self, engine: &Engine, number: usize, more: &[&str], gate: Option<Order>) -> Ran {
        let [first, last] = number_args(number);
        let more: Vec<&str> = more.iter().copied().chain(["alone=1"]).collect();
        self.run(engine, &[&first, &last], &more, gate).await
    }

    async fn run(
        &self,
        engine: &Engine,
        first: &[&str],
        more: &[&str],
        gate: Option<Order>,
    ) -> Ran {
        let request = self
            .request(first, more, gate)
            .map_err(|error| internal(&error))?;
        engine.program(request, &self.progress).await
    }

    fn request<S: AsRef<str>>(
        &self,
        first: &[S],
        more: &[&str],
        gate: Option<Order>,
    ) -> io::Result<ProgramRequest> {
        // Opened anew each time: the cell reads it from where the descriptor stands.
        let program = File::open(&self.program)?;
        let first = first.iter().map(|word| word.as_ref().to_owned());
        let more = more.iter().map(|word| (*word).to_owned());
        Ok(ProgramRequest {
            go: self.go,
            root: None,
            program: program.into(),
            args: first.chain(self.args.iter().cloned()).chain(more).collect(),
            keep_going: true,
            gate,
        })
    }
}

/// Where bombs stop by themselves, a little above the limits of `selftest/small.toml`.
const BOUNDS: [&str; 7] = [
    "processes=400",
    "files=400",
    "memory=402653184",
    "memory-of-all=805306368",
    "scratch=100663296",
    "inodes=6000",
    "output=268435456",
];

fn number_args(number: usize) -> [String; 2] {
    [number.to_string(), (number + 1).to_string()]
}

fn internal(error: &dyn std::fmt::Display) -> Failure {
    let remedy = "see the trace of hotcell, or run hotcell doctor";
    ending::failure(
        "internal",
        FailureClass::Internal,
        error.to_string(),
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_for_bombs_are_builds_with_smaller_limits() {
        let build = Policy::build();
        for (name, text) in POLICIES {
            let policy = Policy::parse(name, text).unwrap();
            assert_eq!(policy.numbers(), build.numbers());
            let (small, large) = (policy.limits(), build.limits());
            assert!(
                small.processes < large.processes && small.files < large.files,
                "{name}"
            );
            assert!(small.wall_ms < large.wall_ms && small.memory_bytes < large.memory_bytes);
        }
    }

    #[test]
    fn bounds_are_above_the_limits_and_far_below_any_machine() {
        let limits = Policy::parse(POLICIES[0].0, POLICIES[0].1)
            .unwrap()
            .limits();
        let bound = |name: &str| -> u64 {
            let prefix = format!("{name}=");
            let found = BOUNDS.iter().find_map(|it| it.strip_prefix(&prefix));
            found.unwrap().parse().unwrap()
        };
        for (name, limit) in [
            ("processes", limits.processes),
            ("files", limits.files),
            ("memory", limits.memory_bytes),
            ("memory-of-all", limits.cell_memory_bytes),
            ("scratch", limits.scratch_bytes),
            ("inodes", limits.scratch_inodes),
            ("output", limits.output_bytes),
        ] {
            assert!(bound(name) > limit, "{name}");
        }
        assert!(bound("memory-of-all") <= 1 << 30);
        assert!(table::named("orphan").is_some());
    }
}
