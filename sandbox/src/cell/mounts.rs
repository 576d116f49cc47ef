//! The cell's file system, assembled from nothing.
//!
//! Called by init while it still has all powers in its own namespaces. Mounts from outside arrive
//! as detached descriptors, already read-only; no path of the host is ever opened.

use std::{
    ffi::{CStr, CString},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    },
};

use nix::{
    fcntl::{OFlag, open},
    mount::{MntFlags, umount2},
    sys::stat::{Mode, mkdirat},
    unistd::{chdir, fchdir, pivot_root},
};

use super::{Plan, place};
use crate::{
    policy::{PlaceKind, Policy},
    sys::mount::{self, Attributes},
};

/// Always, whatever the policy says, and on `/dev/null` as well. No SDK, module or cache has a
/// symbolic link; one that a compiler makes all the same leads nowhere.
const BASE: Attributes = Attributes::NO_SUID.and(Attributes::NO_SYMLINKS);
/// Always, but for the one device.
const FLOOR: Attributes = BASE.and(Attributes::NO_DEV);
/// Room for the places' folders and nothing else.
const ROOT_OPTIONS: [(&CStr, &CStr); 3] =
    [(c"size", c"64k"), (c"nr_inodes", c"32"), (c"mode", c"0755")];
/// Largest program that is run in the place of the go command.
pub(crate) const PROGRAM_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Folders that are opened.
const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_NOFOLLOW);
/// Names of the build cache's folders are two of these.
const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Visible only while the cell is made.
const SCRATCH: &str = "/scratch";
const FROZEN: &str = "/scratch/frozen";
const OWN: &str = "/scratch/own";
/// The go command sends nothing and counts nothing when its mode file says so
/// (<https://go.dev/doc/telemetry>); there is no environment variable for it.
const TELEMETRY: (&str, &str) = ("/home/.config/go/telemetry", "off 2024-01-01\n");

/// Folders that are handed out.
pub(super) struct Folders {
    /// `GOPATH/bin`, for the gate.
    pub(super) bin: OwnedFd,
    /// `GOCACHE`, for freezing.
    pub(super) cache: OwnedFd,
}

/// Names the path of an error.
trait At<T> {
    fn at(self, path: &str) -> Result<T, String>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, path: &str) -> Result<T, String> {
        self.map_err(|error| format!("`{path}`: {error}"))
    }
}

/// Replaces the root by an empty one. What is only needed while the cell is made lies below
/// [`SCRATCH`], the old root too: all of it goes at once in [`places`], as each removal of a mount
/// waits until no processor looks at the old table.
pub(super) fn root(plan: &Plan) -> Result<(), String> {
    mount::make_private().at("/")?;
    let no_exec = FLOOR.and(Attributes::NO_EXEC);
    let new = mount::new_mount(c"tmpfs", &[], &ROOT_OPTIONS, no_exec).at("tmpfs")?;
    mount::attach(new.as_fd(), c"/").at("/")?;
    fchdir(new.as_fd()).at("new root")?;
    let number = |value: u64| CString::new(value.to_string()).expect("digits hold no NUL");
    let options = [
        (c"size", &*number(plan.scratch_bytes)),
        (c"nr_inodes", &*number(plan.policy.limits().scratch_inodes)),
        (c"mode", c"0755"),
    ];
    let all = mount::new_mount(c"tmpfs", &[], &options, no_exec).at("tmpfs")?;
    folder("scratch", 0o755)?;
    mount::attach(all.as_fd(), c"scratch").at(SCRATCH)?;
    folder("scratch/old", 0o755)?;
    pivot_root(".", "scratch/old").at("pivot_root")?;
    chdir("/").at("/")
}

/// The policy's attributes of a place, and the floor's. The device is the exception from nodev.
pub(crate) fn attributes(policy: &Policy, kind: PlaceKind) -> Attributes {
    let place = policy.place(kind);
    let mut all = BASE;
    if kind != PlaceKind::Null {
        all = all.and(Attributes::NO_DEV);
    }
    if place.is_none_or(|place| place.no_exec) {
        all = all.and(Attributes::NO_EXEC);
    }
    if place.is_none_or(|place| place.read_only) {
        all = all.and(Attributes::READ_ONLY);
    }
    all
}

/// Fills the root.
pub(super) fn places(plan: &Plan) -> Result<Folders, String> {
    // Detached mounts from outside come with their attributes: the supervisor has set them.
    attach(plan.sdk.as_fd(), place::SDK)?;
    if let Some(command) = &plan.command {
        mount::attach(command.as_fd(), c"/sdk/bin/go").at(place::GO)?;
    }
    folder("/dev", 0o755)?;
    write(place::NULL, b"")?;
    mount::attach(plan.null.as_fd(), c"/dev/null").at(place::NULL)?;
    scratch(plan)?;
    if let Some(file) = &plan.program {
        program(plan, file)?;
    }
    // With the old root: below this line nothing of the host has a name here.
    umount2(SCRATCH, MntFlags::MNT_DETACH).at(SCRATCH)?;
    fs::remove_dir(SCRATCH).at(SCRATCH)?;
    chdir(place::HOME).at(place::HOME)?;
    Ok(Folders {
        bin: open(place::BIN, FOLDER, Mode::empty()).at(place::BIN)?,
        cache: open(place::CACHE, FOLDER, Mode::empty()).at(place::CACHE)?,
    })
}

