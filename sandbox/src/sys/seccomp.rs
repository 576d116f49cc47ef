//! System call filters and their notifications (`seccomp(2)`, `seccomp_unotify(2)`).

use std::{
    ffi::c_ushort,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use seccompiler::sock_filter;

use super::{check, descriptor};

/// A call that waits for our answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Names the notification.
    pub(crate) id: u64,
    /// The calling thread, as this process sees it.
    pub(crate) pid: i32,
    pub(crate) number: i64,
    pub(crate) args: [u64; 6],
    pub(crate) ip: u64,
}

fn install_with(program: &[sock_filter], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let length = c_ushort::try_from(program.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the kernel reads `len` instructions at `filter`, which are borrowed for longer than
    // this call; seccompiler's `sock_filter` is `repr(C)` with the fields of the kernel's.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })
}

/// Adds a filter to this thread. Irrevocable.
pub(crate) fn install(program: &[sock_filter]) -> io::Result<()> {
    install_with(program, 0).map(drop)
}

/// The same; the kernel tells its log what the filter refuses, as far as
/// `/proc/sys/kernel/seccomp/actions_logged` lets it.
pub(crate) fn install_logged(program: &[sock_filter]) -> io::Result<()> {
    install_with(program, libc::SECCOMP_FILTER_FLAG_LOG).map(drop)
}

/// Adds a filter whose notifications arrive at the returned descriptor. Irrevocable.
pub(crate) fn install_with_listener(program: &[sock_filter]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    descriptor(install_with(program, flags)?)
}

/// Takes one notification; fails with `ENOENT` when the caller died in the meantime.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Notice> {
    let mut notice = MaybeUninit::<libc::seccomp_notif>::zeroed();
    // SAFETY: the kernel demands a zeroed seccomp_notif and fills it; it outlives the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            notice.as_mut_ptr(),
        )
    }))?;
    // SAFETY: zeroed memory is a valid value: all fields are integers.
    let notice = unsafe { notice.assume_init() };
    Ok(Notice {
        id: notice.id,
        pid: i32::try_from(notice.pid).unwrap_or(0),
        number: i64::from(notice.data.nr),
        args: notice.data.args,
        ip: notice.data.instruction_pointer,
    })
}

/// Whether the caller of a notification still waits, so that its process id still means it.
pub(crate) fn is_waiting(listener: BorrowedFd<'_>, notice: &Notice) -> bool {
    let id = notice.id;
    // SAFETY: the kernel reads one u64, which outlives the call.
    let result = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    result == 0
}

/// Answers a notification with an error, which need not be one that the kernel knows.
#[cfg(test)]
pub(crate) fn answer(listener: BorrowedFd<'_>, notice: &Notice, errno: i32) -> io::Result<()> {
    let response = libc::seccomp_notif_resp {
        id: notice.id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    // SAFETY: the kernel reads one seccomp_notif_resp, which outlives the call.
    check(libc::c_long::from(unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const response,
        )
    }))?;
    Ok(())
}
