//! The image of `packaging/Containerfile`, run by the very command of `packaging/operating.md`.
//!
//! The engine is Debian's, with a storage of its own and without a network. Nothing is pulled: the
//! base holds the C library of this machine, and the program is that of the tests.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use hotcell_integration::{
    command::{Ended, Run},
    fake, http, paths,
    service::{Place, Service, record_path},
};
use nix::sys::resource::{Resource, getrlimit};

/// Longest command of the engine; it copies some hundred megabytes.
const ENGINE_MAX: Duration = Duration::from_mins(3);
/// What the documented command calls its image.
const IMAGE: &str = "hotcell";

/// An engine with a folder of its own, which is empty again when it is dropped.
struct Engine {
    folder: PathBuf,
}

impl Engine {
    fn new(folder: &Path) -> Self {
        let limit = |of| {
            getrlimit(of)
                .expect("a process knows its limits")
                .1
                .min(4_096)
        };
        let (files, processes) = (
            limit(Resource::RLIMIT_NOFILE),
            limit(Resource::RLIMIT_NPROC),
        );
        let own = folder.join("engine");
        fs::create_dir_all(&own).expect("ours");
        let at = own.display();
        // Its own limits are higher than some machines allow; runc knows both control groups.
        let engine = format!(
            "[containers]\ndefault_ulimits = [\"nofile={files}:{files}\", \
             \"nproc={processes}:{processes}\"]\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\ntmp_dir = \"{at}/tmp\"\n"
        );
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\n\
             graphroot = \"{at}/graph\"\nrunroot = \"{at}/run\"\n"
        );
        fs::write(own.join("containers.conf"), engine).expect("ours");
        fs::write(own.join("storage.conf"), storage).expect("ours");
        Self {
            folder: folder.to_owned(),
        }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let own = |file: &str| self.folder.join("engine").join(file).display().to_string();
        let all = [
            ("CONTAINERS_CONF", own("containers.conf")),
            ("CONTAINERS_STORAGE_CONF", own("storage.conf")),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        let run = Run::new("podman").args(args).time_max(ENGINE_MAX);
        let variables = self.variables();
        let all = variables.iter();
        all.fold(run, |run, (name, value)| run.env(name, value))
            .succeed()
    }

    /// What a program needs of a system: its loader and its libraries, nothing else.
    fn make_base(&self) {
        let base = self.folder.join("base");
        let listed = Run::new("ldd").arg(paths::hotcell()).succeed().out();
        let files = listed
            .split_whitespace()
            .filter(|word| word.starts_with('/'));
        for file in files {
            let copy = base.join(file.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().expect("a file lies in a folder")).expect("ours");
            fs::copy(file, copy).expect("libraries can be copied");
        }
        let tar = self.folder.join("base.tar");
        Run::new("tar")
            .arg("-C")
            .arg(&base)
            .arg("-cf")
            .args([&tar, Path::new(".")])
            .succeed();
        let tar = tar.display().to_string();
        self.run(["import", "--quiet", &tar, "base:local"]);
    }

    /// The recipe with this base, and with the program in the place of its compilation.
    fn make_image(&self, label: &str) {
        let given = self.folder.join("context/given");
        let authorities = "etc/ssl/certs/ca-certificates.crt";
        for (file, name) in [
            (paths::hotcell(), "usr/bin/hotcell"),
            (Path::new("/").join(authorities), authorities),
        ] {
            let copy = given.join(name);
            fs::create_dir_all(copy.parent().expect("it has one")).expect("ours");
            fs::copy(file, copy).expect("it can be copied");
        }
        let recipe = paths::repository().join("packaging/Containerfile");
        let context = self.folder.join("context");
        let [recipe, context] = [recipe, context].map(|path| path.display().to_string());
        let mut args = vec![
            "build", "--quiet", "--tag", IMAGE, "--label", label, "--file", &recipe,
        ];
        for argument in ["RUST=base:local", "BASE=base:local", "PROGRAM=given"] {
            args.extend(["--build-arg", argument]);
        }
        args.push(&context);
        self.run(args);
    }

