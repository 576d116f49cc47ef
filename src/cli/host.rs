//! What a service takes of its host: sockets, descriptors, room for builds.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::Stop;
use crate::serve::Listeners;

/// Memory that one build is given room for when builds at a time are chosen, in bytes.
const BUILD_BYTES: u64 = 4 << 30;

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, Stop> {
    let bound = TcpListener::bind(address);
    bound.map_err(|error| {
        Stop::new(Stop::USAGE, format!("cannot listen on {address}: {error}"))
            .hint("another service may listen there; choose with --listen and --admin")
    })
}

pub(super) fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Both sockets as the service takes them.
pub(super) fn listeners(public: TcpListener, admin: TcpListener) -> io::Result<Listeners> {
    Ok(Listeners {
        public: tokio_listener(public)?,
        admin: Some(tokio_listener(admin)?),
    })
}

/// A connection, a download and a log entry each need a descriptor: takes all that this process may
/// have (the usual soft limit is 1,024).
pub(super) fn raise_open_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// One build for each 4 GiB, at most one for each processor.
pub(super) fn builds_max() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    let builds = memory.map_or(1, |kib| (kib << 10) / BUILD_BYTES);
    usize::try_from(builds).unwrap_or(1).clamp(1, processors)
}
