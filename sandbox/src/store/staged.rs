//! A tree in the making: written aside, made durable, then visible.
//!
//! Called by adoption and freezing, in worker processes.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
    unistd::syncfs,
};

use super::{
    At as _, Header, MANIFEST, Name, STAGING, StoreError, delete, mark_sound, mark_used, put_away,
};

/// A tree in the making, deleted again unless it is published.
pub(super) struct Staged {
    pub(super) folder: PathBuf,
}

impl Staged {
    pub(super) fn new(name: &Name) -> Result<(Self, OwnedFd), StoreError> {
        let unique = format!("{}-{}-{}", name.kind.word(), name.hex, std::process::id());
        let folder = Path::new(STAGING).join(unique);
        delete(&folder)?;
        DirBuilder::new().mode(0o700).create(&folder).at(&folder)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let descriptor = open(&folder, flags, Mode::empty()).at(&folder)?;
        Ok((Self { folder }, descriptor))
    }

    /// Makes the tree durable, then visible: first the manifest, then the folder.
    pub(super) fn publish(
        self,
        name: &Name,
        header: &Header,
        lines: &str,
    ) -> Result<(), StoreError> {
        let manifest = self.folder.with_extension(MANIFEST);
        let mut file = File::create_new(&manifest).at(&manifest)?;
        let first = serde_json::to_string(header)
            .map_err(io::Error::from)
            .at(&manifest)?;
        file.write_all(format!("{first}\n{lines}").as_bytes())
            .at(&manifest)?;
        // One for the file system, as there are 15,000 files. A crash before it leaves staging.
        syncfs(&file).at(STAGING)?;
        if name.folder().is_dir() {
            if super::header(name).is_some() {
                delete(&manifest)?;
                return Ok(()); // somebody was faster, with the same content
            }
            put_away(name, "its manifest cannot be read")?;
        }
        fs::rename(&manifest, name.beside(MANIFEST)).at(&manifest)?;
        match fs::rename(&self.folder, name.folder()) {
            // Somebody was faster since we looked, with the same content.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            moved => moved.at(&self.folder)?,
        }
        mark_used(name)?;
        mark_sound(name)?; // its bytes were hashed on their way here
        let kind = File::open(name.kind.word()).at(name.kind.word())?;
        kind.sync_all().at(name.kind.word())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What stays behind is deleted at the next start.
        let _swept_later = delete(&self.folder);
    }
}
