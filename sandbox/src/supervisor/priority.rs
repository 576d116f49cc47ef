//! How little processor time a cell gets beside others: a build must not make the service slow.
//!
//! Called when a cell's set-up is over, before the job is executed. Not before: on a busy machine
//! the rest of the set-up would wait as long as a build does.

use std::{fs::OpenOptions, io, io::Write as _, path::Path};

use crate::{sys::process, wire::NotInForce};

/// Among the processes of its session: the least that there is (sched(7)).
const NICE: i32 = 19;
/// Of a cell's session beside others: a fifth of what each of them gets (`sched_prio_to_weight` of
/// the kernel), as the control group of a cell has it where there is one.
const SESSION_NICE: i32 = 7;
/// Whether each session is a group that gets as much as any other one, whatever its processes'
/// nice values are (sched(7), "The autogroup feature"); a cell is a session. Kernels without have
/// no such file.
const AUTOGROUP: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// Lowers the first process of a cell, of which all others will inherit it, and its session. Tells
/// what is not in force.
///
/// # Errors
/// When not even the process can be lowered.
pub(super) fn lower(pid: i32) -> io::Result<Option<NotInForce>> {
    process::set_nice(pid, NICE)?;
    if !Path::new(AUTOGROUP).exists() {
        return Ok(None);
    }
    let file = format!("/proc/{pid}/autogroup");
    let opened = OpenOptions::new().write(true).open(&file);
    let written = opened.and_then(|mut file| file.write_all(SESSION_NICE.to_string().as_bytes()));
    Ok(match written {
        Ok(()) => None,
        // Sessions are no groups: switched off, at the start of the kernel or since.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => None,
        Err(error) => Some(NotInForce {
            what: "less processor time than other sessions".to_owned(),
            why: format!("`{file}`: {error}"),
        }),
    })
}
