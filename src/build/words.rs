//! What the go command's words mean, for failures that nobody else can explain.
//!
//! Called by [`super::ending`] when a job failed by itself. The text is hostile: it chooses among
//! our sentences, and at most a path of plain letters out of it is shown.

use super::{
    About, Failure, FailureClass,
    ending::{Failed, failure},
};

/// Longest path that is repeated from the go command's words.
const PATH_BYTES_MAX: usize = 200;

/// Code, sentence and remedy of an ending that the go command's words decide.
struct Phrase {
    /// What the go command prints, in releases 1.21 to 1.27.
    printed: &'static str,
    code: &'static str,
    sentence: &'static str,
    remedy: &'static str,
    /// The kernel knows better, but it does not tell: this is said to be a guess.
    guessed: bool,
}

const PHRASES: [Phrase; 26] = [
    Phrase {
        printed: "is not a main package",
        code: "no_main_package",
        sentence: "the package is a library, not a program",
        guessed: false,
        remedy: "name a package that says `package main`, often below cmd/",
    },
    Phrase {
        printed: "one or more replace directives",
        code: "replace_directives",
        sentence: "the module's go.mod has replace directives, which go install refuses",
        guessed: false,
        remedy: "ask its author for a release without them",
    },
    Phrase {
        printed: "one or more exclude directives",
        code: "replace_directives",
        sentence: "the module's go.mod has exclude directives, which go install refuses",
        guessed: false,
        remedy: "ask its author for a release without them",
    },
    Phrase {
        printed: "updates to go.mod needed",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs the changes that go mod tidy makes",
        guessed: false,
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "no required module provides package",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs a module that provides an imported package",
        guessed: false,
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "cannot find module providing package",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs a module that provides an imported package",
        guessed: false,
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "missing go.sum entry",
        code: "incomplete_go_mod",
        sentence: "go.mod is incomplete: needs an entry for a module that is used",
        guessed: false,
        remedy: "ask the module's author to run go mod tidy and release again",
    },
    Phrase {
        printed: "but does not contain package",
        code: "no_such_package",
        sentence: "the module has no package of this path",
        guessed: false,
        remedy: "look at the module's folders: the package is the path below the module",
    },
    Phrase {
        printed: "no Go files in",
        code: "no_such_package",
        sentence: "there are no Go files in this folder of the module",
        guessed: false,
        remedy: "look at the module's folders: the package is the path below the module",
    },
    Phrase {
        printed: "build constraints exclude all Go files",
        code: "no_go_files",
        sentence: "no Go file of a package is for this target without cgo",
        guessed: false,
        remedy: "packages that need a C compiler are not built here; try another target",
    },
    Phrase {
        printed: "requires external (cgo) linking",
        code: "target_unsupported",
        sentence: "this target needs a C linker, which a cell does not have",
        guessed: false,
        remedy: "choose another target",
    },
    Phrase {
        printed: "unsupported GOOS/GOARCH pair",
        code: "target_unsupported",
        sentence: "this Go release does not know the target",
        guessed: false,
        remedy: "choose another target or another Go release",
    },
    Phrase {
        printed: "(running go ",
        code: "needs_newer_go",
        sentence: "the module needs a newer Go release",
        guessed: false,
        remedy: "choose a newer release, or latest",
    },
    Phrase {
        printed: "requires go >= ",
        code: "needs_newer_go",
        sentence: "the module needs a newer Go release",
        guessed: false,
        remedy: "choose a newer release, or latest",
    },
    Phrase {
        printed: "no space left on device",
        code: "disk",
        sentence: "the build used all of its disk space",
        remedy: "ask the operator for a policy with more scratch space",
        guessed: true,
    },
    Phrase {
        printed: "file too large",
        code: "file_size",
        sentence: "the build wrote a longer file than it may",
        remedy: "ask the operator for a policy with longer files",
        guessed: true,
    },
    Phrase {
        printed: "file size limit exceeded",
        code: "file_size",
        sentence: "a process of the build wrote a longer file than it may",
        remedy: "ask the operator for a policy with longer files",
        guessed: true,
    },
    Phrase {
        printed: "too many open files",
        code: "files",
        sentence: "a process of the build opened more files than it may",
        remedy: "ask the operator for a policy with more open files",
        guessed: true,
    },
    Phrase {
        printed: "CPU time limit exceeded",
        code: "cpu",
        sentence: "a process of the build used all of its processor time",
        remedy: "ask the operator for a policy with more processor time",
        guessed: true,
    },
    Phrase {
        printed: "SIGXCPU: cpu limit exceeded",
        code: "cpu",
        sentence: "a process of the build used all of its processor time",
        remedy: "ask the operator for a policy with more processor time",
        guessed: true,
    },
    Phrase {
        printed: "cannot allocate memory",
        code: "memory",
        sentence: "a process of the build used all of its memory",
        remedy: "ask the operator for a policy with more memory",
        guessed: true,
    },
    Phrase {
        printed: "fatal error: runtime: out of memory",
        code: "memory",
        sentence: "a process of the build used all of its memory",
        remedy: "ask the operator for a policy with more memory",
        guessed: true,
    },
    Phrase {
        printed: "fatal error: out of memory",
        code: "memory",
        sentence: "a process of the build used all of its memory",
        remedy: "ask the operator for a policy with more memory",
        guessed: true,
    },
    Phrase {
        printed: "resource temporarily unavailable",
        code: "processes",
        sentence: "the build started more processes than it may",
        remedy: "ask the operator for a policy with more processes",
        guessed: true,
    },
    Phrase {
        printed: "signal: killed",
        code: "killed",
        sentence: "a process of the build was killed, most likely for want of memory",
        remedy: "ask the operator for more memory: for the policy, or for the machine",
        guessed: true,
    },
    Phrase {
        printed: "permission denied",
        code: "denied_path",
        sentence: "the go command was denied a path",
        remedy: "the build asked for something that no build needs; see its output",
        guessed: true,
    },
];

