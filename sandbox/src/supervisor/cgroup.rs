//! Control groups of cells (cgroup v2): where they may be made, what is left of dead supervisors.
//!
//! Looked for once, when the supervisor starts. Every file is opened below a descriptor of a folder
//! that was opened then; no path of a group is ever put together from what others wrote, but the
//! own one. Must never write into a group that others manage: we work in the root of the hierarchy
//! as root, else only below a group that was delegated to us
//! (<https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation>).

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::{
        stat::{Mode, fstat, mkdirat},
        statfs::{CGROUP2_SUPER_MAGIC, fstatfs},
    },
    unistd::{UnlinkatFlags, geteuid, getpid, unlinkat},
};

use super::group::{Group, GroupLimits};
use crate::{sys, wire::NotInForce};

/// Where systemd and everybody else mounts the one hierarchy.
const TOP: &str = "/sys/fs/cgroup";
/// What we need, and the limits that are not in force without each.
const CONTROLLERS: [(&str, &str); 3] = [
    ("memory", NotInForce::MEMORY),
    ("pids", NotInForce::PROCESSES),
    ("cpu", NotInForce::CPU),
];
/// Our groups are called so, followed by our process id.
const PREFIX: &str = "hotcell-";
/// Where the service's own processes go: only groups without groups below may hold processes.
const ROLES: &str = "roles";
/// Most bytes of a file that is read here; `cgroup.procs` of a service has a few hundred.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// How often processes are moved out of the way of a controller: new ones may have been started.
const MOVES_MAX: usize = 5;
/// How long killed processes of a dead supervisor may take to vanish.
const EMPTY_MAX: Duration = Duration::from_secs(2);
/// How long one waits before one looks again whether they have.
const EMPTY_EVERY: Duration = Duration::from_millis(10);
/// Longest time between two tries to remove what would not go.
const AGAIN_MAX: Duration = Duration::from_secs(1);
/// Process ids repeat across namespaces: so many groups of the same number may live.
const NAMES_MAX: u32 = 16;

/// Our group, in which each cell gets one of its own.
#[derive(Debug)]
pub(super) struct Groups {
    parent: OwnedFd,
    name: String,
    /// Locked as long as we live: by this the next supervisor tells us from a dead one.
    folder: Flock<OwnedFd>,
    controllers: Controllers,
    made: u64,
    /// Groups of cells that could not be removed yet.
    left: Vec<String>,
    /// When the next try is worth its while.
    again: Duration,
}

/// Which controllers we drive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Controllers {
    pub(super) memory: bool,
    pub(super) pids: bool,
    pub(super) cpu: bool,
}

impl Controllers {
    /// From a list such as that of `cgroup.subtree_control`.
    fn parse(text: &str) -> Self {
        let has = |name: &str| text.split_whitespace().any(|word| word == name);
        Self {
            memory: has("memory"),
            pids: has("pids"),
            cpu: has("cpu"),
        }
    }

    fn has(self, name: &str) -> bool {
        match name {
            "memory" => self.memory,
            "pids" => self.pids,
            _ => self.cpu,
        }
    }
}

/// Looks for a place for our groups and makes ours; tells which limits are not in force.
///
/// `root` says whether we are root of the host; then groups of dead supervisors go first.
pub(super) fn find(root: bool) -> (Option<Groups>, Vec<NotInForce>) {
    let missing = |what: &str, why: String| NotInForce {
        what: what.to_owned(),
        why,
    };
    match Groups::make(root) {
        Ok(groups) => {
            let lacks = CONTROLLERS
                .iter()
                .filter(|(name, _)| !groups.controllers.has(name));
            let why =
                |name: &str| format!("the cgroup v2 controller `{name}` cannot be driven here");
            let all = lacks.map(|(name, what)| missing(what, why(name))).collect();
            (Some(groups), all)
        }
        Err(why) => {
            let all = CONTROLLERS.map(|(_, what)| missing(what, why.clone()));
            (None, all.into())
        }
    }
}

