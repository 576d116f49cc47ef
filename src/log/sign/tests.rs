//! The role in a thread, asked over its socket: honestly, and as a `serve` that was taken over.

use std::{path::Path, thread::JoinHandle};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hotcell_sandbox::channel::{Channel, ChannelError};

use super::{
    role,
    wire::{Answer, Ask, Head, PART_BYTES_MAX, STATEMENT_BYTES_MAX},
    *,
};
use crate::{
    log::{LocalSigner, SignError, Signer},
    provenance,
    tlog::{Hash, Note, Tree, leaf_hash, proof, testing::NaiveTree, text::tree_text},
};

type Ended = JoinHandle<Result<(), ChannelError>>;

fn start(folder: &Path) -> (Channel, Ended) {
    let (ours, theirs) = Channel::pair().unwrap();
    let folder = folder.to_owned();
    let thread = std::thread::spawn(move || role::run(&theirs, &folder, &SignStart::default()));
    (ours, thread)
}

fn ask(channel: &Channel, ask: &Ask) -> Answer {
    channel.send(ask, &[]).unwrap();
    channel.receive().unwrap().unwrap().0
}

fn consistency(naive: &NaiveTree, size: u64, old: u64) -> Vec<Hash> {
    let indexes = proof::consistency_indexes(size, old).unwrap();
    proof::consistency(size, old, &naive.stored(&indexes)).unwrap()
}

#[test]
fn a_log_is_signed_over_the_socket_and_found_again_by_the_next_role() {
    let folder = tempfile::tempdir().unwrap();
    let naive = NaiveTree::of_vectors();
    let (channel, ended) = start(folder.path());
    let signer = RemoteSigner::connect(channel, None, "log.example.org").unwrap();
    let signer = signer.unwrap();
    assert_eq!(signer.last().unwrap().size, 0);
    signer.sign(naive.tree(5), &[]).unwrap();
    let proof = consistency(&naive, 9, 5);
    let nine = signer.sign(naive.tree(9), &proof).unwrap();
    let (key, statement_key) = (signer.verifier().clone(), signer.statement_key());
    let text = Note::parse(nine.note.as_bytes()).unwrap();
    assert_eq!(text.verify(&key).unwrap(), tree_text(&naive.tree(9)));
    let fork = Tree {
        size: 9,
        root: leaf_hash(b"fork"),
    };
    for (tree, proof) in [(fork, vec![]), (naive.tree(5), vec![]), (fork, proof)] {
        let refused = signer.sign(tree, &proof);
        assert!(matches!(refused, Err(SignError::Refused { last: 9, .. })));
    }
    drop(signer);
    ended.join().unwrap().unwrap();

    let (channel, ended) = start(folder.path());
    let signer = RemoteSigner::connect(channel, Some(&key), "other").unwrap();
    let signer = signer.unwrap();
    assert_eq!(*signer.verifier(), key);
    assert_eq!(signer.statement_key(), statement_key);
    assert_eq!(signer.last().unwrap(), naive.tree(9));
    assert_eq!(signer.sign(naive.tree(9), &[]).unwrap(), nine);
    drop(signer);
    ended.join().unwrap().unwrap();
}

#[test]
fn a_key_that_it_does_not_have_and_one_in_use_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalSigner::create(folder.path(), "x").unwrap();
    let (channel, _ended) = start(folder.path());
    let locked = RemoteSigner::connect(channel, Some(local.verifier()), "x");
    assert!(matches!(locked, Err(SignError::Locked)));
    let elsewhere = tempfile::tempdir().unwrap();
    let (channel, _ended) = start(elsewhere.path());
    let none = RemoteSigner::connect(channel, Some(local.verifier()), "x").unwrap();
    assert!(none.is_none());
    assert_eq!(elsewhere.path().read_dir().unwrap().count(), 0);
    let key = local.verifier().clone();
    drop(local);
    std::fs::remove_file(folder.path().join(key.id()).join("last")).unwrap();
    let (channel, _ended) = start(folder.path());
    let lost = RemoteSigner::connect(channel, Some(&key), "x");
    assert!(matches!(lost, Err(SignError::StateLost { what }) if what == "last"));
}

#[test]
fn statements_of_any_length_are_signed_as_dsse_demands_and_as_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (channel, _ended) = start(folder.path());
    let signer = RemoteSigner::connect(channel, None, "x").unwrap().unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&signer.statement_key()).unwrap();
    let log_key = signer.verifier().public();
    for length in [0, 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 5 * PART_BYTES_MAX] {
        let mut statement = vec![b'x'; length];
        // What looks like a head is signed as a statement and can never pass for a head.
        let head = tree_text(&NaiveTree::of_vectors().tree(3));
        statement.splice(..length.min(head.len()), head.bytes().take(length));
        let signature = signer.sign_statement(&statement).unwrap();
        let signature = ed25519_dalek::Signature::from_bytes(&signature);
        let wrapped = provenance::pre_authentication(&statement);
        key.verify_strict(&wrapped, &signature).unwrap();
        assert!(key.verify_strict(&statement, &signature).is_err());
        assert!(log_key.verify_strict(&statement, &signature).is_err());
        assert!(log_key.verify_strict(&wrapped, &signature).is_err());
    }
    let long = vec![0; STATEMENT_BYTES_MAX + 1];
    assert!(matches!(
        signer.sign_statement(&long),
        Err(SignError::Io(_))
    ));
    signer.sign_statement(b"the next one").unwrap();
}

