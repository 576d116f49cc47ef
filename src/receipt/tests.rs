//! Honest receipts, and every lie about one.

use sha2::{Digest as _, Sha256};

use super::{testing::*, *};
use crate::{
    provenance::EnvelopeError,
    tlog::{NoteError, OfflineError, Policy, SigningKey, WitnessSigner, policy::CheckpointError},
};

fn log() -> FakeLog {
    FakeLog::new("build.example.org", 5, 6)
}

fn policy(log: &FakeLog) -> Policy {
    Policy::of_logs(vec![log.signing.verifier().clone()])
}

fn check(text: &str) -> Result<Proved, ReceiptError> {
    Receipt::parse(text.as_bytes())?.check(&policy(&log()))
}

/// Changes the parts of an honest receipt and prints it again.
fn changed(log: &FakeLog, change: impl FnOnce(&mut OfflineProof, &mut Extra)) -> String {
    let Receipt {
        mut proof,
        mut extra,
    } = Receipt::parse(log.receipt(5).as_bytes()).unwrap();
    change(&mut proof, &mut extra);
    proof.extra = Some(extra.json());
    proof.to_string()
}

/// Lies about build 5 of [`log`], each with the sentence that refuses it.
pub(crate) fn lies() -> Vec<(&'static str, String, String)> {
    let honest = log();
    let lie = |change: &dyn Fn(&mut OfflineProof, &mut Extra)| changed(&honest, change);
    let other = FakeLog::new("build.example.org", 6, 6);
    let longer = FakeLog::new("build.example.org", 5, 7);
    let envelope = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let sha256: [u8; 32] = Sha256::digest(binary(5)).into();
    let again = signed(
        &[&statement(&key_of(5), sha256)[..], b" "].concat(),
        &[77; 32],
    );
    let foreign = signed(&statement(&key_of(5), sha256), &[78; 32]);
    let sum = signed(&statement(&key_of(5), [1; 32]), &[77; 32]);
    let text = honest.receipt(5);
    let no_extra = honest.draft(5).finish(None).to_string();
    let checkpoint = |text: String| lie(&|proof, _| proof.checkpoint = text.clone());
    let record = "the record in the receipt is not leaf 11 of the log";
    let companion = "the log's leaf 12 is not the companion of this record and this envelope";
    let believed = "the receipt's checkpoint is not believed";
    let damaged = "the receipt is damaged";
    let malformed = "the receipt's extra data is malformed; fetch it again";
    let all: Vec<(&'static str, String, &str)> = vec![
        ("empty", String::new(), damaged),
        (
            "cut in the middle",
            text[..text.len() / 2].to_owned(),
            damaged,
        ),
        (
            "cut at the end",
            text[..text.len() - 3].to_owned(),
            believed,
        ),
        ("too long", "x".repeat(RECEIPT_BYTES_MAX + 1), damaged),
        (
            "no extra",
            no_extra,
            "the receipt has no extra data, so it says nothing about a build; fetch it again",
        ),
        (
            "spaces in extra",
            {
                let mut proof = OfflineProof::parse(text.as_bytes()).unwrap();
                proof.extra.as_mut().unwrap().push(b' ');
                proof.to_string()
            },
            malformed,
        ),
        (
            "a path of 65 hashes",
            lie(&|_, extra| extra.record_path = Path(vec![Hash([1; 32]); 65])),
            malformed,
        ),
        (
            "another record",
            lie(&|_, it| it.record = record_of(4).text()),
            record,
        ),
        (
            "a record changed",
            lie(&|_, it| it.record = it.record.replace(" 900 ", " 901 ")),
            record,
        ),
        (
            "path of another leaf",
            lie(&|_, it| it.record_path = it.keys.path.clone()),
            record,
        ),
        (
            "record index off",
            lie(&|_, it| it.record_index += 2),
            "the record in the receipt is not leaf 13 of the log",
        ),
        (
            "record index beyond all",
            lie(&|_, it| it.record_index = u64::MAX),
            "the record in the receipt is not leaf 18446744073709551615 of the log",
        ),
        (
            "another record with its path",
            lie(&|_, it| {
                it.record = record_of(4).text();
                it.record_path = Path(log().path(9));
                it.record_index = 9;
            }),
            "the signed statement is of another build than the record: \
             `example.com/mod5@v1.0.0/cmd/tool/linux-amd64-go1.26.8/`",
        ),
        (
            "a companion as record",
            lie(&|_, it| {
                it.record = companion_of(5).text();
                it.record_path = Path(log().path(12));
                it.record_index = 12;
            }),
            "the record in the receipt is malformed",
        ),
        (
            "index off",
            lie(&|proof, _| proof.index = 10),
            "the receipt proves leaf 10; the companion of record 11 is the next",
        ),
        (
            "path cut",
            lie(&|proof, _| proof.path.truncate(1)),
            companion,
        ),
        (
            "path of the record",
            lie(&|proof, it| proof.path = it.record_path.0.clone()),
            companion,
        ),
        (
            "envelope of another build",
            lie(&|_, it| it.envelope = envelope(envelope_of(4))),
            "the signed statement is of another build than the record: \
             `example.com/mod4@v1.0.0/cmd/tool/linux-amd64-go1.26.8/`",
        ),
        (
            "envelope of another binary",
            lie(&|_, it| it.envelope = envelope(sum.clone())),
            "the signed statement's SHA-256 is not that of the record's sum",
        ),
        (
            "another envelope of the same build",
            lie(&|_, it| it.envelope = envelope(again.clone())),
            companion,
        ),
        (
            "envelope of a stranger",
            lie(&|_, it| it.envelope = envelope(foreign.clone())),
            "the receipt's envelope is not believed",
        ),
        (
            "no envelope",
            lie(&|_, it| it.envelope.clear()),
            "the receipt's envelope is not believed",
        ),
        (
            "keys of a stranger",
            lie(&|_, it| it.keys.text = it.keys.text.replace("ed25519:", "ed25519:0")),
            "leaf 0 in the receipt is not in the log",
        ),
        (
            "another leaf as keys",
            lie(&|_, it| {
                it.keys.text = it.record.clone();
                it.keys.path = it.record_path.clone();
            }),
            "leaf 0 in the receipt is not in the log",
        ),
        (
            "checkpoint of another key",
            checkpoint(other.checkpoint()),
            believed,
        ),
        (
            "checkpoint of another size",
            checkpoint(longer.checkpoint()),
            "leaf 0 in the receipt is not in the log",
        ),
        (
            "checkpoint of another log",
            checkpoint(FakeLog::new("other.example", 5, 6).checkpoint()),
            believed,
        ),
        (
            "head in the form of the checksum database",
            checkpoint({
                let tree = honest.tree().tree(13);
                honest
                    .signing
                    .sign(&crate::tlog::text::tree_text(&tree))
                    .unwrap()
            }),
            believed,
        ),
        (
            "101 signatures",
            checkpoint(honest.checkpoint() + &"\u{2014} x AAAAAAAAAAAA\n".repeat(100)),
            believed,
        ),
        (
            "a checkpoint without signature",
            checkpoint(honest.head()),
            believed,
        ),
    ];
    let owned = |(name, text, why): (_, _, &str)| (name, text, why.to_owned());
    all.into_iter().map(owned).collect()
}

