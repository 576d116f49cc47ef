//! `kill -9` at random moments while everything is used at once, then a start on the same port:
//! what waited goes on, streams come back, and nothing that was answered is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, SystemTime},
};

use hotcell::log::LogConfig;
use hotcell_integration::{
    fake::{Proxy, set},
    grown, host, http, paths,
    progress::Reader,
    sdk,
    service::{Place, Service, build_path, record_path},
    tools,
};
use rusqlite::{Connection, OpenFlags};

use crate::{
    kill::{leftovers, verified},
    kill_anywhere::{Random, look_after_restart},
};

/// Longest time until every process of a killed service is gone.
const GONE_MAX: Duration = Duration::from_secs(10);
/// Longest time until all that waited is built; a few small builds on a busy machine.
const RESUME_MAX: Duration = Duration::from_mins(3);
/// Kills are spread over so many milliseconds of load.
const SPREAD_MS: u64 = 2_500;
/// The first one comes when something was answered, on a slow machine after this time at most.
const ANSWER_MAX: Duration = Duration::from_mins(2);
/// After so many kills in a row all that waited must be built; until then it may wait on.
const DRAIN_EACH: u64 = 3;
/// Lanes that ask for records.
const ASKERS: usize = 3;
/// Modules for each kill: one for each lane that asks, two more, one for the stream.
const MODULES_EACH: u64 = 6;

fn kills() -> u64 {
    if tools::is_long() { 100 } else { 6 }
}

fn module(number: u64) -> String {
    format!("ex.example/mixed{number}")
}

fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        let more = (0..kills() * MODULES_EACH).map(|number| set::hello(&module(number)));
        Proxy::start(set::all().into_iter().chain(more).collect())
    })
}

/// The service, and what it has promised so far.
struct Load {
    place: Place,
    service: Service,
    address: SocketAddr,
    /// Record of each module that was answered with it.
    answered: Mutex<BTreeMap<String, String>>,
    /// Jobs that were there when it was killed and are not over.
    owed: BTreeSet<String>,
    /// What a first build gave; its binary is downloaded throughout.
    binary: (String, Vec<u8>),
}

impl Load {
    fn start(place: Place) -> Self {
        let service = place.serve(&[]);
        let address = service.address();
        service.builds("ex.example/hello");
        let path = format!("{}hello-v1.0.0-{}", build_path("ex.example/hello"), sdk::GO);
        let first = http::get(&format!("http://{address}{path}"));
        assert_eq!(first.status, 200, "{}", first.text());
        Self {
            place,
            service,
            address,
            answered: Mutex::default(),
            owed: BTreeSet::new(),
            binary: (path, first.body),
        }
    }

    /// Asks for the record; whether the service still answers.
    fn ask(&self, module: &str) -> bool {
        let url = format!("http://{}{}", self.address, record_path(module));
        let Some(answer) = http::try_get(&url) else {
            return false;
        };
        if answer.status == 200 {
            let mut answered = self.answered.lock().expect("nobody panics");
            let known = answered.insert(module.to_owned(), answer.text());
            let same = known.is_none_or(|known| known == answer.text());
            assert!(same, "another record: {}", answer.text());
        }
        true
    }

    /// Reads pages, lists and the log until the service is gone.
    fn read_on(&self, paths: &[&str]) {
        for path in paths.iter().cycle() {
            let Some(answer) = http::try_get(&format!("http://{}{path}", self.address)) else {
                return;
            };
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
    }

    fn download_on(&self) {
        let (path, bytes) = &self.binary;
        while let Some(answer) = http::try_get(&format!("http://{}{path}", self.address)) {
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.body == *bytes, "another binary than at first");
        }
    }

    /// Has the commands of a module listed, in a cell; the service may go meanwhile.
    fn list(&self, module: &str) {
        let request = format!(
            "POST /{module}@v1.0.0 HTTP/1.1\r\nHost: {}\r\nSec-Fetch-Site: same-origin\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            self.address
        );
        let answer = http::raw(self.address, request.as_bytes(), Duration::from_mins(1));
        let status = http::raw_status(&answer);
        assert!([0, 303, 503].contains(&status), "{status}");
    }

