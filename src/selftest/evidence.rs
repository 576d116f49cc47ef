//! What the host sees: listeners that nobody may reach, files that nobody may change, and what is
//! left when all cells are gone. None of it depends on what the hostile program says.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::DirBuilderExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Attempt, Lock, PROGRAM, Row, Verdict,
    sight::{digest, groups, inhabitants, mounts, names, null, powers, processes, sha256},
};

/// How long processes of a cell may still be seen after its end was told; the kernel has killed
/// them before, and may still be clearing away.
const LEFT_MAX: Duration = Duration::from_secs(5);
/// What was there before.
#[derive(Debug)]
pub struct Evidence {
    /// In the arguments of every program, by which its processes are found.
    mark: String,
    folder: PathBuf,
    canary: Vec<u8>,
    tcp4: TcpListener,
    tcp6: Option<TcpListener>,
    udp4: UdpSocket,
    unix: UnixListener,
    named: UnixListener,
    before: Before,
}

/// What must be the same afterwards.
#[derive(Debug, Default)]
struct Before {
    hotcell: Option<[u8; 32]>,
    trees: Vec<Tree>,
    store: Option<PathBuf>,
    names: BTreeSet<PathBuf>,
    mounts: BTreeSet<String>,
    groups: BTreeSet<PathBuf>,
    null: Option<(u32, u32, i64)>,
}

/// A tree that cells share.
#[derive(Debug)]
struct Tree {
    title: String,
    path: PathBuf,
    digest: [u8; 32],
}

