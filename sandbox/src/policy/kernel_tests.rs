//! The running kernel, asked what it does with the very programs that cells get.
//!
//! A child installs the unmodified programs of a policy above one more filter, the *observer*,
//! which answers `SECCOMP_RET_TRACE` to everything. All filters are always run and the strictest
//! result counts; a trace is weaker than every action that forbids and stronger than `ALLOW`, and
//! without a tracer the kernel answers `ENOSYS` and makes no call. So what a policy allows comes
//! back as `ENOSYS`, what it answers as that error, what it notifies as the error that the listener
//! here gives, what it kills as a death by SIGSYS: no call is ever made, whatever its number, and
//! the programs are those of a cell, bit by bit. What this cannot show is that an allowed call is
//! really made; a second test shows that, without observer, with calls that do no harm.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use seccompiler::sock_filter;

use super::{
    Arch, Policy,
    evaluate::{Action, Call, Filter, decide, is_unfiltered},
    filter,
    table::{self, NUMBER_MAX},
};
use crate::sys::{
    bare,
    process::{self, Forked},
    seccomp,
};

/// Sixth argument of the calls with which a child tells its results: the observer lets them pass.
const MAGIC: u32 = 0x0B5E_44E4;
/// Error that the listener gives; no kernel has it.
const NOTIFIED: i32 = 3000;
const I386: u32 = 0x4000_0003; // AUDIT_ARCH_I386 of linux/audit.h
/// A number that no architecture has.
const NO_CALL: u32 = 2000;

