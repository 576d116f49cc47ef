//! `strace` on running threads: which system calls they make, and faults in chosen ones.
//!
//! Calls are counted by name for each thread, so that the `n`th one of a thread that does one thing
//! after the other is always the same. The traced program is the one that people run.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::host;

/// Longest time until a tracer holds its threads, or has let them go.
const TRACER_MAX: Duration = Duration::from_secs(20);

/// Which threads are traced.
#[derive(Debug, Clone)]
pub enum Threads {
    /// These.
    Only(Vec<u32>),
    /// All of this process, and those that it starts.
    All(u32),
}

/// A system call of a traced thread.
#[derive(Debug, Clone)]
pub struct Call {
    /// The thread, when more than one is traced.
    pub thread: Option<u32>,
    /// Its name.
    pub name: String,
    /// The how manieth of this name in its thread.
    pub nth: usize,
    /// The file that it is about, of those that it has open.
    pub path: String,
    /// As `strace` wrote it down.
    pub line: String,
    /// Whether it failed because it was to fail.
    pub is_injected: bool,
}

impl Call {
    /// Parses a line; nothing for one that is none.
    fn parse(line: &str, counts: &mut BTreeMap<(Option<u32>, String), usize>) -> Option<Self> {
        let (thread, rest) = line.split_once(' ').unwrap_or_default();
        let thread: Option<u32> = thread.parse().ok();
        let rest = thread.map_or(line, |_| rest.trim_start());
        let (name, arguments) = rest.split_once('(')?;
        if !name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        {
            return None;
        }
        let count = counts.entry((thread, name.to_owned())).or_default();
        *count += 1;
        // `21</a/file>, …`; the first argument of `openat` is a folder.
        let opened = arguments.rsplit(" = ").next().filter(|_| name == "openat");
        let path = opened.unwrap_or(arguments).split_once('<');
        let path = path
            .and_then(|(_, rest)| rest.split_once('>'))
            .map(|(path, _)| path);
        Some(Self {
            thread,
            name: name.to_owned(),
            nth: *count,
            path: path.unwrap_or_default().to_owned(),
            is_injected: line.ends_with("(INJECTED)"),
            line: line.to_owned(),
        })
    }

    /// Whether it came back.
    pub fn is_ended(&self) -> bool {
        !self.line.ends_with("<detached ...>")
    }

    /// Whether it changes a file, or a folder.
    pub fn is_of_a_file(&self) -> bool {
        let is_other = ["socket:", "anon_inode:", "pipe:"].iter();
        !is_other.clone().any(|kind| self.path.starts_with(kind))
            && !self.path.ends_with("trace.txt")
            && !self.line.contains("\"/proc/")
            && !self.name.starts_with("send")
            && !self.name.starts_with("recv")
    }
}

/// A tracer at work; the threads go on without it when this is dropped.
#[derive(Debug)]
pub struct Traced {
    tracer: Child,
    said: PathBuf,
}

impl Traced {
    /// Traces calls of these names, with faults as `strace -e inject=` takes them; both are lists
    /// of `strace`. What was called stands in the file `said`.
    ///
    /// # Panics
    /// When there is no `strace`, or it cannot hold the threads.
    pub fn begin(threads: &Threads, calls: &str, fault: Option<&str>, said: &Path) -> Self {
        drop(fs::remove_file(said));
        let mut command = Command::new("strace");
        command.args(["-y", "-s", "0", "-o"]).arg(said);
        command.args(["-e", &format!("trace={calls}"), "-e", "signal=none"]);
        if let Some(fault) = fault {
            command.args(["-e", &format!("inject={fault}")]);
        }
        let held = match threads {
            Threads::Only(ids) => ids,
            Threads::All(process) => {
                command.arg("-f");
                std::slice::from_ref(process)
            }
        };
        for id in held {
            command.args(["-p", &id.to_string()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut tracer = command.stderr(Stdio::piped()).spawn().expect("strace");
        let lines = BufReader::new(tracer.stderr.take().expect("stderr is a pipe")).lines();
        let (sender, told) = mpsc::sync_channel(64);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                drop(sender.try_send(line)); // nobody listens any more once all are held
            }
        });
        for id in held {
            let line = told.recv_timeout(TRACER_MAX).unwrap_or_default();
            assert!(line.contains(" attached"), "strace of {id}: {line}");
        }
        let said = said.to_owned();
        Self { tracer, said }
    }

    /// Lets the threads go and returns what they called.
    pub fn end(mut self) -> Vec<Call> {
        self.let_go();
        let text = fs::read(&self.said).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let mut counts = BTreeMap::new();
        let calls = text
            .lines()
            .filter_map(|line| Call::parse(line, &mut counts));
        calls.collect()
    }

    fn let_go(&mut self) {
        let tracer = Pid::from_raw(i32::try_from(self.tracer.id()).expect("a pid is positive"));
        if self.tracer.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill(tracer, Signal::SIGTERM).expect("ours");
        }
        let ended = host::wait_for(TRACER_MAX, || self.tracer.try_wait().expect("ours"));
        if ended.is_none() {
            self.tracer.kill().expect("ours");
            self.tracer.wait().expect("ours");
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// Threads of a process, with this name when one is given.
pub fn threads(pid: u32, name: Option<&str>) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let ids = entries.into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is = |id: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/task/{id}/comm"));
        name.is_none_or(|name| comm.is_ok_and(|comm| comm.trim_end() == name))
    };
    ids.filter(is).collect()
}
