//! The program under test: one-off commands, and `serve` with its address and key.

use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    command::{Ended, Run, go_env},
    fake::{self, Proxy},
    host, paths,
    ready::{Ready, START_MAX, guard, lines, wait_until_ready},
};

/// Longest orderly end.
const STOP_MAX: Duration = Duration::from_secs(30);
/// Longest single command; a first build on two busy cores compiles the standard library.
pub const COMMAND_MAX: Duration = Duration::from_mins(8);

/// Where one instance or user keeps things, and which proxy it asks.
#[derive(Debug, Clone)]
pub struct Place {
    /// Home, cache, state and data lie here.
    pub folder: PathBuf,
    /// Address of the proxy and key of the checksum database; the real ones when absent.
    pub proxy: Option<(String, String)>,
    /// Another user than ours.
    pub uid: Option<u32>,
    /// The program; for an unprivileged user a copy that it can reach.
    pub program: PathBuf,
    /// More variables of its environment.
    pub variables: Vec<(String, String)>,
}

impl Place {
    /// In `folder`, asking a proxy of ours.
    pub fn new(folder: &Path, proxy: &Proxy) -> Self {
        let proxy = Some((proxy.url(), proxy.verifier_key()));
        Self {
            proxy,
            ..Self::real(folder)
        }
    }

    /// In `folder`, asking the configured module proxy and the real checksum database.
    pub fn real(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            proxy: None,
            uid: None,
            program: paths::hotcell(),
            variables: Vec::new(),
        }
    }

    /// The same for an unprivileged user; `folder` and a copy of the program become its own.
    #[must_use]
    pub fn as_user(mut self, uid: u32) -> Self {
        let copy = self.folder.join("hotcell");
        fs::copy(&self.program, &copy).expect("the program can be copied");
        std::os::unix::fs::chown(&self.folder, Some(uid), Some(uid)).expect("root can give away");
        self.program = copy;
        self.uid = Some(uid);
        self
    }

    /// A command of the program, with a home and caches of its own.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let run = Run::new(&self.program).args(self.network()).args(args);
        let mut run = run.time_max(COMMAND_MAX);
        for (name, value) in self.environment() {
            run = run.env(&name, value);
        }
        if let Some(uid) = self.uid {
            run = run.uid(uid);
        }
        run.folder(&self.folder)
    }

    /// `hotcell build SPEC --go … -o … --json` and more arguments.
    pub fn build(&self, spec: &str, output: &Path, more: &[&str]) -> Ended {
        let output = output.to_str().expect("paths of tests are UTF-8");
        let mut args = vec!["build", "-o", output, "--json"];
        if !spec.is_empty() {
            args.push(spec);
        }
        args.extend_from_slice(more);
        if !more.contains(&"--go") && !more.contains(&"--locked") {
            args.extend(["--go", crate::sdk::GO]);
        }
        self.run(args).wait()
    }

    /// Builds a small program by command.
    pub(crate) fn builds_hello(&self) {
        let output = self.folder.join("hello");
        let ended = self.build("ex.example/hello@v1.0.0", &output, &[]);
        assert_eq!(ended.code, 0, "{}\n{}", ended.out(), ended.err());
    }

    fn environment(&self) -> Vec<(String, String)> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut all = vec![
            ("HOME".to_owned(), path("home")),
            ("XDG_CACHE_HOME".to_owned(), path("cache")),
            ("XDG_STATE_HOME".to_owned(), path("state")),
        ];
        all.extend(self.variables.iter().cloned());
        if let (None, Some(list)) = (&self.proxy, go_env("GOPROXY")) {
            all.push(("GOPROXY".to_owned(), list));
        }
        all
    }

    /// Options that stand before every command.
    fn network(&self) -> Vec<&str> {
        let proxy = self.proxy.as_ref();
        proxy.map_or_else(Vec::new, |(url, key)| {
            vec!["--goproxy", url, "--sumdb", key]
        })
    }

    /// Starts `serve` on free ports and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready in time; its trace is shown.
    pub fn serve(&self, more: &[&str]) -> Service {
        self.serve_at("127.0.0.1:0", more)
    }

    /// The same at an address that others were told before.
    ///
    /// # Panics
    /// As [`Place::serve`].
    pub fn serve_at(&self, address: &str, more: &[&str]) -> Service {
        self.try_serve_at(address, more).unwrap_or_else(|said| {
            panic!("`serve` was not ready after {START_MAX:?}; it said:\n{said}")
        })
    }

    /// The same when it may refuse to start; then all that it ever traced here.
    pub fn try_serve(&self, more: &[&str]) -> Result<Service, String> {
        self.try_serve_at("127.0.0.1:0", more)
    }

    fn try_serve_at(&self, address: &str, more: &[&str]) -> Result<Service, String> {
        let trace = self.folder.join("trace.txt");
        let file = OpenOptions::new().create(true).append(true).open(&trace);
        let mut command = Command::new(&self.program);
        command
            .args(self.network())
            .arg("serve")
            .arg("--data")
            .arg(self.folder.join("data"));
        if !more.contains(&"--roles") {
            command.arg("--sign-dir").arg(self.folder.join("sign"));
        }
        command
            .args(["--listen", address, "--admin", "127.0.0.1:0"])
            .args(more);
        command.envs(self.environment()).current_dir(&self.folder);
        if let Some(uid) = self.uid {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(uid);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(file.expect("the trace can be written"));
        let mut child = command.spawn().expect("the program starts");
        let guard = guard(child.id());
        let lines = lines(&mut child);
        let ready = wait_until_ready(&lines, more.contains(&"--witness-log"));
        let mut service = Service {
            child: Some(child),
            guard,
            trace,
            ready: None,
        };
        let Some(ready) = ready else {
            let said = service.trace();
            service.kill_9();
            return Err(said);
        };
        service.ready = Some(ready);
        Ok(service)
    }
}

