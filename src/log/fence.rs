//! The sentences of a log that only reads: why, and what a person does about it.

use super::{Health, LoadError};

/// Why the log only reads, and what to do about it.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    pub(super) why: String,
    pub(super) remedy: String,
}

impl Fence {
    pub(super) fn rolled_back(here: u64, signed: u64) -> Self {
        Self {
            why: format!(
                "the data folder has {here} records, but its signer has signed a head of {signed}: \
                 an older copy was restored"
            ),
            remedy: "restore the newest copy of the data folder, or stop the service and run \
                     `hotcell log recover` with any copy of the log; never delete the signer's \
                     folder"
                .to_owned(),
        }
    }

    pub(super) fn forked(size: u64) -> Self {
        Self {
            why: format!(
                "the data folder and its signer have different logs of {size} records: a fork"
            ),
            remedy: "keep both folders as evidence, restore the data folder that the signer signed"
                .to_owned(),
        }
    }

    pub(super) fn ended(size: u64, next: &str) -> Self {
        Self {
            why: format!("this log has ended at {size} records; `{next}` follows it"),
            remedy: "it can be read and never grows again; if `hotcell log succeed` was \
                     interrupted, run it once more"
                .to_owned(),
        }
    }

    pub(super) fn broken(error: &LoadError, source: &str) -> Self {
        Self {
            why: format!("{error}: {source}"),
            remedy: "make room or mend the disk; the log tries again by itself".to_owned(),
        }
    }

    pub(super) fn signer_gone() -> Self {
        Self {
            why: "the process that holds the keys is gone".to_owned(),
            remedy: "the service ends by itself when one of its processes has ended; start it \
                     again"
                .to_owned(),
        }
    }

    pub(super) fn appender_gone() -> Self {
        Self {
            why: "the thread that appends ended by a fault of the program".to_owned(),
            remedy: "start the service again, which finishes what was begun".to_owned(),
        }
    }

    pub(super) fn unknown(error: &str) -> Self {
        Self {
            why: format!("the signer cannot say what it signed last: {error}"),
            remedy: "restore the signer's folder (--sign-dir), then start again".to_owned(),
        }
    }
}

impl From<Fence> for Health {
    fn from(fence: Fence) -> Self {
        Self::Fenced {
            why: fence.why,
            remedy: fence.remedy,
        }
    }
}
