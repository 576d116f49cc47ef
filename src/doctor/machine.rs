//! The machine: control groups, ids, disk, memory, systemd.

use std::{
    collections::BTreeSet,
    fs,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hotcell_sandbox::{
    privilege::{self, IDS_BASE},
    supervisor::{CELL_IDS, CELLS_MAX},
};
use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::proxy::Http;

/// Controllers of cgroup v2 that limit a cell.
const CONTROLLERS: [&str; 3] = ["memory", "pids", "cpu"];
/// An SDK, its unpacked copy on the way, a frozen cache and some modules.
const DISK_BYTES_MIN: u64 = 2 << 30;
/// An SDK has 17,000 files, a frozen cache 3,000, each twice on the way.
const INODES_MIN: u64 = 100_000;
/// One build of a large module.
const MEMORY_BYTES_MIN: u64 = 2 << 30;
/// Longest file of ids that is read.
const IDS_BYTES_MAX: usize = 16 << 20;

/// Everything about the machine; `folders` are those that will grow.
#[must_use]
pub fn findings(folders: &[(&'static str, PathBuf)]) -> Vec<Finding> {
    let mut all = vec![cgroups()];
    all.extend(ids());
    for (what, folder) in folders {
        all.extend(disk(what, folder));
    }
    all.extend([memory(), systemd(), certificates()]);
    all
}

/// Sets up TLS as `fetch` does, which ends when it cannot; nothing is connected.
fn certificates() -> Finding {
    let what = "certificates";
    match Http::new(Http::STALL) {
        Ok(_) => Finding::ok(
            what,
            "there are some of authorities, which servers are checked by",
        ),
        Err(error) => Finding::bad(
            what,
            format!("TLS cannot be set up: {error}"),
            "install the package ca-certificates, or name a file of theirs in SSL_CERT_FILE",
        ),
    }
}

fn cgroups() -> Finding {
    let what = "cgroup v2";
    let root = Path::new("/sys/fs/cgroup");
    let todo = "boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1=all; until then each \
                process has limits, but a cell as a whole has none";
    let Some(own) = own_cgroup() else {
        return Finding::warning(what, "this process is in no group of cgroup v2", todo);
    };
    let folder = root.join(own.trim_start_matches('/'));
    let Ok(text) = fs::read_to_string(folder.join("cgroup.controllers")) else {
        return Finding::warning(what, "cgroup v2 is not mounted at /sys/fs/cgroup", todo);
    };
    let known: BTreeSet<&str> = text.split_whitespace().collect();
    let missing: Vec<&str> = CONTROLLERS
        .into_iter()
        .filter(|it| !known.contains(it))
        .collect();
    if !missing.is_empty() {
        let says = format!("no controllers {} in this group", missing.join(", "));
        return Finding::warning(what, says, todo);
    }
    let writable =
        nix::unistd::access(&folder.join("cgroup.procs"), nix::unistd::AccessFlags::W_OK);
    match writable {
        Ok(()) => Finding::ok(what, "memory, pids and cpu, in a group that is ours"),
        Err(_) => Finding::warning(
            what,
            "memory, pids and cpu, in a group that this user may not change",
            "start hotcell by systemd with Delegate=yes, or with systemd-run --user --scope -p \
             Delegate=yes",
        ),
    }
}

/// The path after `0::` (cgroups(7)).
fn own_cgroup() -> Option<String> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(line.to_owned())
}

/// The ids that roles and cells get when started as root.
fn range() -> RangeInclusive<u64> {
    let cells = u64::from(CELL_IDS) + 2 * CELLS_MAX as u64;
    u64::from(IDS_BASE)..=u64::from(IDS_BASE) + cells
}

fn ids() -> Vec<Finding> {
    let what = "ids";
    if !privilege::is_root() {
        return vec![Finding::warning(
            what,
            "rootless: service, roles and cells share one user of the host",
            "start hotcell as root, which gives each an id of its own, when strangers ask",
        )];
    }
    let range = range();
    let mut clashes = Vec::new();
    for (path, column) in [("/etc/passwd", 2), ("/etc/group", 2)] {
        clashes.extend(taken(&text_of(path), column, &range).map(|name| format!("{path}: {name}")));
    }
    for path in ["/etc/subuid", "/etc/subgid"] {
        clashes.extend(given(&text_of(path), &range).map(|name| format!("{path}: {name}")));
    }
    clashes.extend(running(&range));
    let (first, last) = (range.start(), range.end());
    if clashes.is_empty() {
        return vec![Finding::ok(
            what,
            format!("{first} to {last} belong to nobody else"),
        )];
    }
    clashes.truncate(5); // one is enough to act
    vec![Finding::warning(
        what,
        format!("{first} to {last} are also used by {}", clashes.join(", ")),
        "stop another hotcell, or take these ids from those users: who shares an id with a cell \
         can be reached by it",
    )]
}

fn text_of(path: &str) -> String {
    let mut text = fs::read_to_string(path).unwrap_or_default();
    if text.len() > IDS_BYTES_MAX {
        text.clear();
    }
    text
}

/// Names of lines whose id in `column` is in the range (passwd(5), group(5)).
fn taken<'a>(
    text: &'a str,
    column: usize,
    range: &'a RangeInclusive<u64>,
) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(column - 1)?.parse().ok()?;
        range.contains(&id).then_some(name)
    })
}

