//! Files that are no policies.

use super::*;
use crate::policy::BUILD;

fn refused(text: &str) -> String {
    match Policy::parse("test", text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(PolicyError::Parse { source, .. }) => source.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_rule_without_a_reason_is_refused() {
    let reasons = BUILD.matches("why = \"").count();
    for index in 0..reasons {
        let (start, _) = BUILD.match_indices("why = \"").nth(index).unwrap();
        let end = start + BUILD[start..].find('\n').unwrap();
        let (before, after) = (&BUILD[..start], &BUILD[end..]);
        assert!(refused(&format!("{before}{after}")).contains("missing field `why`"));
        assert!(refused(&format!("{before}why = \" \"{after}")).contains("gives no reason"));
    }
}

#[test]
fn unknown_keys_are_refused() {
    for (line, with) in [
        ("format = 1", "format = 1\ndefault = \"allow\""),
        ("abi_required = 2", "abi_required = 2\nbest_effort = true"),
        ("name = \"ipc\"", "name = \"ipc\"\nshared = true"),
        ("optional = true", "optional = true\nforce = true"),
    ] {
        assert!(BUILD.contains(line));
        let text = BUILD.replacen(line, with, 1);
        assert!(refused(&text).contains("unknown field"), "{with}");
    }
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    for (line, with, why) in [
        ("format = 1", "format = 2", "is 2, not 1"),
        ("name = \"ipc\"", "name = \"time\"", "no such kind"),
        ("name = \"ipc\"", "name = \"uts\"", "twice"),
        ("name = \"net\"", "name = \"ipc\"", "twice"),
        (
            "path = \"/sdk\"\nkind",
            "path = \"/usr\"\nkind",
            "is always at",
        ),
        ("[\"ro\", \"noexec\"]", "[\"suid\"]", "no option `suid`"),
        ("abi_required = 2", "abi_required = 1", "abi_required"),
        (
            "rights = [\"execute\"]",
            "rights = [\"execute\", \"write\"]",
            "together",
        ),
        ("path = \"/sdk/bin/go\"", "path = \"/sdk/../go\"", "clean"),
        ("max = 2_048", "max = 0", "zero"),
        ("[limits.cpu_s]", "[limits.cpu]", "no such limit"),
        ("\"munmap\"", "\"moonmap\"", "no such call"),
        ("\"munmap\"", "\"read\"", "two rules"),
        ("answer = \"ENOTTY\"", "answer = \"EFUN\"", "no error"),
        ("answer = \"ENOTTY\"", "otherwise = \"ENOTTY\"", "goes with"),
        (
            "mask = 0xF, values = [1]",
            "mask = 0xF, values = [17]",
            "holds never",
        ),
        (
            "mask = 0xF, values = [1]",
            "mask = 0, values = [0]",
            "or always",
        ),
        (
            "values = [0, 6] }",
            "values = [0, 6, 262] }",
            "below the floor",
        ),
        (
            "mask = 0x7E020080, values = [0]",
            "mask = 0x80, values = [0]",
            "below the floor",
        ),
        (
            "path = \"/tmp\"\nrights = [\"read\", \"write\"]",
            "path = \"/sdk\"\nrights = [\"read\", \"write\"]",
            "writing together with executing",
        ),
        (
            "{ arg = 0, values = [2] }",
            "{ arg = 6, values = [2] }",
            "holds never",
        ),
        ("\"munmap\"", "\"unshare\"", "below the floor"),
    ] {
        assert!(BUILD.contains(line), "{line}");
        let error = refused(&BUILD.replacen(line, with, 1));
        assert!(error.contains(why), "{with}: {error}");
    }
}

#[test]
fn a_difference_cannot_touch_namespaces_or_allow_what_the_floor_forbids() {
    let head = "format = 1\nbase = \"build\"\nwhy = \"a reason that is one\"\n";
    let namespace = "[[namespace]]\nname = \"user\"\nwhy = \"a reason that is one\"\n";
    assert!(refused(&format!("{head}{namespace}")).contains("difference"));
    let place = |path: &str, kind: &str, options: &str| {
        let why = "why = \"a reason that is one\"";
        format!(
            "{head}[[place]]\npath = \"{path}\"\nkind = \"{kind}\"\noptions = [{options}]\n{why}\n"
        )
    };
    let sdk = place("/sdk", "sdk", "\"ro\"");
    assert!(refused(&sdk).contains("changes no place"));
    let writable = place("/sdk/bin/go", "command", "");
    assert!(refused(&writable).contains("below the floor"));
    let elsewhere = place("/home/go", "command", "\"ro\"");
    assert!(refused(&elsewhere).contains("always at `/sdk/bin/go`"));
    let call = "[[call]]\nnames = [\"bpf\"]\nwhy = \"a reason that is one\"\n";
    assert!(refused(&format!("{head}{call}")).contains("below the floor"));
    let call = "[[call]]\nnames = [\"read\"]\nwhy = \"a reason that is one\"\n";
    assert!(refused(&format!("{head}{call}")).contains("two rules"));
    assert!(refused(&head.replace("build", "other")).contains("only `build`"));
}
