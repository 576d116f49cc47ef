//! The roles of a running service, as the host sees them: ids, powers, keys, units.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use hotcell_integration::{command::Run, fake, host, http, paths, service::Place, stock};

/// First id of the roles (`ids.base`).
const IDS_BASE: u32 = 1_900_000_000;
/// `systemd-analyze security` counts in tenths; below 1.5 is what is promised.
const EXPOSURE_MAX: &str = "14";

/// The id of a role, where roles have ids of their own.
fn id(number: u32) -> Option<u32> {
    paths::is_root().then_some(IDS_BASE + number)
}

/// Asserts what `proc_pid_status(5)` says of a process that gave everything up.
fn assert_confined(name: &str, status: &BTreeMap<String, String>, id: Option<u32>) {
    let mut expected = vec![("NoNewPrivs", "1".to_owned()), ("Seccomp", "2".to_owned())];
    let none = "0000000000000000".to_owned();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        expected.push((set, none.clone()));
    }
    if let Some(id) = id {
        expected.push(("CapBnd", none));
        expected.push(("Uid", vec![id.to_string(); 4].join("\t")));
        expected.push(("Gid", vec![id.to_string(); 4].join("\t")));
        expected.push(("Groups", String::new()));
    }
    for (field, value) in expected {
        assert_eq!(status.get(field), Some(&value), "{name}: {field}");
    }
}

#[test]
fn every_role_has_given_up_its_powers_and_most_calls() {
    let folder = paths::scratch("roles");
    let place = Place::new(folder.path(), fake::shared()).stocked();
    let service = place.serve(&[]);
    assert_confined("serve", &host::status(service.pid()), id(0));
    for (name, number) in [("fetch", 1), ("sign", 2)] {
        let pids = service.role(name);
        assert_eq!(pids.len(), 1, "{name}: {pids:?}");
        assert_confined(name, &host::status(pids[0]), id(number));
    }
    let building = service.record_url("ex.example/hello");
    let waiting = thread::spawn(move || http::try_get(&building).map(|answer| answer.status));
    let relay = host::wait_for(Duration::from_mins(5), || {
        // Looked at once: a relay may end at any moment.
        let relay = service.role("relay").first().copied()?;
        let status = host::status(relay);
        let confined = status.get("Seccomp").is_some_and(|mode| mode == "2");
        confined.then_some(status)
    });
    let relay = relay.unwrap_or_else(|| panic!("no relay was seen: {}", service.trace()));
    assert_confined("relay", &relay, id(1000));
    let answer = waiting.join().expect("the asker does not panic");
    assert_eq!(answer, Some(200), "{}", service.trace());
}

/// All paths below a folder with their owners.
fn owners(folder: &Path) -> Vec<(PathBuf, u32)> {
    let all = host::tree(folder).into_keys().map(|path| folder.join(path));
    let owner = |path: PathBuf| {
        let uid = fs::symlink_metadata(&path).map(|meta| meta.uid());
        uid.ok().map(|uid| (path, uid))
    };
    all.filter_map(owner).collect()
}

#[test]
fn the_keys_are_the_signers_alone_and_those_of_an_earlier_version_become_so() {
    if !paths::is_root() {
        return; // without root all roles are one user, which `not_in_force` says
    }
    let folder = paths::scratch("roles");
    let place = Place::new(folder.path(), fake::shared());
    let keys = folder.path().join("sign");
    let mut service = place.serve(&[]);
    let key = service.verifier_key().to_owned();
    assert_eq!(service.stop(), 0);
    let (serve, sign) = (IDS_BASE, IDS_BASE + 2);
    let of = |id: u32| {
        let meta = fs::metadata(&keys).expect("the folder is there");
        assert_eq!((meta.uid(), meta.mode() & 0o777), (id, 0o700));
        let all = owners(&keys);
        assert!(all.len() >= 5, "{all:?}");
        assert!(all.iter().all(|(_, owner)| *owner == id), "{all:?}");
    };
    of(sign);
    // As an earlier version left it, in which `serve` held the keys.
    for (path, _) in owners(&keys).into_iter().chain([(keys.clone(), 0)]) {
        chown(path, Some(serve), Some(serve)).expect("root may");
    }
    let mut service = place.serve(&[]);
    assert_eq!(service.verifier_key(), key, "the same log goes on");
    assert_eq!(service.stop(), 0);
    of(sign);
}

