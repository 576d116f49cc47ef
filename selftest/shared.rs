//! Attempts on what cells share: the null device, caches that look private, locks.

use core::ffi::CStr;

use crate::{
    Outcome::{self, Nothing, Refused, Through, Unable},
    files::{FOLDER, HERE, MARK, READ, READ_WRITE, WRITE, at, make, open},
    kernel::{Args, call},
    numbers as nr,
    surface::done,
};

/// Writes to the null device, then reads it: nothing may come back.
pub fn null_keeps() -> Outcome {
    let fd = open(c"/dev/null", READ_WRITE, 0);
    if fd < 0 {
        return done(fd);
    }
    let mut back = [0_u8; 8];
    call(nr::WRITE, [fd as usize, MARK.as_ptr().addr(), 8, 0, 0, 0]);
    match call(
        nr::READ,
        [fd as usize, back.as_mut_ptr().addr(), 8, 0, 0, 0],
    ) {
        1.. => Through,
        _ => Nothing,
    }
}

/// The null device is the host's own: its mode and times are set to what they are.
fn null_state() -> Option<[u64; 18]> {
    let fd = open(c"/dev/null", READ, 0);
    let mut stat = [0_u64; 18];
    let done = call(
        nr::FSTAT,
        [fd as usize, stat.as_mut_ptr().addr(), 0, 0, 0, 0],
    );
    (fd >= 0 && done >= 0).then_some(stat)
}

/// Sets the mode of the null device.
pub fn null_mode() -> Outcome {
    let Some(stat) = null_state() else {
        return Unable;
    };
    at(
        nr::FCHMODAT,
        c"/dev/null",
        [stat[3] as usize & 0o7777, 0, 0, 0],
    )
}

/// Sets the times of the null device.
pub fn null_times() -> Outcome {
    let Some(stat) = null_state() else {
        return Unable;
    };
    let times = [stat[9], stat[10], stat[11], stat[12]]; // st_atim, st_mtim
    at(
        nr::UTIMENSAT,
        c"/dev/null",
        [times.as_ptr().addr(), 0, 0, 0],
    )
}

/// Every place in which a build may write; the second cell looks there for what the first wrote.
const POISON: [&CStr; 8] = [
    c"/home/poison",
    c"/home/go/poison",
    c"/home/go/bin/poison",
    c"/home/go/pkg/mod/poison",
    c"/home/cache/poison",
    c"/home/cache/00/poison",
    c"/home/.config/go/telemetry/poison",
    c"/tmp/poison",
];

/// Writes into each place.
pub fn poison() -> Outcome {
    let mut made = 0;
    for path in POISON {
        let fd = make(path, 0o666);
        if fd >= 0 {
            made += 1;
            call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
        }
    }
    // What is in the frozen cache is changed, emptied and removed, as far as it goes.
    let trim = open(c"/home/cache/trim.txt", WRITE, 0);
    if trim >= 0 {
        call(nr::WRITE, [trim as usize, MARK.as_ptr().addr(), 8, 0, 0, 0]);
    }
    each_in(c"/home/cache/01", |path| {
        call(nr::FCHMODAT, [HERE, path.as_ptr().addr(), 0o777, 0, 0, 0]);
        let fd = open(path, WRITE, 0);
        if fd >= 0 {
            call(nr::FTRUNCATE, [fd as usize, 0, 0, 0, 0, 0]);
        }
        call(nr::UNLINKAT, [HERE, path.as_ptr().addr(), 0, 0, 0, 0]);
    });
    if made == 0 { Unable } else { Nothing }
}

/// Looks for what another cell wrote.
pub fn poisoned() -> Outcome {
    if POISON.iter().any(|path| open(path, READ, 0) >= 0) {
        Through
    } else {
        Nothing
    }
}

/// The names in a folder, as paths; at most the first 4 KiB of the listing.
fn each_in(folder: &CStr, then: fn(&CStr)) {
    let fd = open(folder, FOLDER, 0);
    if fd < 0 {
        return;
    }
    let mut listing = [0_u8; 4096];
    let place = listing.as_mut_ptr().addr();
    let length = call(nr::GETDENTS64, [fd as usize, place, listing.len(), 0, 0, 0]).max(0);
    let mut rest = &listing[..length as usize];
    // struct linux_dirent64: two words, length of the record in two bytes, type, name
    while rest.len() > 19 {
        let size = usize::from(u16::from_le_bytes([rest[16], rest[17]]));
        let Some(record) = rest.get(..size).filter(|record| record.len() > 19) else {
            return;
        };
        let mut path = [0_u8; 320];
        let (head, name) = (folder.to_bytes(), &record[19..]);
        path[..head.len()].copy_from_slice(head);
        path[head.len()] = b'/';
        path[head.len() + 1..][..name.len().min(256)].copy_from_slice(&name[..name.len().min(256)]);
        if let Ok(path) = CStr::from_bytes_until_nul(&path) {
            then(path);
        }
        rest = &rest[size..];
    }
}

/// A lock on a shared file, seen by another cell; `record` is one of fcntl's.
pub fn hold(path: &CStr, record: bool) -> Outcome {
    let fd = open(path, READ, 0);
    if fd < 0 {
        return Unable;
    }
    let lock = read_lock();
    let held = if record {
        call(nr::FCNTL, [fd as usize, 6, lock.as_ptr().addr(), 0, 0, 0]) // F_SETLK
    } else {
        call(nr::FLOCK, [fd as usize, 2 | 4, 0, 0, 0, 0]) // LOCK_EX | LOCK_NB
    };
    crate::print::line(&[b"holding"]);
    if held < 0 {
        return Refused(-held as i32);
    }
    crate::sleep_ms(600_000); // the host ends this cell when the other one has looked
    Nothing
}

/// Whether somebody else holds it.
pub fn held(path: &CStr, record: bool) -> Outcome {
    let fd = open(path, READ, 0);
    if fd < 0 {
        return Unable;
    }
    if record {
        let mut lock = read_lock();
        lock[0] = 1; // F_WRLCK: would a writer have to wait?
        let asked = call(
            nr::FCNTL,
            [fd as usize, 5, lock.as_mut_ptr().addr(), 0, 0, 0],
        );
        return match (asked, lock[0] & 0xffff) {
            (..0, _) => Refused(-asked as i32),
            (_, 2) => Nothing, // F_UNLCK: nobody
            _ => Through,
        };
    }
    match call(nr::FLOCK, [fd as usize, 2 | 4, 0, 0, 0, 0]) {
        -11 => Through,
        0 => Nothing,
        other => Refused(-other as i32),
    }
}

/// One of two cells: the one that holds a lock, or the one that looks for it.
pub fn lock(args: &Args, path: &CStr, record: bool) -> Outcome {
    if args.value("hold").is_some() {
        hold(path, record)
    } else {
        held(path, record)
    }
}

/// `struct flock` of a shared lock on the first byte.
fn read_lock() -> [u64; 4] {
    [0, 0, 1, 0]
}
