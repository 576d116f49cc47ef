//! Without root: the same cell, and what is weaker is said.

use hotcell_integration::{fake, host, paths, sdk, service::Place};

/// A user that exists nowhere.
const NOBODY: u32 = 54_321;

fn place(folder: &std::path::Path) -> Place {
    let place = Place::new(folder, fake::shared());
    if paths::is_root() {
        place.as_user(NOBODY)
    } else {
        place
    }
}

#[test]
fn an_unprivileged_user_builds_the_same_bits_and_hears_what_is_weaker() {
    let folder = paths::scratch("rootless");
    let place = place(folder.path());
    let output = folder.path().join("binary");
    let ended = place.build("ex.example/deps@v1.0.0", &output, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let told = ended.json();
    let root = crate::support::build("ex.example/deps@v1.0.0", &folder.path().join("root"), &[]);
    assert_eq!(
        told["sha256"],
        root.json()["sha256"],
        "one binary for everybody"
    );
    let weaker = told["cell"]["not_in_force"].as_array().expect("a list");
    let separate = weaker.iter().find(|missing| {
        missing["what"]
            .as_str()
            .is_some_and(|what| what.contains("separate user"))
    });
    assert!(
        separate.is_some_and(|missing| missing["why"].is_string()),
        "{weaker:?}"
    );
    let program = hotcell_integration::hostile::program("calls");
    let copy = folder.path().join("calls");
    std::fs::copy(program, &copy).expect("the folder takes files");
    let ended = crate::support::in_cell(&place, &["--keep-going"], &copy, &[]).succeed();
    let text = crate::support::printed(&ended);
    assert!(
        text.lines().count() > 40 && !text.contains("returned"),
        "{text}"
    );
}

#[test]
fn an_unprivileged_service_does_not_listen_to_others_by_itself() {
    let folder = paths::scratch("rootless");
    let place = place(folder.path());
    let data = folder.path().join("data");
    let sign = folder.path().join("sign");
    let ended = place
        .run([
            "serve",
            "--listen",
            "0.0.0.0:0",
            "--admin",
            "127.0.0.1:0",
            "--data",
        ])
        .arg(&data)
        .arg("--sign-dir")
        .arg(&sign)
        .time_max(std::time::Duration::from_secs(60))
        .wait();
    crate::support::refused(
        "serve",
        &ended,
        ended.code,
        &["not in force", "--accept-weaker"],
    );
    assert_ne!(ended.code, 0);
    let mut service = place.serve(&[]);
    assert!(service.lives(), "for this machine it serves: {}", sdk::GO);
    let below = host::descendants(service.pid());
    assert_eq!(service.stop(), 0);
    assert!(
        host::alive(&below).is_empty(),
        "left behind: {:?}",
        host::alive(&below)
    );
}
