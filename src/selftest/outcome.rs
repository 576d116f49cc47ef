//! What came of an attempt that had a cell of its own.
//!
//! Called by [`super::cells`]: the ending and the gate say more here than the program's claim.

use hotcell_sandbox::wire::{Ending, NotInForce};

use super::{
    Attempt, Lock, Row, Verdict,
    cells::Ran,
    judge::{self, How, Recorded},
};

/// A limit without which a bomb would hurt this machine.
pub(super) fn not_tried<'a>(limit: &str, missing: &'a [NotInForce]) -> Option<&'a NotInForce> {
    let harmful = limit == "memory-of-all";
    missing
        .iter()
        .find(|it| harmful && it.what.contains("memory limit"))
}

pub(super) fn claim(row: &Row, run: &Ran) -> Option<How> {
    let run = run.as_ref().ok()?;
    judge::claims(&run.output.terminal())
        .rows
        .get(row.id)
        .copied()
}

/// The stable code of an ending, as in every JSON document.
pub(super) fn code(ending: &Ending) -> String {
    let value = serde_json::to_value(ending).unwrap_or_default();
    let text = |name: &str| {
        value
            .get(name)
            .and_then(|it| it.as_str())
            .map(str::to_owned)
    };
    let code = text("code").unwrap_or_default();
    text("why").map_or(code.clone(), |why| format!("{code}: {why}"))
}

/// Whether the gate let it through.
pub(super) fn of_gate(row: &Row, run: Ran) -> Attempt {
    let by = |verdict, by| Attempt::of(row, verdict, by, "host");
    match run {
        Ok(run) if run.gated => by(Verdict::Escaped, None),
        Ok(run) => by(Verdict::Unjudged, None).detail(code(&run.ending)),
        Err(failure) if ["output_refused", "build_info"].contains(&failure.code.as_str()) => {
            by(Verdict::Stopped, Some("gate")).detail(failure.sentence)
        }
        Err(failure) => by(Verdict::Unjudged, None).detail(failure.sentence),
    }
}

/// Whether anything of a cell outlived it, or was found by the next one.
pub(super) fn of_cell(row: &Row, run: Ran, left: &[u32]) -> Attempt {
    let claim = claim(row, &run);
    let by = |verdict, by| Attempt::of(row, verdict, by, "host");
    match run {
        _ if !left.is_empty() => by(Verdict::Escaped, None).detail(format!("left: {left:?}")),
        Err(failure) => by(Verdict::Unjudged, None).detail(failure.sentence),
        Ok(run) => match claim {
            Some(How::Exit(202)) if row.lock == Lock::Gone => {
                by(Verdict::Stopped, Some(row.lock.word())).detail(code(&run.ending))
            }
            claim => judge::judge(row, claim, Some(&mut Recorded::new(&run.report.forbidden))),
        },
    }
}

/// Whether a limit was kept: the ending says so, or the errno that the program got.
pub(super) fn of_bomb(row: &Row, run: Ran) -> Attempt {
    let claim = claim(row, &run);
    let by = |verdict, by, judge| Attempt::of(row, verdict, by, judge);
    let run = match run {
        Ok(run) => run,
        Err(failure) => {
            return by(Verdict::Unjudged, None, "host").detail(failure.sentence);
        }
    };
    let took = format!("{}, after {} ms", code(&run.ending), run.report.wall_ms);
    match (claim, &run.ending) {
        (Some(How::Exit(200)), _) => {
            let missing = run.report.not_in_force.iter().find(|it| it.is_limit());
            let verdict = if missing.is_some() {
                Verdict::NotInForce
            } else {
                Verdict::Escaped
            };
            by(verdict, None, "program").detail(missing.map_or(took, |it| it.why.clone()))
        }
        (_, ending) if *ending != Ending::Success => {
            by(Verdict::Stopped, Some("limits"), "supervisor").detail(took)
        }
        (Some(How::Signal(libc::SIGKILL | libc::SIGXCPU)), _) => {
            by(Verdict::Stopped, Some("limits"), "program").detail(format!(
                "killed, after {} ms of processor time",
                run.report.cpu_ms
            ))
        }
        (claim, _) => judge::judge(row, claim, Some(&mut Recorded::new(&[]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_without_its_limit_is_not_thrown() {
        let missing = [NotInForce {
            what: "memory limit".to_owned(),
            why: "x".to_owned(),
        }];
        assert!(not_tried("memory-of-all", &missing).is_some());
        assert!(not_tried("memory", &missing).is_none());
        assert!(not_tried("memory-of-all", &[]).is_none());
    }
}