fn one(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Traces everything but `seccomp`, which no policy allows and the child still needs, and those
/// `read`, `write` and `exit_group` with which it speaks with its parent.
fn observer() -> Vec<sock_filter> {
    let number = |name| u32::try_from(table::number(Arch::HOST, name).unwrap()).unwrap();
    vec![
        one(0x20, 0, 0, 0), // the number
        one(0x15, 6, 0, number("seccomp")),
        one(0x15, 2, 0, number("read")),
        one(0x15, 1, 0, number("write")),
        one(0x15, 0, 2, number("exit_group")),
        one(0x20, 0, 0, 16 + 5 * 8), // the low word of the sixth argument
        one(0x15, 1, 0, MAGIC),
        one(0x06, 0, 0, libc::SECCOMP_RET_TRACE),
        one(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Tells a number to the parent; no memory is allocated in a child.
fn tell(pipe: BorrowedFd<'_>, number: i64) {
    let bytes = number.to_ne_bytes();
    let fd = u64::try_from(pipe.as_raw_fd()).unwrap_or(u64::MAX);
    let args = [
        fd,
        bytes.as_ptr().expose_provenance() as u64,
        8,
        0,
        0,
        MAGIC.into(),
    ];
    bare::call(libc::SYS_write, args);
}

/// Waits until the parent says something.
fn wait_for_order(pipe: BorrowedFd<'_>) {
    let mut byte = 0_u8;
    let to = (&raw mut byte).expose_provenance() as u64;
    let fd = u64::try_from(pipe.as_raw_fd()).unwrap_or(u64::MAX);
    bare::call(libc::SYS_read, [fd, to, 1, 0, 0, MAGIC.into()]);
}

fn exit() -> ! {
    loop {
        bare::call(libc::SYS_exit_group, [0, 0, 0, 0, 0, MAGIC.into()]);
    }
}

fn make(call: &Call) -> i64 {
    #[cfg(target_arch = "x86_64")]
    if call.arch == I386 {
        return bare::call_i386(call.number.cast_signed()).into();
    }
    bare::call(call.number.into(), call.args)
}

/// One child at a time: one that is forked meanwhile would hold the pipes and the listener of
/// another.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Child {
    pid: i32,
    pidfd: OwnedFd,
    results: File,
    orders: File,
}

/// A child that runs `body` and exits. `body` must make system calls only: this process has other
/// threads, whose locks the child would wait for.
fn child(body: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>)) -> Child {
    let (results, tell_to) = nix::unistd::pipe().unwrap();
    let (orders_from, orders) = nix::unistd::pipe().unwrap();
    match process::fork(0).unwrap() {
        Forked::Child => {
            let set = |what: i32, value: i32| {
                let number = |one: i32| u64::from(one.cast_unsigned());
                bare::call(libc::SYS_prctl, [number(what), number(value), 0, 0, 0, 0]);
            };
            set(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            set(libc::PR_SET_NO_NEW_PRIVS, 1);
            body(tell_to.as_fd(), orders_from.as_fd());
            exit()
        }
        Forked::Parent { pid, pidfd } => Child {
            pid,
            pidfd,
            results: results.into(),
            orders: orders.into(),
        },
    }
}

impl Child {
    /// Waits until one of the two is readable or at its end: whether it is the first.
    fn wait<'a>(&'a self, first: BorrowedFd<'a>, second: BorrowedFd<'a>) -> bool {
        let mut fds = [first, second].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let ready = poll(&mut fds, PollTimeout::from(20_000_u16)).unwrap();
        if ready == 0 {
            process::kill(self.pidfd.as_fd()).unwrap();
            panic!("the child says nothing any more");
        }
        fds[0].any() == Some(true)
    }

    /// The next result; nothing when the child is dead.
    fn next(&mut self) -> Option<i64> {
        self.wait(self.results.as_fd(), self.results.as_fd());
        let mut bytes = [0; 8];
        self.results.read_exact(&mut bytes).ok()?;
        Some(i64::from_ne_bytes(bytes))
    }

    /// The signal that it died of, else 0.
    fn death(self) -> i32 {
        libc::WTERMSIG(process::reap(self.pid).unwrap().status)
    }

    /// The listener, whose number the child has told; the child goes on.
    fn listener(&mut self) -> OwnedFd {
        let number = self.next().expect("the child tells its listener");
        let number = i32::try_from(number).expect("a descriptor");
        assert!(number >= 0, "cannot install: {number}");
        let listener = process::take_descriptor(self.pidfd.as_fd(), number).unwrap();
        self.orders.write_all(b"x").unwrap();
        listener
    }

    /// Waits for a result or a notification: whether it is a notification. Results come first, as
    /// the next call may be waiting already.
    fn is_notified(&self, listener: &OwnedFd) -> bool {
        !self.wait(self.results.as_fd(), listener.as_fd())
    }
}

/// Installs the programs as a cell's init does, and waits until the parent has the listener.
fn install(programs: &filter::Programs, results: BorrowedFd<'_>, orders: BorrowedFd<'_>) {
    for program in &programs.errors {
        if seccomp::install(program).is_err() {
            exit();
        }
    }
    let listener = seccomp::install_with_listener(&programs.main);
    tell(
        results,
        listener.as_ref().map_or(-1, |fd| fd.as_raw_fd().into()),
    );
    std::mem::forget(listener); // stays open; closing it would be a call under test
    wait_for_order(orders);
}

/// What the kernel does with each of these calls.
fn observe(programs: &filter::Programs, calls: &[Call]) -> Vec<Action> {
    let observer = observer();
    let mut seen = Vec::new();
    while seen.len() < calls.len() {
        let rest = &calls[seen.len()..];
        let mut child = child(|results, orders| {
            if seccomp::install(&observer).is_ok() {
                install(programs, results, orders);
                rest.iter().for_each(|call| tell(results, make(call)));
            }
        });
        let listener = child.listener();
        loop {
            // A dying child closes one before the other: then there is nothing to receive.
            if child.is_notified(&listener)
                && let Ok(notice) = seccomp::receive(listener.as_fd())
            {
                let call = &calls[seen.len()];
                assert_eq!(notice.number, i64::from(call.number));
                assert_eq!(notice.args, call.args, "the listener sees all 64 bits");
                seccomp::answer(listener.as_fd(), &notice, NOTIFIED).unwrap();
            }
            let Some(result) = child.next() else {
                break;
            };
            let error = i32::try_from(-result).expect("no call was made");
            seen.push(match error {
                libc::ENOSYS => Action::Allow,
                NOTIFIED => Action::Notify,
                _ => Action::Errno(u16::try_from(error).expect("no call was made")),
            });
        }
        let death = child.death();
        if seen.len() < calls.len() {
            let call = &calls[seen.len()];
            let ill = death == libc::SIGILL && is_unfiltered(call);
            assert!(ill || death == libc::SIGSYS, "{death} at {call:x?}");
            seen.push(Action::KillProcess);
        }
    }
    seen
}

/// Values around those that a condition names: each, its neighbours, more bits, a high word.
fn values(condition: &super::Condition) -> Vec<u64> {
    let mask = condition.mask.unwrap_or(u32::MAX);
    let mut all = vec![0, u64::from(u32::MAX), u64::MAX, u64::from(!mask)];
    for value in condition.values.iter().copied().map(u64::from) {
        let outside = value | u64::from(!mask);
        all.extend([
            value,
            value + 1,
            value ^ u64::from(mask),
            outside,
            value | 1 << 32,
        ]);
    }
    all.extend(
        (0..32)
            .map(|bit| 1_u64 << bit)
            .filter(|bit| bit & u64::from(mask) != 0)
            .take(9),
    );
    all.sort_unstable();
    all.dedup();
    all
}

/// Argument sets for a number: some for all, and every choice of interesting values for its rule.
fn arguments(policy: &Policy, number: i64) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6], [u64::MAX; 6], [1, 2, 3, 4, 5, 6]];
    let rule = policy.calls.iter().find(|rule| rule.number == number);
    let Some(rule) = rule.filter(|rule| !rule.when.is_empty()) else {
        return all;
    };
    let mut choices = vec![[0; 6]];
    for condition in &rule.when {
        let longer = choices.iter().flat_map(|args| {
            values(condition).into_iter().map(|value| {
                let mut args = *args;
                args[usize::from(condition.arg)] = value;
                args
            })
        });
        choices = longer.collect();
    }
    let step = choices.len().div_ceil(500); // every third or so of the largest products
    all.extend(choices.into_iter().step_by(step));
    all
}

