//! F11: whatever a witness answers, appends go on; only another log with our signature stops them.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::{Carrier, Client, Said, Witness, client::Outcome};
use crate::{
    build::BoxFuture,
    fetch::wire::WitnessAsk,
    log::{AppendError, Health, Log, LogConfig, NewEntry},
    spec::{BuildKey, Record, Sum},
    tlog::{
        Note, Tree, VerifierKey, WitnessSigner, proof,
        text::parse_checkpoint,
        witness::{AddCheckpoint, SIZE_TYPE},
    },
};

/// How the witness of the tests behaves.
#[derive(Debug, Clone)]
enum Mood {
    Honest,
    Down,
    Silent,
    Answers(u16, &'static str, String),
    /// Cosigns with a key that nobody named.
    WrongKey,
    /// Cosigns, and its answer is lost.
    LosesAnswers,
}

struct Fake {
    log: VerifierKey,
    signer: WitnessSigner,
    mood: Mutex<Mood>,
    /// What it cosigned last, and the checkpoint.
    seen: Mutex<Option<(Tree, String)>>,
    shows: Mutex<bool>,
    asked: Mutex<Vec<String>>,
    size: tokio::sync::watch::Sender<u64>,
}

fn said(status: u16, kind: &str, body: &str) -> Said {
    Said {
        status,
        kind: kind.to_owned(),
        body: body.to_owned(),
    }
}

impl Fake {
    fn new(log: &Log) -> Arc<Self> {
        Arc::new(Self {
            log: log.key().clone(),
            signer: WitnessSigner::from_seed("w.example/1", &[9; 32]).unwrap(),
            mood: Mutex::new(Mood::Honest),
            seen: Mutex::new(None),
            shows: Mutex::new(true),
            asked: Mutex::default(),
            size: tokio::sync::watch::Sender::new(0),
        })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn size(&self) -> u64 {
        self.seen.lock().unwrap().as_ref().map_or(0, |s| s.0.size)
    }

    /// As the specification says, in the plainest way.
    fn add(&self, body: &str, signer: &WitnessSigner) -> Said {
        let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
        let note = Note::parse(request.checkpoint.as_bytes()).unwrap();
        let (_, tree) = parse_checkpoint(note.verify(&self.log).unwrap()).unwrap();
        let mut seen = self.seen.lock().unwrap();
        let size = seen.as_ref().map_or(0, |seen| seen.0.size);
        if request.old != size {
            return said(409, SIZE_TYPE, &format!("{size}\n"));
        }
        if let Some((old, _)) = &*seen {
            let same = *old == tree;
            let follows = proof::check_consistency(&request.proof, &tree, old).is_ok();
            if !(same || follows && tree.size > old.size) {
                return said(422, "text/plain", "no proof\n");
            }
        }
        *seen = Some((tree, request.checkpoint.clone()));
        self.size.send_replace(tree.size);
        let text = note.verify(&self.log).unwrap();
        said(200, "text/plain", &signer.cosign(text, 7).unwrap())
    }

    fn answer(&self, question: WitnessAsk) -> Result<Said, String> {
        let WitnessAsk::Add { body } = question else {
            let seen = self.seen.lock().unwrap();
            let shown = seen.as_ref().filter(|_| *self.shows.lock().unwrap());
            return Ok(shown.map_or(said(404, "", ""), |seen| said(200, "", &seen.1)));
        };
        let old = body.lines().next().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(old);
        match self.mood.lock().unwrap().clone() {
            Mood::Honest => Ok(self.add(&body, &self.signer)),
            Mood::Down | Mood::Silent => Err("it did not answer".to_owned()),
            Mood::Answers(status, kind, text) => Ok(said(status, kind, &text)),
            Mood::WrongKey => {
                let other = WitnessSigner::from_seed("w.example/1", &[8; 32]).unwrap();
                Ok(self.add(&body, &other))
            }
            Mood::LosesAnswers => {
                self.add(&body, &self.signer);
                Err("the connection broke".to_owned())
            }
        }
    }
}

struct Talk(Arc<Fake>);

impl Carrier for Talk {
    fn ask(&self, _: usize, question: WitnessAsk) -> BoxFuture<'_, Result<Said, String>> {
        Box::pin(async move {
            if matches!(*self.0.mood.lock().unwrap(), Mood::Silent) {
                std::future::pending::<()>().await;
            }
            self.0.answer(question)
        })
    }
}

fn open(folder: &Path) -> Log {
    let config = LogConfig {
        database: folder.join("data/hotcell.db"),
        tiles: folder.join("data/tile"),
    };
    Log::open_local(&config, &folder.join("sign"), "log.example.org").unwrap()
}

fn client(log: &Log, fake: &Arc<Fake>) -> Arc<Client> {
    let key = fake.signer.public().clone();
    let url = "https://w.example/".parse().unwrap();
    let witness = Witness { key, url };
    let carrier = Box::new(Talk(Arc::clone(fake)));
    Arc::new(Client::new(log.clone(), vec![witness], carrier))
}

async fn append(log: &Log, n: usize) -> Result<u64, AppendError> {
    let sha256: [u8; 32] = Sha256::digest(format!("binary {n}")).into();
    let key = format!("example.com/mod{n}@v1.0.0/linux-amd64-go1.26.8/");
    let record = Record {
        key: BuildKey::parse(&key).unwrap(),
        size: 1000,
        sum: Sum::of(&sha256),
    };
    log.append(NewEntry {
        record,
        sha256,
        provenance_sha256: [9; 32],
        with: Box::new(|_, _| Ok(())),
    })
    .await
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn cosigned(log: &Log, fake: &Fake) -> Option<u64> {
    let checkpoint = log.checkpoint();
    let note = Note::parse(checkpoint.as_bytes()).unwrap();
    assert!(note.verify(log.key()).is_ok());
    fake.signer.public().cosigned(&note).unwrap()
}

fn why(log: &Log) -> Option<(String, String)> {
    match log.health() {
        Health::Live => None,
        Health::Fenced { why, remedy } => Some((why, remedy)),
    }
}

#[tokio::test]
async fn each_head_is_cosigned_and_the_lines_stand_under_the_checkpoint_after_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let fake = Fake::new(&log);
    let client_ = client(&log, &fake);
    assert_eq!(client_.round(0).await, Outcome::Cosigned(1));
    for n in 0..5 {
        append(&log, n).await.unwrap();
        assert_eq!(cosigned(&log, &fake), None, "the head before was cosigned");
        assert_eq!(
            client_.round(0).await,
            Outcome::Cosigned(log.tree().size),
            "{n}"
        );
        assert_eq!(cosigned(&log, &fake), Some(7));
    }
    // No question was in vain: the size that the witness has is remembered.
    let olds: Vec<_> = fake.asked.lock().unwrap().clone();
    assert_eq!(olds, ["old 0", "old 1", "old 3", "old 5", "old 7", "old 9"]);
    let proof = log.proof(1).unwrap().unwrap();
    assert_eq!(proof.checkpoint, *log.checkpoint());
    let note = client_.board().notes()[0].clone();
    assert!(
        note.ends_with("witnesses: w.example/1 (11 records)"),
        "{note}"
    );
    let checkpoint = log.checkpoint();
    drop((client_, log));
    let log = open(folder.path());
    assert_eq!(log.checkpoint(), checkpoint);
}

#[tokio::test]
async fn trouble_of_a_witness_stops_nobody_and_the_next_question_mends_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let fake = Fake::new(&log);
    let client = client(&log, &fake);
    client.round(0).await;
    let line = fake.signer.cosign("another\n", 1).unwrap();
    let moods = [
        Mood::Down,
        Mood::WrongKey,
        Mood::LosesAnswers,
        Mood::Answers(200, "", String::new()),
        Mood::Answers(200, "", "garbage\n".to_owned()),
        Mood::Answers(200, "", line),
        Mood::Answers(200, "", "\u{2014} w.example/1 AAAA\n".repeat(200)),
        Mood::Answers(302, "", String::new()),
        Mood::Answers(400, "", String::new()),
        Mood::Answers(403, "", String::new()),
        Mood::Answers(404, "", "\u{1b}[31munknown log\n".to_owned()),
        Mood::Answers(409, SIZE_TYPE, "many\n".to_owned()),
        Mood::Answers(409, "text/plain", "1\n".to_owned()),
        Mood::Answers(409, SIZE_TYPE, "0\n".to_owned()),
        Mood::Answers(429, "", String::new()),
        Mood::Answers(500, "", "x".repeat(10_000)),
    ];
    for (n, mood) in moods.into_iter().enumerate() {
        append(&log, n).await.unwrap();
        fake.set(mood.clone());
        let Outcome::Trouble(told) = client.round(0).await else {
            panic!("{mood:?}");
        };
        assert!(told.len() < 500 && !told.contains('\u{1b}'), "{told}");
        assert_eq!(cosigned(&log, &fake), None, "{mood:?}");
        let standing = &client.board().standings()[0];
        assert_eq!(
            (&standing.trouble, standing.failures),
            (&Some(told), n as u64 + 1)
        );
        assert_eq!(why(&log), None, "{mood:?}");
    }
    append(&log, 100).await.unwrap();
    fake.set(Mood::Honest);
    assert_eq!(client.round(0).await, Outcome::Cosigned(log.tree().size));
    assert_eq!(client.board().standings()[0].trouble, None);
}

