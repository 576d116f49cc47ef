//! Whoever reads while the log grows always gets what a signed head covers.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use hotcell::tlog::Tree;
use hotcell_integration::{
    kept::Kept, promised::Promised, sdk, service::Service, tools, verifying::Reader,
};

/// Builds that are logged meanwhile, of two records each; with `--long` ten times as many.
const BUILDS: u64 = 1_050;
/// Who asks for builds, and who reads, at the same time.
const ASKERS: u64 = 6;
const READERS: u64 = 3;
const EVERY: usize = 6;

fn module(n: u64) -> String {
    format!("ex.example/kept{n}")
}

/// What is known of the log by now.
#[derive(Default)]
struct Known {
    /// Heads that were seen by anybody, old ones too.
    heads: Mutex<BTreeMap<u64, Tree>>,
    /// Modules that were answered.
    answered: Mutex<Vec<u64>>,
    /// All are.
    over: AtomicBool,
}

impl Known {
    fn see(&self, tree: Tree) {
        let mut all = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.insert(tree.size, tree);
        assert!(
            known.is_none_or(|known| known == tree),
            "two heads of {}",
            tree.size
        );
    }

    fn any_head(&self, number: u64) -> Tree {
        let all = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(number % all.len() as u64).expect("small");
        *all.values().nth(at).expect("within the map")
    }

    fn any_module(&self, number: u64) -> Option<u64> {
        let all = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(number.checked_rem(all.len() as u64)?).expect("small");
        all.get(at).copied()
    }
}

/// Numbers without a pattern, other ones for each reader.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        // Knuth's constants (TAOCP 3.3.4, table 1, line 26).
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }
}

/// Reads until all is logged; how often everything was verified.
fn read(service: &Service, number: u64, known: &Known) -> u64 {
    let reader = Reader::of(service);
    let mut numbers = Numbers(number);
    let (mut rounds, mut newest) = (0, 0);
    while !known.over.load(Relaxed) {
        let tree = match numbers.next() % 2 {
            0 => reader.latest(),
            _ => reader.checkpoint(),
        };
        assert!(tree.size >= newest, "from {newest} back to {}", tree.size);
        newest = tree.size;
        known.see(tree);
        let old = known.any_head(numbers.next());
        let n = numbers.next() % old.size;
        let width = u16::try_from(1 + numbers.next() % 256).expect("small");
        let text = reader.leaf(old, n, width);
        known.see(reader.proof(n, &text));
        if let Some(n) = known.any_module(numbers.next()) {
            let key = format!("{}@v1.0.0/linux-amd64-{}/", module(n), sdk::GO);
            let (index, tree) = reader.lookup(&key);
            assert!(index + 1 < tree.size, "{key} at {index} of {}", tree.size);
            known.see(tree);
        }
        rounds += 1;
    }
    rounds
}

#[test]
fn readers_verify_every_answer_while_the_log_grows() {
    let long = tools::is_long();
    let builds = if long { 10 * BUILDS } else { BUILDS };
    let kept = Kept::new();
    kept.multiply((0..builds).map(module));
    let mut service = kept.place.serve(&[]);
    let (known, promised) = (Known::default(), Promised::default());
    let before = Reader::of(&service).latest();
    known.see(before);
    let ask = |asker: u64| {
        for n in (asker..builds).step_by(EVERY) {
            let status = promised.ask(&service.url(), &module(n));
            assert_eq!(status, Some(200), "{n}: {}", service.trace());
            known.answered.lock().expect("nobody panics").push(n);
        }
    };
    let rounds: Vec<u64> = thread::scope(|scope| {
        let (known, service) = (&known, &service);
        let readers = (0..READERS).map(|n| scope.spawn(move || read(service, n, known)));
        let readers: Vec<_> = readers.collect();
        let ask = &ask;
        let askers: Vec<_> = (0..ASKERS).map(|n| scope.spawn(move || ask(n))).collect();
        let asked: Vec<_> = askers.into_iter().map(|asker| asker.join()).collect();
        known.over.store(true, Relaxed);
        let rounds = readers
            .into_iter()
            .map(|reader| reader.join().expect("all is verified"));
        let rounds = rounds.collect();
        assert!(asked.iter().all(Result::is_ok), "not all were logged");
        rounds
    });
    let after = Reader::of(&service).latest();
    assert_eq!(after.size, before.size + 2 * builds);
    assert!(rounds.iter().all(|rounds| *rounds > 9), "{rounds:?}");
    let database = kept.database();
    promised.assert_kept(&service, &database, &[], "after all of it");
    assert_eq!(service.stop(), 0);
    kept.audit();
}
