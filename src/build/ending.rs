//! Endings: every way in which a build fails, with its stable code, a sentence and a remedy.
//!
//! The supervisor and the relay say what they know; the rest is read from what the go command
//! printed ([`super::words`]).

use std::{fmt, time::Duration};

use hotcell_sandbox::wire::{CancelReason, Ending};

use super::{CellSummary, EnginePolicy, Failure, FailureClass, ProgramRun, words};
use crate::{
    fetch::wire::{Trouble, TroubleKind},
    output::Output,
    spec::GoVersion,
};

/// What to do about a failure of ours: a visitor of a service cannot look, its operator can.
pub(crate) const IN_TRACE: &str = "try again; if it stays, whoever runs hotcell finds the cause in \
                                   its trace, or with hotcell doctor";

/// No build has a release that may not stand in a log.
pub(crate) fn go_too_old(go: impl fmt::Display) -> Failure {
    let oldest = GoVersion::OLDEST_LOGGED;
    let sentence = format!("{go} is not built here: the oldest is {oldest}");
    let remedy = "choose a newer release; https://go.dev/dl/ lists them";
    failure("go_too_old", FailureClass::CannotBuild, sentence, remedy)
}

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
        TroubleKind::Internal => ("internal", FailureClass::Internal, IN_TRACE),
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
        about: None,
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
    /// Longest time without output and request, which the asker watches over.
    pub silence: Duration,
    /// Most bytes of output, likewise.
    pub output_bytes_max: usize,
}

/// Says why a program in the place of the go command did not end well.
#[must_use]
pub fn of_program(run: &ProgramRun, policy: &EnginePolicy) -> Failure {
    of_cell(Failed {
        ending: run.ending.clone(),
        refused: run.refused.clone(),
        missing: Vec::new(),
        trouble: None,
        output: Output::default(),
        cell: CellSummary {
            policy: policy.name.clone(),
            ..CellSummary::default()
        },
        silence: policy.silence,
        output_bytes_max: policy.output_bytes_max,
    })
}

/// Says why a cell brought no binary.
#[must_use]
pub fn of_cell(failed: Failed) -> Failure {
    let mut failure = sort(&failed);
    let about = failure.about.get_or_insert_default();
    // Status and signal say nothing that the sentence does not.
    let typed = !matches!(
        failed.ending,
        Ending::Success | Ending::Failed { .. } | Ending::Signal { .. }
    );
    about.ending = typed.then(|| failed.ending.clone());
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
        Ending::Wall { .. }
        | Ending::Cpu { .. }
        | Ending::Memory { .. }
        | Ending::Processes { .. }
        | Ending::Disk { .. }
        | Ending::Inodes { .. }
        | Ending::FileSize { .. } => of_limit(&failed.ending),
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
        Ending::Success | Ending::Failed { .. } => words::of_words(failed),
    }
}

