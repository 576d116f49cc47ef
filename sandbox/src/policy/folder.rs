//! Policies of a folder, read by the supervisor before its first message.
//!
//! Must never read what somebody else could have put there, or could change while it is read.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::fcntl::OFlag;

use super::{POLICIES_MAX, POLICY_BYTES_MAX, Policy, PolicyError};

/// All policies of a folder that nobody but root (or, rootless, this person) may write; the same
/// holds for every folder above it, as who may write there can put another one in its place.
///
/// # Errors
/// When one of them does not compile, or somebody else may write one of these folders or a file.
pub fn folder(path: &Path) -> Result<Vec<Policy>, PolicyError> {
    let wrong = |path: &Path, why: &str| PolicyError::Folder {
        path: path.display().to_string(),
        why: why.to_owned(),
    };
    let io = |path: &Path, error: std::io::Error| wrong(path, &error.to_string());
    let whole = path.canonicalize().map_err(|error| io(path, error))?;
    for above in whole.ancestors() {
        let meta = std::fs::symlink_metadata(above).map_err(|error| io(above, error))?;
        // In a sticky folder, such as /tmp, others cannot rename what is not theirs.
        let sticky = above != whole && meta.mode() & 0o1000 != 0;
        owned(&meta, sticky).map_err(|why| wrong(above, why))?;
    }
    let entries = std::fs::read_dir(&whole).map_err(|error| io(&whole, error))?;
    let mut policies = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| io(&whole, error))?.path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        if policies.len() == POLICIES_MAX {
            return Err(wrong(&whole, "too many policies"));
        }
        let text = read(&file).map_err(|why| wrong(&file, &why))?;
        let name = file.file_stem().and_then(|stem| stem.to_str());
        let name = name.ok_or_else(|| wrong(&file, "the name is not UTF-8"))?;
        policies.push(Policy::parse(name, &text)?);
    }
    policies.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(policies)
}

/// Reads one file, which is looked at by its descriptor.
fn read(path: &Path) -> Result<String, String> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK; // no link, no waiting for a pipe's writer
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file: File = opened.map_err(|error| error.to_string())?;
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("is no regular file".to_owned());
    }
    owned(&meta, false)?;
    let mut text = String::new();
    let bytes_max = u64::try_from(POLICY_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(bytes_max + 1) // one more, so that the parser sees that it is too long
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    Ok(text)
}

/// Refuses what others could change after it was read.
fn owned(meta: &std::fs::Metadata, sticky: bool) -> Result<(), &'static str> {
    if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err("belongs to somebody else");
    }
    if meta.mode() & 0o022 != 0 && !sticky {
        return Err("can be written by others");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/build.toml");

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// `above/policies/own.toml`, all in order.
    fn policies() -> tempfile::TempDir {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("policies");
        fs::create_dir(&folder).unwrap();
        fs::copy(BUILD, folder.join("own.toml")).unwrap();
        mode(&folder.join("own.toml"), 0o644);
        mode(&folder, 0o755);
        above
    }

    #[test]
    fn policies_are_read_and_named_by_their_files() {
        let above = policies();
        let found = folder(&above.path().join("policies")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name(), "own");
    }

    #[test]
    fn what_others_may_write_is_refused_up_to_the_root() {
        for (name, bad) in [
            ("policies/own.toml", 0o666),
            ("policies/own.toml", 0o664),
            ("policies", 0o777),
            ("policies", 0o1777),
            ("policies", 0o775),
            ("", 0o777),
            ("", 0o770),
        ] {
            let above = policies();
            mode(&above.path().join(name), bad);
            let refused = folder(&above.path().join("policies"));
            assert!(
                matches!(refused, Err(PolicyError::Folder { .. })),
                "{name} {bad:o}"
            );
        }
        let above = policies();
        mode(above.path(), 0o1777); // as /tmp is
        folder(&above.path().join("policies")).unwrap();
    }

    #[test]
    fn files_of_others_links_and_pipes_are_refused() {
        let above = policies();
        let (path, own) = (above.path().join("policies"), "policies/own.toml");
        let file = above.path().join(own);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(BUILD, &file).unwrap();
        assert!(folder(&path).is_err());
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(folder(&path).is_err());
        fs::remove_file(&file).unwrap();
        fs::copy(BUILD, &file).unwrap();
        mode(&file, 0o644);
        folder(&path).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(54_321), None).unwrap();
            assert!(folder(&path).is_err());
            std::os::unix::fs::chown(&file, Some(0), None).unwrap();
            std::os::unix::fs::chown(above.path(), Some(54_321), None).unwrap();
            assert!(folder(&path).is_err());
        }
    }
}
