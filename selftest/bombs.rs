//! Attempts to exhaust the machine, to stay, and to be hard to clear away. Each has a cell of its
//! own with small limits, and stops by itself at a bound a little above them.

use core::ffi::CStr;

use crate::{
    Outcome::{self, Nothing, Refused, Through, Unable},
    exit,
    files::{CREATE, HERE, READ, WRITE, at, make, open, pipe},
    fork,
    kernel::{Args, call, spin_thread, touch},
    numbers as nr, sleep_ms,
    surface::NO_FD,
};

/// Longest life of a process that is left behind, should nobody end it.
const LEFT_MS: usize = 60_000;

/// Starts processes until there is no more room, at most as many as the host said.
pub fn processes_of(args: &Args, reap: bool) -> Outcome {
    let most = args.number("processes");
    for _ in 0..most {
        let child = fork();
        if child == 0 {
            if reap {
                exit(0); // a zombie: nobody waits for it
            }
            sleep_ms(LEFT_MS);
            exit(0);
        }
        if child < 0 {
            return Refused(-child as i32);
        }
    }
    Through
}

/// Starts threads that burn processor time until there is no more room, then burns too.
pub fn threads(args: &Args) -> Outcome {
    for _ in 0..args.number("processes") {
        let thread = spin_thread();
        if thread < 0 {
            return burn();
        }
    }
    Through
}

/// Burns processor time until somebody ends it.
pub fn burn() -> Outcome {
    loop {
        core::hint::spin_loop();
    }
}

/// Ignores every signal that can be ignored, in a session of its own, and burns.
pub fn stubborn() -> Outcome {
    call(nr::SETSID, [0; 6]);
    ignore_signals();
    burn()
}

fn ignore_signals() {
    // struct kernel_sigaction: SIG_IGN, flags, restorer, mask
    let ignore = [1_usize, 0, 0, 0];
    for signal in 1..=64 {
        call(
            nr::RT_SIGACTION,
            [signal, ignore.as_ptr().addr(), 0, 8, 0, 0],
        );
    }
}

/// Says nothing for a long time.
pub fn silent() -> Outcome {
    sleep_ms(LEFT_MS);
    Through
}

/// Prints more than anybody reads.
pub fn flood(args: &Args) -> Outcome {
    let text = [b'.'; 4096];
    let mut left = args.number("output");
    while left > 0 {
        let sent = call(nr::WRITE, [1, text.as_ptr().addr(), text.len(), 0, 0, 0]);
        if sent < 0 {
            return Refused(-sent as i32);
        }
        left = left.saturating_sub(sent as usize);
    }
    Through
}

/// Takes memory in one process and uses it.
pub fn memory(args: &Args) -> Outcome {
    const PART: usize = 1 << 20;
    let mut left = args.number("memory");
    while left > 0 {
        let start = call(nr::MMAP, [0, PART, 3, 0x22, NO_FD, 0]);
        if start < 0 {
            return Refused(-start as i32);
        }
        touch(start as usize, PART);
        left = left.saturating_sub(PART);
    }
    Through
}

/// Takes memory in several processes, each within its own limit.
pub fn memory_of_many(args: &Args) -> Outcome {
    const PROCESSES: usize = 8;
    const PART: usize = 1 << 20;
    let each = args.number("memory-of-all") / PROCESSES;
    let Some([read, write]) = pipe() else {
        return Refused(24); // EMFILE
    };
    let byte = [0_u8; 1];
    for _ in 0..PROCESSES {
        let child = fork();
        if child < 0 {
            return Refused(-child as i32);
        }
        if child == 0 {
            for _ in 0..each / PART {
                let start = call(nr::MMAP, [0, PART, 3, 0x22, NO_FD, 0]);
                if start < 0 {
                    exit(-start as i32);
                }
                touch(start as usize, PART);
            }
            call(nr::WRITE, [write, byte.as_ptr().addr(), 1, 0, 0, 0]);
            sleep_ms(LEFT_MS);
            exit(0);
        }
    }
    call(nr::CLOSE, [write, 0, 0, 0, 0, 0]);
    // All of them have all of it at the same time, or one has died and the pipe ends too early.
    for _ in 0..PROCESSES {
        let mut told = byte;
        let count = call(nr::READ, [read, told.as_mut_ptr().addr(), 1, 0, 0, 0]);
        if count <= 0 {
            return Refused(12); // ENOMEM
        }
    }
    Through
}