/// A limit that the supervisor or the kernel kept, with its numbers.
fn of_limit(ending: &Ending) -> Failure {
    let mib = |bytes: u64| bytes >> 20;
    let (code, sentence, more) = match *ending {
        Ending::Wall { limit_ms } => (
            "wall_clock",
            format!("the build took longer than {} s", limit_ms / 1000),
            "more time",
        ),
        Ending::Cpu { limit_s } => (
            "cpu",
            format!("the build used more than {limit_s} s of processor time"),
            "more processor time",
        ),
        Ending::Memory { limit_bytes, .. } => (
            "memory",
            format!(
                "the build used all of its {} MiB of memory",
                mib(limit_bytes)
            ),
            "more memory",
        ),
        Ending::Processes { limit } => (
            "processes",
            format!("the build started more than {limit} threads and processes"),
            "more processes",
        ),
        Ending::Disk { limit_bytes, .. } => (
            "disk",
            format!(
                "the build used all of its {} MiB of disk space",
                mib(limit_bytes)
            ),
            "more scratch space",
        ),
        Ending::Inodes { limit, .. } => (
            "inodes",
            format!("the build made more than {limit} files and folders"),
            "more files on its scratch space",
        ),
        Ending::FileSize { limit_bytes } => (
            "file_size",
            format!(
                "the build wrote a file of more than {} MiB",
                mib(limit_bytes)
            ),
            "longer files",
        ),
        _ => ("limit", "the build reached a limit".to_owned(), "more"),
    };
    let remedy = format!("ask the operator for a policy with {more}");
    failure(code, FailureClass::CannotBuild, sentence, &remedy)
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
            &format!(
                "the build neither printed nor asked for anything for {} s",
                failed.silence.as_secs()
            ),
            "ask the operator for a policy with a longer silence",
        ),
        CancelReason::Output => cannot(
            "output",
            &format!(
                "the build printed more than {} bytes",
                failed.output_bytes_max
            ),
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
        CancelReason::PutAway => failure(
            "store_changed",
            FailureClass::Busy,
            "the SDK or the frozen standard library of the build is not what it was".to_owned(),
            "ask again: it is fetched afresh; the operator has to look at the store",
        ),
        CancelReason::Relay => failure(
            "relay_gone",
            FailureClass::Internal,
            "the relay of the cell ended early".to_owned(),
            IN_TRACE,
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
            silence: Duration::from_secs(600),
            output_bytes_max: 4096,
        }
    }

    #[test]
    fn every_limit_is_told_with_its_number_and_a_way_out() {
        let limits = [
            (Ending::Wall { limit_ms: 7_000 }, "wall_clock", "7 s"),
            (Ending::Cpu { limit_s: 7 }, "cpu", "7 s"),
            (
                Ending::Memory {
                    limit_bytes: 7 << 20,
                    peak_bytes: 7 << 20,
                },
                "memory",
                "7 MiB",
            ),
            (Ending::Processes { limit: 7 }, "processes", "7 threads"),
            (
                Ending::Disk {
                    limit_bytes: 7 << 20,
                    used_bytes: 7 << 20,
                },
                "disk",
                "7 MiB",
            ),
            (Ending::Inodes { limit: 7, used: 7 }, "inodes", "7 files"),
            (
                Ending::FileSize {
                    limit_bytes: 7 << 20,
                },
                "file_size",
                "7 MiB",
            ),
            (
                Ending::Cancelled {
                    why: CancelReason::Silence,
                },
                "silence",
                "600 s",
            ),
            (
                Ending::Cancelled {
                    why: CancelReason::Output,
                },
                "output",
                "4096 bytes",
            ),
        ];
        for (ending, code, number) in limits {
            // What the kernel told is never overruled by words.
            let failure = of_cell(failed(ending.clone(), "no space left on device"));
            assert_eq!(failure.code, code);
            assert!(failure.sentence.contains(number), "{}", failure.sentence);
            assert!(!failure.remedy.is_empty());
            let about = failure.about.unwrap();
            assert_eq!((about.ending, about.guessed), (Some(ending), false));
        }
    }

    #[test]
    fn what_only_words_tell_is_marked_as_a_guess() {
        for (printed, code) in [
            ("write /tmp/x: no space left on device", "disk"),
            ("write /tmp/x: file too large", "file_size"),
            ("open /tmp/x: too many open files", "files"),
            ("compile: signal: CPU time limit exceeded", "cpu"),
            ("fork/exec: resource temporarily unavailable", "processes"),
            ("compile: signal: killed", "killed"),
            ("open /etc/shadow: permission denied", "denied_path"),
        ] {
            let failure = of_cell(failed(Ending::Failed { status: 1 }, printed));
            assert_eq!(failure.code, code, "{printed}");
            assert!(failure.sentence.contains("guessed"), "{}", failure.sentence);
            let about = failure.about.unwrap();
            assert!(about.guessed && about.ending.is_none());
            let path = (code == "denied_path").then(|| "/etc/shadow".to_owned());
            assert_eq!(about.path, path);
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
            (
                "fatal error: runtime: out of memory\n\ngoroutine 1",
                "memory",
            ),
            (
                "fatal error: out of memory allocating heap arena metadata",
                "memory",
            ),
            ("x.go:1:1: syntax error: unexpected }", "build_failed"),
            (
                "go: m@v1.0.0: parsing go.mod:\n\tmodule declares its path as: a.example/real\n\t \
                 but was required as: b.example/fork",
                "module_path_mismatch",
            ),
            (
                "x.go:3:12: pattern dist/*: no matching files found",
                "embed_missing",
            ),
            (
                "package x: C source files not allowed when not using cgo or SWIG: a.c",
                "needs_cgo",
            ),
            (
                "x.go:4:2: package iter is not in std (/sdk/src/iter)",
                "no_std_package",
            ),
            (
                "x.go:9:1: bad\nnote: module requires Go 1.27",
                "needs_newer_go",
            ),
            (
                "link: m: invalid reference to runtime.x",
                "linkname_refused",
            ),
            (
                "go.mod:3: invalid go version '1.21.0': must match",
                "needs_newer_go",
            ),
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
