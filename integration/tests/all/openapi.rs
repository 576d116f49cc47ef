//! The description of the interface, judged by somebody else: schemathesis makes requests from it,
//! good and bad ones, and looks whether the answers are as described.

use std::{fs, time::Duration};

use hotcell_integration::{command::Run, http, paths, service, tools};

/// Release of schemathesis.
const SCHEMATHESIS: &str = "4.32.5";
/// Requests that are made up for each address and phase.
const EXAMPLES: &str = "--max-examples=40";

#[test]
fn requests_made_from_the_description_are_answered_as_it_says() {
    let folder = paths::cache().join(format!("schemathesis-{SCHEMATHESIS}"));
    let program = folder.join("bin/st");
    if !program.is_file() {
        drop(fs::remove_dir_all(&folder));
        let venv = Run::new("python3").args(["-m", "venv"]).arg(&folder);
        let install = Run::new(folder.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check"])
            .arg(format!("schemathesis=={SCHEMATHESIS}"));
        if !tools::fetched("schemathesis", &[venv, install]) {
            return;
        }
    }
    let service = service::service();
    let key = service::build_path("ex.example/hello");
    let record = http::get(&format!("{}{key}record", service.url()));
    assert_eq!(record.status, 200, "{}", record.text());
    let here = paths::scratch("schemathesis");
    let ended = Run::new(program)
        .args(["run", &format!("{}/api/v1/openapi.json", service.url())])
        .args([EXAMPLES, "--seed=20261122", "--generation-database=none"])
        // A text can be a spec or none, which no schema says.
        .args(["--exclude-checks=positive_data_acceptance", "--no-color"])
        // Streams have no end; observations build whatever key is made up.
        .args(["--exclude-path-regex=events|observations"])
        .args(["--request-timeout=20"])
        .folder(here.path())
        .time_max(Duration::from_mins(3))
        .succeed();
    let said = ended.out();
    assert!(said.contains("Tested: 9"), "{said}");
    assert!(service.lives(), "{}", service.trace());
}
