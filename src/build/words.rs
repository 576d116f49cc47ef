//! What the go command's words mean, for failures that nobody else can explain.
//!
//! Called by [`super::ending`] when a job failed by itself. The text is hostile: it chooses among
//! our sentences, and at most a path of plain letters out of it is shown.

use super::{
    About, At, Failure, FailureClass,
    ending::{Failed, failure},
    phrases::PHRASES,
};

/// Longest path that is repeated from the go command's words.
const PATH_BYTES_MAX: usize = 200;

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
    let class = FailureClass::CannotBuild;
    let Some(phrase) = phrase else {
        let at = at(&failed.output.terminal());
        let mut sentence = "the go command could not build it".to_owned();
        if let Some(at) = &at {
            sentence = format!("{sentence}: `{}`, line {}", at.file, at.line);
        }
        let mut failure = failure("build_failed", class, sentence, "see its output");
        failure.about = at.map(|at| {
            Box::new(About {
                at: Some(at),
                ..About::default()
            })
        });
        return failure;
    };
    let mut about = About {
        guessed: phrase.guessed,
        ..About::default()
    };
    let mut sentence = phrase.sentence.to_owned();
    match phrase.code {
        "denied_path" => about.path = before(&printed, ": permission denied", '/'),
        "module_path_mismatch" => about.path = after(&printed, phrase.printed),
        "needs_newer_go" => about.go = go_needed(&printed),
        _ => {}
    }
    if let Some(path) = &about.path {
        sentence = format!("{sentence}: `{path}`");
    }
    if let Some(go) = &about.go {
        sentence = format!("{sentence}: {go} or newer");
    }
    if phrase.guessed {
        sentence.push_str(" (guessed from its own words)");
    }
    let mut failure = failure(phrase.code, class, sentence, phrase.remedy);
    failure.about = Some(Box::new(about));
    failure
}

/// Harmless in every sink: letters, digits and what paths are made of.
fn plain(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@~".contains(&b);
    !path.is_empty() && path.len() <= PATH_BYTES_MAX && path.bytes().all(plain)
}

/// The path in `open /some/where: permission denied`, when it is plain and begins so.
fn before(printed: &str, what: &str, first: char) -> Option<String> {
    let path = printed.split(what).next()?.rsplit(' ').next()?;
    (path.starts_with(first) && plain(path)).then(|| path.to_owned())
}

/// The word after `what`, when it is plain.
fn after(printed: &str, what: &str) -> Option<String> {
    let word = printed.split_once(what)?.1.split_whitespace().next()?;
    plain(word).then(|| word.to_owned())
}

/// The release in `requires go >= 1.27` and `module requires Go 1.27`.
fn go_needed(printed: &str) -> Option<String> {
    let word =
        after(printed, "requires go >= ").or_else(|| after(printed, "module requires Go "))?;
    let numbers: Vec<&str> = word.splitn(3, '.').collect();
    let is_number =
        |n: &&str| n.len() <= 3 && n.bytes().all(|b| b.is_ascii_digit()) && !n.is_empty();
    (numbers.len() >= 2 && numbers.iter().all(is_number)).then(|| format!("go{word}"))
}

/// Where the compiler found the first fault: `path/file.go:3:1: …`.
fn at(output: &str) -> Option<At> {
    output.lines().find_map(|line| {
        let (file, rest) = line.trim_start().split_once(':')?;
        let (number, _) = rest.split_once(':')?;
        let file = match file.split_once("/pkg/mod/") {
            Some((_, within)) => within,
            None => file.trim_start_matches("./"),
        };
        let is_source = file.ends_with(".go") || file.ends_with(".s");
        let line = number.parse().ok().filter(|line| *line > 0)?;
        (is_source && plain(file)).then(|| At {
            file: file.to_owned(),
            line,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_path_is_repeated_only_when_it_is_harmless() {
        let denied = |text| before(text, ": permission denied", '/');
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

    #[test]
    fn the_release_that_is_needed_is_named() {
        for (text, wanted) in [
            (
                "go: m@v1 requires go >= 1.27 (running go 1.26.8)",
                Some("go1.27"),
            ),
            ("requires go >= 1.27.4 (running", Some("go1.27.4")),
            ("note: module requires Go 1.99", Some("go1.99")),
            ("requires go >= 1.27rc1 x", None),
            ("requires go >= <b>", None),
            ("requires go >= 1", None),
            ("requires go >= 1.2222222222", None),
        ] {
            assert_eq!(go_needed(text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn the_first_fault_is_found_wherever_the_module_lies() {
        let at = |text| at(text).map(|at| (at.file, at.line));
        let cell =
            "# a.example/m\n../../home/go/pkg/mod/a.example/m@v1.0.0/x/a.go:12:3: no\nb.go:1:1: x";
        assert_eq!(at(cell), Some(("a.example/m@v1.0.0/x/a.go".to_owned(), 12)));
        assert_eq!(
            at("./x.s:7: no such instruction"),
            Some(("x.s".to_owned(), 7))
        );
        for text in [
            "",
            "a.go:",
            "a.go:0:1: x",
            "a.go:x:1: y",
            "a b.go:1:1: x",
            "a<b>.go:1:1: x",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
