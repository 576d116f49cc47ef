//! Limits that the kernel keeps for each process.

use nix::{
    sched::sched_setaffinity,
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};

use super::Plan;

/// Room for one main thread's stack; the kernel's usual value.
const STACK_BYTES: u64 = 8 * 1024 * 1024;
/// No file is written below a page, and no program of the host is started for a dump: with zero it
/// would be, where `core_pattern` names one (`coredump_pipe` of the kernel's fs/coredump.c).
pub(crate) const CORE_BYTES: u64 = 1;

pub(super) fn install(plan: &Plan) -> Result<(), String> {
    let limits = plan.policy.limits();
    sched_setaffinity(Pid::from_raw(0), &plan.processors)
        .map_err(|e| format!("processors: {e}"))?;
    for (resource, value, more) in [
        (Resource::RLIMIT_CORE, CORE_BYTES, 0),
        (Resource::RLIMIT_MEMLOCK, 0, 0),
        (Resource::RLIMIT_MSGQUEUE, 0, 0),
        (Resource::RLIMIT_STACK, STACK_BYTES, 0),
        // One more than the control group allows, which counts what it refuses: this does not.
        (Resource::RLIMIT_NPROC, limits.processes + 1, 0),
        (Resource::RLIMIT_NOFILE, limits.files, 0),
        (Resource::RLIMIT_FSIZE, limits.file_bytes, 0),
        (Resource::RLIMIT_DATA, limits.memory_bytes, 0),
        // A second later SIGKILL follows; SIGXCPU before says what it was for.
        (Resource::RLIMIT_CPU, limits.cpu_s, 1),
    ] {
        let (_, hard) = getrlimit(resource).map_err(|e| format!("{resource:?}: {e}"))?;
        let value = value.min(hard); // what the host allows us may be less
        let hard = (value + more).min(hard);
        setrlimit(resource, value, hard).map_err(|e| format!("{resource:?}: {e}"))?;
    }
    Ok(())
}
