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
    let statement = fs::read_to_string(folder.path().join("built.provenance.json"));
    let statement = statement.expect("the statement is beside the binary");
    assert!(statement.contains(told.json()["sha256"].as_str().expect("a hash")));
    // Again, against the head that it remembers by now.
    let again = get(folder.path(), &service.url(), service.verifier_key(), &[]);
    assert_eq!(again.code, 0, "{}", again.err());
}

#[test]
fn a_receipt_proves_its_binary_without_a_network_and_no_other_file() {
    let service = service::service();
    let folder = paths::scratch("get");
    let (url, key) = (service.url(), service.verifier_key());
    let ended = get(folder.path(), &url, key, &["--json"]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let got = ended.json();
    let file = folder.path().join("bin/proof");
    let receipt = folder.path().join("bin/proof.receipt");
    assert_eq!(got["receipt"], receipt.display().to_string());
    // Neither a proxy nor a service is named; the key is the one that `get` was given.
    let verify = |more: &[&str]| {
        let place = Place::new(folder.path(), fake::shared());
        let file = file.display().to_string();
        place.run(["verify", &file]).args(more).wait()
    };
    let ended = verify(&["--json"]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let proved = ended.json();
    for name in [
        "key",
        "sum",
        "sha256",
        "size",
        "log_index",
        "provenance_sha256",
    ] {
        assert_eq!(proved[name], got[name], "{name}");
    }
    assert_eq!(proved["log"], key);
    assert_eq!(proved["policy"]["name"], "build");
    let ended = verify(&["--verifierkey", key]);
    assert!(ended.code == 0 && ended.out().contains("ex.example/proof@v1.0.0"));

    let policy = folder.path().join("policy");
    let put = |text: String| fs::write(&policy, text).expect("a file can be written");
    let with_policy = || verify(&["--policy", &policy.display().to_string()]);
    put(format!("log {key}\nquorum none\n"));
    assert_eq!(with_policy().code, 0);
    let witness = "witness.example/w1+24b5d9fe+BP0XJDhaoMdbZPt4zWAvodmR/ev3axPFjtcC6sg16fYY";
    put(format!("log {key}\nwitness w {witness}\nquorum w\n"));
    refused("no cosignature", &with_policy(), 3, &["quorum `w`"]);

    let mut bytes = fs::read(&file).expect("the binary is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).expect("a file can be written");
    refused(
        "one bit",
        &verify(&[]),
        3,
        &["is not the binary of the receipt"],
    );
    fs::remove_file(&receipt).expect("the receipt is there");
    refused("no receipt", &verify(&[]), 1, &["proof.receipt"]);
    let nobody = Place::new(&folder.path().join("nobody"), fake::shared());
    fs::create_dir_all(&nobody.folder).expect("a folder can be made");
    let ended = nobody.run(["verify", "x"]).wait();
    refused("no key", &ended, 2, &["--verifierkey"]);
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
        ("/tlog/proof/", flip),
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

#[test]
fn answers_that_never_end_are_cut_off_and_nothing_is_written() {
    let service = service::service();
    let warm = format!(
        "{}{}",
        service.url(),
        service::record_path("ex.example/proof")
    );
    assert_eq!(http::get(&warm).status, 200);
    for part in [
        "/tlog/lookup/",
        "/tlog/tile/",
        "/tlog/proof/",
        "/proof-v1.0.0",
    ] {
        let folder = paths::scratch("get");
        let url = format!("http://{}", middle::endless(service.url(), part));
        let ended = get(folder.path(), &url, service.verifier_key(), &[]);
        refused(part, &ended, 3, &["hotcell: "]);
        assert!(
            written(folder.path()).is_empty(),
            "{part}: {:?}",
            written(folder.path())
        );
    }
}
