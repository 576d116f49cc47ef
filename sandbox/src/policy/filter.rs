//! System call rules as programs of the kernel's filter machine.
//!
//! Called by the policy compiler as a check and by the cell's init. Every program begins with the
//! check of the architecture; on x86_64 the last one also kills calls with x32 numbers, which the
//! architecture check lets through.
//!
//! seccompiler knows no notification and only one action for matches. So: errors that a rule
//! answers are programs of their own (of several results the kernel takes the strictest, and an
//! error is stricter than a notification), and the main program is compiled with `Trace(0)` as the
//! default, which is then rewritten to a notification.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::{
    Arch, CallRule, Condition, Policy, Verdict,
    evaluate::{Filter, FilterError},
};

/// First number of the x32 calls (`__X32_SYSCALL_BIT` of `asm/unistd.h`).
const X32_FIRST: u32 = 0x4000_0000;
/// Widest mask whose other values are listed one by one.
const MASK_BITS_MAX: u32 = 6;
/// Most alternatives of a rule: more would fill a program, which has at most 4096 instructions.
const ROWS_MAX: usize = 256;
// linux/bpf_common.h
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// The programs of a policy, in the order of installation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    /// Answer some calls with errors, let everything else pass to the main program.
    pub(crate) errors: Vec<BpfProgram>,
    /// Allows the calls of the policy, notifies for everything else.
    pub(crate) main: BpfProgram,
}

/// Compiles a policy.
///
/// # Errors
/// A sentence; cannot happen for a [`Policy`] that was parsed, which holds its programs. No program
/// is returned that a kernel would refuse.
pub(crate) fn compile(policy: &Policy) -> Result<Programs, String> {
    let mut errors: BTreeMap<u32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
    let mut main = BTreeMap::new();
    for rule in &policy.calls {
        match rule.verdict {
            Verdict::Answer(errno) => {
                let calls = errors.entry(errno as u32).or_default();
                calls.insert(rule.number, Vec::new());
                continue;
            }
            Verdict::AllowElse(errno) => {
                let calls = errors.entry(errno as u32).or_default();
                calls.insert(rule.number, opposite(rule)?);
            }
            Verdict::Allow => {}
        }
        main.insert(rule.number, alternatives(rule)?);
    }
    let program = |rules, default, matched| program(policy.arch, rules, default, matched);
    let errors = errors
        .into_iter()
        .map(|(errno, rules)| program(rules, SeccompAction::Allow, SeccompAction::Errno(errno)));
    let programs = Programs {
        errors: errors.collect::<Result<_, _>>()?,
        main: notifying(
            policy.arch,
            program(main, SeccompAction::Trace(0), SeccompAction::Allow)?,
        ),
    };
    programs.filters().map_err(|error| error.to_string())?;
    Ok(programs)
}

impl Programs {
    /// The same, for evaluation, in the order of installation.
    pub(super) fn filters(&self) -> Result<Vec<Filter>, FilterError> {
        let all = self.errors.iter().chain([&self.main]);
        all.map(|program| Filter::new(program)).collect()
    }
}

/// One program: `matched` for calls that a rule matches, `default` for all others.
pub(super) fn program(
    arch: Arch,
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    default: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, String> {
    let target = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    SeccompFilter::new(rules, default, matched, target)
        .and_then(BpfProgram::try_from)
        .map_err(|error| error.to_string())
}

/// Rules of which one must match for the call to be allowed: one for each choice of values.
pub(super) fn alternatives(rule: &CallRule) -> Result<Vec<SeccompRule>, String> {
    if rule.when.is_empty() {
        return Ok(Vec::new());
    }
    let mut rows: Vec<Vec<SeccompCondition>> = vec![Vec::new()];
    for condition in &rule.when {
        let mut longer = Vec::new();
        for row in &rows {
            for value in &condition.values {
                let mut row = row.clone();
                row.push(equals(condition, *value)?);
                longer.push(row);
            }
        }
        if longer.len() > ROWS_MAX {
            return Err(format!("a rule with more than {ROWS_MAX} alternatives"));
        }
        rows = longer;
    }
    rows.into_iter()
        .map(|row| SeccompRule::new(row).map_err(|e| e.to_string()))
        .collect()
}

/// Rules of which one matches exactly when the call is not allowed.
pub(super) fn opposite(rule: &CallRule) -> Result<Vec<SeccompRule>, String> {
    let mut rows = Vec::new();
    for condition in &rule.when {
        let Some(mask) = condition.mask else {
            let differs = |value: &u32| make(condition.arg, SeccompCmpOp::Ne, *value);
            rows.push(
                condition
                    .values
                    .iter()
                    .map(differs)
                    .collect::<Result<_, _>>()?,
            );
            continue;
        };
        if mask.count_ones() > MASK_BITS_MAX {
            return Err(format!("mask {mask:#x} is too wide for `otherwise`"));
        }
        // All values within the mask, by the standard trick of counting through its bits.
        let mut value = 0_u32;
        loop {
            if !condition.values.contains(&value) {
                rows.push(vec![equals(condition, value)?]);
            }
            value = value.wrapping_sub(mask) & mask;
            if value == 0 {
                break;
            }
        }
    }
    rows.into_iter()
        .map(|row| SeccompRule::new(row).map_err(|e| e.to_string()))
        .collect()
}

fn equals(condition: &Condition, value: u32) -> Result<SeccompCondition, String> {
    let operator = match condition.mask {
        Some(mask) => SeccompCmpOp::MaskedEq(u64::from(mask)),
        None => SeccompCmpOp::Eq,
    };
    make(condition.arg, operator, value)
}

/// Compares the low word only: the arguments with rules are `int` in the kernel, or flags below
/// 2^32, and a high word must not make a refused value an accepted one or the other way round.
fn make(arg: u8, operator: SeccompCmpOp, value: u32) -> Result<SeccompCondition, String> {
    SeccompCondition::new(arg, SeccompCmpArgLen::Dword, operator, u64::from(value))
        .map_err(|error| error.to_string())
}

/// Turns the default into a notification and, where there is x32, puts its check in front.
pub(super) fn notifying(arch: Arch, program: BpfProgram) -> BpfProgram {
    let instruction = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    let guard = [
        instruction(LOAD_WORD, 0, 0), // seccomp_data.nr
        sock_filter {
            code: JUMP_GE,
            jt: 0,
            jf: 1,
            k: X32_FIRST,
        },
        instruction(RETURN, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let mut all = if arch == Arch::X86_64 {
        guard.to_vec()
    } else {
        Vec::new()
    };
    all.extend(program.into_iter().map(|mut one| {
        if one.code == RETURN && one.k == libc::SECCOMP_RET_TRACE {
            one.k = libc::SECCOMP_RET_USER_NOTIF;
        }
        one
    }));
    all
}

#[cfg(test)]
#[path = "filter_tests.rs"]
pub(super) mod tests;
