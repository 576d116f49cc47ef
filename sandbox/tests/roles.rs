//! Attacks on the confinement of each role, from within a process that was confined as that role.
//!
//! This program starts itself once for each role and attempt, as a call that ends the process can
//! be tried once only. It runs without root, too; as root each role also switches to an id.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that starts itself"
)]

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{net::UnixListener, process::ExitStatusExt as _},
    },
    path::Path,
    process::{Command, ExitCode},
};

use hotcell_sandbox::privilege::{self, IDS_BASE, Role};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, kill},
        socket::{AddressFamily, SockFlag, SockType, accept4, socket},
        stat::Mode,
    },
    unistd::{Pid, Uid, chroot, execv, getppid, mkfifo, setuid},
};

/// An id that nobody has.
const ID: u32 = IDS_BASE + 900;

/// What an attempt must meet with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The kernel ends the process (SIGSYS).
    Killed,
    /// This error comes back.
    Refused(Errno),
    /// It works.
    Works,
}

use Fate::{Killed, Refused, Works};

const DENIED: Fate = Refused(Errno::EACCES);
/// Not in the list of calls: as if the kernel did not have it.
const UNKNOWN: Fate = Refused(Errno::ENOSYS);
/// For `fetch`, the only role that makes sockets at all.
const NO_FAMILY: [Fate; 4] = [UNKNOWN, Refused(Errno::EAFNOSUPPORT), UNKNOWN, UNKNOWN];

/// What was made before power was given up, as a role has it.
struct Open {
    folder: File,
    zero: File,
    namespace: File,
    listener: TcpListener,
    address: SocketAddr,
}

type Attempt = fn(&Open) -> io::Result<()>;

/// Name, attempt, and its fate in serve, fetch, sign and relay.
#[rustfmt::skip]
const ATTEMPTS: &[(&str, Attempt, [Fate; 4])] = &[
    ("read /etc/passwd", |_| read("/etc/passwd"), [DENIED; 4]),
    ("list /", |_| fs::read_dir("/").map(drop), [DENIED; 4]),
    ("read /proc/self/status", |_| read("/proc/self/status"), [DENIED; 4]),
    ("read /proc/1/environ", |_| read("/proc/1/environ"), [DENIED; 4]),
    ("write /dev/null", |_| File::create("/dev/null").map(drop), [DENIED; 4]),
    ("write to /tmp", |_| File::create("/tmp/hotcell-escape").map(drop), [DENIED; 4]),
    ("look beside its folder", |_| fs::read_dir("..").map(drop), [DENIED; 4]),
    ("read a resolver's file", |_| read("/etc/hosts"), [DENIED, Works, DENIED, DENIED]),
    ("write a resolver's file", |_| append("/etc/hosts"), [DENIED; 4]),
    ("read its folder", |_| read("file"), [Works; 4]),
    ("write its folder", |_| File::create("new").map(drop), [Works, Works, Works, DENIED]),
    ("move in its folder", |_| fs::rename("file", "folder/file"), [Works, Works, Works, UNKNOWN]),
    ("link a file out of its folder", |_| fs::hard_link("file", "/tmp/hotcell-link"),
        [DENIED, DENIED, DENIED, UNKNOWN]),
    ("make a symbolic link", |_| std::os::unix::fs::symlink("/", "link"), [UNKNOWN; 4]),
    ("make a pipe with a name", |_| of(mkfifo("pipe", Mode::S_IRWXU)), [Killed; 4]),
    ("use what was open", |open| io::Read::read_exact(&mut &open.zero, &mut [0]), [Works; 4]),
    ("start a thread", |_| std::thread::Builder::new().spawn(|| ()).map(drop), [Works; 4]),
    ("start a program", |_| Command::new("/bin/true").spawn().map(drop), [UNKNOWN; 4]),
    ("become a program", |_| of(execv(c"/proc/self/exe", &[c"x"])), [Killed; 4]),
    ("a user namespace", |_| of(unshare(CloneFlags::CLONE_NEWUSER)), [Killed; 4]),
    ("a network namespace", |_| of(unshare(CloneFlags::CLONE_NEWNET)), [Killed; 4]),
    ("another namespace", |open| of(setns(&open.namespace, CloneFlags::empty())), [Killed; 4]),
    ("a mount", |_| private_mounts(), [Killed; 4]),
    ("another root", |_| of(chroot(".")), [Killed; 4]),
    ("memory as a file", |_| of(memfd_create("x", MFdFlags::MFD_CLOEXEC)),
        [Works, UNKNOWN, UNKNOWN, UNKNOWN]),
    ("another user", |_| of(setuid(Uid::from_raw(0))), [UNKNOWN; 4]),
    ("a signal to its parent", |_| of(kill(getppid(), Signal::SIGCONT)), [UNKNOWN; 4]),
    ("a signal to everybody", |_| of(kill(Pid::from_raw(-1), Signal::SIGCONT)), [UNKNOWN; 4]),
    ("connect over TCP", |open| TcpStream::connect(open.address).map(drop),
        [UNKNOWN, Works, UNKNOWN, UNKNOWN]),
    ("listen over TCP", |_| TcpListener::bind("127.0.0.1:0").map(drop), [UNKNOWN; 4]),
    ("send over UDP", |_| UdpSocket::bind("127.0.0.1:0").map(drop), [UNKNOWN; 4]),
    ("listen on a path", |_| UnixListener::bind("socket").map(drop), NO_FAMILY),
    ("a vsock", |_| family(AddressFamily::Vsock, SockType::Stream), NO_FAMILY),
    ("netlink", |_| family(AddressFamily::Netlink, SockType::Raw), NO_FAMILY),
    ("packets", |_| family(AddressFamily::Packet, SockType::Raw), NO_FAMILY),
    ("the kernel's ciphers", |_| family(AddressFamily::Alg, SockType::SeqPacket), NO_FAMILY),
    ("raw sockets", |_| family(AddressFamily::Inet, SockType::Raw), NO_FAMILY),
    ("a visitor", accept, [Works, UNKNOWN, UNKNOWN, Works]),
];

