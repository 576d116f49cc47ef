//! Attempts to reach parts of the kernel by a call alone: with arguments that mean nothing.

use crate::{
    Outcome::{self, Nothing, Refused, Through, Unable},
    exit, fork,
    kernel::{Args, call, call_old_page, call32},
    numbers as nr, wait_for,
};

/// An address where nothing is mapped.
pub const BAD: usize = 0x10;
/// No descriptor.
pub const NO_FD: usize = usize::MAX;
/// No flag that any call knows; no sign bit, as some calls look at that alone.
pub const NO_FLAGS: usize = 0x7fff_0000;

/// Whether the kernel's own code was reached: it refuses the arguments, or takes them.
pub fn reach(number: usize, args: [usize; 6]) -> Outcome {
    judge(call(number, args))
}

/// EPERM, EACCES, ENOSYS, ENOTTY and EAFNOSUPPORT mean that somebody stands before that code.
pub fn judge(result: isize) -> Outcome {
    match result {
        -1 | -13 | -25 | -38 | -97 => Refused(-result as i32),
        _ => Through,
    }
}

/// Only success counts.
pub fn done(result: isize) -> Outcome {
    if result < 0 {
        Refused(-result as i32)
    } else {
        Through
    }
}

/// A socket of any kind.
pub fn socket(family: usize, kind: usize, protocol: usize) -> Outcome {
    reach(nr::SOCKET, [family, kind, protocol, 0, 0, 0])
}

/// A TCP socket, which every build may have.
pub fn tcp() -> isize {
    call(nr::SOCKET, [2, 1, 0, 0, 0, 0])
}

/// An option of a TCP socket.
pub fn option(level: usize, name: usize) -> Outcome {
    let fd = tcp();
    if fd < 0 {
        return Unable;
    }
    let value = *b"tls\0\0\0\0\0";
    reach(
        nr::SETSOCKOPT,
        [fd as usize, level, name, value.as_ptr().addr(), 4, 0],
    )
}

/// A call of the 32-bit ABI, by its numbers.
pub fn foreign(number: usize) -> Outcome {
    match call32(number) {
        -38 => Refused(38),
        _ => Through,
    }
}

/// A call of the x32 ABI.
pub fn x32(number: usize) -> Outcome {
    /// `__X32_SYSCALL_BIT`
    const BIT: usize = 0x4000_0000;
    reach(BIT | number, [0; 6])
}

/// The old entry points at a fixed address.
pub fn old_page() -> Outcome {
    judge(call_old_page())
}

/// A process in a new namespace.
pub fn clone_new(flag: usize) -> Outcome {
    const SIGCHLD: usize = 17;
    let child = call(nr::CLONE, [flag | SIGCHLD, 0, 0, 0, 0, 0]);
    born(child)
}

/// The same by the call whose arguments no filter can see.
pub fn clone3_new(flag: usize) -> Outcome {
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, size, tls
    let wanted = [flag, 0, 0, 0, 17, 0, 0, 0];
    let child = call(nr::CLONE3, [wanted.as_ptr().addr(), 64, 0, 0, 0, 0]);
    born(child)
}

fn born(child: isize) -> Outcome {
    if child == 0 {
        exit(0);
    }
    if child > 0 {
        wait_for(child);
    }
    done(child)
}

/// Looks at the first processes there are, but for ourselves.
pub fn processes() -> Outcome {
    const MOST: usize = 5000;
    let own = call(nr::GETPID, [0; 6]) as usize;
    let first = if own > 2 { own - 2 } else { 1 }; // our parent is no stranger either
    for pid in (2..first).chain(own + 2..MOST) {
        if call(nr::PIDFD_OPEN, [pid, 0, 0, 0, 0, 0]) >= 0 {
            return Through;
        }
    }
    Nothing
}

/// Raises a limit beyond what it was set to.
pub fn raise(resource: usize) -> Outcome {
    let mut now = [0_usize; 2];
    let place = now.as_mut_ptr().addr();
    if call(nr::PRLIMIT64, [0, resource, 0, place, 0, 0]) < 0 {
        return Unable;
    }
    if now[1] == usize::MAX {
        return Through; // there is no limit at all
    }
    let more = [now[1] + 1, now[1] + 1];
    done(call(
        nr::PRLIMIT64,
        [0, resource, more.as_ptr().addr(), 0, 0, 0],
    ))
}

/// The host's name, which must not get into a binary.
pub fn host_name(args: &Args) -> Outcome {
    /// struct new_utsname: six texts of 65 bytes; the second is the name.
    const FIELD: usize = 65;
    let mut all = [0_u8; FIELD * 6];
    if call(nr::UNAME, [all.as_mut_ptr().addr(), 0, 0, 0, 0, 0]) < 0 {
        return Unable;
    }
    let Some(host) = args.value("host") else {
        return Unable;
    };
    let found = &all[FIELD..FIELD * 2];
    if found.starts_with(host.to_bytes_with_nul()) {
        Through
    } else {
        Nothing
    }
}

/// Makes a mapping with these rights, of anonymous memory.
pub fn map(rights: usize) -> Outcome {
    const PRIVATE_ANONYMOUS: usize = 0x22;
    done(call(
        nr::MMAP,
        [0, 4096, rights, PRIVATE_ANONYMOUS, NO_FD, 0],
    ))
}

/// Makes a writable mapping and has `then` change its rights.
pub fn remap(then: fn(usize) -> isize) -> Outcome {
    let start = call(nr::MMAP, [0, 4096, 3, 0x22, NO_FD, 0]);
    if start < 0 {
        return Unable;
    }
    done(then(start as usize))
}

/// A process that stops its parent from seeing its end is still seen by the first one.
pub fn child(then: fn() -> Outcome) -> Outcome {
    let pid = fork();
    if pid == 0 {
        exit(match then() {
            Through => crate::THROUGH,
            _ => 1,
        });
    }
    if wait_for(pid) == crate::THROUGH {
        Through
    } else {
        Nothing
    }
}
