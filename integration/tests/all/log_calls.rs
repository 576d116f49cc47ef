//! A kill, or an error, at any system call of an append: nothing that was promised is lost.
//!
//! The program is the real one, with its roles; `strace` puts the faults in. Each round begins with
//! the same folders, so that a thread's calls are the same in each.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use hotcell_integration::{
    host, http,
    kept::{Kept, MODULE, OTHER},
    promised::Promised,
    service::Service,
    tools,
    traced::{Call, Threads, Traced, threads},
};

/// Calls that change something outside of the process, or ask for it. `?` is for those that a
/// machine may not have.
const CALLS: &str = "openat,write,pwrite64,writev,pwritev,fsync,fdatasync,ftruncate,fallocate,\
    ?rename,renameat,renameat2,?link,linkat,?unlink,unlinkat,?mkdir,mkdirat,?chmod,fchmod,fchmodat,\
    sendto,sendmsg,recvmsg";
/// What a disk can answer to its calls.
const ERRORS: [&str; 3] = ["error=EIO", "error=ENOSPC", "error=EINTR"];
/// A write that wrote nothing is the shortest of short ones; a longer one cannot be had without
/// lying about the bytes.
const SHORT: &str = "retval=0";
/// What is called in the place of a call that fails: else it is none, which the roles' filters
/// answer with the end of the process.
const INSTEAD: &str = "syscall=getpid";
/// Without `--long`, one in so many faults is tried; prime to the number of errors.
const EVERY: usize = 7;
/// Longest time until a killed service is gone, or an append is over with all that follows it.
const OVER_MAX: Duration = Duration::from_secs(30);

/// Whose calls go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// The thread of `serve` that appends.
    Appender,
    /// Any thread of `serve`, the first one that gets so far: those that answer, that keep the
    /// jobs, that have statements signed.
    All,
    /// The role `sign`.
    Sign,
}

impl Victim {
    fn threads(self, service: &Service) -> Threads {
        match self {
            Self::Appender => Threads::Only(vec![appender(service)]),
            Self::All => Threads::All(service.pid()),
            Self::Sign => Threads::Only(service.role("sign")),
        }
    }
}

fn appender(service: &Service) -> u32 {
    let found = threads(service.pid(), Some("log-appender"));
    assert_eq!(found.len(), 1, "one thread appends");
    found[0]
}

/// A service at the moment before an append, traced.
struct Round<'a> {
    kept: &'a Kept,
    what: String,
    promised: Promised,
    service: Service,
    /// The process that holds the victim.
    victim: u32,
    traced: Traced,
}

impl<'a> Round<'a> {
    fn begin(kept: &'a Kept, victim: Victim, fault: Option<&str>) -> Self {
        kept.put_back();
        let promised = Promised::default();
        let service = kept.serve();
        promised.head(&service.url(), service.verifier_key());
        let threads = victim.threads(&service);
        Self {
            // Looked up before the tracer holds it: a call that it waits in is its first.
            victim: match victim {
                Victim::Sign => service.role("sign")[0],
                Victim::Appender | Victim::All => service.pid(),
            },
            what: format!("{victim:?} with {}", fault.unwrap_or("no fault")),
            traced: Traced::begin(&threads, CALLS, fault, &kept.path("calls")),
            kept,
            promised,
            service,
        }
    }

    /// Asks for the record; with `looks`, while somebody else looks at the head all the time.
    fn ask(&self, looks: bool) -> Option<u16> {
        let (url, key) = (self.service.url(), self.service.verifier_key());
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while looks && !over.load(Relaxed) && self.promised.head(&url, key).is_some() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let status = self.promised.ask(&url, MODULE);
            over.store(true, Relaxed);
            status
        })
    }

    fn is_over<T>(&self, look: impl FnMut() -> Option<T>) -> T {
        let over = host::wait_for(OVER_MAX, look);
        over.unwrap_or_else(|| panic!("{}: no end: {}", self.what, self.service.trace()))
    }

    /// Ends the service without a warning, starts it again and asserts that it kept its promises.
    fn end(mut self) -> Vec<Call> {
        let calls = self.traced.end();
        let below = host::descendants(self.service.pid());
        self.service.kill_9();
        let gone = host::wait_for(OVER_MAX, || host::alive(&below).is_empty().then_some(()));
        assert!(
            gone.is_some(),
            "{}: left: {:?}",
            self.what,
            host::alive(&below)
        );
        let mut service = self.kept.place.serve(&[]);
        let database = self.kept.database();
        let what = &self.what;
        self.promised
            .assert_kept(&service, &database, &[MODULE, OTHER], what);
        assert_eq!(service.stop(), 0, "{what}");
        calls
    }
}

