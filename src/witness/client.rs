//! Offers heads to witnesses and judges what they answer.
//!
//! One task for each witness: newest head, proof from the size that the witness has, answer, again
//! with the next head. Heads that come meanwhile are one head. What a witness says is judged here
//! alone: a line of its key is kept; a head of ours that this disk does not have, or does not
//! contain, fences the log; all else is trouble, told and tried again later.
//!
//! A crash between an answer and its row loses the line: the next start asks from an older size,
//! hears which size the witness has, and asks again from there.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{Board, Carrier, Said, Witness};
use crate::{
    fetch::wire::WitnessAsk,
    log::{LoadError, Log, Offer},
    tlog::{
        Note, Tree, WitnessKey,
        text::parse_checkpoint,
        witness::{AddCheckpoint, SIZE_TYPE, log_id, parse_size},
    },
};

/// Offers of one round. The first tells the size, the second fits; another head of ours cannot come
/// between them but through another process with our data.
const OFFERS_MAX: usize = 3;
/// First wait after trouble, doubled each time.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest wait after trouble.
const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
/// Shortest time between two offers to one witness; heads of this time are one head.
const GAP: Duration = Duration::from_millis(500);
/// How often a witness is asked about a head that it has cosigned: the only way to hear of a copy
/// of this log that goes on elsewhere while this one rests.
const AGAIN: Duration = Duration::from_secs(10 * 60);
/// Characters of a witness's own words that are repeated.
const WORDS_CHARS_MAX: usize = 200;

/// What came of asking a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It cosigned the head of so many records.
    Cosigned(u64),
    /// It did not; asked again later.
    Trouble(String),
    /// The log is fenced.
    Alarm,
}

/// What a proven checkpoint of a witness says about this log.
enum Evidence {
    /// None was shown.
    None,
    /// Ours contains it.
    Contained(u64),
    /// With our signature, of more records than ours.
    Larger(u64),
    /// With our signature, of another log.
    Other(u64),
}

/// All witnesses of a log.
pub struct Client {
    log: Log,
    witnesses: Vec<Witness>,
    carrier: Box<dyn Carrier>,
    board: Arc<Board>,
}

impl Client {
    /// Prepares; asks nobody yet.
    #[must_use]
    pub fn new(log: Log, witnesses: Vec<Witness>, carrier: Box<dyn Carrier>) -> Self {
        let names = witnesses.iter().map(|one| one.key.name().to_owned());
        let board = Arc::new(Board::new(names));
        Self {
            log,
            witnesses,
            carrier,
            board,
        }
    }

    /// Where it is told how it stands.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Compares this log with what each witness has seen of it: at a start, before the first entry.
    /// Returns after `patience` whatever happens; who has not answered by then is in trouble.
    pub async fn compare(self: &Arc<Self>, patience: Duration) {
        let mut all = JoinSet::new();
        for at in 0..self.witnesses.len() {
            let client = Arc::clone(self);
            all.spawn(async move {
                let late = || {
                    let why = format!("no answer in {} s at the start", patience.as_secs());
                    client.trouble(at, why);
                };
                timeout(patience, client.round(at))
                    .await
                    .map_or_else(|_| late(), drop);
            });
        }
        while all.join_next().await.is_some() {}
    }

