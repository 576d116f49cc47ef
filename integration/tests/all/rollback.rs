//! Folders that come back from a backup, or from elsewhere: the log reads, and never forks.

use std::fs;

use hotcell::log::LogConfig;
use hotcell_integration::{
    command::Run,
    fake, grown, http, paths,
    rewound::{FEW, MANY, Rewound, head, health, leaves},
    service::Place,
};

#[test]
fn a_log_that_was_rolled_back_only_reads_until_any_copy_has_filled_it_up() {
    let log = Rewound::new();
    let mut service = log.place.serve(&[]);
    let newest = head(&service);
    assert_eq!(newest.0, leaves(MANY));
    let key = service.verifier_key().to_owned();
    // From an address; the folder that is filled up is not the one that is served.
    log.copy("older", "second");
    let done = log.recover("second", &format!("{}/tlog", service.url()), &[]);
    assert_eq!(done.code, 0, "{}", done.err());
    let told = format!("filled up from {} to {} records", leaves(FEW), leaves(MANY));
    assert!(done.out().contains(&told), "{}", done.out());
    // A folder in use is not touched.
    let busy = log.recover("data", &format!("{}/tlog", service.url()), &[]);
    assert_eq!(busy.code, 1, "{}", busy.err());
    assert!(
        busy.err().contains("another process uses this log"),
        "{}",
        busy.err()
    );
    assert_eq!(service.stop(), 0);

    log.copy("data", "newest");
    log.restore("older", "data");
    let mut service = log.place.serve(&[]);
    let said = health(&service);
    assert!(
        said.contains("log: fenced") && said.contains("an older copy was restored"),
        "{said}"
    );
    assert!(said.contains("hotcell log recover"), "{said}");
    assert_eq!(head(&service).0, leaves(FEW));
    assert_ne!(
        http::get(&service.record_url("ex.example/hello")).status,
        200
    );
    assert_eq!(service.stop(), 0);
    let done = log.recover("data", &log.text("newest"), &[]);
    assert_eq!(done.code, 0, "{}", done.err());
    let again = log.recover("data", &log.text("newest"), &[]);
    assert!(
        again.out().contains("nothing is missing"),
        "{}",
        again.out()
    );
    let mut service = log.place.serve(&[]);
    assert_eq!(head(&service), newest);
    assert_eq!(service.stop(), 0);
    grown::append(&log.place, [grown::record(MANY)]); // it takes entries
    let audit = log.place.run(["log", "audit", &log.text("data")]).wait();
    assert_eq!(audit.code, 0, "{}", audit.err());

    // Nothing is left of the data folder.
    fs::remove_dir_all(log.path("data")).expect("ours");
    let nameless = log.recover("data", &log.text("newest"), &[]);
    assert_eq!(nameless.code, 2, "{}", nameless.err());
    let done = log.recover("data", &log.text("newest"), &["--verifierkey", &key]);
    assert_eq!(done.code, 0, "{}", done.err());
    let service = log.place.serve(&[]);
    // The record in between is lost in this copy: the signer knows that there was more.
    let said = health(&service);
    assert!(said.contains("an older copy was restored"), "{said}");
}

#[test]
fn a_log_is_filled_up_from_no_other_log_and_no_fork_of_it() {
    let log = Rewound::new();
    let other = paths::scratch("other-log");
    let place = Place::new(other.path(), fake::shared());
    grown::append(&place, (0..MANY).map(grown::record));
    assert_eq!(place.serve(&[]).stop(), 0);
    let from = other.path().join("data").display().to_string();
    let wrong = log.recover("older", &from, &[]);
    assert_eq!(wrong.code, 3, "{}", wrong.err());
    // The same key signs another history, by a copy of its folder.
    let fork = Place::new(&log.path("fork"), fake::shared());
    fs::create_dir(&fork.folder).expect("ours");
    log.copy("older", "fork/data");
    log.copy("older-sign", "fork/sign");
    grown::append(&fork, (FEW..MANY).map(|n| grown::record(n + 1_000)));
    assert_eq!(fork.serve(&[]).stop(), 0);
    log.copy("data", "before");
    let wrong = log.recover("data", &log.text("fork/data"), &[]);
    assert_eq!(wrong.code, 3, "{}", wrong.err());
    assert!(
        wrong.err().contains("nothing was changed"),
        "{}",
        wrong.err()
    );
    let shorter = log.recover("data", &log.text("older"), &[]);
    assert_eq!(shorter.code, 1, "{}", shorter.err());
    let service = log.place.serve(&[]);
    assert_eq!(head(&service).0, leaves(MANY));
    assert!(
        health(&service).contains("log: live"),
        "{}",
        health(&service)
    );
    // A fork that somebody continues is not signed: the folder of the signer is of the other one.
    drop(service);
    log.restore("fork/data", "data");
    let service = log.place.serve(&[]);
    let said = health(&service);
    assert!(
        said.contains("log: fenced") && said.contains("a fork"),
        "{said}"
    );
}

#[test]
fn older_copies_of_single_parts_are_told_or_finished() {
    let log = Rewound::new();
    let newest = {
        let service = log.place.serve(&[]);
        head(&service)
    };
    let lives = || {
        let mut service = log.place.serve(&[]);
        assert_eq!(head(&service), newest);
        assert!(
            health(&service).contains("log: live"),
            "{}",
            health(&service)
        );
        assert_eq!(service.stop(), 0);
    };
    let serve = LogConfig::FOLDER;
    // Tiles only: what is missing is made again from the records.
    let tiles = format!("data/{serve}/tiles");
    assert!(log.path(&tiles).is_dir(), "the tiles lie elsewhere");
    log.restore(&format!("older/{serve}/tiles"), &tiles);
    lives();
    // The signer only: it is led on from what it remembers, by a proof.
    log.restore("older-sign", "sign");
    lives();
    // The database only.
    for file in fs::read_dir(log.path(&format!("older/{serve}"))).expect("a folder") {
        let file = file.expect("an entry");
        if file.file_type().expect("it has a type").is_file() {
            let to = log.path(&format!("data/{serve}")).join(file.file_name());
            Run::new("cp").arg("-a").args([file.path(), to]).succeed();
        }
    }
    let service = log.place.serve(&[]);
    let said = health(&service);
    assert!(said.contains("an older copy was restored"), "{said}");
    assert_eq!(head(&service).0, leaves(FEW));
}
