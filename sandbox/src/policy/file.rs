//! A policy file: TOML with no unknown key and a reason for each rule.
//!
//! Called by [`super::Policy::parse`] only. Everything that can be wrong with a file is found here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    Arch, LandlockAbi, Limits, Namespace, POLICY_BYTES_MAX, PathRule, Place, PlaceKind, Policy,
    PolicyError,
    calls::{CallItem, calls},
    filter, sha256_hex,
};
use crate::cell::place;

/// The one version of the language.
const FORMAT: u32 = 1;
/// Shortest reason that can be one.
const WHY_BYTES_MIN: usize = 8;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    base: Option<String>,
    why: String,
    #[serde(default)]
    namespace: Vec<NamespaceItem>,
    #[serde(default)]
    place: Vec<PlaceItem>,
    landlock: Option<LandlockItem>,
    #[serde(default)]
    path: Vec<PathItem>,
    #[serde(default)]
    limits: BTreeMap<String, LimitItem>,
    #[serde(default)]
    call: Vec<CallItem>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamespaceItem {
    name: String,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceItem {
    path: String,
    kind: String,
    options: Vec<String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LandlockItem {
    abi_required: u8,
    abi_wanted: u8,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathItem {
    path: String,
    rights: Vec<String>,
    #[serde(default)]
    optional: bool,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitItem {
    max: u64,
    why: String,
}

/// Stands in a path for the folder of the SDK's tools: [`Arch::tools`].
const TOOLS: &str = "{tools}";

/// Names the rule that is wrong.
pub(super) struct Blame<'a>(pub(super) &'a str);

impl Blame<'_> {
    pub(super) fn wrong(&self, rule: impl Into<String>, why: impl Into<String>) -> PolicyError {
        PolicyError::Rule {
            name: self.0.to_owned(),
            rule: rule.into(),
            why: why.into(),
        }
    }

    pub(super) fn reason(&self, rule: impl Into<String>, why: &str) -> Result<(), PolicyError> {
        if why.trim().len() < WHY_BYTES_MIN {
            return Err(self.wrong(rule, "`why` gives no reason"));
        }
        Ok(())
    }
}

pub(super) fn parse(arch: Arch, name: &str, text: &str) -> Result<Policy, PolicyError> {
    let blame = Blame(name);
    if text.len() > POLICY_BYTES_MAX {
        return Err(blame.wrong("file", format!("longer than {POLICY_BYTES_MAX} bytes")));
    }
    let file: File = toml::from_str(text).map_err(|source| PolicyError::Parse {
        name: name.to_owned(),
        source: Box::new(source),
    })?;
    if file.format != FORMAT {
        return Err(blame.wrong("format", format!("is {}, not {FORMAT}", file.format)));
    }
    blame.reason("file", &file.why)?;
    match file.base.as_deref() {
        None => whole(arch, &blame, text, file),
        Some("build") => difference(&blame, text, file, Policy::build_for(arch)),
        Some(_) => Err(blame.wrong("base", "only `build` can be one")),
    }
}

fn whole(arch: Arch, blame: &Blame<'_>, text: &str, file: File) -> Result<Policy, PolicyError> {
    let landlock = file
        .landlock
        .ok_or_else(|| blame.wrong("landlock", "is missing"))?;
    blame.reason("landlock", &landlock.why)?;
    // Crate and language know ABI 1 to 9; below 2 files cannot be moved between folders.
    if landlock.abi_required < 2
        || landlock.abi_wanted < landlock.abi_required
        || landlock.abi_wanted > 9
    {
        return Err(blame.wrong("landlock", "needs 2 <= abi_required <= abi_wanted <= 9"));
    }
    Ok(Policy {
        arch,
        name: blame.0.to_owned(),
        sha256: sha256_hex(text.as_bytes()),
        limits: limits(blame, file.limits)?,
        namespaces: namespaces(blame, &file.namespace)?,
        places: places(blame, &file.place)?,
        landlock: LandlockAbi {
            required: landlock.abi_required,
            wanted: landlock.abi_wanted,
        },
        paths: paths(arch, blame, file.path)?,
        calls: calls(arch, blame, &file.call, &BTreeSet::new())?,
        programs: filter::Programs::default(),
    })
}

/// A difference may add calls, paths and kinds of places and change limits; all else is its
/// base's.
fn difference(
    blame: &Blame<'_>,
    text: &str,
    file: File,
    base: Policy,
) -> Result<Policy, PolicyError> {
    if !file.namespace.is_empty() || file.landlock.is_some() {
        let why = "a difference adds calls, paths, places and limits only";
        return Err(blame.wrong("base", why));
    }
    let added = places(blame, &file.place)?;
    if added.iter().any(|place| base.place(place.kind).is_some()) {
        return Err(blame.wrong("base", "a difference changes no place"));
    }
    let arch = base.arch;
    let known = base.calls.iter().map(|rule| rule.number).collect();
    let mut policy = Policy {
        name: blame.0.to_owned(),
        sha256: sha256_hex(format!("{text}{}", base.sha256).as_bytes()),
        ..base
    };
    for (key, item) in file.limits {
        set_limit(blame, &mut policy.limits, &key, &item)?;
    }
    policy.places.extend(added);
    policy.paths.extend(paths(arch, blame, file.path)?);
    policy.calls.extend(calls(arch, blame, &file.call, &known)?);
    Ok(policy)
}

fn namespaces(blame: &Blame<'_>, items: &[NamespaceItem]) -> Result<Vec<Namespace>, PolicyError> {
    let mut all = Vec::new();
    for item in items {
        let rule = format!("namespace `{}`", item.name);
        blame.reason(&rule, &item.why)?;
        let kind = Namespace::ALL
            .into_iter()
            .find(|kind| kind.word() == item.name);
        let kind = kind.ok_or_else(|| blame.wrong(&rule, "there is no such kind"))?;
        if all.contains(&kind) {
            return Err(blame.wrong(rule, "stands there twice"));
        }
        all.push(kind);
    }
    Ok(all)
}

fn places(blame: &Blame<'_>, items: &[PlaceItem]) -> Result<Vec<Place>, PolicyError> {
    let mut all: Vec<Place> = Vec::new();
    for item in items {
        let rule = format!("place `{}`", item.path);
        blame.reason(&rule, &item.why)?;
        // Paths are fixed, as they must be the same wherever a cache entry is made.
        let known = place::ALL.iter().find(|(_, kind, _)| *kind == item.kind);
        let (kind, _, path) = known.ok_or_else(|| blame.wrong(&rule, "there is no such kind"))?;
        if *path != item.path {
            return Err(blame.wrong(rule, format!("`{}` is always at `{path}`", item.kind)));
        }
        if all.iter().any(|place| place.kind == *kind) {
            return Err(blame.wrong(rule, "stands there twice"));
        }
        let mut place = Place {
            kind: *kind,
            read_only: false,
            no_exec: false,
        };
        for option in &item.options {
            match option.as_str() {
                "ro" => place.read_only = true,
                "noexec" => place.no_exec = true,
                _ => return Err(blame.wrong(rule, format!("there is no option `{option}`"))),
            }
        }
        let written = matches!(kind, PlaceKind::Home | PlaceKind::Tmp | PlaceKind::Cache);
        if written && place.read_only {
            return Err(blame.wrong(rule, "a build must be able to write there"));
        }
        all.push(place);
    }
    Ok(all)
}

pub(super) fn paths(
    arch: Arch,
    blame: &Blame<'_>,
    items: Vec<PathItem>,
) -> Result<Vec<PathRule>, PolicyError> {
    let mut all = Vec::new();
    for item in items {
        let rule = format!("path `{}`", item.path);
        blame.reason(&rule, &item.why)?;
        // Names of the SDK's folders differ between hosts; the policy and its digest do not.
        let path = item.path.replace(TOOLS, arch.tools());
        let clean = path.starts_with('/')
            && !path.contains(['\0', '\\', '{', '}'])
            && path
                .split('/')
                .skip(1)
                .all(|part| !matches!(part, "." | ".."));
        if !clean {
            return Err(blame.wrong(rule, "is not an absolute, clean path"));
        }
        let mut parsed = PathRule {
            path,
            read: false,
            write: false,
            execute: false,
            optional: item.optional,
        };
        for right in &item.rights {
            match right.as_str() {
                "read" => parsed.read = true,
                "write" => parsed.write = true,
                "execute" => parsed.execute = true,
                _ => return Err(blame.wrong(rule, format!("there is no right `{right}`"))),
            }
        }
        if item.rights.is_empty() || parsed.write && parsed.execute {
            return Err(blame.wrong(rule, "no right, or writing together with executing"));
        }
        all.push(parsed);
    }
    // What one item lets be written, another must not let be executed: rights go to all below.
    let below = |inner: &PathRule, outer: &PathRule| {
        let rest = inner.path.strip_prefix(outer.path.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let both = |a: &PathRule, b: &PathRule| below(a, b) || below(b, a);
    for written in all.iter().filter(|item| item.write) {
        if all.iter().any(|item| item.execute && both(item, written)) {
            return Err(blame.wrong(&written.path, "writing together with executing"));
        }
    }
    Ok(all)
}

fn limits(blame: &Blame<'_>, items: BTreeMap<String, LimitItem>) -> Result<Limits, PolicyError> {
    let mut limits = Limits {
        wall_ms: 0,
        silence_ms: 0,
        output_bytes: 0,
        artifact_bytes: 0,
        scratch_bytes: 0,
        scratch_inodes: 0,
        processes: 0,
        files: 0,
        file_bytes: 0,
        memory_bytes: 0,
        cell_memory_bytes: 0,
        processors: 0,
        cpu_s: 0,
    };
    for (key, item) in items {
        set_limit(blame, &mut limits, &key, &item)?;
    }
    for (key, value) in limit_fields(&mut limits) {
        if *value == 0 {
            return Err(blame.wrong(format!("limits.{key}"), "is missing"));
        }
    }
    Ok(limits)
}

fn set_limit(
    blame: &Blame<'_>,
    limits: &mut Limits,
    key: &str,
    item: &LimitItem,
) -> Result<(), PolicyError> {
    let rule = format!("limits.{key}");
    blame.reason(&rule, &item.why)?;
    if item.max == 0 {
        return Err(blame.wrong(rule, "zero is no limit that a build can keep"));
    }
    let field = limit_fields(limits)
        .into_iter()
        .find(|(known, _)| *known == key);
    let (_, value) = field.ok_or_else(|| blame.wrong(rule, "there is no such limit"))?;
    *value = item.max;
    Ok(())
}

fn limit_fields(limits: &mut Limits) -> [(&'static str, &mut u64); 13] {
    [
        ("wall_ms", &mut limits.wall_ms),
        ("silence_ms", &mut limits.silence_ms),
        ("output_bytes", &mut limits.output_bytes),
        ("artifact_bytes", &mut limits.artifact_bytes),
        ("scratch_bytes", &mut limits.scratch_bytes),
        ("scratch_inodes", &mut limits.scratch_inodes),
        ("processes", &mut limits.processes),
        ("files", &mut limits.files),
        ("file_bytes", &mut limits.file_bytes),
        ("memory_bytes", &mut limits.memory_bytes),
        ("cell_memory_bytes", &mut limits.cell_memory_bytes),
        ("processors", &mut limits.processors),
        ("cpu_s", &mut limits.cpu_s),
    ]
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
