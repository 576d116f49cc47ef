//! The only unsafe code: one call per block, each with the fact that makes it sound.
//!
//! Called by the cell's init and by the supervisor, both single-threaded. Wraps exactly the calls
//! that the `nix`, `caps` and `landlock` crates have no safe form for; decides nothing itself.
#![expect(
    unsafe_code,
    reason = "the one place where the kernel is spoken to directly"
)]

pub(crate) mod bare;
pub(crate) mod file;
pub(crate) mod mount;
pub(crate) mod process;
pub(crate) mod seccomp;

use std::{
    ffi::{CStr, c_char, c_int, c_long, c_short},
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// Takes ownership of a descriptor that the kernel has just made for us.
pub(crate) fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass a number which recvmsg or another call has just created in this
    // process and which nothing else holds.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Looks at a descriptor by its number; every use of it fails cleanly when it is not open.
pub(crate) fn borrow<'a>(raw: RawFd) -> BorrowedFd<'a> {
    assert!(raw >= 0, "a descriptor is not negative");
    // SAFETY: the number is not -1, which is the type's only niche; the callers pass the borrow to
    // one system call, which reports EBADF for a number that is not open.
    unsafe { BorrowedFd::borrow_raw(raw) }
}

/// Turns the kernel's -1 into the error it stands for.
fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A new descriptor out of a system call's result.
fn descriptor(result: c_long) -> io::Result<OwnedFd> {
    let raw = check(result)?;
    Ok(own(
        RawFd::try_from(raw).expect("descriptors are small numbers")
    ))
}

/// Makes `source` available under a fixed number, kept over exec, and closes what was there.
pub(crate) fn place(source: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes two numbers and no pointer; in the child that calls this, just before
    // exec, no value owns the target number.
    check(c_long::from(unsafe {
        libc::dup2(source.as_raw_fd(), number)
    }))?;
    Ok(())
}

/// A copy of a descriptor with a number of at least `first`, closed on exec.
pub(crate) fn copy_above(source: BorrowedFd<'_>, first: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes numbers only.
    descriptor(c_long::from(unsafe {
        libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first)
    }))
}

/// Closes every descriptor from `first` on.
///
/// Only in a child that will exec or exit: values that own those numbers must never be dropped.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes no pointers; the callers leak every value that owns a number.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) })?;
    Ok(())
}

/// Brings the loopback device of this network namespace up; the kernel gives it 127.0.0.1.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut name = [0 as c_char; libc::IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(b"lo") {
        *to = c_char::try_from(*from).expect("ASCII");
    }
    let flags = c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("both are below 2^15");
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
    };
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    check(c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    }))?;
    Ok(())
}

/// Sets the NIS domain name, which `uname` shows.
pub(crate) fn set_domain_name(name: &CStr) -> io::Result<()> {
    let length = name.to_bytes().len();
    // SAFETY: the kernel reads `length` bytes at the pointer; the text outlives the call.
    check(c_long::from(unsafe {
        libc::setdomainname(name.as_ptr(), length)
    }))?;
    Ok(())
}

/// Whether an extended attribute of an open file has this value.
pub(crate) fn attribute_is(file: BorrowedFd<'_>, name: &CStr, expected: &[u8]) -> bool {
    let mut value = [0_u8; 16];
    // SAFETY: the name ends with NUL and the kernel writes at most `value.len()` bytes; both
    // outlive the call.
    let length = unsafe {
        libc::fgetxattr(
            file.as_raw_fd(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    usize::try_from(length).is_ok_and(|length| value.get(..length) == Some(expected))
}

/// Leaves every session keyring for a new one without a name (`keyctl(2)`).
pub(crate) fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: c_int = 1; // linux/keyctl.h
    // SAFETY: a null name asks for an anonymous keyring; no other pointer is taken.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<c_char>(),
        )
    })?;
    Ok(())
}

/// Landlock's version of this kernel.
pub(crate) fn landlock_abi() -> io::Result<c_long> {
    const VERSION: c_int = 1; // LANDLOCK_CREATE_RULESET_VERSION of linux/landlock.h
    // SAFETY: a null pointer with size zero is what the version query takes.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            VERSION,
        )
    })
}

/// Errors of Landlock that this kernel says it has mended, as a bit set (Linux 6.15).
pub(crate) fn landlock_errata() -> io::Result<c_long> {
    const ERRATA: c_int = 2; // LANDLOCK_CREATE_RULESET_ERRATA of linux/landlock.h
    // SAFETY: a null pointer with size zero is what this query takes.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            ERRATA,
        )
    })
}
