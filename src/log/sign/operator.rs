//! What only the operator asks of the role `sign`, one that he has started himself.
//!
//! Called by `hotcell log keygen`, `init` and `succeed`. It must never be given the socket of a
//! role that `serve` asks: that one refuses.

use hotcell_sandbox::channel::Channel;

use super::{
    RemoteSigner,
    remote::Line,
    wire::{Answer, Ask},
};
use crate::{
    log::{Kept, SignError},
    tlog::VerifierKey,
};

/// The role, before it has opened a key.
#[derive(Debug)]
pub struct Operator(Line);

impl Operator {
    /// At the other end of this socket.
    ///
    /// # Errors
    /// When the socket is none.
    pub fn new(channel: Channel) -> Result<Self, SignError> {
        Line::new(channel).map(Self)
    }

    /// All keys in the role's folder.
    ///
    /// # Errors
    /// When the folder cannot be read, or holds too many.
    pub fn keys(&mut self) -> Result<Vec<Kept>, SignError> {
        match self.0.ask(&Ask::Keys)? {
            Answer::Keys { kept } => Ok(kept),
            other => Err(other.error()),
        }
    }

    /// Makes a key that no log has yet.
    ///
    /// # Errors
    /// [`SignError::Taken`] when there is any key of this name.
    pub fn generate(self, name: &str) -> Result<RemoteSigner, SignError> {
        let name = name.to_owned();
        self.opened(&Ask::Generate { name }, None)
    }

    /// The keys for a log that has nothing yet: unused ones of this name, else new ones.
    ///
    /// # Errors
    /// [`SignError::Taken`] when a key of this name has a past.
    pub fn begin(self, name: &str) -> Result<RemoteSigner, SignError> {
        let ask = Ask::Create {
            name: name.to_owned(),
            beside: false,
        };
        self.opened(&ask, None)
    }

    /// Opens a key.
    ///
    /// # Errors
    /// When there is no such key, or another process uses it.
    pub fn open(self, key: &VerifierKey) -> Result<RemoteSigner, SignError> {
        let ask = Ask::Open {
            key: key.to_string(),
        };
        self.opened(&ask, Some(key))
    }

    fn opened(self, ask: &Ask, key: Option<&VerifierKey>) -> Result<RemoteSigner, SignError> {
        let mut line = self.0;
        match line.ask(ask)? {
            Answer::Opened {
                key: opened,
                statement_key,
            } => RemoteSigner::opened(line, key, &opened, &statement_key),
            Answer::None => Err(SignError::StateLost {
                what: "there is no such key".to_owned(),
            }),
            other => Err(other.error()),
        }
    }
}
