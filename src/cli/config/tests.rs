//! Tests of the file as a whole.

use std::{collections::BTreeSet, ffi::OsString, path::Path};

use clap::CommandFactory as _;

use super::{
    super::Cli,
    Live, Mistake,
    file::Settings,
    keys::{Keys, Kind},
    live::{Changes, LIVE},
    merge::given,
    print,
};

fn parse(text: &str) -> Result<Settings, Vec<Mistake>> {
    Settings::parse(text, Path::new("/etc/hotcell"))
}

fn mistakes(text: &str) -> Vec<String> {
    let found = parse(text).err().expect("it has mistakes");
    let found = found.iter().map(|one| one.at(Path::new("f.toml")));
    found.collect()
}

fn arguments(words: &[&str]) -> Vec<OsString> {
    let all = ["hotcell", "serve"].iter().chain(words);
    all.map(OsString::from).collect()
}

/// How `serve` stands with this file below this command line.
fn shown(text: &str, words: &[&str]) -> String {
    let arguments = arguments(words);
    let given = given(&arguments).unwrap();
    let (serve, network) = parse(text).unwrap().over(arguments, &given).unwrap();
    format!("{serve:?} {network:?}")
}

#[test]
fn every_option_of_serve_is_a_key_and_every_key_is_explained() {
    let mut command = Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").unwrap();
    let options: BTreeSet<&str> = serve
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .filter(|name| !["help", "version", "config"].contains(name))
        .collect();
    let all = Keys::new();
    let keys: BTreeSet<&str> = all.all().map(|key| key.name).collect();
    assert_eq!(keys, options);
    let printed = print::commented();
    for key in all.all() {
        assert!(key.help().len() > 10, "{}: no meaning", key.name);
        let line = format!("\n#{}\n", key.line());
        assert_eq!(printed.matches(&line).count(), 1, "{line}");
    }
    for name in LIVE {
        assert!(keys.contains(name), "{name}");
    }
}

