//! How a role gives up power for good before it reads a byte from outside.

use std::{io, os::fd::BorrowedFd};

use caps::CapSet;
pub use landlock::RulesetError;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Gid, Uid, setgroups, setresgid, setresuid},
};

/// Base of the ids that roles and cells get when hotcell is started as root. Far above what
/// distributions, systemd (61184 to 65519) and subuid ranges use.
pub const IDS_BASE: u32 = 1_900_000_000;

/// Whether this process may choose ids.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Becomes the user `id` without groups, capabilities or a way back; `None` keeps the user.
/// Must be called before any thread exists, as ids and capabilities belong to threads.
///
/// # Errors
/// When the kernel refuses a step; the caller must end then, it is in an unknown state.
pub fn give_up(id: Option<u32>) -> io::Result<()> {
    if let Some(id) = id {
        // The bounding set first, while CAP_SETPCAP is still held.
        caps::clear(None, CapSet::Ambient).map_err(io::Error::other)?;
        caps::clear(None, CapSet::Bounding).map_err(io::Error::other)?;
        setgroups(&[])?;
        let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?; // clears the other sets, as no id is 0 any more
        caps::clear(None, CapSet::Inheritable).map_err(io::Error::other)?;
        if !caps::read(None, CapSet::Permitted)
            .map_err(io::Error::other)?
            .is_empty()
        {
            return Err(io::Error::other(
                "capabilities are left after the switch of users",
            ));
        }
    }
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    Ok(())
}

/// Has the kernel end this process when the one that started it ends. Called after [`give_up`], as
/// a switch of ids makes the kernel forget it.
///
/// # Errors
/// When the kernel refuses.
pub fn die_with_parent() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)
}

/// Gives up all files, connections and foreign sockets that are not open yet. For a role that works
/// with inherited descriptors only; below `folder` it may still read. Must be called before any
/// thread exists.
///
/// # Errors
/// When the kernel cannot deny files (Landlock of ABI 2, Linux 5.19). What newer kernels can deny
/// beyond that is denied where they can.
pub fn keep_descriptors_only(folder: BorrowedFd<'_>) -> Result<(), RulesetError> {
    let files = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))?;
    files
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V6))?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rule(PathBeneath::new(
            folder,
            AccessFs::ReadFile | AccessFs::ReadDir,
        ))?
        .restrict_self()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_thread_that_keeps_descriptors_only_opens_nothing() {
        let thread = std::thread::spawn(|| {
            let mut open = std::fs::File::open("/dev/zero").unwrap();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("file");
            drop(std::fs::File::create(&file).unwrap());
            let opened = std::fs::File::open(folder.path()).unwrap();
            keep_descriptors_only(opened.as_fd()).unwrap();
            assert!(std::fs::File::open(&file).is_ok());
            assert!(std::fs::File::create(&file).is_err());
            let denied = std::fs::File::open("/dev/zero").unwrap_err();
            assert_eq!(denied.kind(), io::ErrorKind::PermissionDenied);
            io::Read::read_exact(&mut open, &mut [0; 1]).unwrap();
        });
        thread.join().unwrap();
    }
}
