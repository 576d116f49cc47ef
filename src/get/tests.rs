//! `get` against honest instances and against every lie that one can tell.

use std::{fs, io::Write, os::unix::fs::PermissionsExt};

use flate2::{Compression, write::GzEncoder};

use super::*;
use crate::{
    proxy::table::Table,
    receipt::testing::{FakeLog, KEY, binary, companion_of, key_of, record_of},
    spec::url::result_path,
    tlog::{
        SigningKey, Tile, leaf_hash,
        testing::NaiveTree,
        text::{data_tile, format_record, tree_text},
        tile,
    },
};

const URL: &str = "https://build.example.org/tlog";
const RECEIPT: &str = "proof/by-key/example.com/mod5@v1.0.0/cmd/tool/linux-amd64-go1.26.8/";

/// An instance whose every answer can be replaced.
#[derive(Clone)]
struct Instance {
    signing: Arc<SigningKey>,
    leaves: Vec<String>,
    table: Table,
}

impl Instance {
    /// An instance with `builds` records and their companions after leaf 0.
    fn new(builds: usize) -> Self {
        Self::with_key(5, builds)
    }

    /// The same with the key of another seed.
    fn with_key(seed: u8, builds: usize) -> Self {
        let log = FakeLog::new("build.example.org", seed, builds);
        let instance = Self {
            signing: Arc::new(log.signing),
            leaves: log.leaves,
            table: Table::default(),
        };
        instance.publish();
        instance
    }

    fn log(&self) -> FakeLog {
        FakeLog {
            signing: SigningKey::parse(&self.signing.secret_text()).unwrap(),
            leaves: self.leaves.clone(),
        }
    }

    fn tree(&self) -> NaiveTree {
        self.log().tree()
    }

    fn note(&self, size: usize) -> String {
        self.signing
            .sign(&tree_text(&self.tree().tree(size as u64)))
            .unwrap()
    }

    fn put(&self, path: &str, body: &[u8]) {
        self.table.put(&format!("{URL}/{path}"), body);
    }

    /// Serves everything about the present leaves.
    fn publish(&self) {
        let (naive, size) = (self.tree(), self.leaves.len() as u64);
        for tile in tile::new_tiles(0, size) {
            self.put(&tile.sumdb_path(), &naive.tile(&tile));
            if tile.level() == 0 {
                let first = usize::try_from(tile.number() * 256).unwrap();
                let records = &self.leaves[first..first + usize::from(tile.width())];
                let data = data_tile(records.iter().map(String::as_str));
                self.put(&tile::data_path(&tile), &data);
            }
        }
        self.answer(KEY, 11, &self.leaves.get(11).cloned().unwrap_or_default());
        if self.leaves.len() > 12 {
            self.put(RECEIPT, self.log().receipt(5).as_bytes());
        }
        let mut gz = GzEncoder::new(Vec::new(), Compression::default());
        gz.write_all(&binary(5)).unwrap();
        self.put_download(".gz", &gz.finish().unwrap());
    }

    /// Makes a lookup answer with the newest head.
    fn answer(&self, key: &str, index: u64, text: &str) {
        if let Ok(record) = format_record(index, text) {
            self.put(
                &format!("lookup/{key}"),
                (record + &self.note(self.leaves.len())).as_bytes(),
            );
        }
    }

    fn put_download(&self, suffix: &str, body: &[u8]) {
        self.table.put(&self.download(suffix), body);
    }

    fn download(&self, suffix: &str) -> String {
        let (record, base) = (record_of(5), URL.trim_end_matches("/tlog"));
        let (path, name) = (
            result_path(&record.key, &record.sum),
            record.key.download_name(),
        );
        format!("{base}{path}{name}{suffix}")
    }

    fn http(&self) -> Http {
        let table: Arc<dyn Transport> = Arc::new(self.table.clone());
        Http {
            lookup: Arc::clone(&table),
            rest: table,
        }
    }

