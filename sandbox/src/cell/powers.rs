//! Capabilities, securebits, `no_new_privs`: how init, relays and workers lose power.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl;

use crate::sys::process;

/// Gives up every capability in every set, for good. Tells whether the securebits read back.
pub(super) fn drop_all() -> Result<bool, String> {
    prepare()?;
    clear()?;
    process::securebits_locked().map_err(|e| format!("securebits: {e}"))
}

/// Makes the loss final before it happens: afterwards no `execve` and no id gives power.
pub(crate) fn prepare() -> Result<(), String> {
    process::lock_securebits().map_err(|e| format!("securebits: {e}"))?; // needs CAP_SETPCAP
    caps::clear(None, CapSet::Bounding).map_err(|e| format!("bounding set: {e}")) // likewise
}

/// Gives up what is left after [`prepare`] and a change of ids.
pub(crate) fn drop_powers() -> Result<(), String> {
    clear()?;
    no_new_privileges()
}

fn clear() -> Result<(), String> {
    for set in [
        CapSet::Ambient,
        CapSet::Effective,
        CapSet::Permitted,
        CapSet::Inheritable,
    ] {
        caps::clear(None, set).map_err(|e| format!("{set:?}: {e}"))?;
    }
    Ok(())
}

/// Keeps the power over file modes only, for work on the store.
pub(crate) fn keep_file_powers() -> Result<(), String> {
    prepare()?;
    let keep = CapsHashSet::from([Capability::CAP_DAC_OVERRIDE]);
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &keep).map_err(|e| format!("{set:?}: {e}"))?;
    }
    no_new_privileges()
}

/// No program that is executed from here on gains anything.
pub(super) fn no_new_privileges() -> Result<(), String> {
    prctl::set_no_new_privs().map_err(|e| format!("PR_SET_NO_NEW_PRIVS: {e}"))
}
