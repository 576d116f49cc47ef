//! k of n: who is asked, and when there are enough.
//!
//! All verifiers are asked at once, when a build begins. [`Asking::judge`] is called when it has
//! ended; it returns as soon as the answers so far decide, so the slowest verifier that is not
//! needed costs nothing. One group: what policies of witnesses call `quorum`, without groups in
//! groups.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Board, Carrier, Signer, Verifier,
    ask::{Answered, ask},
    gobuild,
};
use crate::{
    provenance::{Seen, observation::ENVELOPE_TYPE},
    spec::{BuildKey, Sum, hex},
};

/// How long a finished build waits for its verifiers. They began when it did; a queue may be before
/// them. Afterwards the build is kept, and asking for it again goes on from here.
pub const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long a build that was decided still listens to those that were not needed. Each of them is a
/// task that asks; what they say later is lost.
const LATE: Duration = Duration::from_secs(2 * 60);

/// Who is asked, and how many of them must agree.
pub struct Quorum {
    verifiers: Vec<Verifier>,
    needed: usize,
    carrier: Arc<dyn Carrier>,
    board: Arc<Board>,
    /// Where the heads of verifiers' logs are kept.
    state: PathBuf,
    patience: Duration,
}

impl Quorum {
    /// `needed` of these; more than there are means all.
    #[must_use]
    pub fn new(verifiers: Vec<Verifier>, needed: usize, carrier: Arc<dyn Carrier>) -> Self {
        let needed = needed.min(verifiers.len());
        let names = verifiers.iter().map(|one| one.name.clone());
        let board = Arc::new(Board::new(needed, names));
        Self {
            verifiers,
            needed,
            carrier,
            board,
            state: PathBuf::from("."),
            patience: PATIENCE,
        }
    }

    /// The same with a folder of its own for the heads of verifiers' logs.
    #[must_use]
    pub fn with_state(self, state: PathBuf) -> Self {
        Self { state, ..self }
    }

    /// Nobody: every build is published.
    #[must_use]
    pub fn nobody() -> Self {
        struct Nowhere;
        impl Carrier for Nowhere {
            fn ask<'a>(
                &'a self,
                _: usize,
                _: &'a BuildKey,
            ) -> crate::build::BoxFuture<'a, Result<super::Said, String>> {
                Box::pin(async { Err("there is no verifier".to_owned()) })
            }
        }
        Self::new(Vec::new(), 0, Arc::new(Nowhere))
    }

    /// The same with another patience.
    #[cfg(test)]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// How many must agree.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Where it is told how it stands.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Asks everybody. Dropping the result ends the questions.
    #[must_use]
    pub fn ask(self: &Arc<Self>, key: &BuildKey) -> Asking {
        let mut answers = JoinSet::new();
        for at in 0..self.verifiers.len() {
            let (quorum, key) = (Arc::clone(self), key.clone());
            answers.spawn(async move { (at, quorum.question(at, &key).await) });
        }
        Asking {
            quorum: Arc::clone(self),
            key: key.clone(),
            pending: (0..self.verifiers.len()).collect(),
            answers,
        }
    }
}

impl Quorum {
    async fn question(&self, at: usize, key: &BuildKey) -> Result<Word, String> {
        let Some(verifier) = self.verifiers.get(at) else {
            return Err("there is no such verifier".to_owned());
        };
        match &verifier.signer {
            Signer::Instance(signer) => match ask(&*self.carrier, at, Some(signer), key).await {
                Answered::Nothing(why) => Err(why),
                Answered::Observed(observed) => Ok(Word {
                    bits: Bits::Sha256(observed.observation.sha256),
                    size: observed.observation.size,
                    media_type: ENVELOPE_TYPE,
                    content: observed.envelope,
                }),
            },
            Signer::Gobuild(log) => {
                let log = (log, &verifier.url);
                let recorded = gobuild::ask(&self.carrier, at, log, &self.state, key).await?;
                Ok(Word {
                    bits: Bits::Sum(recorded.record.sum),
                    size: recorded.record.size,
                    media_type: RECORD_TYPE,
                    content: recorded.answer,
                })
            }
        }
    }
}

/// Media type of a record with a signed head, as a log answers a lookup.
const RECORD_TYPE: &str = "text/plain; charset=utf-8";

/// What a verifier says, once it is believed that it says so.
#[derive(Debug, Clone)]
struct Word {
    bits: Bits,
    size: u64,
    media_type: &'static str,
    /// As signed.
    content: Vec<u8>,
}

/// As much of a hash as a verifier tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bits {
    Sha256([u8; 32]),
    /// 160 bits.
    Sum(Sum),
}

impl Bits {
    fn are(self, sha256: &[u8; 32]) -> bool {
        match self {
            Self::Sha256(theirs) => theirs == *sha256,
            Self::Sum(theirs) => theirs == Sum::of(sha256),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Sha256(theirs) => format!("SHA-256 {}", hex(&theirs)),
            Self::Sum(theirs) => format!("sum {theirs}"),
        }
    }
}

/// Questions on their way.
pub struct Asking {
    quorum: Arc<Quorum>,
    key: BuildKey,
    pending: BTreeSet<usize>,
    answers: JoinSet<(usize, Result<Word, String>)>,
}

