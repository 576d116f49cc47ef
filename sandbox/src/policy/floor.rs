//! What no policy can take away from a cell, whoever wrote the policy.
//!
//! Called for each policy before anything uses it. Not here, because the language cannot say
//! otherwise: no capability, `no_new_privs`, `nosuid` and `nodev`, calls denied unless allowed.

use super::{Arch, CallRule, Namespace, PlaceKind, Policy, PolicyError, Verdict, table};

const NAMESPACES: [Namespace; 4] = [
    Namespace::User,
    Namespace::Mount,
    Namespace::Pid,
    Namespace::Net,
];

/// Calls that reach around the other layers: new namespaces and mounts, other processes' memory,
/// programs in the kernel, a second way to make calls, keys, writing through a readable page.
pub(super) const NEVER: &[&str] = &[
    "add_key",
    "bpf",
    "chroot",
    "clone3",
    "delete_module",
    "execveat",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lsm_set_self_attr",
    "memfd_create",
    "memfd_secret",
    "mknod",
    "mknodat",
    "modify_ldt",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "open_tree_attr",
    "perf_event_open",
    "personality",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "request_key",
    "seccomp",
    "sendfile",
    "setns",
    "splice",
    "tee",
    "umount2",
    "unshare",
    "userfaultfd",
    "vmsplice",
];

/// What an argument of a call must be held to, as the floor says it.
struct Bound {
    call: &'static str,
    arg: u8,
    /// Bits that the condition must look at.
    mask: u32,
    /// Values that it may accept.
    values: &'static [u32],
}

/// Calls that may only be allowed with conditions, and how far these may go.
const BOUNDS: &[Bound] = &[
    // none of the CLONE_NEW flags (include/uapi/linux/sched.h)
    Bound {
        call: "clone",
        arg: 0,
        mask: 0x7E02_0080,
        values: &[0],
    },
    // AF_INET
    Bound {
        call: "socket",
        arg: 0,
        mask: u32::MAX,
        values: &[2],
    },
    // SOCK_STREAM, whatever its flags
    Bound {
        call: "socket",
        arg: 1,
        mask: 0xF,
        values: &[1],
    },
    // TCP: MPTCP would go past Landlock, others could load modules
    Bound {
        call: "socket",
        arg: 2,
        mask: u32::MAX,
        values: &[0, 6],
    },
    // PR_SET_VMA
    Bound {
        call: "prctl",
        arg: 0,
        mask: u32::MAX,
        values: &[0x5356_4D41],
    },
];

/// # Errors
/// [`PolicyError::Floor`] with the first thing that is missing.
pub(super) fn check(policy: &Policy) -> Result<(), PolicyError> {
    let below = |why: String| {
        Err(PolicyError::Floor {
            name: policy.name.clone(),
            why,
        })
    };
    for needed in NAMESPACES {
        if !policy.namespaces.contains(&needed) {
            return below(format!("no `{}` namespace", needed.word()));
        }
    }
    for kind in [
        PlaceKind::Root,
        PlaceKind::Sdk,
        PlaceKind::Null,
        PlaceKind::Program,
    ] {
        if !policy.place(kind).is_some_and(|place| place.read_only) {
            return below(format!("no read-only place of kind {kind:?}"));
        }
    }
    for kind in [PlaceKind::Home, PlaceKind::Tmp, PlaceKind::Cache] {
        if policy.place(kind).is_none() {
            return below(format!("no place of kind {kind:?}"));
        }
    }
    if policy
        .place(PlaceKind::Command)
        .is_some_and(|place| !place.read_only)
    {
        return below("the go command could be written".to_owned());
    }
    if let Some(rule) = policy.calls.iter().find(|rule| is_below(policy.arch, rule)) {
        let name = table::name_on(policy.arch, rule.number);
        return below(format!("it allows `{name}`"));
    }
    Ok(())
}

fn is_below(arch: Arch, rule: &CallRule) -> bool {
    if matches!(rule.verdict, Verdict::Answer(_)) {
        return false;
    }
    let name = table::name_on(arch, rule.number);
    let bounds = BOUNDS.iter().filter(|bound| bound.call == name);
    NEVER.contains(&name.as_str()) || bounds.into_iter().any(|bound| !holds(rule, bound))
}

/// Whether one condition of the rule is at least as strict as the bound. Conditions of one rule
/// must all hold, so one of them is enough.
fn holds(rule: &CallRule, bound: &Bound) -> bool {
    rule.when.iter().any(|condition| {
        condition.arg == bound.arg
            && condition.mask.unwrap_or(u32::MAX) & bound.mask == bound.mask
            && condition
                .values
                .iter()
                .all(|value| bound.values.contains(&(value & bound.mask)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_a_needed_namespace_is_refused() {
        for missing in NAMESPACES {
            let mut policy = Policy::build();
            policy.namespaces.retain(|kind| *kind != missing);
            assert!(
                matches!(check(&policy), Err(PolicyError::Floor { .. })),
                "{missing:?}"
            );
        }
    }

    #[test]
    fn every_name_of_the_floor_is_a_call_and_is_refused() {
        for name in NEVER
            .iter()
            .copied()
            .chain(BOUNDS.iter().map(|bound| bound.call))
        {
            assert!(table::is_call(name), "{name}");
            for arch in Arch::ALL {
                let Some(number) = table::number(arch, name) else {
                    continue;
                };
                let mut policy = Policy::build_for(arch);
                policy.calls.push(CallRule {
                    number,
                    when: Vec::new(),
                    verdict: Verdict::Allow,
                });
                assert!(
                    matches!(check(&policy), Err(PolicyError::Floor { .. })),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_writable_sdk_is_refused() {
        let mut policy = Policy::build();
        for place in &mut policy.places {
            place.read_only = false;
        }
        assert!(matches!(check(&policy), Err(PolicyError::Floor { .. })));
    }
}
