//! The witness alone and in its role: asked honestly, by a `serve` that was taken over, by two at a
//! time, and after its files were touched.

use std::{path::Path, sync::Barrier};

use hotcell_sandbox::channel::Channel;
use proptest::prelude::*;

use super::{
    cosigner::Cosigner,
    role,
    wire::{Answer, Ask},
    *,
};
use crate::{
    log::{LocalSigner, SignError, Signer as _},
    store::durable,
    tlog::{
        Hash, Note, SigningKey, Tree, VerifierKey, WitnessKey,
        judge::Denied,
        leaf_hash, proof,
        testing::NaiveTree,
        text::checkpoint_text,
        witness::{AddCheckpoint, REQUEST_BYTES_MAX},
    },
};

const OTHER: &str = "b.example";
const NOW_S: u64 = 1_795_253_099;

fn other(seed: u8) -> SigningKey {
    SigningKey::from_seed(OTHER, &[seed; 32]).unwrap()
}

fn proof(naive: &NaiveTree, size: u64, old: u64) -> Vec<Hash> {
    let indexes = proof::consistency_indexes(size, old).unwrap();
    proof::consistency(size, old, &naive.stored(&indexes)).unwrap()
}

fn body(key: &SigningKey, tree: &Tree, old: u64, proof: Vec<Hash>) -> String {
    let text = checkpoint_text(key.verifier().name(), tree);
    let checkpoint = key.sign(&text).unwrap();
    let request = AddCheckpoint {
        old,
        proof,
        checkpoint,
    };
    request.to_string()
}

/// The request of an honest log that goes from `old` to `size`.
fn honest(naive: &NaiveTree, old: u64, size: u64) -> String {
    let proof = match old == 0 || old == size {
        true => vec![],
        false => proof(naive, size, old),
    };
    body(&other(7), &naive.tree(size), old, proof)
}

fn fork(size: u64) -> Tree {
    Tree {
        size,
        root: leaf_hash(b"fork"),
    }
}

fn open(signer: &LocalSigner, logs: &[&SigningKey]) -> Result<Cosigner, SignError> {
    let logs = logs.iter().map(|log| log.verifier().clone()).collect();
    Cosigner::open(signer.folder(), signer.verifier(), logs)
}

fn cosign(cosigner: &Cosigner, body: &str, now_s: u64) -> Result<Cosigned, CosignError> {
    cosigner.cosign(body.as_bytes(), now_s)
}

fn denied(result: Result<Cosigned, CosignError>) -> Denied {
    match result {
        Err(CosignError::Denied(why)) => why,
        other => panic!("{other:?}"),
    }
}

/// What the next process would find.
fn on_disk(signer: &LocalSigner) -> Option<Cosigned> {
    open(signer, &[&other(7)]).unwrap().seen(OTHER).unwrap()
}

fn signer(folder: &Path) -> LocalSigner {
    LocalSigner::create(folder, "a.example").unwrap()
}

#[test]
fn heads_are_cosigned_with_a_key_of_its_own_and_remembered_on_the_disk_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let naive = NaiveTree::of_vectors();
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    assert_eq!(cosigner.seen(OTHER).unwrap(), None);
    let key = cosigner.public().clone();
    assert_eq!(key.name(), "a.example/witness");
    assert_ne!(key.public(), signer.verifier().public());
    let mut old = 0;
    for (step, size) in (0..).zip([0, 3, 3, 9, 256, 700]) {
        let now_s = NOW_S + 100 * step;
        let cosigned = cosign(&cosigner, &honest(&naive, old, size), now_s).unwrap();
        assert_eq!(on_disk(&signer).as_ref(), Some(&cosigned), "{size}");
        assert_eq!((cosigned.size, cosigned.time_s), (size, now_s));
        let note = Note::parse(cosigned.checkpoint.as_bytes()).unwrap();
        assert_eq!(key.cosigned(&note), Ok(Some(now_s)));
        let text = checkpoint_text(OTHER, &naive.tree(size));
        assert_eq!(note.verify(other(7).verifier()), Ok(text.as_str()));
        assert!(cosigned.checkpoint.ends_with(&cosigned.line));
        assert_eq!(note.signatures().len(), 2);
        old = size;
    }
    // The next process has the same key and goes on from there.
    let next = open(&signer, &[&other(7)]).unwrap();
    assert_eq!(*next.public(), key);
    let early = cosign(&next, &honest(&naive, 0, 9), NOW_S);
    assert_eq!(denied(early), Denied::Stale { size: 700 });
}

