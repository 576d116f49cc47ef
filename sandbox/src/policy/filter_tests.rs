//! The compiled programs, run by a small machine of our own.

use super::*;
use crate::policy::table;

const ARCH: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64 of linux/audit.h
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

/// Runs one program as the kernel does (Documentation/networking/filter.rst).
fn machine(program: &[sock_filter], data: &[u8; 64]) -> u32 {
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let one = &program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
        match one.code {
            0x20 => {
                let k = one.k as usize;
                accumulator = u32::from_le_bytes(data[k..k + 4].try_into().unwrap());
            }
            0x05 => at += one.k as usize,
            0x15 => at += jump(accumulator == one.k),
            0x25 => at += jump(accumulator > one.k),
            0x35 => at += jump(accumulator >= one.k),
            0x54 => accumulator &= one.k,
            0x06 => return one.k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

/// The kernel's choice among all programs: the strictest action, which is the least number when
/// taken as signed (`seccomp_run_filters` in kernel/seccomp.c).
fn verdict(policy: &Policy, arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut data = [0; 64];
    data[..4].copy_from_slice(&number.to_le_bytes());
    data[4..8].copy_from_slice(&arch.to_le_bytes());
    for (index, arg) in args.iter().enumerate() {
        data[16 + 8 * index..24 + 8 * index].copy_from_slice(&arg.to_le_bytes());
    }
    let programs = compile(policy).unwrap();
    let all = programs.errors.iter().chain([&programs.main]);
    all.map(|program| machine(program, &data))
        .min_by_key(|action| action.cast_signed())
        .unwrap()
}

fn call(policy: &Policy, name: &str, args: [u64; 6]) -> u32 {
    verdict(
        policy,
        ARCH,
        u32::try_from(table::number(name).unwrap()).unwrap(),
        args,
    )
}

fn errno(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno as u32
}

#[test]
fn calls_without_a_rule_are_notified() {
    let policy = Policy::build();
    for number in 0..600 {
        let known = policy
            .calls
            .iter()
            .any(|rule| rule.number == i64::from(number));
        let got = verdict(&policy, ARCH, number, [0; 6]);
        assert!(known || got == NOTIFY, "{number}: {got:#x}");
    }
    assert_eq!(call(&policy, "read", [0; 6]), ALLOW);
    assert_eq!(call(&policy, "mount", [0; 6]), NOTIFY);
}

#[test]
fn other_architectures_and_x32_are_killed() {
    let policy = Policy::build();
    for arch in [0x4000_0003, 0xC000_00B7, 0] {
        assert_eq!(verdict(&policy, arch, 0, [0; 6]), KILL);
    }
    for number in [X32_FIRST, X32_FIRST + 39, u32::MAX] {
        assert_eq!(verdict(&policy, ARCH, number, [0; 6]), KILL);
    }
    assert_eq!(verdict(&policy, ARCH, X32_FIRST - 1, [0; 6]), NOTIFY);
}

#[test]
fn sockets_other_than_tcp_over_ipv4_get_an_error() {
    let policy = Policy::build();
    let refused = errno(libc::EAFNOSUPPORT);
    for (domain, kind, expected) in [
        (2, 1, ALLOW),
        (2, 1 | 0o2_000_000 | 0o4_000, ALLOW), // SOCK_CLOEXEC, SOCK_NONBLOCK
        (2, 2, refused),
        (2, 3, refused),
        (10, 1, refused),
        (1, 1, refused),
        (38, 5, refused),
        (40, 1, refused),
        (2 | 1 << 32, 1, ALLOW), // the kernel sees the low word only
        (1 | 1 << 32, 1, refused),
    ] {
        let got = call(&policy, "socket", [domain, kind, 0, 0, 0, 0]);
        assert_eq!(got, expected, "{domain} {kind}");
    }
}

#[test]
fn arguments_decide() {
    let policy = Policy::build();
    for (name, args, expected) in [
        ("mmap", [0, 4096, 3, 0x22, 0, 0], ALLOW),
        ("mmap", [0, 4096, 7, 0x22, 0, 0], NOTIFY),
        ("clone", [0x0005_0F00, 0, 0, 0, 0, 0], ALLOW),
        ("clone", [0x1000_0000, 0, 0, 0, 0, 0], NOTIFY),
        ("clone", [0x0000_0080, 0, 0, 0, 0, 0], NOTIFY),
        ("prctl", [0x5356_4D41, 0, 0, 0, 0, 0], ALLOW),
        ("prctl", [22, 2, 0, 0, 0, 0], NOTIFY),
        ("fcntl", [3, 1030, 0, 0, 0, 0], ALLOW),
        ("fcntl", [3, 1031, 0, 0, 0, 0], NOTIFY),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], errno(libc::ENOTTY)),
        ("mprotect", [0, 4096, 1, 0, 0, 0], NOTIFY),
    ] {
        assert_eq!(call(&policy, name, args), expected, "{name} {args:x?}");
    }
    assert_eq!(
        call(&Policy::probe(), "mprotect", [0, 4096, 1, 0, 0, 0]),
        ALLOW
    );
    assert_eq!(
        call(&Policy::probe(), "mprotect", [0, 4096, 5, 0, 0, 0]),
        NOTIFY
    );
}

#[test]
fn the_x32_check_comes_first() {
    let programs = compile(&Policy::build()).unwrap();
    let front: Vec<_> = programs.main[..3]
        .iter()
        .map(|one| (one.code, one.k))
        .collect();
    assert_eq!(
        front,
        [(LOAD_WORD, 0), (JUMP_GE, X32_FIRST), (RETURN, KILL)]
    );
    let trace = |one: &sock_filter| one.code == RETURN && one.k == libc::SECCOMP_RET_TRACE;
    assert!(!programs.main.iter().any(trace));
}
