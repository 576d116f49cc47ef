//! The same program in other sandboxes with their usual options, so that people can compare.
//!
//! Nothing real lies in them: the place of the SDK is taken by a small folder of canaries. Bombs
//! are not thrown, as these sandboxes set no limit by themselves. What each is started with:
//!
//! - bwrap: `--unshare-all --die-with-parent --new-session --clearenv`, new `/proc` and `/dev`,
//!   temporary file systems for `/home` and `/tmp`, program and canaries bound read-only.
//! - runc, crun: the bundle that their own `spec` command writes, without terminal, read-only root,
//!   temporary file systems for `/home` and `/tmp`, program and canaries bound read-only.
#![expect(
    clippy::disallowed_methods,
    reason = "these commands exist to run another sandbox on purpose"
)]

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::{fs::DirBuilderExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    Attempt, Evidence, Lock, PROGRAM, Row, Verdict,
    judge::{self, Claims, How},
    table,
};

/// Longest run; the attempts have bounds of their own.
const RUN_MAX: Duration = Duration::from_secs(300);
/// Most output that is kept of one run; 400 attempts print some 12 KiB.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// A sandbox of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// bubblewrap.
    Bwrap,
    /// The reference runtime of the OCI.
    Runc,
    /// The runtime of the OCI in C.
    Crun,
}

impl Other {
    /// The name of its program.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bwrap => "bwrap",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The Debian package that brings it.
    #[must_use]
    pub fn package(self) -> &'static str {
        match self {
            Self::Bwrap => "bubblewrap",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }
}

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum UnderError {
    /// It is not installed.
    #[error("`{0}` is not installed")]
    Missing(&'static str),
    /// It, or what it needs, does not work here.
    #[error("cannot run programs under `{name}`: {why}")]
    Broken {
        /// Which.
        name: &'static str,
        /// What it said.
        why: String,
    },
    /// A file of ours could not be made.
    #[error("cannot prepare the comparison")]
    Io(#[from] io::Error),
}

/// The hostile program as a file that can be executed, removed with this value.
#[derive(Debug)]
pub(super) struct Program {
    folder: PathBuf,
}

impl Program {
    /// Writes it, and canaries beside it.
    pub(super) fn write() -> io::Result<Self> {
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("hotcell-under-{:016x}", u64::from_le_bytes(random));
        let folder = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o755).create(&folder)?;
        let this = Self { folder };
        put(&this.path(), PROGRAM, 0o755)?;
        let sdk = this.sdk();
        for name in ["bin", "src", "pkg/tool/linux_amd64"] {
            fs::create_dir_all(sdk.join(name))?;
        }
        put(&sdk.join("VERSION"), &[b'v'; 8192], 0o644)?;
        put(&sdk.join("src/make.bash"), b"#!/program through\n", 0o755)?;
        for name in ["bin/go", "bin/gofmt", "pkg/tool/linux_amd64/compile"] {
            put(&sdk.join(name), PROGRAM, 0o755)?;
        }
        Ok(this)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.join("program")
    }

    fn sdk(&self) -> PathBuf {
        self.folder.join("sdk")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Our own folder in a place for temporary files; what cannot be removed hurts nobody.
        let _left = fs::remove_dir_all(&self.folder);
    }
}

fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    File::create_new(path)?.write_all(bytes)?;
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The program in no sandbox at all: only for doing nothing.
pub(super) fn bare(program: &Program, args: &[&str]) -> Command {
    let mut command = Command::new(program.path());
    command.args(args);
    command
}

/// Bubblewrap with the program, as people usually start it.
pub(super) fn bubblewrap(program: &Program, mark: Option<&str>, args: &[&str]) -> Command {
    let mut command = Command::new("bwrap");
    command
        .args([
            "--unshare-all",
            "--die-with-parent",
            "--new-session",
            "--clearenv",
        ])
        .args([
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/home", "--tmpfs", "/tmp",
        ]);
    command.arg("--ro-bind").arg(program.sdk()).arg("/sdk");
    command.arg("--ro-bind").arg(program.path()).arg("/program");
    command
        .args(["--chdir", "/home", "--", "/program"])
        .args(args)
        .args(mark);
    command
}

/// Writes the bundle of an OCI runtime.
fn bundle(other: Other, program: &Program, args: &[String]) -> Result<PathBuf, UnderError> {
    let folder = program.folder.join("bundle");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    for name in ["rootfs/sdk", "rootfs/home", "rootfs/tmp"] {
        fs::create_dir_all(folder.join(name))?;
    }
    put(&folder.join("rootfs/program"), b"", 0o755)?;
    let mut spec = Command::new(other.name());
    spec.arg("spec").current_dir(&folder);
    if !nix::unistd::geteuid().is_root() {
        spec.arg("--rootless");
    }
    run_bounded(other, &mut spec)?;
    let broken = |error: serde_json::Error| UnderError::Broken {
        name: other.name(),
        why: error.to_string(),
    };
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?).map_err(broken)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(args);
    config["process"]["cwd"] = json!("/home");
    config["root"] = json!({ "path": "rootfs", "readonly": true });
    let bind = |from: PathBuf, to: &str| {
        let options = ["rbind", "ro"];
        json!({ "destination": to, "type": "bind", "source": from, "options": options })
    };
    let scratch = |to: &str| {
        let options = ["nosuid", "nodev", "mode=1777", "size=64m"];
        json!({ "destination": to, "type": "tmpfs", "source": "tmpfs", "options": options })
    };
    if let Some(mounts) = config["mounts"].as_array_mut() {
        mounts.push(bind(program.path(), "/program"));
        mounts.push(bind(program.sdk(), "/sdk"));
        mounts.extend(["/home", "/tmp"].map(scratch));
    }
    let mut file = File::create(&path)?;
    file.write_all(config.to_string().as_bytes())?;
    Ok(folder)
}

