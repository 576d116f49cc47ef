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

/// All sockets as the service takes them; the last one with the address where it sends visitors.
pub(super) fn listeners(
    public: TcpListener,
    admin: TcpListener,
    redirect: Option<(TcpListener, String)>,
) -> io::Result<Listeners> {
    let redirect = redirect.map(|(listener, to)| tokio_listener(listener).map(|one| (one, to)));
    Ok(Listeners {
        public: tokio_listener(public)?,
        admin: Some(tokio_listener(admin)?),
        redirect: redirect.transpose()?,
    })
}

/// Where others reach the service. Without a slash at the end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Its own address: with TLS by the name that stands in the certificate.
    pub(super) url: String,
    /// What other instances are told.
    pub(super) announced: String,
    /// Whether a reverse proxy seems to stand in front of it.
    pub(super) by_proxy: bool,
}

impl Reach {
    pub(super) fn of(name: &str, address: SocketAddr, has_tls: bool) -> Self {
        let url = match (has_tls, address.port()) {
            (false, _) => format!("http://{address}"),
            (true, 443) => format!("https://{name}"),
            (true, port) => format!("https://{name}:{port}"),
        };
        let by_proxy = name.contains('.') && address.ip().is_loopback();
        let announced = if by_proxy && !has_tls {
            format!("https://{name}")
        } else {
            url.clone()
        };
        Self {
            url,
            announced,
            by_proxy,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_reached_by_its_address_and_with_tls_by_its_name() {
        let (inside, outside) = ("127.0.0.1:8000", "192.0.2.1:443");
        for (name, address, has_tls, url, announced, by_proxy) in [
            (
                "localhost",
                inside,
                false,
                "http://127.0.0.1:8000",
                "",
                false,
            ),
            (
                "a.example",
                inside,
                false,
                "http://127.0.0.1:8000",
                "https://a.example",
                true,
            ),
            (
                "a.example",
                outside,
                false,
                "http://192.0.2.1:443",
                "",
                false,
            ),
            ("a.example", outside, true, "https://a.example", "", false),
            (
                "a.example",
                inside,
                true,
                "https://a.example:8000",
                "",
                true,
            ),
            (
                "localhost",
                inside,
                true,
                "https://localhost:8000",
                "",
                false,
            ),
        ] {
            let reach = Reach::of(name, address.parse().unwrap(), has_tls);
            assert_eq!(reach.url, url);
            let wanted = if announced.is_empty() { url } else { announced };
            assert_eq!(reach.announced, wanted);
            assert_eq!(reach.by_proxy, by_proxy);
        }
    }
}
