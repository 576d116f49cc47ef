//! The compiled programs, run by the evaluator, and compared with the rules they were made from.

use nix::errno::Errno;

use super::*;
use crate::policy::{
    evaluate::{Action, Call, decide},
    table,
};

const X86: u32 = Arch::X86_64.audit();
const ARM: u32 = Arch::Aarch64.audit();

fn verdict(policy: &Policy, arch: u32, number: u32, args: [u64; 6]) -> Action {
    let call = Call {
        number,
        arch,
        ip: 0,
        args,
    };
    decide(&policy.filters(), &call)
}

fn call(policy: &Policy, name: &str, args: [u64; 6]) -> Action {
    let number = table::number(policy.arch, name).unwrap();
    let number = u32::try_from(number).unwrap();
    verdict(policy, policy.arch.audit(), number, args)
}

fn errno(errno: Errno) -> Action {
    Action::Errno(u16::try_from(errno as i32).unwrap())
}

/// Both architectures, whatever this host has.
fn both() -> [Policy; 2] {
    Arch::ALL.map(Policy::build_for)
}

#[test]
fn calls_without_a_rule_are_notified() {
    for policy in both() {
        let filters = policy.filters();
        for number in 0..600 {
            let known = policy
                .calls
                .iter()
                .any(|rule| rule.number == i64::from(number));
            let call = Call {
                number,
                arch: policy.arch.audit(),
                ..Call::default()
            };
            let got = decide(&filters, &call);
            assert!(known || got == Action::Notify, "{number}: {got:?}");
        }
        assert_eq!(call(&policy, "read", [0; 6]), Action::Allow);
        assert_eq!(call(&policy, "mount", [0; 6]), Action::Notify);
    }
}

#[test]
fn other_architectures_and_x32_are_killed() {
    let [x86, arm] = both();
    for arch in [0x4000_0003, ARM, 0] {
        assert_eq!(verdict(&x86, arch, 0, [0; 6]), Action::KillProcess);
    }
    for arch in [0x4000_0028, X86, 0] {
        assert_eq!(verdict(&arm, arch, 63, [0; 6]), Action::KillProcess);
    }
    for number in [X32_FIRST, X32_FIRST + 39, u32::MAX] {
        assert_eq!(verdict(&x86, X86, number, [0; 6]), Action::KillProcess);
        assert_eq!(verdict(&arm, ARM, number, [0; 6]), Action::Notify);
    }
    assert_eq!(verdict(&x86, X86, X32_FIRST - 1, [0; 6]), Action::Notify);
}

#[test]
fn a_call_that_the_architecture_lacks_is_left_out() {
    let [x86, arm] = both();
    assert_eq!(x86.calls_allowed(), arm.calls_allowed() + 1); // arch_prctl
    let number = u32::try_from(table::number(Arch::X86_64, "arch_prctl").unwrap()).unwrap();
    let args = [0x1002, 0, 0, 0, 0, 0];
    assert_eq!(verdict(&x86, X86, number, args), Action::Allow);
    assert_eq!(verdict(&arm, ARM, number, args), Action::Notify);
    let compiler = |policy: &Policy, path: &str| policy.paths.iter().any(|rule| rule.path == path);
    assert!(compiler(&x86, "/sdk/pkg/tool/linux_amd64/compile"));
    assert!(compiler(&arm, "/sdk/pkg/tool/linux_arm64/compile"));
}

#[test]
fn sockets_other_than_tcp_over_ipv4_get_an_error() {
    let refused = errno(Errno::EAFNOSUPPORT);
    for (domain, kind, expected) in [
        (2, 1, Action::Allow),
        (2, 1 | 0o2_000_000 | 0o4_000, Action::Allow), // SOCK_CLOEXEC, SOCK_NONBLOCK
        (2, 2, refused),
        (2, 3, refused),
        (10, 1, refused),
        (1, 1, refused),
        (38, 5, refused),
        (40, 1, refused),
        (2 | 1 << 32, 1, Action::Allow), // the kernel sees the low word only
        (1 | 1 << 32, 1, refused),
    ] {
        for policy in both() {
            let got = call(&policy, "socket", [domain, kind, 0, 0, 0, 0]);
            assert_eq!(got, expected, "{domain} {kind}");
        }
    }
}

#[test]
fn arguments_decide() {
    for (name, args, expected) in [
        ("mmap", [0, 4096, 3, 0x22, 0, 0], Action::Allow),
        ("mmap", [0, 4096, 7, 0x22, 0, 0], Action::Notify),
        ("clone", [0x0005_0F00, 0, 0, 0, 0, 0], Action::Allow),
        ("clone", [0x1000_0000, 0, 0, 0, 0, 0], Action::Notify),
        ("clone", [0x0000_0080, 0, 0, 0, 0, 0], Action::Notify),
        ("prctl", [0x5356_4D41, 0, 0, 0, 0, 0], Action::Allow),
        ("prctl", [22, 2, 0, 0, 0, 0], Action::Notify),
        ("fcntl", [3, 1030, 0, 0, 0, 0], Action::Allow),
        ("fcntl", [3, 1031, 0, 0, 0, 0], Action::Notify),
        ("ioctl", [0, 0x5412, 0, 0, 0, 0], errno(Errno::ENOTTY)),
        ("mprotect", [0, 4096, 1, 0, 0, 0], Action::Notify),
    ] {
        for policy in both() {
            assert_eq!(call(&policy, name, args), expected, "{name} {args:x?}");
        }
    }
    assert_eq!(
        call(&Policy::probe(), "mprotect", [0, 4096, 1, 0, 0, 0]),
        Action::Allow
    );
    assert_eq!(
        call(&Policy::probe(), "mprotect", [0, 4096, 5, 0, 0, 0]),
        Action::Notify
    );
}

