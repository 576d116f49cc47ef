//! How long it takes to make a cell, step by step, and beside it the same by bubblewrap.

use std::{
    io,
    process::{Command, Stdio},
    time::Instant,
};

use serde::Serialize;

use super::{Cells, under};
use crate::build::Failure;

/// Times in microseconds of one step or sandbox, over all rounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Half of the rounds took no longer.
    pub p50_us: u64,
    /// 19 of 20 rounds took no longer.
    pub p95_us: u64,
}

/// All measurements of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Timings {
    /// How often each was measured.
    pub rounds: usize,
    /// Steps of the set-up in the cell's first process, in their order.
    pub steps: Vec<Row>,
    /// From the supervisor's receipt of the request to the execution of the program.
    pub cell: Row,
    /// `bwrap --unshare-all` with a program that does nothing, from its start to its end, when it
    /// is installed.
    pub bwrap: Option<Row>,
    /// The same program without any sandbox, from its start to its end: what bubblewrap's number
    /// holds beside the sandbox.
    pub bare: Row,
    /// The cell's median as a part of bubblewrap's, less the program itself.
    pub ratio: Option<f64>,
}

/// Makes cells in which nothing happens, and sandboxes of bubblewrap, in turns, so that other work
/// of this machine slows both.
///
/// # Errors
/// When a cell cannot be made.
pub async fn measure(cells: &Cells, rounds: usize) -> Result<Timings, Failure> {
    let mut steps: Vec<(String, Vec<u64>)> = Vec::new();
    let (mut all, mut bwrap, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let program = under::Program::write().ok();
    let _first = cells.nothing().await?; // whatever is made once is made
    for _ in 0..rounds {
        let (report, setup_us) = cells.nothing().await?;
        all.push(setup_us);
        for (name, us) in report.setup_us {
            match steps.iter_mut().find(|(known, _)| *known == name) {
                Some((_, times)) => times.push(us),
                None => steps.push((name, vec![us])),
            }
        }
        if let Some(program) = &program {
            bare.extend(time(&mut under::bare(program, &["0", "0"])));
            bwrap.extend(time(&mut under::bubblewrap(program, None, &["0", "0"])));
        }
    }
    let (cell, bare) = (row("cell", all), row("no sandbox", bare));
    let bwrap = (bwrap.len() == rounds).then(|| row("bwrap --unshare-all", bwrap));
    let ratio = bwrap.as_ref().map(|other| {
        let other = other.p50_us.saturating_sub(bare.p50_us).max(1);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one start")]
        let ratio = cell.p50_us as f64 / other as f64;
        (ratio * 100.0).round() / 100.0
    });
    Ok(Timings {
        rounds,
        steps: steps
            .into_iter()
            .map(|(name, times)| row(&name, times))
            .collect(),
        cell,
        bwrap,
        bare,
        ratio,
    })
}

/// Start to end of a command that succeeds; nothing when it does not.
fn time(command: &mut Command) -> Option<u64> {
    let begin = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let good: io::Result<bool> = status.map(|status| status.success());
    let took = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    good.is_ok_and(|good| good).then_some(took)
}

fn row(what: &str, mut times: Vec<u64>) -> Row {
    times.sort_unstable();
    let at = |part: usize| {
        let place = (times.len() * part).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or(0)
    };
    Row {
        what: what.to_owned(),
        p50_us: at(50),
        p95_us: at(95),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let all = row("x", (1..=20).rev().collect());
        assert_eq!((all.p50_us, all.p95_us), (10, 19));
        let one = row("x", vec![7]);
        assert_eq!((one.p50_us, one.p95_us), (7, 7));
        assert_eq!(row("x", Vec::new()).p50_us, 0);
    }
}
