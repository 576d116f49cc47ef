//! Verifiers that say what a test tells them.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::{Carrier, Said, Verifier};
use crate::{
    build::BoxFuture,
    provenance::observation::{key_text, tests::public},
    spec::BuildKey,
};

/// The answers of one verifier after another, of which the last one stays.
pub(crate) struct Script {
    answers: Vec<Mutex<VecDeque<Result<Said, String>>>>,
    pub(crate) asked: AtomicUsize,
}

impl Script {
    pub(crate) fn new(answers: Vec<Vec<Result<Said, String>>>) -> Self {
        let answers = answers.into_iter().map(|all| Mutex::new(all.into()));
        Self {
            answers: answers.collect(),
            asked: AtomicUsize::new(0),
        }
    }
}

impl Carrier for Script {
    fn ask<'a>(&'a self, verifier: usize, _: &'a BuildKey) -> BoxFuture<'a, Result<Said, String>> {
        self.asked.fetch_add(1, Relaxed);
        let mut answers = self.answers[verifier].lock().unwrap();
        let next = match answers.len() {
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        };
        Box::pin(async move { next })
    }
}

/// The verifier whose key follows from `seed`.
pub(crate) fn verifier(seed: u8) -> Verifier {
    let key = key_text(&public(seed));
    Verifier::parse(&format!("peer{seed} {key} https://peer.example/")).unwrap()
}
