//! Descriptors that a role finds open when it starts, by the number that its starter chose.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Numbers that were taken already, as bits.
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// Highest number that a starter may choose, plus one.
const NUMBER_END: RawFd = 16;

/// Takes over an inherited descriptor, once, and closes it on exec from now on.
///
/// # Errors
/// When the number is not open, is a standard stream, or was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if !(3..NUMBER_END).contains(&number) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if TAKEN.fetch_or(1 << number, Ordering::SeqCst) & (1 << number) != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let borrowed: BorrowedFd<'_> = crate::sys::borrow(number);
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?; // fails when it is not open
    Ok(crate::sys::own(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_streams_and_closed_numbers_are_refused() {
        for number in [-1, 0, 2, 15, 15, 16, 1000] {
            assert!(take(number).is_err(), "{number}");
        }
    }
}
