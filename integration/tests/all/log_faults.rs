//! What happens to disks does not bend the log: damage, no room, a second service, one question
//! many times at once.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use hotcell::log::{Health, Log, LogConfig};
use hotcell_integration::{
    fake, grown, host, http, paths,
    rewound::{Rewound, head, health, leaves},
    service::{Place, Service},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

#[test]
fn a_flipped_bit_anywhere_never_becomes_another_root_of_a_known_size() {
    let log = Rewound::new();
    let (newest, database) = {
        let service = log.place.serve(&[]);
        (
            head(&service),
            LogConfig::of(&grown::data(&log.place)).database,
        )
    };
    let mut files = vec![(database, 24)];
    for (folder, count) in [
        (log.path(&format!("data/{}/tiles", LogConfig::FOLDER)), 2),
        (log.path("sign"), 3),
    ] {
        files.extend(all_files(&folder).into_iter().map(|path| (path, count)));
    }
    let (mut refused, mut fenced, mut unharmed) = (0, 0, 0);
    let mut bits = Bits(20_261_121);
    for (path, count) in files {
        let length = fs::metadata(&path).expect("it is there").len();
        for _ in 0..if length == 0 { 0 } else { count } {
            let (at, bit) = (bits.next() % length, bits.next() % 8);
            flip(&path, at, bit);
            let what = format!("bit {bit} of byte {at} of {}", path.display());
            match start(&log.place) {
                Err(said) => {
                    assert!(said.contains("hotcell: "), "{what}: {said}");
                    assert!(!said.contains("panicked"), "{what}: {said}");
                    refused += 1;
                }
                Ok(service) => {
                    let now = head(&service);
                    let said = health(&service);
                    if said.contains("log: fenced") {
                        assert!(now.0 <= newest.0, "{what}: {now:?}");
                        fenced += 1;
                    } else {
                        assert_eq!(now, newest, "{what}");
                        unharmed += 1;
                    }
                }
            }
            flip(&path, at, bit);
        }
    }
    assert!(
        refused + fenced >= 10,
        "{refused} starts refused, {fenced} fenced, {unharmed} unharmed"
    );
    let service = log.place.serve(&[]);
    assert_eq!(head(&service), newest);
}

/// Numbers without a pattern, the same in each run.
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut all: Vec<PathBuf> = entries
        .flat_map(|entry| match entry.path().is_dir() {
            true => all_files(&entry.path()),
            false => vec![entry.path()],
        })
        .collect();
    all.sort();
    all
}

fn flip(path: &Path, at: u64, bit: u64) {
    let mode = fs::metadata(path).expect("it is there").permissions();
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is that long");
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).expect("it takes bytes");
    fs::set_permissions(path, mode).expect("ours");
}

/// A service that may refuse to start; then what it said.
fn start(place: &Place) -> Result<Service, String> {
    drop(fs::remove_file(place.folder.join("trace.txt")));
    place.try_serve(&[])
}

#[test]
fn a_second_service_on_the_same_folders_refuses_to_start() {
    let log = Rewound::new();
    let service = log.place.serve(&[]);
    let before = head(&service);
    let said = start(&log.place).expect_err("nobody else may append");
    assert!(said.contains("another process"), "{said}");
    // Another data folder with the same signer, as after a copy to a second machine.
    let second = Place::new(&log.path("second"), fake::shared());
    fs::create_dir(&second.folder).expect("ours");
    log.copy("data", "second/data");
    std::os::unix::fs::symlink(log.path("sign"), log.path("second/sign")).expect("ours");
    let said = start(&second).map(|service| health(&service));
    let said = said.unwrap_or_else(|said| said);
    assert!(said.contains("another process"), "{said}");
    assert_eq!(head(&service), before);
    assert!(service.lives());
}

#[test]
fn a_full_disk_stops_appends_only_and_nobody_has_to_do_anything_but_make_room() {
    assert!(
        paths::is_root(),
        "this test mounts a file system: run it as root"
    );
    let folder = paths::scratch("full");
    let _mounted = Mounted::new(folder.path(), "size=6m");
    http::runtime().block_on(async {
        let config = LogConfig::of(&folder.path().join("data"));
        let log = Log::open_local(&config, &folder.path().join("sign"), "localhost");
        let log = log.expect("a new log can be made");
        let mut answered = Vec::new();
        for n in 0..200 {
            answered.push(log.append(grown::entry(n)).await.expect("there is room"));
        }
        let ballast = folder.path().join("ballast");
        drop(fs::write(&ballast, vec![0_u8; 8 << 20])); // as much as there is room for
        let mut failures = 0;
        for n in 200..1_000 {
            match log.append(grown::entry(n)).await {
                Ok(index) => answered.push(index),
                Err(_) => failures += 1,
            }
            if failures == 3 {
                break;
            }
        }
        assert_eq!(failures, 3, "the disk never became full");
        // It reads.
        let found = log.lookup(&grown::record(7).0.key).expect("it can be read");
        assert_eq!(found.map(|found| found.index), answered.get(7).copied());
        fs::remove_file(&ballast).expect("ours");
        let mended = async {
            while !matches!(log.health(), Health::Live)
                || log.append(grown::entry(5_000)).await.is_err()
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let mended = tokio::time::timeout(Duration::from_secs(60), mended).await;
        mended.expect("it goes on by itself once there is room");
        for (n, index) in (0..).zip(answered.iter().take(200)) {
            let found = log.lookup(&grown::record(n).0.key).expect("it can be read");
            assert_eq!(found.map(|found| found.index), Some(*index), "record {n}");
        }
    });
    let place = Place::new(folder.path(), fake::shared());
    let data = folder.path().join("data").display().to_string();
    let audit = place.run(["log", "audit", &data]).wait();
    assert_eq!(audit.code, 0, "{}", audit.err());
}

/// Unmounted when dropped.
pub(crate) struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    pub(crate) fn new(path: &'a Path, size: &str) -> Self {
        let source = Some(host::TEST_DISK);
        let kind = Some("tmpfs");
        mount(source, path, kind, MsFlags::empty(), Some(size)).expect("root can mount");
        Self(path)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        umount2(self.0, MntFlags::MNT_DETACH).expect("ours");
    }
}

#[test]
fn the_same_build_asked_for_many_times_at_once_and_after_a_kill_is_one_record() {
    let folder = paths::scratch("duplicates");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let mut service = place.serve(&[]);
    service.builds("ex.example/hello");
    let ask = |service: &Service| {
        let url = service.record_url("ex.example/many20");
        let all: Vec<_> = (0..40)
            .map(|_| {
                let url = url.clone();
                std::thread::spawn(move || http::try_get(&url))
            })
            .collect();
        let all = all
            .into_iter()
            .map(|one| one.join().expect("a thread ends"));
        all.flatten()
            .filter(|answer| answer.status == 200)
            .map(|answer| answer.text())
            .collect::<Vec<String>>()
    };
    let killed = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&service));
        std::thread::sleep(Duration::from_millis(700));
        let pid = i32::try_from(service.pid()).expect("a pid is positive");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL)
            .expect("ours");
        asking.join().expect("a thread ends")
    });
    service.kill_9();
    let mut service = place.serve(&[]);
    let mut texts = ask(&service);
    assert!(!texts.is_empty(), "{}", service.trace());
    texts.extend(killed);
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(head(&service).0, leaves(2));
    assert_eq!(service.stop(), 0);
}
