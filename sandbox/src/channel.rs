//! A `SOCK_SEQPACKET` socket that carries one JSON message with its descriptors per datagram.
//!
//! Used between all roles. A message that is too long, carries too many descriptors or does not
//! parse is an error of the channel: the receiver closes it, it never guesses.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, accept4,
        recvmsg, sendmsg, setsockopt, socketpair, sockopt,
    },
    sys::time::TimeVal,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::wire::{DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, VERSION};

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The socket failed; nothing is known about the last message.
    #[error("channel failed")]
    Io(#[source] io::Error),
    /// Nothing is waiting, or the buffer is full; only on a non-blocking socket.
    #[error("channel would block")]
    WouldBlock,
    /// The message is longer than [`MESSAGE_BYTES_MAX`] or carries too many descriptors.
    #[error("message is too long or carries too many descriptors")]
    TooLong,
    /// The bytes are no message of the expected type.
    #[error("message does not parse")]
    Parse(#[source] serde_json::Error),
    /// The peer is of another release. Nothing but its version was looked at.
    #[error(
        "the peer speaks version {theirs} of the messages between roles, this program version \
         {VERSION}: after an upgrade the whole service must be restarted"
    )]
    Version {
        /// What the peer speaks.
        theirs: u32,
    },
}

/// The first message on a role's socket. These two names stay as they are in every version.
#[derive(Serialize, Deserialize)]
struct Hello<T> {
    version: u32,
    start: T,
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EAGAIN => Self::WouldBlock,
            Errno::EMSGSIZE => Self::TooLong,
            other => Self::Io(other.into()),
        }
    }
}

/// One end of a socket pair.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Makes two connected ends, both closed on exec and blocking.
    ///
    /// # Errors
    /// When the kernel has no more sockets for us.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    /// Takes the next connection of a listening socket.
    ///
    /// # Errors
    /// When the socket does not listen, or the kernel has no more descriptors for us.
    pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Self> {
        let socket = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        Ok(Self {
            socket: crate::sys::own(socket),
        })
    }

    /// Sends the first message to a role: our version, and how it is to run.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub fn send_start<T: Serialize>(&self, start: &T) -> Result<(), ChannelError> {
        let version = VERSION;
        self.send(&Hello { version, start }, &[])
    }

    /// Receives the first message of a role; `None` when the starter has closed its end.
    ///
    /// # Errors
    /// [`ChannelError::Version`] when the starter is of another release; else see
    /// [`ChannelError`].
    pub fn receive_start<T: DeserializeOwned>(&self) -> Result<Option<T>, ChannelError> {
        // What another version says in `start` need not be what this one can read.
        let Some((hello, _)) = self.receive::<Hello<serde_json::Value>>()? else {
            return Ok(None);
        };
        if hello.version != VERSION {
            let theirs = hello.version;
            return Err(ChannelError::Version { theirs });
        }
        let start = serde_json::from_value(hello.start).map_err(ChannelError::Parse)?;
        Ok(Some(start))
    }

    /// Sends one message with its descriptors, whole or not at all.
    ///
    /// # Errors
    /// [`ChannelError::TooLong`] before anything was sent; else the socket's error.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let text = serde_json::to_vec(message).map_err(ChannelError::Parse)?;
        if text.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(ChannelError::TooLong);
        }
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let parts = [IoSlice::new(&text)];
        // A peer that is gone is an error here, never a signal.
        let flags = MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &parts, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives one message; `None` when the peer has closed its end.
    ///
    /// # Errors
    /// See [`ChannelError`]. Descriptors of a message that does not parse are closed.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        // One byte more than the maximum: a message of that length is told from a longer one.
        let mut buffer = vec![0_u8; MESSAGE_BYTES_MAX + 1];
        let (length, descriptors, flags) = self.receive_raw(&mut buffer)?;
        if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC)
            || length > MESSAGE_BYTES_MAX
            || descriptors.len() > DESCRIPTORS_MAX
        {
            return Err(ChannelError::TooLong);
        }
        if length == 0 {
            return Ok(None); // no message is empty: this is the end
        }
        let message = serde_json::from_slice(&buffer[..length]).map_err(ChannelError::Parse)?;
        Ok(Some((message, descriptors)))
    }

    fn receive_raw(
        &self,
        buffer: &mut [u8],
    ) -> Result<(usize, Vec<OwnedFd>, MsgFlags), ChannelError> {
        let mut space = cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Ok(message) => break message,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let mut descriptors = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                descriptors.extend(raw.into_iter().map(crate::sys::own));
            }
        }
        Ok((message.bytes, descriptors, message.flags))
    }

    /// Ends every wait for the peer after `time_max`, as [`ChannelError::WouldBlock`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_time_max(&self, time_max: Duration) -> io::Result<()> {
        let time = TimeVal::new(i64::try_from(time_max.as_secs()).unwrap_or(i64::MAX), 0);
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &time)?;
        setsockopt(&self.socket, sockopt::SendTimeout, &time)?;
        Ok(())
    }

    /// Makes every operation return at once, for use with an event loop.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&self.socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.socket
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read};

    use super::*;

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (left, right) = Channel::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        left.send(&"text", &[file.as_fd()]).unwrap();
        let (message, mut fds) = right.receive::<String>().unwrap().unwrap();
        assert_eq!(message, "text");
        let mut file = File::from(fds.remove(0));
        assert_eq!(file.read(&mut [0; 1]).unwrap(), 0);
        assert!(fds.is_empty());
    }

    #[test]
    fn a_closed_peer_is_the_end() {
        let (left, right) = Channel::pair().unwrap();
        drop(left);
        assert!(right.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn too_long_and_garbage_are_refused() {
        let (left, right) = Channel::pair().unwrap();
        let long = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(matches!(left.send(&long, &[]), Err(ChannelError::TooLong)));
        left.send(&7, &[]).unwrap();
        assert!(matches!(
            right.receive::<String>(),
            Err(ChannelError::Parse(_))
        ));
    }

    #[test]
    fn a_starter_of_another_release_is_refused_whatever_else_it_says() {
        let (left, right) = Channel::pair().unwrap();
        left.send_start(&7).unwrap();
        assert_eq!(right.receive_start::<u32>().unwrap(), Some(7));
        for theirs in [0, VERSION + 1, u32::MAX] {
            let start =
                serde_json::json!({"version": theirs, "start": {"no": "number"}, "more": 1});
            left.send(&start, &[]).unwrap();
            let refused = right.receive_start::<u32>().unwrap_err();
            assert!(matches!(refused, ChannelError::Version { theirs: said } if said == theirs));
        }
        left.send(&7, &[]).unwrap(); // the first message of a release that had no version
        let refused = right.receive_start::<u32>();
        assert!(matches!(refused, Err(ChannelError::Parse(_))));
        drop(left);
        assert_eq!(right.receive_start::<u32>().unwrap(), None);
    }

    #[test]
    fn a_wait_for_a_silent_peer_ends() {
        let (_left, right) = Channel::pair().unwrap();
        right.set_time_max(Duration::from_secs(1)).unwrap();
        let waited = right.receive::<u32>();
        assert!(matches!(waited, Err(ChannelError::WouldBlock)));
    }

    #[test]
    fn an_empty_nonblocking_channel_would_block() {
        let (_left, right) = Channel::pair().unwrap();
        right.set_nonblocking().unwrap();
        assert!(matches!(
            right.receive::<String>(),
            Err(ChannelError::WouldBlock)
        ));
    }
}
