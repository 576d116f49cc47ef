//! The hostile program of `hotcell selftest`: tries to get out of a cell, one process per attempt.
//!
//! Freestanding and static, as nothing else starts under the policy of builds: no C library, no
//! allocation, no thread-local storage. Compiled by the build script of `hotcell` and carried
//! within it; run as `/program FROM TO [name=value …]` for the rows [`table`] from FROM up to TO,
//! or as `/program numbers FROM TO` for system calls by number. For each row it prints one line:
//! `= id exit CODE`, `= id signal NUMBER` or `= id timeout`. An exit code below 134 is the errno
//! of the refusal.
//!
//! Whatever it does must be harmless where it succeeds, for it also runs in weaker sandboxes, as
//! root: calls get arguments with which the kernel can do nothing, files are canaries.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]
#![allow(unused_imports, reason = "each part of the table uses some")]
#![allow(
    dead_code,
    reason = "the table of numbers is longer than one architecture needs"
)]

mod bombs;
mod execute;
mod files;
mod kernel;
mod network;
mod numbers;
mod print;
mod shared;
mod surface;

macro_rules! attempts {
    ($(($id:literal, $class:literal, $lock:expr, $what:literal, $attempt:expr)),* $(,)?) => {
        /// Rows of this part.
        pub(crate) const ROWS: &[crate::Row] = {
            use crate::{bombs::*, execute::*, files::*, network::*, shared::*, surface::*};
            use crate::{kernel::call, numbers as nr};
            &[$(crate::Row { id: $id, attempt: $attempt }),*]
        };
    };
}

#[path = "table/mod.rs"]
mod table;

use kernel::{Args, call};
use numbers as nr;

/// The attempt went through.
pub const THROUGH: i32 = 200;
/// What the attempt needs is not there.
pub const UNABLE: i32 = 201;
/// The attempt looked for something and found nothing.
pub const NOTHING: i32 = 202;
/// The relay refused.
pub const RELAY: i32 = 203;
/// Code of a panic.
pub const PANICKED: i32 = 210;

/// How an attempt ended, when it came back.
pub enum Outcome {
    /// With this errno.
    Refused(i32),
    /// The relay answered with something else than success.
    RelayRefused,
    /// Nothing of what it looked for is there.
    Nothing,
    /// What it needs is not there.
    Unable,
    /// It succeeded.
    Through,
}

/// One attempt; the host knows the rest of its row.
pub struct Row {
    pub id: &'static str,
    pub attempt: fn(&Args) -> Outcome,
}

/// Milliseconds that an attempt may take.
const PATIENCE_MS: usize = 5000;

/// Ends this process.
pub fn exit(code: i32) -> ! {
    loop {
        call(nr::EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]);
    }
}

/// A new process with a copy of everything: 0 in it, its id here.
#[inline(always)]
pub fn fork() -> isize {
    const SIGCHLD: usize = 17;
    call(nr::CLONE, [SIGCHLD, 0, 0, 0, 0, 0])
}

/// Sleeps.
pub fn sleep_ms(time: usize) {
    let wanted = [time / 1000, time % 1000 * 1_000_000];
    call(nr::NANOSLEEP, [wanted.as_ptr().addr(), 0, 0, 0, 0, 0]);
}

pub fn main(args: &Args) -> ! {
    let first = args.at(1).map_or(&b""[..], |text| text.to_bytes());
    let range = |place| args.at(place).map_or(0, kernel::number);
    match first {
        b"through" => exit(THROUGH), // somebody executed a copy of us
        b"numbers" => {
            for number in range(2)..range(3) {
                report_number(number);
            }
        }
        _ => {
            files::prepare();
            let rows = table::ALL.iter().flat_map(|part| part.iter());
            for row in rows.skip(range(1)).take(range(2).saturating_sub(range(1))) {
                try_row(row, args);
            }
        }
    }
    exit(0)
}

fn try_row(row: &Row, args: &Args) {
    let child = fork();
    if child == 0 {
        exit(match (row.attempt)(args) {
            Outcome::Refused(errno) => errno,
            Outcome::RelayRefused => RELAY,
            Outcome::Nothing => NOTHING,
            Outcome::Unable => UNABLE,
            Outcome::Through => THROUGH,
        });
    }
    // An attempt in a cell of its own ends with it.
    let patience = if args.value("alone").is_some() {
        usize::MAX
    } else {
        PATIENCE_MS
    };
    let ended = wait(child, patience);
    print::line(&[
        b"= ",
        row.id.as_bytes(),
        ended.word(),
        &print::digits(ended.number()),
    ]);
}

/// Calls a number with arguments that mean nothing.
fn report_number(number: usize) {
    /// As a number too large for any table, as an address nothing.
    const NONE: usize = 0x7fff_fffe;
    let child = fork();
    if child == 0 {
        let result = call(number, [NONE; 6]);
        exit(match result {
            -133..0 => -result as i32,
            _ => THROUGH,
        });
    }
    let ended = wait(child, 1000);
    print::line(&[
        b"# ",
        &print::digits(number),
        ended.word(),
        &print::digits(ended.number()),
    ]);
}

/// How a child ended.
enum Ended {
    Exit(usize),
    Signal(usize),
    Timeout,
}

impl Ended {
    fn word(&self) -> &'static [u8] {
        match self {
            Self::Exit(_) => b" exit ",
            Self::Signal(_) => b" signal ",
            Self::Timeout => b" timeout ",
        }
    }

    fn number(&self) -> usize {
        match self {
            Self::Exit(number) | Self::Signal(number) => *number,
            Self::Timeout => 0,
        }
    }
}

/// Waits for a child, and ends it when it takes too long.
fn wait(child: isize, patience_ms: usize) -> Ended {
    const WNOHANG: usize = 1;
    const WALL: usize = 0x4000_0000;
    if child < 0 {
        return Ended::Timeout; // there was no process for it
    }
    let mut status = 0_u32;
    let mut waited = 0;
    let mut timeout = false;
    loop {
        let flags = WALL
            | if patience_ms == usize::MAX {
                0
            } else {
                WNOHANG
            };
        let place = (&raw mut status).addr();
        let result = call(nr::WAIT4, [child as usize, place, flags, 0, 0, 0]);
        if result == child {
            break;
        }
        if waited > patience_ms && !timeout {
            timeout = true;
            end(child);
        }
        let pause = if waited < 20 { 1 } else { 10 };
        sleep_ms(pause);
        waited += pause;
    }
    // wait(2): the low seven bits are the signal, the next byte the exit code.
    match (timeout, status & 0x7f) {
        (true, _) => Ended::Timeout,
        (false, 0) => Ended::Exit((status >> 8 & 0xff) as usize),
        (false, signal) => Ended::Signal(signal as usize),
    }
}

/// Waits for a child of an attempt; its exit code, or 0 when a signal ended it.
pub fn wait_for(child: isize) -> i32 {
    match wait(child, PATIENCE_MS) {
        Ended::Exit(code) => code as i32,
        Ended::Signal(_) | Ended::Timeout => 0,
    }
}

/// Kills a process by its descriptor, as `kill` is forbidden.
pub fn end(child: isize) {
    const SIGKILL: usize = 9;
    let fd = call(nr::PIDFD_OPEN, [child as usize, 0, 0, 0, 0, 0]);
    if fd >= 0 {
        call(nr::PIDFD_SEND_SIGNAL, [fd as usize, SIGKILL, 0, 0, 0, 0]);
        call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
    }
}
