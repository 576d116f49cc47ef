//! Attempts to reach anybody: addresses, other kinds of sockets, the relay as an open proxy.

use core::ffi::CStr;

use crate::{
    Outcome::{self, Refused, RelayRefused, Through, Unable},
    kernel::{Args, call},
    numbers as nr,
    surface::{done, judge, tcp},
};

/// The relay's port.
const RELAY: usize = 8080;

/// Connects a TCP socket to an IPv4 address.
pub fn connect(address: [u8; 4], port: usize) -> Outcome {
    done(connected(address, port).map_or_else(|errno| errno, |_| 0))
}

/// The same with a port that the host named.
pub fn connect_given(address: [u8; 4], args: &Args, name: &str) -> Outcome {
    match args.number(name) {
        0 => Unable,
        port => connect(address, port),
    }
}

/// Asks for a connection without waiting for it: somebody who drops it leaves no other answer.
fn connected(address: [u8; 4], port: usize) -> Result<usize, isize> {
    const NONBLOCK: usize = 0o4000;
    let fd = call(nr::SOCKET, [2, 1 | NONBLOCK, 0, 0, 0, 0]);
    if fd < 0 {
        return Err(fd);
    }
    let to = internet(address, port);
    let result = call(
        nr::CONNECT,
        [fd as usize, to.as_ptr().addr(), to.len(), 0, 0, 0],
    );
    match result {
        0 => Ok(fd as usize),
        -115 if ready(fd as usize, 4, 2000) => {
            // EINPROGRESS: SO_ERROR of SOL_SOCKET says how it went.
            let (mut error, mut length) = (0_u32, 4_u32);
            let places = [(&raw mut error).addr(), (&raw mut length).addr()];
            call(nr::GETSOCKOPT, [fd as usize, 1, 4, places[0], places[1], 0]);
            if error == 0 {
                Ok(fd as usize)
            } else {
                Err(-(error as isize))
            }
        }
        -115 => Err(-110), // nobody answered: ETIMEDOUT
        other => Err(other),
    }
}

/// `struct sockaddr_in`
fn internet(address: [u8; 4], port: usize) -> [u8; 16] {
    let mut to = [0; 16];
    to[0] = 2; // AF_INET
    to[2..4].copy_from_slice(&(port as u16).to_be_bytes());
    to[4..8].copy_from_slice(&address);
    to
}

/// A datagram to a port of the host.
pub fn datagram(args: &Args) -> Outcome {
    let fd = call(nr::SOCKET, [2, 2, 0, 0, 0, 0]);
    if fd < 0 {
        return Refused(-fd as i32);
    }
    let to = internet([127, 0, 0, 1], args.number("udp4"));
    let result = call(
        nr::CONNECT,
        [fd as usize, to.as_ptr().addr(), to.len(), 0, 0, 0],
    );
    if result < 0 {
        return Refused(-result as i32);
    }
    done(call(
        nr::WRITE,
        [fd as usize, to.as_ptr().addr(), 1, 0, 0, 0],
    ))
}

/// IPv6 loopback.
pub fn connect6(args: &Args) -> Outcome {
    let fd = call(nr::SOCKET, [10, 1, 0, 0, 0, 0]);
    if fd < 0 {
        return Refused(-fd as i32);
    }
    let mut to = [0_u8; 28]; // struct sockaddr_in6
    to[0] = 10;
    to[2..4].copy_from_slice(&(args.number("tcp6") as u16).to_be_bytes());
    to[23] = 1;
    done(call(
        nr::CONNECT,
        [fd as usize, to.as_ptr().addr(), to.len(), 0, 0, 0],
    ))
}

/// A socket in the file system, or with an abstract name.
pub fn connect_unix(args: &Args, name: &str, is_abstract: bool) -> Outcome {
    let Some(path) = args.value(name) else {
        return Unable;
    };
    let fd = call(nr::SOCKET, [1, 1, 0, 0, 0, 0]);
    if fd < 0 {
        return Refused(-fd as i32);
    }
    let mut to = [0_u8; 110]; // struct sockaddr_un
    to[0] = 1;
    let start = if is_abstract { 3 } else { 2 };
    let text = path.to_bytes();
    let length = text.len().min(100);
    to[start..][..length].copy_from_slice(&text[..length]);
    done(call(
        nr::CONNECT,
        [fd as usize, to.as_ptr().addr(), start + length, 0, 0, 0],
    ))
}