    fn request(&self, user: &User) -> Request {
        Request {
            spec: "example.com/mod5@v1.0.0/cmd/tool".to_owned(),
            verifier_key: self.signing.verifier().to_string(),
            url: None,
            sum: None,
            target: Some("linux/amd64".to_owned()),
            go: Some("go1.26.8".to_owned()),
            stripped: false,
            bindir: user.0.path().join("bin"),
            download: true,
            gobuild: false,
        }
    }

    async fn get(&self, user: &User) -> Result<Got, GetError> {
        get(&self.request(user), &user.state(), &self.http()).await
    }
}

/// A user's folders.
struct User(tempfile::TempDir);

impl User {
    fn new() -> Self {
        let user = Self(tempfile::tempdir().unwrap());
        fs::create_dir(user.0.path().join("bin")).unwrap();
        user
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn binaries(&self) -> usize {
        fs::read_dir(self.0.path().join("bin")).unwrap().count()
    }

    /// The folder of the instance's key.
    fn log(&self, instance: &Instance) -> PathBuf {
        self.state().join(instance.signing.verifier().id())
    }
}

/// Whoever tells this lie is refused with exit code 3 and no file.
async fn is_a_lie(instance: &Instance, user: &User, lie: &str) -> GetError {
    let before = user.binaries();
    let error = instance.get(user).await.expect_err(lie);
    assert_eq!(
        (error.exit_code(), user.binaries()),
        (3, before),
        "{lie}: {error:?}"
    );
    error
}

#[tokio::test]
async fn an_honest_instance_gives_a_program_that_is_proved() {
    for builds in [6, 150, 400] {
        let (instance, user) = (Instance::new(builds), User::new());
        let got = instance.get(&user).await.unwrap();
        let path = got.path.clone().unwrap();
        assert_eq!(fs::read(&path).unwrap(), binary(5));
        assert_eq!(path.file_name().unwrap(), "tool");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o755
        );
        assert_eq!(
            (got.index, got.record.clone(), &got.warnings),
            (11, record_of(5), &vec![])
        );
        assert_eq!(got.sha256, Some(companion_of(5).sha256));
        assert_eq!(got.json()["sum"], record_of(5).sum.to_string());
        // And again, over the file that is there.
        assert_eq!(instance.get(&user).await.unwrap().tree, got.tree);
        assert_eq!(user.binaries(), 2, "the program and its receipt");
    }
}

#[tokio::test]
async fn a_missing_folder_is_made_and_one_that_cannot_be_made_is_told_before_anything_is_fetched() {
    let (instance, user) = (Instance::new(6), User::new());
    let mut request = instance.request(&user);
    request.bindir = user.0.path().join("deep/bin");
    let got = get(&request, &user.state(), &instance.http())
        .await
        .unwrap();
    assert_eq!(got.path, Some(request.bindir.join("tool")));
    drop(fs::File::create(user.0.path().join("file")).unwrap());
    request.bindir = user.0.path().join("file/bin");
    let nothing: Arc<dyn Transport> = Arc::new(Table::default());
    let nothing = Http {
        lookup: Arc::clone(&nothing),
        rest: nothing,
    };
    let error = get(&request, &user.state(), &nothing).await.unwrap_err();
    assert!(matches!(error, GetError::Write(_)), "{error:?}");
    request.bindir = user.0.path().join("none");
    request.download = false;
    get(&request, &user.state(), &instance.http())
        .await
        .unwrap();
    assert!(!request.bindir.exists());
}

#[tokio::test]
async fn the_plain_file_does_when_there_is_no_compressed_one_and_none_without_download() {
    let (instance, user) = (Instance::new(6), User::new());
    instance.table.put_status(&instance.download(".gz"), 404);
    instance.put_download("", &binary(5));
    instance.get(&user).await.unwrap();
    let other = User::new();
    let request = Request {
        download: false,
        ..instance.request(&other)
    };
    let got = get(&request, &other.state(), &instance.http())
        .await
        .unwrap();
    assert_eq!((got.path, other.binaries()), (None, 0));
}

