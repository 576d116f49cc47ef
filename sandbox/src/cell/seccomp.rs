//! The last lock: system calls.

use std::{io, os::fd::OwnedFd};

use crate::{policy::filter::Programs, sys::seccomp};

/// Installs the programs of a policy; afterwards this process can do what the job can, no more.
pub(super) fn install(programs: &Programs) -> Result<OwnedFd, io::Error> {
    for program in &programs.errors {
        seccomp::install(program)?;
    }
    seccomp::install_with_listener(&programs.main)
}