impl Groups {
    fn make(root: bool) -> Result<Self, String> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let top = open(TOP, flags, Mode::empty()).map_err(|e| format!("`{TOP}`: {e}"))?;
        let kind = fstatfs(&top).map_err(|e| format!("`{TOP}`: {e}"))?;
        if kind.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(
                "this host has control groups of version 1; cgroup v2 is needed".to_owned(),
            );
        }
        let parent = parent(top, root)?;
        sweep(parent.as_fd())?;
        let controllers = enable(parent.as_fd())?;
        if controllers == Controllers::default() {
            return Err("no controller of cgroup v2 can be driven here".to_owned());
        }
        let (name, folder) = own_group(parent.as_fd())?;
        // Ours is empty, so that nothing has to be moved: what is missing here was missing above.
        let controllers = enable(folder.as_fd()).inspect_err(|_| {
            let _empty = remove(parent.as_fd(), &name);
        })?;
        Ok(Self {
            parent,
            name,
            folder,
            controllers,
            made: 0,
            left: Vec::new(),
            again: EMPTY_EVERY,
        })
    }

    /// A new group for one cell, with its limits set and read back.
    ///
    /// # Errors
    /// One sentence; no group is left then.
    pub(super) fn cell(&mut self, limits: &GroupLimits) -> Result<Group, String> {
        self.tidy();
        self.made += 1;
        let name = format!("cell-{}", self.made);
        mkdirat(
            &*self.folder,
            name.as_str(),
            Mode::from_bits_truncate(0o755),
        )
        .map_err(|e| format!("group `{name}`: {e}"))?;
        let folder = open_folder(self.folder.as_fd(), &name);
        let group =
            folder.and_then(|folder| Group::new(name.clone(), folder, self.controllers, limits));
        group.inspect_err(|_| self.left.push(name))
    }

    /// Removes a group whose processes are dead; what cannot go yet goes later.
    pub(super) fn remove(&mut self, group: Group) {
        self.left.push(group.into_name());
        self.tidy();
    }

    /// Removes what is left of earlier cells: the kernel may still count a process that is dead.
    pub(super) fn tidy(&mut self) {
        let folder = self.folder.as_fd();
        self.left.retain(|name| remove(folder, name).is_err());
        self.again = match self.left.is_empty() {
            true => EMPTY_EVERY,
            false => (2 * self.again).min(AGAIN_MAX),
        };
    }

    /// How long one may sleep before the next [`Groups::tidy`], when something is left.
    pub(super) fn again(&self) -> Option<Duration> {
        (!self.left.is_empty()).then_some(self.again)
    }

    /// Removes everything of ours.
    pub(super) fn close(mut self) {
        for _ in 0..(EMPTY_MAX.as_millis() / EMPTY_EVERY.as_millis()) {
            self.tidy();
            if self.left.is_empty() {
                break;
            }
            std::thread::sleep(EMPTY_EVERY);
        }
        // What a crash of the kernel's cleaning leaves is swept by the next start.
        let _swept_later = remove(self.parent.as_fd(), &self.name);
    }
}

/// Chooses the group below which we may work.
fn parent(top: OwnedFd, root: bool) -> Result<OwnedFd, String> {
    let text = std::fs::read_to_string("/proc/self/cgroup").map_err(|e| e.to_string())?;
    let path = own_path(&text)?;
    if path.is_empty() {
        return Ok(top); // of the host, or of a container that was given a hierarchy of its own
    }
    let own = open_folder(top.as_fd(), path)?;
    let ours = read(own.as_fd(), "cgroup.procs")?;
    let me = getpid().to_string();
    if !ours.lines().any(|pid| pid == me) {
        return Err(format!(
            "the group `/{path}` below `{TOP}` is not the one that we are in"
        ));
    }
    if is_delegated(&own, root)? {
        return Ok(own);
    }
    if root {
        return Ok(top);
    }
    Err("this control group was not delegated to us (systemd: Delegate=yes)".to_owned())
}