#[tokio::test]
async fn what_was_withdrawn_is_told_so_and_leaves_no_file() {
    for code in [410, 451] {
        let (instance, user) = (Instance::new(6), User::new());
        for end in ["", ".gz"] {
            instance.table.put_status(&instance.download(end), code);
        }
        let error = instance.get(&user).await.unwrap_err();
        assert!(matches!(&error, GetError::Withdrawn(_)), "{error:?}");
        assert_eq!((error.exit_code(), user.binaries()), (1, 0));
    }
}

#[tokio::test]
async fn both_spec_forms_and_moving_names_are_understood_and_checked() {
    let (instance, user) = (Instance::new(6), User::new());
    let ask = async |spec: &str, go: &str| {
        let (spec, go) = (spec.to_owned(), Some(go.to_owned()));
        let request = Request {
            spec,
            go,
            ..instance.request(&user)
        };
        get(&request, &user.state(), &instance.http()).await
    };
    ask("example.com/mod5/cmd/tool@v1.0.0", "go1.26.8")
        .await
        .unwrap();
    for go in ["latest", "go1.26.latest", "go1.25.latest"] {
        let key = KEY.replace("go1.26.8", go).replace("v1.0.0", "latest");
        instance.answer(&key, 11, &record_of(5).text());
        let got = ask("example.com/mod5@latest/cmd/tool", go).await;
        assert_eq!(got.is_ok(), go != "go1.25.latest", "{go}");
    }
    for (spec, go, code) in [
        ("", "latest", 2),
        ("x", "latest", 2),
        ("a.b/c@v1", "go1.99", 2),
    ] {
        assert_eq!(ask(spec, go).await.unwrap_err().exit_code(), code, "{spec}");
    }
    let error = ask("example.com/none@v1.0.0/x", "go1.26.8")
        .await
        .unwrap_err();
    assert!(matches!(&error, GetError::Refused(_)), "{error:?}");
    assert_eq!(error.exit_code(), 1);
}

#[tokio::test]
async fn a_forged_tile_in_a_log_of_701_is_refused() {
    let (instance, user) = (Instance::new(350), User::new());
    // The evil server's record was never logged; it forges the leaf's hash in tile 0/000.
    let evil = Record {
        size: 666,
        ..record_of(5)
    };
    instance.answer(KEY, 11, &evil.text());
    let tile = Tile::new(0, 0, 256).unwrap();
    let mut bytes = instance.tree().tile(&tile);
    bytes[11 * 32..12 * 32].copy_from_slice(&leaf_hash(evil.text().as_bytes()).0);
    instance.put(&tile.sumdb_path(), &bytes);
    let error = is_a_lie(&instance, &user, "forged tile").await;
    assert!(
        matches!(error, GetError::Proof(ReadError::Inconsistent)),
        "{error:?}"
    );
}

#[tokio::test]
async fn records_of_something_else_are_refused() {
    let (instance, user) = (Instance::new(6), User::new());
    // Logged, but at another place, or not logged.
    for (index, text) in [
        (9, record_of(5)),
        (11, record_of(4)),
        (
            11,
            Record {
                size: 1,
                ..record_of(5)
            },
        ),
    ] {
        instance.answer(KEY, index, &text.text());
        is_a_lie(&instance, &user, "not in the log").await;
    }
    // Logged, but not what was asked.
    instance.answer(KEY, 9, &record_of(4).text());
    let error = is_a_lie(&instance, &user, "swapped record").await;
    assert!(matches!(error, GetError::OtherRecord { .. }), "{error:?}");
    // Beyond the head.
    instance.answer(KEY, 99, &record_of(5).text());
    is_a_lie(&instance, &user, "not in the tree").await;
    // A leaf that is no record.
    instance.answer(KEY, 12, &companion_of(5).text());
    is_a_lie(&instance, &user, "a companion").await;
    // Everything that was asked for matters.
    instance.publish();
    let good = instance.request(&user);
    for request in [
        Request {
            sum: Some(record_of(4).sum.to_string()),
            ..good.clone()
        },
        Request {
            target: Some("linux/arm64".to_owned()),
            ..good.clone()
        },
        Request {
            stripped: true,
            ..good.clone()
        },
        Request {
            go: Some("go1.26.7".to_owned()),
            ..good.clone()
        },
        Request {
            spec: "example.com/mod5@v1.0.1/cmd/tool".to_owned(),
            ..good.clone()
        },
        Request {
            spec: "example.com/mod5@v1.0.0".to_owned(),
            ..good.clone()
        },
    ] {
        let asked = Asked::parse(&request).unwrap();
        let key = asked.key(&key_of(5).module.path).unwrap();
        instance.answer(&key, 11, &record_of(5).text());
        let error = get(&request, &user.state(), &instance.http())
            .await
            .unwrap_err();
        assert!(
            matches!(error, GetError::OtherRecord { .. }),
            "{request:?}: {error:?}"
        );
    }
    assert_eq!(user.binaries(), 0);
}

