//! The role `sign`: the one process that holds the keys.
//!
//! Started by `serve` (or by the service manager), with its folder as current folder and one
//! socket. It reads nothing but bounded messages of `serve`, signs nothing but texts that it made
//! itself or that another log signed and it verified, and has no network. It must never trust that
//! `serve` is honest: what it signed or cosigned once is in its folder, and everything that follows
//! has to contain it.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::channel::{Channel, ChannelError};

use super::{
    cosigner::Cosigner,
    wire::{Answer, Ask, Head, PART_BYTES_MAX, STATEMENT_BYTES_MAX, SignStart},
};
use crate::{
    log::{LocalSigner, SignError, Signer as _, kept},
    spec::hex,
    tlog::{Hash, SigningKey, Tree, VerifierKey, proof::PROOF_HASHES_MAX},
};

/// The role's memory of one connection.
struct Role<'a> {
    folder: &'a Path,
    operator: bool,
    signer: Option<LocalSigner>,
    cosigner: Option<Cosigner>,
    statement: Vec<u8>,
}

/// Answers until the asker closes its end of `control`.
///
/// # Errors
/// When the channel breaks or a message is none. What was signed is in the folder by then.
pub fn run(control: &Channel, folder: &Path, start: &SignStart) -> Result<(), ChannelError> {
    let mut role = Role {
        folder,
        operator: start.operator,
        signer: None,
        cosigner: None,
        statement: Vec::new(),
    };
    while let Some((ask, _)) = control.receive::<Ask>()? {
        let answer = role.answer(ask).unwrap_or_else(Answer::from);
        control.send(&answer, &[])?;
    }
    Ok(())
}

fn wrong(what: &str) -> SignError {
    SignError::Io(format!("the signer was asked wrongly: {what}").into())
}

fn tree(head: &Head) -> Result<Tree, SignError> {
    head.tree().ok_or_else(|| wrong("no head"))
}