/// Names of lines whose range meets ours (subuid(5)).
fn given<'a>(text: &'a str, range: &'a RangeInclusive<u64>) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let first: u64 = fields.next()?.parse().ok()?;
        let last = first.saturating_add(fields.next()?.parse::<u64>().ok()?.saturating_sub(1));
        (first <= *range.end() && last >= *range.start()).then_some(name)
    })
}

/// Processes that have such an id now.
fn running(range: &RangeInclusive<u64>) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let owner = u64::from(entry.metadata().ok()?.uid());
        range
            .contains(&owner)
            .then(|| format!("process {pid} (id {owner})"))
    });
    processes.collect()
}

fn disk(what: &str, folder: &Path) -> Vec<Finding> {
    // What is not there yet is made in the nearest folder that is.
    let there = folder
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("/"));
    let shown = folder.display();
    let Ok(stat) = statvfs(there) else {
        let todo = "look at its file system";
        return vec![Finding::bad(
            what,
            format!("`{shown}` cannot be asked for its space"),
            todo,
        )];
    };
    let bytes = stat.blocks_available().saturating_mul(stat.fragment_size());
    let gib = bytes >> 30;
    let space = if bytes < DISK_BYTES_MIN {
        let todo = "free some space, or choose another folder";
        Finding::bad(
            what,
            format!("{gib} GiB left for `{shown}`: a first build needs 2"),
            todo,
        )
    } else {
        Finding::ok(what, format!("{gib} GiB left for `{shown}`"))
    };
    let inodes = stat.files_available();
    let name = format!("{what} inodes");
    let counted = stat.files() > 0; // some file systems have no fixed number
    let inodes = if counted && inodes < INODES_MIN {
        let says = format!("{inodes} more files fit: a first build needs 40,000");
        Finding::bad(&name, says, "choose a file system with more inodes")
    } else {
        Finding::ok(
            &name,
            if counted {
                format!("{inodes} left")
            } else {
                "no limit".to_owned()
            },
        )
    };
    vec![space, inodes]
}

fn memory() -> Finding {
    let what = "memory";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib << 10)
    };
    match (bytes("MemTotal:"), bytes("MemAvailable:")) {
        (Some(all), Some(left)) if all >= MEMORY_BYTES_MIN => {
            let (all, left) = (all >> 20, left >> 20);
            Finding::ok(what, format!("{left} of {all} MiB are free for use"))
        }
        (Some(all), _) => Finding::warning(
            what,
            format!(
                "{} MiB in all: linking a large program takes more",
                all >> 20
            ),
            "build with a policy of small limits, or on a machine with 2 GiB",
        ),
        _ => Finding::warning(what, "/proc/meminfo does not tell", "mount /proc"),
    }
}

fn systemd() -> Finding {
    // sd_booted(3)
    if Path::new("/run/systemd/system").is_dir() {
        return Finding::ok("systemd", "runs this machine");
    }
    Finding::ok(
        "systemd",
        "does not run this machine; nothing here needs it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clashes_of_ids_are_found_at_both_ends() {
        let range = 1000..=1999;
        let passwd = "root:x:0:0::/:/bin/sh\na:x:1000:5\nb:x:1999:5\nc:x:2000:5\nbroken\nd:x::\n";
        let names: Vec<_> = taken(passwd, 2, &range).collect();
        assert_eq!(names, ["a", "b"]);
        let subuid = "a:0:1000\nb:999:2\nc:1999:1\nd:2000:65536\ne:0:100000\nf:x:y\ng:5\n";
        let names: Vec<_> = given(subuid, &range).collect();
        assert_eq!(names, ["b", "c", "e"]);
    }
}
