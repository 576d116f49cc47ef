//! Roles that a service manager starts, one unit each: how they and `serve` find each other.
//!
//! The manager makes a `SOCK_SEQPACKET` socket for each role in a folder that only it writes, owned
//! by the user of `serve`, and starts the role at the first connection (`sd_listen_fds(3)`,
//! `systemd.socket(5)` with `Accept=no`). The role takes that one connection and ends with it. It
//! must never speak with anybody but the socket's owner.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use hotcell_sandbox::{channel::Channel, inherit};
use nix::{
    sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockname, getsockopt, socket,
        sockopt,
    },
    unistd::geteuid,
};

/// First number of the sockets that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;

/// Why a role and `serve` do not find each other.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Not started by a service manager, or with other sockets than the one.
    #[error("no socket was passed: {0}")]
    Passed(&'static str),
    /// Others than its owner could connect.
    #[error("the socket `{}` is open to others: {why}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// Somebody else is at the other end.
    #[error("user {found} is at the other end, not user {wanted}")]
    Peer {
        /// Who is there.
        found: u32,
        /// Who must be.
        wanted: u32,
    },
    /// The kernel refused.
    #[error("cannot use the socket of role `{role}`")]
    Io {
        /// Which role.
        role: String,
        /// Why.
        source: io::Error,
    },
}

/// Takes the one connection of this role.
///
/// # Errors
/// See [`SocketError`]; nothing was received then.
pub(super) fn accept(role: &str) -> Result<Channel, SocketError> {
    let variable = |name| std::env::var(name).ok();
    if variable("LISTEN_PID") != Some(std::process::id().to_string()) {
        return Err(SocketError::Passed("LISTEN_PID is not this process"));
    }
    if variable("LISTEN_FDS").as_deref() != Some("1") {
        return Err(SocketError::Passed("LISTEN_FDS is not 1"));
    }
    let io = |source: io::Error| SocketError::Io {
        role: role.to_owned(),
        source,
    };
    let listener = inherit::take(FIRST).map_err(io)?;
    accept_on(&listener).map_err(|error| match error {
        Refused::Io(source) => io(source),
        Refused::Socket(error) => error,
    })
}

enum Refused {
    Io(io::Error),
    Socket(SocketError),
}

impl<E: Into<io::Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Io(error.into())
    }
}

fn accept_on(listener: &OwnedFd) -> Result<Channel, Refused> {
    if getsockopt(listener, sockopt::SockType)? != SockType::SeqPacket {
        let error = SocketError::Passed("it is no SOCK_SEQPACKET socket");
        return Err(Refused::Socket(error));
    }
    let address: UnixAddr = getsockname(listener.as_raw_fd())?;
    let Some(path) = address.path() else {
        let error = SocketError::Passed("it has no path");
        return Err(Refused::Socket(error));
    };
    let meta = std::fs::symlink_metadata(path)?;
    if meta.mode() & 0o077 != 0 {
        return Err(Refused::Socket(SocketError::Open {
            path: path.to_owned(),
            why: format!("its mode is {:o}, not 600", meta.mode() & 0o777),
        }));
    }
    let accepted = Channel::accept(listener.as_fd())?;
    // Root can connect whatever the mode, and must not: the one peer is the user of `serve`.
    let found = getsockopt(&accepted, sockopt::PeerCredentials)?.uid();
    let wanted = meta.uid();
    if found != wanted {
        return Err(Refused::Socket(SocketError::Peer { found, wanted }));
    }
    Ok(accepted)
}

/// Connects to a role through its socket in `folder`, called as the role.
///
/// # Errors
/// See [`SocketError`].
pub fn connect_to(folder: &Path, role: &str) -> Result<Channel, SocketError> {
    let path = folder.join(role);
    let io = |source: io::Error| SocketError::Io {
        role: role.to_owned(),
        source,
    };
    let connected = || -> nix::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&path)?)?;
        Ok(socket)
    };
    let socket = connected().map_err(|errno| io(errno.into()))?;
    // Whoever made the socket: the service manager, or in tests this user.
    let made = getsockopt(&socket, sockopt::PeerCredentials);
    let found = made.map_err(|errno| io(errno.into()))?.uid();
    let wanted = geteuid().as_raw();
    if found != 0 && found != wanted {
        return Err(SocketError::Peer { found, wanted });
    }
    Ok(Channel::from(socket))
}

/// A copy of a role's socket, to see when the role ends and to end it: the connection is over for
/// both ends as soon as one of them says so.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl Line {
    /// A copy of a channel's socket.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub fn of(channel: &Channel) -> io::Result<Self> {
        Ok(Self(channel.as_fd().try_clone_to_owned()?))
    }

    /// Waits until the connection is over.
    pub fn wait(&self) {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        loop {
            let mut one = [PollFd::new(self.0.as_fd(), PollFlags::POLLHUP)];
            match poll(&mut one, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Ends the connection.
    pub fn end(&self) {
        use nix::sys::socket::{Shutdown, shutdown};
        // One that is over already needs no end.
        let _over = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

/// The current folder, as the descriptor that a role is confined to.
pub(super) fn here() -> io::Result<File> {
    File::open(".")
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use nix::sys::socket::{Backlog, bind, listen};

    use super::*;

    fn listener(path: &Path, kind: SockType, mode: u32) -> OwnedFd {
        let flags = SockFlag::SOCK_CLOEXEC;
        let made = socket(AddressFamily::Unix, kind, flags, None).unwrap();
        bind(made.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        listen(&made, Backlog::new(1).unwrap()).unwrap();
        made
    }

    #[test]
    fn the_owner_of_the_socket_is_spoken_with() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listener(&folder.path().join("sign"), SockType::SeqPacket, 0o600);
        let asker = connect_to(folder.path(), "sign").unwrap();
        let Ok(role) = accept_on(&listener) else {
            panic!("refused");
        };
        asker.send_start(&7).unwrap();
        assert_eq!(role.receive_start::<u32>().unwrap(), Some(7));
        let line = Line::of(&asker).unwrap();
        let waiting = std::thread::spawn({
            let line = Line::of(&asker).unwrap();
            move || line.wait()
        });
        line.end();
        waiting.join().unwrap();
        assert!(role.receive::<u32>().unwrap().is_none());
    }

    #[test]
    fn sockets_for_everybody_and_of_another_kind_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, kind, mode) in [
            ("open", SockType::SeqPacket, 0o666),
            ("group", SockType::SeqPacket, 0o620),
            ("stream", SockType::Stream, 0o600),
        ] {
            let listener = listener(&folder.path().join(name), kind, mode);
            let refused = accept_on(&listener);
            assert!(matches!(refused, Err(Refused::Socket(_))), "{name}");
        }
    }

    #[test]
    fn another_user_than_the_owner_is_refused_even_root() {
        if !nix::unistd::geteuid().is_root() {
            return; // only root can give a socket away
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sign");
        let listener = listener(&path, SockType::SeqPacket, 0o600);
        std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
        let _asker = connect_to(folder.path(), "sign").unwrap();
        let refused = accept_on(&listener);
        let expected = SocketError::Peer {
            found: 0,
            wanted: 54_321,
        }
        .to_string();
        match refused {
            Err(Refused::Socket(error)) => assert_eq!(error.to_string(), expected),
            _ => panic!("accepted"),
        }
    }

    #[test]
    fn nothing_is_taken_that_was_not_passed() {
        assert!(matches!(accept("sign"), Err(SocketError::Passed(_))));
    }
}
