//! What a claim of the hostile program is worth.
//!
//! The program says how each of its children ended. That the supervisor killed one can be read in
//! the cell's report, in the same order; what the host can see for itself comes later and wins.

use std::collections::{BTreeMap, HashMap};

use nix::errno::Errno;

use super::{Attempt, Lock, Row, Verdict};

/// Exit codes of the program's children; smaller ones are an errno (`selftest/main.rs`).
const THROUGH: i32 = 200;
const UNABLE: i32 = 201;
const NOTHING: i32 = 202;
const RELAY: i32 = 203;
/// No errno is as large (`asm-generic/errno.h`).
const ERRNO_MAX: i32 = 133;

/// `uretprobe` and `uprobe`, which the kernel shows to no filter (`seccomp_uprobe_exception` of
/// `kernel/seccomp.c`): its own trampolines make them, and whoever else does gets SIGILL or ENXIO.
const UNFILTERED: [i64; 2] = [335, 336];

/// How a child ended, as its parent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Exit(i32),
    Signal(i32),
    Timeout,
}

/// What the program printed, taken apart.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) rows: HashMap<String, How>,
    pub(super) numbers: BTreeMap<i64, How>,
}

/// Takes lines apart; what is no claim is passed over.
pub(super) fn claims(text: &str) -> Claims {
    let mut all = Claims::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [mark @ ("=" | "#"), name, how, number] = words[..] else {
            continue;
        };
        let number = number.parse().unwrap_or(0);
        let how = match how {
            "exit" => How::Exit(number),
            "signal" => How::Signal(number),
            "timeout" => How::Timeout,
            _ => continue,
        };
        if mark == "=" {
            all.rows.insert(name.to_owned(), how);
        } else if let Ok(name) = name.parse() {
            all.numbers.insert(name, how);
        }
    }
    all
}

/// Forbidden calls that the supervisor has recorded, in their order.
#[derive(Debug)]
pub(super) struct Recorded<'a>(std::slice::Iter<'a, String>);

impl<'a> Recorded<'a> {
    pub(super) fn new(forbidden: &'a [String]) -> Self {
        Self(forbidden.iter())
    }
}

/// The name in a record such as `mount(0x0, …) at 0x401000`.
fn name(record: &str) -> &str {
    record.split('(').next().unwrap_or_default()
}

/// Judges one row of several that ran in one cell, one after the other. `recorded` is none in a
/// sandbox without a supervisor.
pub(super) fn judge(row: &Row, claim: Option<How>, recorded: Option<&mut Recorded<'_>>) -> Attempt {
    use Verdict::{Escaped, Stopped, Unjudged};
    let in_cell = recorded.is_some();
    let said = |verdict, by: Option<&str>| Attempt::of(row, verdict, by, "program");
    match claim {
        None => said(Unjudged, None).detail("the program did not come back to say"),
        Some(How::Exit(THROUGH)) => said(Escaped, None),
        Some(How::Exit(UNABLE)) => said(Unjudged, None).detail("what it needs is not there"),
        Some(How::Exit(NOTHING)) => said(Stopped, Some(row.lock.word())),
        Some(How::Exit(RELAY)) => said(Stopped, Some("relay")),
        Some(How::Exit(errno @ 1..=ERRNO_MAX)) => {
            let by = by_errno(row.lock, Errno::from_raw(errno), in_cell);
            said(Stopped, Some(by)).detail(format!("{:?}", Errno::from_raw(errno)))
        }
        Some(How::Exit(code)) => said(Unjudged, None).detail(format!("exit code {code}")),
        Some(How::Signal(libc::SIGSYS)) => said(Stopped, Some("seccomp")).detail("SIGSYS"),
        Some(How::Signal(libc::SIGKILL)) => killed(row, recorded),
        Some(How::Signal(signal @ (libc::SIGSEGV | libc::SIGILL))) => {
            said(Stopped, Some("nothing there")).detail(format!("signal {signal}"))
        }
        Some(How::Signal(signal)) => said(Unjudged, None).detail(format!("signal {signal}")),
        Some(How::Timeout) => said(Unjudged, None).detail("it did not end in time"),
    }
}