#[tokio::test]
async fn a_record_without_its_companion_is_refused_unless_the_log_is_gobuilds() {
    let user = User::new();
    let mut instance = Instance::new(6);
    let swaps = [
        Some(record_of(3).text()),
        Some(companion_of(4).text()),
        Some(
            Companion {
                record_index: 9,
                ..companion_of(5)
            }
            .text(),
        ),
        Some(
            Companion {
                sha256: [1; 32],
                ..companion_of(5)
            }
            .text(),
        ),
        None,
    ];
    for (seed, leaf) in swaps.into_iter().enumerate() {
        // A log of its own each, or they would be forks of each other.
        let seed = u8::try_from(seed).unwrap() + 10;
        instance.signing =
            Arc::new(SigningKey::from_seed("build.example.org", &[seed; 32]).unwrap());
        instance.leaves.truncate(12);
        instance.leaves.extend(leaf);
        instance.publish();
        let error = is_a_lie(&instance, &user, "companion").await;
        assert!(matches!(error, GetError::NoCompanion { .. }), "{error:?}");
        let request = Request {
            gobuild: true,
            ..instance.request(&user)
        };
        let got = get(&request, &user.state(), &instance.http())
            .await
            .unwrap();
        assert_eq!(
            (got.provenance_sha256, got.warnings.is_empty()),
            (None, false)
        );
        fs::remove_file(got.path.unwrap()).unwrap();
    }
}

#[tokio::test]
async fn heads_move_forward_and_a_fork_stops_with_both_notes_as_evidence() {
    let (mut instance, user) = (Instance::new(6), User::new());
    instance.get(&user).await.unwrap();
    let first = instance.note(instance.leaves.len());
    instance
        .leaves
        .extend([record_of(6).text(), companion_of(6).text()]);
    instance.publish();
    assert_eq!(instance.get(&user).await.unwrap().tree.size, 15);
    let seen = instance.note(15);
    assert_eq!(
        fs::read_to_string(user.log(&instance).join("latest")).unwrap(),
        seen
    );

    // An older head of the same history: warned about, never kept.
    let record = format_record(11, &record_of(5).text()).unwrap();
    instance.put(
        &format!("lookup/{KEY}"),
        (record.clone() + &first).as_bytes(),
    );
    let got = instance.get(&user).await.unwrap();
    assert!(got.warnings[0].contains("13 records"), "{:?}", got.warnings);
    assert_eq!(
        fs::read_to_string(user.log(&instance).join("latest")).unwrap(),
        seen
    );

    // Another history with an honest past up to here, of the same length, and a longer one.
    for more in [0, 2] {
        let mut fork = Instance {
            table: Table::default(),
            ..instance.clone()
        };
        fork.leaves[13] = record_of(7).text();
        for n in 0..more {
            fork.leaves.push(record_of(20 + n).text());
        }
        fork.publish();
        let error = is_a_lie(&fork, &user, "fork").await;
        let GetError::Fork { evidence } = error else {
            panic!("{error:?}")
        };
        let text = fs::read_to_string(evidence).unwrap();
        assert!(text.contains(&seen) && text.contains(&fork.note(fork.leaves.len())));
    }
    // Rolled back: a shorter log that does not know the newer head.
    let old = Instance::new(6);
    let error = is_a_lie(&old, &user, "rollback").await;
    assert!(
        matches!(
            error,
            GetError::OldHead {
                shown: 13,
                seen: 15
            }
        ),
        "{error:?}"
    );
    assert_eq!(
        fs::read_to_string(user.log(&instance).join("latest")).unwrap(),
        seen
    );
}