#[test]
fn what_is_printed_means_the_defaults_with_and_without_its_marks() {
    let printed = print::commented();
    assert!(printed.lines().all(|line| line.chars().count() <= 100));
    assert_eq!(shown(&printed, &[]), shown("", &[]));
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let bare = |line: &str| match line.strip_prefix('#') {
        Some(rest) if is_key(line) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    let lines = Keys::new().all().count();
    let bared: String = printed.lines().map(bare).collect();
    let with_marks = printed
        .lines()
        .filter(|line| line.len() > 1 && is_key(line));
    assert_eq!(with_marks.count(), lines);
    // A path in a file is one below the file's folder.
    let default = shown("", &["--data", "/etc/hotcell/data"]);
    assert_eq!(shown(&bared, &[]), default);
}

#[test]
fn each_key_does_what_its_option_does() {
    for (text, words) in [
        ("listen = '[::1]:80'", &["--listen", "[::1]:80"][..]),
        ("max-builds = 0x10", &["--max-builds", "16"]),
        ("disk = 1_000", &["--disk", "1000"]),
        ("require-limits = true", &["--require-limits"]),
        ("data = 'd'", &["--data", "/etc/hotcell/d"]),
        ("data = '/d'", &["--data", "/d"]),
        ("policies = '../p'", &["--policies", "/etc/hotcell/../p"]),
        ("sumdb = ''", &[]),
        ("contact = '-x'", &["--contact=-x"]),
        ("notes = ['a', 'b']", &["--notes", "a", "--notes", "b"]),
        ("accept-weaker = ['m l']", &["--accept-weaker", "m l"]),
    ] {
        assert_eq!(shown(text, &[]), shown("", words), "{text}");
    }
    assert!(shown("goproxy = 'https://p.example'", &[]).contains("p.example"));
}

#[test]
fn the_command_line_counts_and_a_list_as_a_whole() {
    let text = "notes = ['a', 'b']\nname = 'a.example'\nlisten = '[::1]:80'\n";
    let words = ["--notes", "c", "--name", "localhost"];
    let wanted = [&words[..], &["--listen", "[::1]:80"]].concat();
    assert_eq!(shown(text, &words), shown("", &wanted));
    let line = arguments(&["--roles", "/run/hotcell"]);
    let given = given(&line).unwrap();
    let settings = parse("sign-dir = '/k'").unwrap();
    let both = settings.over(line, &given).err().unwrap();
    assert!(both.contains("--roles"), "{both}");
}

#[test]
fn all_mistakes_are_told_at_once_with_line_and_remedy() {
    let text = "max_builds = 2\nlisten = 'localhost'\n\nmax-builds = '2'\ndisk = 0\n\
                notes = 'x'\n[log]\nname = 1\nqqqqqq = 1\n";
    let found = mistakes(text);
    let wanted = [
        "f.toml:1: max_builds: is no key: write max-builds",
        "f.toml:2: listen: invalid socket address syntax: write listen = \"127.0.0.1:8000\"",
        "f.toml:4: max-builds: is of type string, not integer: write max-builds = 4",
        "f.toml:5: disk: 0 is not in 1..=1073741824: write disk = 4",
        "f.toml:6: notes: is of type string, not array: write notes = [\"TEXT\"]",
        "f.toml:7: log: is no key: ",
    ];
    for (found, wanted) in found.iter().zip(wanted) {
        assert!(found.starts_with(wanted), "{found}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:?}");
}

#[test]
fn the_key_that_is_there_is_named_and_not_one_that_is_missing() {
    for (text, wanted) in [
        ("tls-cert = '/c'", "tls-cert: --tls-cert needs --tls-key"),
        ("tls-key = '/k'", "tls-key: --tls-key needs --tls-cert"),
        ("redirect = '127.0.0.1:80'", "redirect: --redirect sends"),
        (
            "acme-contact = 'a@b.example'",
            "acme-contact: --acme-contact is",
        ),
        (
            "withdrawn = ['a.b/m@v1.0.0/ 452 foo']",
            "withdrawn: `452` is no status of a download",
        ),
    ] {
        let found = mistakes(text);
        let is_told = |one: &String| one.contains(wanted);
        assert!(found.iter().any(is_told), "{found:?}");
    }
    let both = mistakes("listen = '[::1]:80'\nredirect = '127.0.0.1:80'\ntls-cert = '/c'");
    assert_eq!(both.len(), 1, "{both:?}");
    assert!(both[0].starts_with("f.toml:3: tls-cert: "), "{both:?}");
    for reason in ["foo", "410 foo", "451 foo", "4520 foo", "099 foo"] {
        parse(&format!("withdrawn = ['a.b/m@v1.0.0/ {reason}']")).unwrap();
    }
}

#[test]
fn what_is_wrong_only_together_is_told_too() {
    let found = mistakes("admin = '127.0.0.1:8000'\nname = 'A B'\nverifiers-quorum = 2\n");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("f.toml:1: admin: "), "{found:?}");
    assert!(found[1].starts_with("f.toml:2: name: "), "{found:?}");
    assert!(
        found[2].starts_with("f.toml:3: verifiers-quorum: "),
        "{found:?}"
    );
    // The wrong line is told, not what follows from it.
    let found = mistakes("verifier = ['x']\nverifiers-quorum = 1\n");
    assert_eq!(found.len(), 1, "{found:?}");
    let found = mistakes("roles = '/r'\nsign-dir = '/s'\n");
    assert!(found[0].contains("--roles"), "{found:?}");
    let many = format!("notes = [{}]", "'x',".repeat(17));
    assert!(mistakes(&many)[0].contains("16 at most"));
}

#[test]
fn no_text_however_broken_is_taken_or_shown_with_its_values() {
    for text in [
        "listen",
        "listen = ",
        "listen = \"127.0.0.1:8000",
        "= 1",
        "name = 'a'\nname = 'b'",
        "notes = ['a'",
        "notes = [1]",
        "notes = ['']",
        "notes = [\"a\\u0007\"]",
        "disk = 1.5",
        "disk = -1",
        "disk = 99999999999999999999",
        "require-limits = 'yes'",
        "data = ''",
        "name = ''",
        "goproxy = ['https://u:secret@p.example']",
        "goproxy = 'ftp://u:secret@p.example'",
        "goproxy = 'https://u:secret@p.example",
        "config = 'f'",
        "help = true",
        "\u{0}",
    ] {
        let found = mistakes(text);
        assert!(!found.is_empty(), "{text}");
        let secret = found.iter().any(|line| line.contains("secret"));
        assert!(!secret, "{found:?}");
    }
}

#[test]
fn the_nearest_name_is_the_one_that_was_meant() {
    let keys = Keys::new();
    for (typed, meant) in [
        ("Listen", Some("listen")),
        ("lisen", Some("listen")),
        ("max_builds", Some("max-builds")),
        ("note", Some("notes")),
        ("verifier-quorum", Some("verifiers-quorum")),
        ("witnesses", Some("witness")),
        ("zzz", None),
    ] {
        assert_eq!(keys.nearest(typed), meant, "{typed}");
    }
    assert_eq!(keys.find("disk").unwrap().kind(), Kind::Number);
    assert_eq!(keys.find("max-builds").unwrap().kind(), Kind::Number);
    assert_eq!(keys.find("data").unwrap().kind(), Kind::Path);
}

#[test]
fn a_file_that_was_read_again_changes_what_it_can_and_names_the_rest() {
    let words = ["--name", "localhost"];
    let line = arguments(&words);
    let given = given(&line).unwrap();
    let start = "notes = ['a']\nname = 'x.example'\ndisk = 5\n";
    let folder = Path::new("/etc/hotcell");
    let path = folder.join("hotcell.toml");
    let in_force = parse(start).unwrap();
    let mut live = Live::new(&path, folder.to_owned(), line, given, in_force);
    let changes = live.read(start).unwrap();
    assert_eq!((&changes.applied, &changes.waiting), (&vec![], &vec![]));
    assert_eq!(changes.told.notes, ["a"]);
    let later = "notes = ['b']\ncontact = 'c'\nname = 'y.example'\ndisk = 6\n";
    assert!(live.read("notes = 'b'\ndisk = 6").is_err());
    let changes = live.read(later).unwrap();
    let names = |changes: &Changes| (changes.applied.clone(), changes.waiting.clone());
    let applied = vec!["contact".to_owned(), "notes".to_owned()];
    assert_eq!(names(&changes), (applied, vec!["disk".to_owned()]));
    assert_eq!(changes.hidden, ["name"]);
    assert_eq!(changes.told.notes, ["b"]);
    assert_eq!(changes.told.contact.as_deref(), Some("c"));
    // What is in force is no news; what waits is said again.
    let changes = live.read(later).unwrap();
    assert_eq!(names(&changes), (vec![], vec!["disk".to_owned()]));
    let changes = live.read(start).unwrap();
    assert_eq!(changes.told.contact, None);
    assert_eq!(changes.applied.len(), 2);
}
