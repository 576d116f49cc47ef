//! The configuration file, from `hotcell config` to a service that reads it again.

use std::{fs, path::Path, time::Duration};

use hotcell_integration::{
    fake, host, http, paths,
    service::{Place, Service},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A signal is heard in milliseconds; two busy cores take longer.
const HEARD_MAX: Duration = Duration::from_secs(30);
/// A user that exists nowhere.
const NOBODY: u32 = 54_322;

fn hang_up(service: &Service) {
    let pid = Pid::from_raw(i32::try_from(service.pid()).expect("a pid is positive"));
    kill(pid, Signal::SIGHUP).expect("our own child takes signals");
}

/// Waits until a path of the service has this text, or has it no more.
fn shows(service: &Service, path: &str, text: &str, wanted: bool) {
    let url = format!("{}{path}", service.url());
    let shown = host::wait_for(HEARD_MAX, || {
        let page = http::get(&url).text();
        (page.contains(text) == wanted).then_some(())
    });
    assert!(shown.is_some(), "{path}: {text}\n{}", service.trace());
}

/// Waits until the trace has this text so many times.
fn traces(service: &Service, text: &str, times: usize) {
    let said = host::wait_for(HEARD_MAX, || {
        (service.trace().matches(text).count() == times).then_some(())
    });
    assert!(said.is_some(), "{times} times {text}:\n{}", service.trace());
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the folder takes files");
}

#[test]
fn what_config_prints_is_taken_and_all_mistakes_of_a_file_are_told() {
    let folder = paths::scratch("config");
    let place = Place::new(folder.path(), fake::shared());
    let printed = place.run(["config"]).succeed().out();
    let file = folder.path().join("hotcell.toml");
    write(&file, &printed);
    let tested = place.run(["testconfig", "hotcell.toml"]).succeed();
    let said = "hotcell.toml: serves as localhost on 127.0.0.1:8000";
    assert!(tested.out().contains(said), "{}", tested.out());
    write(
        &file,
        "max_builds = 2\n\nlisten = 'nowhere'\npolicies = 'p'\n",
    );
    for command in [
        &["testconfig", "hotcell.toml"][..],
        &["serve", "--config", "hotcell.toml"],
    ] {
        let refused = place.run(command.iter().copied()).expect(2).err();
        for part in [
            "hotcell.toml:1: max_builds: is no key: write max-builds",
            "hotcell.toml:3: listen: invalid socket address syntax: write listen = ",
            "there are 2 mistakes",
        ] {
            assert!(refused.contains(part), "{command:?}: {part}: {refused}");
        }
    }
    write(
        &file,
        "\npolicies = 'p'\nsign-dir = 'data/keys'\nlisten = '192.0.2.1:80'",
    );
    let refused = place.run(["testconfig", "hotcell.toml"]).expect(2).err();
    for part in [
        "hotcell.toml:2: policies: ",
        "hotcell.toml:3: sign-dir: ",
        "there are 2 mistakes",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    write(&file, "listen = '192.0.2.1:80'");
    let tested = place.run(["testconfig", "hotcell.toml"]).succeed().out();
    assert!(tested.contains("others reach 192.0.2.1:80"), "{tested}");
    let none = place.run(["testconfig", "none.toml"]).expect(2).err();
    assert!(none.contains("cannot be read"), "{none}");
    assert!(!folder.path().join("data").exists(), "nothing was started");
}

#[test]
fn a_service_reads_its_file_again_and_a_broken_one_changes_nothing() {
    let folder = paths::scratch("config");
    let file = folder.path().join("hotcell.toml");
    write(
        &file,
        "notes = ['the first note']\nlisten = '127.0.0.1:1'\n",
    );
    let place = Place::new(folder.path(), fake::shared());
    let mut service = place.serve(&["--config", "hotcell.toml"]);
    shows(&service, "/", "the first note", true);
    let reader = service.role("config");
    assert_eq!(reader.len(), 1, "{reader:?}");
    let status = host::status(reader[0]);
    assert_eq!(status["CapEff"], "0000000000000000");
    assert_eq!(status["Seccomp"], "2");
    // Replaced, as editors do; the file is another one then.
    let other = folder.path().join("new");
    write(
        &other,
        "notes = ['the second note']\ncontact = 'abuse@build.example'\ndisk = 7\n",
    );
    fs::rename(&other, &file).expect("the file can be replaced");
    hang_up(&service);
    shows(&service, "/", "the second note", true);
    shows(&service, "/", "the first note", false);
    shows(&service, "/-/instance", "abuse@build.example", true);
    shows(&service, "/healthz", "note: the second note", true);
    traces(&service, "was read again", 1);
    let trace = service.trace();
    for part in [
        "`notes` changed: it is in force",
        "`contact` changed: it is in force",
        "`disk` changed: it takes effect at the next start",
        "`listen` changed: the command line counts instead",
    ] {
        assert!(trace.contains(part), "{part}: {trace}");
    }
    for (text, why) in [
        ("notes = ['the third note']\nlisen = 1\n", "write listen"),
        ("notes = ['the third note'", "is no TOML"),
    ] {
        write(&file, text);
        hang_up(&service);
        traces(&service, why, 1);
    }
    fs::remove_file(&file).expect("the file can be removed");
    hang_up(&service);
    traces(&service, "cannot be read", 1);
    traces(&service, "nothing was changed", 3);
    shows(&service, "/", "the second note", true);
    shows(&service, "/", "the third note", false);
    for role in ["supervise", "fetch", "sign", "config"] {
        assert_eq!(service.role(role).len(), 1, "{role}");
    }
    assert!(service.lives());
    assert_eq!(service.stop(), 0);
    assert!(
        host::process(reader[0]).is_none(),
        "it ends with the service"
    );
}

#[test]
fn a_service_without_root_reads_its_file_again_and_without_a_file_ends_in_order() {
    let folder = paths::scratch("config");
    let mut place = Place::new(folder.path(), fake::shared());
    if paths::is_root() {
        place = place.as_user(NOBODY);
    }
    let file = folder.path().join("hotcell.toml");
    write(&file, "contact = 'one@build.example'\n");
    let mut service = place.serve(&["--config", "hotcell.toml"]);
    shows(&service, "/-/instance", "one@build.example", true);
    write(&file, "contact = 'two@build.example'\n");
    hang_up(&service);
    shows(&service, "/-/instance", "two@build.example", true);
    assert_eq!(service.stop(), 0);
    let mut service = place.serve(&[]);
    assert!(service.role("config").is_empty());
    hang_up(&service);
    assert!(service.ends_within(HEARD_MAX));
    traces(&service, "the service stops", 2); // the one before stopped, too
    service.kill_9();
}
