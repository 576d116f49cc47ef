//! The folders of the roles: who owns them, and how they are reached.
//!
//! Called while there is still power: by `serve` before it gives up its own, and by the role `sign`
//! before its first message. Must never give away a file that somebody else could have put there.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown, fchown},
    path::{Path, PathBuf},
};

use nix::fcntl::{OFlag, open};

use super::{SERVE_ID, SIGN_ID, StartError};

/// Files and folders of a signer: three levels, seven files for each key that there ever was.
const TAKEN_MAX: usize = 1000;

/// Makes a folder that only `owner` can enter.
///
/// # Errors
/// When it cannot be made, or given to its owner.
pub fn prepare(path: &Path, owner: Option<u32>) -> Result<(), StartError> {
    let folder = |source| StartError::Folder {
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(folder)?;
    if owner.is_some() {
        chown(path, owner, owner).map_err(folder)?;
    }
    Ok(())
}

/// The same for a folder that is a role's alone: one that others could enter is closed to them.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_own(path: &Path, owner: Option<u32>) -> Result<(), StartError> {
    prepare(path, owner)?;
    let closed = fs::set_permissions(path, Permissions::from_mode(0o700));
    closed.map_err(|source| StartError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// Enters a mount namespace of its own in which `data` can be reached whatever the modes of the
/// folders above it, and returns its new path. Needs root; called before any thread exists and
/// before power is given up. `/tmp` is private from here on.
///
/// # Errors
/// When the kernel refuses a step.
pub fn enter_own_mounts(data: &Path) -> io::Result<PathBuf> {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    use std::os::fd::AsRawFd as _;
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    let source = File::open(data)?; // before /tmp is covered, as it may lie there
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("tmpfs"),
        "/tmp",
        Some("tmpfs"),
        flags,
        Some("mode=1777,size=64m"),
    )?;
    let target = PathBuf::from("/tmp/hotcell-data");
    fs::create_dir(&target)?;
    let source = format!("/proc/self/fd/{}", source.as_raw_fd());
    mount(Some(source.as_str()), &target, NONE, MsFlags::MS_BIND, NONE)?;
    std::env::set_current_dir(&target)?;
    Ok(target)
}

/// Gives the signer's folder, which is the current one, to the role `sign`: an earlier version kept
/// the keys in `serve`. Called as root. A crash in between leaves some files to the next start.
///
/// # Errors
/// When something lies there that no signer has made; it keeps its owner then.
pub(super) fn take_over(folder: &Path, level: usize, taken: &mut usize) -> io::Result<()> {
    let strange = |path: &Path, why: &str| {
        let text = format!("`{}` {why}", path.display());
        io::Error::other(text)
    };
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        *taken += 1;
        if *taken > TAKEN_MAX {
            return Err(strange(folder, "has too many files"));
        }
        // By descriptor, so that what is looked at is what is given away; a link is an error.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(open(&path, flags, nix::sys::stat::Mode::empty())?);
        let meta = file.metadata()?;
        if ![0, SERVE_ID, SIGN_ID].contains(&meta.uid()) {
            return Err(strange(&path, "belongs to somebody else"));
        }
        match (meta.is_dir(), meta.is_file()) {
            (true, _) if level > 0 => take_over(&path, level - 1, taken)?,
            // A second name could be anybody's file, linked here by a `serve` that was taken over.
            (_, true) if meta.nlink() == 1 => {}
            _ => return Err(strange(&path, "is nothing that a signer makes")),
        }
        fchown(&file, Some(SIGN_ID), Some(SIGN_ID))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn a_folder_that_was_open_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("role");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        prepare_own(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        prepare_own(&folder.path().join("new/role"), None).unwrap();
        assert!(folder.path().join("new/role").is_dir());
    }

    #[test]
    fn links_strangers_and_second_names_are_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        crate::store::durable::write_new(&secret, b"", 0o600).unwrap();
        let path = folder.path().join("log.key");
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert!(take_over(folder.path(), 2, &mut 0).is_err());
        fs::remove_file(&path).unwrap();
        fs::hard_link(&secret, &path).unwrap();
        assert!(take_over(folder.path(), 2, &mut 0).is_err());
        let before = owner(&secret);
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(take_over(folder.path(), 2, &mut 0).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(folder.path().join("a/b/c/d")).unwrap();
        assert!(take_over(folder.path(), 2, &mut 0).is_err());
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        let mut many = TAKEN_MAX;
        fs::create_dir(folder.path().join("a")).unwrap();
        assert!(take_over(folder.path(), 2, &mut many).is_err());
        assert_eq!(owner(&secret), before);
        if nix::unistd::geteuid().is_root() {
            take_over(folder.path(), 2, &mut 0).unwrap();
            assert_eq!(owner(&folder.path().join("a")), SIGN_ID);
            chown(folder.path().join("a"), Some(77), None).unwrap();
            assert!(take_over(folder.path(), 2, &mut 0).is_err());
            assert_eq!(owner(&folder.path().join("a")), 77);
        }
    }
}