#[tokio::test]
async fn a_vanished_or_damaged_head_is_an_error_and_never_a_first_day() {
    let (instance, user) = (Instance::new(6), User::new());
    instance.get(&user).await.unwrap();
    let path = user.log(&instance).join("latest");
    let good = fs::read(&path).unwrap();
    for bytes in [None, Some(&b""[..]), Some(&good[..good.len() - 1])] {
        fs::remove_file(&path).unwrap();
        if let Some(bytes) = bytes {
            crate::store::durable::write_new(&path, bytes, 0o600).unwrap();
        }
        let error = is_a_lie(&instance, &user, "state").await;
        assert!(matches!(error, GetError::State(_)), "{error:?}");
        crate::store::durable::replace(&path, &good, 0o600).unwrap();
    }
    instance.get(&user).await.unwrap();
}

#[tokio::test]
async fn malformed_truncated_and_foreign_notes_are_refused() {
    let (instance, user) = (Instance::new(6), User::new());
    let record = format_record(11, &record_of(5).text()).unwrap();
    let note = instance.note(13);
    let stranger = SigningKey::from_seed("build.example.org", &[6; 32]).unwrap();
    let foreign = stranger
        .sign(&tree_text(&instance.tree().tree(13)))
        .unwrap();
    let line = "\u{2014} x AAAAAAAAAAAA\n";
    let text = "not a tree\n";
    for (lie, body) in [
        ("nothing", String::new()),
        ("no note", record.clone()),
        ("truncated", format!("{record}{}", &note[..note.len() - 9])),
        (
            "changed",
            format!("{record}{}", note.replace("\n13\n", "\n14\n")),
        ),
        ("foreign", format!("{record}{foreign}")),
        (
            "101 signatures",
            format!("{record}{note}{}", line.repeat(100)),
        ),
        ("no record", note.clone()),
        (
            "other text",
            format!("{record}{}", instance.signing.sign(text).unwrap()),
        ),
        (
            "control bytes",
            format!("{}{note}", record.replace("tool", "to\u{7}l")),
        ),
        ("huge", format!("{record}{note}{}", "x".repeat(70_000))),
    ] {
        instance.put(&format!("lookup/{KEY}"), body.as_bytes());
        is_a_lie(&instance, &user, lie).await;
    }
    assert!(!user.log(&instance).join("latest").exists());
    // A hundred signatures are the most, and those of others do no harm.
    let body = format!("{record}{note}{}", line.repeat(99));
    instance.put(&format!("lookup/{KEY}"), body.as_bytes());
    instance.get(&user).await.unwrap();
}

#[tokio::test]
async fn tiles_that_are_short_long_or_missing_are_refused() {
    let (instance, user) = (Instance::new(6), User::new());
    let tile = Tile::new(0, 0, 13).unwrap();
    let good = instance.tree().tile(&tile);
    for bytes in [vec![], good[..31].to_vec(), vec![0; 416], vec![0; 9000]] {
        instance.put(&tile.sumdb_path(), &bytes);
        is_a_lie(&instance, &user, "tile").await;
    }
    // The full tile does when the partial one is gone.
    instance
        .table
        .put_status(&format!("{URL}/{}", tile.sumdb_path()), 404);
    let mut full = good;
    full.resize(8192, 7);
    instance.put(&tile.full().sumdb_path(), &full);
    instance.get(&user).await.unwrap();
    instance
        .table
        .put_status(&format!("{URL}/{}", tile.full().sumdb_path()), 404);
    assert_eq!(instance.get(&User::new()).await.unwrap_err().exit_code(), 4);
}

