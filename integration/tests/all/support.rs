//! What several themes need.

use std::path::Path;

use hotcell_integration::{
    command::{Ended, Run},
    fake, host, paths, sdk,
    service::{self, Place},
};

/// Builds a fake module with the shared, warm caches; returns how it ended, after the file at
/// `output` was checked to be there or not, as it must.
pub(crate) fn build(spec: &str, output: &Path, more: &[&str]) -> Ended {
    let ended = service::user().build(spec, output, more);
    if ended.code == 0 {
        assert_eq!(
            host::sha256(output),
            ended.json()["sha256"],
            "{spec}: what was said is there"
        );
    } else {
        assert!(
            !output.exists(),
            "{spec}: nothing is written when a build fails"
        );
    }
    ended
}

/// Asserts that a command was refused with this exit code and a sentence that contains all parts.
pub(crate) fn refused(what: &str, ended: &Ended, code: i32, parts: &[&str]) {
    let said = ended.err();
    assert_eq!(ended.code, code, "{what}: {said}");
    for part in parts {
        assert!(said.contains(part), "{what}: no `{part}` in: {said}");
    }
    assert!(!said.contains("panicked"), "{what}: {said}");
}

/// The same build by the bare go command, without any cell: the SHA-256 of its binary.
pub(crate) fn bare_go(module: &str, name: &str) -> String {
    let folder = paths::scratch("bare");
    let proxy = fake::for_bare_go();
    Run::new("go")
        .args(["install", "-trimpath", "-ldflags=-buildid="])
        .arg(format!("{module}@v1.0.0"))
        .folder(folder.path())
        .env("GOPROXY", proxy.url())
        .env("GOSUMDB", proxy.verifier_key())
        .env("GOTOOLCHAIN", sdk::GO)
        .env("GOFLAGS", "-modcacherw")
        .env("GOPATH", folder.path().join("gopath"))
        .env("GOENV", "off")
        .env("CGO_ENABLED", "0")
        .succeed();
    host::sha256(&folder.path().join("gopath/bin").join(name))
}

/// Runs a program in a cell with the shared, warm caches.
pub(crate) fn in_cell(place: &Place, options: &[&str], program: &Path, args: &[&str]) -> Run {
    let options = ["cell", "run", "--json", "--go", sdk::GO]
        .iter()
        .chain(options)
        .copied();
    place.run(options).arg("--").arg(program).args(args)
}

/// What a program in a cell printed.
pub(crate) fn printed(ended: &Ended) -> String {
    let output = &ended.json()["output"];
    output
        .as_str()
        .unwrap_or_else(|| panic!("no output in {}", ended.out()))
        .to_owned()
}