#[test]
fn the_kernel_does_what_the_evaluator_says() {
    let _alone = alone();
    for policy in super::builtin() {
        let programs = filter::compile(&policy).unwrap();
        let call = |number, arch, args| Call {
            number,
            arch,
            ip: 0,
            args,
        };
        let arch = Arch::HOST.audit();
        let mut calls = Vec::new();
        for number in 0..=NUMBER_MAX {
            let all = arguments(&policy, number).into_iter();
            calls.extend(all.map(|args| call(u32::try_from(number).unwrap(), arch, args)));
        }
        for number in [1023, 4096, 0x3FFF_FFFF] {
            calls.push(call(number, arch, [0; 6]));
        }
        if Arch::HOST == Arch::X86_64 {
            for number in [0, 1, 39, 59, 231, 512, 520, 547, 600] {
                calls.push(call(0x4000_0000 + number, arch, [0; 6]));
            }
            calls.extend([0x8000_0000, u32::MAX].map(|number| call(number, arch, [0; 6])));
            calls.push(call(20, I386, [0; 6])); // getpid
        }
        let filters = policy.filters();
        let seen = observe(&programs, &calls);
        let mut count = [0; 4];
        for (call, seen) in calls.iter().zip(&seen) {
            let name = policy.name();
            if is_unfiltered(call) && *seen != Action::Notify {
                // SIGILL for the one, ENXIO for the other: both kernels' answers are no way out.
                assert!(
                    matches!(seen, Action::KillProcess | Action::Errno(6)),
                    "{seen:?}"
                );
                continue;
            }
            assert_eq!(*seen, decide(&filters, call), "{name}: {call:x?}");
            count[match seen {
                Action::Allow => 0,
                Action::Notify => 1,
                Action::Errno(_) => 2,
                _ => 3,
            }] += 1;
        }
        let name = policy.name();
        assert!(
            count.iter().all(|count| *count > 9),
            "{name}: a kind is missing: {count:?}"
        );
    }
}

