//! What this kernel lets this user do, tried in processes that end at once; nothing is changed.
//!
//! Called by `hotcell doctor`, before it has any thread. Every attempt is made in a child in new
//! namespaces, so that nothing of it is left.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::AsFd as _,
};

use nix::sched::CloneFlags;

use crate::{
    cell,
    privilege::IDS_BASE,
    sys::{
        self,
        mount::{self, Attributes},
        process::{self, Forked},
    },
};

/// Namespaces of a cell, by the names that policies use.
pub const NAMESPACES: [&str; 7] = ["user", "mount", "pid", "net", "ipc", "uts", "cgroup"];

/// How an attempt of a child ended.
const WORKED: i32 = 0;

/// Version of Landlock in this kernel; 0 when there is none.
#[must_use]
pub fn landlock_abi() -> u8 {
    cell::landlock_abi()
}

/// Errors of Landlock that this kernel says it has mended, as a bit set (Linux 6.15).
///
/// # Errors
/// When the kernel does not tell.
pub fn landlock_errata() -> io::Result<u32> {
    let bits = sys::landlock_errata()?;
    u32::try_from(bits).map_err(io::Error::other)
}

fn flag(name: &str) -> CloneFlags {
    match name {
        "mount" => CloneFlags::CLONE_NEWNS,
        "pid" => CloneFlags::CLONE_NEWPID,
        "net" => CloneFlags::CLONE_NEWNET,
        "ipc" => CloneFlags::CLONE_NEWIPC,
        "uts" => CloneFlags::CLONE_NEWUTS,
        "cgroup" => CloneFlags::CLONE_NEWCGROUP,
        _ => CloneFlags::CLONE_NEWUSER,
    }
}

/// Makes one of [`NAMESPACES`] as a cell has it: together with a user namespace.
///
/// # Errors
/// The kernel's.
pub fn namespace(name: &str) -> io::Result<()> {
    in_child(CloneFlags::CLONE_NEWUSER | flag(name), || Ok(()))
}

/// Whether all of a cell's namespaces can be made at once, and its id be mapped.
///
/// # Errors
/// The kernel's, or of the id map.
pub fn whole() -> io::Result<()> {
    let all = NAMESPACES.iter().map(|name| flag(name));
    in_child(all.fold(CloneFlags::empty(), CloneFlags::union), || Ok(()))
}

/// Makes an overlay with `userxattr` over memory, through the mount API of Linux 5.2 and 5.12, in a
/// user namespace.
///
/// # Errors
/// The kernel's.
pub fn overlay() -> io::Result<()> {
    in_child(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS, || {
        mount::make_private()?;
        let memory = mount::new_mount(c"tmpfs", &[], &[(c"mode", c"0755")], Attributes::NO_DEV)?;
        mount::restrict(memory.as_fd(), Attributes::NO_SUID)?;
        mount::attach(memory.as_fd(), c"/")?;
        // The root of this process lies below what was just attached; its folder lies in it.
        nix::unistd::fchdir(memory.as_fd())?;
        for folder in ["lower", "upper", "work"] {
            fs::create_dir(folder)?;
        }
        nix::unistd::chroot(".")?;
        let layers = [
            (c"lowerdir", c"/lower"),
            (c"upperdir", c"/upper"),
            (c"workdir", c"/work"),
        ];
        mount::new_mount(c"overlay", &[c"userxattr"], &layers, Attributes::NO_DEV)?;
        Ok(())
    })
}

/// Runs `work` in a child in new namespaces; its error is the child's exit status.
fn in_child(namespaces: CloneFlags, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other("this process has threads already"));
    }
    // Root gives a cell another id; to map its own, it needs CAP_SETFCAP (Linux 5.12).
    let (uid, gid) = match nix::unistd::geteuid() {
        root if root.is_root() => (IDS_BASE, IDS_BASE),
        own => (own.as_raw(), nix::unistd::getegid().as_raw()),
    };
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match process::fork(namespaces.bits())? {
        Forked::Child => {
            let mut go_on = [0];
            let ready = nix::unistd::read(&read, &mut go_on);
            let done = ready.map_err(io::Error::from).and_then(|_| {
                nix::unistd::setresgid(0.into(), 0.into(), 0.into())?;
                nix::unistd::setresuid(0.into(), 0.into(), 0.into())?;
                work()
            });
            let status = match done {
                Ok(()) => WORKED,
                Err(error) => error.raw_os_error().unwrap_or(libc::EINVAL).clamp(1, 200),
            };
            process::exit_now(status)
        }
        Forked::Parent { pid, .. } => {
            let mapped = map(pid, uid, gid);
            File::from(write).write_all(&[1])?;
            let exit = process::reap(pid)?;
            mapped?;
            match nix::sys::wait::WaitStatus::from_raw(nix::unistd::Pid::from_raw(pid), exit.status)
            {
                Ok(nix::sys::wait::WaitStatus::Exited(_, WORKED)) => Ok(()),
                Ok(nix::sys::wait::WaitStatus::Exited(_, number)) => {
                    Err(io::Error::from_raw_os_error(number))
                }
                _ => Err(io::Error::other("the child was ended")),
            }
        }
    }
}

/// Maps id 0 inside to an id outside (user_namespaces(7)).
fn map(pid: i32, uid: u32, gid: u32) -> io::Result<()> {
    let write = |file: &str, text: &str| -> io::Result<()> {
        let path = format!("/proc/{pid}/{file}");
        let mut file = File::options().write(true).open(path)?;
        file.write_all(text.as_bytes())
    };
    write("setgroups", "deny")?;
    write("uid_map", &format!("0 {uid} 1\n"))?;
    write("gid_map", &format!("0 {gid} 1\n"))
}
