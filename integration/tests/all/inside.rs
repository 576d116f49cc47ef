//! What a process finds inside a cell, looked at from inside and, better, from the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::Duration,
};

use hotcell_integration::{
    fake::{self, set},
    host, hostile, paths,
    service::{self, Place},
};
use serde_json::Value;

use crate::support::{in_cell, printed};

/// All variables of a cell: INTERFACE.md's closed list.
const ENVIRONMENT: [&str; 22] = [
    "CGO_ENABLED",
    "GO111MODULE",
    "GOARCH",
    "GOAUTH",
    "GOCACHE",
    "GOENV",
    "GOFLAGS",
    "GOMAXPROCS",
    "GOMODCACHE",
    "GOOS",
    "GOPATH",
    "GOPROXY",
    "GOROOT",
    "GOSUMDB",
    "GOTOOLCHAIN",
    "GOVCS",
    "GOWORK",
    "HOME",
    "LC_ALL",
    "PATH",
    "TMPDIR",
    "TZ",
];

/// Top folders and files of a cell.
const PLACES: [&str; 5] = ["/dev", "/home", "/program", "/sdk", "/tmp"];

/// Runs `inspect` in a cell and returns its report.
fn inspect(place: &Place, args: &[&str]) -> Value {
    let ended = in_cell(place, &[], &hostile::program("inspect"), args).succeed();
    let text = printed(&ended);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("no report: {error}: {text}"))
}

fn texts(value: &Value) -> BTreeSet<String> {
    let list = value.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn pairs(value: &Value) -> BTreeMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object
        .map(|(name, said)| (name.clone(), said.as_str().unwrap_or_default().to_owned()))
        .collect()
}

fn assert_closed(report: &Value) {
    let names: BTreeSet<String> = texts(&report["Env"])
        .iter()
        .filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()))
        .filter(|name| name != "GO19CONCURRENTCOMPILATION") // below Go 1.26 only
        .collect();
    assert_eq!(
        names,
        ENVIRONMENT.map(str::to_owned).into(),
        "the environment"
    );
    for (path, said) in pairs(&report["Present"]) {
        let expected = path == "/dev/null" || path == "/home";
        if path != "list of /" {
            assert_eq!(said == "done", expected, "{path}: {said}");
        }
    }
    for name in texts(&report["Root"]) {
        assert!(
            PLACES.contains(&format!("/{name}").as_str()),
            "/{name} is in the cell"
        );
    }
    for line in texts(&report["Paths"]) {
        let path = line.split_once(' ').map_or("", |(_, path)| path);
        assert!(
            PLACES.iter().any(|place| path.starts_with(place)),
            "{path} is in the cell"
        );
        assert!(
            !line.starts_with('S') && !line.starts_with('b'),
            "no socket, no disk: {line}"
        );
    }
    let open = pairs(&report["Open"]);
    assert_eq!(
        open.keys().collect::<Vec<_>>(),
        ["0", "1", "2"],
        "descriptors: {open:?}"
    );
    assert_eq!(
        [&open["0"], &open["1"], &open["2"]],
        ["device", "pipe", "pipe"]
    );
}