#[test]
fn allowed_calls_are_made_and_a_dead_listener_allows_nothing() {
    let _alone = alone();
    // Each would succeed and show it: a process id, an id, a mask, a descriptor, a signal 0.
    let names = ["getppid", "getuid", "umask", "getpgid", "kill"];
    let forbidden: Vec<i64> = names
        .iter()
        .filter_map(|name| table::number(Arch::HOST, name))
        .collect();
    let programs = filter::compile(&Policy::build()).unwrap();
    let mut child = child(|results, orders| {
        install(&programs, results, orders);
        let number = |fd: BorrowedFd<'_>| u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
        // As on exec in a cell: the child has no copy of the listener any more.
        for fd in (3..256).filter(|fd| *fd != number(results)) {
            bare::call(libc::SYS_close, [fd, 0, 0, 0, 0, 0]);
        }
        for call in &forbidden {
            tell(results, bare::call(*call, [0; 6]));
        }
        // What is allowed is made, what is answered is not.
        tell(results, bare::call(libc::SYS_getpid, [0; 6]));
        tell(results, bare::call(libc::SYS_close, [u64::MAX; 6]));
        tell(results, bare::call(libc::SYS_ioctl, [u64::MAX; 6]));
        tell(results, bare::call(libc::SYS_socket, [1, 1, 0, 0, 0, 0]));
    });
    let listener = child.listener();
    assert!(child.is_notified(&listener), "the first call asks");
    let notice = seccomp::receive(listener.as_fd()).unwrap();
    assert_eq!(notice.number, libc::SYS_getppid);
    assert!(seccomp::is_waiting(listener.as_fd(), &notice));
    drop(listener); // while the caller waits; the others find nobody there
    for name in names {
        assert_eq!(child.next(), Some(-i64::from(libc::ENOSYS)), "{name}");
    }
    let expected = [
        i64::from(child.pid),
        -i64::from(libc::EBADF),
        -i64::from(libc::ENOTTY),
        -i64::from(libc::EAFNOSUPPORT),
    ];
    for expected in expected {
        assert_eq!(child.next(), Some(expected));
    }
    assert_eq!(child.death(), 0);
}

/// xorshift64*: the same programs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        u32::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32).unwrap()
    }

    fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }

    /// An instruction that may well be wrong: 1 in 8 codes is any number.
    fn instruction(&mut self) -> sock_filter {
        const CODES: [u16; 42] = [
            0x20, 0x20, 0x80, 0x81, 0x06, 0x16, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c,
            0x54, 0x5c, 0x44, 0x4c, 0xa4, 0xac, 0x64, 0x6c, 0x74, 0x7c, 0x84, 0x00, 0x01, 0x07,
            0x87, 0x60, 0x61, 0x02, 0x03, 0x05, 0x15, 0x1d, 0x35, 0x3d, 0x25, 0x2d, 0x45, 0x4d,
        ];
        let known = CODES[self.below(42) as usize];
        let code = if self.below(8) == 0 {
            u16::try_from(self.below(0x120)).unwrap()
        } else {
            known
        };
        let k = match self.below(4) {
            0 => self.below(20),
            1 => self.below(17) * 4,
            2 => self.below(40),
            _ => self.next(),
        };
        let [jt, jf] = [(); 2].map(|()| u8::try_from(self.below(4)).unwrap());
        one(code, jt, jf, k)
    }

    fn program(&mut self) -> Vec<sock_filter> {
        let mut all: Vec<_> = (0..self.below(12)).map(|_| self.instruction()).collect();
        if self.below(16) != 0 {
            all.push(one(0x06, 0, 0, self.next()));
        }
        all
    }
}

