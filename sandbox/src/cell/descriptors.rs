//! Nothing open but the three standard streams, and the talk until `execve` closes it.

use std::os::fd::{AsFd, AsRawFd};

use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open},
    sys::stat::Mode,
};

use super::{Plan, place, talk::Talk};
use crate::sys;

/// Number of the talk's socket, after the standard streams.
pub(crate) const TALK: i32 = 3;

/// Every value that owned a descriptor is dead after this, and must not be dropped.
pub(super) fn close(plan: &Plan, talk: &mut Talk) -> Result<(), String> {
    let null = open(
        place::NULL,
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let null = null.map_err(|e| format!("`{}`: {e}", place::NULL))?;
    if null.as_raw_fd() < TALK || plan.output.as_raw_fd() < TALK {
        return Err("a standard stream was closed".to_owned());
    }
    let text = |e: std::io::Error| e.to_string();
    sys::place(null.as_fd(), 0).map_err(text)?;
    sys::place(plan.output.as_fd(), 1).map_err(text)?;
    sys::place(plan.output.as_fd(), 2).map_err(text)?;
    sys::place(talk.as_fd(), TALK).map_err(text)?; // last: the number may have been one of those
    std::mem::forget(null);
    talk.renumber(TALK);
    let close = FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC);
    fcntl(talk.as_fd(), close).map_err(|e| e.to_string())?;
    sys::close_from(TALK + 1).map_err(text)
}