#[test]
fn the_time_of_a_cosignature_never_goes_back_and_the_same_head_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let naive = NaiveTree::of_vectors();
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    let at = |old, size, now_s| {
        let cosigned = cosign(&cosigner, &honest(&naive, old, size), now_s).unwrap();
        cosigned.time_s
    };
    assert_eq!(at(0, 5, NOW_S), NOW_S);
    let path = signer.folder().join("witness.seen");
    let changed = || std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let before = changed();
    assert_eq!(at(5, 5, NOW_S + 9), NOW_S, "no new line for a repetition");
    assert_eq!(at(5, 5, NOW_S - 1000), NOW_S);
    assert_eq!(changed(), before);
    assert_eq!(at(5, 5, NOW_S + 10), NOW_S + 10);
    assert_eq!(at(5, 6, NOW_S - 1000), NOW_S + 10, "the clock went back");
    assert_eq!(at(6, 7, 0), NOW_S + 10);
    let next = open(&signer, &[&other(7)]).unwrap();
    let cosigned = cosign(&next, &honest(&naive, 7, 8), 1).unwrap();
    assert_eq!(cosigned.time_s, NOW_S + 10, "after a restart, too");
    let late = cosign(&next, &honest(&naive, 8, 9), u64::MAX).unwrap();
    assert_eq!(late.time_s, crate::tlog::cosignature::TIME_MAX_S);
}

#[test]
fn what_a_killed_process_left_is_written_again_before_anybody_hears_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    let request = honest(&NaiveTree::of_vectors(), 0, 5);
    let cosigned = cosign(&cosigner, &request, NOW_S).unwrap();
    drop(cosigner);
    let path = signer.folder().join("witness.seen");
    let file = || std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let (text, before) = (std::fs::read(&path).unwrap(), file());
    let next = open(&signer, &[&other(7)]).unwrap();
    assert_ne!(file(), before);
    assert_eq!(std::fs::read(&path).unwrap(), text);
    assert_eq!(next.seen(OTHER).unwrap(), Some(cosigned));
}

#[test]
fn a_time_is_never_zero() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    let request = honest(&NaiveTree::of_vectors(), 0, 5);
    assert_eq!(cosign(&cosigner, &request, 0).unwrap().time_s, 1);
}

#[test]
fn of_two_forks_at_the_same_moment_one_is_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let naive = NaiveTree::of_vectors();
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    let heads: Vec<String> = (0..4_u8)
        .map(|n| {
            let root = leaf_hash(&[n]);
            body(&other(7), &Tree { size: 9, root }, 0, vec![])
        })
        .chain([honest(&naive, 0, 9)])
        .collect();
    let start = Barrier::new(heads.len());
    let good = std::thread::scope(|scope| {
        let offer = |head: &String| {
            let (start, cosigner, head) = (&start, &cosigner, head.clone());
            scope.spawn(move || {
                start.wait();
                cosign(cosigner, &head, NOW_S).is_ok()
            })
        };
        let all: Vec<_> = heads.iter().map(offer).collect();
        all.into_iter()
            .map(|one| usize::from(one.join().unwrap()))
            .sum::<usize>()
    });
    assert_eq!(good, 1);
}

#[test]
fn a_head_that_cannot_be_remembered_is_not_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let naive = NaiveTree::of_vectors();
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    cosign(&cosigner, &honest(&naive, 0, 5), NOW_S).unwrap();
    let path = signer.folder().join("witness.seen");
    let kept = std::fs::read(&path).unwrap();
    // Nothing can be renamed to the name of a folder, whoever asks.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let failed = cosign(&cosigner, &honest(&naive, 5, 9), NOW_S + 100);
    assert!(matches!(failed, Err(CosignError::Sign(SignError::Io(_)))));
    assert!(cosigner.seen(OTHER).is_err());
    std::fs::remove_dir(&path).unwrap();
    let gone = cosigner.seen(OTHER);
    assert!(matches!(gone, Err(SignError::StateLost { .. })), "{gone:?}");
    durable::write_new(&path, &kept, 0o600).unwrap();
    assert_eq!(cosigner.seen(OTHER).unwrap().unwrap().size, 5);
    let again = cosign(&cosigner, &honest(&naive, 5, 9), NOW_S + 100).unwrap();
    assert_eq!(on_disk(&signer), Some(again));
}

