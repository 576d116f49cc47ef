//! Endings: every way in which a build fails, with its stable code, a sentence and a remedy.
//!
//! The supervisor and the relay say what they know; the rest is read from what the go command
//! printed, which is hostile text: it chooses among our sentences, it never becomes one.

use hotcell_sandbox::wire::{CancelReason, Ending};

use super::{CellSummary, Failure, FailureClass};
use crate::{
    fetch::wire::{Trouble, TroubleKind},
    output::Output,
};

/// Code, sentence and remedy of an ending that the go command's words decide.
struct Phrase {
    /// What the go command prints, in releases 1.21 to 1.27.
    printed: &'static str,
    code: &'static str,
    sentence: &'static str,
    remedy: &'static str,
}

const PHRASES: [Phrase; 19] = [
    Phrase {
        printed: "is not a main package",
        code: "no_main_package",
        sentence: "the package is a library, not a program",
        remedy: "name a package that says `package main`, often below cmd/",
    },
    Phrase {
        printed: "one or more replace directives",
        code: "replace_directives",
        sentence: "the module's go.mod has replace directives, which go install refuses",
        remedy: "ask its author for a release without them",
    },
    Phrase {
        printed: "one or more exclude directives",
        code: "replace_directives",
        sentence: "the module's go.mod has exclude directives, which go install refuses",
        remedy: "ask its author for a release without them",
    },
    Phrase {
        printed: "updates to go.mod needed",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs the changes that go mod tidy makes",
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "no required module provides package",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs a module that provides an imported package",
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "cannot find module providing package",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs a module that provides an imported package",
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "missing go.sum entry",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs an entry for a module that is used",
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "but does not contain package",
        code: "no_such_package",
        sentence: "the module has no package of this path",
        remedy: "look at the module's folders: the package is the path below the module",
    },
    Phrase {
        printed: "no Go files in",
        code: "no_such_package",
        sentence: "there are no Go files in this folder of the module",
        remedy: "look at the module's folders: the package is the path below the module",
    },
    Phrase {
        printed: "build constraints exclude all Go files",
        code: "no_go_files",
        sentence: "no Go file of a package is for this target without cgo",
        remedy: "packages that need a C compiler are not built here; try another target",
    },
    Phrase {
        printed: "requires external (cgo) linking",
        code: "target_unsupported",
        sentence: "this target needs a C linker, which a cell does not have",
        remedy: "choose another target",
    },
    Phrase {
        printed: "unsupported GOOS/GOARCH pair",
        code: "target_unsupported",
        sentence: "this Go release does not know the target",
        remedy: "choose another target or another Go release",
    },
    Phrase {
        printed: "(running go ",
        code: "needs_newer_go",
        sentence: "the module needs a newer Go release",
        remedy: "choose a newer release, or latest",
    },
    Phrase {
        printed: "requires go >= ",
        code: "needs_newer_go",
        sentence: "the module needs a newer Go release",
        remedy: "choose a newer release, or latest",
    },
    Phrase {
        printed: "no space left on device",
        code: "disk",
        sentence: "the build used all of its disk space",
        remedy: "ask the operator for a policy with more scratch space",
    },
    Phrase {
        printed: "cannot allocate memory",
        code: "memory",
        sentence: "the build used all of its memory",
        remedy: "ask the operator for a policy with more memory",
    },
    Phrase {
        printed: "resource temporarily unavailable",
        code: "processes",
        sentence: "the build started more processes than it may",
        remedy: "ask the operator for a policy with more processes",
    },
    Phrase {
        printed: "signal: killed",
        code: "memory",
        sentence: "a process of the build was killed, most likely for want of memory",
        remedy: "ask the operator for a policy with more memory",
    },
    Phrase {
        printed: "permission denied",
        code: "denied_path",
        sentence: "the go command was denied a path (guessed from its own message)",
        remedy: "the build asked for something that no build needs; see its output",
    },
];

