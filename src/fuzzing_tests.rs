//! The corpus of each target and mutations of it, the same in every run.

use std::path::Path;

use super::*;

/// Inputs for each target in an ordinary run of the tests.
const ROUNDS: usize = 1_500;

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % end.max(1)
    }

    /// Some bytes changed, a piece left out or repeated, or a piece of another input put in.
    fn mutate(&mut self, one: &[u8], other: &[u8]) -> Vec<u8> {
        let mut data = one.to_vec();
        for _ in 0..=self.below(4) {
            let from = self.below(data.len() + 1);
            let to = (from + self.below(24)).min(data.len());
            match self.below(5) {
                0 if from < data.len() => data[from] ^= 1 << self.below(8),
                1 if from < data.len() => data[from] = u8::try_from(self.below(256)).unwrap(),
                2 => drop(data.drain(from..to)),
                3 => {
                    let piece = data[from..to].to_vec();
                    data.splice(from..from, piece);
                }
                _ => {
                    let start = self.below(other.len());
                    let end = (start + self.below(48)).min(other.len());
                    data.splice(from..to, other[start..end].iter().copied());
                }
            }
        }
        data.truncate(INPUT_BYTES_MAX);
        data
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn the_corpus_and_mutations_of_it_keep_every_promise() {
    for (name, target) in TARGETS {
        let corpus = corpus(name);
        assert!(corpus.len() > 2, "{name}: no corpus");
        corpus.iter().for_each(|input| target(input));
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for _ in 0..ROUNDS {
            let one = &corpus[random.below(corpus.len())];
            let other = &corpus[random.below(corpus.len())];
            target(&random.mutate(one, other));
        }
    }
}

#[test]
fn the_corpus_has_a_receipt_that_proves_its_binary() {
    let policy = tlog::Policy::of_logs(vec![VerifierKey::parse(LOG).unwrap()]);
    let receipt = Receipt::parse(include_bytes!("../fuzz/corpus/receipt/whole")).unwrap();
    let proved = receipt.check(&policy).unwrap();
    assert_eq!(spec::hex(&proved.companion.sha256), PROVED);
    let policy = include_bytes!("../fuzz/corpus/receipt/policy");
    assert_eq!(tlog::Policy::parse(policy).unwrap().quorum(), Some("both"));
}

#[test]
fn the_corpus_has_a_head_that_a_witness_opens() {
    let logs = [VerifierKey::parse(WITNESSED).unwrap()];
    let body = include_bytes!("../fuzz/corpus/witness/next");
    let offered = judge::open(body, &logs).unwrap();
    assert_eq!(offered.tree.size, 9);
}
