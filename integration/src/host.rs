//! What the host sees: processes, mounts, folders, ports. Tests assert here rather than inside a
//! cell.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

/// A process at one moment; `started` tells it from a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Number.
    pub pid: u32,
    /// Its parent's number.
    pub parent: u32,
    /// Clock ticks since boot.
    pub started: u64,
    /// Short name.
    pub name: String,
    /// Whether it is only waiting for its parent to look at it.
    pub zombie: bool,
}

/// Tries again until there is something, at most for `time_max`.
pub fn wait_for<T>(time_max: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time_max;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// An address of loopback that nobody listens at.
pub fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    free.local_addr().expect("it has an address")
}

/// All processes of this machine.
pub fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc can be read").flatten();
    entries
        .filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// One process, when it is there.
pub fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything, brackets too.
    let (head, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        name: head.split_once('(')?.1.to_owned(),
        zombie: fields.first() == Some(&"Z"),
    })
}

/// All processes below `pid`, without itself.
pub fn descendants(pid: u32) -> Vec<Process> {
    let all = processes();
    let mut known = BTreeSet::from([pid]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|process| known.contains(&process.parent) && !known.contains(&process.pid))
            .map(|process| process.pid)
            .collect();
        if more.is_empty() {
            break;
        }
        known.extend(more);
    }
    known.remove(&pid);
    all.into_iter()
        .filter(|process| known.contains(&process.pid))
        .collect()
}

/// Those of `processes` that still run.
pub fn alive(processes: &[Process]) -> Vec<Process> {
    let same = |old: &&Process| {
        process(old.pid).is_some_and(|now| now.started == old.started && !now.zombie)
    };
    processes.iter().filter(same).cloned().collect()
}

/// What tests call the small disks that they mount, which another test may see come and go.
pub const TEST_DISK: &str = "hotcell-test-disk";

/// Lines of the host's own mount table that contain `text`, without the disks of tests.
pub fn mounts(text: &str) -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc can be read");
    table
        .lines()
        .filter(|line| line.contains(text) && !line.contains(TEST_DISK))
        .map(str::to_owned)
        .collect()
}

/// Fields of `/proc/PID/status`, as the host sees it.
pub fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A namespace of a process, such as `net:[4026531840]`.
pub fn namespace(pid: u32, kind: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    link.map(|target| target.display().to_string())
        .unwrap_or_default()
}

/// All paths below `folder`, with what can be told of them without reading.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(entries) = fs::read_dir(&next) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            let path = entry.path();
            let short = path.strip_prefix(folder).expect("it lies below").to_owned();
            if meta.is_dir() {
                open.push(path);
            }
            let seen = Seen {
                folder: meta.is_dir(),
                bytes: meta.size(),
                modified_s: meta.mtime(),
                changed_ns: meta.ctime() * 1_000_000_000 + meta.ctime_nsec(),
                inode: meta.ino(),
                mode: meta.mode(),
            };
            found.insert(short, seen);
        }
    }
    found
}

/// What the host knows of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is a folder.
    pub folder: bool,
    /// Size.
    pub bytes: u64,
    /// Time of the last write, which anybody may set.
    pub modified_s: i64,
    /// Time of the last change of any kind, which nobody can set.
    pub changed_ns: i64,
    /// Inode.
    pub inode: u64,
    /// Type and rights.
    pub mode: u32,
}

/// SHA-256 of a file, in hex.
pub fn sha256(path: &Path) -> String {
    let bytes =
        fs::read(path).unwrap_or_else(|error| panic!("cannot read `{}`: {error}", path.display()));
    crate::fake::sumdb::hex(&Sha256::digest(bytes))
}
