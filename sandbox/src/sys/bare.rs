//! One system call by its number, whatever it may be; only for processes that are thrown away.

use super::check;

/// Makes a call; answers what the kernel answered, an error as its negative number.
///
/// Only in a child that shares nothing with this process but descriptors it may lose, and that
/// exits afterwards without returning: the caller sees to that.
pub(crate) fn call(number: i64, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the number and the arguments are arbitrary, so the call may do anything to the
    // memory of this process. The callers are forked children with a copy of that memory of their
    // own; what they do afterwards is to send the number that this returns, and to exit.
    let result = check(unsafe { libc::syscall(number, a, b, c, d, e, f) });
    result.unwrap_or_else(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        -i64::from(errno)
    })
}

/// Makes a call of i386 without arguments, through the gate that 32-bit programs use.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn call_i386(number: i32) -> i32 {
    let result;
    // SAFETY: the gate changes eax only; the tests pass the number of a call without arguments.
    unsafe { std::arch::asm!("int 0x80", inlateout("eax") number => result) };
    result
}
