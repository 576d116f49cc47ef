//! The client of gobuild, which is the prior art, works with our log as with its own, and notices
//! what a log must not do. Where its program cannot be had, `xmod.rs` has one that does the same.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hotcell::spec::Sum;
use hotcell_integration::{
    command::{Ended, Run},
    grown, host, http, paths,
    rewound::{MANY, Rewound, leaves},
    sdk,
    service::{self, Service},
    tools,
};

/// What its client says when a log has two histories.
const MISBEHAVES: &str = "misbehavior detected";

/// A user of gobuild with a home.
struct User<'a> {
    program: &'a Path,
    home: &'a Path,
}

impl User<'_> {
    fn get(&self, service: &Service, more: &[&str], spec: &str) -> Ended {
        let bin = self.home.join("bin");
        fs::create_dir_all(&bin).expect("the folder can be made");
        Run::new(self.program)
            .args(["get", "-verifierkey", service.verifier_key()])
            .args(["-url", &format!("{}/tlog", service.url())])
            .args(["-goversion", sdk::GO, "-bindir"])
            .arg(bin)
            .args(more)
            .arg(spec)
            .env("HOME", self.home)
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .wait()
    }

    /// Files that it has fetched.
    fn has(&self) -> Vec<PathBuf> {
        host::tree(&self.home.join("bin")).into_keys().collect()
    }

    /// Size of the newest log that it has seen.
    fn seen(&self) -> u64 {
        let kept = "cache/gobuild/sumclient/localhost/config/localhost/latest";
        let note = fs::read_to_string(self.home.join(kept)).expect("it keeps a head");
        let size = note.lines().nth(1).and_then(|size| size.parse().ok());
        size.unwrap_or_else(|| panic!("no head: {note}"))
    }
}

#[test]
fn gobuild_get_fetches_what_was_built_and_nothing_that_does_not_fit() {
    let Some(program) = tools::gobuild() else {
        return;
    };
    let (service, home) = (service::service(), paths::scratch("gobuild"));
    let user = User {
        program: &program,
        home: home.path(),
    };
    let spec = "ex.example/proof@v1.0.0";
    let wrong = format!("0{}", "A".repeat(27));
    let refused = user.get(service, &["-sum", &wrong], spec);
    assert_eq!(refused.code, 1, "{}", refused.err());
    let told = "remote has different sum";
    assert!(refused.err().contains(told), "{}", refused.err());
    assert!(user.has().is_empty(), "{:?}", user.has());

    let record = http::get(&service.record_url("ex.example/proof")).text();
    let sum = record.split(' ').nth(7).expect("nine fields").to_owned();
    let ended = user.get(service, &["-sum", &sum], spec);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let binary = user.home.join("bin/proof");
    let sha256 = <sha2::Sha256 as sha2::Digest>::digest(fs::read(&binary).expect("fetched"));
    assert_eq!(Sum::of(&sha256.into()).to_string(), sum);
    assert_eq!(Run::new(&binary).succeed().err(), "hello\n");
    let before = user.seen();

    // Others build; then it comes back with the head that it remembers.
    service.builds("ex.example/many22");
    for (more, spec, name) in [
        (&[][..], "ex.example/UpperCase/Tool", "Tool"),
        (
            &["-stripped", "-target", "windows/amd64"],
            "ex.example/commands@latest/cmd/two",
            "two.exe",
        ),
        (&[], "ex.example/major/v2@v2.0.0", "v2"),
        (&[], "ex.example/old@v2.0.0+incompatible", "old"),
    ] {
        let ended = user.get(service, more, spec);
        assert_eq!(ended.code, 0, "{spec}: {}", ended.err());
        assert!(ended.err().contains("resolved to "), "{}", ended.err());
        assert!(user.home.join("bin").join(name).is_file(), "{spec}");
    }
    assert!(user.seen() > before, "{} after {before}", user.seen());
    let missing = user.get(service, &[], "ex.example/nowhere@v1.0.0");
    assert_eq!(missing.code, 1, "{}", missing.err());
    assert!(missing.err().contains("404 Not Found"), "{}", missing.err());
}

#[test]
fn gobuild_get_notices_another_history_of_our_log() {
    let Some(program) = tools::gobuild() else {
        return;
    };
    let (log, home) = (Rewound::new(), paths::scratch("gobuild"));
    let user = User {
        program: &program,
        home: home.path(),
    };
    let look = |service: &Service, n: u64| {
        let spec = grown::record(n).0.key.module.to_string();
        user.get(service, &["-download=false"], &spec)
    };
    let mut service = log.place.serve(&[]);
    let ended = look(&service, MANY - 1);
    assert_eq!(ended.code, 0, "{}", ended.err());
    assert_eq!(user.seen(), leaves(MANY));
    assert_eq!(service.stop(), 0);

    // An older copy of everything has no proof for the newer head that this user keeps.
    log.restore("older", "data");
    log.restore("older-sign", "sign");
    let mut service = log.place.serve(&[]);
    for n in [0, MANY - 1] {
        assert_eq!(look(&service, n).code, 1, "{n}");
    }
    assert_eq!(user.seen(), leaves(MANY));
    assert_eq!(service.stop(), 0);

    // It goes on with other records, beyond that head: for this user a second history.
    grown::append(&log.place, (1_000..1_500).map(grown::record));
    let mut service = log.place.serve(&[]);
    let fork = look(&service, 0);
    assert_eq!(fork.code, 1, "{}", fork.err());
    assert!(fork.err().contains(MISBEHAVES), "{}", fork.err());
    assert_eq!(user.seen(), leaves(MANY));
    assert_eq!(service.stop(), 0);
}
