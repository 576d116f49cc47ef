//! `kill -9` of the service and of its roles at random moments over running builds: whatever the
//! moment was, nothing is left on the host and the log is what it was promised to be.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hotcell_integration::{
    fake, host, http, paths,
    service::{self, Place, Service},
    tools,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::kill::{leftovers, verified};

/// Longest time until every process of a killed service is gone.
const GONE_MAX: Duration = Duration::from_secs(10);
/// A service whose role was killed ends by itself within this time.
const END_MAX: Duration = Duration::from_secs(30);
/// Kills are spread over so many milliseconds: from the request to the middle of a long build.
const SPREAD_MS: u64 = 3_000;
/// Rounds on one data folder; then a fresh one, as builds that finished are not built again.
const ROUNDS_EACH: u64 = 40;
/// Who is killed, in turn.
const VICTIMS: [&str; 5] = ["supervise", "serve", "supervise", "serve", "fetch"];

fn rounds() -> u64 {
    if tools::is_long() { 200 } else { 10 }
}

/// Numbers that differ from run to run; the seed is told when a round fails.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let given = std::env::var("HOTCELL_TEST_SEED").ok();
        let seed = given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(1, |since| u64::from(since.subsec_nanos()))
        });
        #[expect(clippy::print_stderr, reason = "shown with a failure, to repeat it")]
        {
            eprintln!("HOTCELL_TEST_SEED={seed}");
        }
        Self(seed | 1)
    }

    /// Xorshift (Marsaglia 2003), good enough to choose moments.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Long builds, so that most kills hit one, and short ones, so that some hit an append.
fn jobs() -> Vec<String> {
    let long =
        ["big", "big2", "big3"].map(|name| service::record_path(&format!("ex.example/{name}")));
    let short = (0..24).map(|number| service::record_path(&format!("ex.example/many{number}")));
    long.into_iter().chain(short).collect()
}

/// Control groups of ours, wherever this host has them.
fn groups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with("hotcell") {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

/// The process of a role; `serve` is the service itself.
fn role(service: &Service, name: &str) -> u32 {
    if name == "serve" {
        return service.pid();
    }
    let found = service.role(name);
    *found
        .first()
        .unwrap_or_else(|| panic!("no process for {name}: {}", service.trace()))
}

/// One round: builds begin, somebody is killed, everything must be gone.
fn round(
    service: &mut Service,
    victim: &str,
    pause: Duration,
    open: &[String],
    mounts: &[String],
) -> BTreeSet<String> {
    let answered = Mutex::new(BTreeSet::new());
    let below = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for path in open {
            let url = format!("{}{path}", service.url());
            let answered = &answered;
            scope.spawn(move || {
                if http::try_get(&url).is_some_and(|answer| answer.status == 200) {
                    answered
                        .lock()
                        .expect("no asker panics")
                        .insert(path.clone());
                }
            });
        }
        thread::sleep(pause);
        let pid = role(service, victim);
        *below.lock().expect("nobody panics") = host::descendants(service.pid());
        let pid = Pid::from_raw(i32::try_from(pid).expect("a pid is positive"));
        kill(pid, Signal::SIGKILL).expect("our own processes take signals");
        let ended = service.ends_within(END_MAX);
        assert!(ended, "{victim} is gone and the service goes on");
    });
    service.kill_9(); // reaps it
    let below = below.into_inner().expect("nobody panics");
    let gone = host::wait_for(GONE_MAX, || host::alive(&below).is_empty().then_some(()));
    assert!(gone.is_some(), "left behind: {:?}", host::alive(&below));
    assert_eq!(host::mounts(""), mounts, "mounts");
    answered.into_inner().expect("no asker panics")
}

/// Nothing that is older than the start of this life is there once it is ready. Jobs that somebody
/// still wants go on by themselves, so newer things may be.
pub(crate) fn look_after_restart(data: &Path, started: SystemTime) {
    let older = |path: &PathBuf| {
        let changed = fs::symlink_metadata(path).and_then(|meta| meta.modified());
        changed.is_ok_and(|changed| changed < started)
    };
    let left: Vec<_> = leftovers(data).into_iter().filter(older).collect();
    assert!(left.is_empty(), "{left:?}");
    let groups: Vec<_> = groups().into_iter().filter(older).collect();
    assert!(groups.is_empty(), "{groups:?}");
}

#[test]
fn a_kill_of_any_role_at_any_moment_leaves_nothing_and_loses_no_answer() {
    let mut random = Random::seeded();
    let mut left = rounds();
    let mut hit = 0;
    while left > 0 {
        let folder = paths::scratch("kill-anywhere");
        let data = folder.path().join("data");
        let place = Place::new(folder.path(), fake::shared()).stocked();
        let mut service = place.serve(&[]);
        service.builds("ex.example/hello");
        let mounts = host::mounts("");
        let mut open = jobs();
        let mut answered = BTreeSet::from(["ex.example/hello".to_owned()]);
        for number in 0..left.min(ROUNDS_EACH) {
            let victim = VICTIMS[usize::try_from(number).expect("small") % VICTIMS.len()];
            let pause = Duration::from_millis(random.below(SPREAD_MS));
            // The long ones come first in the list, so two long and two others at a time.
            let short = usize::try_from(random.below(open.len() as u64)).expect("small");
            let asked: BTreeSet<String> = open
                .iter()
                .take(2)
                .chain(open.iter().skip(short).take(2))
                .cloned()
                .collect();
            let asked: Vec<String> = asked.into_iter().collect();
            let done = round(&mut service, victim, pause, &asked, &mounts);
            hit += usize::from(done.len() < asked.len());
            open.retain(|path| !done.contains(path));
            for path in &done {
                let module = path
                    .trim_start_matches('/')
                    .split('@')
                    .next()
                    .unwrap_or_default();
                answered.insert(module.to_owned());
            }
            let started = SystemTime::now();
            service = place.serve(&[]);
            assert!(service.lives(), "{}", service.trace());
            look_after_restart(&data, started);
            let records = verified(&service, None);
            for module in &answered {
                let start = format!("{module} ");
                let count = records
                    .iter()
                    .filter(|record| record.starts_with(&start))
                    .count();
                assert_eq!(
                    count, 1,
                    "{victim} after {pause:?}: {module} in {records:?}"
                );
            }
        }
        left -= left.min(ROUNDS_EACH);
        assert_eq!(service.stop(), 0, "an orderly end");
        look_after_restart(&data, SystemTime::now());
    }
    assert!(hit > 0, "no kill met a running build");
}
