//! A view on files of one disk budget: who goes first when there is too much.
//!
//! Called by the owner of each store (module cache, SDKs and frozen caches, binaries), which
//! deletes by its own means. This module deletes nothing.

use std::{fs, io, path::Path, time::SystemTime};

/// Something that can be deleted and made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Name within its store.
    pub name: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// Seconds since 1970 of its last use.
    pub used_s: u64,
}

/// Names of the least recently used items that must go so that the rest fits into `bytes_max`.
pub fn surplus(mut items: Vec<Item>, bytes_max: u64) -> Vec<String> {
    let mut bytes = items
        .iter()
        .fold(0_u64, |sum, item| sum.saturating_add(item.bytes));
    // The name decides between items of one second, so that the answer is always the same.
    items.sort_by(|a, b| (a.used_s, &a.name).cmp(&(b.used_s, &b.name)));
    let mut out = Vec::new();
    for item in items {
        if bytes <= bytes_max {
            break;
        }
        bytes = bytes.saturating_sub(item.bytes);
        out.push(item.name);
    }
    out
}

/// The files of a folder (not of folders in it). Last use is the later of access and change.
pub fn files(folder: &Path) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let (Ok(name), true) = (entry.file_name().into_string(), metadata.is_file()) else {
            continue; // not one of ours
        };
        let used = metadata.accessed()?.max(metadata.modified()?);
        let used_s = used
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        items.push(Item {
            name,
            bytes: metadata.len(),
            used_s,
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, bytes: u64, used_s: u64) -> Item {
        Item {
            name: name.to_owned(),
            bytes,
            used_s,
        }
    }

    #[test]
    fn the_least_recently_used_go_until_the_rest_fits() {
        let items = vec![item("new", 10, 9), item("old", 10, 1), item("mid", 10, 5)];
        assert_eq!(surplus(items.clone(), 30), [""; 0]);
        assert_eq!(surplus(items.clone(), 29), ["old"]);
        assert_eq!(surplus(items.clone(), 10), ["old", "mid"]);
        assert_eq!(surplus(items, 0), ["old", "mid", "new"]);
        assert_eq!(surplus(vec![item("b", 1, 1), item("a", 1, 1)], 1), ["a"]);
    }

    #[test]
    fn only_files_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        crate::store::durable::write_new(&folder.path().join("a"), b"123", 0o600).unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        let files = files(folder.path()).unwrap();
        assert_eq!((files.len(), &*files[0].name, files[0].bytes), (1, "a", 3));
        assert!(files[0].used_s > 0);
    }
}
