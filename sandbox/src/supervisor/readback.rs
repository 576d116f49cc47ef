//! What holds a cell, read from the kernel when its init has dropped everything and waits for us.
//!
//! [`built`] is called when the mounts are sealed, while init gives up its powers, [`limited`] when
//! no power is left to raise a limit, while init installs its filter, and [`locked`] between that
//! last lock and `execve`. What is mandatory and not there means that the cell is ended before the
//! job runs; what is there is listed for the report.

use std::fs;

use super::{group::Group, host::Host, request::Order};
use crate::{
    cell::{self, TALK, place, talk::Dropped},
    policy::{Namespace, PlaceKind},
    store,
    wire::Job,
};

/// A cell whose init waits for us.
pub(super) struct Seen<'a> {
    pub(super) pid: i32,
    pub(super) slot: usize,
    pub(super) host: &'a Host,
    pub(super) order: &'a Order,
    pub(super) group: Option<&'a Group>,
}

/// Phrases for the report about the cell's world.
///
/// # Errors
/// The first thing that should be in force and is not.
pub(super) fn built(seen: &Seen<'_>) -> Result<Vec<String>, String> {
    let Seen { pid, order, .. } = *seen;
    let mut all = vec![namespaces(pid, order)?, mounts(pid, order)?];
    if let Some(command) = &order.command {
        let header = store::header(command).ok_or("the go command is not in the store")?;
        all.push(format!("{}: sha256:{}", header.title, header.digest));
    }
    all.push(network(pid)?);
    if let Some(group) = seen.group {
        if !group.holds(pid)? {
            return Err("the first process is not in the cell's control group".to_owned());
        }
        all.push(group.in_force().to_owned());
    }
    Ok(all)
}

/// A phrase for the report about limits.
///
/// # Errors
/// The first limit that is missing or too high.
pub(super) fn limited(seen: &Seen<'_>) -> Result<Vec<String>, String> {
    Ok(vec![limits(seen.pid, seen.order)?])
}

/// Phrases for the report about the process itself. `told` is what nobody else can read; `filter`
/// is the number of the filter's listener in init's table.
///
/// # Errors
/// The first thing that should be in force and is not.
pub(super) fn locked(seen: &Seen<'_>, told: &Dropped, filter: i32) -> Result<Vec<String>, String> {
    let Seen { pid, order, .. } = *seen;
    let text = read(pid, "status")?;
    let mut all = status(seen, told, &text)?;
    all.push(descriptors(pid, filter)?);
    let landlock = order.policy.landlock;
    if told.landlock_abi < landlock.required {
        return Err("landlock is not in force".to_owned());
    }
    let abi = told.landlock_abi.min(landlock.wanted);
    all.push(format!(
        "landlock: rules of ABI {abi}, {} paths",
        order.policy.paths.len()
    ));
    all.push(format!("attempts by init: {}, all refused", told.refused));
    if told.nesting.is_none() {
        all.push("user namespaces inside: none can be made".to_owned());
    }
    // No file of /proc shows which session keyring a process has.
    all.push("keyrings: a new one, as init says".to_owned());
    Ok(all)
}

/// The three standard streams, and what `execve` closes: the talk and the filter's listener.
fn descriptors(pid: i32, filter: i32) -> Result<String, String> {
    let folder = format!("/proc/{pid}/fd");
    let text = |error: std::io::Error| format!("`{folder}`: {error}");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(&folder).map_err(text)? {
        let name = entry.map_err(text)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<i32>().ok());
        numbers.push(number.ok_or_else(|| format!("`{folder}`: an odd entry"))?);
    }
    numbers.sort_unstable();
    if numbers != [0, 1, 2, TALK, filter] {
        return Err(format!("open descriptors: {numbers:?}"));
    }
    for number in [TALK, filter] {
        let info = read(pid, &format!("fdinfo/{number}"))?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        if flags.is_none_or(|flags| flags & libc::O_CLOEXEC == 0) {
            return Err(format!("descriptor {number} stays open"));
        }
    }
    Ok("descriptors: 0, 1, 2; two more that execve closes".to_owned())
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

/// `text` is the process's `status` (proc_pid_status(5)).
fn status(seen: &Seen<'_>, told: &Dropped, text: &str) -> Result<Vec<String>, String> {
    let Seen {
        slot, host, order, ..
    } = *seen;
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
    if order.command.is_some() {
        expected.push(PlaceKind::Command);
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
            ("nosymfollow", true),
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
        "mounts: {count}, all nosuid, nodev, nosymfollow; root and SDK read-only; \
         no proc, no sys"
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
    let status = read(pid, "status")?;
    let cpus = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed:"));
    let count: u32 = cpus.map_or(0, |mask| {
        let digits = mask.chars().filter_map(|digit| digit.to_digit(16));
        digits.map(u32::count_ones).sum()
    });
    if u64::from(count) > policy.processors || count == 0 {
        return Err(format!(
            "{count} processors instead of {}",
            order.processors()
        ));
    }
    Ok(format!(
        "limits: {} s, scratch {} MiB, {} processes, {} MiB of data each, \
         {count} processors, no core dumps",
        order.wall_ms / 1000,
        order.scratch_bytes >> 20,
        soft("Max processes")?,
        soft("Max data size")? >> 20,
    ))
}
