//! Which builds of a log are made again: a part that the signed root chooses, so that a log cannot
//! prepare for it, and everybody who audits the same head makes the same.

use sha2::{Digest, Sha256};

use crate::{
    spec::{Companion, Record},
    tlog::Hash,
};

/// Most builds of one audit; at some seconds each they are a day's work.
pub(super) const BUILDS_MAX: usize = 10_000;

/// A build to make again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled {
    /// Index of its record.
    pub index: u64,
    /// The record.
    pub record: Record,
    /// SHA-256 of the binary, as the companion says.
    pub sha256: [u8; 32],
}

/// A share of all builds.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    root: Hash,
    /// Builds whose number is below this are chosen; 2^64 is all.
    below: u128,
    pub(super) chosen: Vec<Sampled>,
    /// How many were chosen, also those that did not fit.
    pub(super) count: u64,
}

impl Sample {
    /// `percent` of 100 of the log with this root.
    pub(super) fn new(root: Hash, percent: Percent) -> Self {
        Self {
            root,
            below: (u128::from(percent.0) << 64) / u128::from(Percent::ALL.0),
            chosen: Vec::new(),
            count: 0,
        }
    }

    /// Takes a build, or not.
    pub(super) fn offer(&mut self, companion: &Companion, record: Record) {
        let index = companion.record_index;
        if u128::from(number(&self.root, index)) >= self.below {
            return;
        }
        self.count += 1;
        if self.chosen.len() < BUILDS_MAX {
            self.chosen.push(Sampled {
                index,
                record,
                sha256: companion.sha256,
            });
        }
    }
}

fn number(root: &Hash, index: u64) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(b"hotcell audit sample\n");
    hasher.update(root.0);
    hasher.update(index.to_be_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    let (number, _) = digest.split_first_chunk().expect("32 bytes begin with 8");
    u64::from_be_bytes(*number)
}

/// A share in thousandths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u32);

impl Percent {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Everything.
    pub const ALL: Self = Self(100_000);

    /// Parses `5`, `0.25`, `100`; three places behind the point are enough.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || whole.len() > 3 || part.len() > 3 {
            return Err("write a percentage such as 5 or 0.25");
        }
        let number = |text: &str| text.parse::<u32>().map_err(|_| "write a percentage");
        let thousandths = number(&format!("{part:0<3}"))?;
        let share = Self(number(whole)? * 1000 + thousandths);
        match share.0 {
            1..=100_000 => Ok(share),
            _ => Err("it is more than nothing and at most 100"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{BuildKey, Sum};

    fn chosen(root: Hash, percent: &str) -> Vec<u64> {
        let percent = Percent::parse(percent).unwrap();
        let mut sample = Sample::new(root, percent);
        for record_index in 0..1000 {
            let text = format!("example.com/m{record_index}@v1.0.0/linux-amd64-go1.26.8/");
            let key = BuildKey::parse(&text).unwrap();
            let companion = Companion {
                key: key.clone(),
                record_index,
                sha256: [1; 32],
                provenance_sha256: [2; 32],
            };
            let sum = Sum::of(&companion.sha256);
            sample.offer(&companion, Record { key, size: 1, sum });
        }
        sample.chosen.iter().map(|sampled| sampled.index).collect()
    }

    #[test]
    fn the_root_chooses_and_everybody_gets_the_same() {
        let (one, other) = (Hash([1; 32]), Hash([2; 32]));
        assert_eq!(chosen(one, "100").len(), 1000);
        let ten = chosen(one, "10");
        assert!((50..200).contains(&ten.len()), "{}", ten.len());
        assert_eq!(ten, chosen(one, "10.0"));
        assert_ne!(ten, chosen(other, "10"));
        let more = chosen(one, "20");
        assert!(
            ten.iter().all(|index| more.contains(index)),
            "a larger share has the smaller one"
        );
    }

    #[test]
    fn shares_are_more_than_nothing_and_at_most_all() {
        assert_eq!(Percent::parse("0.25"), Ok(Percent(250)));
        assert_eq!(Percent::parse("100.000"), Ok(Percent::ALL));
        for bad in [
            "", "0", "0.0", "101", "100.001", "-1", "1e1", "1.", ".5", "0.0001", "1000", "x",
        ] {
            assert!(Percent::parse(bad).is_err(), "{bad}");
        }
    }
}
