//! What the go command prints when a build fails, and what that means.
//!
//! Data only; read by [`super::words`]. The first phrase that was printed counts, so what says more
//! stands before what says less.

/// Code, sentence and remedy of an ending that the go command's words decide.
pub(super) struct Phrase {
    /// What the go command prints, in releases 1.21 to 1.27.
    pub(super) printed: &'static str,
    pub(super) code: &'static str,
    pub(super) sentence: &'static str,
    pub(super) remedy: &'static str,
    /// The kernel knows better, but it does not tell: this is said to be a guess.
    pub(super) guessed: bool,
}

/// The go command's own reasons.
const fn told(
    printed: &'static str,
    code: &'static str,
    sentence: &'static str,
    remedy: &'static str,
) -> Phrase {
    let guessed = false;
    Phrase {
        printed,
        code,
        sentence,
        remedy,
        guessed,
    }
}

/// The kernel's, which the go command repeats.
const fn guess(
    printed: &'static str,
    code: &'static str,
    sentence: &'static str,
    remedy: &'static str,
) -> Phrase {
    Phrase {
        guessed: true,
        ..told(printed, code, sentence, remedy)
    }
}

pub(super) const PHRASES: [Phrase; 41] = [
    told(
        "module declares its path as:",
        "module_path_mismatch",
        "the module calls itself by another path",
        "ask for the path that its go.mod names",
    ),
    told(
        "is not a main package",
        "no_main_package",
        "the package is a library, not a program",
        "name a package that says `package main`, often below cmd/",
    ),
    told(
        "one or more replace directives",
        "replace_directives",
        "the module's go.mod has replace directives, which go install refuses",
        "ask its author for a release without them",
    ),
    told(
        "one or more exclude directives",
        "replace_directives",
        "the module's go.mod has exclude directives, which go install refuses",
        "ask its author for a release without them",
    ),
    told(
        "updates to go.mod needed",
        "incomplete_go_mod",
        "go.mod is incomplete: needs the changes that go mod tidy makes",
        "ask the module's author to run go mod tidy and release again",
    ),
    told(
        "no required module provides package",
        "incomplete_go_mod",
        "go.mod is incomplete: needs a module that provides an imported package",
        "ask the module's author to run go mod tidy and release again",
    ),
    told(
        "cannot find module providing package",
        "incomplete_go_mod",
        "go.mod is incomplete: needs a module that provides an imported package",
        "ask the module's author to run go mod tidy and release again",
    ),
    told(
        "missing go.sum entry",
        "incomplete_go_mod",
        "go.mod is incomplete: needs an entry for a module that is used",
        "ask the module's author to run go mod tidy and release again",
    ),
    told(
        "but does not contain package",
        "no_such_package",
        "the module has no package of this path",
        "look at the module's folders: the package is the path below the module",
    ),
    told(
        "no Go files in",
        "no_such_package",
        "there are no Go files in this folder of the module",
        "look at the module's folders: the package is the path below the module",
    ),
    told(
        "build constraints exclude all Go files",
        "no_go_files",
        "no Go file of a package is for this target without cgo",
        "packages that need a C compiler are not built here; try another target",
    ),
    told(
        "requires external (cgo) linking",
        "target_unsupported",
        "this target needs a C linker, which a cell does not have",
        "choose another target",
    ),
    told(
        "unsupported GOOS/GOARCH pair",
        "target_unsupported",
        "this Go release does not know the target",
        "choose another target or another Go release",
    ),
    told(
        "(running go ",
        "needs_newer_go",
        "the module needs a newer Go release",
        "choose a newer release, or latest",
    ),
    told(
        "requires go >= ",
        "needs_newer_go",
        "the module needs a newer Go release",
        "choose a newer release, or latest",
    ),
    told(
        "source files not allowed when not using cgo",
        "needs_cgo",
        "the package has C code, which needs a C compiler",
        "cells have none: ask the author for a version in plain Go",
    ),
    told(
        "no matching files found",
        "embed_missing",
        "the module embeds files that its release does not have",
        "files that are generated must be part of the release: tell its author",
    ),
    told(
        "note: module requires Go ",
        "needs_newer_go",
        "the module needs a newer Go release",
        "choose a newer release, or latest",
    ),
    told(
        "invalid go version '",
        "needs_newer_go",
        "the module's go.mod is for a newer Go release",
        "choose a newer release, or latest",
    ),
    told(
        "unknown directive: toolchain",
        "needs_newer_go",
        "the module's go.mod is for a newer Go release",
        "choose a newer release, or latest",
    ),
    told(
        "is not in std",
        "no_std_package",
        "the module imports a standard package that this Go release does not have",
        "choose a newer release, or latest",
    ),
    told(
        "is not in GOROOT",
        "no_std_package",
        "the module imports a standard package that this Go release does not have",
        "choose a newer release, or latest",
    ),
    told(
        "invalid reference to ",
        "linkname_refused",
        "the module reaches into the runtime in a way that this Go release refuses",
        "choose a release before 1.23, or a newer version of the module",
    ),
    told(
        "import cycle not allowed",
        "import_cycle",
        "packages of the module import each other in a circle",
        "tell its author",
    ),
    told(
        "use of internal package ",
        "internal_package",
        "the module imports an internal package of another one",
        "tell its author",
    ),
    told(
        "ambiguous import: found package ",
        "ambiguous_import",
        "two modules have a package that is imported",
        "ask the module's author to run go mod tidy and release again",
    ),
    told(
        "parsing go.mod: ",
        "bad_go_mod",
        "the module's go.mod cannot be read",
        "choose a newer Go release; else tell its author",
    ),
    told(
        "malformed import path",
        "bad_import_path",
        "the module imports a path that is none",
        "tell its author",
    ),
    told(
        "found packages ",
        "mixed_packages",
        "a folder of the module has files of several packages",
        "tell its author",
    ),
    guess(
        "no space left on device",
        "disk",
        "the build used all of its disk space",
        "ask the operator for a policy with more scratch space",
    ),
    guess(
        "file too large",
        "file_size",
        "the build wrote a longer file than it may",
        "ask the operator for a policy with longer files",
    ),
    guess(
        "file size limit exceeded",
        "file_size",
        "a process of the build wrote a longer file than it may",
        "ask the operator for a policy with longer files",
    ),
    guess(
        "too many open files",
        "files",
        "a process of the build opened more files than it may",
        "ask the operator for a policy with more open files",
    ),
    guess(
        "CPU time limit exceeded",
        "cpu",
        "a process of the build used all of its processor time",
        "ask the operator for a policy with more processor time",
    ),
    guess(
        "SIGXCPU: cpu limit exceeded",
        "cpu",
        "a process of the build used all of its processor time",
        "ask the operator for a policy with more processor time",
    ),
    guess(
        "cannot allocate memory",
        "memory",
        "a process of the build used all of its memory",
        "ask the operator for a policy with more memory",
    ),
    guess(
        "fatal error: runtime: out of memory",
        "memory",
        "a process of the build used all of its memory",
        "ask the operator for a policy with more memory",
    ),
    guess(
        "fatal error: out of memory",
        "memory",
        "a process of the build used all of its memory",
        "ask the operator for a policy with more memory",
    ),
    guess(
        "resource temporarily unavailable",
        "processes",
        "the build started more processes than it may",
        "ask the operator for a policy with more processes",
    ),
    guess(
        "signal: killed",
        "killed",
        "a process of the build was killed, most likely for want of memory",
        "ask the operator for more memory: for the policy, or for the machine",
    ),
    guess(
        "permission denied",
        "denied_path",
        "the go command was denied a path",
        "the build asked for something that no build needs; see its output",
    ),
];