/// Opens files until there is no more room.
pub fn file_bomb(args: &Args) -> Outcome {
    for _ in 0..args.number("files") {
        let fd = open(c"/dev/null", READ, 0);
        if fd < 0 {
            return Refused(-fd as i32);
        }
    }
    Through
}

/// Fills pipes, whose memory belongs to no file system.
pub fn pipes(args: &Args) -> Outcome {
    const NONBLOCK_FLAGS: [usize; 2] = [4, 0o4000]; // F_SETFL, O_NONBLOCK
    let full = [0_u8; 4096];
    for _ in 0..args.number("files") {
        let Some([_, write]) = pipe() else {
            return Refused(24); // EMFILE
        };
        call(
            nr::FCNTL,
            [write, NONBLOCK_FLAGS[0], NONBLOCK_FLAGS[1], 0, 0, 0],
        );
        while call(
            nr::WRITE,
            [write, full.as_ptr().addr(), full.len(), 0, 0, 0],
        ) > 0
        {}
    }
    Through
}

/// Writes into one file until there is no more room.
pub fn fill(args: &Args) -> Outcome {
    let part = [b'x'; 4096];
    let mut left = args.number("scratch");
    let mut fd = -1;
    let mut in_file = 0;
    let mut name = *b"/tmp/fill-000\0";
    while left > 0 {
        if fd < 0 || in_file > 4 << 20 {
            next_name(&mut name, 10);
            let path = CStr::from_bytes_with_nul(&name).unwrap_or(c"/tmp/fill");
            fd = open(path, CREATE | WRITE, 0o644);
            in_file = 0;
        }
        let count = call(
            nr::WRITE,
            [fd as usize, part.as_ptr().addr(), part.len(), 0, 0, 0],
        );
        if count <= 0 {
            return Refused(-count as i32);
        }
        in_file += count as usize;
        left = left.saturating_sub(count as usize);
    }
    Through
}

/// Makes files until there is no more room.
pub fn inodes(args: &Args) -> Outcome {
    let mut name = *b"/tmp/inode-000000\0";
    for _ in 0..args.number("inodes") {
        next_name(&mut name, 11);
        let path = CStr::from_bytes_with_nul(&name).unwrap_or(c"/tmp/inode");
        let fd = open(path, CREATE | WRITE, 0o644);
        if fd < 0 {
            return Refused(-fd as i32);
        }
        call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
    }
    Through
}