/// A verifier with other bits.
#[derive(Debug, Clone)]
pub struct Other {
    /// Its name.
    pub verifier: String,
    /// Which bits, `SHA-256 …` or, of gobuild, `sum …`.
    pub theirs: String,
    /// Its words, as signed.
    pub content: Vec<u8>,
}

/// What came of the questions.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// How many must agree.
    pub needed: usize,
    /// What goes into the provenance: all that was signed by now.
    pub seen: Vec<Seen>,
    /// Names of those with the same bits.
    pub agreed: Vec<String>,
    /// Those with other bits.
    pub differed: Vec<Other>,
    /// Those that said nothing that counts, and why.
    pub silent: Vec<(String, String)>,
}

/// Whether a build may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Enough have the same bits.
    Agreed,
    /// Not enough, and somebody has other bits.
    Mismatch,
    /// Not enough; nobody has other bits.
    Unavailable,
}

impl Asking {
    /// Waits until it is decided whether `sha256` is published. The second result goes on with the
    /// verifiers that were not needed.
    pub async fn judge(mut self, sha256: &[u8; 32], size: u64) -> (Judged, Self) {
        let deadline = Instant::now() + self.quorum.patience;
        let mut judged = Judged {
            needed: self.quorum.needed,
            ..Judged::default()
        };
        while self.is_open(&judged) {
            match timeout_at(deadline, self.answers.join_next()).await {
                Ok(Some(Ok((at, answered)))) => self.take(at, answered, sha256, size, &mut judged),
                Ok(Some(Err(_))) => {} // ended in a panic: it stays pending and is silent
                Ok(None) | Err(_) => {
                    self.give_up(&mut judged);
                    break;
                }
            }
        }
        (judged, self)
    }

    /// Listens to those that were not needed; returns those with other bits.
    pub async fn rest(mut self, sha256: &[u8; 32], size: u64) -> Vec<Other> {
        let deadline = Instant::now() + LATE;
        let mut judged = Judged::default();
        while let Ok(Some(answer)) = timeout_at(deadline, self.answers.join_next()).await {
            if let Ok((at, answered)) = answer {
                self.take(at, answered, sha256, size, &mut judged);
            }
        }
        judged.differed
    }

    fn is_open(&self, judged: &Judged) -> bool {
        let (agreed, needed) = (judged.agreed.len(), judged.needed);
        agreed < needed && agreed + self.pending.len() >= needed
    }

    fn name(&self, at: usize) -> String {
        let verifier = self.quorum.verifiers.get(at);
        verifier.map_or_else(String::new, |one| one.name.clone())
    }

    fn take(
        &mut self,
        at: usize,
        answered: Result<Word, String>,
        sha256: &[u8; 32],
        size: u64,
        judged: &mut Judged,
    ) {
        self.pending.remove(&at);
        let verifier = self.name(at);
        let word = match answered {
            Ok(word) => word,
            Err(why) => return self.silent(at, why, judged),
        };
        let agrees = word.bits.are(sha256) && word.size == size;
        judged.seen.push(Seen {
            verifier: verifier.clone(),
            agrees,
            media_type: word.media_type,
            content: word.content.clone(),
        });
        self.quorum.board.change(at, |one| {
            one.trouble = None;
            match agrees {
                true => one.agreed += 1,
                false => {
                    one.differed += 1;
                    one.other = Some(self.key.to_string());
                }
            }
        });
        match agrees {
            true => judged.agreed.push(verifier),
            false => judged.differed.push(Other {
                verifier,
                theirs: word.bits.text(),
                content: word.content,
            }),
        }
    }

    fn silent(&self, at: usize, why: String, judged: &mut Judged) {
        let name = self.name(at);
        self.quorum.board.change(at, |one| {
            if one.trouble.as_ref() != Some(&why) {
                tracing::warn!("verifier {name}: {why}");
            }
            one.silent += 1;
            one.trouble = Some(why.clone());
        });
        judged.silent.push((name, why));
    }

    fn give_up(&mut self, judged: &mut Judged) {
        self.answers.abort_all();
        for at in std::mem::take(&mut self.pending) {
            let minutes = self.quorum.patience.as_secs() / 60;
            let why = format!("it was still not done {minutes} minutes after our own build");
            self.silent(at, why, judged);
        }
    }
}

impl Judged {
    /// What it means.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self.agreed.len() >= self.needed {
            true => Verdict::Agreed,
            false if self.differed.is_empty() => Verdict::Unavailable,
            false => Verdict::Mismatch,
        }
    }

    /// Who said what, in one sentence without a full stop.
    #[must_use]
    pub fn sentence(&self, ours: &[u8; 32]) -> String {
        let (agreed, needed) = (self.agreed.len(), self.needed);
        let mut parts = vec![format!(
            "{agreed} of the {needed} verifiers that are needed got the same bits as we, \
             SHA-256 {}",
            hex(ours)
        )];
        if agreed > 0 {
            parts.push(format!("agreed: {}", self.agreed.join(", ")));
        }
        let differed = self.differed.iter();
        parts.extend(differed.map(|other| format!("{} got {}", other.verifier, other.theirs)));
        let silent = self.silent.iter();
        parts.extend(silent.map(|(name, why)| format!("{name} gave no observation: {why}")));
        parts.join("; ")
    }
}
