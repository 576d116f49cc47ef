//! The compiled rules of roles, run by the evaluator.

use super::*;
use crate::policy::evaluate::{Action, Call, Filter, decide};

const ARCH: u32 = Arch::HOST.audit();
/// First number of the x32 calls.
const X32: u32 = 0x4000_0000;
const ALLOW: Action = Action::Allow;
const KILL: Action = Action::KillProcess;

fn errno(errno: Errno) -> Action {
    Action::Errno(u16::try_from(errno as i32).unwrap())
}

fn strictest(programs: &[BpfProgram], arch: u32, number: u32, args: [u64; 6]) -> Action {
    let filters: Vec<_> = programs
        .iter()
        .map(|program| Filter::new(program).unwrap())
        .collect();
    let call = Call {
        number,
        arch,
        ip: 0,
        args,
    };
    decide(&filters, &call)
}

fn programs(role: Role) -> Vec<BpfProgram> {
    let programs = RolePolicy::of(role).programs().unwrap();
    programs.into_iter().map(|(program, _)| program).collect()
}

fn call(role: Role, name: &str, args: [u64; 6]) -> Action {
    let number = u32::try_from(table::number(Arch::HOST, name).unwrap()).unwrap();
    strictest(&programs(role), ARCH, number, args)
}

#[test]
fn no_role_has_a_call_of_the_floor_and_each_ends_it_unless_it_is_answered() {
    for role in Role::ALL {
        let rules = RolePolicy::of(role);
        for name in fatal_calls() {
            let Some(number) = table::number(Arch::HOST, name) else {
                continue;
            };
            let answered = rules.calls.iter().find(|rule| rule.number == number);
            let expected = match answered.map(|rule| rule.verdict) {
                Some(Verdict::Answer(with)) => errno(with),
                Some(other) => panic!("{role:?}: {name}: {other:?}"),
                None => KILL,
            };
            assert_eq!(call(role, name, [0; 6]), expected, "{role:?}: {name}");
        }
        assert_eq!(call(role, "seccomp", [0; 6]), errno(Errno::ENOSYS));
        let memory = call(role, "memfd_create", [0, 1, 0, 0, 0, 0]);
        assert_eq!(memory == ALLOW, role == Role::Serve, "{role:?}");
        for name in [
            "execve",
            "ptrace",
            "unshare",
            "mount",
            "setns",
            "bpf",
            "io_uring_setup",
        ] {
            assert_eq!(call(role, name, [0; 6]), KILL, "{role:?}: {name}");
        }
    }
}

#[test]
fn a_rule_that_allows_a_call_of_the_floor_is_refused() {
    for name in ["ptrace", "execve"] {
        let rule = format!("\n[[call]]\nnames = [\"{name}\"]\nwhy = \"a test that must fail\"\n");
        let (head, tail) = ROLES.split_once("\n[[role]]").unwrap();
        let text = format!("{head}{rule}\n[[role]]{tail}");
        let error = RolePolicy::parse(Role::Sign, &text).unwrap_err();
        assert!(error.to_string().contains("no role may have it"), "{error}");
    }
}

#[test]
fn unknown_calls_are_not_there_and_foreign_ones_end_the_role() {
    for role in Role::ALL {
        let programs = programs(role);
        for number in [450, 599, 1000, X32 - 1] {
            let got = strictest(&programs, ARCH, number, [0; 6]);
            assert_eq!(got, errno(Errno::ENOSYS), "{role:?}: {number}");
        }
        assert_eq!(strictest(&programs, ARCH, X32 + 1, [0; 6]), KILL);
        for arch in [0x4000_0003, 0xC000_00B7, 0] {
            assert_eq!(
                strictest(&programs, arch, 1, [0; 6]),
                KILL,
                "{role:?}: {arch:#x}"
            );
        }
    }
}

#[test]
fn only_fetch_makes_sockets_and_only_of_the_internet() {
    const STREAM: u64 = 1;
    const DATAGRAM: u64 = 2;
    for role in Role::ALL {
        for (domain, kind, protocol, fits) in [
            (2, STREAM, 0, true),
            (2, STREAM, 6, true),
            (10, STREAM, 0, true),
            (2, DATAGRAM, 0, true),
            (10, DATAGRAM, 17, true),
            (2, 3, 0, false),        // SOCK_RAW
            (2, STREAM, 262, false), // IPPROTO_MPTCP
            (1, STREAM, 0, false),
            (16, 3, 0, false), // AF_NETLINK
            (17, 3, 0, false), // AF_PACKET
            (38, 5, 0, false), // AF_ALG
            (40, STREAM, 0, false),
        ] {
            let got = call(
                role,
                "socket",
                [domain, kind | 0o2_004_000, protocol, 0, 0, 0],
            );
            let allowed = fits && role == Role::Fetch;
            assert_eq!(
                got == ALLOW,
                allowed,
                "{role:?}: {domain} {kind} {protocol}"
            );
        }
        let connects = call(role, "connect", [3, 0, 0, 0, 0, 0]) == ALLOW;
        assert_eq!(connects, role == Role::Fetch, "{role:?}");
        for name in ["bind", "listen"] {
            assert_ne!(
                call(role, name, [3, 0, 0, 0, 0, 0]),
                ALLOW,
                "{role:?}: {name}"
            );
        }
        let accepts = call(role, "accept4", [3, 0, 0, 0, 0, 0]) == ALLOW;
        assert_eq!(
            accepts,
            matches!(role, Role::Serve | Role::Relay),
            "{role:?}"
        );
    }
}

#[test]
fn threads_are_made_and_no_processes_and_no_memory_becomes_code() {
    const THREAD: u64 = 0x3D_0F00; // as glibc and musl make them
    for role in Role::ALL {
        assert_eq!(
            call(role, "clone", [THREAD, 0, 0, 0, 0, 0]),
            ALLOW,
            "{role:?}"
        );
        for flags in [0, 17, 0x4111, THREAD | 0x1000_0000, THREAD & !0x1_0000] {
            assert_ne!(
                call(role, "clone", [flags, 0, 0, 0, 0, 0]),
                ALLOW,
                "{flags:#x}"
            );
        }
        assert_eq!(call(role, "mmap", [0, 4096, 3, 0x22, 0, 0]), ALLOW);
        assert_ne!(call(role, "mmap", [0, 4096, 7, 0x22, 0, 0]), ALLOW);
        let code = call(role, "mmap", [0, 4096, 5, 2, 3, 0]) == ALLOW;
        assert_eq!(
            code,
            role == Role::Fetch,
            "{role:?}: libraries of the resolver"
        );
        assert_ne!(call(role, "mprotect", [0, 4096, 5, 0, 0, 0]), ALLOW);
    }
}