/// Home, temporary files and caches: one limited file system, shown at two places.
fn scratch(plan: &Plan) -> Result<(), String> {
    for (kind, from, to) in [
        (PlaceKind::Home, c"/scratch/home", place::HOME),
        (PlaceKind::Tmp, c"/scratch/tmp", place::TMP),
    ] {
        folder(&from.to_string_lossy(), 0o755)?;
        let part = mount::clone_tree(nix::fcntl::AT_FDCWD, from).at(to)?;
        mount::restrict(part.as_fd(), attributes(&plan.policy, kind)).at(to)?;
        attach(part.as_fd(), to)?;
    }
    for path in [place::BIN, place::MODULES, TELEMETRY.0] {
        folder(path, 0o755)?;
    }
    write(&format!("{}/mode", TELEMETRY.0), TELEMETRY.1.as_bytes())?;
    for (path, content) in &plan.files {
        let path = format!("{}/{path}", place::HOME);
        let (parent, _) = path.rsplit_once('/').expect("it has a slash");
        folder(parent, 0o755)?;
        write(&path, content)?;
    }
    cache(plan)
}

/// The build cache; with a frozen one below, what is new goes to an upper layer of our own.
fn cache(plan: &Plan) -> Result<(), String> {
    folder(place::CACHE, 0o755)?;
    let trimmed = plan.now_s.to_string(); // else the go command walks the cache and deletes
    let Some(frozen) = &plan.frozen else {
        return write(&format!("{}/trim.txt", place::CACHE), trimmed.as_bytes());
    };
    folder("/scratch/work", 0o700)?;
    folder("/scratch/upper", 0o755)?;
    let upper = open("/scratch/upper", FOLDER, Mode::empty()).at("/scratch/upper")?;
    for byte in 0..=u8::MAX {
        // Made by the cell's own id before the mount, else it may not write into them: those of
        // the lower layer belong to an id that is not mapped.
        let name = [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
            0,
        ];
        let name = CStr::from_bytes_with_nul(&name).at("/scratch/upper")?;
        mkdirat(&upper, name, Mode::from_bits_truncate(0o755)).at("/scratch/upper")?;
    }
    write("/scratch/upper/trim.txt", trimmed.as_bytes())?;
    folder(FROZEN, 0o755)?;
    mount::attach(frozen.as_fd(), c"/scratch/frozen").at(FROZEN)?;
    let options = [
        (c"lowerdir", c"/scratch/frozen"),
        (c"upperdir", c"/scratch/upper"),
        (c"workdir", c"/scratch/work"),
    ];
    let wanted = attributes(&plan.policy, PlaceKind::Cache);
    let layers = mount::new_mount(c"overlay", &[c"userxattr"], &options, wanted).at("overlay")?;
    mount::attach(layers.as_fd(), c"/home/cache").at(place::CACHE)
}

/// Copies the program into a file system of its own and shows it as one read-only file.
fn program(plan: &Plan, file: &OwnedFd) -> Result<(), String> {
    let size = CString::new((PROGRAM_BYTES_MAX + 64 * 1024).to_string()).expect("digits");
    let options = [(c"size", &*size), (c"nr_inodes", c"8"), (c"mode", c"0755")];
    let own = mount::new_mount(c"tmpfs", &[], &options, FLOOR).at("tmpfs")?;
    folder(OWN, 0o755)?;
    mount::attach(own.as_fd(), c"/scratch/own").at(OWN)?;
    let mut from = File::from(file.try_clone().at(place::PROGRAM)?);
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o555)
        .open("/scratch/own/program")
        .at(place::PROGRAM)?;
    io::Seek::rewind(&mut from).at(place::PROGRAM)?;
    io::copy(&mut from.take(PROGRAM_BYTES_MAX), &mut to).at(place::PROGRAM)?;
    drop(to); // a file that is open for writing cannot be executed
    let shown =
        mount::clone_tree(nix::fcntl::AT_FDCWD, c"/scratch/own/program").at(place::PROGRAM)?;
    mount::restrict(shown.as_fd(), attributes(&plan.policy, PlaceKind::Program))
        .at(place::PROGRAM)?;
    write(place::PROGRAM, b"")?;
    mount::attach(shown.as_fd(), c"/program").at(place::PROGRAM)
}

/// Makes the root read-only.
pub(super) fn seal(plan: &Plan) -> Result<(), String> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty()).at("/")?;
    mount::restrict(root.as_fd(), BASE).at("/")?; // every place, whoever made it
    mount::restrict_one(root.as_fd(), attributes(&plan.policy, PlaceKind::Root)).at("/")
}

/// Attaches a detached mount at a new folder.
fn attach(detached: BorrowedFd<'_>, path: &str) -> Result<(), String> {
    folder(path, 0o755)?;
    let target = CString::new(path).at(path)?;
    mount::attach(detached, &target).at(path)
}

fn folder(path: &str, mode: u32) -> Result<(), String> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .at(path)
}

fn write(path: &str, bytes: &[u8]) -> Result<(), String> {
    File::create_new(path)
        .and_then(|mut file| file.write_all(bytes))
        .at(path)
}