/// The calls of an append without a fault.
fn calls(kept: &Kept, victim: Victim) -> Vec<Call> {
    let round = Round::begin(kept, victim, None);
    assert_eq!(round.ask(false), Some(200));
    round.is_over(|| kept.has_tile().then_some(()));
    round.end()
}

/// One append with a kill at a call; whether there was such a call.
fn kill_at(kept: &Kept, victim: Victim, name: &str, nth: usize) -> bool {
    let fault = format!("{name}:signal=KILL:when={nth}");
    let round = Round::begin(kept, victim, Some(&fault));
    let is_gone = || host::process(round.victim).is_none_or(|process| process.zombie);
    // Who looks at heads makes calls of the other threads.
    let status = round.ask(victim != Victim::All);
    let hit = round.is_over(|| match is_gone() {
        true => Some(true),
        false => (status == Some(200) && kept.has_tile()).then_some(false),
    });
    round.end();
    hit
}

#[test]
fn a_kill_at_any_call_of_an_append_loses_nothing() {
    let kept = Kept::new();
    for victim in [Victim::Appender, Victim::Sign] {
        let calls = calls(&kept, victim);
        let is_whole = |path: &str, name: &str| {
            let is = |call: &Call| call.path.ends_with(path) && call.name == name;
            calls.iter().any(is)
        };
        match victim {
            Victim::Sign => assert!(is_whole("/last", "fdatasync"), "{calls:?}"),
            _ => {
                for (path, name) in [("-wal", "fsync"), ("hotcell.db", "fsync"), ("", "linkat")] {
                    assert!(is_whole(path, name), "no {name} of {path}: {calls:?}");
                }
            }
        }
        for call in &calls {
            let hit = kill_at(&kept, victim, &call.name, call.nth);
            // The sign that somebody is to be woken is not always needed, and the last call of all
            // waits for a question that does not come.
            assert!(
                hit || call.name == "write" || !call.is_ended(),
                "no {call:?}"
            );
        }
        kept.audit();
    }
    let others = calls_of_others(&kept);
    for name in [
        "writev", "write", "pwrite64", "fsync", "openat", "sendmsg", "recvmsg",
    ] {
        let most = others
            .iter()
            .filter(|call| call.name == name)
            .map(|call| call.nth)
            .max();
        let most = most.unwrap_or_else(|| panic!("no {name} in other threads: {others:?}"));
        let hits = (1..=most).filter(|nth| kill_at(&kept, Victim::All, name, *nth));
        assert!(hits.count() > 0, "no {name} in other threads");
    }
    kept.audit();
}

/// The calls of an append in threads of `serve` beside the one that appends.
fn calls_of_others(kept: &Kept) -> Vec<Call> {
    let round = Round::begin(kept, Victim::All, None);
    let appender = appender(&round.service);
    assert_eq!(round.ask(false), Some(200));
    round.is_over(|| kept.has_tile().then_some(()));
    let calls = round.end().into_iter();
    calls.filter(|call| call.thread != Some(appender)).collect()
}