/// The go command failed by itself: find out what it means.
pub(super) fn of_words(failed: &Failed) -> Failure {
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
    let Some(phrase) = phrase else {
        return failure(
            "build_failed",
            FailureClass::CannotBuild,
            "the go command could not build it".to_owned(),
            "see its output",
        );
    };
    let path = (phrase.code == "denied_path")
        .then(|| denied(&printed))
        .flatten();
    let mut sentence = phrase.sentence.to_owned();
    if let Some(path) = &path {
        sentence = format!("{sentence}: `{path}`");
    }
    if phrase.guessed {
        sentence.push_str(" (guessed from its own words)");
    }
    let class = FailureClass::CannotBuild;
    let mut failure = failure(phrase.code, class, sentence, phrase.remedy);
    failure.about = Some(Box::new(About {
        guessed: phrase.guessed,
        path,
        ending: None,
    }));
    failure
}

/// The path in `open /some/where: permission denied`, when it is made of plain letters.
fn denied(printed: &str) -> Option<String> {
    let before = printed.split(": permission denied").next()?;
    let path = before.rsplit(' ').next()?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@~".contains(&b);
    let fits = path.len() <= PATH_BYTES_MAX && path.starts_with('/');
    (fits && path.bytes().all(plain)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::denied;

    #[test]
    fn a_denied_path_is_repeated_only_when_it_is_harmless() {
        let open = "go: open /etc/passwd: permission denied";
        assert_eq!(denied(open).as_deref(), Some("/etc/passwd"));
        let exec = "fork/exec /tmp/go-build1/b001/exe/a: permission denied and more";
        assert_eq!(denied(exec).as_deref(), Some("/tmp/go-build1/b001/exe/a"));
        let long = format!("open /{}: permission denied", "x".repeat(200));
        for text in [
            "permission denied",
            "open relative: permission denied",
            "open /a<b>: permission denied",
            "open /a\u{1b}[1m: permission denied",
            "open /ü: permission denied",
            &long,
        ] {
            assert_eq!(denied(text), None, "{text}");
        }
    }
}
