//! Mounts by descriptor: `open_tree`, `mount_setattr`, `move_mount`, `fsopen` and its kin.
//!
//! Rootless remounting fails on flags that the kernel has locked, so the older calls are not used.

use std::{
    ffi::{CStr, c_int},
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use super::{check, descriptor};

// linux/mount.h; not in the libc crate yet.
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const FSOPEN_CLOEXEC: u32 = 0x1;
const FSMOUNT_CLOEXEC: u32 = 0x1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const NO_VALUE: *const libc::c_char = ptr::null();

/// Attributes of a mount, as `linux/mount.h` numbers them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attributes(u64);

impl Attributes {
    pub(crate) const READ_ONLY: Self = Self(0x1);
    pub(crate) const NO_SUID: Self = Self(0x2);
    pub(crate) const NO_DEV: Self = Self(0x4);
    pub(crate) const NO_EXEC: Self = Self(0x8);
    /// No symbolic link is followed (Linux 5.14).
    pub(crate) const NO_SYMLINKS: Self = Self(0x20_0000);

    /// Both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

fn set(at: BorrowedFd<'_>, path: &CStr, flags: c_int, attr: &MountAttr) -> io::Result<()> {
    // SAFETY: the kernel reads a NUL-terminated path and `size_of::<MountAttr>()` bytes; both
    // outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags,
            ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// A detached copy of the mount at `path` below `at`, which may be empty for `at` itself.
pub(crate) fn clone_tree(at: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | u32::try_from(libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW).expect("positive flags");
    // SAFETY: the kernel reads a NUL-terminated path, which outlives the call.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), path.as_ptr(), flags) })
}

/// Adds attributes to the mount that a descriptor stands for, and to all below it.
pub(crate) fn restrict(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    add(mount, attributes, libc::AT_EMPTY_PATH | libc::AT_RECURSIVE)
}

/// Adds attributes to the one mount that a descriptor stands for.
pub(crate) fn restrict_one(mount: BorrowedFd<'_>, attributes: Attributes) -> io::Result<()> {
    add(mount, attributes, libc::AT_EMPTY_PATH)
}

fn add(mount: BorrowedFd<'_>, attributes: Attributes, flags: c_int) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: attributes.0,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set(mount, c"", flags, &attr)
}

/// Cuts all mounts of this namespace off from every other namespace.
pub(crate) fn make_private() -> io::Result<()> {
    let attr = MountAttr {
        attr_set: 0,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    set(here(), c"/", libc::AT_RECURSIVE, &attr)
}

/// Attaches a detached mount at an absolute path.
pub(crate) fn attach(mount: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads two NUL-terminated paths, which outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// A new file system, configured but not attached.
pub(crate) fn new_mount(
    kind: &CStr,
    flags: &[&CStr],
    options: &[(&CStr, &CStr)],
    attributes: Attributes,
) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads a NUL-terminated name, which outlives the call.
    let context =
        descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
    for flag in flags {
        config(&context, FSCONFIG_SET_FLAG, flag.as_ptr(), NO_VALUE)?;
    }
    for (key, value) in options {
        config(&context, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())?;
    }
    config(&context, FSCONFIG_CMD_CREATE, NO_VALUE, NO_VALUE)?;
    // SAFETY: fsmount takes no pointers.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes.0,
        )
    })
}

/// `key` and `value` are null or point to NUL-terminated text that outlives the call.
fn config(
    context: &OwnedFd,
    command: u32,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> io::Result<()> {
    // SAFETY: both callers' arguments are null or come from `CStr` values borrowed by them for
    // longer than this call; the kernel copies the texts.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key,
            value,
            0,
        )
    })?;
    Ok(())
}

/// The pseudo descriptor of the current folder.
fn here<'a>() -> BorrowedFd<'a> {
    nix::fcntl::AT_FDCWD
}