#[test]
fn the_kernel_takes_the_programs_that_the_evaluator_takes() {
    let _alone = alone();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut all: Vec<_> = (0..60_000).map(|_| random.program()).collect();
    let end = one(0x06, 0, 0, 0);
    all.extend([4096, 4097].map(|length| vec![end.clone(); length]));
    let fill =
        [4096, 512, 64, 8, 1].map(|length| vec![one(0x06, 0, 0, libc::SECCOMP_RET_ALLOW); length]);
    let mut child = child(|results, _| {
        // The kernel limits the sum of a process's filters, but looks at a filter first: once the
        // sum is used up, a good one is refused with another error than a bad one.
        for program in &fill {
            while seccomp::install(program).is_ok() {}
        }
        for program in &all {
            let error = seccomp::install(program)
                .err()
                .and_then(|e| e.raw_os_error());
            tell(results, error.unwrap_or(0).into());
        }
    });
    let mut taken = 0;
    for program in &all {
        let expected = match Filter::new(program) {
            Ok(_) => libc::ENOMEM,
            Err(_) => libc::EINVAL,
        };
        taken += usize::from(expected == libc::ENOMEM);
        assert_eq!(child.next(), Some(expected.into()), "{program:x?}");
    }
    assert_eq!(child.death(), 0);
    assert!(taken > 1000, "too few were good: {taken}");
}

#[test]
fn the_kernel_computes_what_the_evaluator_computes() {
    let _alone = alone();
    let mut random = Random(0x0123_4567_89AB_CDEF);
    let (mut ran, mut died) = (0, 0);
    while ran < 400 {
        // Only the call under test reaches the body; its result is folded into an error number.
        let mut program = vec![
            one(0x20, 0, 0, 0),
            one(0x15, 1, 0, NO_CALL),
            one(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        program.extend((0..random.below(24)).map(|_| random.instruction()));
        for instruction in &mut program[3..] {
            if instruction.code == 0x06 {
                instruction.k = libc::SECCOMP_RET_ERRNO | (instruction.k % 4096);
            } else if instruction.code == 0x16 {
                instruction.code = 0x87;
            }
        }
        for shift in [16, 8] {
            program.extend([
                one(0x07, 0, 0, 0),
                one(0x74, 0, 0, shift),
                one(0xac, 0, 0, 0),
            ]);
        }
        let errno = libc::SECCOMP_RET_ERRNO;
        program.extend([
            one(0x54, 0, 0, 4095),
            one(0x44, 0, 0, errno),
            one(0x16, 0, 0, 0),
        ]);
        let Ok(filter) = Filter::new(&program) else {
            continue;
        };
        ran += 1;
        let wide = |random: &mut Random| u64::from(random.next()) << 32 | u64::from(random.next());
        let args = [0; 6].map(|_| wide(&mut random));
        let mut child = child(|results, _| {
            if seccomp::install(&program).is_ok() {
                tell(results, bare::call(NO_CALL.into(), args));
            }
        });
        // The instruction pointer is the child's own: programs that look at it are left out.
        let looks = |one: &sock_filter| one.code == 0x20 && (one.k == 8 || one.k == 12);
        let call = Call {
            number: NO_CALL,
            arch: Arch::HOST.audit(),
            ip: 0,
            args,
        };
        let seen = child.next();
        let death = child.death();
        if program.iter().any(looks) {
            continue;
        }
        match decide(&[filter], &call) {
            Action::Errno(errno) => assert_eq!(seen, Some(-i64::from(errno)), "{program:x?}"),
            action => {
                assert_eq!(action, Action::KillThread, "{program:x?}");
                assert_eq!((seen, death), (None, libc::SIGSYS), "{program:x?}");
                died += 1;
            }
        }
    }
    assert!(died > 2, "no division by zero: {died}");
}
