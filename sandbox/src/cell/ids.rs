//! Session, ids and names.

use std::{fs::OpenOptions, io::Write as _};

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid, setsid},
};

use super::{Plan, place};
use crate::sys::{self, process};

/// How many user namespaces may be made below the current one (namespaces(7)).
const NESTING: &str = "/proc/sys/user/max_user_namespaces";

/// No terminal, no inherited signal state, files of the usual modes.
pub(super) fn begin_session() -> Result<(), String> {
    setsid().map_err(|e| format!("setsid: {e}"))?;
    let mask = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
    mask.map_err(|e| format!("sigprocmask: {e}"))?;
    process::default_sigpipe().map_err(|e| format!("sigaction: {e}"))?;
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Takes the one id of the cell. Capabilities stay: id 0 is not mapped, so none was taken for it.
pub(super) fn switch(plan: &Plan) -> Result<(), String> {
    let (uid, gid) = (Uid::from_raw(place::ID), Gid::from_raw(place::ID));
    if plan.drop_groups {
        setgroups(&[]).map_err(|e| format!("setgroups: {e}"))?;
    }
    setresgid(gid, gid, gid).map_err(|e| format!("setresgid: {e}"))?;
    setresuid(uid, uid, uid).map_err(|e| format!("setresuid: {e}"))?;
    // Both are reset by a change of ids, so they come after it. Dumpable: else the supervisor would
    // need CAP_SYS_PTRACE to take the filter's listener. Should the supervisor have died before
    // this line, the next wait ends us.
    prctl::set_dumpable(true).map_err(|e| format!("PR_SET_DUMPABLE: {e}"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| format!("PR_SET_PDEATHSIG: {e}"))
}

/// Leaves every keyring of the host behind. A kernel without keys has nothing to leave.
pub(super) fn leave_keyrings() -> Result<(), String> {
    match sys::new_session_keyring() {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => {
            Err(format!("KEYCTL_JOIN_SESSION_KEYRING: {error}"))
        }
        _ => Ok(()),
    }
}

/// Forbids further user namespaces below this one, for good: the file is out of reach afterwards.
/// Tells why that is not possible, where the host shows its settings read-only or not at all.
pub(super) fn forbid_nesting() -> Result<Option<String>, String> {
    let written = OpenOptions::new()
        .write(true)
        .open(NESTING)
        .and_then(|mut file| file.write_all(b"0"));
    if let Err(error) = written {
        return Ok(Some(format!("`{NESTING}`: {error}")));
    }
    match unshare(CloneFlags::CLONE_NEWUSER) {
        Err(_) => Ok(None),
        Ok(()) => Err("a second user namespace could be made".to_owned()),
    }
}

/// Fixed names, as a build can print them into a binary.
pub(super) fn set_names() -> Result<(), String> {
    sethostname(place::HOST_NAME).map_err(|e| format!("sethostname: {e}"))?;
    sys::set_domain_name(c"").map_err(|e| format!("setdomainname: {e}"))
}
