//! Runs programs to their end, bounded in time and output.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Output kept of one stream; the rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 16 << 20;

/// A program about to run.
#[derive(Debug)]
pub struct Run {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    uid: Option<u32>,
    time_max: Duration,
    clear: bool,
    core: Option<usize>,
}

/// How it ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// From start to end.
    pub took: Duration,
}

impl Run {
    /// `program`, with the environment of this process.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            uid: None,
            time_max: Duration::from_mins(5),
            clear: false,
            core: None,
        }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Starts with an empty environment, but for PATH.
    #[must_use]
    pub fn clear_env(mut self) -> Self {
        self.clear = true;
        self
    }

    /// Runs in `folder`.
    #[must_use]
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Self {
        self.folder = Some(folder.as_ref().to_owned());
        self
    }

    /// Runs as another user and group, without supplementary groups.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Runs on one processor only, and all that it starts with it.
    #[must_use]
    pub fn on_core(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// Ends it after so long; then [`Run::wait`] panics.
    #[must_use]
    pub fn time_max(mut self, time_max: Duration) -> Self {
        self.time_max = time_max;
        self
    }

    /// Starts it with pipes for its output.
    pub fn spawn(&self) -> Child {
        let mut command = match self.core {
            None => Command::new(&self.program),
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(&self.program);
                command
            }
        };
        command.args(&self.args);
        if self.clear {
            command.env_clear();
            if let Some(path) = std::env::var_os("PATH") {
                command.env("PATH", path);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        if let Some(uid) = self.uid {
            // As root, std drops supplementary groups whenever it changes the user.
            command.uid(uid).gid(uid);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start `{}`: {error}", self.program.display()))
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not end in time; it is ended then.
    pub fn wait(&self) -> Ended {
        let started = Instant::now();
        let mut child = self.spawn();
        let stdout = reader(child.stdout.take().expect("stdout is a pipe"));
        let stderr = reader(child.stderr.take().expect("stderr is a pipe"));
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child can be waited for") {
                break status;
            }
            if started.elapsed() > self.time_max {
                child.kill().expect("our own child can be ended");
                child.wait().expect("a child can be waited for");
                let stderr = stderr.join().expect("the reader does not panic");
                panic!(
                    "`{} {:?}` took longer than {:?}; it said: {}",
                    self.program.display(),
                    self.args,
                    self.time_max,
                    String::from_utf8_lossy(&stderr)
                );
            }
            thread::sleep(Duration::from_millis(10));
        };
        Ended {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: stdout.join().expect("the reader does not panic"),
            stderr: stderr.join().expect("the reader does not panic"),
            took: started.elapsed(),
        }
    }

    /// Runs it to its end and expects success.
    pub fn succeed(&self) -> Ended {
        self.expect(0)
    }

    /// Runs it to its end and expects this exit code.
    ///
    /// # Panics
    /// When it is another one.
    pub fn expect(&self, code: i32) -> Ended {
        let ended = self.wait();
        assert_eq!(
            ended.code,
            code,
            "`{} {:?}` said:\n{}\n{}",
            self.program.display(),
            self.args,
            ended.out(),
            ended.err()
        );
        ended
    }
}

impl Ended {
    /// Standard output as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "stdout is no JSON document: {error}: {}\n{}",
                self.out(),
                self.err()
            )
        })
    }
}

/// Reads a stream to its end in a thread of its own, so that the program never waits for us.
pub(crate) fn reader(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut part = [0; 16 << 10];
        while let Ok(count) = stream.read(&mut part) {
            if count == 0 {
                break;
            }
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&part[..count.min(room)]);
        }
        kept
    })
}

/// A variable of the Go command, such as GOPROXY, when it is not empty.
pub fn go_env(name: &str) -> Option<String> {
    let ended = Run::new("go").args(["env", name]).wait();
    let value = ended.out().trim().to_owned();
    (ended.code == 0 && !value.is_empty()).then_some(value)
}

/// Whether a file of this name can be opened; tells which program is missing.
pub fn has(path: &Path) -> bool {
    File::open(path).is_ok()
}
