//! Attempts to run something else than the toolchain.

use core::ffi::CStr;

use crate::{
    Outcome::{self, Refused, Through, Unable},
    exit,
    files::{CREATE, HERE, READ, WRITE, open, pipe},
    fork,
    kernel::call,
    numbers as nr, wait_for,
};

/// Where this program lies, in every sandbox.
const SELF: &CStr = c"/program";

/// Executes a file with the word that makes a copy of us answer.
pub fn run(path: &CStr) -> Outcome {
    let Some([read, write]) = pipe() else {
        return Unable;
    };
    const SET_CLOSE_ON_EXEC: [usize; 2] = [2, 1]; // F_SETFD, FD_CLOEXEC
    call(
        nr::FCNTL,
        [write, SET_CLOSE_ON_EXEC[0], SET_CLOSE_ON_EXEC[1], 0, 0, 0],
    );
    let child = fork();
    if child == 0 {
        call(nr::CLOSE, [1, 0, 0, 0, 0, 0]); // what it prints is nobody's business
        let args = [path.as_ptr(), c"through".as_ptr(), core::ptr::null()];
        let none = [0_usize];
        let place = args.as_ptr().addr();
        let result = call(
            nr::EXECVE,
            [path.as_ptr().addr(), place, none.as_ptr().addr(), 0, 0, 0],
        );
        let errno = [-result as u8];
        call(nr::WRITE, [write, errno.as_ptr().addr(), 1, 0, 0, 0]);
        exit(0);
    }
    call(nr::CLOSE, [write, 0, 0, 0, 0, 0]);
    let mut errno = [0_u8];
    let told = call(nr::READ, [read, errno.as_mut_ptr().addr(), 1, 0, 0, 0]);
    wait_for(child);
    match told {
        1 => Refused(i32::from(errno[0])),
        _ => Through, // the pipe closed by itself: something else runs
    }
}

/// Copies a file and makes it executable; whether that worked.
fn copy(from: &CStr, to: &CStr) -> bool {
    let (source, target) = (open(from, READ, 0), open(to, CREATE | WRITE, 0o755));
    if source < 0 || target < 0 {
        return false;
    }
    let mut part = [0_u8; 4096];
    loop {
        let place = part.as_mut_ptr().addr();
        let length = call(nr::READ, [source as usize, place, part.len(), 0, 0, 0]);
        if length <= 0 {
            break;
        }
        call(
            nr::WRITE,
            [target as usize, place, length as usize, 0, 0, 0],
        );
    }
    call(nr::CLOSE, [target as usize, 0, 0, 0, 0, 0]);
    call(nr::FCHMODAT, [HERE, to.as_ptr().addr(), 0o755, 0, 0, 0]);
    true
}

/// Writes a program into a folder and runs it.
pub fn run_copy(to: &CStr) -> Outcome {
    if copy(SELF, to) { run(to) } else { Unable }
}

/// Writes a script into a folder and runs it.
pub fn run_script(to: &CStr, text: &[u8]) -> Outcome {
    let fd = open(to, CREATE | WRITE, 0o755);
    if fd < 0 {
        return Unable;
    }
    call(
        nr::WRITE,
        [fd as usize, text.as_ptr().addr(), text.len(), 0, 0, 0],
    );
    call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
    run(to)
}

/// Runs a program from memory alone.
pub fn run_memory() -> Outcome {
    let fd = call(nr::MEMFD_CREATE, [c"x".as_ptr().addr(), 0, 0, 0, 0, 0]);
    if fd < 0 { Refused(-fd as i32) } else { Through }
}

/// Maps a file with the right to execute.
pub fn map_file(path: &CStr) -> Outcome {
    let fd = open(path, READ, 0);
    if fd < 0 {
        return Unable;
    }
    crate::surface::done(call(nr::MMAP, [0, 4096, 5, 2, fd as usize, 0]))
}