/// An address of another family on a TCP socket.
pub fn confused(args: &Args) -> Outcome {
    let fd = tcp();
    let mut to = [0_u8; 110];
    to[0] = 1;
    if let Some(name) = args.value("abstract") {
        let length = name.to_bytes().len().min(100);
        to[3..][..length].copy_from_slice(&name.to_bytes()[..length]);
    }
    done(call(
        nr::CONNECT,
        [fd as usize, to.as_ptr().addr(), 40, 0, 0, 0],
    ))
}

/// Takes connections from others.
pub fn listens(step: usize) -> Outcome {
    let fd = tcp();
    if fd < 0 {
        return Unable;
    }
    let to = internet([0; 4], 0);
    judge(call(
        step,
        [fd as usize, to.as_ptr().addr(), to.len(), 0, 0, 0],
    ))
}

/// Data together with the request for a connection, which Landlock does not see as a connection.
pub fn fast_open(args: &Args) -> Outcome {
    const FAST_OPEN: usize = 0x2000_0000;
    let fd = tcp();
    let to = internet([127, 0, 0, 1], args.number("tcp4"));
    let place = to.as_ptr().addr();
    judge(call(
        nr::SENDTO,
        [fd as usize, place, 1, FAST_OPEN, place, to.len()],
    ))
}

/// Sends bytes to the relay; any answer of success counts.
pub fn relay(request: &[u8]) -> Outcome {
    relay_parts(&[request])
}

/// The same, put together from parts.
pub fn relay_parts(parts: &[&[u8]]) -> Outcome {
    // A relay that closes while we still send is a refusal, and no reason to die.
    let ignore = [1_usize, 0, 0, 0]; // struct kernel_sigaction: SIG_IGN
    call(nr::RT_SIGACTION, [13, ignore.as_ptr().addr(), 0, 8, 0, 0]); // SIGPIPE
    let fd = match connected([127, 0, 0, 1], RELAY) {
        Ok(fd) => fd,
        Err(errno) => return Refused(-errno as i32),
    };
    for part in parts {
        let mut sent = 0;
        while sent < part.len() {
            if !ready(fd, 4, 3000) {
                break; // it reads no more
            }
            let rest = &part[sent..];
            let count = call(nr::WRITE, [fd, rest.as_ptr().addr(), rest.len(), 0, 0, 0]);
            if count <= 0 {
                break;
            }
            sent += count as usize;
        }
    }
    let mut answer = [0_u8; 2048];
    let mut length = 0;
    while length < answer.len() && ready(fd, 1, 1000) {
        let rest = &mut answer[length..];
        let count = call(
            nr::READ,
            [fd, rest.as_mut_ptr().addr(), rest.len(), 0, 0, 0],
        );
        if count <= 0 {
            break;
        }
        length += count as usize;
    }
    let success = |window: &[u8]| window.starts_with(b"HTTP/1.") && window[9] == b'2';
    if answer[..length].windows(10).any(success) {
        Through
    } else {
        RelayRefused
    }
}

/// Asks the relay for an address of the host, in the form that open proxies take.
pub fn relay_absolute(args: &Args, method: &[u8], scheme: &[u8]) -> Outcome {
    let Some(port) = args.value("tcp4").map(CStr::to_bytes) else {
        return Unable;
    };
    let path: &[u8] = if scheme.is_empty() {
        b""
    } else {
        b"/x/@v/list"
    };
    let host: &[u8] = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    relay_parts(&[method, b" ", scheme, b"127.0.0.1:", port, path, host])
}

/// One long head.
pub fn relay_long() -> Outcome {
    let long = [b'a'; 8192];
    relay_parts(&[
        b"GET /",
        &long,
        &long,
        &long,
        b"/@v/list HTTP/1.1\r\nHost: x\r\n\r\n",
    ])
}

/// Whether a descriptor can be read (1) or written (4) within a time.
fn ready(fd: usize, what: u32, time_ms: usize) -> bool {
    let poller = call(nr::EPOLL_CREATE1, [0; 6]);
    if poller < 0 {
        return false;
    }
    // struct epoll_event is packed: four bytes of flags, eight of data.
    let mut event = [what, 0, 0];
    let place = event.as_mut_ptr().addr();
    call(nr::EPOLL_CTL, [poller as usize, 1, fd, place, 0, 0]);
    let found = call(nr::EPOLL_PWAIT, [poller as usize, place, 1, time_ms, 0, 0]);
    call(nr::CLOSE, [poller as usize, 0, 0, 0, 0, 0]);
    found > 0
}
