//! The second lock on files, the first on connections.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use super::place;
use crate::{
    policy::{PathRule, Policy},
    sys,
    wire::NotInForce,
};

/// Landlock's version of this kernel, 0 when there is none.
pub(crate) fn kernel_abi() -> u8 {
    sys::landlock_abi()
        .ok()
        .and_then(|abi| u8::try_from(abi).ok())
        .unwrap_or(0)
}

/// What each version brought, by the name that a report gives it. ABI 7 and 8 bring no right: 7
/// chooses what the host's audit log hears, which by default is nothing of a program that was
/// executed, as a cell wants it; 8 restricts all threads at once, and a cell's init has one.
const RIGHTS: [(u8, &str); 10] = [
    (1, "landlock: reading, writing and executing files"),
    (1, "landlock: making and removing files"),
    (2, "landlock: moving files between folders"),
    (3, "landlock: truncation"),
    (4, "landlock: connections to the relay only"),
    (4, "landlock: listening"),
    (5, "landlock: device ioctls"),
    (6, "landlock: abstract sockets"),
    (6, "landlock: signals"),
    (9, "landlock: sockets with names"),
];

/// What a policy wants and a kernel with this version lacks.
pub(crate) fn missing(kernel: u8, policy: &Policy) -> Vec<NotInForce> {
    let lacks = |(since, _): &&(u8, &str)| kernel < *since && *since <= policy.landlock.wanted;
    let rights = RIGHTS.iter().filter(lacks);
    rights
        .map(|(since, what)| NotInForce {
            what: (*what).to_owned(),
            why: format!("this kernel has Landlock ABI {kernel}, it needs {since}"),
        })
        .collect()
}

/// Refuses a kernel with less than the policy requires.
fn suffices(kernel: u8, policy: &Policy) -> Result<(), String> {
    let needed = policy.landlock.required;
    if kernel < needed {
        return Err(format!(
            "this kernel has ABI {kernel}, the policy needs {needed}"
        ));
    }
    Ok(())
}

/// Restricts this process to the policy's paths and the relay's port; tells the kernel's version.
pub(super) fn restrict(policy: &Policy) -> Result<u8, String> {
    let kernel = kernel_abi();
    suffices(kernel, policy)?;
    restrict_to(policy).map_err(|error| error.to_string())?;
    Ok(kernel)
}

fn restrict_to(policy: &Policy) -> Result<(), Box<dyn std::error::Error>> {
    let required = ABI::from(i32::from(policy.landlock.required));
    let wanted = ABI::from(i32::from(policy.landlock.wanted));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(required))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(wanted))?;
    if wanted >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(wanted))?;
    }
    if wanted >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(wanted))?;
    }
    let mut created = ruleset.create()?;
    for rule in &policy.paths {
        if rule.optional && !Path::new(&rule.path).try_exists()? {
            continue;
        }
        let beneath = PathBeneath::new(PathFd::new(&rule.path)?, rights(rule, wanted)?);
        created = created.add_rule(beneath)?;
    }
    if wanted >= ABI::V4 {
        created = created.add_rule(NetPort::new(place::RELAY_PORT, AccessNet::ConnectTcp))?;
    }
    let status = created.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced || !status.no_new_privs {
        return Err("the kernel took the rules but does not enforce them".into());
    }
    Ok(())
}

/// What reading and writing mean below a folder, for cells and for roles. Never given: links,
/// sockets, pipes, devices, ioctl on devices.
pub(crate) fn file_rights(read: bool, write: bool) -> BitFlags<AccessFs> {
    let mut all = BitFlags::empty();
    if read {
        all |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    if write {
        all |= AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::Refer;
    }
    all
}

fn rights(rule: &PathRule, abi: ABI) -> std::io::Result<BitFlags<AccessFs>> {
    let mut all = file_rights(rule.read, rule.write);
    if rule.execute {
        all |= AccessFs::Execute;
    }
    all &= AccessFs::from_all(abi);
    if !std::fs::metadata(&rule.path)?.is_dir() {
        all &= AccessFs::from_file(abi); // rights of folders on a file are an error
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_right_is_told_by_name_and_too_little_is_refused() {
        let mut policy = Policy::build();
        let names = |kernel, policy: &Policy| -> Vec<String> {
            let short = |one: NotInForce| one.what.replace("landlock: ", "");
            missing(kernel, policy).into_iter().map(short).collect()
        };
        let all = [
            (0, "reading, writing and executing files"),
            (0, "making and removing files"),
            (1, "moving files between folders"),
            (2, "truncation"),
            (3, "connections to the relay only"),
            (3, "listening"),
            (4, "device ioctls"),
            (5, "abstract sockets"),
            (5, "signals"),
            (8, "sockets with names"),
        ];
        for required in 2..=9 {
            policy.landlock.required = required;
            for kernel in 0..=11 {
                let expected = all.iter().filter(|(last, _)| kernel <= *last);
                let expected: Vec<&str> = expected.map(|(_, name)| *name).collect();
                policy.landlock.wanted = 9;
                assert_eq!(names(kernel, &policy), expected, "ABI {kernel}");
                assert_eq!(suffices(kernel, &policy).is_ok(), kernel >= required);
                // What nobody wants is not missing.
                policy.landlock.wanted = 2;
                assert_eq!(names(kernel, &policy).is_empty(), kernel >= 2);
            }
        }
        assert!(Policy::build().landlock.required >= 2);
    }

    #[test]
    fn every_right_of_a_version_has_a_name() {
        for (old, new) in [
            (1, 2),
            (2, 3),
            (3, 4),
            (4, 5),
            (5, 6),
            (6, 7),
            (7, 8),
            (8, 9),
        ] {
            let all = |abi: i32| {
                let abi = ABI::from(abi);
                let (files, net) = (AccessFs::from_all(abi), AccessNet::from_all(abi));
                files.bits().count_ones()
                    + net.bits().count_ones()
                    + Scope::from_all(abi).bits().count_ones()
            };
            let named = RIGHTS.iter().filter(|(since, _)| i32::from(*since) == new);
            let brought = all(new) - all(old);
            assert_eq!(u32::try_from(named.count()).unwrap(), brought, "ABI {new}");
        }
    }
}
