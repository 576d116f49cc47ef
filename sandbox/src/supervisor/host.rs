//! What this host gives us: root or a person's own user namespace, and what it cannot enforce.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::fd::{AsFd as _, OwnedFd},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, open},
    sched::{CloneFlags, unshare},
    sys::{
        stat::{Mode, fstat},
        sysinfo::sysinfo,
    },
    unistd::{Uid, fchdir, getegid, geteuid, getgroups},
};

use super::{
    CELL_IDS, RELAY_IDS, SupervisorConfig, SupervisorError,
    cgroup::{self, Groups},
};
use crate::{
    cell,
    policy::Policy,
    sys::mount::{self, Attributes},
    wire::NotInForce,
};

/// The host as the supervisor uses it.
#[derive(Debug)]
pub(super) struct Host {
    /// Whether relays and cells have ids of their own.
    pub(super) root: bool,
    ids_base: u32,
    /// Where cells get control groups, if anywhere.
    pub(super) groups: Option<Groups>,
    /// Memory of the machine.
    pub(super) memory_bytes: u64,
    /// What no policy can change.
    pub(super) not_in_force: Vec<NotInForce>,
}

impl Host {
    /// Id outside of the cell in a slot.
    pub(super) fn cell_id(&self, slot: usize) -> u32 {
        self.id(CELL_IDS, slot)
    }

    /// Id of the relay of a slot.
    pub(super) fn relay_id(&self, slot: usize) -> u32 {
        self.id(RELAY_IDS, slot)
    }

    fn id(&self, group: u32, slot: usize) -> u32 {
        if !self.root {
            return 0; // the person, as our own user namespace shows them
        }
        let slot = u32::try_from(slot).expect("there are at most 128 slots");
        self.ids_base + group + slot
    }
}

/// Takes an own mount namespace, and rootless an own user namespace, and goes to the store.
pub(super) fn enter(config: &SupervisorConfig) -> Result<Host, SupervisorError> {
    let threads = fs::read_dir("/proc/self/task")
        .map_err(|e| host("/proc", &e))?
        .count();
    if threads != 1 {
        // A fork would leave locks behind that belong to threads which the child does not have.
        return Err(SupervisorError::Start(format!(
            "{threads} threads instead of one"
        )));
    }
    let root = geteuid().is_root();
    let (uid, gid) = (geteuid(), getegid());
    check_store(&config.store, uid)?;
    let groups = getgroups().map_err(|e| host("getgroups", &e))?;
    // The current folder is taken along into a new mount namespace; a descriptor is not.
    fchdir(&config.store).map_err(|e| SupervisorError::Store(e.to_string()))?;
    if root {
        unshare(CloneFlags::CLONE_NEWNS).map_err(|e| host("a mount namespace", &e))?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
            .map_err(|e| host("an unprivileged user namespace (see `hotcell doctor`)", &e))?;
        map("/proc/self/setgroups", "deny")?;
        map("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
        map("/proc/self/gid_map", &format!("0 {gid} 1\n"))?;
    }
    mount::make_private().map_err(|e| host("private mounts", &e))?;
    let here = open(
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let here = here.map_err(|e| SupervisorError::Store(e.to_string()))?;
    let same = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    if same(&here) != same(&config.store) {
        return Err(SupervisorError::Store(
            "the folder is not where it was".to_owned(),
        ));
    }
    mount::clone_tree(here.as_fd(), c"").map_err(|e| host("open_tree (Linux 5.12)", &e))?;
    let shared = groups.iter().any(|group| *group != gid);
    let memory = sysinfo().map_err(|e| host("sysinfo", &e))?;
    let (groups, mut not_in_force) = cgroup::find(root);
    not_in_force.extend(missing(root, shared, &config.policies));
    Ok(Host {
        root,
        ids_base: config.ids_base,
        groups,
        memory_bytes: memory.ram_total(),
        not_in_force,
    })
}

/// Everything that cells mount lies there: nobody else may even look.
fn check_store(store: &OwnedFd, own: Uid) -> Result<(), SupervisorError> {
    let wrong = |why: String| Err(SupervisorError::Store(format!("its folder {why}")));
    let stat = fstat(store).map_err(|e| SupervisorError::Store(e.to_string()))?;
    if stat.st_uid != own.as_raw() {
        return wrong(format!("belongs to user {}, not {own}", stat.st_uid));
    }
    if stat.st_mode & 0o077 != 0 {
        return wrong(format!("has mode {:o}, not 700", stat.st_mode & 0o7777));
    }
    Ok(())
}

fn host(what: &str, error: &dyn std::fmt::Display) -> SupervisorError {
    SupervisorError::Host(format!("{what}: {error}"))
}

/// Writes one of the files of `user_namespaces(7)`.
pub(super) fn map(path: &str, text: &str) -> Result<(), SupervisorError> {
    let written = OpenOptions::new().write(true).open(path);
    // One write: the kernel takes each of these files only once.
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| host(path, &e))
}

/// `/dev/null` as a detached mount.
pub(super) fn null_mount(attributes: Attributes) -> std::io::Result<OwnedFd> {
    let detached = mount::clone_tree(AT_FDCWD, c"/dev/null")?;
    mount::restrict(detached.as_fd(), attributes)?;
    Ok(detached)
}

fn missing(root: bool, shared_groups: bool, policies: &[Policy]) -> Vec<NotInForce> {
    let mut all = Vec::new();
    let mut add = |what: &str, why: &str| {
        all.push(NotInForce {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    };
    if !root {
        add(
            "separate user",
            "rootless: service, relay and cell share one id of the host",
        );
        if shared_groups {
            add(
                "no supplementary groups",
                "rootless: groups cannot be dropped",
            );
        }
    }
    let abi = cell::landlock_abi();
    // The one that wants most wants all that the others do.
    let policy = policies.iter().max_by_key(|policy| policy.landlock.wanted);
    all.extend(
        policy
            .into_iter()
            .flat_map(|policy| cell::landlock_missing(abi, policy)),
    );
    all
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_store_of_others_or_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let opened: OwnedFd = fs::File::open(folder.path()).unwrap().into();
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode));
        mode(0o700).unwrap();
        check_store(&opened, geteuid()).unwrap();
        let stranger = Uid::from_raw(geteuid().as_raw() + 1);
        assert!(check_store(&opened, stranger).is_err());
        for open in [0o701, 0o710, 0o755, 0o1777] {
            mode(open).unwrap();
            assert!(check_store(&opened, geteuid()).is_err(), "{open:o}");
        }
    }
}
