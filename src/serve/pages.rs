//! What the templates are given: every text escaped by its type, every link made of parsed names.
//!
//! Handlers fill these structs; nothing here asks the network or the database.

use askama::Template;

use super::{
    answer::Refusal,
    catalogue::Recent,
    commands::Listed,
    targets::{self, Group},
    words,
};
use crate::{
    build::Command,
    output::{Html, Output},
    spec::{ModulePath, ModuleVersion, Target, Variant, url},
};

/// Text that came from outside: controls are made visible, the template escapes the rest.
pub(super) fn clean(text: &str) -> String {
    Output::from(text.as_bytes().to_vec())
        .terminal()
        .replace(['\n', '\t'], " ")
}

pub(super) fn clean_all(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| clean(text)).collect()
}

/// Targets that most people want, for lists; all others can be typed.
const COMMON: [(&str, &str); 9] = [
    ("linux", "amd64"),
    ("linux", "arm64"),
    ("linux", "arm"),
    ("linux", "riscv64"),
    ("darwin", "arm64"),
    ("darwin", "amd64"),
    ("windows", "amd64"),
    ("windows", "arm64"),
    ("freebsd", "amd64"),
];

/// A target to choose.
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) chosen: bool,
}

/// All targets, the common ones first.
pub(super) fn choices(chosen: Target) -> Vec<Choice> {
    let is_common = |t: &Target| COMMON.contains(&(t.goos(), t.goarch()));
    let common = COMMON
        .iter()
        .filter_map(|(goos, goarch)| Target::new(goos, goarch).ok());
    common
        .chain(Target::all().filter(|target| !is_common(target)))
        .map(|target| Choice {
            text: slashed(target),
            chosen: target == chosen,
        })
        .collect()
}

pub(super) fn slashed(target: Target) -> String {
    format!("{}/{}", target.goos(), target.goarch())
}

/// A line of a list of builds.
pub(super) struct Line {
    pub(super) href: String,
    pub(super) package: String,
    pub(super) version: String,
    pub(super) target: String,
    pub(super) go: String,
    pub(super) stripped: bool,
    pub(super) size: String,
    pub(super) ago: String,
}

impl Line {
    pub(super) fn of(recent: &Recent, now_ms: u64) -> Self {
        let key = &recent.key;
        Self {
            href: format!("{}{}/", url::build_path(key), recent.sum),
            package: key.package(),
            version: key.module.version.to_string(),
            target: slashed(key.target),
            go: key.go.to_string(),
            stripped: key.variant == Variant::Stripped,
            size: words::size(recent.size),
            ago: words::ago(recent.built_ms, now_ms),
        }
    }
}

/// The form that asks for a build.
#[derive(Default)]
pub(super) struct Form {
    pub(super) spec: String,
    pub(super) go: String,
    pub(super) stripped: bool,
    pub(super) targets: Vec<Choice>,
}

/// `/`
#[derive(Template)]
#[template(path = "home.html")]
pub(super) struct HomePage {
    pub(super) form: Form,
    pub(super) problem: Option<String>,
    pub(super) recent: Vec<Line>,
    pub(super) verifier_key: String,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) builds_max: usize,
    pub(super) notes: Vec<String>,
    pub(super) fenced: Option<String>,
    pub(super) mismatches: u64,
}

/// A command of a module.
struct CommandLine {
    href: String,
    package: String,
    doc: String,
    /// Nothing when there are many commands.
    targets: Vec<Group>,
}

/// A module with more commands than this has no list of targets for each: it would hide them, and
/// the page of each has one.
const COMMANDS_WITH_TARGETS: usize = 8;

/// What is known of a module's commands.
pub(super) struct Commands {
    /// Where its button leads: the module at a version.
    module: String,
    version: String,
    /// What was listed, when it was.
    listed: Option<Vec<CommandLine>>,
    /// Why it cannot be.
    problem: Option<String>,
}

impl Commands {
    pub(super) fn of(module: &ModuleVersion, listed: Option<Listed>, target: Target) -> Self {
        let are_few = matches!(&listed, Some(Ok(all)) if all.len() <= COMMANDS_WITH_TARGETS);
        let line = |command: Command| CommandLine {
            targets: match are_few {
                true => targets::of_command(module, &command.dir),
                false => Vec::new(),
            },
            href: command_page(module, &command.dir, target),
            package: match &*command.dir {
                "" => module.path.to_string(),
                dir => format!("{}/{}", module.path, clean(dir)),
            },
            doc: clean(&command.doc),
        };
        let (listed, problem) = match listed {
            None => (None, None),
            Some(Ok(all)) => (Some(all.into_iter().map(line).collect()), None),
            Some(Err(failure)) => (None, Some(clean(&failure.sentence))),
        };
        Self {
            module: module.to_string(),
            version: module.version.to_string(),
            listed,
            problem,
        }
    }
}

/// Page of a command with the newest Go release.
pub(super) fn command_page(module: &ModuleVersion, dir: &str, target: Target) -> String {
    let slash = if dir.is_empty() { "" } else { "/" };
    format!("/{module}/{dir}{slash}{target}-latest/")
}

/// `/<module>` and `/<module>@<version>`
#[derive(Template)]
#[template(path = "module.html")]
pub(super) struct ModulePage {
    module: ModulePath,
    version: Option<String>,
    warnings: Vec<String>,
    versions: Vec<String>,
    more: usize,
    pub(super) commands: Option<Commands>,
    pub(super) form: Form,
    pub(super) built: Vec<Line>,
}

/// Versions that are listed; whoever wants an older one types it.
const VERSIONS_SHOWN: usize = 100;

impl ModulePage {
    pub(super) fn new(
        module: ModulePath,
        asked: Option<ModuleVersion>,
        versions: &crate::build::Versions,
    ) -> Self {
        let all = clean_all(&versions.versions).into_iter();
        Self {
            module,
            version: asked.map(|asked| asked.version.to_string()),
            warnings: clean_all(&versions.warnings),
            more: versions.versions.len().saturating_sub(VERSIONS_SHOWN),
            versions: all.take(VERSIONS_SHOWN).collect(),
            commands: None,
            form: Form::default(),
            built: Vec::new(),
        }
    }
}

/// A refusal, for people.
#[derive(Template)]
#[template(path = "refusal.html")]
pub(super) struct RefusalPage {
    status: u16,
    code: String,
    sentence: String,
    remedy: String,
    has_output: bool,
    output: Html,
}

impl RefusalPage {
    pub(super) fn of(refusal: &Refusal) -> Self {
        Self {
            status: refusal.status.as_u16(),
            code: clean(&refusal.code),
            sentence: clean(&refusal.sentence),
            remedy: clean(&refusal.remedy),
            has_output: !refusal.output.is_empty(),
            output: refusal.output.html(),
        }
    }
}
