//! System call rules of a policy file.
//!
//! Called by [`super::file`] only.

use std::collections::BTreeSet;

use nix::errno::Errno;
use serde::Deserialize;

use super::{Arch, CallRule, Condition, PolicyError, Verdict, file::Blame, table};

/// Most values of a condition; each becomes some instructions of a filter.
const VALUES_MAX: usize = 64;
/// Most conditions of a rule; a call has six arguments.
const CONDITIONS_MAX: usize = 6;

/// One rule for some calls.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallItem {
    names: Vec<String>,
    #[serde(default)]
    when: Vec<ConditionItem>,
    otherwise: Option<String>,
    answer: Option<String>,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConditionItem {
    arg: u8,
    mask: Option<u32>,
    values: Vec<u32>,
}

/// Compiles the rules; no call may have two, here and in `known`. A name that only another
/// architecture has is skipped: a call that does not exist cannot be made.
pub(super) fn calls(
    arch: Arch,
    blame: &Blame<'_>,
    items: &[CallItem],
    known: &BTreeSet<i64>,
) -> Result<Vec<CallRule>, PolicyError> {
    let mut seen = known.clone();
    let mut all = Vec::new();
    for item in items {
        let first = item.names.first().map_or("", String::as_str);
        let rule = format!("call `{first}`");
        blame.reason(&rule, &item.why)?;
        let verdict = verdict(blame, &rule, item)?;
        let when = conditions(blame, &rule, &item.when)?;
        if item.names.is_empty() {
            return Err(blame.wrong(rule, "names no call"));
        }
        for name in &item.names {
            let rule = format!("call `{name}`");
            if !table::is_call(name) {
                return Err(blame.wrong(&rule, "there is no such call"));
            }
            let Some(number) = table::number(arch, name) else {
                continue;
            };
            if !seen.insert(number) {
                return Err(blame.wrong(rule, "has two rules"));
            }
            all.push(CallRule {
                number,
                when: when.clone(),
                verdict,
            });
        }
    }
    Ok(all)
}

fn verdict(blame: &Blame<'_>, rule: &str, item: &CallItem) -> Result<Verdict, PolicyError> {
    let errno = |text: &str| match text {
        "EPERM" => Ok(Errno::EPERM),
        "EACCES" => Ok(Errno::EACCES),
        "EAFNOSUPPORT" => Ok(Errno::EAFNOSUPPORT),
        "EINVAL" => Ok(Errno::EINVAL),
        "ENOSYS" => Ok(Errno::ENOSYS),
        "ENOTTY" => Ok(Errno::ENOTTY),
        _ => Err(blame.wrong(rule, format!("`{text}` is no error that a rule can answer"))),
    };
    match (&item.answer, &item.otherwise) {
        (None, None) => Ok(Verdict::Allow),
        (None, Some(text)) if !item.when.is_empty() => Ok(Verdict::AllowElse(errno(text)?)),
        (Some(text), None) if item.when.is_empty() => Ok(Verdict::Answer(errno(text)?)),
        _ => Err(blame.wrong(rule, "`otherwise` goes with `when`, `answer` goes alone")),
    }
}

fn conditions(
    blame: &Blame<'_>,
    rule: &str,
    items: &[ConditionItem],
) -> Result<Vec<Condition>, PolicyError> {
    if items.len() > CONDITIONS_MAX {
        return Err(blame.wrong(rule, format!("more than {CONDITIONS_MAX} conditions")));
    }
    let mut all = Vec::new();
    for item in items {
        let mask = item.mask.unwrap_or(u32::MAX);
        let different: BTreeSet<u32> = item.values.iter().copied().collect();
        let possible = 1_u64 << mask.count_ones();
        let fits = item.arg <= 5
            && mask != 0
            && !item.values.is_empty()
            && item.values.len() <= VALUES_MAX
            && (different.len() as u64) < possible
            && item.values.iter().all(|value| value & !mask == 0);
        if !fits {
            return Err(blame.wrong(rule, "a condition holds never or always, or is too long"));
        }
        all.push(Condition {
            arg: item.arg,
            mask: item.mask,
            values: different.into_iter().collect(),
        });
    }
    Ok(all)
}
