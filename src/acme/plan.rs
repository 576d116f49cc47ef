//! When the authority is asked, and how often at most. Times are in seconds since 1970.
//!
//! Called by [`super::keeper`], which keeps [`Attempts`] durably: a service that is started again
//! and again must ask no more often than one that runs. Must never look at a clock.

use serde::{Deserialize, Serialize};

use crate::fetch::authority::WAIT_S_MAX;

/// A certificate that lives shorter than this, in seconds (ten days), is renewed after half of its
/// life, any other after two thirds: what Let's Encrypt recommends.
const SHORT_S: u64 = 10 * 24 * 3_600;
/// First wait after a failure, in seconds; doubled each time.
const RETRY_S_MIN: u64 = 60;
/// Longest wait after a failure, in seconds.
const RETRY_S_MAX: u64 = 12 * 3_600;
/// Who asks for an attempt now waits for so many seconds after the last one all the same.
const ASKED_S: u64 = 60;
/// Validations without success in [`WINDOW_S`]. Let's Encrypt takes five in an hour for a name, and
/// then refuses the good one, too.
const VALIDATIONS_MAX: usize = 4;
/// An hour, in seconds, and some for the difference of two clocks.
const WINDOW_S: u64 = 3_600 + 120;
/// Longest reason that is kept, in characters.
const WHY_CHARS_MAX: usize = 500;

/// When a certificate is renewed.
pub(super) fn renew_at_s(begin_s: u64, end_s: u64) -> u64 {
    let life_s = end_s.saturating_sub(begin_s);
    let part_s = if life_s < SHORT_S {
        life_s / 2
    } else {
        life_s / 3 * 2
    };
    begin_s.saturating_add(part_s)
}

/// Attempts since the last success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempts {
    /// How many have failed, or were cut off.
    failures: u32,
    /// When the last one was over, or began if it was cut off.
    last_s: u64,
    /// The authority wants nothing before.
    not_before_s: u64,
    /// When validations began, oldest first; as many as matter.
    validations_s: Vec<u64>,
    /// Why the last one failed.
    why: String,
}

impl Attempts {
    /// An attempt begins; should nothing more be heard of it, it has failed.
    pub(super) fn begin(&mut self, now_s: u64) {
        self.failures = self.failures.saturating_add(1);
        self.last_s = now_s;
        self.why = "the last attempt was cut off".to_owned();
    }

    /// The authority is going to look for us.
    pub(super) fn validate(&mut self, now_s: u64) {
        self.validations_s.push(now_s);
        let more = self.validations_s.len().saturating_sub(VALIDATIONS_MAX);
        self.validations_s.drain(..more);
    }

    /// The attempt that began has failed; the authority may have said how long it wants to wait.
    pub(super) fn fail(&mut self, now_s: u64, why: &str, wait_s: Option<u64>) {
        self.last_s = now_s;
        self.why = why.chars().take(WHY_CHARS_MAX).collect();
        if let Some(wait_s) = wait_s {
            self.not_before_s = now_s.saturating_add(wait_s.min(WAIT_S_MAX));
        }
    }

    /// Why the last one failed; nothing when none has since the last success.
    pub(super) fn why(&self) -> Option<&str> {
        (self.failures > 0).then_some(self.why.as_str())
    }