#[tokio::test]
async fn downloads_that_are_something_else_leave_no_file() {
    let (instance, user) = (Instance::new(6), User::new());
    let gzip = |bytes: &[u8]| {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    };
    let good = binary(5);
    let mut flipped = good.clone();
    flipped[500] ^= 1;
    for (lie, body) in [
        ("empty", vec![]),
        ("no gzip", good.clone()),
        ("cut", gzip(&good)[..20].to_vec()),
        ("short", gzip(&good[1..])),
        ("long", gzip(&[&good[..], b"x"].concat())),
        ("flipped", gzip(&flipped)),
        ("a bomb", gzip(&vec![0; 10_000_000])),
        ("huge", vec![0; 200_000]),
    ] {
        instance.put_download(".gz", &body);
        let error = is_a_lie(&instance, &user, lie).await;
        assert!(
            matches!(error, GetError::OtherBinary { .. }),
            "{lie}: {error:?}"
        );
    }
    instance.table.put_status(&instance.download(".gz"), 503);
    assert_eq!(instance.get(&user).await.unwrap_err().exit_code(), 4);
    instance.put_download(".gz", &gzip(&good));
    fs::create_dir(user.0.path().join("bin/tool")).unwrap(); // where the binary would go
    let error = instance.get(&user).await.unwrap_err();
    assert!(matches!(error, GetError::Write(_)), "{error:?}");
}

#[tokio::test]
async fn keys_and_addresses_are_checked_and_namesakes_are_told() {
    let (instance, user) = (Instance::new(6), User::new());
    instance.get(&user).await.unwrap();
    for url in ["x", "ftp://a/tlog", "https://a/", "https://a/tlog?b", ""] {
        let request = Request {
            url: Some(url.to_owned()),
            ..instance.request(&user)
        };
        let error = get(&request, &user.state(), &instance.http())
            .await
            .unwrap_err();
        assert_eq!(error.exit_code(), 2, "{url}");
    }
    let request = Request {
        verifier_key: "x+y+z".to_owned(),
        ..instance.request(&user)
    };
    let error = get(&request, &user.state(), &instance.http())
        .await
        .unwrap_err();
    assert_eq!(error.exit_code(), 2);
    // The same name with another key is another log, and the user is told.
    let other = Instance::with_key(8, 6);
    let got = other.get(&user).await.unwrap();
    assert!(
        got.warnings[0].contains("another key with the name"),
        "{:?}",
        got.warnings
    );
    assert!(other.get(&user).await.unwrap().warnings.is_empty());
}

#[tokio::test]
async fn the_name_of_a_key_says_where_its_log_is() {
    let http = Instance::new(1).http();
    for (name, log) in [
        ("build.example.org", "https://build.example.org/tlog"),
        ("localhost", "http://localhost:8000/tlog"),
    ] {
        let key = SigningKey::from_seed(name, &[1; 32]).unwrap();
        let table = Table::default();
        let transport: Arc<dyn Transport> = Arc::new(table.clone());
        let http = Http {
            lookup: transport,
            rest: Arc::clone(&http.rest),
        };
        let remote = Remote::new(None, key.verifier(), http).unwrap();
        remote.lookup("x").await.unwrap_err();
        assert_eq!(table.asked(), [format!("{log}/lookup/x")]);
    }
}

