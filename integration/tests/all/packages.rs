//! The Debian package: what it installs works, an upgrade keeps what is there, a purge the log.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hotcell_integration::{
    command::{Ended, Run},
    host, paths,
};

fn package(folder: &Path) -> PathBuf {
    let script = paths::repository().join("packaging/deb");
    let made = Run::new(script)
        .arg(folder)
        .env("HOTCELL_BIN", paths::hotcell())
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .succeed();
    PathBuf::from(made.out().trim())
}

/// dpkg in a folder that holds no other package.
fn dpkg(root: &Path, args: &[&str]) -> Ended {
    Run::new("dpkg")
        .arg(format!("--root={}", root.display()))
        .arg(format!("--log={}", root.join("log").display()))
        .args(["--force-script-chrootless", "--force-depends"])
        .args(args)
        .succeed()
}

#[test]
fn the_package_installs_and_upgrades_and_never_takes_the_log_away() {
    assert!(
        paths::is_root(),
        "this test makes users of a folder: run it as root"
    );
    let folder = paths::scratch("deb");
    let deb = package(&folder.path().join("one"));
    let again = package(&folder.path().join("two"));
    assert_eq!(host::sha256(&deb), host::sha256(&again), "not reproducible");
    let deb = deb.to_str().expect("paths of tests are UTF-8");

    let root = folder.path().join("root");
    for part in ["info", "updates", "triggers"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(part)).expect("ours");
    }
    fs::create_dir_all(root.join("etc")).expect("ours");
    fs::write(root.join("var/lib/dpkg/status"), "").expect("ours");
    let installed = dpkg(&root, &["--install", deb]);
    assert!(
        installed.out().contains("enable --now"),
        "{}",
        installed.out()
    );

    let program = root.join("usr/bin/hotcell");
    let config = root.join("etc/hotcell/hotcell.toml");
    let checked = || Run::new(&program).arg("testconfig").arg(&config).wait();
    assert_eq!(checked().code, 0, "{}", checked().err());
    let users = fs::read_to_string(root.join("etc/passwd")).expect("users were made");
    let units = root.join("lib/systemd/system");
    for role in ["serve", "fetch", "sign"] {
        let user = format!("hotcell-{role}");
        assert!(users.contains(&format!("{user}:")), "{users}");
        let unit = match role {
            "serve" => "hotcell.service".to_owned(),
            _ => format!("{user}.service"),
        };
        let text = fs::read_to_string(units.join(unit)).expect("a unit");
        assert!(text.contains(&format!("User={user}")), "{text}");
        assert!(text.contains("ExecStart=/usr/bin/hotcell "), "{text}");
    }

    let log = root.join("var/lib/hotcell/serve/hotcell.db");
    fs::create_dir_all(log.parent().expect("it has one")).expect("ours");
    fs::write(&log, "a log").expect("ours");
    let own = "name = \"build.example.org\"\n";
    fs::write(&config, own).expect("ours");
    let upgraded = dpkg(&root, &["--force-confold", "--install", deb]);
    assert!(
        !upgraded.out().contains("enable --now"),
        "{}",
        upgraded.out()
    );
    assert_eq!(fs::read_to_string(&config).expect("it stays"), own);
    assert_eq!(checked().code, 0, "{}", checked().err());

    let purged = dpkg(&root, &["--purge", "hotcell"]);
    assert!(purged.out().contains("and stay"), "{}", purged.out());
    assert!(!program.exists() && !config.exists());
    assert_eq!(fs::read_to_string(&log).expect("it stays"), "a log");
}
