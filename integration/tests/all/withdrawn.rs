//! A takedown: the file says what is not handed out any more, and why; clients are told the same.

use std::{fs, time::Duration};

use hotcell_integration::{
    fake, host, http, paths, sdk,
    service::{Place, Service, build_path, record_path},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const MODULE: &str = "ex.example/hello";

/// Waits until the list of what was withdrawn has this text, or is empty.
fn shows(service: &Service, text: &str) {
    let url = format!("{}/api/v1/withdrawn", service.url());
    let shown = host::wait_for(Duration::from_secs(30), || {
        http::get(&url).text().contains(text).then_some(())
    });
    assert!(shown.is_some(), "{text}: {}", service.trace());
}

#[test]
fn a_withdrawn_build_is_refused_with_its_reason_until_that_is_undone() {
    let folder = paths::scratch("withdrawn");
    let file = folder.path().join("hotcell.toml");
    let write = |text: &str| fs::write(&file, text).expect("the folder takes files");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    write("withdrawn = ['ex.example/hello the version is missing']\n");
    let told = place.run(["testconfig", "hotcell.toml"]).expect(2).err();
    let wanted = "hotcell.toml:1: withdrawn: write KEY REASON";
    assert!(told.contains(wanted), "{told}");
    write("contact = 'abuse@build.example'\n");
    let mut service = place.serve(&["--config", "hotcell.toml"]);
    service.builds(MODULE);
    let key = build_path(MODULE).trim_start_matches('/').to_owned();
    let (log, bin) = (format!("{}/tlog", service.url()), folder.path().join("bin"));
    fs::create_dir_all(&bin).expect("the folder can be made");
    let bin = bin.display().to_string();
    let get = |service: &Service| {
        let options = ["--url", &log, "--bindir", &bin, "--go", sdk::GO];
        let key = ["get", "--verifierkey", service.verifier_key()];
        let spec = format!("{MODULE}@v1.0.0");
        place
            .run(key.iter().chain(&options).chain(&[&*spec]))
            .wait()
    };
    let hang_up = |service: &Service| {
        let pid = Pid::from_raw(i32::try_from(service.pid()).expect("a pid is positive"));
        kill(pid, Signal::SIGHUP).expect("our own child takes signals");
    };
    write(&format!(
        "contact = 'abuse@build.example'\nwithdrawn = ['{key} order 7 of a court']\n"
    ));
    hang_up(&service);
    shows(&service, "order 7 of a court");
    let ended = get(&service);
    assert_eq!(ended.code, 1, "{}", ended.err());
    for part in ["withdrawn this build", "451", "order 7 of a court"] {
        assert!(ended.err().contains(part), "{part}: {}", ended.err());
    }
    let left = host::tree(&folder.path().join("bin"));
    assert!(left.is_empty(), "{left:?}");
    let record = http::get(&format!("{}{}", service.url(), record_path(MODULE)));
    assert_eq!(record.status, 200, "the record stays");
    let lookup = http::get(&format!("{log}/lookup/{key}"));
    assert_eq!(lookup.status, 200, "and so does the log");

    // A restart changes nothing about it; taking the line away does.
    assert_eq!(service.stop(), 0);
    let service = place.serve_at(&address(&log), &["--config", "hotcell.toml"]);
    shows(&service, "order 7 of a court");
    assert_eq!(get(&service).code, 1);
    write("");
    hang_up(&service);
    shows(&service, "[]");
    let ended = get(&service);
    assert_eq!(ended.code, 0, "{}", ended.err());
}

/// Where a log is served.
fn address(log: &str) -> String {
    let bare = log.trim_start_matches("http://");
    bare.split('/').next().unwrap_or_default().to_owned()
}
