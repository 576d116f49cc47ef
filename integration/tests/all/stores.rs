//! What builds share is read again, and is put away when it is not what it was.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use hotcell_integration::{
    command::{Ended, Run},
    fake, host, hostile, http, paths,
    service::{self, Place},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{bare_go, in_cell};

/// The compiler: nothing is worth more to an attacker.
const COMPILER: &str = "pkg/tool/linux_amd64/compile";
/// Longest time until the schedule has looked: it begins after half a minute.
const SCHEDULE_MAX: Duration = Duration::from_secs(150);

/// A user of their own, with a copy of the warm caches.
pub(crate) struct User {
    pub(crate) place: Place,
    _folder: TempDir,
}

pub(crate) fn copy(from: &Path, to: &Path) {
    Run::new("cp").arg("-a").arg(from).arg(to).succeed();
}

pub(crate) fn user(name: &str) -> User {
    let folder = tempfile::Builder::new()
        .prefix(name)
        .tempdir_in(paths::cache())
        .expect("a folder can be made");
    copy(&service::user().folder.join("cache"), folder.path());
    let place = Place::new(folder.path(), fake::shared());
    User {
        place,
        _folder: folder,
    }
}

impl User {
    pub(crate) fn store(&self) -> PathBuf {
        self.place.folder.join("cache/hotcell/store")
    }

    fn cached(&self) -> PathBuf {
        self.place.folder.join("cache/hotcell/fetch")
    }

    pub(crate) fn verify(&self) -> Ended {
        self.place.run(["toolchain", "verify", "--json"]).wait()
    }

    /// Builds, and expects the bytes that the bare go command makes.
    pub(crate) fn builds_right(&self, module: &str) -> Ended {
        let output = self.place.folder.join("binary");
        let name = module.rsplit('/').next().expect("a path has parts");
        let ended = self.place.build(&format!("{module}@v1.0.0"), &output, &[]);
        assert_eq!(ended.code, 0, "{module}: {}", ended.err());
        assert_eq!(host::sha256(&output), bare_go(module, name), "{module}");
        ended
    }
}

/// The one entry of `folder` that has this extension, without it.
pub(crate) fn tree(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).expect("the store is there").flatten();
    let manifests = entries.map(|entry| entry.path());
    let mut found = manifests.filter(|path| path.extension().is_some_and(|it| it == "manifest"));
    let first = found.next().expect("a tree is there");
    first.with_extension("")
}

fn flip(path: &Path) {
    let open = |path: &Path| File::options().read(true).write(true).open(path);
    let mode = fs::metadata(path).expect("the file is there").permissions();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let file = open(path).expect("it is ours");
    let at = file.metadata().expect("it is open").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it has bytes");
    file.write_all_at(&[byte[0] ^ 0x40], at)
        .expect("it is ours");
    file.sync_all().expect("there is a disk");
    fs::set_permissions(path, mode).expect("it is ours");
}

/// The sentences about what was put away.
pub(crate) fn put_away(ended: &Ended) -> Vec<String> {
    let checked = ended.json()["checked"].clone();
    let lines = checked.as_array().into_iter().flatten();
    let texts = lines.filter_map(|line| line["put_away"].as_str().map(str::to_owned));
    texts.collect()
}

#[test]
fn everything_is_sound_and_read_past_the_page_cache_where_that_is_possible() {
    let user = user("sound");
    let ended = user.verify();
    assert_eq!(ended.code, 0, "{}", ended.err());
    let told = ended.json();
    let lines = told["checked"].as_array().expect("a list");
    let files: u64 = lines.iter().filter_map(|line| line["files"].as_u64()).sum();
    assert!(lines.len() >= 3, "SDK, standard library, modules: {told}");
    assert!(files > 10_000, "{files} files");
    assert!(lines.iter().all(|line| line["sound"] == Value::Bool(true)));
}

#[test]
fn a_changed_compiler_is_put_away_with_all_that_it_made_and_the_next_build_is_right() {
    let user = user("sdk");
    let sdk = tree(&user.store().join("sdk"));
    flip(&sdk.join(COMPILER));
    let ended = user.verify();
    assert_eq!(ended.code, 3, "{}", ended.err());
    let told = put_away(&ended);
    assert!(told.iter().any(|why| why.contains(COMPILER)), "{told:?}");
    assert!(
        told.iter().any(|why| why.contains("made by go1.")) || told.len() == 1,
        "{told:?}"
    );
    assert!(!sdk.exists(), "nothing can mount it");
    let list = user.place.run(["toolchain", "list"]).succeed().out();
    assert!(
        list.contains("PUT AWAY") && list.contains(COMPILER),
        "{list}"
    );
    assert!(
        !list.contains("linux/amd64\t") || list.matches("PUT AWAY").count() > 1,
        "{list}"
    );
    user.builds_right("ex.example/hello");
    assert!(sdk.join(COMPILER).is_file(), "fetched afresh");
    let again = user
        .place
        .run(["toolchain", "verify", "go1.26.8", "--json"])
        .wait();
    assert_eq!(
        again.code, 3,
        "what lies in quarantine is told until it is removed"
    );
    user.place
        .run(["toolchain", "remove", "go1.26.8"])
        .succeed();
    assert_eq!(user.place.run(["toolchain", "list"]).succeed().out(), "");
}

