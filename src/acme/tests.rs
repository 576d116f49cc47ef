//! Tests of the keeper with an authority of words; the integration tests have a real one.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{carrier::Said, keeper::Keeper, *};
use crate::{
    build::BoxFuture,
    fetch::wire::AuthorityAsk,
    serve::{
        clock::Clock,
        tls::tests::{NOW_S, lasting},
    },
};

const NAME: &str = "a.example.org";
const DIRECTORY: &str = "https://ca.test/dir";

/// Answers in turn, then nothing more; remembers what it was asked.
#[derive(Default)]
struct Words {
    answers: Mutex<Vec<Result<Said, String>>>,
    asked: Mutex<Vec<String>>,
}

impl Words {
    fn of(answers: impl IntoIterator<Item = Result<Said, String>>) -> Arc<Self> {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Arc::new(Self {
            answers: Mutex::new(answers),
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Carrier for Arc<Words> {
    fn ask(&self, question: AuthorityAsk) -> BoxFuture<'_, Result<Said, String>> {
        let asked = match question {
            AuthorityAsk::Get { url } => format!("GET {url}"),
            AuthorityAsk::Head { url } => format!("HEAD {url}"),
            AuthorityAsk::Post { url, .. } => format!("POST {url}"),
        };
        self.asked.lock().unwrap().push(asked);
        let answer = self.answers.lock().unwrap().pop();
        let answer = answer.unwrap_or_else(|| Err("nobody is there".to_owned()));
        Box::pin(async move { answer })
    }
}

struct Hand(AtomicU64);

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Relaxed) * 1_000
    }
}

struct Bench {
    data: tempfile::TempDir,
    clock: Arc<Hand>,
}

impl Bench {
    fn new() -> Self {
        Self {
            data: tempfile::tempdir().unwrap(),
            clock: Arc::new(Hand(AtomicU64::new(NOW_S))),
        }
    }

    fn advance(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Relaxed);
    }

    fn wanted() -> Wanted {
        Wanted {
            directory: Directory::parse(DIRECTORY).unwrap(),
            name: NAME.to_owned(),
            contact: None,
        }
    }

    fn open(&self, words: &Arc<Words>) -> Keeper {
        let carrier = Arc::new(Arc::clone(words));
        let clock = Arc::clone(&self.clock) as _;
        Keeper::open(self.data.path(), Self::wanted(), carrier, clock).unwrap()
    }

    fn folder(&self) -> state::Folder {
        let wanted = Self::wanted();
        state::Folder::open(self.data.path(), &wanted.directory, NAME).unwrap()
    }
}

fn said(status: u16, body: &str) -> Result<Said, String> {
    Ok(Said {
        status,
        nonce: Some("n".to_owned()),
        body: body.as_bytes().to_vec(),
        ..Said::default()
    })
}

fn directory() -> Result<Said, String> {
    said(
        200,
        r#"{"newNonce":"https://ca.test/n","newAccount":"https://ca.test/a",
            "newOrder":"https://ca.test/o"}"#,
    )
}

#[test]
fn an_authority_is_one_of_two_names_or_an_https_address() {
    for text in ["letsencrypt", "letsencrypt-staging"] {
        let directory = Directory::parse(text).unwrap();
        assert!(directory.to_string().starts_with("https://"), "{directory}");
        assert!(directory.host().ends_with(".letsencrypt.org"));
    }
    Directory::parse("https://127.0.0.1:14000/dir").unwrap();
    let long = format!("{DIRECTORY}/{}", "x".repeat(200));
    for text in [
        "",
        "Letsencrypt",
        "ca.test",
        "http://ca.test/dir",
        "http://127.0.0.1/dir",
        "https://user@ca.test/dir",
        "https://ca.test/dir#a",
        "https:///",
        "file:///dir",
        &long,
    ] {
        let refused = Directory::parse(text).unwrap_err().to_string();
        assert!(refused.contains("`letsencrypt-staging`"), "{refused}");
    }
}

#[test]
fn a_contact_is_one_address_for_mail() {
    for text in ["you@example.org", "a.b+c_d-e@x.y"] {
        assert_eq!(
            Contact::parse(text).unwrap().url(),
            format!("mailto:{text}")
        );
    }
    let long = format!("{}@example.org", "x".repeat(CONTACT_BYTES_MAX));
    for text in [
        "",
        "you",
        "@example.org",
        "you@localhost",
        "mailto:you@example.org",
        "a@b.example,c@d.example",
        "a@b.example?cc=c@d.example",
        "a b@example.org",
        "ä@example.org",
        &long,
    ] {
        assert!(Contact::parse(text).is_err(), "{text}");
    }
}

#[tokio::test]
async fn nobody_is_asked_while_the_certificate_is_good() {
    let bench = Bench::new();
    bench.folder().keep_pair(&lasting(NAME, 2026)).unwrap();
    let words = Words::of([]);
    let mut keeper = bench.open(&words);
    assert_eq!(keeper.tls().until(), "2026-12-01T00:00:00Z");
    // From 2025-12-01 to 2026-12-01: two thirds of it are 243 days and 8 hours.
    let wait_s = keeper.step(true).await;
    assert_eq!(wait_s, (243 * 24 + 8 - 31 * 24) * 3_600);
    bench.advance(wait_s - 1);
    assert_eq!(keeper.step(true).await, 1);
    assert_eq!(words.asked(), [""; 0]);
    bench.advance(1);
    assert_eq!(keeper.step(false).await, 0);
    assert_eq!(words.asked(), [format!("GET {DIRECTORY}")]);
    assert_eq!(keeper.tls().until(), "2026-12-01T00:00:00Z", "still in use");
}