impl Role<'_> {
    fn answer(&mut self, ask: Ask) -> Result<Answer, SignError> {
        let operators = matches!(ask, Ask::Keys | Ask::Generate { .. } | Ask::End { .. });
        if operators && !self.operator {
            return Err(wrong("only the operator may"));
        }
        let signer = match (ask, &self.signer) {
            // One key for one connection: nobody can try keys, or fill the folder with new ones.
            (Ask::Open { key }, None) => return self.open(&key),
            (Ask::Create { name, beside }, None) => {
                let make = match beside {
                    true => LocalSigner::begin_beside,
                    false => LocalSigner::begin,
                };
                return self.make(&name, make);
            }
            (Ask::Generate { name }, None) => return self.make(&name, LocalSigner::generate),
            (Ask::Keys, _) => {
                let kept = kept::all(self.folder)?;
                return Ok(Answer::Keys { kept });
            }
            (Ask::Open { .. } | Ask::Create { .. } | Ask::Generate { .. }, Some(_)) => {
                return Err(wrong("it has a key already"));
            }
            (_, None) => return Err(wrong("it has no key yet")),
            (Ask::Witness { logs }, Some(_)) => return self.witness(&logs),
            (Ask::Cosign { body }, Some(_)) => return self.cosign(&body),
            (Ask::Seen { origin }, Some(_)) => {
                let seen = self.cosigner()?.seen(&origin)?;
                return Ok(seen.map_or(Answer::None, |cosigned| Answer::Cosigned { cosigned }));
            }
            (Ask::Statement { base64, more }, Some(_)) => return self.statement(&base64, more),
            (Ask::End { next }, Some(signer)) => return end(signer, &next),
            (Ask::Last, Some(signer)) => signer,
            (Ask::Sign { head, proof }, Some(signer)) => return sign(signer, &head, &proof),
        };
        Ok(Answer::Head {
            head: Head::new(&signer.last()?),
        })
    }

    fn open(&mut self, key: &str) -> Result<Answer, SignError> {
        let key = VerifierKey::parse(key).map_err(|_| wrong("no verifier key"))?;
        match LocalSigner::open(self.folder, &key)? {
            Some(signer) => Ok(self.opened(signer)),
            None => Ok(Answer::None),
        }
    }

    fn make(
        &mut self,
        name: &str,
        make: fn(&Path, &str) -> Result<LocalSigner, SignError>,
    ) -> Result<Answer, SignError> {
        // Looked at before a folder is made for it.
        SigningKey::from_seed(name, &[1; 32]).map_err(|_| wrong("no name for a key"))?;
        let signer = make(self.folder, name)?;
        Ok(self.opened(signer))
    }

    fn opened(&mut self, signer: LocalSigner) -> Answer {
        let answer = Answer::Opened {
            key: signer.verifier().to_string(),
            statement_key: hex(&signer.statement_key()),
        };
        self.signer = Some(signer);
        answer
    }

    fn witness(&mut self, logs: &[String]) -> Result<Answer, SignError> {
        let (Some(signer), None) = (&self.signer, &self.cosigner) else {
            return Err(wrong("it is a witness already"));
        };
        signer.goes_on()?;
        let logs: Result<Vec<_>, _> = logs.iter().map(|log| VerifierKey::parse(log)).collect();
        let logs = logs.map_err(|_| wrong("no verifier key"))?;
        let cosigner = Cosigner::open(signer.folder(), signer.verifier(), logs)?;
        let key = cosigner.public().to_string();
        self.cosigner = Some(cosigner);
        Ok(Answer::Witness { key })
    }

    fn cosign(&self, body: &str) -> Result<Answer, SignError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_s = now.unwrap_or_default().as_secs();
        let cosigned = self.cosigner()?.cosign(body.as_bytes(), now_s);
        Ok(cosigned.map_or_else(Answer::from, |cosigned| Answer::Cosigned { cosigned }))
    }

    fn cosigner(&self) -> Result<&Cosigner, SignError> {
        let cosigner = self.cosigner.as_ref();
        cosigner.ok_or_else(|| wrong("it is no witness yet"))
    }

    fn statement(&mut self, base64: &str, more: bool) -> Result<Answer, SignError> {
        let part = STANDARD.decode(base64).map_err(|_| wrong("no base64"))?;
        let fits = part.len() <= PART_BYTES_MAX
            && self.statement.len() + part.len() <= STATEMENT_BYTES_MAX;
        if !fits {
            self.statement = Vec::new();
            return Err(wrong("the statement is too long"));
        }
        self.statement.extend(part);
        if more {
            return Ok(Answer::Done);
        }
        let statement = std::mem::take(&mut self.statement);
        let signer = self.signer.as_ref().ok_or_else(|| wrong("no key"))?;
        let signature = signer.sign_statement(&statement)?;
        Ok(Answer::Statement {
            base64: STANDARD.encode(signature),
        })
    }
}

fn end(signer: &LocalSigner, next: &str) -> Result<Answer, SignError> {
    let next = VerifierKey::parse(next).map_err(|_| wrong("no verifier key"))?;
    let (tree, checkpoint) = signer.end(&next)?;
    let head = Head::new(&tree);
    Ok(Answer::End { head, checkpoint })
}

fn sign(signer: &LocalSigner, head: &Head, proof: &[String]) -> Result<Answer, SignError> {
    if proof.len() > PROOF_HASHES_MAX {
        return Err(wrong("the proof is too long"));
    }
    let hashes: Option<Vec<Hash>> = proof.iter().map(|text| Hash::parse(text)).collect();
    let hashes = hashes.ok_or_else(|| wrong("no hash"))?;
    let signed = signer.sign(tree(head)?, &hashes)?;
    Ok(Answer::Signed {
        note: signed.note,
        checkpoint: signed.checkpoint,
    })
}
