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
};

/// Landlock's version of this kernel, 0 when there is none.
pub(crate) fn kernel_abi() -> u8 {
    sys::landlock_abi()
        .ok()
        .and_then(|abi| u8::try_from(abi).ok())
        .unwrap_or(0)
}

/// Restricts this process to the policy's paths and the relay's port; tells the kernel's version.
pub(super) fn restrict(policy: &Policy) -> Result<u8, String> {
    let kernel = kernel_abi();
    if kernel < policy.landlock.required {
        let needed = policy.landlock.required;
        return Err(format!(
            "this kernel has ABI {kernel}, the policy needs {needed}"
        ));
    }
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

/// Never given: links, sockets, pipes, devices, ioctl on devices.
fn rights(rule: &PathRule, abi: ABI) -> std::io::Result<BitFlags<AccessFs>> {
    let mut all = BitFlags::empty();
    if rule.read {
        all |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    if rule.write {
        all |= AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::Refer;
    }
    if rule.execute {
        all |= AccessFs::Execute;
    }
    all &= AccessFs::from_all(abi);
    if !std::fs::metadata(&rule.path)?.is_dir() {
        all &= AccessFs::from_file(abi); // rights of folders on a file are an error
    }
    Ok(all)
}
