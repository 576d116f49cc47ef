//! `kill -9` at any moment: nothing stays behind, nothing that was promised is lost.

use std::{collections::BTreeMap, fs, path::Path, sync::Mutex, thread, time::Duration};

use hotcell_integration::{
    command::Run,
    fake, host, hostile, http, paths,
    service::{self, Place, Service},
    tools,
};

/// Longest time until every process of a killed service is gone.
const GONE_MAX: Duration = Duration::from_secs(10);

/// Rounds of one test; each is a restart and a few builds.
fn rounds() -> u64 {
    if tools::is_long() { 40 } else { 6 }
}

/// Kills it and asserts that nothing which it had started outlives it.
fn kill_and_look(service: &mut Service, mounts: &[String]) {
    let below = host::descendants(service.pid());
    service.kill_9();
    let gone = host::wait_for(GONE_MAX, || host::alive(&below).is_empty().then_some(()));
    assert!(gone.is_some(), "left behind: {:?}", host::alive(&below));
    assert_eq!(host::mounts(""), mounts, "mounts");
}

/// Reads and verifies the whole log with the Go project's own packages; returns the records.
pub(crate) fn verified(service: &Service, old: Option<&Path>) -> Vec<String> {
    let mut run = Run::new(hostile::xmod()).arg(format!("{}/tlog", service.url()));
    run = run.arg(service.verifier_key());
    if let Some(old) = old {
        run = run.arg("-old").arg(old);
    }
    let told = run.succeed().json();
    let records = told["records"].as_array().expect("a list of records");
    records
        .iter()
        .map(|record| record.as_str().unwrap_or_default().to_owned())
        .collect()
}

/// What lies in the folders for things that are not finished.
pub(crate) fn leftovers(data: &Path) -> Vec<std::path::PathBuf> {
    let unfinished = [
        "serve/artifacts/incoming",
        "fetch/tmp",
        "fetch/staging",
        "store/staging",
    ];
    let folders = unfinished.iter().map(|name| data.join(name));
    let there = |folder: &std::path::PathBuf| assert!(folder.is_dir(), "{}", folder.display());
    folders
        .inspect(there)
        .flat_map(|folder| {
            let found = host::tree(&folder).into_keys();
            found.map(|path| folder.join(path)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_kill_during_a_build_leaves_no_process_no_mount_and_no_folder() {
    let folder = paths::scratch("kill");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let mut service = place.serve(&[]);
    let url = |service: &Service, module: &str| {
        format!("{}{}", service.url(), service::record_path(module))
    };
    assert_eq!(
        http::get(&url(&service, "ex.example/hello")).status,
        200,
        "{}",
        service.trace()
    );
    let mounts = host::mounts("");
    for (round, module) in ["big", "big2", "big3"].into_iter().enumerate() {
        let building = url(&service, &format!("ex.example/{module}"));
        let waiting = thread::spawn(move || http::try_get(&building).map(|answer| answer.status));
        let pid = service.pid();
        let compiling = host::wait_for(Duration::from_secs(60), || {
            let below = host::descendants(pid);
            below
                .iter()
                .any(|process| process.name == "compile")
                .then_some(())
        });
        assert!(
            compiling.is_some(),
            "round {round}: no compiler was seen: {}",
            service.trace()
        );
        thread::sleep(Duration::from_millis(200 * round as u64));
        kill_and_look(&mut service, &mounts);
        let answer = waiting.join().expect("the asker does not panic");
        assert_eq!(
            answer, None,
            "round {round}: no answer was given for a build that was killed"
        );
        service = place.serve(&[]);
        let records = verified(&service, None);
        assert!(
            records
                .iter()
                .any(|record| record.starts_with("ex.example/hello "))
        );
        assert!(
            !records
                .iter()
                .any(|record| record.starts_with(&format!("ex.example/{module} ")))
        );
    }
    assert_eq!(
        http::get(&url(&service, "ex.example/proof")).status,
        200,
        "it builds again"
    );
    assert_eq!(service.stop(), 0, "an orderly end");
    let left = leftovers(&folder.path().join("data"));
    assert!(left.is_empty(), "{left:?}");
}

/// Asks for builds in three lanes, notes what was answered, and kills the service meanwhile.
fn ask_until_killed(
    service: &mut Service,
    answered: &Mutex<BTreeMap<String, String>>,
    pause: Duration,
    mounts: &[String],
) {
    let base = service.url();
    thread::scope(|scope| {
        for lane in 0..3 {
            let base = &base;
            scope.spawn(move || {
                for number in (lane..24).step_by(3) {
                    let module = format!("ex.example/many{number}");
                    let url = format!("{base}{}", service::record_path(&module));
                    let Some(answer) = http::try_get(&url) else {
                        return;
                    };
                    // Any other status promises nothing.
                    if answer.status == 200 {
                        let mut known = answered.lock().expect("no asker panics");
                        known.insert(module, answer.text());
                    }
                }
            });
        }
        thread::sleep(pause);
        kill_and_look(service, mounts);
    });
}

#[test]
fn a_kill_during_appends_loses_no_answered_record() {
    let folder = paths::scratch("kill");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let mut service = place.serve(&[]);
    service.builds("ex.example/hello");
    let mounts = host::mounts("");
    let key = service.verifier_key().to_owned();
    let answered = Mutex::new(BTreeMap::new());
    let head = folder.path().join("head");
    for round in 0..rounds() {
        fs::write(
            &head,
            http::get(&format!("{}/tlog/latest", service.url())).body,
        )
        .expect("the folder takes files");
        // Spread over the seconds in which records are appended, a little different each time.
        let pause = Duration::from_millis(700 + (round * 617) % 2500);
        ask_until_killed(&mut service, &answered, pause, &mounts);
        service = place.serve(&[]);
        assert_eq!(service.verifier_key(), key, "the key is durable");
        let records = verified(&service, Some(&head));
        let known = answered.lock().expect("no asker panics").clone();
        for (module, text) in &known {
            let same = |record: &&String| record.trim_end() == text.trim_end();
            let found = records.iter().filter(same).count();
            assert_eq!(found, 1, "round {round}: {module}: `{text}` in {records:?}");
        }
        let modules: Vec<_> = records
            .iter()
            .filter_map(|record| record.split(' ').next())
            .collect();
        for module in modules
            .iter()
            .filter(|name| name.starts_with("ex.example/"))
        {
            let count = modules.iter().filter(|other| other == &module).count();
            assert_eq!(count, 1, "{module} stands twice in the log");
        }
    }
    assert!(
        !answered.lock().expect("no asker panics").is_empty(),
        "some builds were answered"
    );
    assert_eq!(service.stop(), 0, "an orderly end");
    let left = leftovers(&folder.path().join("data"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn when_one_role_is_killed_the_service_ends_whole() {
    let folder = paths::scratch("kill");
    let place = Place::new(folder.path(), fake::shared());
    for role in ["supervise", "fetch", "sign"] {
        let mut service = place.serve(&[]);
        let below = host::descendants(service.pid());
        let found = service.role(role);
        let [pid] = found[..] else {
            panic!("not one process for {role}: {found:?} of {below:?}");
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid is positive"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("root may");
        let ended = service.ends_within(Duration::from_secs(30));
        assert!(ended, "{role} is gone and the service goes on");
        assert!(
            host::alive(&below).is_empty(),
            "left behind: {:?}",
            host::alive(&below)
        );
        service.kill_9();
    }
}
