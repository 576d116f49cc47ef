//! Power cuts under the log: ext4 on a loop device, shut down by the kernel in the middle of
//! appends, again and again on the same log. After each the log must open by itself, hold every
//! record that was answered, once and at its index, and contain every head that left it.
//!
//! Called by the test `power`: `power_cut CUT ROUNDS SEED`, where CUT is the program that shuts a
//! file system down. It calls itself with `append DATA SIGN FROM` for what is cut off. Works in a
//! mount namespace of its own, so that nothing is left on the host.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hotcell::{
    log::{Health, Log, LogConfig},
    spec::Record,
    tlog::{Frontier, Hash, Note, Tree, VerifierKey, leaf_hash, text::parse_tree},
};
use hotcell_integration::grown::entry;
use nix::sched::{CloneFlags, unshare};
use tokio::task::JoinSet;

/// Who append at the same time.
const SUBMITTERS: u64 = 8;
const EVERY: usize = 8;
/// Numbers that one life of the appender may use.
const NUMBERS: u64 = 1_000_000;
/// The latest moment of a cut after the start of an appender.
const CUT_MS_MAX: u64 = 400;
/// Size of the disk; a full tile and some thousand records fit.
const DISK: &str = "192M";

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["append", data, sign, from] => append(Path::new(data), Path::new(sign), from.parse()?),
        [cut, rounds, seed] => cuts(cut, rounds.parse()?, seed.parse()?),
        _ => Err("usage: power_cut CUT ROUNDS SEED".into()),
    }
}

/// Appends until it is cut off; prints `number index size root` of each answer.
fn append(data: &Path, sign: &Path, from: u64) -> Result<(), Anything> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        let log = Log::open_local(&LogConfig::of(data), sign, "power.example")?;
        let mut submitters = JoinSet::new();
        for submitter in 0..SUBMITTERS {
            let log = log.clone();
            submitters.spawn(async move {
                for n in (from + submitter..from + NUMBERS).step_by(EVERY) {
                    let Ok(index) = log.append(entry(n)).await else {
                        return;
                    };
                    let tree = log.tree();
                    let mut out = std::io::stdout().lock();
                    let line = writeln!(out, "{n} {index} {} {}", tree.size, tree.root);
                    if line.and_then(|()| out.flush()).is_err() {
                        return;
                    }
                }
            });
        }
        while submitters.join_next().await.is_some() {}
        Ok(())
    })
}

/// What has been promised so far.
#[derive(Default)]
struct Promised {
    /// Index of each answered number.
    answers: BTreeMap<u64, u64>,
    /// Every head that was shown.
    heads: BTreeMap<u64, Hash>,
}

impl Promised {
    /// A line of the appender; the last one of a life may be cut.
    fn note(&mut self, line: &str) -> Result<(), Anything> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [n, index, size, root] = fields[..] else {
            return Ok(());
        };
        let Some(root) = Hash::parse(root) else {
            return Ok(());
        };
        self.answers.insert(n.parse()?, index.parse()?);
        match self.heads.insert(size.parse()?, root) {
            Some(other) if other != root => Err(format!("two heads of size {size}").into()),
            _ => Ok(()),
        }
    }
}

fn cuts(cut: &str, rounds: u64, seed: u64) -> Result<(), Anything> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    run("mount", &["--make-rprivate", "/"])?;
    let folder = tempfile::tempdir()?;
    let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
    std::fs::create_dir(&disk)?;
    run(
        "mke2fs",
        &["-q", "-t", "ext4", &image.display().to_string(), DISK],
    )?;
    let (data, sign) = (disk.join("data"), disk.join("sign"));
    let mut promised = Promised::default();
    let mut random = seed | 1;
    for round in 0..rounds {
        mount(&image, &disk)?;
        let mut child = appender(&data, &sign, round * NUMBERS)?;
        let begin = Instant::now();
        // Xorshift (Marsaglia 2003), good enough to choose moments.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_millis(random % CUT_MS_MAX);
        let lines = reader(&mut child)?;
        std::thread::sleep(moment.saturating_sub(begin.elapsed()));
        run(cut, &[&disk.display().to_string()])?;
        child.kill()?;
        child.wait()?;
        for line in lines.join().map_err(|_| "the reader panicked")? {
            promised.note(&line)?;
        }
        run("umount", &[&disk.display().to_string()])?;
        mount(&image, &disk)?;
        check(&data, &sign, &mut promised).map_err(|error| {
            format!("seed {seed}, round {round}, cut after {moment:?}: {error}")
        })?;
        run("umount", &[&disk.display().to_string()])?;
    }
    let (answers, heads) = (promised.answers.len(), promised.heads.len());
    println!("{rounds} cuts, {answers} answered records, {heads} heads: nothing lost, no fork");
    if answers == 0 {
        return Err("no record was answered before a cut".into());
    }
    Ok(())
}