/// Counts up the digits of a name that begin at a place and end before its NUL.
fn next_name(name: &mut [u8], first: usize) {
    let last = name.len() - 1;
    for digit in name[first..last].iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// A file that says it is large and takes no room; the kernel's signal for it is ignored.
pub fn sparse() -> Outcome {
    ignore_signals();
    let fd = make(c"/tmp/sparse", 0o644);
    if fd < 0 {
        return Unable;
    }
    crate::surface::done(call(nr::FTRUNCATE, [fd as usize, 1 << 40, 0, 0, 0, 0]))
}

/// Leaves processes behind: another session, another parent, every signal ignored, output kept
/// open, a folder of the cell as the current one.
pub fn stay() -> Outcome {
    for _ in 0..4 {
        if fork() == 0 {
            call(nr::SETSID, [0; 6]);
            if fork() == 0 {
                ignore_signals();
                call(nr::CHDIR, [c"/home/go/bin".as_ptr().addr(), 0, 0, 0, 0, 0]);
                make(c"/home/go/bin/kept-open", 0o644);
                sleep_ms(LEFT_MS);
            }
            exit(0);
        }
    }
    sleep_ms(100); // until they have settled
    Nothing
}

/// Waits to be ended together with whoever made the cell.
pub fn wait_for_end() -> Outcome {
    crate::print::line(&[b"waiting"]);
    sleep_ms(LEFT_MS);
    Through
}

/// Folders within folders, deeper than any path can name.
pub fn deep() -> Outcome {
    call(nr::CHDIR, [c"/home/go/bin".as_ptr().addr(), 0, 0, 0, 0, 0]);
    for _ in 0..2000 {
        at(nr::MKDIRAT, c"abcdefghij", [0o755, 0, 0, 0]);
        call(nr::CHDIR, [c"abcdefghij".as_ptr().addr(), 0, 0, 0, 0, 0]);
    }
    if make(c"bottom", 0o644) >= 0 {
        Nothing
    } else {
        Unable
    }
}

/// Folders and files that nobody may enter, read or remove.
pub fn closed() -> Outcome {
    let made = at(nr::MKDIRAT, c"/home/go/bin/closed", [0o755, 0, 0, 0]);
    make(c"/home/go/bin/closed/file", 0o000);
    for path in [c"/home/go/bin/closed", c"/home/go/bin", c"/home/go"] {
        call(nr::FCHMODAT, [HERE, path.as_ptr().addr(), 0, 0, 0, 0]);
    }
    if matches!(made, Through) {
        Nothing
    } else {
        Unable
    }
}

/// Processes that swap names in the output folder until they are ended.
pub fn renamers() -> Outcome {
    make(c"/home/go/bin/one", 0o755);
    at(nr::MKDIRAT, c"/home/go/bin/two", [0o755, 0, 0, 0]);
    for _ in 0..8 {
        if fork() == 0 {
            ignore_signals();
            loop {
                let _next = crate::files::rename(c"/home/go/bin/one", c"/home/go/bin/two/one");
                let _back = crate::files::rename(c"/home/go/bin/two/one", c"/home/go/bin/one");
            }
        }
    }
    sleep_ms(50);
    Nothing
}

/// What stands in the output folder when the gate comes.
pub enum Output {
    SetUid,
    Folder,
    Sparse,
    Two,
    Forged,
    Unreadable,
    Nested,
    Moving,
}

/// Leaves something for the gate that no build leaves.
pub fn output(what: Output) -> Outcome {
    const FILE: &CStr = c"/home/go/bin/program";
    match what {
        Output::SetUid => {
            forge(FILE, 0o6755);
            call(nr::FCHMODAT, [HERE, FILE.as_ptr().addr(), 0o6755, 0, 0, 0]);
        }
        Output::Folder => {
            at(nr::MKDIRAT, FILE, [0o755, 0, 0, 0]);
        }
        Output::Sparse => {
            let fd = make(FILE, 0o755);
            call(nr::FTRUNCATE, [fd as usize, (1 << 30) + 1, 0, 0, 0, 0]);
        }
        Output::Two => {
            forge(FILE, 0o755);
            forge(c"/home/go/bin/second", 0o755);
        }
        Output::Forged => forge(FILE, 0o755),
        Output::Unreadable => {
            forge(FILE, 0o755);
            call(nr::FCHMODAT, [HERE, FILE.as_ptr().addr(), 0, 0, 0, 0]);
        }
        Output::Nested => {
            at(nr::MKDIRAT, c"/home/go/bin/linux_amd64", [0o755, 0, 0, 0]);
            at(
                nr::MKDIRAT,
                c"/home/go/bin/linux_amd64/deeper",
                [0o755, 0, 0, 0],
            );
            forge(c"/home/go/bin/linux_amd64/deeper/program", 0o755);
        }
        Output::Moving => {
            forge(FILE, 0o755);
            let _many = renamers();
        }
    }
    Nothing
}

/// A file that is a program for some kernel, without the build information of any go command.
fn forge(path: &CStr, mode: usize) {
    let fd = open(path, CREATE | WRITE, mode);
    let head = *b"\x7fELF\x02\x01\x01 no build made this";
    call(
        nr::WRITE,
        [fd as usize, head.as_ptr().addr(), head.len(), 0, 0, 0],
    );
    call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
}
