//! What people paste where a spec is asked for: addresses of code hosts and of documentation, lines
//! of a shell, of source and of a `go.mod`, pages of this service and of its kind.
//!
//! Only pages for people call this. It guesses and cannot fail: what it does not know it gives
//! back, and whatever it gives is parsed by [`super::PackageQuery::parse`], which says what is
//! wrong.

use super::{
    PackageQuery,
    url::{BuildQuery, Path},
};

/// Sites whose paths are import paths.
const DOCUMENTATION: [&str; 3] = ["pkg.go.dev", "godoc.org", "godocs.io"];
/// Branches that people look at without meaning them: their newest release is meant.
const USUAL_BRANCHES: [&str; 6] = ["main", "master", "HEAD", "trunk", "develop", "default"];
/// Site whose repositories have three elements and what follows them names a page.
const OWNER_AND_NAME: [&str; 3] = ["github.com", "codeberg.org", "bitbucket.org"];

/// The spec that was meant, in the form `package@version` or `module@version/package`.
#[must_use]
pub fn meant(pasted: &str) -> String {
    let text = pasted.trim();
    if text.len() > 4 * PackageQuery::LEN_MAX {
        return text.to_owned();
    }
    let (word, version) = word(text);
    let spec = match address(word) {
        Some((host, path)) => page(host, path),
        None if names_package(word) => {
            let (host, path) = word.split_at(word.find(['/', '@']).unwrap_or(word.len()));
            format!("{}{path}", host.to_ascii_lowercase())
        }
        None => word.to_owned(),
    };
    // Behind a version a slash says that the module ends there.
    match version {
        Some(version) if !spec.contains('@') => format!("{spec}@{version}"),
        _ if spec.contains('@') => spec,
        _ => spec.trim_end_matches('/').to_owned(),
    }
}

/// The page of a build that was pasted, as a path of ours without its first slash.
#[must_use]
pub fn build(pasted: &str) -> Option<(String, BuildQuery)> {
    let text = pasted.trim();
    if text.len() > 4 * PackageQuery::LEN_MAX {
        return None;
    }
    let (_, path) = address(word(text).0)?;
    let (spec, target) = build_page(path)?;
    let path = format!("{spec}{target}/");
    match Path::parse(&path) {
        Ok(Path::Build { build, .. }) => Some((path, build)),
        _ => None,
    }
}

/// The one word of a line that names a package, and the version behind it: as a `go.mod` has it, or
/// torn off with its `@`.
fn word(line: &str) -> (&str, Option<&str>) {
    const AROUND: &[char] = &['"', '\'', '`', ',', ';', '(', ')', '<', '>'];
    let mut words = line
        .split_whitespace()
        .map(|word| word.trim_matches(AROUND))
        .filter(|word| !word.is_empty());
    let Some(found) = words.find(|word| names_package(word)) else {
        return (line, None);
    };
    let next = words.next();
    let torn = next.and_then(|next| next.strip_prefix('@'));
    let torn = torn.filter(|version| !version.is_empty());
    (found, torn.or(next.filter(|next| is_release(next))))
}

/// `host.name/…`, with a scheme or without; no option, no assignment, no relative path.
fn names_package(word: &str) -> bool {
    let word = word.strip_prefix("git@").unwrap_or(word);
    let word = word.split_once("://").map_or(word, |(_, rest)| rest);
    let host = word.split(['/', ':', '@']).next().unwrap_or_default();
    let is_host = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
    word.len() > host.len()
        && host.contains('.')
        && !host.starts_with(['.', '-'])
        && host.bytes().all(is_host)
}

/// `v1.2.3` and what may follow.
fn is_release(text: &str) -> bool {
    let digits = text.strip_prefix('v').unwrap_or_default();
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.contains('.')
}

