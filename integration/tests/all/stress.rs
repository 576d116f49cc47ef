//! stress-ng in a cell on one core takes little of a build on the other.

use std::{
    path::{Path, PathBuf},
    process::Child,
    sync::OnceLock,
    time::Duration,
};

use hotcell_integration::{
    command::Run,
    fake::{Proxy, set},
    hostile, paths, sdk,
    service::Place,
};

/// Name of the SDK that holds stress-ng as well.
const RELEASE: &str = "go1.99.0";
/// Rounds of the control with and without stress, in turn.
const ROUNDS: usize = 5;
/// The control may take so much longer, as a part of one.
const GROWTH_MAX: f64 = 0.20;
/// Each stressor is given so long, in seconds; it is ended before.
const STRESS_S: u64 = 600;

/// A command that is ended, with its cell, when this goes.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().expect("our own child can be ended");
        self.0.wait().expect("a child can be waited for");
    }
}

/// What stress-ng calls before main and in the stressors below, beyond a build's calls.
const CALLS: &str = include_str!("../../data/stress.toml");

/// The policy of builds with its rules for mmap and prctl replaced.
fn policy(folder: &Path) -> PathBuf {
    let file = paths::repository().join("policies/build.toml");
    let text = std::fs::read_to_string(file).expect("the policy is there");
    let (head, calls) = text.split_once("[[call]]").expect("the policy has calls");
    let kept: Vec<&str> = calls
        .split("[[call]]")
        .filter(|rule| {
            !["\"mmap\"", "\"prctl\"", "\"prlimit64\""]
                .iter()
                .any(|name| rule.contains(name))
        })
        .collect();
    let kept = kept.join("[[call]]");
    let path = folder.join("stress.toml");
    std::fs::write(&path, format!("{head}[[call]]{kept}\n{CALLS}"))
        .expect("the folder takes files");
    path
}

/// stress-ng, the loader and every library, by their names in the SDK.
fn files() -> Vec<(String, PathBuf)> {
    let told = Run::new("ldd").arg("/usr/bin/stress-ng").succeed();
    let text = told.out();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    let mut all = vec![(
        "bin/stress-ng".to_owned(),
        PathBuf::from("/usr/bin/stress-ng"),
    )];
    for path in paths {
        let name = path.rsplit('/').next().unwrap_or_default();
        let inside = if name.starts_with("ld-") {
            "bin/loader".to_owned()
        } else {
            format!("lib/stress/{name}")
        };
        all.push((inside, PathBuf::from(path)));
    }
    all
}

fn proxy() -> &'static Proxy {
    static PROXY: OnceLock<Proxy> = OnceLock::new();
    PROXY.get_or_init(|| {
        let folder = paths::cache().join("stress");
        std::fs::create_dir_all(&folder).expect("the cache takes folders");
        let more = sdk::with_more(&folder, RELEASE, &files());
        Proxy::with_sdks(set::all(), vec![(sdk::version(RELEASE), more)])
    })
}

/// One control build on the first core, with caches that are warm but for the module's own code.
fn control(place: &Place, round: usize) -> Duration {
    let output = place.folder.join(format!("control-{round}"));
    let run = place.run(["build", "ex.example/big@v1.0.0", "--go", RELEASE, "-o"]);
    let ended = run.arg(&output).on_core(0).wait();
    assert_eq!(ended.code, 0, "{}", ended.err());
    ended.took
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

#[test]
fn stress_in_a_cell_on_one_core_leaves_the_other_to_a_build() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(cores >= 2, "this test needs two processors");
    let folder = paths::scratch("stress");
    let place = Place::new(folder.path(), proxy());
    control(&place, 0); // warms SDK, standard library and module cache
    let policy = policy(folder.path());
    let timeout = format!("{STRESS_S}s");
    let stress = |seconds: &str| {
        place
            .run([
                "cell",
                "run",
                "--json",
                "--keep-going",
                "--go",
                RELEASE,
                "--policy",
            ])
            .arg(&policy)
            .arg("--")
            .arg(hostile::program("stress"))
            .args([
                "--cpu",
                "2",
                "--vm",
                "1",
                "--vm-bytes",
                "128M",
                "--fork",
                "2",
                "--pipe",
                "1",
            ])
            .args([
                "--hdd",
                "1",
                "--hdd-bytes",
                "64M",
                "--dentry",
                "1",
                "--switch",
                "1",
            ])
            .args([
                "--timer",
                "0",
                "--metrics-brief",
                "--temp-path",
                "/tmp",
                "--timeout",
                seconds,
            ])
            .on_core(1)
    };
    let ended = stress("2s").wait();
    assert!(
        ended.out().contains("successful run completed"),
        "{}{}",
        ended.out(),
        ended.err()
    );
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        alone.push(control(&place, round));
        let running = Running(stress(&timeout).spawn());
        std::thread::sleep(Duration::from_secs(2)); // until all stressors run
        beside.push(control(&place, round));
        drop(running);
    }
    let growth = median(beside.clone()) / median(alone.clone()) - 1.0;
    let told = format!(
        "the control grew by {:.0} %: {alone:.1?} alone, {beside:.1?} beside",
        growth * 100.0
    );
    #[expect(clippy::print_stderr, reason = "shown with --nocapture")]
    {
        eprintln!("{told}");
    }
    assert!(growth < GROWTH_MAX, "{told}");
}
