//! What can be executed in a cell: the go command and four tools, and nothing else.

use std::collections::BTreeMap;

use hotcell_integration::{hostile, service};

use crate::support::{in_cell, printed};

#[test]
fn only_the_toolchain_can_be_executed() {
    let program = hostile::program("execute");
    let ended = in_cell(service::user(), &["--keep-going"], &program, &[]).succeed();
    let text = printed(&ended);
    let lines: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let tool = |path: &str| {
        let mut parts = path.rsplit('/');
        let name = parts.next().unwrap_or_default();
        let allowed = ["compile", "asm", "link", "preprofile"].contains(&name);
        allowed && path.starts_with("/sdk/pkg/tool/linux_")
    };
    let (mut ran, mut refused, mut calls) = (Vec::new(), 0, 0);
    for (what, said) in &lines {
        assert!(
            !what.contains("cannot"),
            "the attempt was made: {what}: {said}"
        );
        if let Some(name) = what.strip_prefix("call ") {
            assert_eq!(*said, "trying", "{name} went through to the kernel");
            calls += 1;
        } else if *said == "ran" {
            assert!(*what == "/sdk/bin/go" || tool(what), "{what} was executed");
            ran.push(*what);
        } else {
            let missing = what.starts_with("/proc") || what.starts_with("/bin");
            let why = if missing {
                "no such file"
            } else {
                "permission denied"
            };
            assert!(said.contains(why), "{what}: {said}");
            refused += 1;
        }
    }
    assert_eq!(calls, 9, "{text}");
    // Landlock's newest rights and unknown calls are told where the kernel differs; that it could
    // not be compared is no answer.
    let lacks = &ended.json()["report"]["not_in_force"];
    assert!(
        lacks.is_array() && !lacks.to_string().contains("comparison with"),
        "{lacks}"
    );
    assert_eq!(ran.len(), 5, "a build needs these: {ran:?}");
    // Other tools of the SDK, 12 files that were written or moved, /dev/null and the like.
    assert!(refused > 20, "{text}");
    let others = lines
        .keys()
        .filter(|what| what.starts_with("/sdk/pkg/tool/"))
        .count();
    assert!(others > 4, "the SDK has other tools, such as vet: {text}");
}