/// Host and path of a URL, or of what git is told to clone.
fn address(word: &str) -> Option<(&str, &str)> {
    if let Some(rest) = word.strip_prefix("git@") {
        return rest.split_once(':');
    }
    let (scheme, rest) = word.split_once("://")?;
    let known = ["https", "http", "git", "ssh", "git+https", "git+ssh"];
    if !known.iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let rest = rest.strip_prefix("git@").unwrap_or(rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    Some((host, path))
}

/// What a page is about.
fn page(host: &str, path: &str) -> String {
    // Names of hosts are the same in any case (RFC 4343), paths are not.
    let host = host.to_ascii_lowercase();
    let host = host.strip_prefix("www.").unwrap_or(&host);
    if DOCUMENTATION.contains(&host) {
        return path.to_owned();
    }
    if let Some((spec, _)) = build_page(path) {
        return spec;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if path.contains('@') {
        return format!("{host}/{path}");
    }
    let (repository, rest) = repository(host, &parts);
    let (reference, folder) = seen(rest);
    let mut spec = host.to_owned();
    let named = repository
        .iter()
        .map(|part| part.strip_suffix(".git").unwrap_or(part));
    let major = reference.and_then(major_suffix);
    for part in named.chain(major.as_deref()).chain(folder.iter().copied()) {
        spec.push('/');
        spec.push_str(part);
    }
    match reference.filter(|reference| !USUAL_BRANCHES.contains(reference)) {
        Some(reference) => format!("{spec}@{reference}"),
        None => spec,
    }
}

/// A build page of an instance, wherever it runs: what stands before the target, and the element
/// with the target.
fn build_page(path: &str) -> Option<(String, &str)> {
    let is_target = |part: &str| {
        let mut parts = part.splitn(3, '-');
        let (goos, goarch, go) = (parts.next()?, parts.next()?, parts.next()?);
        (go.starts_with("go1") || go.starts_with("latest")).then_some(())?;
        super::Target::new(goos, goarch).ok()
    };
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().position(|part| is_target(part).is_some())?;
    let spec = parts[..at].join("/");
    let target = parts[at].split(['?', '#']).next()?;
    spec.contains('@').then(|| (format!("{spec}/"), target))
}

/// Where the repository ends and its pages begin.
fn repository<'a>(host: &str, parts: &'a [&'a str]) -> (&'a [&'a str], &'a [&'a str]) {
    if let Some(at) = parts.iter().position(|part| *part == "-") {
        return (&parts[..at], &parts[at + 1..]); // GitLab
    }
    let of_gitea = |part: &&str, next: Option<&&str>| {
        *part == "src" && matches!(next, Some(&"branch" | &"tag" | &"commit"))
    };
    let gitea = (2..parts.len()).find(|&at| of_gitea(&parts[at], parts.get(at + 1)));
    let known = OWNER_AND_NAME.contains(&host) || host == "git.sr.ht";
    match gitea {
        Some(at) => parts.split_at(at),
        None if known => parts.split_at(parts.len().min(2)),
        None => (parts, &[]),
    }
}

/// Branch, tag or commit that a page of a repository shows, and which folder of it.
fn seen<'a>(rest: &'a [&'a str]) -> (Option<&'a str>, &'a [&'a str]) {
    let parent = |folder: &'a [&'a str]| folder.split_last().map_or(folder, |(_, parent)| parent);
    match rest {
        ["tree", reference, "item", folder @ ..] => (Some(reference), files_out(folder)),
        ["blob", reference, folder @ ..] => (Some(reference), parent(folder)),
        ["src", "branch" | "tag" | "commit", reference, folder @ ..]
        | ["tree" | "src", reference, folder @ ..] => (Some(reference), files_out(folder)),
        ["releases", "tag", tag] | ["releases" | "tags" | "refs", tag] => (Some(tag), &[]),
        ["commit" | "commits", commit, ..] => (Some(commit), &[]),
        _ => (None, &[]),
    }
}

/// Some hosts show files and folders under the same kind of address.
fn files_out<'a>(folder: &'a [&'a str]) -> &'a [&'a str] {
    match folder.split_last() {
        Some((last, parent)) if last.ends_with(".go") || *last == "go.mod" => parent,
        _ => folder,
    }
}

/// A release from the second major version on has its number in the path of its module
/// (<https://go.dev/ref/mod#major-version-suffixes>).
fn major_suffix(reference: &str) -> Option<String> {
    let release = is_release(reference).then(|| reference.strip_prefix('v'))??;
    let major = release.split('.').next()?.parse::<u32>().ok()?;
    (major >= 2).then(|| format!("v{major}"))
}

#[cfg(test)]
mod tests {
    use super::{super::url::Page, *};

    #[test]
    fn what_people_paste_becomes_what_they_mean() {
        for (pasted, wanted) in [
            ("filippo.io/age", "filippo.io/age"),
            (
                " filippo.io/age@v1.2.1/cmd/age ",
                "filippo.io/age@v1.2.1/cmd/age",
            ),
            ("filippo.io/age@v1.2.1/", "filippo.io/age@v1.2.1/"),
            (
                "$ go install filippo.io/age/cmd/age@latest",
                "filippo.io/age/cmd/age@latest",
            ),
            (
                "CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' rsc.io/2fa@v1.2.0;",
                "rsc.io/2fa@v1.2.0",
            ),
            ("go get -u rsc.io/2fa", "rsc.io/2fa"),
            ("import _ \"rsc.io/2fa\"", "rsc.io/2fa"),
            ("require rsc.io/2fa v1.2.0 // indirect", "rsc.io/2fa@v1.2.0"),
            (
                "https://pkg.go.dev/filippo.io/age@v1.2.1/cmd/age",
                "filippo.io/age@v1.2.1/cmd/age",
            ),
            ("https://pkg.go.dev/rsc.io/2fa?tab=versions#x", "rsc.io/2fa"),
            ("https://github.com/mjl-/sherpa", "github.com/mjl-/sherpa"),
            (
                "http://www.github.com/mjl-/sherpa.git",
                "github.com/mjl-/sherpa",
            ),
            ("git@github.com:mjl-/sherpa.git", "github.com/mjl-/sherpa"),
            (
                "ssh://git@github.com/mjl-/sherpa.git",
                "github.com/mjl-/sherpa",
            ),
            (
                "https://github.com/a/b/tree/main/cmd/x",
                "github.com/a/b/cmd/x",
            ),
            (
                "https://github.com/a/b/tree/v1.2.3/cmd/x",
                "github.com/a/b/cmd/x@v1.2.3",
            ),
            (
                "https://github.com/a/b/blob/master/cmd/x/main.go#L3",
                "github.com/a/b/cmd/x",
            ),
            (
                "https://github.com/a/b/releases/tag/v2.0.1",
                "github.com/a/b/v2@v2.0.1",
            ),
            (
                "https://github.com/a/b/commit/0123456789ab",
                "github.com/a/b@0123456789ab",
            ),
            ("https://github.com/a/b/issues/7", "github.com/a/b"),
            (
                "https://gitlab.com/g/s/p/-/tree/v1.0.0/cmd/x?x=y",
                "gitlab.com/g/s/p/cmd/x@v1.0.0",
            ),
            ("https://gitlab.com/g/s/p", "gitlab.com/g/s/p"),
            (
                "https://codeberg.org/a/b/src/branch/main/cmd/x/main.go",
                "codeberg.org/a/b/cmd/x",
            ),
            (
                "https://git.example.org/a/b/src/tag/v1.1.0/x",
                "git.example.org/a/b/x@v1.1.0",
            ),
            (
                "https://git.sr.ht/~u/r/tree/master/item/cmd/x/main.go",
                "git.sr.ht/~u/r/cmd/x",
            ),
            (
                "https://git.sr.ht/~u/r/refs/v0.3.0",
                "git.sr.ht/~u/r@v0.3.0",
            ),
            (
                "https://bitbucket.org/a/b/src/feature/x",
                "bitbucket.org/a/b/x@feature",
            ),
            (
                "http://localhost:8000/rsc.io/2fa@v1.2.0/linux-amd64-go1.26.8/0abc/",
                "rsc.io/2fa@v1.2.0/",
            ),
            (
                "https://hc.example/filippo.io/age@v1.2.1/cmd/age/windows-amd64-latest/",
                "filippo.io/age@v1.2.1/cmd/age/",
            ),
            ("https://example.org/x/y@v1.0.0", "example.org/x/y@v1.0.0"),
            (
                "github.com/rakyll/hey @v0.1.4",
                "github.com/rakyll/hey@v0.1.4",
            ),
            ("go install rsc.io/2fa @latest", "rsc.io/2fa@latest"),
            ("rsc.io/2fa@v1.2.0 @v1.1.0", "rsc.io/2fa@v1.2.0"),
            ("rsc.io/2fa @", "rsc.io/2fa"),
            ("https://GitHub.com/rakyll/Hey", "github.com/rakyll/Hey"),
            ("HTTPS://WWW.GITHUB.COM/rakyll/hey", "github.com/rakyll/hey"),
            (
                "GitHub.com/BurntSushi/toml@v1.0.0",
                "github.com/BurntSushi/toml@v1.0.0",
            ),
            ("git@GitHub.com:mjl-/Sherpa.git", "github.com/mjl-/Sherpa"),
            ("https://Pkg.Go.Dev/rsc.io/2fa", "rsc.io/2fa"),
        ] {
            assert_eq!(meant(pasted), wanted, "{pasted}");
            assert!(PackageQuery::parse(wanted).is_ok(), "{wanted}");
        }
    }

    #[test]
    fn a_pasted_page_of_a_build_keeps_what_it_says_about_it() {
        for (pasted, wanted) in [
            (
                "http://localhost:8000/rsc.io/2fa@v1.2.0/linux-arm64-go1.26.8/0abc/",
                "rsc.io/2fa@v1.2.0/linux-arm64-go1.26.8/",
            ),
            (
                "see https://hc.example/rsc.io/2fa@v1.2.0/cmd/x/windows-amd64-latest-stripped",
                "rsc.io/2fa@v1.2.0/cmd/x/windows-amd64-latest-stripped/",
            ),
        ] {
            let (path, found) = build(pasted).unwrap();
            assert_eq!(path, wanted, "{pasted}");
            assert_eq!(
                Path::parse(wanted),
                Ok(Path::Build {
                    build: found,
                    page: Page::Show
                })
            );
        }
        for other in [
            "",
            "rsc.io/2fa@v1.2.0",
            "https://rsc.io/2fa@v1.2.0",
            "https://hc.example//attacker.example@v1.0.0/linux-amd64-go1.26.8/",
            "https://hc.example/rsc.io/2fa@v1.2.0/linux-amd64-go1.26.x/",
        ] {
            assert_eq!(build(other), None, "{other}");
        }
    }

    #[test]
    fn what_it_does_not_know_comes_back_and_is_told_by_the_parser() {
        let long = "x".repeat(100_000);
        for text in [
            "", "age", "-x", "./cmd/x", "git@", "://", "https://", "a b c", &long,
        ] {
            let spec = meant(text);
            assert!(PackageQuery::parse(&spec).is_err(), "{text}: {spec}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_fail(text in "\\PC{0,80}", path in "[a-z@:/.~ -]{0,60}") {
            let _any = (meant(&text), build(&text), build(&format!("https://{path}")));
            let _any = meant(&format!("https://github.com/{path}"));
            let _any = meant(&path);
        }
    }
}