/// Runs the program once and takes its claims.
fn once(other: Other, program: &Program, args: &[String]) -> Result<Claims, UnderError> {
    let mut command = match other {
        Other::Bwrap => {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            bubblewrap(program, None, &args)
        }
        Other::Runc | Other::Crun => {
            let first = ["/program".to_owned()];
            let args: Vec<String> = first.into_iter().chain(args.iter().cloned()).collect();
            let folder = bundle(other, program, &args)?;
            let name = program.folder.file_name().unwrap_or_default().to_owned();
            let mut command = Command::new(other.name());
            command.arg("run").arg("-b").arg(folder).arg(name);
            command
        }
    };
    run_bounded(other, &mut command).map(|text| judge::claims(&text))
}

/// Runs a command to its end; what it printed.
fn run_bounded(other: Other, command: &mut Command) -> Result<String, UnderError> {
    let broken = |why: String| UnderError::Broken {
        name: other.name(),
        why,
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.process_group(0); // a key of the terminal ends us, and we end it
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => UnderError::Missing(other.name()),
        _ => broken(error.to_string()),
    })?;
    let reader = |stream: Option<Box<dyn io::Read + Send>>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stream) = stream {
                let _cut = stream.take(OUTPUT_BYTES_MAX).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let out = reader(child.stdout.take().map(|it| Box::new(it) as _));
    let err = reader(child.stderr.take().map(|it| Box::new(it) as _));
    let deadline = Instant::now() + RUN_MAX;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(broken(format!(
                "it did not end within {} s",
                RUN_MAX.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let told = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    let (out, err) = (told(out), told(err));
    if status.success() {
        Ok(out)
    } else {
        Err(broken(format!("{status}: {}", err.trim())))
    }
}

/// Runs everything that another sandbox can be compared by.
///
/// # Errors
/// See [`UnderError`].
pub fn run(
    other: Other,
    evidence: &Evidence,
    allowed: &std::collections::BTreeMap<i64, bool>,
) -> Result<Vec<Attempt>, UnderError> {
    let program = Program::write()?;
    let mut all = Vec::new();
    let args = |first: &[String], more: &[&str]| -> Vec<String> {
        let more = more.iter().map(|word| (*word).to_owned());
        first
            .iter()
            .cloned()
            .chain(evidence.args())
            .chain(more)
            .collect()
    };
    for range in table::together() {
        let first = [range.start.to_string(), range.end.to_string()];
        let claims = once(other, &program, &args(&first, &[]))?;
        for row in table::all().skip(range.start).take(range.len()) {
            all.push(judge::judge(row, claims.rows.get(row.id).copied(), None));
        }
    }
    for (range, row) in table::NUMBERS {
        let first = [
            "numbers".to_owned(),
            range.start.to_string(),
            range.end.to_string(),
        ];
        let claims = once(other, &program, &args(&first, &[]))?;
        all.push(judge::judge_numbers_outside(&row, &claims.numbers, allowed));
    }
    for (number, row) in table::alone() {
        let first = [number.to_string(), (number + 1).to_string()];
        let attempt = match (row.lock, row.id) {
            (Lock::Gone, "orphan") => not_here(row, "there is no supervisor to kill"),
            (Lock::Gone, _) | (_, "poisoned") => {
                let claims = once(other, &program, &args(&first, &["alone=1"]))?;
                of_gone(row, &claims, &evidence.left())
            }
            (Lock::Gate, _) => not_here(row, "there is no gate: whoever takes the output looks"),
            (Lock::Bomb(_), _) => not_here(row, "not tried: it sets no limit by itself"),
            _ => not_here(row, "not tried: it needs two cells at once"),
        };
        all.push(attempt);
    }
    evidence.correct(&mut all);
    all.push(evidence.after_null());
    Ok(all)
}

fn of_gone(row: &Row, claims: &Claims, left: &[u32]) -> Attempt {
    let claim = claims.rows.get(row.id).copied();
    if !left.is_empty() {
        return Attempt::of(row, Verdict::Escaped, None, "host").detail(format!("left: {left:?}"));
    }
    match claim {
        Some(How::Exit(202)) => Attempt::of(row, Verdict::Stopped, Some(row.lock.word()), "host"),
        claim => judge::judge(row, claim, None),
    }
}

fn not_here(row: &Row, why: &str) -> Attempt {
    Attempt::of(row, Verdict::NotInForce, None, "host").detail(why)
}
