//! [`Signer`] for the log: asks the role `sign` over its socket.
//!
//! Called by the appender and, for statements and as a witness of other logs, by the service. One
//! question at a time; a socket on which anything went wrong is closed for good, as the next answer
//! could be that of an earlier question. Must never believe that something was signed without the
//! answer.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::channel::Channel;

use super::{
    Cosign, CosignError, Cosigned,
    wire::{Answer, Ask, Head, PART_BYTES_MAX},
};
use crate::{
    log::{Kept, SignError, SignedHead, Signer, list},
    tlog::{Hash, Tree, VerifierKey, WitnessKey, judge::Denied, witness::REQUEST_BYTES_MAX},
};

/// Longest wait for an answer: a head is synced to a disk twice, which may be a busy one.
const ANSWER_MAX: Duration = Duration::from_mins(1);

/// The keys of a log, held by another process.
#[derive(Debug)]
pub struct RemoteSigner {
    key: VerifierKey,
    statement_key: [u8; 32],
    line: Mutex<Line>,
}

/// The socket; nothing once it has failed.
#[derive(Debug)]
pub(super) struct Line(Option<Channel>);

impl Line {
    pub(super) fn new(channel: Channel) -> Result<Self, SignError> {
        channel.set_time_max(ANSWER_MAX).map_err(SignError::io)?;
        Ok(Self(Some(channel)))
    }

    pub(super) fn ask(&mut self, ask: &Ask) -> Result<Answer, SignError> {
        let channel = self.0.take().ok_or(SignError::Gone)?;
        let answer = channel.send(ask, &[]).and_then(|()| channel.receive());
        match answer {
            Ok(Some((answer, _))) => {
                self.0 = Some(channel);
                Ok(answer)
            }
            Ok(None) | Err(_) => Err(SignError::Gone),
        }
    }
}

impl RemoteSigner {
    /// Has the role open the state of `key`, or take unused or new keys called `name` when none is
    /// given; nothing when the role has no such key.
    pub fn connect(
        channel: Channel,
        key: Option<&VerifierKey>,
        name: &str,
    ) -> Result<Option<Self>, SignError> {
        let mut line = Line::new(channel)?;
        let create = |beside| Ask::Create {
            name: name.to_owned(),
            beside,
        };
        let open = |key: &VerifierKey| Ask::Open {
            key: key.to_string(),
        };
        let mut answer = line.ask(&key.map_or_else(|| create(false), open))?;
        // An empty data folder is a new log, whatever else is called so, unless that has ended.
        if let Answer::Taken { kept } = &answer
            && !kept.iter().any(Kept::is_succession)
        {
            tracing::warn!(
                "the data folder is empty: a new log begins. The signers' folder also has the key \
                 {}; if the data of that log is lost, stop, and bring it back with `hotcell log \
                 recover`, or end it with `hotcell log succeed`",
                list(kept)
            );
            answer = line.ask(&create(true))?;
        }
        match answer {
            Answer::Opened {
                key: opened,
                statement_key,
            } => Self::opened(line, key, &opened, &statement_key).map(Some),
            Answer::None if key.is_some() => Ok(None),
            other => Err(other.error()),
        }
    }

    /// With the keys that the role has opened.
    pub(super) fn opened(
        line: Line,
        key: Option<&VerifierKey>,
        opened: &str,
        statement_key: &str,
    ) -> Result<Self, SignError> {
        let lost = || SignError::StateLost {
            what: "the keys that it opened".to_owned(),
        };
        let opened = VerifierKey::parse(opened).map_err(|_| lost())?;
        if key.is_some_and(|key| *key != opened) {
            return Err(lost());
        }
        let statement_key = crate::spec::unhex(statement_key).ok_or_else(lost)?;
        Ok(Self {
            key: opened,
            statement_key,
            line: Mutex::new(line),
        })
    }

    /// The operator's: ends the log, which `next` follows, as [`crate::log::LocalSigner::end`].
    ///
    /// # Errors
    /// As there, and when the role was not started by the operator.
    pub fn end(&self, next: &VerifierKey) -> Result<(Tree, String), SignError> {
        let next = next.to_string();
        let answer = self.ask(&Ask::End { next })?;
        match &answer {
            Answer::End { head, checkpoint } if let Some(tree) = head.tree() => {
                Ok((tree, checkpoint.clone()))
            }
            _ => Err(answer.error()),
        }
    }

    /// Has the role be a witness of these logs from now on; can be asked once.
    ///
    /// # Errors
    /// [`SignError::Unfit`] when it cannot be theirs, and see [`SignError`].
    pub fn witness(&self, logs: &[VerifierKey]) -> Result<WitnessKey, SignError> {
        let logs = logs.iter().map(ToString::to_string).collect();
        match self.ask(&Ask::Witness { logs })? {
            Answer::Witness { key } => match WitnessKey::parse(&key) {
                Ok(key) => Ok(key),
                Err(_) => Err(Answer::Witness { key }.error()),
            },
            other => Err(other.error()),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Answer, SignError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.ask(ask)
    }
}

impl Cosign for RemoteSigner {
    fn cosign(&self, body: &str) -> Result<Cosigned, CosignError> {
        // A longer one might fit in no message, and one that cannot be sent ends the line.
        if body.len() > REQUEST_BYTES_MAX {
            return Err(CosignError::Denied(Denied::Malformed));
        }
        let body = body.to_owned();
        match self.ask(&Ask::Cosign { body })? {
            Answer::Cosigned { cosigned } => Ok(cosigned),
            Answer::Denied { why } => Err(CosignError::Denied(why)),
            other => Err(CosignError::Sign(other.error())),
        }
    }

    fn seen(&self, origin: &str) -> Result<Option<Cosigned>, SignError> {
        let origin = origin.to_owned();
        match self.ask(&Ask::Seen { origin })? {
            Answer::Cosigned { cosigned } => Ok(Some(cosigned)),
            Answer::None => Ok(None),
            other => Err(other.error()),
        }
    }
}

impl Signer for RemoteSigner {
    fn verifier(&self) -> &VerifierKey {
        &self.key
    }

    fn statement_key(&self) -> [u8; 32] {
        self.statement_key
    }

    fn last(&self) -> Result<Tree, SignError> {
        let answer = self.ask(&Ask::Last)?;
        let tree = match &answer {
            Answer::Head { head } => head.tree(),
            _ => None,
        };
        tree.ok_or_else(|| answer.error())
    }

    fn sign(&self, tree: Tree, proof: &[Hash]) -> Result<SignedHead, SignError> {
        let proof = proof.iter().map(ToString::to_string).collect();
        let head = Head::new(&tree);
        match self.ask(&Ask::Sign { head, proof })? {
            Answer::Signed { note, checkpoint } => Ok(SignedHead {
                tree,
                note,
                checkpoint,
            }),
            other => Err(other.error()),
        }
    }

    fn sign_statement(&self, statement: &[u8]) -> Result<[u8; 64], SignError> {
        // The parts of one statement come one after the other: nobody else may ask in between.
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = statement;
        loop {
            let (part, after) = rest.split_at(rest.len().min(PART_BYTES_MAX));
            let (base64, more) = (STANDARD.encode(part), !after.is_empty());
            match line.ask(&Ask::Statement { base64, more })? {
                Answer::Done if more => rest = after,
                Answer::Statement { base64 } if !more => {
                    let bytes = STANDARD.decode(&base64).ok();
                    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
                    return bytes.ok_or_else(|| Answer::Statement { base64 }.error());
                }
                other => return Err(other.error()),
            }
        }
    }
}
