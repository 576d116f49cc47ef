//! What holds a cell, read from the kernel when its init has dropped everything and waits for us.
//!
//! Called between the last lock and `execve`. What is mandatory and not there means that the cell
//! is ended before the job runs; what is there is listed for the report.

use std::fs;

use super::{host::Host, request::Order};
use crate::{
    cell::{self, place},
    policy::{Namespace, PlaceKind},
    wire::Job,
};

/// What init told us of itself, because nobody else can read it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) landlock_abi: u8,
    pub(super) securebits: bool,
}

/// Phrases for the report.
///
/// # Errors
/// The first thing that should be in force and is not.
pub(super) fn check(
    pid: i32,
    slot: usize,
    host: &Host,
    order: &Order,
    told: Told,
) -> Result<Vec<String>, String> {
    let mut all = vec![namespaces(pid, order)?];
    all.extend(status(pid, slot, host, order, told)?);
    all.push(mounts(pid, order)?);
    all.push(network(pid)?);
    let landlock = order.policy.landlock;
    if told.landlock_abi < landlock.required {
        return Err("landlock is not in force".to_owned());
    }
    let abi = told.landlock_abi.min(landlock.wanted);
    all.push(format!(
        "landlock: rules of ABI {abi}, {} paths",
        order.policy.paths.len()
    ));
    all.push(limits(pid, order)?);
    Ok(all)
}

fn read(pid: i32, file: &str) -> Result<String, String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|error| format!("`{path}`: {error}"))
}

fn namespaces(pid: i32, order: &Order) -> Result<String, String> {
    for kind in &order.policy.namespaces {
        let link = |who: &str| {
            let path = format!("/proc/{who}/ns/{}", kind.file());
            fs::read_link(&path).map_err(|error| format!("`{path}`: {error}"))
        };
        if link(&pid.to_string())? == link("self")? {
            return Err(format!("the {} namespace is the host's", kind.word()));
        }
    }
    let words: Vec<&str> = order
        .policy
        .namespaces
        .iter()
        .map(|kind| kind.word())
        .collect();
    Ok(format!("namespaces: {}", words.join(", ")))
}

fn status(
    pid: i32,
    slot: usize,
    host: &Host,
    order: &Order,
    told: Told,
) -> Result<Vec<String>, String> {
    let text = read(pid, "status")?;
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
            .ok_or_else(|| format!("no `{name}` in the status"))
    };
    let id = host.cell_id(slot);
    for name in ["Uid", "Gid"] {
        if field(name)?
            .split_whitespace()
            .any(|value| value != id.to_string())
        {
            return Err(format!("`{name}` is {}, not {id}", field(name)?));
        }
    }
    if host.root && !field("Groups")?.is_empty() {
        return Err("there are supplementary groups".to_owned());
    }
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        if field(name)?.bytes().any(|digit| digit != b'0') {
            return Err(format!("`{name}` is {}", field(name)?));
        }
    }
    if field("NoNewPrivs")? != "1" {
        return Err("no_new_privs is not set".to_owned());
    }
    if field("Seccomp")? != "2" {
        return Err("seccomp is not in filter mode".to_owned());
    }
    if !told.securebits {
        return Err("the securebits are not locked".to_owned());
    }
    if order.policy.namespaces.contains(&Namespace::Pid)
        && field("NSpid")?.split_whitespace().next_back() != Some("1")
    {
        return Err("the first process is not the first of its namespace".to_owned());
    }
    let filters = field("Seccomp_filters").unwrap_or("?").to_owned();
    let who = if host.root {
        format!("{id} outside")
    } else {
        "the person outside".to_owned()
    };
    Ok(vec![
        format!("ids: {} inside, {who}", place::ID),
        "capabilities: none, bounding set empty, securebits locked".to_owned(),
        "no_new_privs: set".to_owned(),
        format!(
            "seccomp: mode 2, {filters} filters, {} calls",
            order.policy.calls_allowed()
        ),
    ])
}

/// Every mount is one of the policy's places, with its options and the floor's.
fn mounts(pid: i32, order: &Order) -> Result<String, String> {
    let text = read(pid, "mountinfo")?;
    let mut expected: Vec<PlaceKind> = vec![
        PlaceKind::Root,
        PlaceKind::Sdk,
        PlaceKind::Home,
        PlaceKind::Tmp,
        PlaceKind::Null,
    ];
    if order.request.frozen {
        expected.push(PlaceKind::Cache);
    }
    if matches!(order.request.job, Job::Program { .. }) {
        expected.push(PlaceKind::Program);
    }
    let count = expected.len();
    for line in text.lines() {
        // 36 35 98:0 /root /mount/point options … (proc_pid_mountinfo(5))
        let mut fields = line.split(' ').skip(4);
        let (point, options) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let kind = place::ALL
            .iter()
            .find(|(_, _, path)| *path == point)
            .map(|(kind, ..)| *kind);
        let index = kind.and_then(|kind| expected.iter().position(|wanted| *wanted == kind));
        let index = index.ok_or_else(|| format!("`{point}` is mounted"))?;
        let kind = expected.swap_remove(index);
        let place = order
            .policy
            .place(kind)
            .ok_or_else(|| format!("no place for `{point}`"))?;
        for (option, needed) in [
            ("nosuid", true),
            ("nodev", kind != PlaceKind::Null),
            ("ro", place.read_only),
            ("noexec", place.no_exec),
        ] {
            if needed && !options.split(',').any(|one| one == option) {
                return Err(format!("`{point}` is mounted without {option}"));
            }
        }
    }
    if !expected.is_empty() {
        return Err(format!("{expected:?} is not mounted"));
    }
    Ok(format!(
        "mounts: {count}, all nosuid and nodev; root and SDK read-only; no proc, no sys"
    ))
}

fn network(pid: i32) -> Result<String, String> {
    let devices = read(pid, "net/dev")?;
    let names: Vec<&str> = devices
        .lines()
        .skip(2) // two lines of headings
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    if names != ["lo"] {
        return Err(format!("network devices: {}", names.join(", ")));
    }
    let routes = read(pid, "net/route")?;
    if routes.lines().count() > 1 {
        return Err("there is a route".to_owned());
    }
    Ok(format!(
        "network: lo only, no route, relay on port {}",
        place::RELAY_PORT
    ))
}

/// What the kernel keeps each process to; less than the policy says where the host allows less.
fn limits(pid: i32, order: &Order) -> Result<String, String> {
    let text = read(pid, "limits")?;
    let soft = |name: &str| -> Result<u64, String> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|rest| rest.split_whitespace().next());
        value
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("no limit `{name}`"))
    };
    let policy = order.policy.limits();
    for (name, max) in [
        ("Max core file size", cell::CORE_BYTES),
        ("Max processes", policy.processes + 1),
        ("Max open files", policy.files),
        ("Max file size", policy.file_bytes),
        ("Max data size", policy.memory_bytes),
        ("Max cpu time", policy.cpu_s),
    ] {
        let value = soft(name)?;
        if value > max {
            return Err(format!("limit `{name}` is {value}, not {max}"));
        }
    }
    Ok(format!(
        "limits: {} s, scratch {} MiB, {} processes, {} MiB of data each, no core dumps",
        order.wall_ms / 1000,
        order.scratch_bytes >> 20,
        soft("Max processes")?,
        soft("Max data size")? >> 20,
    ))
}
