//! The cell's network: a loopback device, and one listener that is handed out to the relay.
//!
//! A socket stays in the network namespace in which it was made, so the relay accepts from outside
//! what the job connects to inside; nothing else can be reached.

use std::os::fd::OwnedFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen as start, socket,
};

use super::place::RELAY_PORT;
use crate::sys;

/// Connections that wait to be accepted; the relay holds at most as many.
const BACKLOG: i32 = 64;

pub(super) fn listen() -> Result<OwnedFd, String> {
    let tcp = |flags| socket(AddressFamily::Inet, SockType::Stream, flags, None);
    let socket = tcp(SockFlag::SOCK_CLOEXEC).map_err(|e| format!("socket: {e}"))?;
    sys::loopback_up(std::os::fd::AsFd::as_fd(&socket)).map_err(|e| format!("lo: {e}"))?;
    let address = SockaddrIn::new(127, 0, 0, 1, RELAY_PORT);
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).map_err(|e| format!("bind: {e}"))?;
    let backlog = Backlog::new(BACKLOG).map_err(|e| e.to_string())?;
    start(&socket, backlog).map_err(|e| format!("listen: {e}"))?;
    Ok(socket)
}