#[test]
fn a_serve_that_was_taken_over_gets_no_second_key_and_no_text_signed() {
    let folder = tempfile::tempdir().unwrap();
    let naive = NaiveTree::of_vectors();
    let (channel, _ended) = start(folder.path());
    let failed = |question: Ask| match ask(&channel, &question) {
        Answer::Failed { why } => why,
        other => panic!("{question:?} gave {other:?}"),
    };
    let name = |name: &str| Ask::Create {
        name: name.to_owned(),
        beside: false,
    };
    let head = |tree: &Tree| Head::new(tree);
    let sign = |tree: &Tree, proof: Vec<String>| Ask::Sign {
        head: head(tree),
        proof,
    };
    assert!(failed(Ask::Last).contains("no key yet"));
    assert!(failed(sign(&naive.tree(1), vec![])).contains("no key yet"));
    failed(name("a b"));
    failed(name("../../x\n"));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    let opened = ask(&channel, &name("log.example.org"));
    assert!(matches!(opened, Answer::Opened { .. }));
    assert!(failed(name("log.example.org")).contains("already"));
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    let signed = ask(&channel, &sign(&naive.tree(5), vec![]));
    assert!(matches!(signed, Answer::Signed { .. }));
    let early = ask(&channel, &sign(&naive.tree(4), vec![]));
    assert!(matches!(early, Answer::Refused { last: 5, size: 4 }));
    failed(sign(&naive.tree(9), vec!["no hash".to_owned()]));
    failed(sign(&naive.tree(9), vec![leaf_hash(b"").to_string(); 129]));
    let base64 = STANDARD.encode(vec![0; PART_BYTES_MAX + 1]);
    failed(Ask::Statement {
        base64,
        more: false,
    });
}

#[test]
fn garbage_ends_the_role_and_a_dead_role_is_gone_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let (channel, ended) = start(folder.path());
    channel.send(&"sign this", &[]).unwrap();
    let error = ended.join().unwrap().unwrap_err();
    assert!(matches!(error, ChannelError::Parse(_)));
    assert!(channel.receive::<Answer>().unwrap().is_none());

    let (channel, ended) = start(folder.path());
    let copy = Channel::from(
        std::os::fd::AsFd::as_fd(&channel)
            .try_clone_to_owned()
            .unwrap(),
    );
    let signer = RemoteSigner::connect(channel, None, "x").unwrap().unwrap();
    copy.send(&"garbage", &[]).unwrap();
    ended.join().unwrap().unwrap_err();
    for _ in 0..2 {
        assert!(matches!(signer.last(), Err(SignError::Gone)));
        let statement = signer.sign_statement(b"x");
        assert!(matches!(statement, Err(SignError::Gone)));
    }
}

#[test]
fn only_a_role_that_the_operator_has_started_makes_a_key_ahead_lists_keys_or_ends_a_log() {
    let folder = tempfile::tempdir().unwrap();
    let naive = NaiveTree::of_vectors();
    let next = LocalSigner::create(folder.path(), "next.example.org").unwrap();
    let next = next.verifier().clone();
    let (channel, ended) = start(folder.path());
    for asked in [
        Ask::Keys,
        Ask::Generate {
            name: "x".to_owned(),
        },
    ] {
        let refused = ask(&channel, &asked);
        assert!(matches!(refused, Answer::Failed { why } if why.contains("operator")));
    }
    let signer = RemoteSigner::connect(channel, None, "log.example.org");
    let signer = signer.unwrap().unwrap();
    signer.sign(naive.tree(5), &[]).unwrap();
    assert!(matches!(signer.end(&next), Err(SignError::Io(_))));
    let proof = consistency(&naive, 9, 5);
    signer.sign(naive.tree(9), &proof).unwrap();
    let key = signer.verifier().clone();
    drop(signer);
    ended.join().unwrap().unwrap();

    let operator = || {
        let (ours, theirs) = Channel::pair().unwrap();
        let folder = folder.path().to_owned();
        let start = SignStart { operator: true };
        let thread = std::thread::spawn(move || role::run(&theirs, &folder, &start));
        (Operator::new(ours).unwrap(), thread)
    };
    let (mut first, thread) = operator();
    assert_eq!(first.keys().unwrap().len(), 2);
    let signer = first.open(&key).unwrap();
    let (tree, checkpoint) = signer.end(&next).unwrap();
    assert_eq!(tree, naive.tree(9));
    let follows = crate::receipt::Follows::new(&key, &checkpoint, &next);
    assert!(follows.is_some_and(|follows| follows.is_signed(&next)));
    assert!(matches!(
        signer.last(),
        Err(SignError::Ended { size: 9, .. })
    ));
    assert!(matches!(signer.witness(&[]), Err(SignError::Ended { .. })));
    drop(signer);
    thread.join().unwrap().unwrap();
    let (second, _thread) = operator();
    let taken = second.begin("next.example.org");
    assert!(matches!(taken, Err(SignError::Taken { kept }) if kept[0].follows.is_some()));
}