/// A killed child: by the supervisor, if it says so.
fn killed(row: &Row, recorded: Option<&mut Recorded<'_>>) -> Attempt {
    let by = |verdict, lock| Attempt::of(row, verdict, lock, "supervisor");
    let Some(record) = recorded.and_then(|recorded| recorded.0.next()) else {
        return Attempt::of(row, Verdict::Unjudged, None, "program")
            .detail("it was killed, and nobody says by whom");
    };
    let named = name(record);
    let expected = match row.lock {
        // A number stands for a call that is newer than our table of names.
        Lock::Call(call) => named == call || named.parse::<u32>().is_ok(),
        _ => true,
    };
    if expected {
        by(Verdict::Stopped, Some("seccomp")).detail(record)
    } else {
        by(Verdict::Unjudged, None).detail(format!("it was killed for another call: {record}"))
    }
}

/// What an errno says about who refused.
fn by_errno(lock: Lock, errno: Errno, in_cell: bool) -> &'static str {
    match errno {
        Errno::ENOSYS | Errno::EAFNOSUPPORT | Errno::ENOTTY => match lock {
            Lock::Call(_) | Lock::Family | Lock::Answer if in_cell => "seccomp",
            _ => "nothing there",
        },
        Errno::ENOENT | Errno::ENXIO | Errno::ENODEV | Errno::ENOTDIR => "nothing there",
        Errno::EROFS | Errno::EXDEV => "mount",
        Errno::EAGAIN
        | Errno::ENOMEM
        | Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOSPC
        | Errno::EFBIG => "limits",
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ECONNREFUSED | Errno::ETIMEDOUT => {
            "namespace"
        }
        Errno::EACCES if in_cell && lock == Lock::Network => "landlock",
        Errno::EACCES if lock == Lock::Mount => "file modes",
        Errno::EPERM if matches!(lock, Lock::Limit | Lock::Bomb(_)) => "limits",
        Errno::EPERM => "no capability",
        _ if in_cell => lock.word(),
        _ => "the kernel",
    }
}

