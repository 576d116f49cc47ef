//! Attempts on files: what is shared, what is left behind, what should not be there.

use core::ffi::CStr;

use crate::{
    Outcome::{self, Nothing, Refused, Through, Unable},
    kernel::{Args, call},
    numbers as nr,
    surface::{NO_FD, done},
};

/// `AT_FDCWD`
pub const HERE: usize = -100_isize as usize;
pub const READ: usize = 0;
pub const WRITE: usize = 1;
pub const READ_WRITE: usize = 2;
pub const CREATE: usize = 0o100;
pub const DIRECT: usize = 0o40000;
pub const FOLDER: usize = 0o200_000;
/// A file of the SDK that is in every release.
pub const SDK_FILE: &CStr = c"/sdk/VERSION";
/// What poisoners write.
pub const MARK: &[u8] = b"hotcell selftest was here";

pub fn open(path: &CStr, flags: usize, mode: usize) -> isize {
    call(nr::OPENAT, [HERE, path.as_ptr().addr(), flags, mode, 0, 0])
}

/// Folders that a cell has and other sandboxes have not.
pub fn prepare() {
    for path in [
        c"/home/go",
        c"/home/go/bin",
        c"/home/go/pkg",
        c"/home/go/pkg/mod",
        c"/home/cache",
        c"/home/cache/00",
        c"/home/cache/01",
    ] {
        call(nr::MKDIRAT, [HERE, path.as_ptr().addr(), 0o755, 0, 0, 0]);
    }
}

/// Opens a path; success counts.
pub fn opens(path: &CStr, flags: usize) -> Outcome {
    done(open(path, flags, 0o644))
}

/// Opens the path that the host named in an argument.
pub fn opens_given(args: &Args, name: &str, flags: usize) -> Outcome {
    args.value(name).map_or(Unable, |path| opens(path, flags))
}

/// A call whose second argument is a path, after a folder.
pub fn at(number: usize, path: &CStr, rest: [usize; 4]) -> Outcome {
    let [a, b, c, d] = rest;
    done(call(number, [HERE, path.as_ptr().addr(), a, b, c, d]))
}

/// A call whose first argument is a path.
pub fn on(number: usize, path: &CStr, rest: [usize; 5]) -> Outcome {
    let [a, b, c, d, e] = rest;
    done(call(number, [path.as_ptr().addr(), a, b, c, d, e]))
}

/// A call whose first argument is a descriptor of a file of the SDK, opened for reading.
pub fn on_sdk(number: usize, rest: [usize; 5]) -> Outcome {
    let fd = open(SDK_FILE, READ, 0);
    if fd < 0 {
        return Unable;
    }
    let [a, b, c, d, e] = rest;
    done(call(number, [fd as usize, a, b, c, d, e]))
}

/// A new file of our own with this name.
pub fn make(path: &CStr, mode: usize) -> isize {
    let fd = open(path, CREATE | READ_WRITE, mode);
    if fd >= 0 {
        call(
            nr::WRITE,
            [fd as usize, MARK.as_ptr().addr(), MARK.len(), 0, 0, 0],
        );
    }
    fd
}

/// Makes a file of our own and does something to it by descriptor.
pub fn on_own(path: &CStr, then: fn(usize) -> isize) -> Outcome {
    let fd = make(path, 0o644);
    if fd < 0 {
        return Unable;
    }
    done(then(fd as usize))
}

/// Moves a file.
pub fn rename(from: &CStr, to: &CStr) -> Outcome {
    let (from, to) = (from.as_ptr().addr(), to.as_ptr().addr());
    done(call(nr::RENAMEAT, [HERE, from, HERE, to, 0, 0]))
}

/// Both ends of a pipe.
pub fn pipe() -> Option<[usize; 2]> {
    let mut ends = [0_u32; 2];
    let made = call(nr::PIPE2, [ends.as_mut_ptr().addr(), 0, 0, 0, 0, 0]);
    (made >= 0).then(|| ends.map(|end| end as usize))
}

/// Moves a page of an SDK file into a pipe, where Dirty Pipe and Copy Fail write to it.
pub fn to_pipe(number: usize) -> Outcome {
    let fd = open(SDK_FILE, READ, 0);
    let (true, Some([read, write])) = (fd >= 0, pipe()) else {
        return Unable;
    };
    let vector = [SDK_FILE.as_ptr().addr(), 4];
    done(match number {
        nr::SPLICE => call(number, [fd as usize, 0, write, 0, 4, 0]),
        nr::VMSPLICE => call(number, [write, vector.as_ptr().addr(), 1, 8, 0, 0]),
        nr::TEE => {
            let Some(other) = pipe() else {
                return Unable;
            };
            call(nr::WRITE, [write, SDK_FILE.as_ptr().addr(), 4, 0, 0, 0]);
            call(number, [read, other[1], 4, 0, 0, 0])
        }
        _ => call(number, [write, fd as usize, 0, 4, 0, 0]),
    })
}

/// Copies into an SDK file within the kernel.
pub fn copy_into_sdk() -> Outcome {
    let (from, to) = (make(c"/tmp/copied", 0o644), open(SDK_FILE, READ, 0));
    if from < 0 || to < 0 {
        return Unable;
    }
    call(nr::LSEEK, [from as usize, 0, 0, 0, 0, 0]);
    done(call(
        nr::COPY_FILE_RANGE,
        [from as usize, 0, to as usize, 0, 4, 0],
    ))
}

