//! Downloads, verifies and unpacks SDKs into folders that the supervisor adopts.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::interval};

use super::{
    error::FetchError,
    modules::{Download, Modules},
    role::Asker,
    wire::Answer,
};
use crate::{
    modzip::H1,
    spec::{GoVersion, ModuleVersion, Target},
    toolchain::{self, UnpackError},
};

/// Time between two reports of progress; faster than this nobody reads.
const PROGRESS: Duration = Duration::from_millis(250);

/// How far an SDK is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Progress {
    bytes: u64,
    bytes_total: Option<u64>,
    phase: &'static str,
}

/// The folder in which unpacked SDKs wait.
pub(super) struct Sdks {
    folder: PathBuf,
    modules: Arc<Modules>,
    staged: Mutex<HashMap<GoVersion, Staged>>,
}

/// An unpacked SDK, deleted when this is dropped. Its lock tells other processes that it is not
/// abandoned.
struct Staged {
    tree: PathBuf,
    lock: Option<File>,
    h1: H1,
}

impl Sdks {
    /// Opens or makes the folder and deletes what a crash has left behind.
    pub(super) fn open(folder: PathBuf, modules: Arc<Modules>) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        delete_abandoned(&folder)?;
        Ok(Self {
            folder,
            modules,
            staged: Mutex::default(),
        })
    }

    fn staged(&self) -> MutexGuard<'_, HashMap<GoVersion, Staged>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The verified hash and the folder of the unpacked SDK. Tells `asker` how far it is.
    pub(super) async fn fetch(
        &self,
        go: GoVersion,
        asker: &Asker,
    ) -> Result<(H1, OwnedFd), FetchError> {
        let (told, mut hears) = watch::channel(Progress {
            bytes: 0,
            bytes_total: None,
            phase: "download",
        });
        let work = self.stage(go, told);
        tokio::pin!(work);
        let mut ticks = interval(PROGRESS);
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => {
                    if hears.has_changed().unwrap_or(false) {
                        let Progress { bytes, bytes_total, phase } = *hears.borrow_and_update();
                        let phase = phase.to_owned();
                        asker.say(Answer::Progress { bytes, bytes_total, phase }, None).await;
                    }
                }
            }
        }
    }

    async fn stage(
        &self,
        go: GoVersion,
        told: watch::Sender<Progress>,
    ) -> Result<(H1, OwnedFd), FetchError> {
        let _flight = self.modules.flight(format!("sdk {go}")).await;
        if let Some(staged) = self.staged().get(&go) {
            return Ok((staged.h1, File::open(&staged.tree)?.into()));
        }
        let module = toolchain::module(go, Target::HOST)?;
        let h1 = self.modules.sums(&module).await?.zip;
        if let Some(pin) = toolchain::pinned(module.version.as_str())
            && pin != h1
        {
            let what = format!("SDK {go}");
            let judge = "the pin in this program";
            let expected = pin.to_string();
            return Err(FetchError::Mismatch {
                what,
                judge,
                expected,
                found: h1,
            });
        }
        let tell = move |bytes, bytes_total, phase| {
            told.send_replace(Progress {
                bytes,
                bytes_total,
                phase,
            });
        };
        let new = self.modules.cache.temporary()?;
        let mut download = Download::new(new, |bytes, total| tell(bytes, total, "download"));
        self.modules.proxy.zip(&module, &mut download).await?;
        let zip = download.into_file();
        let folder = self.folder.clone();
        let staged = tokio::task::spawn_blocking(move || {
            let mut staged = Staged::new(&folder, go, h1)?;
            let mut progress = |bytes, total| tell(bytes, Some(total), "unpack");
            let result = toolchain::unpack(&zip.file, &module, h1, &staged.tree, &mut progress);
            result.map_err(|error| refused(&module, h1, error))?;
            staged.h1 = h1;
            Ok::<_, FetchError>(staged)
        });
        let staged = staged.await??;
        let tree = File::open(&staged.tree)?;
        self.staged().insert(go, staged);
        Ok((h1, tree.into()))
    }

    /// Deletes the folder: the supervisor has its own copy.
    pub(super) async fn adopted(&self, go: GoVersion) -> Result<(), FetchError> {
        let staged = self.staged().remove(&go);
        let delete = move || staged.map_or(Ok(()), Staged::delete);
        Ok(tokio::task::spawn_blocking(delete).await??)
    }
}

fn refused(module: &ModuleVersion, expected: H1, error: UnpackError) -> FetchError {
    match error {
        UnpackError::Zip(source) => FetchError::Zip {
            module: module.to_string(),
            source,
        },
        UnpackError::Hash { found, .. } => FetchError::Mismatch {
            what: format!("zip of `{module}`"),
            judge: "the checksum database",
            expected: expected.to_string(),
            found,
        },
        UnpackError::Entry(_) => FetchError::Sdk {
            module: module.to_string(),
            source: error,
        },
        UnpackError::Disk(source) => FetchError::Disk(source),
    }
}

impl Staged {
    /// Makes an empty folder that no other process uses.
    fn new(folder: &Path, go: GoVersion, h1: H1) -> io::Result<Self> {
        loop {
            let number = getrandom::u64().map_err(io::Error::other)?;
            let tree = folder.join(format!("{go}-{number:016x}"));
            let mut options = OpenOptions::new();
            let lock = options
                .append(true)
                .create_new(true)
                .open(lock_path(&tree))?;
            lock.lock()?;
            if lock.metadata()?.nlink() > 0 {
                fs::create_dir(&tree)?;
                let lock = Some(lock);
                return Ok(Self { tree, lock, h1 });
            }
            // Another process took it for abandoned before it was locked.
        }
    }

    fn delete(mut self) -> io::Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> io::Result<()> {
        let Some(lock) = self.lock.take() else {
            return Ok(());
        };
        remove_tree(&self.tree)?;
        fs::remove_file(lock_path(&self.tree))?;
        drop(lock); // last: until here nobody takes it for abandoned
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "cannot delete the unpacked SDK `{}`", self.tree.display());
        }
    }
}

/// Name of the lock beside an unpacked SDK.
fn lock_path(tree: &Path) -> PathBuf {
    let mut path = tree.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

fn remove_tree(tree: &Path) -> io::Result<()> {
    match fs::remove_dir_all(tree) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn delete_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let lock_path = entry?.path();
        if lock_path
            .extension()
            .is_none_or(|extension| extension != "lock")
        {
            continue;
        }
        let Ok(lock) = File::open(&lock_path) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            remove_tree(&lock_path.with_extension(""))?;
            fs::remove_file(&lock_path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_sdk_lives_as_long_as_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let go = GoVersion::parse("go1.26.8").unwrap();
        let h1 = crate::modzip::h1_of_go_mod(b"");
        let staged = Staged::new(folder.path(), go, h1).unwrap();
        fs::create_dir(staged.tree.join("bin")).unwrap();
        let tree = staged.tree.clone();
        delete_abandoned(folder.path()).unwrap();
        assert!(tree.join("bin").exists());
        drop(staged);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // After a crash the lock is free.
        fs::create_dir_all(folder.path().join("go1.26.8-1/bin")).unwrap();
        File::create(folder.path().join("go1.26.8-1.lock")).unwrap();
        delete_abandoned(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
