//! More visitors than there is room for, readers that hardly read, and a full disk, at once: the
//! service refuses with a reason, goes on reading, and builds again by itself when there is room.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use hotcell_integration::{
    fake::{Proxy, set},
    host, http, paths, sdk,
    service::{Place, Service, build_path, record_path},
    tools,
};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    socket::{setsockopt, sockopt::RcvBuf},
};

use crate::{kill::verified, log_faults::Mounted};

/// Visitors, each with a /24 of its own.
const VISITORS: usize = 1_000;
/// Requests at a time.
const LANES: usize = 64;
/// Every so many of the modules asked for exists; the others the module proxy does not know.
const REAL_EACH: usize = 40;
/// Every so many of the requests wait for their record; the others only begin the build.
const WAITING_EACH: usize = 8;
/// Longest wait for an answer; whoever waits for a build may leave before it.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// Longest wait for what comes by itself: health, a build in a full line.
const TURN_MAX: Duration = Duration::from_mins(3);
/// What the service may take at its peak, in KiB: 8,192 connections of some 20 KiB each, 128 MiB
/// of binaries that are downloaded just now, a line of 1,000 jobs, and itself.
const PEAK_KIB_MAX: u64 = 512 << 10;
/// What the service may answer to whoever wants something new.
const ALLOWED: [u16; 7] = [200, 303, 307, 404, 429, 503, 507];

/// Requests and slow readers.
fn sizes() -> (usize, usize) {
    if tools::is_long() {
        (50_000, 5_000)
    } else {
        (2_000, 300)
    }
}

fn module(number: usize) -> String {
    format!("ex.example/flood{number}")
}

/// As many files as this process, and the service that it starts, may have.
pub(crate) fn raise_files(wanted: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    assert!(hard >= wanted, "this test needs {wanted} open files");
}

/// The address of one of the visitors, each in a network of its own.
fn visitor(number: usize) -> String {
    let visitor = number % VISITORS;
    format!("10.{}.{}.9", visitor / 250, visitor % 250)
}

/// A request that is sent and hardly read; open until dropped.
fn slow_reader(address: SocketAddr, path: &str, visitor: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    setsockopt(&stream, RcvBuf, &2_048).ok()?;
    stream.set_read_timeout(Some(ANSWER_MAX)).ok()?;
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: {visitor}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut few = [0; 12];
    stream.read_exact(&mut few).ok()?;
    (few == *b"HTTP/1.1 200").then_some(stream)
}

/// What the flood found.
#[derive(Default)]
struct Found {
    asked: AtomicUsize,
    statuses: Mutex<BTreeMap<u16, usize>>,
    records: Mutex<BTreeMap<String, String>>,
}

impl Found {
    /// One request for something new, of one of the visitors.
    async fn ask(&self, client: &reqwest::Client, base: &str, number: usize) {
        let module = module(number);
        let visitor = visitor(number);
        let waits = number.is_multiple_of(WAITING_EACH);
        let request = if waits {
            client.get(format!("{base}{}", record_path(&module)))
        } else {
            let url = format!("{base}{}", build_path(&module));
            client.post(url).header("sec-fetch-site", "same-origin")
        };
        let request = request.header("x-forwarded-for", visitor);
        let answer = request.timeout(ANSWER_MAX).send().await;
        self.asked.fetch_add(1, Relaxed);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_timeout() && waits => return, // gone before the build was over
            Err(error) => panic!("request {number}: {error:?}"),
        };
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        assert!(ALLOWED.contains(&status), "{module}: {status}: {text}");
        let mut statuses = self.statuses.lock().expect("nobody panics");
        *statuses.entry(status).or_default() += 1;
        if status == 200 {
            let mut records = self.records.lock().expect("nobody panics");
            records.insert(module, text);
        }
    }

    /// All of them, so many at a time.
    fn flood(&self, base: &str, count: usize) {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client can be made");
        http::runtime().block_on(async {
            let next = AtomicUsize::new(0);
            let lane = async || {
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= count {
                        return;
                    }
                    self.ask(&client, base, number).await;
                }
            };
            let mut lanes: Vec<_> = (0..LANES).map(|_| Box::pin(lane())).collect();
            std::future::poll_fn(|context| {
                lanes.retain_mut(|lane| lane.as_mut().poll(context).is_pending());
                match lanes.is_empty() {
                    true => std::task::Poll::Ready(()),
                    false => std::task::Poll::Pending,
                }
            })
            .await;
        });
    }
}

/// Files that fill the disk to its last byte, and are made again when something else made room.
fn fill(ballast: &std::path::Path) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(ballast)
        .expect("a file");
    for bytes in [1 << 20, 4 << 10, 1] {
        while file.write_all(&vec![0; bytes]).is_ok() {}
    }
}

/// Reads what exists, over and over; returns how often.
fn read_on(service: &Service, known: &[(String, Vec<u8>)], over: &AtomicBool) -> usize {
    let mut count = 0;
    while !over.load(Relaxed) {
        for (path, body) in known {
            let answer = http::get(&format!("{}{path}", service.url()));
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let same = body.is_empty() || answer.body == *body;
            assert!(same, "{path}: {}", answer.text());
        }
        count += 1;
    }
    count
}

/// Ends the reads when it goes, also when a check has failed.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Highest memory of the service and of its roles so far, in KiB.
fn peak_kib(service: &Service) -> u64 {
    let mut pids = vec![service.pid()];
    for role in ["supervise", "fetch", "sign"] {
        pids.extend(service.role(role));
    }
    let peak = |pid: &u32| {
        let status = host::status(*pid);
        let text = status.get("VmHWM").map_or("", String::as_str);
        let kib = text.split(' ').next().and_then(|kib| kib.parse().ok());
        kib.unwrap_or(0_u64)
    };
    pids.iter().map(peak).sum()
}

