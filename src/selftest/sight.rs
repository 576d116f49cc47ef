//! How the host looks: at trees byte by byte, at mounts, processes, control groups.
//!
//! Called by [`super::evidence`] before and after; reads only.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Most entries of a tree that is looked at; the largest SDK has 16,000.
const ENTRIES_MAX: usize = 2_000_000;
/// Pieces in which files are read; `O_DIRECT` wants multiples of a page, at such an address.
const PIECE: usize = 1 << 20;
/// Alignment for `O_DIRECT`, enough for every block size (open(2)).
const PAGE: usize = 4096;

/// A hash of every path, mode, time of change and byte below a folder.
pub(super) fn digest(folder: &Path, direct: bool) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for path in walk(folder)? {
        let meta = path.symlink_metadata()?;
        let line = format!(
            "{} {:o} {} {} {}.{}\n",
            path.display(),
            meta.mode(),
            meta.nlink(),
            meta.size(),
            meta.ctime(),
            meta.ctime_nsec()
        );
        hash.update(line.as_bytes());
        if meta.is_file() {
            hash.update(sha256(&path, direct)?);
        }
    }
    Ok(hash.finalize().into())
}

/// Everything below a folder, sorted.
pub(super) fn walk(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
            all.push(entry.path());
            if all.len() > ENTRIES_MAX {
                return Err(io::Error::other("more files than expected"));
            }
        }
    }
    all.sort();
    Ok(all)
}

pub(super) fn sha256(path: &Path, direct: bool) -> io::Result<[u8; 32]> {
    let flags = if direct { libc::O_DIRECT } else { 0 };
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let mut buffer = vec![0_u8; PIECE + PAGE];
    let start = buffer.as_ptr().align_offset(PAGE);
    let piece = &mut buffer[start..start + PIECE];
    let mut hash = Sha256::new();
    loop {
        let count = file.read(piece)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(&piece[..count]);
    }
}

/// Names in the store, two levels deep.
pub(super) fn names(store: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.is_dir() {
            for inner in fs::read_dir(&path)? {
                all.insert(inner?.path());
            }
        }
        all.insert(path);
    }
    Ok(all)
}

/// Files in the store that would give power to whoever runs them.
pub(super) fn powers(store: &Path) -> Vec<PathBuf> {
    let all = walk(store).unwrap_or_default();
    let powerful = |path: &PathBuf| {
        let meta = path.symlink_metadata();
        meta.is_ok_and(|meta| meta.is_file() && meta.mode() & 0o6000 != 0)
    };
    all.into_iter().filter(powerful).collect()
}

/// Mode, owner and last change of mode or owner of the host's null device.
pub(super) fn null() -> Option<(u32, u32, i64)> {
    let meta = fs::metadata("/dev/null").ok()?;
    Some((meta.mode(), meta.uid(), meta.ctime()))
}

pub(super) fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().map(str::to_owned).collect()
}

/// Control groups with our name, down to a depth that no service manager goes beyond.
pub(super) fn groups() -> BTreeSet<PathBuf> {
    const DEPTH: usize = 8;
    let mut found = BTreeSet::new();
    let mut open = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_dir || depth == DEPTH {
                continue;
            }
            if entry.path().to_string_lossy().contains("hotcell") {
                found.insert(entry.path());
            }
            open.push((entry.path(), depth + 1));
        }
    }
    found
}

/// A control group and the processes in it, with their names and states.
pub(super) fn inhabitants(group: &Path) -> String {
    let ids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let stat = |id: &str| fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // `pid (comm) state …`, proc_pid_stat(5)
    let short = |id: &str| stat(id).split(" ").take(3).collect::<Vec<_>>().join(" ");
    let all: Vec<String> = ids.lines().map(short).collect();
    format!("{} holds [{}]", group.display(), all.join(", "))
}

/// Processes with a text among their arguments.
pub(super) fn processes(mark: &[u8]) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    let carries = |id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        line.windows(mark.len()).any(|part| part == mark)
    };
    ids.filter(|id| *id != own).filter(carries).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use super::*;

    #[test]
    fn a_changed_byte_mode_or_name_is_seen() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        File::create_new(&file).unwrap().write_all(b"one").unwrap();
        let digest = || super::digest(folder.path(), false).unwrap();
        let before = digest();
        assert_eq!(before, digest());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mode = digest();
        assert_ne!(before, mode);
        File::create(&file).unwrap().write_all(b"two").unwrap();
        let byte = digest();
        assert_ne!(mode, byte);
        File::create_new(folder.path().join("new")).unwrap();
        assert_ne!(byte, digest());
    }

    #[test]
    fn processes_are_found_by_their_arguments() {
        let name = std::env::args().next().unwrap();
        // Our own process is left out, so another one would be needed for a hit.
        assert!(!processes(name.as_bytes()).contains(&std::process::id()));
        assert!(processes(b"no process has this text among its arguments").is_empty());
    }
}