fn of<T>(result: nix::Result<T>) -> io::Result<()> {
    result.map(drop).map_err(io::Error::from)
}

fn read(path: &str) -> io::Result<()> {
    File::open(path).map(drop)
}

fn append(path: &str) -> io::Result<()> {
    File::options().append(true).open(path).map(drop)
}

fn private_mounts() -> io::Result<()> {
    const NONE: Option<&str> = None;
    of(mount(NONE, "/", NONE, MsFlags::MS_PRIVATE, NONE))
}

fn family(family: AddressFamily, kind: SockType) -> io::Result<()> {
    of(socket(family, kind, SockFlag::empty(), None))
}

fn accept(open: &Open) -> io::Result<()> {
    // The connection was made before and waits.
    of(accept4(open.listener.as_raw_fd(), SockFlag::empty()))
}

/// Becomes the role, tries, and tells what came back by the exit code: 0, or the error's number.
fn child(role: Role, attempt: Attempt) -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _waiting = TcpStream::connect(address).unwrap();
    let open = Open {
        folder: File::open(".").unwrap(),
        zero: File::open("/dev/zero").unwrap(),
        namespace: File::open("/proc/self/ns/net").unwrap(),
        listener,
        address,
    };
    privilege::give_up(privilege::is_root().then_some(ID)).unwrap();
    privilege::confine(role, open.folder.as_fd(), &[]).unwrap();
    match attempt(&open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => ExitCode::from(u8::try_from(error.raw_os_error().unwrap_or(255)).unwrap()),
    }
}

/// A folder of the role's own with a file and a folder in it.
fn folder(owner: Option<u32>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(File::create(path.join("file")).unwrap());
    fs::create_dir(path.join("folder")).unwrap();
    for name in ["", "file", "folder"] {
        std::os::unix::fs::chown(path.join(name), owner, owner).unwrap();
    }
    folder
}

fn parent() -> ExitCode {
    let mut wrong = 0;
    let owner = privilege::is_root().then_some(ID);
    for (column, role) in Role::ALL.into_iter().enumerate() {
        for (index, (name, _, fates)) in ATTEMPTS.iter().enumerate() {
            let folder = folder(owner);
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.env_clear().current_dir(folder.path());
            command.args(["--confined", role.word(), &index.to_string()]);
            let ended = command.output().unwrap();
            let (signal, code) = (ended.status.signal(), ended.status.code());
            let fits = match fates[column] {
                Killed => signal == Some(libc::SIGSYS),
                Refused(errno) => code == Some(errno as i32),
                Works => code == Some(0),
            };
            if !fits {
                wrong += 1;
                let said = String::from_utf8_lossy(&ended.stderr);
                let expected = fates[column];
                println!(
                    "{}: {name}: {expected:?}, {}: {said}",
                    role.word(),
                    ended.status
                );
            }
        }
    }
    for path in ["/tmp/hotcell-escape", "/tmp/hotcell-link"] {
        assert!(!Path::new(path).exists(), "{path} was made");
    }
    let all = ATTEMPTS.len() * Role::ALL.len();
    println!("{all} attempts, {wrong} with another fate");
    ExitCode::from(u8::from(wrong > 0))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [confined, role, index] = &arguments[..] else {
        return parent(); // whatever options the test runner has
    };
    assert_eq!(confined, "--confined");
    let role = Role::ALL.into_iter().find(|known| known.word() == role);
    let (_, attempt, _) = ATTEMPTS[index.parse::<usize>().unwrap()];
    child(role.unwrap(), attempt)
}
