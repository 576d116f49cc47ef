//! The inputs of a build depend on its spec alone, never on what is newest today.

use hotcell_integration::{fake, paths};

use crate::support::{build, refused};

#[test]
fn an_incomplete_go_mod_is_refused_while_newer_versions_are_on_the_proxy() {
    let folder = paths::scratch("gomod");
    for module in ["incomplete", "untidy"] {
        let output = folder.path().join(module);
        let ended = build(&format!("ex.example/{module}@v1.0.0"), &output, &[]);
        refused(
            module,
            &ended,
            1,
            &[
                "go.mod is incomplete: needs ",
                "[incomplete_go_mod]",
                "hint: ",
            ],
        );
    }
}

#[test]
fn the_version_that_go_mod_names_is_built_and_no_newer_one() {
    let folder = paths::scratch("gomod");
    let output = folder.path().join("deps");
    let ended = build("ex.example/deps@v1.0.0", &output, &[]);
    assert_eq!(ended.code, 0, "{}", ended.err());
    let told = ended.json();
    let modules = told["modules"].as_array().expect("a list of modules");
    let text = |module: &serde_json::Value, name: &str| {
        module[name].as_str().unwrap_or_default().to_owned()
    };
    let found: Vec<_> = modules
        .iter()
        .map(|module| format!("{}@{}", text(module, "path"), text(module, "version")))
        .collect();
    assert_eq!(
        found,
        ["ex.example/deps@v1.0.0", "ex.example/lib@v1.0.0"],
        "{told}"
    );
    let printed = hotcell_integration::command::Run::new(&output).succeed();
    assert_eq!(printed.err().trim(), "lib v1.0.0");
}

#[test]
fn no_version_list_of_a_dependency_and_no_newest_version_is_ever_asked_upstream() {
    let folder = paths::scratch("gomod");
    for module in ["deps", "tidy", "incomplete", "untidy"] {
        build(
            &format!("ex.example/{module}@v1.0.0"),
            &folder.path().join(module),
            &[],
        );
    }
    for dependency in ["lib", "a", "b"] {
        for newer in ["@v/list", "@latest", "@v/v1.1.0", "@v/v1.2.0"] {
            let asked = fake::shared().asked_for(&format!("/ex.example/{dependency}/{newer}"));
            assert!(asked.is_empty(), "{asked:?}");
        }
    }
}