#[test]
fn an_honest_receipt_proves_its_binary_and_no_other() {
    for builds in [6, 7, 130] {
        let log = FakeLog::new("build.example.org", 5, builds);
        let text = log.receipt(5);
        let receipt = Receipt::parse(text.as_bytes()).unwrap();
        let proved = receipt.check(&policy(&log)).unwrap();
        assert_eq!(
            (&proved.record, &proved.companion),
            (&record_of(5), &companion_of(5))
        );
        assert_eq!(proved.checkpoint.tree.size, log.leaves.len() as u64);
        assert_eq!(
            (proved.claims.modules(), &*proved.claims.policy),
            (1, "build")
        );
        assert_eq!(proved.claims.finished, "2026-11-21T09:24:59Z");
        let bytes = binary(5);
        let is = |bytes: &[u8]| proved.is_binary(&Sha256::digest(bytes).into(), bytes.len() as u64);
        assert_eq!(is(&bytes), Ok(()));
        let mut flipped = bytes.clone();
        flipped[7] ^= 1;
        assert!(matches!(is(&flipped), Err(ReceiptError::Sha256 { .. })));
        let size = |found, expected| Err(ReceiptError::Size { found, expected });
        assert_eq!(is(&bytes[1..]), size(899, 900));
    }
}

#[test]
fn every_lie_is_refused_with_its_own_sentence() {
    for (lie, text, why) in lies() {
        let error = check(&text).expect_err(lie);
        assert_eq!(error.to_string(), why, "{lie}");
    }
}