#[test]
fn missing_or_damaged_memory_is_an_error_and_never_a_fresh_start() {
    let naive = NaiveTree::of_vectors();
    let empty = "{\"version\":1,\"logs\":[]}";
    for name in ["witness.seen", "witness.key"] {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(folder.path());
        let cosigner = open(&signer, &[&other(7)]).unwrap();
        cosign(&cosigner, &honest(&naive, 0, 5), NOW_S).unwrap();
        let path = signer.folder().join(name);
        let good = std::fs::read_to_string(&path).unwrap();
        let mut bad = vec![
            String::new(),
            "\n".to_owned(),
            "{}".to_owned(),
            good[..good.len() / 2].to_owned(),
            "x".repeat(600 * 1024),
        ];
        if name == "witness.seen" {
            let twice = format!("{0},{0}]}}", &good[..good.len() - 2]);
            let twice = twice.replacen("},{\"version\":1,\"logs\":[", "},", 1);
            bad.extend([
                good.replace("\\n5\\n", "\\n4\\n"),
                good.replace("\"version\":1", "\"version\":2"),
                good.replace(
                    &other(7).verifier().to_string(),
                    &other(8).verifier().to_string(),
                ),
                twice,
            ]);
        } else {
            bad.push("00".repeat(32) + "\n"); // another key: the lines are not its
        }
        for text in bad {
            std::fs::remove_file(&path).unwrap();
            durable::write_new(&path, text.as_bytes(), 0o600).unwrap();
            let opened = open(&signer, &[&other(7)]);
            let text = &text[..text.len().min(80)];
            match opened {
                Err(SignError::StateLost { .. } | SignError::Io(_)) => {}
                other => panic!("{name} {text:?}: {other:?}"),
            }
        }
        std::fs::remove_file(&path).unwrap();
        let opened = open(&signer, &[&other(7)]);
        let lost = matches!(&opened, Err(SignError::StateLost { what }) if what == name);
        assert!(lost, "{name}: {opened:?}");
        durable::write_new(&path, good.as_bytes(), 0o600).unwrap();
        assert_eq!(on_disk(&signer).unwrap().size, 5);
    }
    // A crash between memory and key of a first start is neither.
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    durable::write_new(
        &signer.folder().join("witness.seen"),
        empty.as_bytes(),
        0o600,
    )
    .unwrap();
    open(&signer, &[&other(7)]).unwrap();
}

#[test]
fn its_files_are_secret_and_hold_what_they_hold() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    cosign(&cosigner, &honest(&NaiveTree::of_vectors(), 0, 5), NOW_S).unwrap();
    for name in ["witness.key", "witness.seen"] {
        let mode = signer.folder().join(name).metadata().unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
    let secret = std::fs::read_to_string(signer.folder().join("witness.key")).unwrap();
    assert!(!format!("{cosigner:?}").contains(secret.trim()));
    // A witness adds nothing to the folder that the next start would stumble over.
    assert_eq!(signer.folder().read_dir().unwrap().count(), 6);
}

#[test]
fn logs_are_pinned_to_their_key_and_are_few_and_none_of_them_is_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let unfit = |logs: &[&SigningKey]| match open(&signer, logs) {
        Err(SignError::Unfit(why)) => why,
        other => panic!("{other:?}"),
    };
    let origin = || OTHER.to_owned();
    let own = SigningKey::from_seed("a.example", &[7; 32]).unwrap();
    assert!(matches!(unfit(&[&own]), Unfit::Own { .. }));
    let two = unfit(&[&other(7), &other(8)]);
    assert_eq!(two, Unfit::Twice { origin: origin() });
    // Named and never cosigned: a slip of the pen is not for ever.
    open(&signer, &[&other(8)]).unwrap();
    let cosigner = open(&signer, &[&other(7)]).unwrap();
    cosign(&cosigner, &honest(&NaiveTree::of_vectors(), 0, 5), NOW_S).unwrap();
    let pinned = unfit(&[&other(8)]);
    assert_eq!(pinned, Unfit::OtherKey { origin: origin() });
    let named = |n: usize| SigningKey::from_seed(&format!("log{n}.example"), &[9; 32]).unwrap();
    let many: Vec<SigningKey> = (0..LOGS_MAX).map(named).collect();
    let many: Vec<&SigningKey> = many.iter().collect();
    open(&signer, &many[1..]).unwrap();
    assert_eq!(unfit(&many), Unfit::Many, "the one that it cosigned counts");
    // What is no longer named is remembered and not cosigned.
    let without = open(&signer, &[]).unwrap();
    let request = honest(&NaiveTree::of_vectors(), 5, 9);
    assert_eq!(
        denied(cosign(&without, &request, NOW_S)),
        Denied::UnknownLog
    );
    assert_eq!(on_disk(&signer).unwrap().size, 5);
}

