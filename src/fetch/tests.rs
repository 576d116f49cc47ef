//! The whole role against a proxy and a checksum database in a table.

use std::{
    io::{Cursor, Read as _, Write as _},
    os::fd::OwnedFd,
    path::Path,
    sync::Arc,
};

use hotcell_sandbox::channel::Channel;
use zip::{ZipWriter, write::SimpleFileOptions};

use super::{
    role::{FetchConfig, Role},
    wire::*,
};
use crate::{
    channel::AsyncChannel,
    modzip::{h1_of_go_mod, hash_zip, prefix},
    proxy::{Proxy, Sources},
    sumdb::testing::{DIRECT, Fake},
};

const PROXY: &str = "http://proxy.test";

/// Modules on a fake proxy, their hashes in a fake checksum database.
struct World {
    database: Fake,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            database: Fake::new(DIRECT, 1),
            folder: tempfile::tempdir().unwrap(),
        };
        world.database.publish();
        world
    }

    /// Puts a module with these files on the proxy and into the checksum database.
    fn publish(&mut self, path: &str, version: &str, files: &[(&str, &str)]) {
        let zip = packed(path, version, files);
        let go_mod = files
            .iter()
            .find(|(name, _)| *name == "go.mod")
            .map(|(_, text)| *text);
        let go_mod = go_mod.map_or(format!("module {path}\n"), ToOwned::to_owned);
        let h1 = hash_zip(&file(&zip), &prefix(path, version)).unwrap().h1;
        let mod_h1 = h1_of_go_mod(go_mod.as_bytes());
        let record = format!("{path} {version} {h1}\n{path} {version}/go.mod {mod_h1}\n");
        self.database.records.push(record);
        self.database.publish_versions();
        self.put(path, version, "mod", go_mod.as_bytes());
        self.put(path, version, "zip", &zip);
        self.put(
            path,
            version,
            "info",
            format!("{{\"Version\":\"{version}\"}}").as_bytes(),
        );
    }

    fn put(&self, path: &str, version: &str, kind: &str, body: &[u8]) {
        self.database
            .table
            .put(&format!("{PROXY}/{path}/@v/{version}.{kind}"), body);
    }

    fn asked(&self, ending: &str) -> usize {
        self.database
            .table
            .asked()
            .iter()
            .filter(|url| url.ends_with(ending))
            .count()
    }

    fn start(&self) -> Asking {
        let (ours, theirs) = Channel::pair().unwrap();
        let sources = Sources::parse(PROXY).unwrap();
        let proxy = Proxy::new(sources, Arc::new(self.database.table.clone()));
        let config = FetchConfig {
            folder: self.folder.path().to_path_buf(),
            goproxy: PROXY.to_owned(),
            sumdb: Some(self.database.key.verifier().to_string()),
            witnesses: Vec::new(),
            verifiers: Vec::new(),
            authority: None,
        };
        let control = Arc::new(AsyncChannel::new(theirs).unwrap());
        let role = Role::open(control, proxy, &config).unwrap();
        tokio::spawn(role.serve());
        Asking {
            control: AsyncChannel::new(ours).unwrap(),
            next: 0,
        }
    }

    /// Files with a final name.
    fn cached(&self, kind: &str) -> usize {
        fn count(folder: &Path) -> usize {
            let Ok(entries) = std::fs::read_dir(folder) else {
                return 0;
            };
            let each = |path: &Path| if path.is_dir() { count(path) } else { 1 };
            entries.map(|entry| each(&entry.unwrap().path())).sum()
        }
        count(&self.folder.path().join(kind))
    }
}