/// Turns trouble of the fetcher into a failure.
#[must_use]
pub fn of_trouble(trouble: Trouble) -> Failure {
    let (code, class, remedy) = match trouble.kind {
        TroubleKind::NotFound => (
            "not_found",
            FailureClass::CannotBuild,
            "check the spelling of module and version; it must be public",
        ),
        TroubleKind::Proxy => (
            "proxy",
            FailureClass::Proxy,
            "try again later, or configure another module proxy",
        ),
        TroubleKind::Verify => (
            "verification",
            FailureClass::Verify,
            "do not use this module proxy until somebody has found out why",
        ),
        TroubleKind::Module => (
            "module_refused",
            FailureClass::CannotBuild,
            "ask the module's author for a release that keeps Go's rules for modules",
        ),
        TroubleKind::Internal => (
            "internal",
            FailureClass::Internal,
            "see the trace of hotcell",
        ),
    };
    failure(code, class, trouble.text, remedy)
}

/// A failure without a cell.
#[must_use]
pub fn failure(code: &str, class: FailureClass, sentence: String, remedy: &str) -> Failure {
    Failure {
        code: code.to_owned(),
        class,
        sentence,
        remedy: remedy.to_owned(),
        output: Output::default(),
        cell: None,
    }
}

/// What is known of a cell that did not bring a binary.
#[derive(Debug)]
pub struct Failed {
    /// How it ended.
    pub ending: Ending,
    /// First request outside the grammar of the module proxy protocol.
    pub refused: Option<String>,
    /// Modules whose version list was asked for although nobody may.
    pub missing: Vec<String>,
    /// First trouble of the fetcher.
    pub trouble: Option<Trouble>,
    /// What it printed.
    pub output: Output,
    /// What held it.
    pub cell: CellSummary,
}

/// Says why a cell brought no binary.
#[must_use]
pub fn of_cell(failed: Failed) -> Failure {
    let mut failure = sort(&failed);
    failure.output = failed.output;
    let ending = failure.code.clone();
    failure.cell = Some(Box::new(CellSummary {
        ending,
        ..failed.cell
    }));
    failure
}

fn sort(failed: &Failed) -> Failure {
    if let Some(trouble) = &failed.trouble {
        return of_trouble(trouble.clone());
    }
    let cannot = |code: &str, sentence: String, remedy: &str| {
        failure(code, FailureClass::CannotBuild, sentence, remedy)
    };
    match &failed.ending {
        Ending::ForbiddenCall {
            call,
            number,
            args,
            ip,
        } => {
            let args: Vec<_> = args.iter().map(|arg| format!("{arg:#x}")).collect();
            let sentence = format!(
                "forbidden system call {call} ({number}) with {} at {ip:#x}",
                args.join(", ")
            );
            cannot(
                "forbidden_call",
                sentence,
                "no build needs this call: look at the module",
            )
        }
        Ending::Wall { limit_ms } => {
            let sentence = format!("the build took longer than {} s", limit_ms / 1000);
            cannot(
                "wall_clock",
                sentence,
                "ask the operator for a policy with more time",
            )
        }
        Ending::Cpu { limit_s } => {
            let sentence = format!("the build used more than {limit_s} s of processor time");
            cannot(
                "cpu",
                sentence,
                "ask the operator for a policy with more time",
            )
        }
        Ending::Cancelled { why } => of_cancel(*why, failed),
        Ending::Setup { step, error } => {
            let sentence = format!("the cell could not be made: {step}: {error}");
            failure(
                "setup",
                FailureClass::Internal,
                sentence,
                "run hotcell doctor on this host",
            )
        }
        Ending::Signal { signal } => {
            let sentence = format!("the go command was ended by signal {signal}");
            cannot(
                "signal",
                sentence,
                "see the output; the SDK may not run on this kernel",
            )
        }
        Ending::Success | Ending::Failed { .. } => of_words(failed),
    }
}

