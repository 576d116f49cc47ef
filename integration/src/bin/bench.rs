//! First builds of known modules: in a cell, and by the bare go command with the same SDK and the
//! same standard library cache, alternately. Prints times, their ratio and their spread.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hotcell_integration::{
    command::{self, Run},
    host,
    known::{self, Known},
    paths,
    service::{self, Place},
};

/// Rounds when none are given: enough for a median and a spread.
const ROUNDS: usize = 5;
/// The ratio that is promised.
const RATIO_MAX: f64 = 1.5;

fn main() {
    let mut args = std::env::args().skip(1);
    let rounds = args
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ROUNDS);
    let part = args.next().unwrap_or_default();
    println!(
        "{:<52} {:>18} {:>18} {:>6}",
        "first build", "in a cell", "bare go", "ratio"
    );
    let mut places: BTreeMap<String, Warm> = BTreeMap::new();
    let mut worst: f64 = 0.0;
    for row in known::rows()
        .into_iter()
        .filter(|row| row.title().contains(&part))
    {
        let name = format!("{}-{}-{}", row.goversion, row.goos, row.goarch);
        let warm = places
            .entry(name.clone())
            .or_insert_with(|| Warm::new(&name, &row));
        let (mut cell, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            cell.push(warm.in_a_cell(&row));
            bare.extend(warm.bare(&row));
        }
        if bare.is_empty() {
            let (title, cell) = (row.title(), spread(&cell));
            println!(
                "{title:<52} {cell:>18}   the proxy refuses the bare go command a version list"
            );
            continue;
        }
        let ratio = median(&cell) / median(&bare);
        worst = worst.max(ratio);
        println!(
            "{:<52} {:>18} {:>18} {ratio:>6.2}",
            row.title(),
            spread(&cell),
            spread(&bare)
        );
    }
    println!("worst ratio {worst:.2}, promised {RATIO_MAX}");
    assert!(
        worst <= RATIO_MAX,
        "a first build takes longer than promised"
    );
}

/// A place whose SDK and frozen standard library are there, for one SDK and target.
struct Warm {
    place: Place,
    sdk: PathBuf,
    std: PathBuf,
}

impl Warm {
    fn new(name: &str, row: &Known) -> Self {
        let place = Place::real(&service::warm(&format!("bench-{name}")));
        build(&place, row);
        let store = place.folder.join("cache/hotcell/store");
        let tree = |kind: &str, inside: &str| {
            let trees = fs::read_dir(store.join(kind))
                .expect("the store can be read")
                .flatten();
            let roots = trees.flat_map(|tree| [tree.path(), tree.path().join("tree")]);
            let found = roots.into_iter().find(|path| path.join(inside).exists());
            found.unwrap_or_else(|| panic!("no {kind} in {}", store.display()))
        };
        Self {
            sdk: tree("sdk", "bin/go"),
            std: tree("std", "00"),
            place,
        }
    }

    /// No module is in any cache; SDK and standard library are.
    fn in_a_cell(&self, row: &Known) -> f64 {
        let modules = self.place.folder.join("cache/hotcell/fetch");
        fs::remove_dir_all(&modules).expect("the module cache can be emptied");
        build(&self.place, row)
    }

    /// The same by the bare go command; nothing when the proxy refuses it the version list that it
    /// asks for beside the module.
    fn bare(&self, row: &Known) -> Option<f64> {
        let folder = paths::scratch("bench");
        let cache = folder.path().join("gocache");
        Run::new("cp")
            .args(["-r", "--no-preserve=mode"])
            .args([&self.std, &cache])
            .succeed();
        let flags = if row.variant == "stripped" {
            "-buildid= -s"
        } else {
            "-buildid="
        };
        let dir = row.dir.trim_end_matches('/');
        let ended = Run::new(self.sdk.join("bin/go"))
            .args(["install", "-trimpath", &format!("-ldflags={flags}")])
            .arg(format!("{}{dir}@{}", row.module, row.version))
            .folder(folder.path())
            .env("GOROOT", &self.sdk)
            .env("GOTOOLCHAIN", "local")
            .env("GOCACHE", &cache)
            .env("GOPATH", folder.path().join("gopath"))
            .env("GOFLAGS", "-modcacherw")
            .env(
                "GOPROXY",
                command::go_env("GOPROXY").expect("a module proxy is configured"),
            )
            .env("GOENV", "off")
            .env("CGO_ENABLED", "0")
            .env("GOOS", &row.goos)
            .env("GOARCH", &row.goarch)
            .wait();
        if ended.code != 0 && ended.err().contains("/@v/list: 403") {
            return None;
        }
        assert_eq!(ended.code, 0, "{}: {}", row.title(), ended.err());
        let binary = host::tree(&folder.path().join("gopath/bin"));
        let (path, _) = binary
            .iter()
            .find(|(_, seen)| !seen.folder)
            .expect("one binary");
        check(row, &folder.path().join("gopath/bin").join(path));
        Some(seconds(ended.took))
    }
}

fn build(place: &Place, row: &Known) -> f64 {
    let output = place.folder.join("binary");
    let args = row.args();
    let more: Vec<&str> = args[1..].iter().map(String::as_str).collect();
    let ended = place.build(&args[0], &output, &more);
    assert_eq!(ended.code, 0, "{}: {}", row.title(), ended.err());
    check(row, &output);
    seconds(ended.took)
}

fn check(row: &Known, binary: &Path) {
    assert_eq!(host::sha256(binary), row.sha256, "{}", row.title());
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Median, and in brackets the least and the most.
fn spread(times: &[f64]) -> String {
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    let most = times.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({least:.2}–{most:.2})", median(times))
}