#[tokio::test]
async fn a_failure_is_told_and_tried_again_later_also_after_a_restart() {
    let bench = Bench::new();
    let words = Words::of([]);
    let mut keeper = bench.open(&words);
    assert_eq!(keeper.step(true).await, 0);
    let told = "the authority was not asked: nobody is there; next try at 2026-01-01T00:01:00Z";
    assert_eq!(keeper.tls().refused().as_deref(), Some(told));
    assert_eq!(keeper.step(false).await, 60);
    assert_eq!(keeper.step(true).await, 60);
    bench.advance(60);
    assert_eq!(keeper.step(false).await, 0);
    assert_eq!(keeper.step(false).await, 120);
    drop(keeper);
    // Who starts the service wants it sooner, but not at once.
    let mut keeper = bench.open(&words);
    assert_eq!(keeper.step(true).await, 60);
    let told = keeper.tls().refused().unwrap();
    assert!(told.contains("nobody is there"), "{told}");
    assert_eq!(words.asked().len(), 2);
    bench.advance(60);
    assert_eq!(keeper.step(true).await, 0);
    assert_eq!(words.asked().len(), 3);
}

#[tokio::test]
async fn what_is_no_message_of_the_protocol_is_told_in_words() {
    let limit = Said {
        status: 429,
        retry_after_s: Some(7_200),
        body: br#"{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many accounts"}"#
            .to_vec(),
        ..Said::default()
    };
    let busy = Said {
        status: 503,
        retry_after_s: Some(600),
        body: b"<html>\nsorry".to_vec(),
        ..Said::default()
    };
    let escape = "x\u{1b}[31m\n";
    let problem = format!(r#"{{"type":"a:b","detail":{}}}"#, serde_json::json!(escape));
    for (answers, part, wait_s) in [
        (
            vec![Ok(busy)],
            "the authority answers with status 503: <html>;",
            600,
        ),
        (
            vec![said(404, "")],
            "the authority answers with status 404;",
            60,
        ),
        (vec![said(200, "<html>")], "is not understood: ", 60),
        (vec![said(200, "{}")], "missing field `newNonce`", 60),
        (
            vec![directory(), said(500, "x")],
            "answers with status 500: x;",
            60,
        ),
        (
            vec![directory(), said(200, ""), said(502, "<html>")],
            "answers with status 502: <html>;",
            60,
        ),
        (
            vec![directory(), said(200, ""), Ok(limit)],
            "the authority refuses: rateLimited: too many accounts;",
            7_200,
        ),
        (
            vec![directory(), said(200, ""), said(403, &problem)],
            "the authority refuses: a:b: x?[31m;",
            60,
        ),
        (
            vec![directory(), said(200, ""), said(201, "{}")],
            "failed to get account URL",
            60,
        ),
    ] {
        let bench = Bench::new();
        let words = Words::of(answers);
        let mut keeper = bench.open(&words);
        assert_eq!(keeper.step(true).await, 0);
        let told = keeper.tls().refused().unwrap();
        assert!(told.contains(part), "{part}: {told}");
        assert!(told.is_ascii() && told.len() < 600, "{told}");
        assert_eq!(keeper.step(true).await, wait_s, "{part}");
    }
}

#[tokio::test]
async fn an_account_that_the_authority_has_lost_is_put_aside_and_another_one_made() {
    let bench = Bench::new();
    let made = Ok(Said {
        status: 201,
        location: Some("https://ca.test/a/1".to_owned()),
        nonce: Some("n".to_owned()),
        ..Said::default()
    });
    let lost = r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist","detail":"x"}"#;
    let words = Words::of([
        directory(),
        said(200, ""),
        made.clone(),
        said(200, ""),
        said(400, lost),
        directory(),
        said(200, ""),
        made,
    ]);
    let mut keeper = bench.open(&words);
    let count = |part: &str| {
        let all = std::fs::read_dir(only(&only(&bench.data.path().join("acme")))).unwrap();
        let names = all.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(part)).count()
    };
    assert_eq!(keeper.step(true).await, 0);
    let told = keeper.tls().refused().unwrap();
    assert!(told.starts_with("the authority does not know our account;"));
    assert_eq!((count("account.json"), count("aside")), (1, 1));
    bench.advance(60);
    assert_eq!(keeper.step(true).await, 0);
    assert_eq!((count("account.json"), count("aside")), (2, 1));
    let posts = |at: &&String| **at == "POST https://ca.test/a";
    assert_eq!(words.asked().iter().filter(posts).count(), 2);
}

/// The one folder that lies in another.
fn only(folder: &Path) -> std::path::PathBuf {
    let mut all = std::fs::read_dir(folder).unwrap();
    all.next().unwrap().unwrap().path()
}