/// Maps an SDK file shared and writable, or private and then with `advice`.
pub fn map_sdk(shared: bool, advice: usize) -> Outcome {
    let fd = open(SDK_FILE, READ, 0);
    if fd < 0 {
        return Unable;
    }
    let (rights, flags) = if shared { (3, 1) } else { (1, 1) };
    let start = call(nr::MMAP, [0, 4096, rights, flags, fd as usize, 0]);
    if shared || start < 0 {
        return done(start);
    }
    done(call(nr::MADVISE, [start as usize, 4096, advice, 0, 0, 0]))
}

/// Descriptors beside the three standard ones.
pub fn descriptors() -> Outcome {
    const GET: usize = 1; // F_GETFD
    for fd in 3..4096 {
        if call(nr::FCNTL, [fd, GET, 0, 0, 0, 0]) >= 0 {
            return Through;
        }
    }
    Nothing
}

/// The type of a descriptor's file: the upper bits of its mode, and its device number.
fn kind(fd: usize) -> Option<(u32, u64)> {
    let mut stat = [0_u64; 18]; // struct stat has 144 bytes
    let done = call(nr::FSTAT, [fd, stat.as_mut_ptr().addr(), 0, 0, 0, 0]);
    // st_mode is the lower half of the fourth word, st_rdev the sixth word.
    (done >= 0).then(|| (stat[3] as u32 & 0o170_000, stat[5]))
}

/// Standard input is the null device.
pub fn input_is_null() -> Outcome {
    const DEVICE: u32 = 0o020_000;
    const NULL: u64 = 0x103; // 1:3
    if kind(0) == Some((DEVICE, NULL)) {
        Nothing
    } else {
        Through
    }
}

/// Standard output and error are pipes: no file, terminal or socket of the host.
pub fn outputs_are_pipes() -> Outcome {
    const PIPE: u32 = 0o010_000;
    let pipes = [1, 2]
        .iter()
        .all(|fd| kind(*fd).is_some_and(|(kind, _)| kind == PIPE));
    if pipes { Nothing } else { Through }
}

/// Reads from the pipe of the output, which others write too.
pub fn read_output() -> Outcome {
    let mut one = [0_u8];
    done(call(nr::READ, [1, one.as_mut_ptr().addr(), 1, 0, 0, 0]))
}

/// The current folder is the home of the cell.
pub fn folder() -> Outcome {
    let mut path = [0_u8; 256];
    let length = call(
        nr::GETCWD,
        [path.as_mut_ptr().addr(), path.len(), 0, 0, 0, 0],
    );
    if length > 0 && path.starts_with(b"/home\0") {
        Nothing
    } else {
        Through
    }
}

/// Lists a folder; success counts.
pub fn lists(path: &CStr) -> Outcome {
    let fd = open(path, FOLDER, 0);
    if fd < 0 {
        return done(fd);
    }
    let mut names = [0_u8; 512];
    done(call(
        nr::GETDENTS64,
        [fd as usize, names.as_mut_ptr().addr(), names.len(), 0, 0, 0],
    ))
}

/// Goes up from home as far as it goes, then opens a path.
pub fn from_above(path: &CStr) -> Outcome {
    for _ in 0..64 {
        call(nr::CHDIR, [c"..".as_ptr().addr(), 0, 0, 0, 0, 0]);
    }
    opens(path, READ)
}

/// Whether reading an SDK file leaves a time that others can see.
pub fn access_time() -> Outcome {
    let fd = open(SDK_FILE, READ, 0);
    if fd < 0 {
        return Unable;
    }
    let time = || {
        let mut stat = [0_u64; 18];
        call(
            nr::FSTAT,
            [fd as usize, stat.as_mut_ptr().addr(), 0, 0, 0, 0],
        );
        (stat[9], stat[10]) // st_atim
    };
    let before = time();
    crate::sleep_ms(20);
    let mut bytes = [0_u8; 64];
    call(
        nr::READ,
        [fd as usize, bytes.as_mut_ptr().addr(), 64, 0, 0, 0],
    );
    if time() == before { Nothing } else { Through }
}

/// Makes a control group, and removes it where that worked.
pub fn make_group() -> Outcome {
    const REMOVE_FOLDER: usize = 0x200;
    const PATH: &CStr = c"/sys/fs/cgroup/hotcell-selftest";
    let made = at(nr::MKDIRAT, PATH, [0o755, 0, 0, 0]);
    let _removed = at(nr::UNLINKAT, PATH, [REMOVE_FOLDER, 0, 0, 0]);
    made
}

/// Leaves setuid and setgid bits wherever it can.
pub fn leave_setuid() -> Outcome {
    let made = [c"/home/setuid", c"/tmp/setuid", c"/home/go/bin/setuid"].map(|path| {
        let fd = make(path, 0o6755);
        call(nr::FCHMODAT, [HERE, path.as_ptr().addr(), 0o6755, 0, 0, 0]);
        fd >= 0
    });
    at(nr::MKDIRAT, c"/home/setgid", [0o2777, 0, 0, 0]);
    if made.contains(&true) {
        Nothing
    } else {
        Unable
    }
}

/// Whether a descriptor that nobody has can be locked, leased or signalled.
pub fn lease(command: usize) -> Outcome {
    let fd = make(c"/tmp/leased", 0o644);
    if fd < 0 {
        return Unable;
    }
    done(call(nr::FCNTL, [fd as usize, command, 0, 0, 0, 0]))
}

/// A terminal call on one of the standard streams.
pub fn terminal(fd: usize, request: usize) -> Outcome {
    let byte = [b'x'; 8];
    done(call(
        nr::IOCTL,
        [fd, request, byte.as_ptr().addr(), 0, 0, 0],
    ))
}

/// No file behind it.
pub const NONE: usize = NO_FD;