    /// Everything at once until it is killed, `pause` after the beginning; the stream.
    fn until_killed(&mut self, round: u64, modules: &[String], pause: Duration) -> Reader {
        let pid = self.service.pid();
        let process = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid is positive"));
        let (streamed, rest) = modules.split_first().expect("some modules");
        let mut reader = Reader::new(&build_path(streamed));
        let load = &*self;
        let below = thread::scope(|scope| {
            scope.spawn(|| reader.read(load.address, RESUME_MAX));
            for lane in 0..ASKERS {
                let mut lane = rest.iter().skip(lane).step_by(ASKERS);
                scope.spawn(move || lane.all(|module| load.ask(module)));
            }
            scope.spawn(|| load.download_on());
            scope.spawn(|| load.list(streamed));
            scope.spawn(|| load.read_on(&["/", "/-/search?q=mixed", "/tlog/latest"]));
            let specs = format!("/api/v1/specs?spec=ex.example/hello@latest&go={}", sdk::GO);
            scope.spawn(move || {
                load.read_on(&[&specs, "/api/v1/results", "/api/v1/records", "/healthz"]);
            });
            thread::sleep(pause);
            if round == 0 {
                let is_answered = || !load.answered.lock().expect("nobody panics").is_empty();
                host::wait_for(ANSWER_MAX, || is_answered().then_some(()));
            }
            let below = host::descendants(pid);
            nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).expect("ours");
            below
        });
        self.service.kill_9(); // reaps it
        let gone = host::wait_for(GONE_MAX, || host::alive(&below).is_empty().then_some(()));
        assert!(gone.is_some(), "left behind: {:?}", host::alive(&below));
        let folder = self.place.folder.display().to_string();
        assert_eq!(host::mounts(&folder), Vec::<String>::new(), "mounts");
        reader
    }

    /// Keys in a table of its database.
    fn keys(&self, table: &str) -> BTreeSet<String> {
        let path = LogConfig::of(&grown::data(&self.place)).database;
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let db = db.expect("the database can be opened");
        let query = format!("SELECT key FROM {table}");
        let mut rows = db.prepare(&query).expect("there is this table");
        let keys = rows.query_map([], |row| row.get(0)).expect("it has keys");
        keys.map(|key| key.expect("a text")).collect()
    }

    /// Starts it again; there is nothing from before but what was promised.
    fn restart(&mut self) {
        let started = SystemTime::now();
        self.service = self.place.serve_at(&self.address.to_string(), &[]);
        assert!(self.service.lives(), "{}", self.service.trace());
        look_after_restart(&self.place.folder.join("data"), started);
    }

    /// The stream goes on where the browser comes back to it, and tells its end.
    fn comes_back(&self, reader: &mut Reader) {
        let seen = reader.last.clone();
        let status = reader.read(self.address, RESUME_MAX);
        let trace = || self.service.trace();
        assert_eq!(status, Some(200), "{}", trace());
        let end = reader.end();
        let end = end.unwrap_or_else(|| panic!("no end: {:?}\n{}", reader.events, trace()));
        assert!(end.contains("\"end\":\"built\""), "{end}\n{}", trace());
        let first = reader.events.first().map(|(kind, _)| kind.as_str());
        let whole = first == Some("reset") || reader.events.len() == 1;
        assert!(
            whole,
            "{seen:?} is of an attempt that is over: {:?}",
            reader.events
        );
    }

    /// What was answered is in the log once, and answered again as it was.
    fn keeps_its_word(&self, ask_all: bool) {
        let records = verified(&self.service, None);
        let answered = self.answered.lock().expect("nobody panics");
        let count = answered.len();
        for (number, (module, text)) in answered.iter().enumerate() {
            let same = records
                .iter()
                .filter(|record| record.trim_end() == text.trim_end());
            assert_eq!(same.count(), 1, "{module}: `{text}` in {records:?}");
            if ask_all || number % 16 == count % 16 {
                let url = format!("http://{}{}", self.address, record_path(module));
                let again = http::get(&url);
                let again = (again.status, again.text());
                assert_eq!(again, (200, text.clone()), "{module}");
            }
        }
        // Module, version, folder, system, processor, release: no key stands there twice.
        let mut keys = records.iter().map(|record| record.split(' ').take(6));
        let mut seen = BTreeSet::new();
        let once = keys.all(|key| seen.insert(key.collect::<Vec<_>>()));
        assert!(once, "twice: {records:?}");
    }

    /// All that waited is built although nobody has asked again.
    fn pays(&mut self) {
        let built = host::wait_for(RESUME_MAX, || {
            let results = self.keys("result");
            self.owed.retain(|key| !results.contains(key));
            self.owed.is_empty().then_some(())
        });
        let trace = self.service.trace();
        assert!(built.is_some(), "not resumed: {:?}\n{trace}", self.owed);
    }
}

#[test]
fn a_kill_while_everything_is_used_loses_nothing_and_what_waited_goes_on() {
    let mut random = Random::seeded();
    let folder = paths::scratch("kill-mixed");
    let mut load = Load::start(Place::new(folder.path(), proxy()).stocked());
    let (mut resumed, mut broken) = (0, 0);
    for round in 0..kills() {
        let first = round * MODULES_EACH;
        let modules: Vec<_> = (first..first + MODULES_EACH).map(module).collect();
        let pause = Duration::from_millis(random.below(SPREAD_MS));
        let mut reader = load.until_killed(round, &modules, pause);
        let waiting = load.keys("job");
        resumed += waiting.len();
        broken += usize::from(reader.last.is_some() && reader.end().is_none());
        load.owed.extend(waiting);
        load.restart();
        load.comes_back(&mut reader);
        if (round + 1) % DRAIN_EACH == 0 || round + 1 == kills() {
            load.pays();
        }
        load.keeps_its_word(round + 1 == kills());
    }
    assert!(resumed > 0, "no kill met a job");
    assert!(broken > 0, "no kill broke a stream");
    let answered = load.answered.lock().expect("nobody panics").len();
    assert!(answered > 0, "no record was answered");
    assert_eq!(load.service.stop(), 0, "an orderly end");
    let left = leftovers(&folder.path().join("data"));
    assert!(left.is_empty(), "{left:?}");
}
