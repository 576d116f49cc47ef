//! Options of `hotcell serve` about TLS of its own, and the pair of files read again.
//!
//! The role `certificate` reads the files, at the start, too: what it cannot read then it could not
//! read later. They are read every minute and at SIGHUP, as programs that renew certificates may
//! do nothing more than replace the files.

use std::{net::SocketAddr, path::PathBuf, process::Child, sync::Arc, time::Duration};

use clap::Args;
use hotcell_sandbox::channel::{Channel, ChannelError};
use tokio::signal::unix::Signal;
use tracing::{error, info};

use super::Stop;
use crate::{
    channel::AsyncChannel,
    roles::{self, PairAnswer, PairFiles, PairText},
    serve::{
        clock::{Clock as _, SystemClock},
        tls::{Pair, Tls},
    },
};

/// How often the files are looked at: soon enough for a certificate that lives for days.
const LOOK: Duration = Duration::from_mins(1);

#[derive(Debug, Default, Args)]
pub(super) struct OwnTls {
    /// Certificate chain for --name in PEM, that of the service first: visitors speak TLS then.
    /// Read again every minute and at SIGHUP
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate in PEM; nobody but its owner and a group may read it
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Address for visitors without TLS, who are sent on to https://NAME
    #[arg(long, value_name = "ADDR")]
    redirect: Option<SocketAddr>,
}

impl OwnTls {
    /// Both files or none.
    pub(super) fn check(&self) -> Result<(), Stop> {
        let text = match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => "--tls-cert needs --tls-key, the key of that certificate",
            (None, Some(_)) => "--tls-key needs --tls-cert, the certificate of that key",
            (None, None) if self.redirect.is_some() => {
                "--redirect sends visitors to TLS: it needs --tls-cert and --tls-key"
            }
            _ => return Ok(()),
        };
        Err(Stop::new(Stop::USAGE, text))
    }

    pub(super) fn redirect(&self) -> Option<SocketAddr> {
        self.redirect
    }

    pub(super) fn is_on(&self) -> bool {
        self.files().is_some()
    }

    fn files(&self) -> Option<PairFiles> {
        let (chain, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(PairFiles { chain, key })
    }

    /// What is wrong with the files as this user sees them.
    pub(super) fn check_files(&self, name: &str) -> Result<(), Stop> {
        let Some(files) = self.files() else {
            return Ok(());
        };
        parse(roles::read_pair(&files), name).map(drop)
    }

    /// Starts the role that reads and has it read for the first time. Called before any thread
    /// exists and while there is power.
    ///
    /// # Errors
    /// When the pair cannot be used.
    pub(super) fn start(
        &self,
        name: &str,
        children: &mut Vec<(&'static str, Child)>,
    ) -> Result<Option<OwnPair>, Stop> {
        let failed = |error: &dyn std::error::Error| Stop::chain(Stop::FAILED, error);
        let Some(files) = self.files() else {
            return Ok(None);
        };
        let channel = roles::start_certificate(&files, children).map_err(|e| failed(&e))?;
        let answer = ask_first(&channel).map_err(|error| failed(&error))?;
        let answer = answer.ok_or_else(|| Stop::new(Stop::FAILED, "role `certificate` is gone"))?;
        let tls = Tls::new(parse(answer, name)?).map_err(|error| failed(&error))?;
        Ok(Some(OwnPair {
            tls: Arc::new(tls),
            name: name.to_owned(),
            channel,
        }))
    }
}

fn ask_first(channel: &Channel) -> Result<Option<PairAnswer>, ChannelError> {
    channel.send(&1_u8, &[])?;
    Ok(channel.receive::<PairAnswer>()?.map(|(answer, _)| answer))
}

fn parse(answer: PairAnswer, name: &str) -> Result<Pair, Stop> {
    let text = answer.map_err(|why| Stop::new(Stop::USAGE, why))?;
    Pair::parse(&text, name, now_s()).map_err(|error| Stop::chain(Stop::USAGE, &error))
}

fn now_s() -> u64 {
    SystemClock.now_ms() / 1_000
}

/// A pair in use that can be read again.
pub(super) struct OwnPair {
    pub(super) tls: Arc<Tls>,
    name: String,
    channel: Channel,
}

impl OwnPair {
    /// Reads the files again for as long as the role lives.
    pub(super) async fn run(self, mut hangup: Signal) {
        let channel = match AsyncChannel::new(self.channel) {
            Ok(channel) => channel,
            Err(cause) => return error!("the certificate will not be read again: {cause}"),
        };
        let (tls, name) = (self.tls, self.name);
        let mut look = tokio::time::interval(LOOK);
        look.tick().await; // the first one comes at once
        loop {
            let is_asked = tokio::select! {
                Some(()) = hangup.recv() => true,
                _ = look.tick() => false,
            };
            let Some(answer) = roles::read_again::<PairAnswer>(&channel).await else {
                let why = "role `certificate` is gone".to_owned();
                error!("the certificate will not be read again: {why}");
                return tls.refuse(why);
            };
            take(&tls, answer, &name, is_asked);
        }
    }
}

/// Takes over what can be; tells what is new, or all of it when somebody has asked.
fn take(tls: &Tls, answer: PairAnswer, name: &str, is_asked: bool) {
    let before = tls.refused();
    let offered = answer.and_then(|text: PairText| {
        tls.offer(&text, name, now_s())
            .map_err(|error| error.to_string())
    });
    match offered {
        Ok(true) => info!("a new certificate is in use, until {}", tls.until()),
        Ok(false) if is_asked || before.is_some() => {
            info!("the certificate is as before, until {}", tls.until());
        }
        Ok(false) => {}
        Err(why) => {
            if is_asked || before.as_ref() != Some(&why) {
                let until = tls.until();
                error!("the certificate until {until} stays in use: {why}");
            }
            tls.refuse(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        tls: OwnTls,
    }

    #[test]
    fn certificate_and_key_come_together_and_a_redirect_leads_to_them() {
        let (cert, key) = (["--tls-cert", "c"], ["--tls-key", "k"]);
        let redirect = ["--redirect", "127.0.0.1:80"];
        let check = |words: &[&[&str]]| {
            let line = [&["serve"][..], &words.concat()].concat();
            Line::parse_from(line).tls.check()
        };
        check(&[]).unwrap();
        check(&[&cert, &key]).unwrap();
        check(&[&cert, &key, &redirect]).unwrap();
        for bad in [&[&cert[..]][..], &[&key], &[&redirect], &[&cert, &redirect]] {
            assert_eq!(check(bad).unwrap_err().code, Stop::USAGE, "{bad:?}");
        }
    }
}
