//! Unpacks the zip of an SDK by an entry policy of its own: regular files only, below one new
//! folder, executable where Go has programs.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::{
    modzip::{Archive, DirectoryHash, H1, ShownName, ZipError, prefix},
    spec::ModuleVersion,
};

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 4 << 20;

/// Why there is no tree. The folder may hold a part of one and is to be deleted.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The zip is refused.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// An entry that no SDK has: a folder, or a name that would become another one's.
    #[error("SDK holds {0}, which no SDK has")]
    Entry(ShownName),
    /// Other bytes than expected.
    #[error("SDK has hash {found}, expected {expected}")]
    Hash {
        /// By the checksum database.
        expected: H1,
        /// Of what was unpacked.
        found: H1,
    },
    /// The disk.
    #[error("cannot write unpacked SDK")]
    Disk(#[source] io::Error),
}

/// Unpacks into `folder`, which must be new and ours alone. `progress` hears bytes so far and in
/// all.
///
/// # Errors
/// See [`UnpackError`].
pub fn unpack(
    zip: &File,
    module: &ModuleVersion,
    expected: H1,
    folder: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), UnpackError> {
    let prefix = prefix(module.path.as_str(), module.version.as_str());
    let archive = Archive::open(zip, &prefix)?;
    let total = archive.entries().iter().map(|entry| entry.size).sum();
    let mut hash = DirectoryHash::default();
    let (mut bytes, mut told) = (0, 0);
    for entry in archive.entries() {
        let path = tree_path(entry.path(&prefix))
            .ok_or_else(|| UnpackError::Entry(entry.name.as_str().into()))?;
        let mut file = create(folder, &path).map_err(UnpackError::Disk)?;
        hash.start(&entry.name);
        archive.stream(entry, &mut |chunk| {
            hash.content(chunk);
            bytes += chunk.len() as u64;
            if bytes - told >= PROGRESS_BYTES {
                told = bytes;
                progress(bytes, total);
            }
            file.write_all(chunk)
        })?;
    }
    progress(bytes, total);
    let found = hash.finish();
    if found == expected {
        Ok(())
    } else {
        Err(UnpackError::Hash { expected, found })
    }
}

/// Path in the tree. A module zip cannot hold a go.mod below its root, so those of an SDK are
/// called `_go.mod` in it; a file called go.mod would be a second one of that name.
fn tree_path(path: &str) -> Option<String> {
    let (folder, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(folder, name)| (folder, name));
    match name {
        "" | "go.mod" => None,
        "_go.mod" if folder.is_empty() => None,
        "_go.mod" => Some(format!("{folder}/go.mod")),
        _ => Some(path.to_owned()),
    }
}

/// Zips of modules carry no modes. Go sets these bits itself when it downloads an SDK.
fn is_program(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    matches!(parts[..], ["bin", _] | ["pkg", "tool", _, _])
}

fn create(folder: &Path, path: &str) -> io::Result<File> {
    // The reader has refused `..`, absolute names and names that are one; nothing here is a link.
    let full = folder.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if is_program(path) { 0o755 } else { 0o644 };
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(full)
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, os::unix::fs::PermissionsExt as _};

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;
    use crate::modzip::hash_zip;

    const PREFIX: &str = "golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64/";

    fn module() -> ModuleVersion {
        ModuleVersion::parse("golang.org/toolchain", "v0.0.1-go1.26.8.linux-amd64").unwrap()
    }

    fn packed(names: &[&str]) -> File {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for name in names {
            let options = SimpleFileOptions::default().unix_permissions(0o4777);
            writer
                .start_file(format!("{PREFIX}{name}"), options)
                .unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&writer.finish().unwrap().into_inner())
            .unwrap();
        file
    }

    #[test]
    fn programs_are_executable_and_go_mod_has_its_name() {
        let names = [
            "bin/go",
            "pkg/tool/linux_amd64/compile",
            "src/_go.mod",
            "src/bin/x",
            "VERSION",
        ];
        let zip = packed(&names);
        let folder = tempfile::tempdir().unwrap();
        let h1 = hash_zip(&zip, PREFIX).unwrap().h1;
        let mut last = (0, 0);
        unpack(&zip, &module(), h1, folder.path(), &mut |bytes, total| {
            last = (bytes, total)
        })
        .unwrap();
        let mode = |path: &str| {
            folder
                .path()
                .join(path)
                .metadata()
                .unwrap()
                .permissions()
                .mode()
                & 0o7777
        };
        assert_eq!(mode("bin/go") & 0o111, 0o111 & mode("bin/go"));
        assert!(mode("bin/go") & 0o100 != 0 && mode("pkg/tool/linux_amd64/compile") & 0o100 != 0);
        for path in ["src/go.mod", "src/bin/x", "VERSION"] {
            assert_eq!(mode(path) & 0o7111, 0, "{path}");
        }
        let total = names.iter().map(|name| name.len() as u64).sum();
        assert_eq!(last, (total, total));
    }

    #[test]
    fn another_hash_or_an_odd_entry_is_refused() {
        let folder = || tempfile::tempdir().unwrap();
        let zip = packed(&["bin/go"]);
        let h1 = hash_zip(&zip, PREFIX).unwrap().h1;
        let other = hash_zip(&packed(&["bin/gp"]), PREFIX).unwrap().h1;
        let result = unpack(&zip, &module(), other, folder().path(), &mut |_, _| {});
        assert!(matches!(result, Err(UnpackError::Hash { .. })));
        for name in ["go.mod", "_go.mod"] {
            let result = unpack(
                &packed(&[name]),
                &module(),
                h1,
                folder().path(),
                &mut |_, _| {},
            );
            assert!(matches!(result, Err(UnpackError::Entry(_))), "{name}");
        }
        for name in ["../x", "/x", "a/../../x"] {
            let result = unpack(
                &packed(&[name]),
                &module(),
                h1,
                folder().path(),
                &mut |_, _| {},
            );
            assert!(matches!(result, Err(UnpackError::Zip(_))), "{name}");
        }
    }
}
