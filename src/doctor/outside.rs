//! What only the roles can tell: whether they start, what they cannot enforce, whether a cell can
//! be made, and whether the module proxy and the checksum database answer. Asked of `fetch` and
//! `supervise`, never by this process itself.

use std::{
    fs::File,
    time::{SystemTime, UNIX_EPOCH},
};

use super::Finding;
use crate::{
    build::{Engine, Executor as _},
    fetch::wire::{Answer, Ask},
};

/// Difference of clocks that is worth a word, in seconds.
const CLOCK_S_MAX: u64 = 5 * 60;

/// Asks roles that have started.
pub async fn findings(engine: &Engine) -> Vec<Finding> {
    let mut all = vec![Finding::ok("roles", "supervise and fetch start")];
    for missing in engine.not_in_force() {
        all.push(Finding::warning(
            "not in force",
            format!("{}: {}", missing.what, missing.why),
            "serve refuses other listeners than loopback until this is mended, or accepted by name",
        ));
    }
    for alarm in engine.alarms() {
        let todo = "look for the cause (a disk, memory, an attack), then hotcell toolchain remove";
        all.push(Finding::bad("store", alarm, todo));
    }
    all.push(cell(engine).await);
    all.extend(network(engine).await);
    all
}

async fn cell(engine: &Engine) -> Finding {
    let what = "cell";
    let program = match File::open("/proc/self/exe") {
        Ok(program) => program.into(),
        Err(error) => {
            let says = format!("this program cannot be opened: {error}");
            return Finding::no_cell(what, says, "mount /proc");
        }
    };
    match engine.probe(&program).await {
        Ok(Some(made)) => Finding::ok(
            what,
            format!(
                "made with {} in {} ms; {} defences were read back",
                made.go,
                made.setup_us / 1000,
                made.in_force.len()
            ),
        ),
        Ok(None) => Finding::warning(
            what,
            "not tried, as there is no SDK in this store",
            "hotcell toolchain fetch latest, then hotcell doctor again",
        ),
        Err(failure) => Finding::no_cell(what, failure.sentence, failure.remedy),
    }
}

async fn network(engine: &Engine) -> Vec<Finding> {
    let proxy = "module proxy";
    let database_name = "checksum database";
    let (newest, date_s, database) = match engine.fetch().ask_once(Ask::Probe).await {
        Ok(Answer::Probed {
            newest,
            date_s,
            database,
        }) => (newest, date_s, database),
        Ok(_) => {
            let todo = "see the trace of hotcell";
            return vec![Finding::bad(
                proxy,
                "the fetcher answered something else",
                todo,
            )];
        }
        Err(trouble) => {
            let todo = "look at --goproxy, GOPROXY and the way there (curl -I from this host)";
            return vec![Finding::bad(proxy, trouble.text, todo)];
        }
    };
    let newest = newest.unwrap_or_else(|| "no release for this machine".to_owned());
    let mut all = vec![Finding::ok(
        proxy,
        format!("answers; the newest Go is {newest}"),
    )];
    all.push(match database {
        Ok(size) => Finding::ok(
            database_name,
            format!("answers; its head of {size} records is signed and holds {newest}"),
        ),
        Err(text) => Finding::bad(
            database_name,
            text,
            "look at --sumdb and the way there; when a proof is wrong, do not use this proxy",
        ),
    });
    all.extend(date_s.map(clock));
    all
}

fn clock(there_s: u64) -> Finding {
    let here = SystemTime::now().duration_since(UNIX_EPOCH);
    judge_clock(here.map_or(0, |since| since.as_secs()), there_s)
}

fn judge_clock(here_s: u64, there_s: u64) -> Finding {
    let what = "clock";
    let apart = here_s.abs_diff(there_s);
    if apart <= CLOCK_S_MAX {
        return Finding::ok(what, format!("{apart} s from the module proxy's"));
    }
    Finding::warning(
        what,
        format!(
            "{apart} s from the module proxy's: certificates may seem invalid; builds do not care, \
             traces and pages show wrong times"
        ),
        "turn on time synchronisation (timedatectl set-ntp true)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn clocks_may_differ_by_minutes() {
        for (there, state) in [
            (1_000_000, State::Ok),
            (1_000_000 - CLOCK_S_MAX, State::Ok),
            (1_000_001 + CLOCK_S_MAX, State::Warning),
            (0, State::Warning),
        ] {
            assert_eq!(judge_clock(1_000_000, there).state, state, "{there}");
        }
    }
}