/// The path of `0::/path`, without its first slash, in a text of cgroups(7).
fn own_path(text: &str) -> Result<&str, String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or("we are in no group of cgroup v2")?;
    // `/../x` is outside of our namespace; ` (deleted)` is what the kernel adds to a removed one.
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.ends_with(" (deleted)") || (!path.is_empty() && path.split('/').any(odd)) {
        return Err(format!("our control group `/{path}` cannot be reached"));
    }
    Ok(path)
}

/// systemd marks what it delegates. Where it does not run, owning the folder is the delegation.
fn is_delegated(own: &OwnedFd, root: bool) -> Result<bool, String> {
    let marked = [c"user.delegate", c"trusted.delegate"]
        .iter()
        .any(|name| sys::attribute_is(own.as_fd(), name, b"1"));
    let owner = fstat(own).map_err(|e| e.to_string())?.st_uid;
    let owned = !root && owner == geteuid().as_raw() && !Path::new("/run/systemd/system").exists();
    Ok(marked || owned)
}

/// Enables our controllers for the groups below this one, as far as it has them.
fn enable(group: BorrowedFd<'_>) -> Result<Controllers, String> {
    let there = Controllers::parse(&read(group, "cgroup.controllers")?);
    for (name, _) in CONTROLLERS.iter().filter(|(name, _)| there.has(name)) {
        for _ in 0..MOVES_MAX {
            match write(group, "cgroup.subtree_control", &format!("+{name}")) {
                Err(Errno::EBUSY) => evacuate(group)?,
                // Read back below: what could not be enabled is reported as missing.
                Ok(()) | Err(_) => break,
            }
        }
    }
    Ok(Controllers::parse(&read(group, "cgroup.subtree_control")?))
}

/// Moves the service's own processes into a group of their own below this one.
fn evacuate(group: BorrowedFd<'_>) -> Result<(), String> {
    match mkdirat(group, ROLES, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(error) => return Err(format!("group `{ROLES}`: {error}")),
    }
    let roles = open_folder(group, ROLES)?;
    for pid in read(group, "cgroup.procs")?.lines() {
        match write(roles.as_fd(), "cgroup.procs", pid) {
            Ok(()) | Err(Errno::ESRCH) => {} // it ended meanwhile
            Err(error) => return Err(format!("process {pid} cannot be moved: {error}")),
        }
    }
    Ok(())
}

/// Makes our group and locks it.
fn own_group(parent: BorrowedFd<'_>) -> Result<(String, Flock<OwnedFd>), String> {
    for attempt in 0..NAMES_MAX {
        let name = match attempt {
            0 => format!("{PREFIX}{}", getpid()),
            _ => format!("{PREFIX}{}-{attempt}", getpid()),
        };
        match mkdirat(parent, name.as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => continue, // its owner lives, else it had been swept
            Err(error) => return Err(format!("group `{name}`: {error}")),
        }
        let Ok(folder) = open_folder(parent, &name) else {
            continue; // taken for a leftover by somebody who starts at the same time
        };
        let Ok(folder) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) else {
            continue; // likewise
        };
        let inode = |fd: &OwnedFd| fstat(fd).map(|stat| stat.st_ino);
        if open_folder(parent, &name).is_ok_and(|now| inode(&now) == inode(&folder)) {
            return Ok((name, folder));
        }
    }
    Err("no group could be made".to_owned())
}