/// Path and text of the receipt that a user has.
fn kept(got: &Got) -> (PathBuf, String) {
    let path = got.receipt.clone().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

#[tokio::test]
async fn a_receipt_is_beside_the_binary_and_is_replaced_as_a_whole() {
    let (mut instance, user) = (Instance::new(6), User::new());
    let got = instance.get(&user).await.unwrap();
    let (path, text) = kept(&got);
    assert_eq!(path, user.0.path().join("bin/tool.receipt"));
    assert_eq!(text, instance.log().receipt(5));
    assert_eq!(got.json()["receipt"], path.to_str().unwrap());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    let key = instance.signing.verifier().clone();
    assert_eq!(known_keys(&user.state()), std::slice::from_ref(&key));
    instance
        .leaves
        .extend([record_of(6).text(), companion_of(6).text()]);
    instance.publish();
    let (_, newer) = kept(&instance.get(&user).await.unwrap());
    assert!(newer != text && newer == instance.log().receipt(5));
    let proved = crate::receipt::Receipt::parse(newer.as_bytes()).unwrap();
    let policy = crate::tlog::Policy::of_logs(vec![key]);
    assert_eq!(
        proved.check(&policy).unwrap().companion.text(),
        companion_of(5).text()
    );
    // A folder counts for the key of its own name only.
    let folder = user.log(&instance);
    fs::rename(&folder, folder.with_file_name("other")).unwrap();
    assert!(known_keys(&user.state()).is_empty());
    assert!(known_keys(Path::new("/nonexistent")).is_empty());
}

#[tokio::test]
async fn receipts_that_prove_something_else_leave_no_file() {
    let (instance, user) = (Instance::new(6), User::new());
    for (lie, text, _) in crate::receipt::tests::lies() {
        if lie == "no extra" {
            continue;
        }
        instance.put(RECEIPT, text.as_bytes());
        is_a_lie(&instance, &user, lie).await;
    }
    instance.put(RECEIPT, instance.log().receipt(4).as_bytes());
    let error = is_a_lie(&instance, &user, "receipt of another build").await;
    assert!(matches!(error, GetError::OtherReceipt { .. }), "{error:?}");
    instance.table.put_status(&format!("{URL}/{RECEIPT}"), 503);
    assert_eq!(instance.get(&user).await.unwrap_err().exit_code(), 4);
    assert_eq!(user.binaries(), 0);
    // An instance that has none, or no envelope, gives a binary and a warning.
    let draft = instance.log().draft(5).finish(None).to_string();
    instance.put(RECEIPT, draft.as_bytes());
    let without = instance.get(&user).await.unwrap();
    instance.table.put_status(&format!("{URL}/{RECEIPT}"), 404);
    for got in [without, instance.get(&user).await.unwrap()] {
        assert_eq!((&got.receipt, user.binaries()), (&None, 1));
        assert_eq!(got.warnings, [super::receipt::NONE]);
        assert!(got.json()["receipt"].is_null());
    }
}

#[tokio::test]
async fn the_checkpoint_of_a_receipt_is_held_against_the_head_that_was_seen() {
    let (mut instance, user) = (Instance::new(6), User::new());
    let old = instance.note(13);
    instance.get(&user).await.unwrap();
    // The log grew between the lookup and the receipt: the newer head is kept, as a checkpoint.
    instance
        .leaves
        .extend([record_of(6).text(), companion_of(6).text()]);
    instance.publish();
    let record = format_record(11, &record_of(5).text()).unwrap();
    instance.put(&format!("lookup/{KEY}"), (record + &old).as_bytes());
    instance.get(&user).await.unwrap();
    let latest = || fs::read_to_string(user.log(&instance).join("latest")).unwrap();
    assert_eq!(latest(), instance.log().checkpoint());
    instance.publish();
    instance.get(&user).await.unwrap();
    assert_eq!(latest(), instance.log().checkpoint());
    let error = is_a_lie(&Instance::new(6), &user, "rollback").await;
    assert!(matches!(error, GetError::OldHead { .. }), "{error:?}");
    // A receipt under a head of another history is a fork like any other.
    let mut fork = instance.log();
    fork.leaves[14] = companion_of(7).text();
    instance.put(RECEIPT, fork.receipt(5).as_bytes());
    let error = is_a_lie(&instance, &user, "fork").await;
    let GetError::Fork { evidence } = error else {
        panic!("{error:?}")
    };
    let text = fs::read_to_string(evidence).unwrap();
    assert!(text.contains(&fork.checkpoint()) && text.contains(&instance.log().checkpoint()));
}
