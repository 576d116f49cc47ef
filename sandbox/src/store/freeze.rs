//! Freezing of a build cache that a cell without hostile input has filled.

use std::os::fd::{AsFd as _, BorrowedFd};

use super::{
    Header, Name, Staged, StoreError,
    copy::{self, Rules, Take},
    lines,
};
use crate::policy::sha256_hex;

/// 2100-01-01: the go command refreshes the time of entries that are older than an hour, which
/// would copy them up into every build's own layer.
const MODIFIED_S: i64 = 4_102_444_800;

/// Copies a `GOCACHE` into the store.
///
/// # Errors
/// When the cache holds anything but entries; nothing is kept then.
pub(crate) fn freeze(from: BorrowedFd<'_>, name: &Name, title: &str) -> Result<(), StoreError> {
    let (staged, to) = Staged::new(name)?;
    let rules = Rules {
        take,
        modified_s: Some(MODIFIED_S),
    };
    let mut entries = copy::copy(from, to.as_fd(), &rules)?;
    let text = lines(&mut entries);
    if entries.is_empty() {
        return Err(StoreError::Tree {
            path: title.to_owned(),
            why: "has an empty cache".to_owned(),
        });
    }
    let header = Header {
        title: title.to_owned(),
        digest: sha256_hex(text.as_bytes()),
        bytes: entries.iter().map(|entry| entry.bytes).sum(),
        files: entries.len() as u64,
    };
    staged.publish(name, &header, &text)
}

/// Entries are `ab/<64 hex digits>-a` (index) and `-d` (data) in 256 folders; the few files beside
/// the folders are notes of the go command.
fn take(path: &str, folder: bool) -> Take {
    let hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&str> = path.split('/').collect();
    match (&parts[..], folder) {
        ([name], true) if hex(name, 2) => Take::With(0o555),
        ([_], false) => Take::Skip,
        ([parent, name], false) => {
            let digits = name.strip_suffix("-a").or_else(|| name.strip_suffix("-d"));
            match digits {
                Some(digits) if hex(digits, 64) && digits.starts_with(parent) => Take::With(0o444),
                _ => Take::Refuse,
            }
        }
        _ => Take::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cache_entries_are_frozen() {
        let digits = "ab".repeat(32);
        for (path, folder, expected) in [
            ("ab".to_owned(), true, Take::With(0o555)),
            (format!("ab/{digits}-a"), false, Take::With(0o444)),
            (format!("ab/{digits}-d"), false, Take::With(0o444)),
            (format!("ac/{digits}-d"), false, Take::Refuse),
            (format!("ab/{digits}-x"), false, Take::Refuse),
            (format!("ab/{digits}-d"), true, Take::Refuse),
            (format!("ab/{digits}-d/go"), false, Take::Refuse),
            ("trim.txt".to_owned(), false, Take::Skip),
            ("fuzz".to_owned(), true, Take::Refuse),
        ] {
            assert_eq!(take(&path, folder), expected, "{path}");
        }
    }
}
