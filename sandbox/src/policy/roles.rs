//! What each role of the service may do: `policies/roles.toml`, in the words of the policies of
//! cells.
//!
//! Called by [`crate::privilege::confine`] only. Compiled in, so that nobody chooses it at a start.
//! A role can never get a call of the floor's list: those end the process, unless its rules answer
//! them with an error. The one exception is [`HARMLESS`].

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompRule};
use serde::Deserialize;

use super::{
    Arch, CallRule, PathRule, PolicyError, Verdict,
    calls::{CallItem, calls},
    file::{Blame, PathItem, paths},
    filter::{alternatives, notifying, opposite, program},
    floor, table,
};

const ROLES: &str = include_str!("../../../policies/roles.toml");

/// Calls that end a role at once, beside those of the floor: no role starts a program.
const KILLED: [&str; 3] = ["execve", "fork", "vfork"];
/// What is below a cell's floor because a program could be executed from it, which no role can do.
const HARMLESS: &str = "memfd_create";
/// Installs filters, of which the one that ends the process is the first; unknown after the last.
const INSTALLING: &str = "seccomp";

/// A process of the service that lives confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Web pages, queue, store, log.
    Serve,
    /// The way out.
    Fetch,
    /// The keys.
    Sign,
    /// The only peer of a cell.
    Relay,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Serve, Self::Fetch, Self::Sign, Self::Relay];

    /// Its name in arguments and in the policy.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Fetch => "fetch",
            Self::Sign => "sign",
            Self::Relay => "relay",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    why: String,
    call: Vec<CallItem>,
    role: Vec<RoleItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleItem {
    name: String,
    why: String,
    /// What it may do below its own folder.
    folder: FolderRights,
    /// Whether it may make connections over TCP.
    connect: bool,
    #[serde(default)]
    path: Vec<PathItem>,
    #[serde(default)]
    call: Vec<CallItem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FolderRights {
    Read,
    Write,
}

/// Whether the kernel's log hears of what a program refuses; what a rule answers is no news.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged(pub(crate) bool);

/// The rules of one role.
#[derive(Debug)]
pub(crate) struct RolePolicy {
    pub(crate) folder: FolderRights,
    pub(crate) connect: bool,
    pub(crate) paths: Vec<PathRule>,
    calls: Vec<CallRule>,
}

impl RolePolicy {
    /// The rules of a role.
    ///
    /// # Panics
    /// Never: a test compiles all of them.
    pub(crate) fn of(role: Role) -> Self {
        Self::parse(role, ROLES).expect("the built-in rules of roles are valid")
    }

    fn parse(role: Role, text: &str) -> Result<Self, PolicyError> {
        let blame = Blame("roles");
        let file: File = toml::from_str(text).map_err(|source| PolicyError::Parse {
            name: "roles".to_owned(),
            source: Box::new(source),
        })?;
        if file.format != 1 {
            return Err(blame.wrong("format", "is not 1"));
        }
        blame.reason("file", &file.why)?;
        let mut of_role = file
            .role
            .into_iter()
            .filter(|item| item.name == role.word());
        let (Some(item), None) = (of_role.next(), of_role.next()) else {
            return Err(blame.wrong(role.word(), "does not stand there once"));
        };
        blame.reason(role.word(), &item.why)?;
        let mut rules = calls(Arch::HOST, &blame, &file.call, &BTreeSet::new())?;
        let known = rules.iter().map(|rule| rule.number).collect();
        rules.extend(calls(Arch::HOST, &blame, &item.call, &known)?);
        let allowed = |rule: &&CallRule| !matches!(rule.verdict, Verdict::Answer(_));
        let name = |rule: &CallRule| table::name(rule.number);
        let fatal = |rule: &&CallRule| fatal_calls().any(|call| call == name(rule));
        if let Some(rule) = rules.iter().filter(allowed).find(fatal) {
            return Err(blame.wrong(name(rule), "no role may have it"));
        }
        Ok(Self {
            folder: item.folder,
            connect: item.connect,
            paths: paths(Arch::HOST, &blame, item.path)?,
            calls: rules,
        })
    }

    /// Programs of the kernel's filter machine, in the order of installation; of their results the
    /// kernel takes the strictest.
    ///
    /// # Errors
    /// A sentence; never for the built-in rules.
    pub(crate) fn programs(&self) -> Result<Vec<(BpfProgram, Logged)>, String> {
        let mut errors: BTreeMap<u32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
        let mut known = BTreeMap::new();
        let mut fatal: BTreeMap<i64, Vec<SeccompRule>> = fatal_calls()
            .filter_map(|name| Some((table::number(Arch::HOST, name)?, Vec::new())))
            .collect();
        for rule in &self.calls {
            fatal.remove(&rule.number);
            let (errno, refused) = match rule.verdict {
                Verdict::Answer(errno) => (errno, Vec::new()),
                Verdict::AllowElse(errno) => (errno, opposite(rule)?),
                Verdict::Allow => {
                    known.insert(rule.number, alternatives(rule)?);
                    continue;
                }
            };
            known.insert(rule.number, Vec::new());
            let calls = errors.entry(errno as u32).or_default();
            calls.insert(rule.number, refused);
        }
        let allow = SeccompAction::Allow;
        let program = |rules, default, matched| program(Arch::HOST, rules, default, matched);
        // With the check of x32 numbers in front; there is no notification in it.
        let fatal = program(fatal, allow.clone(), SeccompAction::KillProcess)?;
        let mut programs = vec![(notifying(Arch::HOST, fatal), Logged(true))];
        for (errno, rules) in errors {
            let answers = program(rules, allow.clone(), SeccompAction::Errno(errno))?;
            programs.push((answers, Logged(false)));
        }
        // The last one, as nothing can be installed after it.
        let unknown = SeccompAction::Errno(Errno::ENOSYS as u32);
        programs.push((program(known, unknown, allow)?, Logged(true)));
        Ok(programs)
    }
}

fn fatal_calls() -> impl Iterator<Item = &'static str> {
    let all = floor::NEVER.iter().chain(&KILLED).copied();
    all.filter(|name| ![HARMLESS, INSTALLING].contains(name))
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