    /// Offers heads until the log is gone, an alarm was raised, or `stop` becomes true.
    pub async fn run(self: Arc<Self>, stop: watch::Receiver<bool>) {
        let mut all = JoinSet::new(); // ends with this function
        for at in 0..self.witnesses.len() {
            let (client, heads) = (Arc::clone(&self), self.log.sizes());
            all.spawn(async move { client.follow(at, heads).await });
        }
        let mut stop = stop;
        let over = async { while all.join_next().await.is_some() {} };
        tokio::select! {
            () = over => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn follow(&self, at: usize, mut heads: watch::Receiver<u64>) {
        let mut wait = RETRY_MIN;
        loop {
            heads.mark_unchanged(); // before the offer: what comes after is another one
            match self.round(at).await {
                Outcome::Alarm => return,
                Outcome::Trouble(_) => {
                    tokio::time::sleep(wait).await;
                    wait = RETRY_MAX.min(wait * 2);
                }
                Outcome::Cosigned(_) => {
                    wait = RETRY_MIN;
                    tokio::time::sleep(GAP).await;
                    if let Ok(Err(_)) = timeout(AGAIN, heads.changed()).await {
                        return;
                    }
                }
            }
        }
    }

    /// Offers the newest head to one witness until it has it, or there is trouble.
    pub async fn round(&self, at: usize) -> Outcome {
        let Some(witness) = self.witnesses.get(at) else {
            return Outcome::Trouble("there is no such witness".to_owned());
        };
        let outcome = match self.offer(at, &witness.key).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Trouble(format!("cannot make an offer: {error}")),
        };
        match &outcome {
            Outcome::Cosigned(size) => self.board.change(at, |one| {
                one.cosigned = *size;
                one.trouble = None;
            }),
            Outcome::Trouble(why) => self.trouble(at, why.clone()),
            Outcome::Alarm => self.board.change(at, |one| one.alarm = true),
        }
        outcome
    }

    fn trouble(&self, at: usize, why: String) {
        self.board.change(at, |one| {
            if one.trouble.as_ref() != Some(&why) {
                tracing::warn!("witness {}: {why}", one.name);
            }
            one.failures += 1;
            one.trouble = Some(why);
        });
    }

    async fn offer(&self, at: usize, key: &WitnessKey) -> Result<Outcome, LoadError> {
        let name = key.to_string();
        let mut old = self.blocking(move |log| log.cosigned(&name)).await?;
        self.board.change(at, |one| one.cosigned = old);
        for _ in 0..OFFERS_MAX {
            let Some(offer) = self.blocking(move |log| log.offer(old)).await? else {
                let why = format!("it has cosigned {old} records, this log has fewer");
                return Ok(self.larger(at, old, &why).await);
            };
            let size = offer.tree.size;
            let body = request(old, &offer);
            let said = match self.carrier.ask(at, WitnessAsk::Add { body }).await {
                Ok(said) => said,
                Err(why) => return Ok(Outcome::Trouble(why)),
            };
            match said.status {
                200 => return self.keep(key, &offer, &said.body).await,
                409 => {}
                422 => return Ok(self.other(at, size).await),
                _ => return Ok(Outcome::Trouble(refusal(&said))),
            }
            let Some(theirs) = parse_size(&said.body).filter(|_| said.kind == SIZE_TYPE) else {
                return Ok(Outcome::Trouble("it told no size with its 409".to_owned()));
            };
            if theirs > self.log.tree().size {
                let why = format!("it has cosigned {theirs} records");
                return Ok(self.larger(at, theirs, &why).await);
            }
            if theirs == old {
                // It contradicts itself, or answers 409 for another root of the same size.
                return Ok(match self.evidence(at).await {
                    Evidence::None | Evidence::Contained(_) => {
                        let why = format!("it wants a proof from {old} records and refuses it");
                        Outcome::Trouble(why)
                    }
                    proven => self.fence(at, &proven, ""),
                });
            }
            old = theirs;
        }
        Ok(Outcome::Trouble(
            "its size changes with each question".to_owned(),
        ))
    }

    /// Keeps the line of this witness's key, when it holds for the head that was offered.
    async fn keep(
        &self,
        key: &WitnessKey,
        offer: &Offer,
        body: &str,
    ) -> Result<Outcome, LoadError> {
        let signed = format!("{}{body}", offer.checkpoint);
        let note = Note::parse(signed.as_bytes());
        let holds = note.is_ok_and(|note| matches!(key.cosigned(&note), Ok(Some(_))));
        let lines = body.lines().map(|line| format!("{line}\n"));
        let mut own = lines.filter(|line| {
            let alone = Note::parse(format!("{}{line}", offer.checkpoint).as_bytes());
            alone.is_ok_and(|note| matches!(key.cosigned(&note), Ok(Some(_))))
        });
        let (true, Some(line)) = (holds, own.next()) else {
            let why = "its answer has no cosignature of its key".to_owned();
            return Ok(Outcome::Trouble(why));
        };
        let (witness, size) = (key.to_string(), offer.tree.size);
        self.blocking(move |log| log.keep_cosignature(&witness, size, &line))
            .await?;
        Ok(Outcome::Cosigned(size))
    }

    /// It knows more than this log has.
    async fn larger(&self, at: usize, size: u64, claim: &str) -> Outcome {
        match self.evidence(at).await {
            Evidence::Contained(shown) => Outcome::Trouble(format!(
                "it says {size} and shows a checkpoint of {shown} records"
            )),
            evidence => self.fence(at, &evidence, claim),
        }
    }

    /// It refuses our proof.
    async fn other(&self, at: usize, size: u64) -> Outcome {
        match self.evidence(at).await {
            Evidence::Contained(shown) => Outcome::Trouble(format!(
                "it refuses our proof and shows a checkpoint of {shown} records that we contain"
            )),
            evidence => {
                let claim = format!("it refuses the proof that our {size} records contain its log");
                self.fence(at, &evidence, &claim)
            }
        }
    }

    /// The checkpoint that the witness shows, when it has our signature.
    async fn evidence(&self, at: usize) -> Evidence {
        let log = log_id(self.log.origin());
        let Ok(said) = self.carrier.ask(at, WitnessAsk::Seen { log }).await else {
            return Evidence::None;
        };
        if said.status != 200 {
            return Evidence::None;
        }
        let Some(seen) = self.signed(&said.body) else {
            return Evidence::None;
        };
        let root = self.blocking(move |log| log.root(seen.size)).await;
        match root {
            Ok(None) => Evidence::Larger(seen.size),
            Ok(Some(root)) if root == seen.root => Evidence::Contained(seen.size),
            Ok(Some(_)) => Evidence::Other(seen.size),
            Err(_) => Evidence::None, // told where the log is loaded
        }
    }

    fn signed(&self, text: &str) -> Option<Tree> {
        let note = Note::parse(text.as_bytes()).ok()?;
        let (origin, tree) = parse_checkpoint(note.verify(self.log.key()).ok()?).ok()?;
        (origin == self.log.origin()).then_some(tree)
    }

    fn fence(&self, at: usize, evidence: &Evidence, claim: &str) -> Outcome {
        let name = self.witnesses.get(at).map_or("", |one| one.key.name());
        let here = self.log.tree().size;
        let (why, wrong) = match evidence {
            Evidence::Larger(size) => (
                format!(
                    "the data folder has {here} records, but witness {name} shows a checkpoint of \
                     {size} with our signature: older copies were restored"
                ),
                "",
            ),
            Evidence::Other(size) => (
                format!(
                    "witness {name} shows a checkpoint of {size} records with our signature that \
                     this log does not contain: a fork"
                ),
                "",
            ),
            Evidence::None | Evidence::Contained(_) => (
                format!("the data folder has {here} records, but witness {name}: {claim}"),
                "; a witness that is wrong about this has to be taken from --witness",
            ),
        };
        let remedy = format!(
            "stop the service, keep both folders (--data and --sign-dir) as evidence, restore the \
             newest copies of both, and start again; without them this key must never sign \
             again: a new log begins in an empty data folder{wrong}"
        );
        self.board.change(at, |one| one.trouble = Some(why.clone()));
        self.log.alarm(why, remedy);
        Outcome::Alarm
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Log) -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let log = self.log.clone();
        let done = tokio::task::spawn_blocking(move || work(&log)).await;
        done.map_err(|error| LoadError::Io(Box::new(error)))?
    }
}

fn request(old: u64, offer: &Offer) -> String {
    let request = AddCheckpoint {
        old,
        proof: offer.proof.clone(),
        checkpoint: offer.checkpoint.to_string(),
    };
    request.to_string()
}

/// What an answer that is none of the protocol's good ones means.
fn refusal(said: &Said) -> String {
    let meaning = match said.status {
        400 => "it understands no offer of ours",
        403 => "it has another key for this log",
        404 => "it does not know this log: its operator has to add origin and key",
        429 => "it is asked too often",
        _ => "it cannot cosign now",
    };
    let line = said.body.lines().next().unwrap_or_default();
    let words: String = line
        .chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(WORDS_CHARS_MAX)
        .collect();
    format!("{meaning} (it answered {}: `{words}`)", said.status)
}