/// One append with an error at a call, and another one after it: what was answered to the first,
/// and all calls of the victim.
fn fail_at(kept: &Kept, victim: Victim, fault: &str) -> (Option<u16>, Vec<Call>) {
    let round = Round::begin(kept, victim, Some(fault));
    let status = round.ask(victim != Victim::All);
    let (url, key) = (round.service.url(), round.service.verifier_key());
    let health = || {
        let answer = http::try_get(&format!("{url}/healthz"));
        answer.map_or_else(String::new, |answer| answer.text())
    };
    // Nobody does anything, and it goes on.
    round.is_over(|| {
        let done = status != Some(200) || kept.tiles().contains(&"000".into());
        (done && health().contains("log: live")).then_some(())
    });
    round.promised.head(&url, key);
    let goes_on = || {
        let other = round.promised.ask(&url, OTHER);
        // The first such call of the next thread fails as well.
        let late = victim == Victim::All && other != Some(200);
        (!late).then_some(other)
    };
    let other = round.is_over(goes_on);
    let said = || format!("{}: {}", round.what, round.service.trace());
    assert_eq!(other, Some(200), "{}", said());
    round.promised.head(&url, key);
    (status, round.end())
}

/// All errors at all calls to files that a disk can answer so.
fn faults(calls: &[Call]) -> Vec<String> {
    let mut all = Vec::new();
    // What wakes others is written by the same call as a tile, and not always: left out.
    let of_files = calls
        .iter()
        .filter(|call| call.is_of_a_file() && call.name != "write");
    for Call { name, nth, .. } in of_files {
        let short = name.contains("write").then_some(SHORT);
        for error in ERRORS.into_iter().chain(short) {
            all.push(format!("{name}:{error}:{INSTEAD}:when={nth}"));
        }
    }
    all
}

#[test]
fn an_error_at_any_call_of_an_append_is_no_answer_or_a_durable_one() {
    let kept = Kept::new();
    let every = match tools::is_long() {
        true => 1,
        false => EVERY,
    };
    let mut all = Vec::new();
    for victim in [Victim::Appender, Victim::Sign] {
        let faults = faults(&calls(&kept, victim)).into_iter();
        all.extend(faults.map(|fault| (victim, fault)));
    }
    for name in ["openat", "pwrite64", "fsync"] {
        let fault = |error| (Victim::All, format!("{name}:{error}:{INSTEAD}:when=1"));
        all.extend(ERRORS.map(fault));
    }
    for (victim, fault) in all.into_iter().step_by(every) {
        let (_, calls) = fail_at(&kept, victim, &fault);
        assert!(calls.iter().any(|call| call.is_injected), "no {fault}");
    }
    kept.audit();
}

#[test]
fn a_sync_that_failed_once_is_never_believed_for_the_same_bytes() {
    let kept = Kept::new();
    for victim in [Victim::Appender, Victim::Sign] {
        let syncs = calls(&kept, victim).into_iter();
        for sync in syncs.filter(|call| matches!(&*call.name, "fsync" | "fdatasync")) {
            let fault = format!("{}:error=EIO:{INSTEAD}:when={}", sync.name, sync.nth);
            let (status, calls) = fail_at(&kept, victim, &fault);
            let failed = calls.iter().position(|call| call.is_injected);
            let failed = failed.unwrap_or_else(|| panic!("no {fault}"));
            assert_written_again(&calls[failed..], status, &fault);
        }
    }
    kept.audit();
}

/// Asserts that a file whose sync failed is opened, written or emptied before the next sync of it.
fn assert_written_again(calls: &[Call], status: Option<u16>, what: &str) {
    let failed = &calls[0];
    let later: Vec<&Call> = calls[1..]
        .iter()
        .filter(|call| call.path == failed.path)
        .collect();
    let next = |names: &[&str]| later.iter().position(|call| names.contains(&&*call.name));
    let sync = next(&["fsync", "fdatasync"]).unwrap_or(later.len());
    if !failed.path.ends_with("-wal") {
        let again = next(&["openat", "pwrite64"]).unwrap_or(later.len());
        assert!(again <= sync, "{what}: {failed:?} and then {later:?}");
    } else if status != Some(200) {
        // What the page cache dropped may be older than this commit. A log that goes on behind it
        // ends there after a power cut, so that nothing may be written before all is elsewhere.
        let emptied = next(&["ftruncate"]).unwrap_or(later.len());
        let again = next(&["pwrite64"]).unwrap_or(later.len());
        assert!(emptied < again, "{what}: {failed:?} and then {later:?}");
    }
}