#[test]
fn policies_come_from_a_folder_that_nobody_else_can_write() {
    let folder = paths::scratch("roles");
    let place = Place::new(folder.path(), fake::shared());
    let policies = folder.path().join("policies");
    fs::create_dir(&policies).expect("the folder takes folders");
    let build = paths::repository().join("policies/build.toml");
    fs::copy(build, policies.join("build.toml")).expect("the folder takes files");
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    mode(&policies.join("build.toml"), 0o644);
    mode(&policies, 0o777);
    let option = policies.to_str().expect("paths of tests are UTF-8");
    let data = folder.path().join("data");
    let ended = place
        .run(["serve", "--policies", option, "--admin", "127.0.0.1:0"])
        .args(["--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .time_max(Duration::from_mins(1))
        .wait();
    assert_ne!(ended.code, 0);
    assert!(
        ended.err().contains("can be written by others"),
        "{}",
        ended.err()
    );
    assert!(!data.exists(), "nothing was begun");
    mode(&policies, 0o755);
    let mut service = place.serve(&["--policies", option]);
    assert!(service.lives());
    assert_eq!(service.stop(), 0);
}

/// A socket of a service manager for one role, in whose folder the role starts.
fn activate(sockets: &Path, folder: &Path, name: &str, id: Option<u32>) -> Child {
    fs::create_dir(folder).expect("the folder takes folders");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
    chown(folder, id, id).expect("root may, and nobody is asked to");
    let socket = sockets.join(name);
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--seqpacket", "-l"]).arg(&socket);
    command
        .arg(paths::hotcell())
        .args(["role", name, "--activated"]);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let child = command.spawn().expect("systemd-socket-activate is there");
    let made = host::wait_for(Duration::from_secs(20), || socket.exists().then_some(()));
    assert!(made.is_some(), "no socket for {name}");
    // As `SocketMode=0600` of the units; a role refuses a socket that is open to others.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).expect("it is ours");
    child
}

/// All roles of a service manager and the folder of their sockets.
fn activate_all(folder: &Path) -> (PathBuf, Vec<Child>) {
    let sockets = folder.join("run");
    fs::create_dir(&sockets).expect("the folder takes folders");
    let children = [("supervise", None), ("fetch", id(1)), ("sign", id(2))]
        .into_iter()
        .map(|(name, id)| activate(&sockets, &folder.join(name), name, id))
        .collect();
    (sockets, children)
}

#[test]
fn roles_of_a_service_manager_serve_one_service_and_end_with_it() {
    let folder = paths::scratch("roles");
    let (sockets, mut children) = activate_all(folder.path());
    stock::lay(&folder.path().join("supervise"));
    let place = Place::new(folder.path(), fake::shared());
    let option = sockets.to_str().expect("paths of tests are UTF-8");
    let file = folder.path().join("hotcell.toml");
    fs::write(&file, format!("roles = '{option}'\nnotes = ['by units']\n")).expect("it is ours");
    let file = file.to_str().expect("paths of tests are UTF-8");
    let mut service = place.serve(&["--roles", option, "--config", file]);
    service.builds("ex.example/hello");
    let home = http::get(&format!("{}/", service.url())).text();
    assert!(home.contains("by units"), "{home}");
    assert_eq!(service.role("config").len(), 1, "this one is its child");
    for (name, child) in ["fetch", "sign"].iter().zip(&children[1..]) {
        let number = if *name == "fetch" { 1 } else { 2 };
        assert_confined(name, &host::status(child.id()), id(number));
    }
    assert!(service.role("sign").is_empty(), "it is not its child");
    assert_eq!(service.stop(), 0);
    for child in &mut children {
        let ended = host::wait_for(Duration::from_secs(20), || {
            child.try_wait().expect("a child can be waited for")
        });
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
}

#[test]
fn a_service_ends_when_a_role_of_the_service_manager_ends() {
    let folder = paths::scratch("roles");
    let (sockets, mut children) = activate_all(folder.path());
    let place = Place::new(folder.path(), fake::shared());
    let mut service = place.serve(&["--roles", sockets.to_str().expect("it is UTF-8")]);
    children[2].kill().expect("our own child can be ended");
    let ended = service.ends_within(Duration::from_secs(30));
    assert!(ended, "sign is gone and the service goes on");
    service.kill_9();
    for child in &mut children {
        let ended = host::wait_for(Duration::from_secs(20), || {
            child.try_wait().expect("a child can be waited for")
        });
        assert!(ended.is_some(), "a role outlives its service");
    }
}

#[test]
fn units_are_in_order_and_expose_as_little_as_is_promised() {
    let source = paths::repository().join("packaging/systemd");
    let folder = paths::scratch("units");
    let mut units = Vec::new();
    for entry in fs::read_dir(&source)
        .expect("the units are there")
        .flatten()
    {
        let path = entry.path();
        let copy = folder.path().join(entry.file_name());
        let text = fs::read_to_string(&path).expect("a unit is text");
        let program = paths::hotcell().display().to_string();
        // The tests install nothing: the program is where it was built.
        let text = text.replace("/usr/bin/hotcell", &program);
        fs::write(&copy, text).expect("the folder takes files");
        if copy.extension().is_some_and(|kind| kind != "sysusers") {
            units.push(copy);
        }
    }
    assert_eq!(units.len(), 7, "{units:?}");
    let verified = Run::new("systemd-analyze")
        .arg("verify")
        .args(&units)
        .wait();
    let said = format!("{}{}", verified.out(), verified.err());
    let own: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("hotcell"))
        .collect();
    assert!(verified.code == 0 && own.is_empty(), "{said}");
    for name in ["hotcell", "hotcell-fetch", "hotcell-sign"] {
        let unit = folder.path().join(format!("{name}.service"));
        let threshold = format!("--threshold={EXPOSURE_MAX}");
        let run = Run::new("systemd-analyze").args(["security", "--offline=true", &threshold]);
        let looked = run.arg(&unit).wait();
        assert_eq!(looked.code, 0, "{name}: {}", looked.out());
    }
}