#[tokio::test]
async fn a_lost_answer_and_a_forgetful_witness_are_asked_again_from_the_size_that_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let fake = Fake::new(&log);
    let client = client(&log, &fake);
    append(&log, 0).await.unwrap();
    // Cosigned there, and a crash here before the row: nothing of it is known to us.
    fake.set(Mood::LosesAnswers);
    client.round(0).await;
    assert_eq!((fake.size(), log.tree().size), (3, 3));
    append(&log, 1).await.unwrap();
    fake.set(Mood::Honest);
    assert_eq!(client.round(0).await, Outcome::Cosigned(5));
    // The witness was set up again and has seen nothing.
    *fake.seen.lock().unwrap() = None;
    append(&log, 2).await.unwrap();
    assert_eq!(client.round(0).await, Outcome::Cosigned(7));
    let olds: Vec<_> = fake.asked.lock().unwrap().clone();
    assert_eq!(olds, ["old 0", "old 0", "old 3", "old 5", "old 0"]);
}

#[tokio::test]
async fn an_older_copy_of_data_and_signer_is_fenced_before_its_first_entry() {
    for shows in [true, false] {
        let (folder, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = open(folder.path());
        append(&log, 0).await.unwrap();
        let fake = Fake::new(&log);
        client(&log, &fake).round(0).await;
        let tree = log.tree();
        drop(log);
        copy(folder.path(), backup.path());
        let log = open(folder.path());
        append(&log, 1).await.unwrap();
        assert_eq!(client(&log, &fake).round(0).await, Outcome::Cosigned(5));
        drop(log);
        *fake.shows.lock().unwrap() = shows;
        // Both folders are old, so that they agree with each other: only the witness knows.
        let log = open(backup.path());
        assert_eq!((log.health(), log.tree()), (Health::Live, tree));
        client(&log, &fake).compare(Duration::from_secs(60)).await;
        let (why, remedy) = why(&log).unwrap();
        let words = match shows {
            true => "has 3 records, but witness w.example/1 shows a checkpoint of 5",
            false => "has 3 records, but witness w.example/1: it has cosigned 5 records",
        };
        assert!(why.contains(words), "{why}");
        assert!(remedy.contains("restore the newest copies"), "{remedy}");
        assert_eq!(remedy.contains("taken from --witness"), !shows);
        let refused = append(&log, 2).await;
        assert!(matches!(refused, Err(AppendError::Fenced { .. })));
        assert_eq!(log.tree(), tree, "reads go on, nothing was added");
        assert!(log.proof(0).unwrap().is_some());
    }
}

#[tokio::test]
async fn a_fork_is_fenced_whichever_size_it_has() {
    for (ours, theirs) in [(1, 1), (2, 1), (1, 2)] {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let log = open(folder.path());
        append(&log, 0).await.unwrap();
        drop(log);
        copy(folder.path(), other.path());
        let (log, fork) = (open(folder.path()), open(other.path()));
        let fake = Fake::new(&log);
        assert_eq!(client(&log, &fake).round(0).await, Outcome::Cosigned(3));
        for n in 0..theirs {
            append(&fork, 100 + n).await.unwrap();
        }
        client(&fork, &fake).round(0).await;
        let mine = client(&log, &fake);
        for n in 0..ours {
            append(&log, 200 + n).await.unwrap();
        }
        assert_eq!(mine.round(0).await, Outcome::Alarm, "{ours} {theirs}");
        let (why, _) = why(&log).unwrap();
        let words = match theirs > ours {
            true => "older copies were restored",
            false => "this log does not contain: a fork",
        };
        assert!(why.contains(words), "{why}");
        assert!(append(&log, 300).await.is_err());
        assert_eq!(cosigned(&log, &fake), None);
        assert!(mine.board().standings()[0].alarm);
    }
}

#[tokio::test]
async fn a_witness_that_refuses_what_it_shows_itself_is_wrong_and_fences_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let fake = Fake::new(&log);
    let client = client(&log, &fake);
    client.round(0).await;
    append(&log, 0).await.unwrap();
    for (status, kind, body) in [
        (422, "", String::new()),
        (409, SIZE_TYPE, "1000\n".to_owned()),
        (409, SIZE_TYPE, "1\n".to_owned()),
    ] {
        fake.set(Mood::Answers(status, kind, body));
        assert!(matches!(client.round(0).await, Outcome::Trouble(_)));
        assert_eq!(why(&log), None, "{status}");
    }
    // One that shows nothing is believed: that is what it was named for.
    *fake.shows.lock().unwrap() = false;
    fake.set(Mood::Answers(422, "", String::new()));
    assert_eq!(client.round(0).await, Outcome::Alarm);
    assert!(why(&log).unwrap().1.contains("taken from --witness"));
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_a_silent_witness_no_longer_than_its_patience() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let fake = Fake::new(&log);
    fake.set(Mood::Silent);
    let client = client(&log, &fake);
    client.compare(Duration::from_secs(10)).await;
    let standing = client.board().standings()[0].clone();
    assert_eq!(
        standing.trouble.as_deref(),
        Some("no answer in 10 s at the start")
    );
    assert_eq!(why(&log), None);
    append(&log, 0).await.unwrap();
}

#[tokio::test]
async fn the_background_follows_published_heads_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let fake = Fake::new(&log);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let running = tokio::spawn(client(&log, &fake).run(stopped));
    for n in 0..20 {
        append(&log, n).await.unwrap();
    }
    let newest = log.tree().size;
    let mut size = fake.size.subscribe();
    size.wait_for(|size| *size == newest).await.unwrap();
    // Twenty heads, few questions.
    assert!(fake.asked.lock().unwrap().len() < 10);
    stop.send_replace(true);
    running.await.unwrap();
}