#[test]
fn a_changed_frozen_cache_is_found_after_an_attack_and_before_the_next_build() {
    let user = user("std");
    let std = tree(&user.store().join("std"));
    let files = host::tree(&std);
    let entry = files.iter().max_by_key(|(_, seen)| seen.bytes);
    flip(&std.join(entry.expect("the cache has entries").0));
    let program = hostile::program("calls");
    let ended = in_cell(&user.place, &[], &program, &["ptrace"]).wait();
    assert!(ended.err().contains("[forbidden_call]"), "{}", ended.err());
    // The command ended before or while it was read; the suspicion has outlived it.
    let ended = user.builds_right("ex.example/proof");
    let list = user.place.run(["toolchain", "list"]).succeed().out();
    assert!(list.contains("PUT AWAY"), "{list}\n{}", ended.err());
    assert!(std.is_dir(), "made again");
}

#[test]
fn a_changed_module_file_is_found_before_it_is_used() {
    let user = user("zips");
    user.builds_right("ex.example/tidy");
    for (kind, path) in [("zip", "ex.example/a@"), ("mod", "module ex.example/b\n")] {
        let files = host::tree(&user.cached().join(kind));
        let paths = files.iter().filter(|(_, seen)| !seen.folder);
        let mut found = paths.map(|(path, _)| user.cached().join(kind).join(path));
        let holds = |path: &PathBuf, text: &str| {
            let bytes = fs::read(path).expect("the file is there");
            String::from_utf8_lossy(&bytes).contains(text)
        };
        let file = found
            .find(|file| holds(file, path))
            .expect("the module is cached");
        let before = fs::read(&file).expect("the file is there");
        flip(&file);
        user.builds_right("ex.example/tidy");
        assert_eq!(
            fs::read(&file).expect("it is there again"),
            before,
            "{kind}"
        );
        let kept = host::tree(&user.cached().join("quarantine"));
        let prefix = format!("{kind}-");
        assert!(
            kept.keys()
                .any(|path| path.display().to_string().starts_with(&prefix))
        );
    }
    let ended = user.verify();
    assert_eq!(
        ended.code,
        0,
        "what is used is sound again: {}",
        ended.err()
    );
}

#[test]
fn the_service_finds_a_change_by_itself_says_so_everywhere_and_builds_on() {
    let user = user("daily");
    let data = user.place.folder.join("data");
    fs::create_dir_all(&data).expect("our folder");
    fs::rename(
        user.place.folder.join("cache/hotcell/store"),
        data.join("store"),
    )
    .expect("ours");
    let sdk = tree(&data.join("store/sdk"));
    flip(&sdk.join(COMPILER));
    for kind in ["sdk", "std"] {
        // As if the last check were of yesterday.
        let mark = tree(&data.join("store").join(kind)).with_extension("checked");
        let file = File::options()
            .write(true)
            .open(mark)
            .expect("a tree has a mark");
        let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
        file.set_modified(yesterday).expect("it is ours");
    }
    let service = user.place.serve(&[]);
    let health = || http::get(&format!("{}/healthz", service.url()));
    assert_eq!(health().status, 200, "{}", health().text());
    let told = host::wait_for(SCHEDULE_MAX, || {
        (health().status == 503).then(|| health().text())
    });
    let told = told.unwrap_or_else(|| panic!("not found: {}", service.trace()));
    assert!(
        told.contains("alarm: ") && told.contains(COMPILER),
        "{told}"
    );
    assert!(service.trace().contains(COMPILER), "{}", service.trace());
    let path = service::record_path("ex.example/hello");
    // Fetched and compiled afresh: on a busy machine longer than one request waits.
    let url = format!("{}{path}", service.url());
    let answer = host::wait_for(service::COMMAND_MAX, || http::try_get(&url));
    let answer = answer.unwrap_or_else(|| panic!("no answer: {}", service.trace()));
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), service.trace());
    let wanted = http::get(&format!("{}{path}", service::service().url()));
    assert_eq!(answer.text(), wanted.text(), "the same record");
    drop(service);
    let service = user.place.serve(&[]);
    let health = http::get(&format!("{}/healthz", service.url()));
    assert_eq!(
        health.status,
        503,
        "until somebody has looked: {}",
        health.text()
    );
    fs::remove_dir_all(data.join("store/quarantine")).expect("ours");
    drop(service);
    let service = user.place.serve(&[]);
    assert!(service.lives(), "{}", service.trace());
}

#[test]
fn a_cell_that_runs_on_what_has_changed_is_ended() {
    let user = user("running");
    let sdk = tree(&user.store().join("sdk"));
    flip(&sdk.join("VERSION"));
    let mark = File::options()
        .write(true)
        .open(sdk.with_extension("checked"));
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    let marked = mark.expect("a tree has a mark").set_modified(yesterday);
    marked.expect("it is ours");
    // Nobody would end it else: the schedule of its own supervisor does.
    let run = in_cell(&user.place, &[], &hostile::program("sleeper"), &[]);
    let ended = run.time_max(SCHEDULE_MAX).wait();
    assert_eq!(ended.code, 4, "{}", ended.err());
    assert!(ended.err().contains("[store_changed]"), "{}", ended.err());
    assert!(!sdk.exists(), "put away");
}
