//! The gate: takes one file out of a dead cell's output folder, by descriptor, without privilege.
//!
//! Called once, after every process of the cell is dead. Never follows a link, never opens a path
//! twice, never trusts a size: what was hashed is what was copied.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{FileStat, SFlag, fstat},
};
use sha2::{Digest, Sha256};

use super::{
    buildinfo::{self, BuildInfo},
    wire::Served,
};

/// Largest artifact in bytes; the largest Go programs known have about 300 MiB with symbols.
pub(super) const ARTIFACT_BYTES_MAX: u64 = 1 << 30;

/// Why nothing came out.
#[derive(Debug, thiserror::Error)]
pub(super) enum GateError {
    /// The artifact file is empty or half written; the asker throws it away.
    #[error("cannot copy the binary: {0}")]
    Io(#[from] io::Error),
    /// The folder does not hold exactly one regular file of the expected form.
    #[error("output refused: {0}")]
    Form(&'static str),
    /// The binary was made from something else than what was served.
    #[error("the binary's build information differs from the modules that were served")]
    Alarm,
}

impl From<Errno> for GateError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What went through.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) sha256: [u8; 32],
    pub(super) size: u64,
}

/// What the binary must say of itself.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    pub(super) package: &'a str,
    pub(super) module: (&'a str, &'a str),
    pub(super) cross: &'a str,
    pub(super) served: &'a Served,
}

/// Copies the one binary of `folder` to `artifact`.
pub(super) fn pass(
    folder: OwnedFd,
    artifact: &mut File,
    expected: &Expected<'_>,
) -> Result<Gated, GateError> {
    let mut source = open_only_file(folder, expected.cross)?;
    let gated = copy(&mut source, artifact)?;
    let found = buildinfo::find(artifact)?;
    let agrees = |info: &BuildInfo| info.agrees(expected.package, expected.module, expected.served);
    match (found.infos.iter().any(agrees), found.complete) {
        (true, _) => {}
        (false, true) => return Err(GateError::Alarm),
        (false, false) => {
            return Err(GateError::Form(
                "it holds too much that looks like build information",
            ));
        }
    }
    Ok(gated)
}

/// The one file in the folder, or one level deep in the folder of a cross build.
fn open_only_file(folder: OwnedFd, cross: &str) -> Result<File, GateError> {
    let (file, stat) = open_only_entry(folder)?;
    if kind(&stat) != SFlag::S_IFDIR {
        return check_file(file, &stat);
    }
    if file.1 != cross {
        return Err(GateError::Form(
            "there is a folder that no cross build makes",
        ));
    }
    let (file, stat) = open_only_entry(file.0)?;
    check_file(file, &stat)
}

/// Opens the only entry of a folder without following anything or waiting for anybody.
fn open_only_entry(folder: OwnedFd) -> Result<((OwnedFd, String), FileStat), GateError> {
    let mut names = Vec::new();
    let mut listing = Dir::from_fd(folder.try_clone()?)?;
    for entry in listing.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() > 1 {
            return Err(GateError::Form("there is more than one file"));
        }
    }
    let name = names.pop().ok_or(GateError::Form("there is no file"))?;
    let fd = open_beneath(folder.as_fd(), name.as_c_str())?;
    let stat = fstat(&fd)?;
    Ok(((fd, name.to_string_lossy().into_owned()), stat))
}

fn open_beneath(folder: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, GateError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    match openat2(
        folder,
        name,
        OpenHow::new()
            .flags(flags | OFlag::O_NOCTTY)
            .resolve(resolve),
    ) {
        Ok(fd) => Ok(fd),
        Err(Errno::ELOOP) => Err(GateError::Form("it is a symbolic link")),
        Err(Errno::ENXIO) => Err(GateError::Form("it is no regular file")),
        Err(Errno::EACCES) => Err(GateError::Form("it cannot be read")),
        Err(Errno::EXDEV) => Err(GateError::Form("it lies on another file system")),
        Err(errno) => Err(errno.into()),
    }
}

