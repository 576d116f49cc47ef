//! Keeps the certificate: loads it, renews it in time, tries again, tells how it stands.
//!
//! Called by the command `serve --acme`, in a task of its own that ends with the service. What
//! fails leaves what is in use, and is told by health until something works.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::signal::unix::Signal;
use tracing::{error, info, warn};

use super::{
    Carrier, Contact, Directory, StateError,
    carrier::Line,
    order::OrderError,
    plan::{Attempts, renew_at_s},
    state::{AccountFile, Folder},
};
use crate::{
    provenance::rfc3339,
    roles::PairText,
    serve::{
        chain,
        clock::Clock,
        tls::{Pair, Tls},
    },
};

/// Longest attempt: validation and certificate, two minutes each, and some requests.
const ATTEMPT_MAX: Duration = Duration::from_mins(6);
/// How often the clock is looked at while nothing is due, in seconds: it may be set, and a machine
/// may sleep.
const LOOK_S: u64 = 60;

/// The keeper cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// What lies in the folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The provider of cryptography.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// What somebody wants of which authority.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of the authority.
    pub directory: Directory,
    /// Host name of the service.
    pub name: String,
    /// How the authority reaches a person.
    pub contact: Option<Contact>,
}

/// Keeps one certificate.
pub struct Keeper {
    wanted: Wanted,
    carrier: Arc<dyn Carrier>,
    clock: Arc<dyn Clock>,
    tls: Arc<Tls>,
    folder: Folder,
    account: Option<AccountFile>,
    attempts: Attempts,
    /// A reason that was traced already.
    traced: Option<String>,
}

impl Keeper {
    /// Loads what is kept below `data`, the folder of `serve`; asks nobody yet.
    ///
    /// # Errors
    /// See [`KeeperError`].
    pub fn open(
        data: &Path,
        wanted: Wanted,
        carrier: Arc<dyn Carrier>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeeperError> {
        let folder = Folder::open(data, &wanted.directory, &wanted.name)?;
        let kept = folder.read(&wanted.name, clock.now_ms() / 1_000)?;
        Ok(Self {
            wanted,
            carrier,
            clock,
            tls: Arc::new(Tls::of_authority(kept.pair)?),
            folder,
            account: kept.account,
            attempts: kept.attempts,
            traced: None,
        })
    }

    /// Where its certificates go.
    #[must_use]
    pub fn tls(&self) -> &Arc<Tls> {
        &self.tls
    }

    /// Does what is due, for as long as it runs; SIGHUP asks for the next attempt now.
    pub async fn run(mut self, mut hangup: Signal) {
        let host = self.wanted.directory.host().to_owned();
        match self.tls.until() {
            until if until.is_empty() => info!("no certificate yet: {host} is asked for one"),
            until => info!("the certificate of {host} is in use, until {until}"),
        }
        let mut is_asked = true; // somebody has started the service
        loop {
            let wait_s = self.step(is_asked).await;
            if wait_s == 0 {
                is_asked = false;
                continue;
            }
            tokio::select! {
                Some(()) = hangup.recv() => is_asked = self.ask(),
                () = tokio::time::sleep(Duration::from_secs(wait_s.min(LOOK_S))) => {}
            }
        }
    }

    /// Somebody wants an attempt now; whether there is a reason for one.
    fn ask(&self) -> bool {
        let (is_due, until) = (self.renew_at_s() <= self.now_s(), self.tls.until());
        if !is_due {
            info!("the certificate is as before, until {until}");
        }
        is_due
    }

    /// Makes an attempt, when one is due. Else in how many seconds the next one is.
    pub(super) async fn step(&mut self, is_asked: bool) -> u64 {
        let (now_s, renew_at_s) = (self.now_s(), self.renew_at_s());
        if now_s < renew_at_s {
            return renew_at_s - now_s;
        }
        let next_s = self.attempts.next_s(now_s, is_asked);
        if now_s < next_s {
            self.tell(next_s);
            return next_s - now_s;
        }
        let line = Line::new(&self.carrier);
        let attempt = tokio::time::timeout(ATTEMPT_MAX, self.attempt(&line)).await;
        let failed = attempt.unwrap_or(Err(OrderError::Slow(ATTEMPT_MAX))).err();
        if let Some(cause) = failed {
            self.fail(&cause, line.wait_s());
        }
        0
    }

    async fn attempt(&mut self, line: &Line) -> Result<(), OrderError> {
        self.attempts.begin(self.now_s());
        // Also shows that the disk takes a certificate, before one is asked for.
        self.folder.keep_attempts(&self.attempts)?;
        let text = self.order(line).await?;
        self.take(&text)
    }

    /// Takes a new certificate over. What visitors would refuse is not even kept.
    fn take(&mut self, text: &PairText) -> Result<(), OrderError> {
        let (name, now_s) = (&self.wanted.name, self.now_s());
        Pair::parse(text, name, now_s)?;
        let kept = self.folder.keep_pair(text);
        self.tls.offer(text, name, now_s)?;
        kept?; // in use it is all the same: the authority gives few
        self.attempts = Attempts::default();
        self.traced = None;
        info!("a new certificate is in use, until {}", self.tls.until());
        Ok(self.folder.keep_attempts(&self.attempts)?)
    }

    fn fail(&mut self, cause: &OrderError, wait_s: Option<u64>) {
        let (why, now_s) = (cause.to_string(), self.now_s());
        self.attempts.fail(now_s, &why, wait_s);
        let mut kept = self.folder.keep_attempts(&self.attempts);
        if let (OrderError::NoAccount, Some(_)) = (cause, self.account.take_if(|_| true)) {
            kept = kept.and(self.folder.put_account_aside(now_s).map(drop));
        }
        if let Err(cause) = kept {
            error!("cannot note an attempt at a certificate: {}", chain(&cause));
        }
        let next_s = self.attempts.next_s(now_s, false);
        self.tell(next_s);
        let next = rfc3339(next_s.saturating_mul(1_000));
        if self.traced.as_ref() == Some(&why) {
            warn!("no new certificate: {why}; next try at {next}");
        } else {
            error!("no new certificate: {why}; next try at {next}");
            self.traced = Some(why);
        }
    }

    /// Has health say why there is nothing new, and when it is tried again.
    fn tell(&self, next_s: u64) {
        if let Some(why) = self.attempts.why() {
            let next = rfc3339(next_s.saturating_mul(1_000));
            self.tls.refuse(format!("{why}; next try at {next}"));
        }
    }

    /// When a new certificate is wanted.
    fn renew_at_s(&self) -> u64 {
        let life = self.tls.life();
        life.map_or(0, |life| renew_at_s(life.begin_s, life.end_s))
    }

    pub(super) fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1_000
    }

    pub(super) fn name(&self) -> &str {
        &self.wanted.name
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.wanted.directory
    }

    /// As the authority is told it.
    pub(super) fn contact(&self) -> Option<String> {
        self.wanted.contact.as_ref().map(Contact::url)
    }

    pub(super) fn kept_account(&self) -> Option<&AccountFile> {
        self.account.as_ref()
    }

    pub(super) fn keep_account(&mut self, account: AccountFile) -> Result<(), StateError> {
        self.folder.keep_account(&account)?;
        self.account = Some(account);
        Ok(())
    }

    /// Counts a validation that is about to be.
    pub(super) fn count_validation(&mut self) -> Result<(), StateError> {
        self.attempts.validate(self.now_s());
        self.folder.keep_attempts(&self.attempts)
    }
}