#[test]
fn causes_say_more_than_the_sentence() {
    let cause = |name: &str| {
        let (_, text, _) = lies().into_iter().find(|(lie, ..)| *lie == name).unwrap();
        check(&text).unwrap_err()
    };
    let origin = |error| match error {
        ReceiptError::Checkpoint(error) => error,
        other => panic!("{other:?}"),
    };
    let name = "build.example.org".to_owned();
    assert_eq!(
        origin(cause("checkpoint of another key")),
        CheckpointError::Unsigned { origin: name }
    );
    let other = "other.example".to_owned();
    assert_eq!(
        origin(cause("checkpoint of another log")),
        CheckpointError::Origin { origin: other }
    );
    let malformed = CheckpointError::Note(NoteError::Malformed);
    assert_eq!(origin(cause("101 signatures")), malformed);
    assert_eq!(
        cause("envelope of a stranger"),
        ReceiptError::Envelope(EnvelopeError::Signature)
    );
    assert_eq!(cause("too long"), ReceiptError::Form(OfflineError::TooLong));
}

#[test]
fn no_byte_of_a_receipt_can_change() {
    let good = log().receipt(5).into_bytes();
    assert!(check(std::str::from_utf8(&good).unwrap()).is_ok());
    let policy = policy(&log());
    for at in (0..good.len()).step_by(3) {
        for bit in [0, 4] {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << ((at + bit) % 8);
            let proved = Receipt::parse(&bytes).and_then(|it| it.check(&policy));
            assert!(proved.is_err(), "byte {at} of {}", good.len());
        }
    }
    for cut in (0..good.len()).step_by(17) {
        let proved = Receipt::parse(&good[..cut]).and_then(|it| it.check(&policy));
        assert!(proved.is_err(), "cut at {cut}");
    }
}

#[test]
fn a_log_whose_first_leaf_names_another_key_is_refused() {
    let mut log = log();
    let stranger = SigningKey::from_seed("build.example.org", &[9; 32]).unwrap();
    let keys = KeysLeaf::parse(&log.leaves[0]).unwrap();
    let log_key = stranger.verifier().clone();
    log.leaves[0] = KeysLeaf {
        log: log_key,
        ..keys
    }
    .text();
    let receipt = Receipt::parse(log.receipt(5).as_bytes()).unwrap();
    assert_eq!(
        receipt.check(&policy(&log)).unwrap_err(),
        ReceiptError::OtherLog
    );
    log.leaves[0] = "key/1 log x\n".to_owned();
    let receipt = Receipt::parse(log.receipt(5).as_bytes()).unwrap();
    assert_eq!(
        receipt.check(&policy(&log)).unwrap_err(),
        ReceiptError::KeysText
    );
}

#[test]
fn a_quorum_of_witnesses_counts_when_the_policy_asks_for_one() {
    let log = log();
    let witness = WitnessSigner::from_seed("w.example", &[3; 32]).unwrap();
    let text = format!(
        "log {}\nwitness w {}\nquorum w\n",
        log.signing.verifier(),
        witness.public()
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let check = |text: &str| Receipt::parse(text.as_bytes()).unwrap().check(&policy);
    let error = check(&log.receipt(5)).unwrap_err();
    assert!(
        matches!(
            error,
            ReceiptError::Checkpoint(CheckpointError::Quorum { .. })
        ),
        "{error:?}"
    );
    let line = witness.cosign(&log.head(), 1_795_253_100).unwrap();
    let proved = check(&(log.receipt(5) + &line)).unwrap();
    assert_eq!(proved.checkpoint.cosigned[0].time_s, 1_795_253_100);
}

#[test]
fn a_draft_takes_the_envelope_of_its_companion_only() {
    let draft = log().draft(5);
    assert!(draft.clone().finish(Some(envelope_of(5))).extra.is_some());
    assert!(draft.clone().finish(Some(envelope_of(4))).extra.is_none());
    assert_eq!(draft.clone().finish(None), draft.proof);
}
