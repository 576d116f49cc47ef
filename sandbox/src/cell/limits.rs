//! Limits that the kernel keeps for each process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::policy::Limits;

/// Room for one main thread's stack; the kernel's usual value.
const STACK_BYTES: u64 = 8 * 1024 * 1024;

pub(super) fn install(limits: &Limits) -> Result<(), String> {
    for (resource, value) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
        (Resource::RLIMIT_MSGQUEUE, 0),
        (Resource::RLIMIT_STACK, STACK_BYTES),
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_NOFILE, limits.files),
        (Resource::RLIMIT_FSIZE, limits.file_bytes),
        (Resource::RLIMIT_DATA, limits.memory_bytes),
        (Resource::RLIMIT_CPU, limits.cpu_s),
    ] {
        let (_, hard) = getrlimit(resource).map_err(|e| format!("{resource:?}: {e}"))?;
        let value = value.min(hard); // what the host allows us may be less
        setrlimit(resource, value, value).map_err(|e| format!("{resource:?}: {e}"))?;
    }
    Ok(())
}