#[test]
fn all_logs_that_there_may_be_fit_in_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let signer = signer(folder.path());
    let naive = NaiveTree::of_vectors();
    let named = |n: usize| {
        let name = format!("{n:03}{}", "\\".repeat(252));
        SigningKey::from_seed(&name, &[9; 32]).unwrap()
    };
    let many: Vec<SigningKey> = (0..LOGS_MAX).map(named).collect();
    let all: Vec<&SigningKey> = many.iter().collect();
    let cosigner = open(&signer, &all).unwrap();
    for log in &many {
        let text = checkpoint_text(log.verifier().name(), &naive.tree(5));
        let text = format!("{text}{}\n", "\"".repeat(1023 - text.len()));
        let checkpoint = log.sign(&text).unwrap();
        let request = AddCheckpoint {
            old: 0,
            proof: vec![],
            checkpoint,
        };
        cosign(&cosigner, &request.to_string(), NOW_S).unwrap();
    }
    let next = open(&signer, &all).unwrap();
    let last = many.last().unwrap().verifier().name();
    assert_eq!(next.seen(last).unwrap().unwrap().size, 5);
}

#[test]
fn a_serve_that_was_taken_over_gets_no_fork_no_older_head_and_no_unsigned_one_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let naive = NaiveTree::of_vectors();
    let (channel, theirs) = Channel::pair().unwrap();
    let path = folder.path().to_owned();
    let ended = std::thread::spawn(move || role::run(&theirs, &path, &SignStart::default()));
    let ask = |ask: Ask| {
        channel.send(&ask, &[]).unwrap();
        channel.receive::<Answer>().unwrap().unwrap().0
    };
    let failed = |question: Ask| match ask(question) {
        Answer::Failed { why } => why,
        other => panic!("{other:?}"),
    };
    let witness = |logs: &[&VerifierKey]| Ask::Witness {
        logs: logs.iter().map(ToString::to_string).collect(),
    };
    let cosign = |body: String| ask(Ask::Cosign { body });
    let (log, foreign) = (other(7), other(8));
    assert!(failed(witness(&[log.verifier()])).contains("no key yet"));
    let name = "a.example".to_owned();
    let Answer::Opened { key: own, .. } = ask(Ask::Create {
        name,
        beside: false,
    }) else {
        panic!("not opened");
    };
    let body_of = honest(&naive, 0, 9);
    let early = Ask::Cosign { body: body_of };
    assert!(failed(early).contains("no witness yet"));
    let own = VerifierKey::parse(&own).unwrap();
    let itself = ask(witness(&[&own]));
    assert!(matches!(
        itself,
        Answer::Unfit {
            why: Unfit::Own { .. }
        }
    ));
    let garbage = Ask::Witness {
        logs: vec!["garbage".to_owned()],
    };
    assert!(failed(garbage).contains("no verifier key"));
    let Answer::Witness { key } = ask(witness(&[log.verifier()])) else {
        panic!("no witness");
    };
    let key = WitnessKey::parse(&key).unwrap();
    assert!(failed(witness(&[foreign.verifier()])).contains("already"));
    let Answer::Cosigned { cosigned } = cosign(honest(&naive, 0, 9)) else {
        panic!("not cosigned");
    };
    let note = Note::parse(cosigned.checkpoint.as_bytes()).unwrap();
    assert!(matches!(key.cosigned(&note), Ok(Some(1_700_000_000..))));
    let stale = Denied::Stale { size: 9 };
    for (body, expected) in [
        (body(&log, &fork(9), 9, vec![]), Denied::Inconsistent),
        (
            body(&log, &fork(12), 9, proof(&naive, 12, 9)),
            Denied::Inconsistent,
        ),
        (
            body(&log, &naive.tree(12), 9, proof(&naive, 12, 5)),
            Denied::Inconsistent,
        ),
        (body(&log, &naive.tree(12), 9, vec![]), Denied::Inconsistent),
        (body(&log, &fork(12), 0, vec![]), stale),
        (honest(&naive, 0, 5), stale),
        (honest(&naive, 5, 5), stale),
        (honest(&naive, 5, 12), stale),
        (body(&log, &naive.tree(5), 9, vec![]), Denied::Smaller),
        (
            body(&foreign, &naive.tree(12), 9, proof(&naive, 12, 9)),
            Denied::Unsigned,
        ),
        ("garbage".to_owned(), Denied::Malformed),
        ("x".repeat(REQUEST_BYTES_MAX + 1), Denied::Malformed),
    ] {
        match cosign(body.clone()) {
            Answer::Denied { why } => assert_eq!(why, expected, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let origin = OTHER.to_owned();
    let Answer::Cosigned { cosigned: seen } = ask(Ask::Seen { origin }) else {
        panic!("nothing was seen");
    };
    assert_eq!(seen, cosigned);
    assert!(matches!(
        cosign(honest(&naive, 9, 12)),
        Answer::Cosigned { .. }
    ));
    drop(channel);
    ended.join().unwrap().unwrap();
}

#[test]
fn serve_asks_the_role_over_its_socket_and_the_next_role_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let naive = NaiveTree::of_vectors();
    let start = |key: Option<&VerifierKey>| {
        let (ours, theirs) = Channel::pair().unwrap();
        let path = folder.path().to_owned();
        std::thread::spawn(move || role::run(&theirs, &path, &SignStart::default()));
        RemoteSigner::connect(ours, key, "a.example")
    };
    let remote = start(None).unwrap().unwrap();
    let logs = [other(7).verifier().clone()];
    let key = remote.witness(&logs).unwrap();
    assert_eq!(remote.seen(OTHER).unwrap(), None);
    let cosigned = remote.cosign(&honest(&naive, 0, 5)).unwrap();
    assert_eq!(remote.seen(OTHER).unwrap(), Some(cosigned.clone()));
    let forked = remote.cosign(&body(&other(7), &fork(5), 5, vec![]));
    assert_eq!(denied(forked), Denied::Inconsistent);
    let long = remote.cosign(&"\u{1}".repeat(64 * 1024));
    assert_eq!(denied(long), Denied::Malformed);
    // Heads of its own log are signed on the same line.
    remote.sign(naive.tree(3), &[]).unwrap();
    let own = remote.verifier().clone();
    drop(remote);
    let remote = (0..100).find_map(|_| {
        std::thread::yield_now(); // the first role still closes
        start(Some(&own)).ok().flatten()
    });
    let remote = remote.unwrap();
    let pinned = remote.witness(&[other(8).verifier().clone()]);
    assert!(matches!(
        pinned,
        Err(SignError::Unfit(Unfit::OtherKey { .. }))
    ));
    assert_eq!(remote.witness(&logs).unwrap(), key);
    assert_eq!(remote.seen(OTHER).unwrap(), Some(cosigned));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_is_offered_cosigned_heads_contain_each_other(
        offers in prop::collection::vec((0_u64..20, 0_u64..20, any::<[bool; 2]>()), 1..12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let signer = signer(folder.path());
        let naive = NaiveTree::of_vectors();
        let mut cosigner = open(&signer, &[&other(7)]).unwrap();
        let (mut last, mut last_s) = (0, 0);
        for (number, (old, size, [forked, restart])) in (0_u64..).zip(offers) {
            let tree = if forked { fork(size) } else { naive.tree(size) };
            let proof = match old == 0 || old >= size {
                true => vec![],
                false => proof(&naive, size, old),
            };
            // The clock jumps about.
            let now_s = NOW_S + number * 7_919 % 31;
            let result = cosign(&cosigner, &body(&other(7), &tree, old, proof), now_s);
            // A first head can be any; all later ones have to contain it.
            let first_fork = last == 0 && forked && size > 0;
            prop_assume!(!(first_fork && result.is_ok()));
            let may = old == last && size >= last && !forked;
            prop_assert_eq!(result.is_ok(), may, "{} {} {}", old, size, last);
            if let Ok(cosigned) = result {
                prop_assert!(cosigned.time_s >= last_s);
                (last, last_s) = (size, cosigned.time_s);
            }
            if restart {
                cosigner = open(&signer, &[&other(7)]).unwrap();
            }
            let seen = cosigner.seen(OTHER).unwrap().map_or(0, |seen| seen.size);
            prop_assert_eq!(seen, last);
        }
    }
}