    /// When the next one may begin; `is_asked` when a person wants it now. What a clock that was
    /// set back since has noted counts as of now.
    pub(super) fn next_s(&self, now_s: u64, is_asked: bool) -> u64 {
        if self.failures == 0 {
            return now_s;
        }
        let doublings = self.failures.saturating_sub(1).min(16);
        let wait_s = match is_asked {
            true => ASKED_S,
            false => RETRY_S_MAX.min(RETRY_S_MIN << doublings),
        };
        let after_last_s = self.last_s.min(now_s) + wait_s;
        let not_before_s = self.not_before_s.min(now_s.saturating_add(WAIT_S_MAX));
        let oldest_s = self.validations_s.iter().rev().nth(VALIDATIONS_MAX - 1);
        let room_s = oldest_s.map_or(0, |oldest_s| (*oldest_s).min(now_s) + WINDOW_S);
        after_last_s.max(not_before_s).max(room_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: u64 = 24 * 3_600;
    const NOW_S: u64 = 1_800_000_000;

    fn failed(times: u32) -> Attempts {
        let mut attempts = Attempts::default();
        for _ in 0..times {
            attempts.begin(NOW_S);
            attempts.fail(NOW_S, "x", None);
        }
        attempts
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life_and_a_short_one_after_half() {
        for (life_s, wanted_s) in [
            (90 * DAY_S, 60 * DAY_S),
            (45 * DAY_S, 30 * DAY_S),
            (10 * DAY_S, 20 * DAY_S / 3),
            (10 * DAY_S - 2, 5 * DAY_S - 1),
            (6 * DAY_S, 3 * DAY_S),
            (60, 30),
            (0, 0),
        ] {
            assert_eq!(renew_at_s(NOW_S, NOW_S + life_s), NOW_S + wanted_s);
        }
        assert_eq!(renew_at_s(NOW_S, NOW_S - 1), NOW_S);
    }

    #[test]
    fn waits_double_from_a_minute_to_half_a_day() {
        assert_eq!(Attempts::default().next_s(NOW_S, false), NOW_S);
        let minutes = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 720, 720, 720];
        for (times, minutes) in (1..).zip(minutes) {
            let attempts = failed(times);
            assert_eq!(attempts.next_s(NOW_S, false), NOW_S + minutes * 60);
            assert_eq!(attempts.next_s(NOW_S + 30, true), NOW_S + 60, "asked");
        }
        assert_eq!(failed(9_999).next_s(NOW_S, false), NOW_S + RETRY_S_MAX);
    }

    #[test]
    fn an_attempt_that_was_cut_off_has_failed() {
        let mut attempts = Attempts::default();
        attempts.begin(NOW_S);
        assert_eq!(attempts.why(), Some("the last attempt was cut off"));
        assert_eq!(attempts.next_s(NOW_S, true), NOW_S + ASKED_S);
        attempts.fail(NOW_S + 5, "no way", None);
        assert_eq!(attempts.why(), Some("no way"));
        assert_eq!(attempts.next_s(NOW_S + 5, true), NOW_S + 5 + ASKED_S);
    }

    #[test]
    fn nobody_makes_more_than_four_validations_an_hour() {
        // As fast as a person who asks all the time gets it.
        let (mut attempts, mut now_s) = (Attempts::default(), NOW_S);
        let mut validations = Vec::new();
        while now_s < NOW_S + DAY_S {
            now_s = now_s.max(attempts.next_s(now_s, true));
            attempts.begin(now_s);
            attempts.validate(now_s);
            validations.push(now_s);
            attempts.fail(now_s, "x", None);
            assert!(attempts.validations_s.len() <= VALIDATIONS_MAX);
        }
        for start in 0..validations.len() - VALIDATIONS_MAX {
            let later = validations[start + VALIDATIONS_MAX] - validations[start];
            assert!(later > 3_600, "{later}");
        }
        assert!(validations.len() > 90, "{}", validations.len());
    }

    #[test]
    fn the_authority_is_asked_when_it_wants_and_within_a_week() {
        let mut attempts = failed(1);
        attempts.fail(NOW_S, "busy", Some(7_000));
        for is_asked in [true, false] {
            assert_eq!(attempts.next_s(NOW_S, is_asked), NOW_S + 7_000);
        }
        attempts.fail(NOW_S, "busy", Some(u64::MAX));
        assert_eq!(attempts.next_s(NOW_S, false), NOW_S + WAIT_S_MAX);
    }

    #[test]
    fn a_clock_that_was_set_back_costs_no_more_than_a_usual_wait() {
        let mut attempts = failed(1);
        (0..4).for_each(|_| attempts.validate(NOW_S));
        attempts.fail(NOW_S, "x", Some(1_000));
        let early_s = NOW_S - 365 * DAY_S;
        assert_eq!(attempts.next_s(early_s, false), early_s + WAIT_S_MAX);
        let attempts = failed(3);
        assert_eq!(attempts.next_s(early_s, false), early_s + 240);
    }
}
