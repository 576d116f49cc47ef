//! `hotcell get` fetches and verifies: what does not fit together is not written.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use hotcell_integration::{
    command::Ended,
    fake::{
        self,
        middle::{self, Change},
    },
    host, http, paths, sdk,
    service::{self, Place},
};

use crate::support::refused;

fn get(folder: &Path, url: &str, key: &str, more: &[&str]) -> Ended {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).expect("the folder can be made");
    let log = format!("{url}/tlog");
    let bindir = bin.display().to_string();
    let mut args = vec![
        "get",
        "--verifierkey",
        key,
        "--url",
        &log,
        "--bindir",
        &bindir,
    ];
    args.extend_from_slice(more);
    args.extend(["--go", sdk::GO, "ex.example/proof@v1.0.0"]);
    Place::new(folder, fake::shared()).run(args).wait()
}

/// Files that `get` left for its user, but for its own state.
fn written(folder: &Path) -> Vec<std::path::PathBuf> {
    host::tree(&folder.join("bin")).into_keys().collect()
}

#[test]
fn what_was_built_is_fetched_again_and_verified() {
    let service = service::service();
    let folder = paths::scratch("get");
    let ended = get(folder.path(), &service.url(), service.verifier_key(), &[]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.out(), ended.err());
    let file = folder.path().join("bin/proof");
    let mode = fs::metadata(&file)
        .expect("the binary is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111, "it is executable");
    let built = folder.path().join("built");
    let told = crate::support::build("ex.example/proof@v1.0.0", &built, &[]);
    assert_eq!(
        host::sha256(&file),
        told.json()["sha256"],
        "one binary for everybody"
    );
    // Again, against the head that it remembers by now.
    let again = get(folder.path(), &service.url(), service.verifier_key(), &[]);
    assert_eq!(again.code, 0, "{}", again.err());
}

#[test]
fn another_key_or_sum_ends_with_exit_code_3() {
    let service = service::service();
    let folder = paths::scratch("get");
    let other = fake::shared()
        .verifier_key()
        .replace("sumdb.example", "localhost");
    let ended = get(folder.path(), &service.url(), &other, &[]);
    assert!(
        [2, 3].contains(&ended.code),
        "{}: {}",
        ended.code,
        ended.err()
    );
    let wrong = format!("0{}", "A".repeat(27));
    let ended = get(
        folder.path(),
        &service.url(),
        service.verifier_key(),
        &["--sum", &wrong],
    );
    refused("a wrong sum", &ended, 3, &["hotcell: "]);
    assert!(
        written(folder.path()).is_empty(),
        "{:?}",
        written(folder.path())
    );
}

#[test]
fn a_changed_answer_ends_with_exit_code_3_and_nothing_is_written() {
    let service = service::service();
    let key = service.verifier_key();
    let warm = format!(
        "{}{}",
        service.url(),
        service::record_path("ex.example/proof")
    );
    assert_eq!(http::get(&warm).status, 200);
    let flip: Change = |mut bytes| {
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        bytes
    };
    let other_record: Change = |bytes| {
        let text =
            String::from_utf8_lossy(&bytes).replacen("ex.example/proof", "ex.example/prooF", 1);
        text.into_bytes()
    };
    for (part, change) in [
        ("/proof-v1.0.0", flip),
        ("/tlog/tile/", flip),
        ("/tlog/lookup/", other_record),
        ("/tlog/lookup/", flip),
    ] {
        let folder = paths::scratch("get");
        let url = format!("http://{}", middle::start(service.url(), part, change));
        let ended = get(folder.path(), &url, key, &[]);
        refused(part, &ended, 3, &["hotcell: "]);
        assert!(
            written(folder.path()).is_empty(),
            "{part}: {:?}",
            written(folder.path())
        );
    }
}