/// Kills and removes the groups of supervisors that are dead.
fn sweep(parent: BorrowedFd<'_>) -> Result<(), String> {
    for name in folders(parent)? {
        let number = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.bytes().next());
        if !number.is_some_and(|first| first.is_ascii_digit()) {
            continue;
        }
        let Ok(folder) = open_folder(parent, &name) else {
            continue; // somebody else sweeps
        };
        let Ok(folder) = Flock::lock(folder, FlockArg::LockExclusiveNonblock) else {
            continue; // its supervisor lives
        };
        if write(folder.as_fd(), "cgroup.kill", "1").is_err() {
            continue; // not ours after all
        }
        for _ in 0..(EMPTY_MAX.as_millis() / EMPTY_EVERY.as_millis()) {
            for cell in folders(folder.as_fd())? {
                let _again = remove(folder.as_fd(), &cell);
            }
            if remove(parent, &name).is_ok() {
                break;
            }
            std::thread::sleep(EMPTY_EVERY);
        }
    }
    Ok(())
}

/// Names of the groups below one.
fn folders(group: BorrowedFd<'_>) -> Result<Vec<String>, String> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = Dir::openat(group, ".", flags, Mode::empty()).map_err(|e| e.to_string())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry.map_err(|e| e.to_string())?;
        let name = entry.file_name().to_str().unwrap_or("");
        if entry.file_type() == Some(Type::Directory) && !matches!(name, "" | "." | "..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn remove(parent: BorrowedFd<'_>, name: &str) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn beneath(folder: BorrowedFd<'_>, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve);
    openat2(folder, path, how)
}

fn open_folder(folder: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, String> {
    beneath(folder, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .map_err(|e| format!("group `{path}`: {e}"))
}

/// A whole file of a group.
pub(super) fn read(group: BorrowedFd<'_>, file: &str) -> Result<String, String> {
    let fd = beneath(group, file, OFlag::O_RDONLY).map_err(|e| format!("`{file}`: {e}"))?;
    let mut text = String::new();
    let mut limited = File::from(fd).take(FILE_BYTES_MAX);
    limited
        .read_to_string(&mut text)
        .map_err(|e| format!("`{file}`: {e}"))?;
    Ok(text)
}

/// Writes a file of a group, in one call.
pub(super) fn write(group: BorrowedFd<'_>, file: &str, text: &str) -> nix::Result<()> {
    let fd = beneath(group, file, OFlag::O_WRONLY)?;
    let written = File::from(fd).write_all(text.as_bytes());
    written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_read_from_the_line_of_version_2() {
        assert_eq!(own_path("0::/\n"), Ok(""));
        assert_eq!(
            own_path("0::/system.slice/hotcell.service\n"),
            Ok("system.slice/hotcell.service")
        );
        let hybrid = "12:pids:/x\n1:name=systemd:/y\n0::/a b/c:d\n";
        assert_eq!(own_path(hybrid), Ok("a b/c:d"));
    }

    #[test]
    fn odd_groups_are_refused() {
        for text in [
            "",
            "1:memory:/x\n",
            "0::\n",
            "0::relative\n",
            "0::/..\n",
            "0::/../../escape\n",
            "0::/a/../b\n",
            "0::/a//b\n",
            "0::/a/\n",
            "0::/./a\n",
            "0::/gone (deleted)\n",
        ] {
            assert!(own_path(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn controllers_are_whole_words() {
        let all = Controllers::parse("cpuset cpu io memory hugetlb pids rdma misc\n");
        assert!(all.memory && all.pids && all.cpu);
        assert_eq!(
            Controllers::parse("cpuset memory_x pid\n"),
            Controllers::default()
        );
        assert_eq!(Controllers::parse(""), Controllers::default());
    }

    proptest::proptest! {
        /// No text of the kernel, or of whoever stands in its place, leads out of the hierarchy.
        #[test]
        fn an_accepted_path_has_no_way_up(text in "(0::)?/?[a-z./ :\\n]{0,40}") {
            if let Ok(path) = own_path(&text) {
                proptest::prop_assert!(!path.starts_with('/'));
                proptest::prop_assert!(path.split('/').all(|part| part != ".." && part != "."));
            }
        }
    }
}