fn mount(image: &Path, disk: &Path) -> Result<(), Anything> {
    let (image, disk) = (image.display().to_string(), disk.display().to_string());
    run("mount", &["-o", "loop", &image, &disk])
}

fn appender(data: &Path, sign: &Path, from: u64) -> Result<Child, Anything> {
    let child = command(std::env::current_exe()?)
        .arg("append")
        .args([data, sign])
        .arg(from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null()) // a disk that vanishes is told in many words
        .spawn()?;
    Ok(child)
}

/// Collects the lines of an appender until its end.
fn reader(child: &mut Child) -> Result<std::thread::JoinHandle<Vec<String>>, Anything> {
    let out = child.stdout.take().ok_or("no output")?;
    let lines = BufReader::new(out.take(u64::MAX)).lines();
    Ok(std::thread::spawn(move || {
        lines.map_while(Result::ok).collect()
    }))
}

/// Opens the log as a restart does and compares it with what was promised.
fn check(data: &Path, sign: &Path, promised: &mut Promised) -> Result<(), Anything> {
    let log = Log::open_local(&LogConfig::of(data), sign, "power.example")?;
    if log.health() != Health::Live {
        return Err(format!("{:?}", log.health()).into());
    }
    let tree = log.tree();
    signed(&log, tree)?;
    promised.heads.insert(tree.size, tree.root);
    for (n, index) in &promised.answers {
        let found = log.lookup(&entry(*n).record.key)?;
        if found.map(|found| found.index) != Some(*index) {
            return Err(format!("answered record {n} is not at {index}").into());
        }
    }
    drop(log);
    let db = rusqlite::Connection::open(LogConfig::of(data).database)?;
    let mut statement = db.prepare("SELECT body FROM log_record ORDER BY id")?;
    let mut rows = statement.query([])?;
    let (mut frontier, mut keys) = (Frontier::default(), BTreeMap::new());
    let mut heads = promised.heads.iter().peekable();
    while let Some(row) = rows.next()? {
        let body: String = row.get(0)?;
        frontier.push(leaf_hash(body.as_bytes()));
        let now = frontier.tree();
        if let Some((_, root)) = heads.next_if(|(size, _)| **size == now.size)
            && *root != now.root
        {
            return Err(format!("the head of {} is not in the log: a fork", now.size).into());
        }
        if let Ok(record) = Record::parse(&body)
            && let Some(first) = keys.insert(record.key.to_string(), now.size)
        {
            return Err(format!("leaves {first} and {} have one key", now.size).into());
        }
    }
    match (heads.next(), frontier.tree() == tree) {
        (None, true) => Ok(()),
        (Some((size, _)), _) => Err(format!("a head of {size} left a log of {}", tree.size).into()),
        (None, false) => Err("its leaves do not have the root of its head".into()),
    }
}

/// The note that clients get is signed and says the tree.
fn signed(log: &Log, tree: Tree) -> Result<(), Anything> {
    let key = VerifierKey::parse(log.verifier_key())?;
    let note = Note::parse(log.latest().as_bytes())?;
    match parse_tree(note.verify(&key)?) {
        Ok(said) if said == tree => Ok(()),
        _ => Err("the newest note says another tree".into()),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is a test's harness")]
fn command(program: impl Into<PathBuf>) -> Command {
    Command::new(program.into())
}

fn run(program: &str, args: &[&str]) -> Result<(), Anything> {
    let status = command(program).args(args).status()?;
    let words = args.join(" ");
    status
        .success()
        .then_some(())
        .ok_or_else(|| format!("{program} {words}: {status}").into())
}
