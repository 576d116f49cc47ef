//! What `serve --witness-log` makes of this instance: a witness of other logs.
//!
//! Called by [`super::serve`] once its own log is open. Must never begin a new memory in the place
//! of a lost one.

use std::{future::Future, net::TcpListener, sync::Arc};

use tokio::sync::watch;

use super::{Stop, host::tokio_listener, print, say};
use crate::{
    log::{RemoteSigner, SignError},
    serve::{
        cosign::{Cosigning, PREFIX, answer_early},
        tls::Tls,
    },
    tlog::{VerifierKey, WitnessKey},
};

/// A witness with the key that other instances have to know.
pub(super) struct Witness {
    key: WitnessKey,
    pub(super) cosigning: Arc<Cosigning>,
}

impl Witness {
    /// Makes the role `sign` a witness of these logs; nothing when there are none.
    ///
    /// # Errors
    /// When it cannot be theirs, or has lost its memory.
    pub(super) fn open(
        logs: &[VerifierKey],
        signer: Option<Arc<RemoteSigner>>,
    ) -> Result<Option<Self>, Stop> {
        if logs.is_empty() {
            return Ok(None);
        }
        let Some(signer) = signer else {
            // The log is fenced for the same reason, and says what to do; it is still read.
            tracing::error!("no other log is cosigned: the key of this log is not in --sign-dir");
            return Ok(None);
        };
        let key = signer.witness(logs).map_err(|error| stop(&error))?;
        let cosigning = Cosigning::open(logs.to_vec(), signer).map_err(|error| stop(&error))?;
        let cosigning = Arc::new(cosigning);
        Ok(Some(Self { key, cosigning }))
    }

    /// Tells key and address as the other instances take them; `base` is where others reach us.
    ///
    /// # Errors
    /// When stdout is closed.
    pub(super) fn announce(&self, base: &str) -> Result<(), Stop> {
        say("the next line is for the other log: its operator gives it to `serve --witness`");
        print(format_args!("{} {base}{PREFIX}", self.key))
    }
}

/// Does `work`, and answers other logs meanwhile on a copy of the public socket. What is being
/// answered when it is done is finished beside the service.
///
/// # Errors
/// When there are no more descriptors.
pub(super) async fn answering<T>(
    witness: Option<&Witness>,
    public: &TcpListener,
    tls: Option<Arc<Tls>>,
    work: impl Future<Output = T>,
) -> Result<T, Stop> {
    let Some(witness) = witness else {
        return Ok(work.await);
    };
    let copy = public.try_clone().and_then(tokio_listener);
    let copy = copy.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
    let (stop, stopped) = watch::channel(false);
    let cosigning = Arc::clone(&witness.cosigning);
    let _ends_itself = tokio::spawn(answer_early(copy, cosigning, tls, stopped));
    let done = work.await;
    stop.send_replace(true);
    Ok(done)
}

/// Parses the verifier key of another log.
pub(super) fn parse_log(text: &str) -> Result<VerifierKey, String> {
    let key = VerifierKey::parse(text.trim());
    key.map_err(|error| format!("{error}: write the key that the other log prints at its start"))
}

fn stop(error: &SignError) -> Stop {
    match error {
        SignError::Unfit(_) => Stop::chain(Stop::USAGE, error),
        SignError::StateLost { .. } => Stop::chain(Stop::FAILED, error).hint(
            "restore the newest copy of --sign-dir; without one this witness key must never cosign \
             again: remove `witness.key` and `witness.seen`, and tell the other logs the new key",
        ),
        _ => Stop::chain(Stop::FAILED, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log::sign::Unfit, tlog::SigningKey};

    #[test]
    fn a_log_is_named_by_its_key() {
        let key = SigningKey::from_seed("b.example", &[1; 32]).unwrap();
        let text = key.verifier().to_string();
        assert_eq!(parse_log(&text).unwrap(), *key.verifier());
        for bad in ["", "b.example", "b.example+00000000+AAAA"] {
            assert!(parse_log(bad).unwrap_err().contains("prints at its start"));
        }
    }

    #[test]
    fn a_lost_memory_and_a_wrong_list_are_told_apart() {
        let unfit = stop(&SignError::Unfit(Unfit::Many));
        assert_eq!(unfit.code, Stop::USAGE);
        let lost = SignError::StateLost {
            what: "witness.seen".to_owned(),
        };
        let lost = stop(&lost);
        assert_eq!(lost.code, Stop::FAILED);
        assert!(lost.hint.unwrap().contains("newest copy"));
        assert!(Witness::open(&[], None).unwrap().is_none());
    }
}