/// A running `serve`; ended when dropped.
#[derive(Debug)]
pub struct Service {
    child: Option<Child>,
    guard: Child,
    trace: PathBuf,
    ready: Option<Ready>,
}

impl Service {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.ready.as_ref().expect("it is ready").address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The verifier key that it printed.
    pub fn verifier_key(&self) -> &str {
        &self.ready.as_ref().expect("it is ready").key
    }

    /// What other logs have to give to `--witness`.
    pub fn witness(&self) -> &str {
        let ready = self.ready.as_ref().expect("it is ready");
        ready.witness.as_deref().expect("it is a witness")
    }

    /// Signs its statements, as `serve --verifier` of others wants it; it says so when it starts.
    pub fn statement_key(&self) -> String {
        let trace = self.trace();
        let at = trace.rfind("ed25519:").expect("it says its key");
        trace.get(at..at + 72).expect("a whole key").to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The URL that builds this module, when needed, and answers with its record.
    pub fn record_url(&self, module: &str) -> String {
        format!("{}{}", self.url(), record_path(module))
    }

    /// Has a module built for the first time; SDK and standard library, too, where they are not.
    ///
    /// # Panics
    /// When there is no record afterwards; its trace is shown.
    pub fn builds(&self, module: &str) {
        let answer = crate::http::get(&self.record_url(module));
        assert_eq!(
            answer.status,
            200,
            "{module}: {}\n{}",
            answer.text(),
            self.trace()
        );
    }

    /// The processes of a role that it has started.
    pub fn role(&self, role: &str) -> Vec<u32> {
        let is_role = |pid: &u32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words
                .windows(2)
                .any(|two| two == [b"role".as_slice(), role.as_bytes()])
        };
        let below = host::descendants(self.pid());
        let pids = below.iter().map(|process| process.pid);
        pids.filter(is_role).collect()
    }

    /// Whether it ends by itself within this time; it still has to be reaped then.
    pub fn ends_within(&self, time_max: Duration) -> bool {
        let ended = host::wait_for(time_max, || {
            let running = host::process(self.pid()).is_some_and(|process| !process.zombie);
            (!running).then_some(())
        });
        ended.is_some()
    }

    /// All that it traced so far.
    pub fn trace(&self) -> String {
        let bytes = fs::read(&self.trace).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether it still runs and answers.
    pub fn lives(&self) -> bool {
        crate::http::get(&format!("{}/healthz", self.url())).status == 200
    }

    /// Ends it without a warning, as a power cut or the kernel's memory killer would.
    pub fn kill_9(&mut self) {
        self.end_guard();
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own child can be ended");
            child.wait().expect("a child can be waited for");
        }
    }

    /// Ends it in an orderly way and returns its exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(&mut self) -> i32 {
        self.end_guard();
        let mut child = self.child.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid is positive"));
        kill(pid, Signal::SIGTERM).expect("our own child takes signals");
        let ended = host::wait_for(STOP_MAX, || {
            child.try_wait().expect("a child can be waited for")
        });
        let Some(status) = ended else {
            child.kill().expect("our own child can be ended");
            child.wait().expect("a child can be waited for");
            panic!(
                "`serve` did not end within {STOP_MAX:?} of SIGTERM:\n{}",
                self.trace()
            );
        };
        status.code().unwrap_or(-1)
    }

    fn end_guard(&mut self) {
        if self.guard.try_wait().is_ok_and(|status| status.is_none()) {
            self.guard.kill().expect("our own child can be ended");
        }
        self.guard.wait().expect("a child can be waited for");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.is_some() && !thread::panicking() {
            self.stop();
        } else {
            self.kill_9();
        }
    }
}

/// A folder of this test run, removed by the next one: what lies in it is warm for all its tests.
pub fn warm(name: &str) -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        let cache = paths::cache();
        for entry in fs::read_dir(&cache)
            .expect("the cache can be read")
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.strip_prefix("run-").map(str::to_owned);
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Another run of the tests may be removing it too.
                drop(fs::remove_dir_all(entry.path()));
            }
        }
        cache.join(format!("run-{}", std::process::id()))
    });
    let folder = root.join(name);
    fs::create_dir_all(&folder).expect("the cache folder can be made");
    folder
}

/// A user's place on the shared fake proxy, warm after one build.
pub fn user() -> &'static Place {
    static USER: OnceLock<Place> = OnceLock::new();
    USER.get_or_init(|| {
        let place = Place::new(&warm("user"), fake::shared()).stocked_for_commands();
        place.builds_hello();
        place
    })
}

/// The instance that tests share which neither kill nor break it; warm.
pub fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| {
        let place = Place::new(&warm("service"), fake::shared()).stocked();
        let service = place.serve(&[]);
        service.builds("ex.example/hello");
        service
    })
}

/// The build page of a module's root package at v1.0.0, for the SDK of the tests.
pub fn build_path(module: &str) -> String {
    format!("/{module}@v1.0.0/linux-amd64-{}/", crate::sdk::GO)
}

/// The URL path that builds, when needed, and answers with the record.
pub fn record_path(module: &str) -> String {
    format!("{}record", build_path(module))
}
