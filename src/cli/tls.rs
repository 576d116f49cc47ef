//! Options of `hotcell serve` about TLS of its own; the pair of files read again, or an authority
//! asked for one.
//!
//! The role `certificate` reads the files, at the start, too: what it cannot read then it could not
//! read later. They are read every minute and at SIGHUP, as programs that renew certificates may
//! do nothing more than replace the files.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Child,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use hotcell_sandbox::channel::{Channel, ChannelError};
use tokio::signal::unix::Signal;
use tracing::{error, info};

use super::Stop;
use crate::{
    acme::{self, Contact, Directory, Keeper},
    build::fetching::Fetch,
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
    /// Authority that gives and renews the certificate for --name, by ACME: `letsencrypt`,
    /// `letsencrypt-staging`, or the https address of another one's directory. It must reach --name
    /// on port 443, where this service answers it. Giving it, you agree to the authority's terms
    #[arg(long, value_name = "AUTHORITY", value_parser = Directory::parse)]
    acme: Option<Directory>,
    /// Your address for mail, for the authority of --acme
    #[arg(long, value_name = "ADDRESS", value_parser = Contact::parse)]
    acme_contact: Option<Contact>,
    /// Address for visitors without TLS, who are sent on to https://NAME
    #[arg(long, value_name = "ADDR")]
    redirect: Option<SocketAddr>,
}

impl OwnTls {
    /// Both files, or none; or an authority. Each with the keys it is about, the one that needs
    /// another first.
    pub(super) fn checks(&self) -> [(&'static [&'static str], Result<(), Stop>); 4] {
        let (cert, key) = (self.tls_cert.is_some(), self.tls_key.is_some());
        let (acme, contact) = (self.acme.is_some(), self.acme_contact.is_some());
        let pair = match (cert, key) {
            (true, false) => Some("--tls-cert needs --tls-key, the key of that certificate"),
            (false, true) => Some("--tls-key needs --tls-cert, the certificate of that key"),
            _ => None,
        };
        let both = (acme && cert && key)
            .then_some("--acme gets a certificate of its own: leave out --tls-cert and --tls-key");
        let alone =
            (contact && !acme).then_some("--acme-contact is for an authority: it needs --acme");
        let leads_nowhere = (self.redirect.is_some() && !acme && !cert && !key).then_some(
            "--redirect sends visitors to TLS: it needs --tls-cert and --tls-key, or --acme",
        );
        let said = |text: Option<&str>| match text {
            Some(text) => Err(Stop::new(Stop::USAGE, text)),
            None => Ok(()),
        };
        [
            (&["tls-cert", "tls-key"], said(pair)),
            (&["acme", "tls-cert", "tls-key"], said(both)),
            (&["acme-contact", "acme"], said(alone)),
            (
                &["redirect", "tls-cert", "tls-key", "acme"],
                said(leads_nowhere),
            ),
        ]
    }

    /// An authority gives certificates to hosts only.
    pub(super) fn check_name(&self, name: &str) -> Result<(), Stop> {
        let why = self.acme.as_ref().and_then(|_| acme::unfit(name));
        let Some(why) = why else { return Ok(()) };
        let text = format!("--acme gets no certificate for --name {name}: {why}");
        Err(Stop::new(Stop::USAGE, text).hint("write it as build.example.org"))
    }

    /// The directory that the role `fetch` has to know.
    pub(super) fn directory(&self) -> Option<String> {
        self.acme.as_ref().map(ToString::to_string)
    }

    pub(super) fn redirect(&self) -> Option<SocketAddr> {
        self.redirect
    }

    /// What it means for visitors: nothing without TLS.
    pub(super) fn summary(&self) -> String {
        match &self.acme {
            Some(directory) => format!(" with TLS by {}", directory.host()),
            None if self.files().is_some() => " with TLS".to_owned(),
            None => String::new(),
        }
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

    /// Goes on without power: with the pair of the start, or with what an authority gives; `data`
    /// is the folder of `serve`.
    ///
    /// # Errors
    /// When what is kept of an authority cannot be read.
    pub(super) fn keep(
        &self,
        pair: Option<OwnPair>,
        name: &str,
        data: &Path,
        fetch: &Arc<Fetch>,
    ) -> Result<Option<Certificate>, Stop> {
        let Some(directory) = self.acme.clone() else {
            return Ok(pair.map(Certificate::Files));
        };
        let wanted = acme::Wanted {
            directory,
            name: name.to_owned(),
            contact: self.acme_contact.clone(),
        };
        let carrier = Arc::new(Arc::clone(fetch));
        let keeper = Keeper::open(data, wanted, carrier, Arc::new(SystemClock));
        let keeper = keeper.map_err(|error| Stop::chain(Stop::FAILED, &error))?;
        Ok(Some(Certificate::Authority(Box::new(keeper))))
    }
}

/// A certificate in use that is looked after.
pub(super) enum Certificate {
    Files(OwnPair),
    Authority(Box<Keeper>),
}

impl Certificate {
    pub(super) fn tls(&self) -> Arc<Tls> {
        match self {
            Self::Files(pair) => Arc::clone(&pair.tls),
            Self::Authority(keeper) => Arc::clone(keeper.tls()),
        }
    }

    /// Looks after it for as long as the service runs.
    pub(super) async fn run(self, hangup: Signal) {
        match self {
            Self::Files(pair) => pair.run(hangup).await,
            Self::Authority(keeper) => keeper.run(hangup).await,
        }
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
    tls: Arc<Tls>,
    name: String,
    channel: Channel,
}

impl OwnPair {
    /// Reads the files again for as long as the role lives.
    async fn run(self, mut hangup: Signal) {
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
            let checks = Line::parse_from(line).tls.checks();
            checks.into_iter().try_for_each(|(_, check)| check)
        };
        check(&[]).unwrap();
        check(&[&cert, &key]).unwrap();
        check(&[&cert, &key, &redirect]).unwrap();
        let acme = ["--acme", "letsencrypt"];
        let contact = ["--acme-contact", "a@b.example"];
        check(&[&acme]).unwrap();
        check(&[&acme, &contact, &redirect]).unwrap();
        for bad in [
            &[&cert[..]][..],
            &[&key],
            &[&redirect],
            &[&cert, &redirect],
            &[&contact],
            &[&cert, &key, &contact],
            &[&cert, &key, &acme],
            &[&key, &acme],
        ] {
            assert_eq!(check(bad).unwrap_err().code, Stop::USAGE, "{bad:?}");
        }
    }

    #[test]
    fn an_authority_gives_certificates_to_hosts_only() {
        let line = Line::parse_from(["serve", "--acme", "https://ca.test:14000/dir"]);
        for name in ["build.example.org", "a.b"] {
            line.tls.check_name(name).unwrap();
        }
        for name in ["localhost", "192.0.2.1", ".example", "example."] {
            let refused = line.tls.check_name(name).unwrap_err();
            assert!(refused.text.contains("a host name"), "{}", refused.text);
        }
        Line::parse_from(["serve"])
            .tls
            .check_name("localhost")
            .unwrap();
        for bad in ["http://ca.test/dir", "letsencrypt.org", ""] {
            assert!(Line::try_parse_from(["serve", "--acme", bad]).is_err());
        }
    }
}
