//! The order of those who wait: each client in turn, and each client's jobs as they came.
//!
//! Called by the queue under its lock. Every job has a round: one more than the last job of its
//! client, and not before the round that is served now (start-time fair queueing, all jobs alike).
//! Rounds run in order, and within one the older job first; so whoever comes with one job waits for
//! one job of each other client at most, and the place in line is the place in this order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::job::Job;

/// Jobs that wait, in the order in which they run.
#[derive(Default)]
pub(super) struct Fair {
    /// By round and number.
    order: BTreeMap<(u64, u64), Arc<Job>>,
    /// Round and client of each job.
    places: HashMap<u64, (u64, String)>,
    /// Last round of each client that has one to come.
    last: HashMap<String, u64>,
    /// Round that is served now.
    now: u64,
}

impl Fair {
    /// Adds a job of a client.
    pub(super) fn add(&mut self, job: Arc<Job>, client: &str) {
        let round = self.next(client);
        self.put(job, client, round);
    }

    /// Another client wants the job as well: it runs when the first of them would get it. Says
    /// whether it has moved.
    pub(super) fn join(&mut self, id: u64, client: &str) -> bool {
        let round = self.next(client);
        match self.places.get(&id) {
            Some((old, _)) if round < *old => {}
            _ => return false,
        }
        let Some(job) = self.remove(id) else {
            return false;
        };
        self.put(job, client, round);
        true
    }

    /// The job that runs now.
    pub(super) fn pop(&mut self) -> Option<Arc<Job>> {
        let ((round, id), job) = self.order.pop_first()?;
        let (_, client) = self.places.remove(&id)?;
        self.now = round;
        // Whoever has nothing to come is as good as new.
        let is_last = self.order.is_empty();
        self.last
            .retain(|other, last| *last >= round && (!is_last || *other == client));
        Some(job)
    }

    /// Takes a job out of the line.
    pub(super) fn remove(&mut self, id: u64) -> Option<Arc<Job>> {
        let (round, client) = self.places.remove(&id)?;
        // What did not run is no turn taken.
        let others = self.places.values().filter(|(_, other)| *other == client);
        match others.map(|(round, _)| *round).max() {
            Some(last) => drop(self.last.insert(client, last)),
            None => drop(self.last.remove(&client)),
        }
        self.order.remove(&(round, id))
    }

    /// How many jobs run before this one, and itself; nothing when it does not wait.
    pub(super) fn place(&self, id: u64) -> Option<usize> {
        let (round, _) = self.places.get(&id)?;
        Some(self.order.range(..=(*round, id)).count())
    }

    /// Whether it waits.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.places.contains_key(&id)
    }

    /// All in their order.
    pub(super) fn jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.order.values()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    fn next(&self, client: &str) -> u64 {
        self.last
            .get(client)
            .map_or(self.now, |last| (last + 1).max(self.now))
    }

    fn put(&mut self, job: Arc<Job>, client: &str, round: u64) {
        self.last.insert(client.to_owned(), round);
        self.places.insert(job.id, (round, client.to_owned()));
        self.order.insert((round, job.id), job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{catalogue::JobRow, testing::key_of};

    fn job(id: u64) -> Arc<Job> {
        let key = key_of(usize::try_from(id).unwrap());
        let row = JobRow {
            id,
            key: key.to_string(),
            created_ms: 0,
            interest_ms: 0,
            publish: true,
            client: String::new(),
        };
        Arc::new(Job::new(key, &row, 0))
    }

    fn line(clients: &str) -> Fair {
        let mut fair = Fair::default();
        for (id, client) in (1..).zip(clients.chars()) {
            fair.add(job(id), &client.to_string());
        }
        fair
    }

    fn order(fair: &Fair) -> Vec<u64> {
        fair.jobs().map(|job| job.id).collect()
    }

    #[test]
    fn clients_take_turns_and_each_ones_jobs_stay_in_their_order() {
        assert_eq!(order(&line("aaaaabbc")), [1, 6, 8, 2, 7, 3, 4, 5]);
        assert_eq!(order(&line("abcabc")), [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn the_place_is_the_number_of_jobs_that_run_before() {
        let mut fair = line("aaaaabbc");
        for (place, id) in (1..).zip(order(&fair)) {
            assert_eq!(fair.place(id), Some(place));
        }
        let wanted = order(&fair);
        let mut ran = Vec::new();
        while let Some(job) = fair.pop() {
            ran.push(job.id);
            assert_eq!(fair.place(job.id), None);
        }
        assert_eq!(ran, wanted);
        assert_eq!(fair.len(), 0);
    }

    #[test]
    fn whoever_comes_late_waits_for_one_job_of_each_other_and_gets_no_more_than_a_turn() {
        let mut fair = line(&"a".repeat(100));
        for _ in 0..50 {
            fair.pop();
        }
        fair.add(job(101), "b");
        fair.add(job(102), "b");
        assert!(fair.place(101).unwrap() <= 2, "{:?}", order(&fair));
        assert!(fair.place(102).unwrap() <= 4);
        // Who comes back again and again overtakes nobody twice.
        let mut fair = line("aab");
        fair.pop();
        fair.add(job(9), "a");
        assert_eq!(order(&fair), [3, 2, 9]);
    }

    #[test]
    fn a_job_that_another_client_wants_too_does_not_wait_behind_the_first_ones_others() {
        let mut fair = line("aaaaab");
        assert!(fair.join(5, "c"));
        assert_eq!(order(&fair), [1, 5, 6, 2, 3, 4]);
        assert!(!fair.join(5, "d"), "it is as early as it gets");
        assert!(!fair.join(77, "d"), "it does not wait");
    }

    #[test]
    fn what_is_taken_out_leaves_no_trace() {
        let mut fair = line("aab");
        assert_eq!(fair.remove(2).unwrap().id, 2);
        assert!(fair.remove(2).is_none() && !fair.contains(2));
        assert_eq!(order(&fair), [1, 3]);
        while fair.pop().is_some() {}
        fair.add(job(10), "z");
        fair.pop();
        let left = (fair.places.len(), fair.order.len(), fair.last.len());
        assert_eq!(left, (0, 0, 1), "the one that ran last");
    }
}
