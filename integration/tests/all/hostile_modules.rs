//! Modules that attack whoever builds them: each ends with a code of its own, and leaves nothing
//! that the next build could notice.

use std::{fs, time::Duration};

use hotcell_integration::{
    command::Ended,
    fake::{Proxy, hostile, set},
    host, paths, sdk,
    service::Place,
    tools,
};

/// Longest build of one of them; a busy machine takes its time to reach a small limit.
const BUILD_MAX: Duration = Duration::from_mins(4);
/// The module whose bits must not change.
const GOOD: &str = "ex.example/hello";

/// The policy of builds with limits that are reached in seconds.
fn small_policy() -> String {
    let path = paths::repository().join("policies/build.toml");
    let mut text = fs::read_to_string(path).expect("the policy is there");
    for (limit, value) in [
        ("wall_ms", "45_000"),
        ("output_bytes", "65_536"),
        ("artifact_bytes", "67_108_864"),
        ("scratch_bytes", "1_073_741_824"),
        ("file_bytes", "536_870_912"),
        ("memory_bytes", "805_306_368"),
        ("cpu_s", "60"),
    ] {
        let head = format!("[limits.{limit}]\nmax = ");
        let at = text.find(&head).expect("the policy has this limit") + head.len();
        let end = at + text[at..].find('\n').expect("a line ends");
        text.replace_range(at..end, value);
    }
    text
}

/// What a failed or successful build says is its code.
fn code(ended: &Ended) -> String {
    if ended.code == 0 {
        return "success".to_owned();
    }
    let said = ended.err();
    let line = said.lines().find(|line| line.starts_with("hotcell: "));
    let code = line.and_then(|line| line.rsplit_once('[')?.1.strip_suffix(']'));
    code.unwrap_or("none").to_owned()
}

#[test]
fn every_hostile_module_ends_typed_and_changes_no_bit_of_the_next_build() {
    let long = tools::is_long();
    let cases = hostile::cases(long);
    let modules = cases.iter().map(|case| case.module.clone());
    let proxy = Proxy::start(modules.chain([set::hello(GOOD)]).collect());
    let folder = tempfile::Builder::new()
        .prefix("hostile")
        .tempdir_in(paths::cache())
        .expect("a folder can be made");
    let place = Place::new(folder.path(), &proxy).stocked_for_commands();
    let small = folder.path().join("small.toml");
    fs::write(&small, small_policy()).expect("our folder");
    let (good, output) = (folder.path().join("good"), folder.path().join("binary"));
    let build_good = || {
        let ended = place.build(&format!("{GOOD}@v1.0.0"), &good, &[]);
        assert_eq!(ended.code, 0, "{}", ended.err());
        host::sha256(&good)
    };
    let before = build_good();
    let only = std::env::var("HOTCELL_TEST_CASE").ok();
    let mut wrong = Vec::new();
    for case in &cases {
        let spec = case.module.spec();
        if only
            .as_ref()
            .is_some_and(|only| !spec.contains(only.as_str()))
        {
            continue;
        }
        let path = output.to_str().expect("paths of tests are UTF-8");
        let mut args = vec!["build", "-o", path, "--json", "--go", sdk::GO, &spec];
        if case.small {
            args.extend([
                "--policy",
                small.to_str().expect("paths of tests are UTF-8"),
            ]);
        }
        let ended = place.run(args).time_max(BUILD_MAX).wait();
        let found = code(&ended);
        if !case.codes.contains(&found.as_str()) {
            wrong.push(format!(
                "{spec}: {found}, not {:?}:\n{}",
                case.codes,
                ended.err()
            ));
        }
        let said = ended.err();
        assert!(!said.contains("panicked"), "{spec}: {said}");
        assert!(
            !said.contains("root:x:0:0"),
            "{spec}: /etc/passwd was read: {said}"
        );
        if ended.code == 0 {
            let bytes = fs::read(&output).expect("a binary is there");
            let host = fs::read("/etc/passwd").expect("the host has users");
            let seen = bytes.windows(host.len()).any(|part| part == host);
            assert!(!seen, "{spec}: /etc/passwd is in the binary");
            fs::remove_file(&output).expect("ours");
        }
        assert!(
            !output.exists(),
            "{spec}: nothing is written when a build fails"
        );
        assert_eq!(build_good(), before, "the next build after {spec}");
    }
    assert!(
        !fs::exists("/tmp/pwned").expect("/tmp is there"),
        "something was executed"
    );
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let checked = place.run(["toolchain", "verify", "--json"]).succeed();
    let checked = checked.json();
    let lines = checked["checked"].as_array().expect("a list");
    assert!(
        lines.len() >= 3 && lines.iter().all(|line| line["sound"] == true),
        "{checked}"
    );
}