impl Evidence {
    /// Opens listeners and lays out a canary.
    ///
    /// # Errors
    /// When this machine has no loopback device or no place for temporary files.
    pub fn lay_out() -> io::Result<Self> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mark: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = std::env::temp_dir().join(format!("hotcell-selftest-{mark}"));
        DirBuilder::new().mode(0o755).create(&folder)?;
        let canary = format!("canary {mark}\n").into_bytes();
        File::create_new(folder.join("canary"))?.write_all(&canary)?;
        File::create_new(folder.join("program"))?.write_all(PROGRAM)?;
        let name = format!("hotcell-selftest-{mark}");
        let all = Self {
            tcp4: TcpListener::bind("127.0.0.1:0")?,
            tcp6: TcpListener::bind("[::1]:0").ok(), // a machine may be without IPv6
            udp4: UdpSocket::bind("127.0.0.1:0")?,
            unix: UnixListener::bind(folder.join("socket"))?,
            named: UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?,
            mark,
            folder,
            canary,
            before: Before {
                null: null(),
                ..Before::default()
            },
        };
        all.tcp4.set_nonblocking(true)?;
        all.udp4.set_nonblocking(true)?;
        all.unix.set_nonblocking(true)?;
        all.named.set_nonblocking(true)?;
        if let Some(tcp6) = &all.tcp6 {
            tcp6.set_nonblocking(true)?;
        }
        Ok(all)
    }

    /// The hostile program as a file, removed with this value.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.folder.join("program")
    }

    /// What the program must know to try them.
    #[must_use]
    pub fn args(&self) -> Vec<String> {
        let port = |address: io::Result<std::net::SocketAddr>| address.map_or(0, |it| it.port());
        let host = nix::unistd::gethostname().unwrap_or_default();
        let mut all = vec![
            format!("mark={}", self.mark),
            format!("tcp4={}", port(self.tcp4.local_addr())),
            format!("udp4={}", port(self.udp4.local_addr())),
            format!("unix={}", self.folder.join("socket").display()),
            format!("abstract=hotcell-selftest-{}", self.mark),
            format!("canary={}", self.folder.join("canary").display()),
            format!("host={}", host.to_string_lossy()),
        ];
        if let Some(tcp6) = &self.tcp6 {
            all.push(format!("tcp6={}", port(tcp6.local_addr())));
        }
        all
    }

    /// Looks at what must not change: trees that cells share, and the store around them.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn look(&mut self, store: &Path, trees: &[(String, PathBuf)]) -> io::Result<()> {
        let mut all = Vec::new();
        for (title, path) in trees {
            all.push(Tree {
                title: title.clone(),
                path: path.clone(),
                digest: digest(path, false)?,
            });
        }
        self.before = Before {
            hotcell: Some(sha256(Path::new("/proc/self/exe"), false)?),
            trees: all,
            names: names(store)?,
            store: Some(store.to_owned()),
            mounts: mounts(),
            groups: groups(),
            null: null(),
        };
        Ok(())
    }

    /// Processes that carry the mark of this run, after some time to be gone.
    #[must_use]
    pub fn left(&self) -> Vec<u32> {
        let deadline = Instant::now() + LEFT_MAX;
        loop {
            let found = processes(self.mark.as_bytes());
            if found.is_empty() || Instant::now() > deadline {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Control groups that were not there before and cannot be removed, after some time to be gone,
    /// and who is in them. An empty one of a supervisor that was killed waits for the next one.
    fn left_groups(&self) -> Vec<String> {
        let deadline = Instant::now() + LEFT_MAX;
        loop {
            let now = groups();
            let new = now.difference(&self.before.groups);
            let new: Vec<&PathBuf> = new.filter(|path| fs::remove_dir(path).is_err()).collect();
            if new.is_empty() || Instant::now() > deadline {
                return new.into_iter().map(|path| inhabitants(path)).collect();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the host sees wins over what the program says.
    pub fn correct(&self, attempts: &mut [Attempt]) {
        let heard = self.heard();
        let canary = fs::read(self.folder.join("canary")).unwrap_or_default() == self.canary;
        for attempt in attempts {
            let listener = LISTENERS
                .iter()
                .find(|(_, ids)| ids.contains(&attempt.id.as_str()));
            let bad = match listener {
                Some((name, _)) => Some(heard.contains(name)),
                None if attempt.id == "canary-write" => Some(!canary),
                None => None,
            };
            match bad {
                Some(true) => {
                    attempt.verdict = Verdict::Escaped;
                    attempt.stopped_by = None;
                    attempt.judged_by = "host";
                }
                // Whoever sends a datagram never knows whether somebody got it.
                Some(false) if attempt.id == "net-datagram" => {
                    attempt.verdict = Verdict::Stopped;
                    attempt
                        .stopped_by
                        .get_or_insert_with(|| "namespace".to_owned());
                    attempt.judged_by = "host";
                }
                Some(false) if attempt.verdict == Verdict::Stopped => attempt.judged_by = "host",
                _ => {}
            }
        }
    }

    /// Which listeners somebody has reached.
    fn heard(&self) -> Vec<&'static str> {
        let mut datagram = [0_u8; 1];
        let all = [
            ("tcp4", self.tcp4.accept().is_ok()),
            (
                "tcp6",
                self.tcp6.as_ref().is_some_and(|it| it.accept().is_ok()),
            ),
            ("udp4", self.udp4.recv(&mut datagram).is_ok()),
            ("unix", self.unix.accept().is_ok()),
            ("abstract", self.named.accept().is_ok()),
        ];
        all.into_iter()
            .filter(|(_, heard)| *heard)
            .map(|(name, _)| name)
            .collect()
    }

    /// Judges what only shows when everything is over.
    #[must_use]
    pub fn after(&self) -> Vec<Attempt> {
        let mut all = Vec::new();
        for direct in [false, true] {
            all.push(self.trees("SDK", &ROWS[usize::from(direct)], "go", direct));
        }
        all.push(self.trees("frozen cache", &ROWS[2], "frozen", false));
        let now = sha256(Path::new("/proc/self/exe"), false).ok();
        all.push(same(&ROWS[3], now == self.before.hotcell, ""));
        let left = self.left();
        all.push(same(&ROWS[4], left.is_empty(), &format!("{left:?}")));
        let store = self.before.store.as_deref().unwrap_or(Path::new(""));
        let about = |line: &&String| line.contains("hotcell") || line.contains("/home/cache");
        let mounts = mounts();
        let new: Vec<&String> = mounts
            .difference(&self.before.mounts)
            .filter(about)
            .collect();
        all.push(same(&ROWS[5], new.is_empty(), &format!("{new:?}")));
        let names = names(store).unwrap_or_default();
        let new: Vec<&PathBuf> = names.symmetric_difference(&self.before.names).collect();
        all.push(same(&ROWS[6], new.is_empty(), &format!("{new:?}")));
        let powers = powers(store);
        all.push(same(&ROWS[7], powers.is_empty(), &format!("{powers:?}")));
        let groups = self.left_groups();
        all.push(same(&ROWS[8], groups.is_empty(), &groups.join("; ")));
        all.push(self.after_null());
        all
    }

    /// The one thing of the host itself that lies in cells. Its times are not looked at: all
    /// others of this machine may use it.
    #[must_use]
    pub fn after_null(&self) -> Attempt {
        let (before, now) = (self.before.null, null());
        let good = now.is_some() && before == now;
        same(&ROWS[9], good, &format!("{before:?} is now {now:?}"))
    }

    fn trees(&self, what: &str, row: &Row, kind: &str, direct: bool) -> Attempt {
        let frozen = kind == "frozen";
        let trees = self.before.trees.iter();
        let trees: Vec<&Tree> = trees
            .filter(|tree| is_frozen(&tree.path) == frozen)
            .collect();
        for tree in &trees {
            match digest(&tree.path, direct) {
                Ok(now) if now == tree.digest => {}
                Ok(_) => return same(row, false, &format!("{what} {} was changed", tree.title)),
                Err(error) if direct && error.raw_os_error() == Some(libc::EINVAL) => {
                    return Attempt::of(row, Verdict::Unjudged, None, "host")
                        .detail("this file system has no way past the page cache");
                }
                Err(error) => return same(row, false, &format!("{what}: {error}")),
            }
        }
        if trees.is_empty() {
            return Attempt::of(row, Verdict::Unjudged, None, "host").detail("there is none");
        }
        same(row, true, "")
    }
}

impl Drop for Evidence {
    fn drop(&mut self) {
        // Our own folder in a place for temporary files; what cannot be removed hurts nobody.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// Which attempts a listener's silence answers.
const LISTENERS: [(&str, &[&str]); 5] = [
    (
        "tcp4",
        &[
            "net-host",
            "net-host-2",
            "net-host-0",
            "net-fast-open",
            "relay-absolute",
            "relay-connect",
        ],
    ),
    ("tcp6", &["net-host-6"]),
    ("udp4", &["net-datagram"]),
    ("unix", &["unix-path"]),
    ("abstract", &["unix-abstract", "connect-confused"]),
];

const fn row(id: &'static str, class: u8, what: &'static str) -> Row {
    Row {
        id,
        class,
        lock: Lock::Gone,
        what,
    }
}

/// What is judged at the end, from outside alone.
const ROWS: [Row; 10] = [
    row(
        "after-sdk",
        1,
        "after all of this: is a byte of the SDK another one?",
    ),
    row(
        "after-sdk-direct",
        1,
        "the same, read from the disk and not from the page cache",
    ),
    row(
        "after-frozen",
        20,
        "is a byte of the frozen standard library another one?",
    ),
    row(
        "after-hotcell",
        7,
        "is the program hotcell itself another one?",
    ),
    row("after-processes", 19, "is any process of any cell left?"),
    row(
        "after-mounts",
        19,
        "is any mount of any cell left on the host?",
    ),
    row("after-files", 4, "is anything new in the store?"),
    row(
        "after-powers",
        5,
        "is there a file with setuid or setgid bits in the store?",
    ),
    row("after-groups", 14, "is any control group of any cell left?"),
    row(
        "after-null",
        15,
        "is the null device of the host another one?",
    ),
];

fn same(row: &Row, good: bool, detail: &str) -> Attempt {
    if good {
        Attempt::of(row, Verdict::Stopped, Some("everything above"), "host")
    } else {
        Attempt::of(row, Verdict::Escaped, None, "host").detail(detail)
    }
}

/// Trees in the store's folder `std` are frozen caches (`hotcell_sandbox`'s store).
fn is_frozen(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("std"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_was_reached_changes_the_verdict() {
        let evidence = Evidence::lay_out().unwrap();
        let port = evidence.tcp4.local_addr().unwrap();
        let attempt = |id| Attempt::of(&row(id, 18, "x"), Verdict::Stopped, Some("x"), "program");
        let mut all = vec![attempt("net-host"), attempt("unix-path"), attempt("splice")];
        evidence.correct(&mut all);
        let told: Vec<_> = all.iter().map(|it| (it.verdict, it.judged_by)).collect();
        let stopped = Verdict::Stopped;
        assert_eq!(
            told,
            [(stopped, "host"), (stopped, "host"), (stopped, "program")]
        );
        let _reached = std::net::TcpStream::connect(port).unwrap();
        let mut all = vec![attempt("net-host"), attempt("unix-path")];
        evidence.correct(&mut all);
        assert_eq!(all[0].verdict, Verdict::Escaped);
        assert_eq!(all[1].verdict, Verdict::Stopped);
    }
}