fn check_file((fd, _): (OwnedFd, String), stat: &FileStat) -> Result<File, GateError> {
    if kind(stat) != SFlag::S_IFREG {
        return Err(GateError::Form("it is no regular file"));
    }
    if stat.st_nlink != 1 {
        return Err(GateError::Form("it has a second name"));
    }
    if stat.st_mode & 0o7000 != 0 {
        return Err(GateError::Form("it has a setuid, setgid or sticky bit"));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if size == 0 || size > ARTIFACT_BYTES_MAX {
        return Err(GateError::Form("it is empty or larger than 1 GiB"));
    }
    Ok(File::from(fd))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn copy(source: &mut File, artifact: &mut File) -> Result<Gated, GateError> {
    let (mut hash, mut size) = (Sha256::new(), 0_u64);
    let mut buffer = vec![0_u8; 1 << 20];
    artifact.seek(SeekFrom::Start(0))?;
    loop {
        let read = source.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > ARTIFACT_BYTES_MAX {
            return Err(GateError::Form("it is empty or larger than 1 GiB"));
        }
        hash.update(&buffer[..read]);
        artifact.write_all(&buffer[..read])?;
    }
    Ok(Gated {
        sha256: hash.finalize().into(),
        size,
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs, io,
        os::unix::fs::{PermissionsExt, symlink},
        path::Path,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn put(path: &Path) {
        let mut file = File::create(path).unwrap();
        file.write_all(b"binary").unwrap();
    }

    fn refused(folder: &Path) -> String {
        open_only_file(open(folder), "windows_amd64")
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn one_regular_file_is_found_at_both_depths() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("windows_amd64")).unwrap();
        put(&folder.path().join("windows_amd64/x.exe"));
        let file = open_only_file(open(folder.path()), "windows_amd64").unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), "binary");
    }

    #[test]
    fn everything_but_one_regular_file_is_refused() {
        type Make = fn(&Path);
        let cases: [(&str, Make); 9] = [
            ("no file", |_| {}),
            ("more than one", |p| {
                put(&p.join("a"));
                put(&p.join("b"));
            }),
            ("symbolic link", |p| {
                symlink("/etc/passwd", p.join("a")).unwrap()
            }),
            ("no regular file", |p| {
                mkfifo(&p.join("a"), Mode::S_IRWXU).unwrap()
            }),
            ("folder that no", |p| fs::create_dir(p.join("a")).unwrap()),
            ("no file", |p| {
                fs::create_dir(p.join("windows_amd64")).unwrap()
            }),
            ("second name", |p| {
                put(&p.join("a"));
                fs::hard_link(p.join("a"), p.parent().unwrap().join("b")).unwrap();
            }),
            ("setuid", |p| {
                put(&p.join("a"));
                fs::set_permissions(p.join("a"), fs::Permissions::from_mode(0o4755)).unwrap();
            }),
            ("empty or larger", |p| {
                File::create(p.join("a"))
                    .unwrap()
                    .set_len(ARTIFACT_BYTES_MAX + 1)
                    .unwrap();
            }),
        ];
        for (what, make) in cases {
            let outer = tempfile::tempdir().unwrap();
            let folder = outer.path().join("bin");
            fs::create_dir(&folder).unwrap();
            make(&folder);
            let error = refused(&folder);
            assert!(error.contains(what), "{what}: {error}");
        }
    }

    #[test]
    fn a_binary_that_says_nothing_of_its_modules_raises_the_alarm() {
        let folder = tempfile::tempdir().unwrap();
        put(&folder.path().join("a"));
        let expected = Expected {
            package: "a.b/c",
            module: ("a.b/c", "v1.0.0"),
            cross: "windows_amd64",
            served: &Vec::new(),
        };
        let mut artifact = tempfile::tempfile().unwrap();
        let error = pass(open(folder.path()), &mut artifact, &expected).unwrap_err();
        assert!(matches!(error, GateError::Alarm), "{error}");
    }
}