#[test]
fn a_cell_holds_nothing_but_sdk_home_and_tmp() {
    let report = inspect(service::user(), &["pids=5000"]);
    assert_closed(&report);
    let own = report["Pid"].as_u64().expect("a number");
    let seen: Vec<u64> = report["Pids"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect();
    assert!(
        own < 10 && seen.iter().all(|pid| *pid <= own),
        "processes: {seen:?}, own {own}"
    );
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc can be read");
    assert_ne!(
        report["Hostname"].as_str().unwrap_or_default(),
        name.trim(),
        "the host's name"
    );
}

#[test]
fn no_address_is_reachable_but_the_relay() {
    let (v4, v6) = (
        TcpListener::bind("127.0.0.1:0"),
        TcpListener::bind("[::1]:0"),
    );
    let v4 = v4.expect("loopback has a free port");
    let mut tried = vec!["192.0.2.1:80".to_owned(), "[2001:db8::1]:80".to_owned()];
    let mut listeners = vec![&v4];
    listeners.extend(v6.as_ref().ok());
    for listener in &listeners {
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        tried.push(
            listener
                .local_addr()
                .expect("a listener has an address")
                .to_string(),
        );
    }
    tried.push(fake::shared().url().replace("http://", ""));
    let args: Vec<String> = tried
        .iter()
        .map(|address| format!("tcp={address}"))
        .collect();
    let report = inspect(
        service::user(),
        &args.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    for (address, said) in pairs(&report["Connected"]) {
        assert_ne!(said, "done", "{address} was reached");
    }
    assert_eq!(pairs(&report["Connected"]).len(), tried.len());
    for listener in listeners {
        let heard = listener.accept().map(|(_, peer)| peer);
        assert!(heard.is_err(), "a listener of the host heard {heard:?}");
    }
    for (family, said) in pairs(&report["Sockets"]) {
        assert_ne!(said, "done", "a socket of another kind: {family}");
    }
    let relay = texts(&report["Env"]);
    let relay = relay
        .iter()
        .find_map(|pair| pair.strip_prefix("GOPROXY=http://"));
    let relay = format!(
        "tcp={}",
        relay.expect("the relay's address").trim_end_matches('/')
    );
    let report = inspect(service::user(), &[&relay]);
    assert_eq!(
        pairs(&report["Connected"])[&relay[4..]],
        "done",
        "the relay"
    );
}

#[test]
fn the_sdk_cannot_be_changed_and_nothing_that_was_written_can_be_run() {
    let report = inspect(
        service::user(),
        &[
            "write=/sdk/evil",
            "change=/sdk/bin/go",
            "remove=/sdk/VERSION",
            "folder=/sdk/evil",
            "write=/evil",
            "folder=/evil",
            "change=/program",
            "remove=/program",
            "write=/dev/evil",
            "change=/sdk/pkg/tool/linux_amd64/compile",
            "exec=/sdk/bin/gofmt",
            "exec=/sdk/src/make.bash",
            "copy=/tmp/copy",
            "copy=/home/copy",
        ],
    );
    let written = pairs(&report["Written"]);
    assert_eq!(written.len(), 14, "{written:?}");
    for (what, said) in written {
        assert_ne!(said, "done", "{what}");
        assert!(!said.contains("cannot write"), "{what}: {said}");
    }
    let report = inspect(service::user(), &["write=/tmp/own", "write=/home/own"]);
    for (what, said) in pairs(&report["Written"]) {
        assert_eq!(said, "done", "{what}: a build needs this");
    }
}

#[test]
fn forbidden_calls_never_reach_the_kernel() {
    let program = hostile::program("calls");
    let ended = in_cell(service::user(), &["--keep-going"], &program, &[]).succeed();
    let mut tried = 0;
    for line in printed(&ended).lines() {
        tried += 1;
        assert!(line.contains("trying"), "{line}");
        assert!(!line.contains("returned"), "the call went through: {line}");
    }
    assert!(tried > 40, "{}", printed(&ended));
    let told = texts(&ended.json()["report"]["forbidden"]);
    assert!(told.len() > 30, "each is told with its name: {told:?}");
}

#[test]
fn a_forbidden_call_ends_the_cell_with_its_name() {
    for name in [
        "ptrace",
        "mount",
        "unshare",
        "bpf",
        "io_uring_setup",
        "kill",
    ] {
        let program = hostile::program("calls");
        let ended = in_cell(service::user(), &[], &program, &[name]).wait();
        assert_eq!(ended.code, 1, "{name}: {}", ended.err());
        let expected = format!("forbidden system call {name}");
        assert!(ended.err().contains(&expected), "{name}: {}", ended.err());
        assert!(
            ended.err().contains("[forbidden_call]"),
            "{name}: {}",
            ended.err()
        );
    }
    for foreign in ["x32", "int80"] {
        let program = hostile::program("calls");
        let ended = in_cell(service::user(), &[], &program, &[foreign]).wait();
        assert_eq!(ended.code, 1, "{foreign}: {}", ended.err());
        assert!(!printed(&ended).contains("returned"), "{foreign}");
    }
}

#[test]
fn the_host_sees_a_process_without_any_power_and_nothing_of_it_afterwards() {
    let place = service::user();
    let before = host::mounts("");
    let mut child = in_cell(place, &[], &hostile::program("sleeper"), &[]).spawn();
    let found = host::wait_for(Duration::from_secs(60), || {
        let below = host::descendants(child.id());
        below.into_iter().find(|process| process.name == "program")
    });
    let found = found.expect("the program runs in a cell");
    let status = host::status(found.pid);
    assert_eq!(status["Seccomp"], "2");
    assert_eq!(status["NoNewPrivs"], "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    if paths::is_root() {
        for ids in ["Uid", "Gid"] {
            let range = 1_900_100_000..1_900_200_000;
            let ids: Vec<u64> = status[ids]
                .split('\t')
                .filter_map(|id| id.parse().ok())
                .collect();
            assert!(
                ids.len() == 4 && ids.iter().all(|id| range.contains(id)),
                "{ids:?}"
            );
        }
        assert_eq!(status["Groups"].trim(), "", "supplementary groups");
    }
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let inside = host::namespace(found.pid, kind);
        assert!(!inside.is_empty());
        assert_ne!(
            inside,
            host::namespace(std::process::id(), kind),
            "the {kind} namespace"
        );
    }
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", found.pid));
    for line in table.expect("root sees everything").lines() {
        let at = line.split(' ').nth(4).unwrap_or_default();
        assert!(
            at == "/" || PLACES.iter().any(|place| at.starts_with(place)),
            "{line}"
        );
        let options = line.split(' ').nth(5).unwrap_or_default();
        assert!(options.contains("nosuid"), "{line}");
        // The one device is a mount of its own; everywhere else none can be opened.
        assert!(at == "/dev/null" || options.contains("nodev"), "{line}");
    }
    let all = host::descendants(child.id());
    assert!(
        all.len() >= 4,
        "fetch, supervise, relay and the cell: {all:?}"
    );
    child.kill().expect("our own child can be ended");
    child.wait().expect("a child can be waited for");
    let gone = host::wait_for(Duration::from_secs(10), || {
        host::alive(&all).is_empty().then_some(())
    });
    assert!(gone.is_some(), "left: {:?}", host::alive(&all));
    assert_eq!(host::mounts(""), before, "mounts");
}

#[test]
fn nothing_outside_the_closure_is_given_or_asked_for() {
    let program = hostile::program("closure");
    let options = ["--module", "ex.example/deps@v1.0.0"];
    let ended = in_cell(service::user(), &options, &program, &set::OUTSIDE).succeed();
    let text = printed(&ended);
    assert_eq!(text.lines().count(), 10, "{text}");
    for line in text.lines() {
        assert!(line.starts_with("404 "), "{line}");
    }
    let asked = fake::shared().asked_for("outside.example");
    assert!(asked.is_empty(), "asked upstream: {asked:?}");
    let inside = hostile::program("closure");
    let ended = in_cell(service::user(), &options, &inside, &["ex.example/deps"]).succeed();
    let text = printed(&ended);
    assert!(
        text.contains("200 \"ex.example/deps @v/v1.0.0.zip\""),
        "the module itself: {text}"
    );
}

#[test]
fn every_request_that_no_go_command_makes_is_refused() {
    let place = service::user();
    let program = hostile::program("closure");
    let counted = printed(&in_cell(place, &[], &program, &["-odd"]).succeed());
    let count: usize = counted.trim().parse().expect("a number");
    assert!(count > 30, "{count}");
    for number in 0..count {
        let ended = in_cell(place, &[], &program, &["-odd", &number.to_string()]).wait();
        let text = printed(&ended);
        let said = text.split(' ').next().unwrap_or_default().trim();
        // An empty text: the cell was ended before the program could print an answer.
        let refusals = [
            "", "0", "400", "404", "405", "414", "431", "501", "505", "refused",
        ];
        assert!(refusals.contains(&said), "{text}");
        assert!(!ended.err().contains("panicked"), "{text}: {}", ended.err());
    }
    let asked = fake::shared().asked_for("outside.example");
    assert!(asked.is_empty(), "asked upstream: {asked:?}");
}
