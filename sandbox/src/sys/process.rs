//! Processes by descriptor: `clone3`, `pidfd_open`, `pidfd_getfd`, `wait4`, and what a process may
//! set for itself.

use std::{
    ffi::{CString, c_char, c_long},
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use super::{check, descriptor, own};

/// `CLONE_CLEAR_SIGHAND` of linux/sched.h, which does not fit into the C library's type.
const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
/// `CLONE_INTO_CGROUP` of linux/sched.h, likewise.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// Both sides of a new process.
pub(crate) enum Forked {
    /// We are the new process.
    Child,
    /// We are the old one.
    Parent {
        /// The child.
        pid: i32,
        /// The child, as a descriptor that can be polled.
        pidfd: OwnedFd,
    },
}

/// How a child ended, and what it and its waited-for children used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit {
    /// As wait(2) encodes it.
    pub(crate) status: i32,
    pub(crate) cpu: Duration,
    pub(crate) memory_peak_bytes: u64,
}

/// Makes a process that continues here, in new namespaces when `namespaces` has any.
///
/// Signal handlers are reset in the child.
pub(crate) fn fork(namespaces: i32) -> io::Result<Forked> {
    fork_into(namespaces, None)
}

/// The same in another control group of version 2, of which the folder is given.
pub(crate) fn fork_into(namespaces: i32, group: Option<BorrowedFd<'_>>) -> io::Result<Forked> {
    let mut raw: RawFd = -1;
    let mut flags = u64::from((libc::CLONE_PIDFD | namespaces).cast_unsigned()) | CLEAR_SIGHAND;
    if group.is_some() {
        flags |= INTO_CGROUP;
    }
    let group = group.map_or(0, |group| group.as_raw_fd());
    let args = libc::clone_args {
        flags,
        pidfd: (&raw mut raw).expose_provenance() as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: u64::try_from(group).expect("a descriptor is not negative"),
    };
    // SAFETY: the arguments name no new stack and no CLONE_VM, so that the child runs on a copy of
    // this memory; the supervisor checks at its start that it has one thread, hence no lock is held
    // by somebody who does not exist in the child. `raw` outlives the call.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Forked::Child);
    }
    Ok(Forked::Parent {
        pid: i32::try_from(pid).expect("process ids are small numbers"),
        pidfd: own(raw),
    })
}

/// A descriptor for a process.
pub(crate) fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes no pointers.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// Kills a process; one that is dead already is no error.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the siginfo pointer is null, which the call allows.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    });
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Copies a descriptor out of another process.
pub(crate) fn take_descriptor(pidfd: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_getfd takes no pointers.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// Reaps a child of ours; waits when it is still alive.
pub(crate) fn reap(pid: i32) -> io::Result<Exit> {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to values that outlive the call; all of `rusage` is integers.
        let result = check(c_long::from(unsafe {
            libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr())
        }));
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // SAFETY: the memory was zeroed, and zero is a valid value of every field.
    let usage = unsafe { usage.assume_init() };
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Ok(Exit {
        status,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        memory_peak_bytes: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    })
}

/// Ends this process at once: no destructor, no buffer, no handler of the parent runs in the child.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Locks the securebits: id 0 has no power of its own, capabilities are not kept or raised.
pub(crate) fn lock_securebits() -> io::Result<()> {
    let bits = SECUREBITS;
    // SAFETY: PR_SET_SECUREBITS takes a number; unused arguments are zero.
    check(c_long::from(unsafe {
        libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0)
    }))?;
    Ok(())
}

/// The securebits in force.
pub(crate) fn securebits_locked() -> io::Result<bool> {
    // SAFETY: PR_GET_SECUREBITS takes no arguments.
    let bits = check(c_long::from(unsafe {
        libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0)
    }))?;
    Ok(bits == c_long::from(SECUREBITS))
}

const SECUREBITS: i32 = libc::SECBIT_NOROOT
    | libc::SECBIT_NOROOT_LOCKED
    | libc::SECBIT_NO_SETUID_FIXUP
    | libc::SECBIT_NO_SETUID_FIXUP_LOCKED
    | libc::SECBIT_KEEP_CAPS_LOCKED
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE
    | libc::SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

/// Fails when one of the three standard streams is closed: its number would be given to a file.
pub(crate) fn standard_streams() -> io::Result<()> {
    for number in 0..3 {
        // SAFETY: F_GETFD takes no pointer and fails for a number that is not open.
        check(c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    }
    Ok(())
}

/// Sets how little processor time a process of one thread, or with 0 this thread, gets beside
/// others; 19 is least.
pub(crate) fn set_nice(pid: i32, value: i32) -> io::Result<()> {
    let pid = libc::id_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: setpriority takes no pointers.
    check(c_long::from(unsafe {
        libc::setpriority(libc::PRIO_PROCESS, pid, value)
    }))?;
    Ok(())
}

/// Sets the one signal that the Rust runtime ignores, and a child would ignore too, to its default.
pub(crate) fn default_sigpipe() -> io::Result<()> {
    // SAFETY: SIG_DFL runs no code of ours.
    let old = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if old == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A program with arguments and environment, ready to be executed without another allocation.
pub(crate) struct Exec {
    path: CString,
    // The pointers below point into these.
    _texts: Vec<CString>,
    args: Vec<*const c_char>,
    env: Vec<*const c_char>,
}

impl Exec {
    pub(crate) fn new(path: CString, args: Vec<CString>, env: Vec<CString>) -> Self {
        let pointers = |texts: &[CString]| {
            let texts = texts.iter().map(|text| text.as_ptr());
            texts.chain([std::ptr::null()]).collect::<Vec<_>>()
        };
        let (arg_pointers, env_pointers) = (pointers(&args), pointers(&env));
        Self {
            path,
            _texts: args.into_iter().chain(env).collect(),
            args: arg_pointers,
            env: env_pointers,
        }
    }

    /// Becomes the program; comes back with the error when that fails.
    pub(crate) fn run(&self) -> io::Error {
        // SAFETY: both lists end with a null pointer, and their texts live in `self`: moving a
        // `CString` does not move its heap buffer.
        unsafe { libc::execve(self.path.as_ptr(), self.args.as_ptr(), self.env.as_ptr()) };
        io::Error::last_os_error()
    }
}