/// Asks for a build as a visitor who has asked for nothing yet, until it is there.
fn builds_again(service: &Service, module: &str, visitor: &str) -> String {
    let url = service.record_url(module);
    let mut last = String::new();
    let built = host::wait_for(TURN_MAX, || {
        let answer = http::get_with(&url, &[("x-forwarded-for", visitor)]);
        last = format!("{}: {}", answer.status, answer.text());
        (answer.status == 200).then(|| answer.text())
    });
    built.unwrap_or_else(|| panic!("{module}: {last}\n{}", service.trace()))
}

#[test]
fn a_flood_slow_readers_and_a_full_disk_at_once_are_refused_with_a_reason_and_pass() {
    assert!(
        paths::is_root(),
        "this test mounts a file system: run it as root"
    );
    raise_files(sizes().1 as u64 + 2_000);
    let (requests, readers) = sizes();
    let real = (0..requests).step_by(REAL_EACH).chain([requests]);
    let real: Vec<_> = real.map(|number| set::hello(&module(number))).collect();
    let proxy = Proxy::start(set::all().into_iter().chain(real).collect());
    let folder = paths::scratch("flood");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("ours");
    let _mounted = Mounted::new(&data, "size=1500m");
    let place = Place::new(folder.path(), &proxy).stocked();
    let mut service = place.serve(&["--trusted-proxy", "127.0.0.0/8", "--disk", "1"]);
    service.builds("ex.example/hello");

    let get = |path: &str| http::get(&format!("{}{path}", service.url()));
    let record = get(&record_path("ex.example/hello"));
    let (result, page) = http::get_following(&service.url(), &build_path("ex.example/hello"));
    assert_eq!(page.status, 200, "{}", page.text());
    let binary = format!("{result}hello-v1.0.0-{}", sdk::GO);
    let known = [
        (record_path("ex.example/hello"), record.body),
        (result, Vec::new()), // tells how long ago
        (binary.clone(), get(&binary).body),
    ];
    let (found, over, ballast) = (
        Found::default(),
        AtomicBool::new(false),
        data.join("ballast"),
    );
    thread::scope(|scope| {
        let reading = scope.spawn(|| read_on(&service, &known, &over));
        let until = Until(&over);
        let address = service.address();
        let slow =
            (0..readers).filter_map(|number| slow_reader(address, &binary, &visitor(number)));
        let slow: Vec<_> = slow.collect();
        assert!(slow.len() * 10 >= readers * 9, "{} are served", slow.len());
        let flooding = scope.spawn(|| found.flood(&service.url(), requests));
        let some = host::wait_for(TURN_MAX, || {
            (found.asked.load(Relaxed) * 4 > requests).then_some(())
        });
        assert!(
            some.is_some(),
            "the flood stands still: {}",
            service.trace()
        );
        fill(&ballast);
        let told = host::wait_for(TURN_MAX, || {
            let health = get("/healthz");
            let text = health.text();
            (health.status == 503 && text.contains("alarm: the disk is nearly full, "))
                .then_some(text)
        });
        let told = told.unwrap_or_else(|| panic!("health is silent: {}", service.trace()));
        assert!(
            told.contains("remedy: remove what else lies on the disk"),
            "{told}"
        );
        while !flooding.is_finished() {
            fill(&ballast); // what the log gives back is taken, too
            thread::sleep(Duration::from_millis(200));
        }
        flooding.join().expect("the flood gets answers");
        let refused = get_as(&service, &module(requests), "10.200.0.1");
        assert_eq!(refused.0, 503, "nothing is built: {}", refused.1);
        drop(until);
        assert!(reading.join().expect("reads go on") > 1, "no reads");
    });

    fs::remove_file(&ballast).expect("ours");
    let text = builds_again(&service, &module(requests), "10.200.1.1");
    let mut records = found.records.into_inner().expect("nobody panics");
    records.insert(module(requests), text);
    let health = host::wait_for(TURN_MAX, || service.lives().then_some(()));
    assert!(health.is_some(), "{}", get("/healthz").text());
    let statuses = found.statuses.into_inner().expect("nobody panics");
    let peak = peak_kib(&service);
    #[expect(clippy::print_stderr, reason = "shown with --nocapture")]
    {
        let records = records.len();
        eprintln!(
            "{statuses:?}, {records} records, at most {} MiB",
            peak >> 10
        );
    }
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB at the peak");
    assert!(
        statuses.contains_key(&503),
        "nobody was refused: {statuses:?}"
    );
    let logged: BTreeSet<_> = verified(&service, None)
        .iter()
        .map(|record| record.trim_end().to_owned())
        .collect();
    for (module, text) in &records {
        assert!(logged.contains(text.trim_end()), "{module} is not logged");
        let key = build_path(module);
        let found = get(&format!("/tlog/lookup{key}")).text();
        assert!(found.contains(text.as_str()), "{module}: {found}");
    }
    assert!(!service.trace().contains("panicked"), "{}", service.trace());
    assert_eq!(service.stop(), 0, "an orderly end");
}

/// Status and text of the record, as a visitor.
fn get_as(service: &Service, module: &str, visitor: &str) -> (u16, String) {
    let answer = http::get_with(&service.record_url(module), &[("x-forwarded-for", visitor)]);
    (answer.status, answer.text())
}
