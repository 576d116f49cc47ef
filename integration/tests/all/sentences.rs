//! Every way to fail has its own sentence, status and exit code, and the service lives on.

use hotcell_integration::{http, paths, sdk, service};

use crate::support::{build, refused};

/// Spec, code, and a part of the sentence.
const REFUSED: [(&str, &str, &str); 9] = [
    (
        "ex.example/replace@v1.0.0",
        "replace_directives",
        "replace directives",
    ),
    (
        "ex.example/nomain@v1.0.0",
        "no_main_package",
        "a library, not a program",
    ),
    ("ex.example/cgo@v1.0.0", "no_go_files", "without cgo"),
    ("ex.example/hello@v1.9.9", "not_found", "ex.example/hello"),
    (
        "ex.example/nowhere@v1.0.0",
        "not_found",
        "ex.example/nowhere",
    ),
    (
        "ex.example/syntax@v1.0.0",
        "build_failed",
        "could not build",
    ),
    (
        "ex.example/commands/cmd/three@v1.0.0",
        "no_such_package",
        "no package of this path",
    ),
    (
        "ex.example/incomplete@v1.0.0",
        "incomplete_go_mod",
        "go.mod is incomplete: needs ",
    ),
    (
        "ex.example/badmod@v1.0.0",
        "bad_go_mod",
        "go.mod cannot be read",
    ),
];

#[test]
fn every_refusal_has_its_own_sentence_and_exit_code_1() {
    let folder = paths::scratch("sentences");
    for (spec, code, sentence) in REFUSED {
        let ended = build(spec, &folder.path().join("binary"), &[]);
        refused(spec, &ended, 1, &[sentence, &format!("[{code}]"), "hint: "]);
    }
}

#[test]
fn the_service_answers_404_with_the_code_and_lives_on() {
    let service = service::service();
    for (spec, code, _) in REFUSED {
        let path = match spec.split_once("/cmd/") {
            None => spec.to_owned(),
            Some((module, rest)) => {
                let (dir, version) = rest.split_once('@').expect("a version");
                format!("{module}@{version}/cmd/{dir}")
            }
        };
        let base = format!("{}/{path}/linux-amd64-{}/", service.url(), sdk::GO);
        let answer = http::get(&format!("{base}record"));
        assert_eq!(answer.status, 404, "{spec}: {}", answer.text());
        assert!(answer.text().contains(code), "{spec}: {}", answer.text());
        let page = http::get(&base);
        assert!(
            [200, 404].contains(&page.status),
            "{spec}: the page is {}",
            page.status
        );
        assert!(service.lives(), "{spec}: {}", service.trace());
    }
    let answer = http::get(&format!(
        "{}{}",
        service.url(),
        service::record_path("ex.example/hello")
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_compilers_words_are_shown_when_it_could_not_build() {
    let folder = paths::scratch("sentences");
    let ended = build(
        "ex.example/syntax@v1.0.0",
        &folder.path().join("binary"),
        &[],
    );
    assert!(ended.err().contains("syntax error"), "{}", ended.err());
    let service = service::service();
    let base = format!(
        "{}{}",
        service.url(),
        service::build_path("ex.example/syntax")
    );
    http::get(&format!("{base}record"));
    let page = http::get(&base);
    assert!(page.text().contains("syntax error"), "{}", page.text());
}