fn of_cancel(why: CancelReason, failed: &Failed) -> Failure {
    let cannot = |code: &str, sentence: &str, remedy: &str| {
        failure(code, FailureClass::CannotBuild, sentence.to_owned(), remedy)
    };
    match why {
        CancelReason::Unwanted => failure(
            "cancelled",
            FailureClass::Internal,
            "the build was cancelled".to_owned(),
            "ask again",
        ),
        CancelReason::Silence => cannot(
            "silence",
            "the build neither printed nor asked for anything for too long",
            "ask the operator for a policy with a longer silence",
        ),
        CancelReason::Output => cannot(
            "output",
            "the build printed more than it may",
            "see what it printed: a compiler that prints so much has no end",
        ),
        CancelReason::Request => {
            let what = failed.refused.as_deref().unwrap_or("a request");
            let sentence = format!("the build asked for what no go command asks for: `{what}`");
            cannot(
                "refused_request",
                &sentence,
                "look at the module and at the Go release",
            )
        }
        CancelReason::Relay => failure(
            "relay_gone",
            FailureClass::Internal,
            "the relay of the cell ended early".to_owned(),
            "ask again; see the trace of hotcell when it happens twice",
        ),
    }
}

/// The go command failed by itself: find out what it means.
fn of_words(failed: &Failed) -> Failure {
    if let Some(module) = failed.missing.first() {
        return failure(
            "incomplete_go_mod",
            FailureClass::CannotBuild,
            format!("go.mod is incomplete: needs {module}"),
            "ask the module's author to run go mod tidy and release again",
        );
    }
    // The go command breaks its longer sentences into lines.
    let printed = failed.output.terminal();
    let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    let phrase = PHRASES
        .iter()
        .find(|phrase| printed.contains(phrase.printed));
    match phrase {
        Some(phrase) => failure(
            phrase.code,
            FailureClass::CannotBuild,
            phrase.sentence.to_owned(),
            phrase.remedy,
        ),
        None => failure(
            "build_failed",
            FailureClass::CannotBuild,
            "the go command could not build it".to_owned(),
            "see its output",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(ending: Ending, output: &str) -> Failed {
        Failed {
            ending,
            refused: None,
            missing: Vec::new(),
            trouble: None,
            output: Output::from(output.as_bytes().to_vec()),
            cell: CellSummary::default(),
        }
    }

    #[test]
    fn words_of_the_go_command_choose_a_sentence() {
        for (printed, code) in [
            ("package a.b/c is not a main package", "no_main_package"),
            (
                "contains one or\n\tmore replace directives. It",
                "replace_directives",
            ),
            ("go: updates to go.mod needed", "incomplete_go_mod"),
            (
                "x.go:3:8: no required module provides package d.e/f",
                "incomplete_go_mod",
            ),
            ("x.go:1:1: syntax error: unexpected }", "build_failed"),
            (
                "module requires go >= 1.99 (running go 1.26.8)",
                "needs_newer_go",
            ),
        ] {
            let failure = of_cell(failed(Ending::Failed { status: 1 }, printed));
            assert_eq!(failure.code, code, "{printed}");
            assert_eq!(failure.cell.unwrap().ending, code);
        }
    }

    #[test]
    fn the_fetchers_trouble_comes_before_the_go_commands_words() {
        let mut failed = failed(Ending::Failed { status: 1 }, "is not a main package");
        failed.missing = vec!["d.e/f".to_owned()];
        assert_eq!(
            of_cell(failed).sentence,
            "go.mod is incomplete: needs d.e/f"
        );
        let mut failed = self::failed(Ending::Failed { status: 1 }, "");
        failed.trouble = Some(Trouble {
            kind: TroubleKind::Verify,
            text: "lie".to_owned(),
        });
        assert_eq!(of_cell(failed).class, FailureClass::Verify);
    }

    #[test]
    fn a_forbidden_call_is_told_with_number_and_arguments() {
        let ending = Ending::ForbiddenCall {
            call: "ptrace".to_owned(),
            number: 101,
            args: [16, 1, 0, 0, 0, 0],
            ip: 0x40_1000,
        };
        let failure = of_cell(failed(ending, ""));
        assert_eq!(failure.code, "forbidden_call");
        let start = "forbidden system call ptrace (101) with 0x10, 0x1,";
        assert!(failure.sentence.starts_with(start), "{}", failure.sentence);
    }
}
