//! What init tries after it has given up its powers, because a lock is only one when it holds.
//!
//! Cheap calls that must fail, made before the filter ends every process that makes them. One that
//! goes through means that there is no cell: the job never runs.

use std::{fs, io::ErrorKind};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{Gid, Uid, sethostname, setresgid, setresuid},
};

/// Paths of a host that a cell must not have, whatever its policy.
const ABSENT: [&str; 6] = ["/proc", "/sys", "/etc", "/usr", "/run", "/dev/shm"];

/// Tries everything; tells how many attempts failed as they must.
pub(super) fn run() -> Result<u32, String> {
    let mut tried = 0;
    let mut refused = |what: &str, errno: Result<(), Errno>, expected: &[Errno]| match errno {
        Err(errno) if expected.contains(&errno) => {
            tried += 1;
            Ok(())
        }
        Err(errno) => Err(format!("{what} failed in an unexpected way: {errno}")),
        Ok(()) => Err(format!("{what} went through")),
    };
    let (root, group) = (Uid::from_raw(0), Gid::from_raw(0));
    // No id but ours is mapped, so that these are no ids at all in here.
    let ids = [Errno::EPERM, Errno::EINVAL];
    refused("setresuid(0)", setresuid(root, root, root), &ids)?;
    refused("setresgid(0)", setresgid(group, group, group), &ids)?;
    refused("sethostname", sethostname("other"), &[Errno::EPERM])?;
    let mounts = unshare(CloneFlags::CLONE_NEWNS);
    refused("a new mount namespace", mounts, &[Errno::EPERM])?;
    for path in ABSENT {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => tried += 1,
            Err(error) => return Err(format!("`{path}`: {error}")),
            Ok(_) => return Err(format!("`{path}` is there")),
        }
    }
    match fs::create_dir("/probe") {
        Err(_) => Ok(tried + 1), // the root is read-only, and Landlock knows no rule for it
        Ok(()) => Err("a folder could be made in the root".to_owned()),
    }
}