fn packed(path: &str, version: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        let name = format!("{}{name}", prefix(path, version));
        writer
            .start_file(name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn file(bytes: &[u8]) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn member(path: &str, version: &str) -> Member {
    Member {
        path: path.into(),
        version: version.into(),
    }
}

/// The asker's end.
struct Asking {
    control: AsyncChannel,
    next: u64,
}

impl Asking {
    async fn send(&mut self, ask: Ask, descriptors: &[std::os::fd::BorrowedFd<'_>]) -> u64 {
        self.next += 1;
        self.control
            .send(&Request { id: self.next, ask }, descriptors)
            .await
            .unwrap();
        self.next
    }

    async fn hear(&self) -> (Answer, Option<OwnedFd>) {
        let (response, descriptors) = self.control.receive::<Response>().await.unwrap().unwrap();
        assert_eq!(response.id, self.next);
        (response.answer, descriptors.into_iter().next())
    }

    async fn ask(&mut self, ask: Ask) -> Answer {
        self.send(ask, &[]).await;
        self.hear().await.0
    }

    async fn open(&mut self, root: Member, locked: Option<Vec<ModuleHash>>) -> Relay {
        use std::os::fd::AsFd as _;
        let (ours, theirs) = Channel::pair().unwrap();
        self.send(
            Ask::Open {
                root: Some(root),
                locked,
            },
            &[theirs.as_fd()],
        )
        .await;
        assert!(matches!(self.hear().await.0, Answer::Opened));
        Relay {
            channel: AsyncChannel::new(ours).unwrap(),
        }
    }

    /// The end of a session whose relay is gone: what was served, noted, and went wrong.
    async fn closed(&self) -> (Vec<ModuleHash>, Vec<String>, Option<Trouble>) {
        let mut all = Vec::new();
        loop {
            match self.hear().await.0 {
                Answer::Served { .. } => {}
                Answer::Closed {
                    served,
                    more,
                    missing,
                    trouble,
                } => {
                    all.extend(served);
                    if !more {
                        return (all, missing, trouble);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn resolve(
        &mut self,
        package: &str,
        query: &str,
    ) -> Result<(Member, Vec<String>), Trouble> {
        let (package, query) = (package.to_owned(), query.to_owned());
        match self
            .ask(Ask::Resolve {
                module: None,
                package,
                query,
            })
            .await
        {
            Answer::Resolved { member, warnings } => Ok((member, warnings)),
            Answer::Trouble(trouble) => Err(trouble),
            other => panic!("{other:?}"),
        }
    }
}

/// The relay's end.
struct Relay {
    channel: AsyncChannel,
}

impl Relay {
    async fn send(&self, id: u64, want: Want) {
        self.channel.send(&Wanted { id, want }, &[]).await.unwrap();
    }

    async fn hear(&self) -> (u64, Give, Vec<u8>) {
        let (given, descriptors) = self.channel.receive::<Given>().await.unwrap().unwrap();
        let mut content = Vec::new();
        for descriptor in descriptors {
            std::fs::File::from(descriptor)
                .read_to_end(&mut content)
                .unwrap();
        }
        (given.id, given.given, content)
    }

    async fn want(&self, want: Want) -> (Give, Vec<u8>) {
        self.send(1, want).await;
        let (_, give, content) = self.hear().await;
        (give, content)
    }
}

const MAIN: &str = "module example.com/main\nrequire example.com/dep v1.0.0\n";

fn small_world() -> World {
    let mut world = World::new();
    world.publish(
        "example.com/main",
        "v1.0.0",
        &[("go.mod", MAIN), ("main.go", "package main\n")],
    );
    world.publish("example.com/dep", "v1.0.0", &[("dep.go", "package dep\n")]);
    world.publish(
        "example.com/dep",
        "v1.1.0",
        &[("dep.go", "package dep // new\n")],
    );
    world
}

#[tokio::test]
async fn a_session_serves_its_closure_and_asks_for_nothing_else() {
    let world = small_world();
    let mut asking = world.start();
    let root = member("example.com/main", "v1.0.0");
    let relay = asking.open(root.clone(), None).await;
    let dep = member("example.com/dep", "v1.0.0");
    assert!(matches!(
        relay.want(Want::Zip(dep.clone())).await.0,
        Give::NotFound
    ));
    let (give, content) = relay.want(Want::Mod(root.clone())).await;
    assert!(
        matches!(give, Give::File { bytes, .. } if bytes == MAIN.len() as u64),
        "{give:?}"
    );
    assert_eq!(content, MAIN.as_bytes());
    let (give, content) = relay.want(Want::Zip(dep.clone())).await;
    assert!(
        matches!(give, Give::File { bytes, .. } if bytes == content.len() as u64),
        "{give:?}"
    );
    for other in [
        member("example.com/dep", "v1.1.0"),
        member("evil.example/data", "v1.0.0"),
    ] {
        for want in [
            Want::Info(other.clone()),
            Want::Mod(other.clone()),
            Want::Zip(other),
        ] {
            assert!(matches!(relay.want(want).await.0, Give::NotFound));
        }
    }
    let list = Want::List {
        path: "example.com/dep".into(),
    };
    assert!(matches!(relay.want(list).await.0, Give::NotFound));
    drop(relay);
    let (served, missing, trouble) = asking.closed().await;
    let names: Vec<_> = served.iter().map(|module| module.path.as_str()).collect();
    assert_eq!(names, ["example.com/dep", "example.com/main"]);
    assert!(served[0].h1.is_some() && served[0].go_mod_h1.is_none());
    assert!(served[1].h1.is_none() && served[1].go_mod_h1.is_some());
    assert_eq!(
        (missing, trouble),
        (vec!["example.com/dep".to_owned()], None)
    );
    for url in world.database.table.asked() {
        assert!(
            !url.contains("evil") && !url.contains("v1.1.0") && !url.ends_with(".info"),
            "{url}"
        );
    }
}

#[tokio::test]
async fn what_is_served_does_not_depend_on_how_the_proxy_packs() {
    let world = small_world();
    let root = member("example.com/main", "v1.0.0");
    let mut asking = world.start();
    let relay = asking.open(root.clone(), None).await;
    let (_, content) = relay.want(Want::Zip(root)).await;
    assert_ne!(content, packed("example.com/main", "v1.0.0", &[]));
    let reversed = [("main.go", "package main\n"), ("go.mod", MAIN)];
    let other = packed("example.com/main", "v1.0.0", &reversed);
    let mut canonical = Vec::new();
    let other = file(&other);
    let archive = crate::modzip::Archive::open(&other, "example.com/main@v1.0.0/").unwrap();
    crate::modzip::rewrite(&archive, &mut canonical).unwrap();
    assert_eq!(content, canonical);
}

#[tokio::test]
async fn a_proxy_that_lies_truncates_or_sends_garbage_leaves_nothing_behind() {
    let root = member("example.com/main", "v1.0.0");
    let good = packed(
        "example.com/main",
        "v1.0.0",
        &[("go.mod", MAIN), ("main.go", "package main\n")],
    );
    let evil = packed(
        "example.com/main",
        "v1.0.0",
        &[("go.mod", MAIN), ("main.go", "package evil\n")],
    );
    for (body, expected) in [
        (&evil[..], TroubleKind::Verify),
        (&good[..good.len() / 2], TroubleKind::Proxy),
        (
            b"<html>not today</html> and some more text".as_slice(),
            TroubleKind::Proxy,
        ),
        (b"", TroubleKind::Proxy),
        (
            &[
                &good[..good.len() - 22],
                b"hidden",
                &good[good.len() - 22..],
            ]
            .concat()[..],
            TroubleKind::Verify,
        ),
    ] {
        let world = small_world();
        world.put("example.com/main", "v1.0.0", "zip", body);
        let mut asking = world.start();
        let relay = asking.open(root.clone(), None).await;
        let (give, _) = relay.want(Want::Zip(root.clone())).await;
        assert!(matches!(give, Give::Trouble { .. }), "{give:?}");
        drop(relay);
        let (served, _, trouble) = asking.closed().await;
        assert_eq!(
            trouble.unwrap().kind,
            expected,
            "{:?}",
            String::from_utf8_lossy(body)
        );
        assert_eq!(
            (served.len(), world.cached("zip"), world.cached("tmp")),
            (0, 0, 0)
        );
    }
    let world = small_world();
    world.put(
        "example.com/main",
        "v1.0.0",
        "mod",
        b"module example.com/main\nrequire a.example/x v1.0.0\n",
    );
    let mut asking = world.start();
    let relay = asking.open(root.clone(), None).await;
    assert!(matches!(
        relay.want(Want::Mod(root)).await.0,
        Give::Trouble { .. }
    ));
    drop(relay);
    let trouble = asking.closed().await.2.unwrap();
    assert_eq!(trouble.kind, TroubleKind::Verify);
    assert!(
        trouble.text.contains("go.mod of `example.com/main@v1.0.0`"),
        "{}",
        trouble.text
    );
    assert_eq!(world.cached("mod"), 0);
}

#[tokio::test]
async fn many_who_want_one_file_cause_one_download() {
    let world = small_world();
    let mut asking = world.start();
    let root = member("example.com/main", "v1.0.0");
    let relay = asking.open(root.clone(), None).await;
    for id in 0..20 {
        relay.send(id, Want::Zip(root.clone())).await;
    }
    for _ in 0..20 {
        assert!(matches!(relay.hear().await.1, Give::File { .. }));
    }
    assert_eq!(world.asked("main/@v/v1.0.0.zip"), 1);
    drop(relay);
    assert_eq!(asking.closed().await.0.len(), 1);
    // And none after a restart.
    let mut asking = world.start();
    let relay = asking.open(root.clone(), None).await;
    assert!(matches!(
        relay.want(Want::Zip(root)).await.0,
        Give::File { .. }
    ));
    assert_eq!(world.asked("main/@v/v1.0.0.zip"), 1);
    assert_eq!(world.asked("lookup/example.com/main@v1.0.0"), 1);
}

#[tokio::test]
async fn a_lock_file_is_kept_to_the_letter() {
    let world = small_world();
    let root = member("example.com/main", "v1.0.0");
    let dep = member("example.com/dep", "v1.0.0");
    let mut asking = world.start();
    let relay = asking.open(root.clone(), None).await;
    for want in [
        Want::Mod(root.clone()),
        Want::Mod(dep.clone()),
        Want::Zip(root.clone()),
        Want::Zip(dep.clone()),
    ] {
        assert!(matches!(relay.want(want).await.0, Give::File { .. }));
    }
    drop(relay);
    let good = asking.closed().await.0;
    assert_eq!(good.len(), 2);

    let mut changed = good.clone();
    changed[0].h1 = Some("h1:x".into());
    for (locked, is_good) in [
        (good.clone(), true),
        (good[1..].to_vec(), false),
        (changed, false),
    ] {
        // In two parts, as a long one comes.
        asking.next += 1;
        let lock = Request {
            id: asking.next,
            ask: Ask::Lock {
                modules: locked[..1].to_vec(),
            },
        };
        asking.control.send(&lock, &[]).await.unwrap();
        asking.next -= 1;
        let relay = asking.open(root.clone(), Some(locked[1..].to_vec())).await;
        assert!(matches!(
            relay.want(Want::Mod(root.clone())).await.0,
            Give::File { .. }
        ));
        let (give, _) = relay.want(Want::Zip(dep.clone())).await;
        assert_eq!(matches!(give, Give::File { .. }), is_good, "{give:?}");
        drop(relay);
        let trouble = asking.closed().await.2;
        let kind = trouble.map(|trouble| trouble.kind);
        assert_eq!(kind, (!is_good).then_some(TroubleKind::Verify));
    }
}

#[tokio::test]
async fn names_are_resolved_as_go_does() {
    let mut world = small_world();
    let newest = "module example.com/dep\nretract v1.1.0 // broken\n";
    world.publish("example.com/dep", "v1.2.0-rc.1", &[("go.mod", newest)]);
    world.publish("example.com/dep", "v1.1.1", &[("go.mod", newest)]);
    let table = &world.database.table;
    table.put(
        &format!("{PROXY}/example.com/dep/@v/list"),
        b"v1.0.0\nv1.1.0\nv1.2.0-rc.1\nv1.1.1\n",
    );
    table.put(
        &format!("{PROXY}/example.com/dep/@v/trunk.info"),
        br#"{"Version":"v1.0.0"}"#,
    );
    table.put_status(&format!("{PROXY}/example.com/main/@v/list"), 403);
    let mut asking = world.start();
    let mut version = async |package: &str, query: &str| {
        asking
            .resolve(package, query)
            .await
            .map(|(member, warnings)| (member.path, member.version, warnings))
    };
    let dep = |version: &str| ("example.com/dep".to_owned(), version.to_owned(), Vec::new());
    assert_eq!(
        version("example.com/dep/cmd/x", "latest").await,
        Ok(dep("v1.1.1"))
    );
    assert_eq!(
        version("example.com/dep/cmd/x", "v1.0").await,
        Ok(dep("v1.0.0"))
    );
    assert_eq!(
        version("example.com/dep/cmd/x", "trunk").await,
        Ok(dep("v1.0.0"))
    );
    let (_, _, warnings) = version("example.com/dep/cmd/x", "v1.1.0").await.unwrap();
    assert_eq!(
        warnings,
        ["`example.com/dep@v1.1.0` was retracted by its author: broken"]
    );
    // A refused list does not matter for an exact version.
    let (_, main, warnings) = version("example.com/main", "v1.0.0").await.unwrap();
    assert_eq!((main.as_str(), warnings.len()), ("v1.0.0", 0));
    for (package, query) in [
        ("example.com/main", "latest"),
        ("example.com/none", "v1.0.0"),
        ("example.com/dep", "v1.7"),
    ] {
        let trouble = version(package, query).await.unwrap_err();
        assert_eq!(trouble.kind, TroubleKind::NotFound, "{package} {query}");
    }
    let long = format!("example.com{}", "/x".repeat(40));
    assert_eq!(
        version(&long, "v1.0.0").await.unwrap_err().kind,
        TroubleKind::NotFound
    );
}

#[tokio::test]
async fn of_two_modules_the_longest_that_holds_the_package_wins() {
    let mut world = World::new();
    let (outer, inner) = ("example.com/a", "example.com/a/b");
    world.publish(
        outer,
        "v1.0.0",
        &[("b/c/c.go", "package c\n"), ("b/d/x.txt", "")],
    );
    world.publish(inner, "v1.0.0", &[("d/d.go", "package d\n")]);
    let mut asking = world.start();
    assert_eq!(
        asking
            .resolve("example.com/a/b/c", "v1.0.0")
            .await
            .unwrap()
            .0
            .path,
        outer
    );
    assert_eq!(
        asking
            .resolve("example.com/a/b/d", "v1.0.0")
            .await
            .unwrap()
            .0
            .path,
        inner
    );
    assert!(asking.resolve("example.com/a/b/e", "v1.0.0").await.is_err());
}

#[tokio::test]
async fn an_sdk_is_unpacked_after_it_was_proven() {
    let mut world = World::new();
    let (path, version) = (
        "golang.org/toolchain",
        format!("v0.0.1-go1.26.7.{}", crate::spec::Target::HOST),
    );
    let files = [("bin/go", "\x7fELF"), ("src/_go.mod", "module std\n")];
    world.publish(path, &version, &files);
    let mut asking = world.start();
    let list = format!(
        "{version}\nv0.0.1-go1.27rc1.{}\n",
        crate::spec::Target::HOST
    );
    world
        .database
        .table
        .put(&format!("{PROXY}/{path}/@v/list"), list.as_bytes());
    let latest = asking
        .ask(Ask::LatestGo {
            query: "latest".into(),
        })
        .await;
    assert!(matches!(latest, Answer::Go { go } if go == "go1.26.7"));
    asking
        .send(
            Ask::Sdk {
                go: "go1.26.7".into(),
            },
            &[],
        )
        .await;
    let folder = loop {
        match asking.hear().await {
            (Answer::Progress { .. }, _) => {}
            (Answer::Sdk { .. }, folder) => break folder.unwrap(),
            (other, _) => panic!("{other:?}"),
        }
    };
    use std::os::fd::AsRawFd as _;
    let tree = std::path::PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    assert!(tree.join("src/go.mod").is_file() && tree.join("bin/go").is_file());
    assert!(matches!(
        asking
            .ask(Ask::SdkAdopted {
                go: "go1.26.7".into()
            })
            .await,
        Answer::Done
    ));
    assert_eq!(world.cached("staging"), 0);
    // Another SDK under its name: nothing is left.
    world.put(
        path,
        &version,
        "zip",
        &packed(path, &version, &[("bin/go", "evil")]),
    );
    let mut answer = asking
        .ask(Ask::Sdk {
            go: "go1.26.7".into(),
        })
        .await;
    while matches!(answer, Answer::Progress { .. }) {
        answer = asking.hear().await.0;
    }
    assert!(matches!(&answer, Answer::Trouble(trouble) if trouble.kind == TroubleKind::Verify));
    assert_eq!((world.cached("staging"), world.cached("tmp")), (0, 0));
}

#[tokio::test]
async fn shrinking_spares_what_a_session_reads() {
    let world = small_world();
    let mut asking = world.start();
    let (root, dep) = (
        member("example.com/main", "v1.0.0"),
        member("example.com/dep", "v1.0.0"),
    );
    let relay = asking.open(dep.clone(), None).await;
    assert!(matches!(
        relay.want(Want::Zip(dep)).await.0,
        Give::File { .. }
    ));
    drop(relay);
    asking.closed().await;
    let relay = asking.open(root.clone(), None).await;
    assert!(matches!(
        relay.want(Want::Zip(root)).await.0,
        Give::File { .. }
    ));
    assert!(matches!(asking.hear().await.0, Answer::Served { .. }));
    assert_eq!(world.cached("zip"), 2);
    assert!(matches!(
        asking.ask(Ask::Shrink { bytes_max: 0 }).await,
        Answer::Done
    ));
    assert_eq!(world.cached("zip"), 1);
    let Answer::Usage { bytes } = asking.ask(Ask::Usage).await else {
        panic!()
    };
    assert!(bytes > 0);
}

#[tokio::test]
async fn bad_questions_are_answered_and_the_role_lives_on() {
    let world = small_world();
    let mut asking = world.start();
    for ask in [
        Ask::Versions {
            module: "../../etc".into(),
        },
        Ask::Versions {
            module: "a".repeat(4000),
        },
        Ask::Resolve {
            module: None,
            package: "x\u{1b}[31m".into(),
            query: "latest".into(),
        },
        Ask::Resolve {
            module: Some("example.com/main".into()),
            package: "x".into(),
            query: "../..".into(),
        },
        Ask::Sdk {
            go: "go1.21".into(),
        },
        Ask::LatestGo {
            query: "go1.x".into(),
        },
        Ask::Open {
            root: Some(member("example.com/main", "latest")),
            locked: None,
        },
        Ask::Open {
            root: None,
            locked: None,
        }, // no socket
    ] {
        let answer = asking.ask(ask).await;
        let Answer::Trouble(trouble) = answer else {
            panic!("{answer:?}")
        };
        assert!(!trouble.text.contains('\u{1b}'));
    }
    assert!(asking.resolve("example.com/main", "v1.0.0").await.is_ok());
}