/// Judges the sweep over a range of numbers. `allowed` says for each number of the policy whether
/// it is allowed whatever its arguments; everything else must have been denied.
pub(super) fn judge_numbers(
    row: &Row,
    range: std::ops::Range<i64>,
    claims: &BTreeMap<i64, How>,
    allowed: &BTreeMap<i64, bool>,
    recorded: &[String],
) -> Attempt {
    let said = |verdict, judge| Attempt::of(row, verdict, Some("seccomp"), judge);
    let (mut through, mut open, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    let mut denied = 0;
    for number in range {
        match (claims.get(&number), allowed.get(&number)) {
            (Some(How::Signal(libc::SIGKILL)), Some(true)) | (None, _) => open.push(number),
            (Some(How::Signal(libc::SIGKILL)), _) => denied += 1,
            (Some(How::Signal(libc::SIGSYS)), None) => {}
            (Some(How::Signal(libc::SIGILL) | How::Exit(libc::ENXIO)), None)
                if UNFILTERED.contains(&number) =>
            {
                unseen.push(number);
            }
            (Some(_), Some(_)) => {} // with arguments that mean nothing either answer is right
            (Some(_), None) => through.push(number),
        }
    }
    if !through.is_empty() {
        let mut attempt = said(Verdict::Escaped, "program");
        attempt.stopped_by = None;
        return attempt.detail(format!("not in the policy and not denied: {through:?}"));
    }
    if !open.is_empty() || recorded.len() != denied {
        let told = recorded.len();
        let mut attempt = said(Verdict::Unjudged, "supervisor");
        attempt.stopped_by = None;
        return attempt.detail(format!(
            "{denied} denied, {told} recorded, no answer or a wrong one for {open:?}"
        ));
    }
    let mut detail = format!("{denied} denied, each recorded");
    if !unseen.is_empty() {
        detail.push_str(&format!(
            "; {unseen:?} are shown to no filter; the kernel itself refuses them"
        ));
    }
    said(Verdict::Stopped, "supervisor").detail(detail)
}

/// The same in a sandbox without a supervisor: what reaches the kernel's code and is not in the
/// policy of builds got through.
pub(super) fn judge_numbers_outside(
    row: &Row,
    claims: &BTreeMap<i64, How>,
    allowed: &BTreeMap<i64, bool>,
) -> Attempt {
    let reached = claims
        .iter()
        .filter(|(number, _)| !allowed.contains_key(number))
        .filter(|(_, how)| !matches!(how, How::Exit(libc::ENOSYS | libc::EPERM) | How::Signal(_)))
        .count();
    let (verdict, by) = match (claims.len(), reached) {
        (0, _) => (Verdict::Unjudged, None),
        (_, 0) => (Verdict::Stopped, Some("seccomp")),
        _ => (Verdict::Escaped, None),
    };
    Attempt::of(row, verdict, by, "program").detail(format!(
        "{reached} of {} reach the kernel's code, none of which a build needs",
        claims.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Row = Row {
        id: "bpf",
        class: 13,
        lock: Lock::Call("bpf"),
        what: "bpf",
    };

    fn verdict(claim: Option<How>, forbidden: &[&str]) -> (Verdict, &'static str) {
        let forbidden: Vec<String> = forbidden.iter().map(|one| (*one).to_owned()).collect();
        let attempt = judge(&ROW, claim, Some(&mut Recorded::new(&forbidden)));
        (attempt.verdict, attempt.judged_by)
    }

    #[test]
    fn lines_are_taken_apart_and_others_passed_over() {
        let claims = claims("\n= a exit 13\n= b signal 9\n# 7 timeout 0\nx\n= c exit\n\u{1b}= d\n");
        assert_eq!(claims.rows.len(), 2);
        assert_eq!(claims.rows["a"], How::Exit(13));
        assert_eq!(claims.rows["b"], How::Signal(9));
        assert_eq!(claims.numbers[&7], How::Timeout);
    }

    #[test]
    fn a_kill_counts_only_when_the_supervisor_tells_of_the_same_call() {
        let killed = Some(How::Signal(libc::SIGKILL));
        let stopped = (Verdict::Stopped, "supervisor");
        assert_eq!(verdict(killed, &["bpf(0x0) at 0x1"]), stopped);
        assert_eq!(verdict(killed, &["321(0x0) at 0x1"]), stopped);
        assert_eq!(verdict(killed, &["mount(0x0) at 0x1"]).0, Verdict::Unjudged);
        assert_eq!(verdict(killed, &[]), (Verdict::Unjudged, "program"));
    }

    #[test]
    fn what_came_back_escaped_was_refused_or_is_unknown() {
        for (claim, expected) in [
            (Some(How::Exit(200)), Verdict::Escaped),
            (Some(How::Exit(libc::EACCES)), Verdict::Stopped),
            (Some(How::Exit(202)), Verdict::Stopped),
            (Some(How::Exit(203)), Verdict::Stopped),
            (Some(How::Signal(libc::SIGSYS)), Verdict::Stopped),
            (Some(How::Exit(201)), Verdict::Unjudged),
            (Some(How::Exit(0)), Verdict::Unjudged),
            (Some(How::Exit(210)), Verdict::Unjudged),
            (Some(How::Timeout), Verdict::Unjudged),
            (None, Verdict::Unjudged),
        ] {
            assert_eq!(verdict(claim, &[]), (expected, "program"), "{claim:?}");
        }
    }

    #[test]
    fn a_number_outside_the_policy_must_be_denied_and_recorded() {
        let allowed = BTreeMap::from([(0, true), (1, false)]);
        let killed = How::Signal(libc::SIGKILL);
        let record = vec!["2(0x0) at 0x1".to_owned()];
        let sweep = |claims: &[(i64, How)], recorded: &[String]| {
            let claims = claims.iter().copied().collect();
            judge_numbers(&ROW, 0..3, &claims, &allowed, recorded).verdict
        };
        let good = [(0, How::Exit(200)), (1, How::Exit(22)), (2, killed)];
        assert_eq!(sweep(&good, &record), Verdict::Stopped);
        assert_eq!(sweep(&good, &[]), Verdict::Unjudged);
        assert_eq!(sweep(&good[..2], &[]), Verdict::Unjudged);
        let through = [
            (0, How::Exit(200)),
            (1, How::Exit(200)),
            (2, How::Exit(200)),
        ];
        assert_eq!(sweep(&through, &[]), Verdict::Escaped);
        let probe = |how| {
            let claims = BTreeMap::from([(335, how)]);
            judge_numbers(&ROW, 335..336, &claims, &allowed, &[]).verdict
        };
        assert_eq!(probe(How::Signal(libc::SIGILL)), Verdict::Stopped);
        assert_eq!(probe(How::Exit(libc::ENXIO)), Verdict::Stopped);
        assert_eq!(probe(How::Exit(200)), Verdict::Escaped);
        let strict = [(0, killed), (1, How::Exit(22)), (2, killed)];
        assert_eq!(sweep(&strict, &record), Verdict::Unjudged);
    }
}