#[test]
fn the_x32_check_comes_first() {
    let programs = compile(&Policy::build_for(Arch::X86_64)).unwrap();
    let front: Vec<_> = programs.main[..3]
        .iter()
        .map(|one| (one.code, one.k))
        .collect();
    let kill = libc::SECCOMP_RET_KILL_PROCESS;
    assert_eq!(
        front,
        [(LOAD_WORD, 0), (JUMP_GE, X32_FIRST), (RETURN, kill)]
    );
    let trace = |one: &sock_filter| one.code == RETURN && one.k == libc::SECCOMP_RET_TRACE;
    assert!(!programs.main.iter().any(trace));
}

/// What the rules say, without any program.
fn meant(policy: &Policy, call: &Call) -> Action {
    if call.arch != policy.arch.audit() {
        return Action::KillProcess;
    }
    if policy.arch == Arch::X86_64 && call.number >= X32_FIRST {
        return Action::KillProcess;
    }
    let rule = policy
        .calls
        .iter()
        .find(|rule| rule.number == i64::from(call.number));
    let Some(rule) = rule else {
        return Action::Notify;
    };
    let holds = rule.when.iter().all(|condition| {
        let low = call.args[usize::from(condition.arg)] & u64::from(u32::MAX);
        let low = u32::try_from(low).unwrap();
        let masked = low & condition.mask.unwrap_or(u32::MAX);
        condition.values.contains(&masked)
    });
    match rule.verdict {
        Verdict::Allow | Verdict::AllowElse(_) if holds => Action::Allow,
        Verdict::Allow => Action::Notify,
        Verdict::AllowElse(number) | Verdict::Answer(number) => errno(number),
    }
}

mod random {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::policy::Condition;

    /// Few bits, so that random arguments meet random rules.
    const MASK: u32 = 0x8000_0007;

    fn condition() -> impl Strategy<Value = Condition> {
        let values = vec(any::<u32>().prop_map(|value| value & MASK), 1..4);
        let mask = select(vec![None, Some(MASK), Some(0x7), Some(0x8000_0001)]);
        (0..6_u8, mask, values).prop_map(|(arg, mask, mut values)| {
            for value in &mut values {
                *value &= mask.unwrap_or(u32::MAX);
            }
            Condition { arg, mask, values }
        })
    }

    /// A verdict that its conditions allow, as the parser sees to.
    fn rule() -> impl Strategy<Value = CallRule> {
        let errno = select(vec![Errno::EPERM, Errno::ENOSYS, Errno::ENOTTY]);
        (0..24_i64, vec(condition(), 0..3), 0..3_u8, errno).prop_map(
            |(number, when, kind, errno)| {
                let (when, verdict) = match kind {
                    0 => (when, Verdict::Allow),
                    1 if !when.is_empty() => (when, Verdict::AllowElse(errno)),
                    _ => (Vec::new(), Verdict::Answer(errno)),
                };
                CallRule {
                    number,
                    when,
                    verdict,
                }
            },
        )
    }

    fn call() -> impl Strategy<Value = Call> {
        let arch = select(vec![X86, X86, X86, ARM, ARM, ARM, 0x4000_0003, 0]);
        let number = prop_oneof![8 => 0..26_u32, 1 => any::<u32>(), 1 => X32_FIRST..X32_FIRST + 9];
        let high = select(vec![0, 0, u64::MAX << 32, 1 << 32, 1 << 63]);
        let arg = (any::<u32>(), high).prop_map(|(low, high)| u64::from(low & MASK) | high);
        let args = proptest::array::uniform6(arg);
        (arch, number, any::<u64>(), args).prop_map(|(arch, number, ip, args)| Call {
            number,
            arch,
            ip,
            args,
        })
    }

    proptest! {
        #[test]
        fn programs_do_what_their_rules_say(
            arm in any::<bool>(),
            mut rules in vec(rule(), 0..10),
            calls in vec(call(), 64),
        ) {
            let mut policy = Policy::build_for(Arch::ALL[usize::from(arm)]);
            let mut seen = std::collections::BTreeSet::new();
            rules.retain(|rule| seen.insert(rule.number));
            policy.calls = rules;
            let filters = compile(&policy).unwrap().filters().unwrap();
            for call in calls {
                prop_assert_eq!(decide(&filters, &call), meant(&policy, &call), "{:x?}", call);
            }
        }
    }
}