    /// A program that runs the image as documented: what the command there says, but for a service
    /// that stays in the background, with its volumes at the places that tests name.
    fn program(&self) -> PathBuf {
        let text = fs::read_to_string(paths::repository().join("packaging/operating.md"));
        let text = text.expect("it is documented");
        let at = text
            .find("    podman run ")
            .expect("the command is documented");
        let lines = text[at..]
            .lines()
            .take_while(|line| line.starts_with("    "));
        let lines: Vec<_> = lines
            .map(|line| line.trim().trim_end_matches('\\'))
            .collect();
        let command = lines.join(" ");
        let folder = self.folder.display();
        let command = command.replace("/var/lib/hotcell-sign", &format!("{folder}/sign"));
        let command = command.replace("/var/lib/hotcell", &format!("{folder}/data"));
        let command = command.replace("./hotcell.toml", &format!("{folder}/hotcell.toml"));
        let words = command.split_whitespace();
        let words = words.filter(|word| !["-d", "--restart=on-failure"].contains(word));
        let words: Vec<_> = words.take_while(|word| *word != IMAGE).collect();
        assert!(words.contains(&"--network=host"), "{command}");
        let script = format!("#!/bin/sh\nexec {} --rm {IMAGE} \"$@\"\n", words.join(" "));
        let program = self.folder.join("run");
        fs::write(&program, script).expect("ours");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, mode).expect("ours");
        program
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Nothing of it is mounted or runs afterwards, whatever went wrong before.
        let variables = self.variables();
        for args in [
            &["rm", "--all", "--force"][..],
            &["volume", "rm", "--all", "--force"],
        ] {
            let run = Run::new("podman").args(args).time_max(ENGINE_MAX);
            let all = variables.iter();
            let run = all.fold(run, |run, (name, value)| run.env(name, value));
            drop(run.wait());
        }
    }
}

fn record(service: &Service) -> String {
    let answer = http::get(&format!(
        "{}{}",
        service.url(),
        record_path("ex.example/hello")
    ));
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), service.trace());
    answer.text()
}

#[test]
fn a_container_builds_and_a_newer_one_goes_on_with_its_log() {
    assert!(
        paths::is_root(),
        "this test runs an engine of containers: run it as root"
    );
    let folder = paths::scratch("container");
    let engine = Engine::new(folder.path());
    engine.make_base();
    engine.make_image("version=1");
    let config = folder.path().join("hotcell.toml");
    fs::write(&config, "contact = 'abuse@build.example'\n").expect("ours");
    let place = Place {
        program: engine.program(),
        variables: engine.variables(),
        ..Place::new(folder.path(), fake::shared())
    };
    let doctor = place.run(["doctor", "--json"]).succeed();
    let told = doctor.json();
    assert_eq!(told["cells"], true, "{told}");
    let bad = |finding: &&serde_json::Value| finding["state"] == "bad";
    let bad = told["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .find(bad);
    assert!(bad.is_none(), "{bad:?}");

    let options = ["--config", "/etc/hotcell/hotcell.toml"];
    let mut service = place.serve(&options);
    let key = service.verifier_key().to_owned();
    let first = record(&service);
    assert_eq!(service.stop(), 0, "{}", service.trace());

    engine.make_image("version=2");
    let mut service = place.serve(&options);
    assert!(service.lives(), "{}", service.trace());
    assert_eq!(service.verifier_key(), key);
    assert_eq!(record(&service), first);
    let lookup = format!("{}/tlog/latest", service.url());
    assert_eq!(http::get(&lookup).text().lines().nth(1), Some("3"));
    let instance = http::get(&format!("{}/-/instance", service.url())).text();
    assert!(instance.contains("abuse@build.example"), "{instance}");
    assert_eq!(service.stop(), 0, "{}", service.trace());
}
