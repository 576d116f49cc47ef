//! [`Channel`] for tokio: the same messages, without blocking the event loop.

use std::os::fd::{BorrowedFd, OwnedFd};

use hotcell_sandbox::channel::{Channel, ChannelError};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::unix::AsyncFd;

/// One end of a socket pair, driven by the runtime that it was made in.
///
/// Any number of tasks may send at the same time, as each message is one datagram; one task
/// receives.
#[derive(Debug)]
pub struct AsyncChannel {
    socket: AsyncFd<Channel>,
}

impl AsyncChannel {
    /// Takes over one end.
    ///
    /// # Errors
    /// When the descriptor cannot be watched. Must be called within a tokio runtime.
    #[expect(
        deprecated,
        reason = "a Channel owns its descriptor, which is all that the unsafe successor asks for"
    )]
    pub fn new(channel: Channel) -> std::io::Result<Self> {
        channel.set_nonblocking()?;
        Ok(Self {
            socket: AsyncFd::new(channel)?,
        })
    }

    /// Sends one message with its descriptors; waits while the peer's queue is full.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn send<T: Serialize + Sync>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        loop {
            let mut ready = self.socket.writable().await.map_err(ChannelError::Io)?;
            match self.socket.get_ref().send(message, descriptors) {
                Err(ChannelError::WouldBlock) => ready.clear_ready(),
                result => return result,
            }
        }
    }

    /// Receives one message; `None` when the peer has closed its end.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub async fn receive<T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        loop {
            let mut ready = self.socket.readable().await.map_err(ChannelError::Io)?;
            match self.socket.get_ref().receive() {
                Err(ChannelError::WouldBlock) => ready.clear_ready(),
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_cross_in_order_until_the_peer_closes() {
        let (left, right) = Channel::pair().unwrap();
        let (left, right) = (
            AsyncChannel::new(left).unwrap(),
            AsyncChannel::new(right).unwrap(),
        );
        let sent = tokio::spawn(async move {
            for number in 0..2000_u32 {
                left.send(&number, &[]).await.unwrap();
            }
        });
        for number in 0..2000_u32 {
            assert_eq!(right.receive::<u32>().await.unwrap().unwrap().0, number);
        }
        sent.await.unwrap();
        assert!(right.receive::<u32>().await.unwrap().is_none());
    }
}
