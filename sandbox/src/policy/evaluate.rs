//! What the kernel will answer to a system call, computed from the programs it is given.
//!
//! Called by the policy compiler, which lets no program through that the kernel would refuse, and
//! by whoever asks what a policy does ([`super::Policy`]). It interprets the same
//! instructions that are installed, never the rules they were made from, so that a wrong
//! compilation shows. It must never allow what it does not understand: such a program is refused.
//!
//! Sources: `bpf_check_classic`, `check_load_and_stores` and `bpf_convert_filter` of
//! net/core/filter.c, `seccomp_check_filter`, `seccomp_run_filters` and `__seccomp_filter` of
//! kernel/seccomp.c. The tests next to [`super::filter`] compare all of it with the running kernel.

use seccompiler::sock_filter;

use super::Arch;

/// Longest program in instructions (`BPF_MAXINSNS` of linux/bpf_common.h).
pub const PROGRAM_LEN_MAX: usize = 4096;
/// Words of scratch memory (`BPF_MEMWORDS` of linux/filter.h).
const MEMORY_WORDS: usize = 16;
/// Bytes of `struct seccomp_data`.
const DATA_BYTES: u32 = 64;
/// Largest error that a filter can answer (`MAX_ERRNO` of linux/err.h).
const ERRNO_MAX: u16 = 4095;

/// Bits of an instruction's code (linux/bpf_common.h).
mod code {
    pub(super) const LD: u16 = 0x00;
    pub(super) const LDX: u16 = 0x01;
    pub(super) const ST: u16 = 0x02;
    pub(super) const STX: u16 = 0x03;
    pub(super) const ALU: u16 = 0x04;
    pub(super) const JMP: u16 = 0x05;
    pub(super) const RET: u16 = 0x06;
    pub(super) const MISC: u16 = 0x07;
    /// Mask of the class.
    pub(super) const CLASS: u16 = 0x07;
    /// The operand is X instead of the constant.
    pub(super) const X: u16 = 0x08;
    pub(super) const ABS: u16 = 0x20;
    pub(super) const MEM: u16 = 0x60;
    pub(super) const LEN: u16 = 0x80;
    pub(super) const RET_A: u16 = RET | 0x10;
    pub(super) const JA: u16 = JMP;
    pub(super) const LSH: u16 = 0x60;
    pub(super) const RSH: u16 = 0x70;
    pub(super) const NEG: u16 = ALU | 0x80;
    pub(super) const DIV: u16 = 0x30;
    pub(super) const TAX: u16 = MISC;
    pub(super) const TXA: u16 = MISC | 0x80;
}

/// Why the kernel would refuse a program with `EINVAL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Empty, or longer than [`PROGRAM_LEN_MAX`].
    #[error("a filter of {0} instructions")]
    Length(usize),
    /// The last instruction is no return.
    #[error("the last instruction does not return")]
    End,
    /// An instruction that filters of system calls do not have.
    #[error("instruction {at} has the unknown code {code:#x}")]
    Code {
        /// Its index.
        at: usize,
        /// Its code.
        code: u16,
    },
    /// A constant that its instruction does not take: an offset, a divisor, a shift, a word of
    /// memory.
    #[error("instruction {at} does not take {k:#x}")]
    Constant {
        /// Its index.
        at: usize,
        /// The constant.
        k: u32,
    },
    /// A jump to behind the end.
    #[error("instruction {at} jumps out of the filter")]
    Jump {
        /// Its index.
        at: usize,
    },
    /// A word of memory that some way to here has not written.
    #[error("instruction {at} reads memory that was not written")]
    Memory {
        /// Its index.
        at: usize,
    },
}

/// What a filter sees of a system call: `struct seccomp_data` of linux/seccomp.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Call {
    /// Number, with the x32 bit where there is one.
    pub number: u32,
    /// Audit architecture, see [`super::Arch::audit`].
    pub arch: u32,
    /// Address of the instruction.
    pub ip: u64,
    /// Arguments as the registers hold them.
    pub args: [u64; 6],
}

impl Call {
    /// The aligned word at an offset of the little-endian structure.
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64| {
            let shift = if offset.is_multiple_of(8) { 0 } else { 32 };
            u32::try_from((value >> shift) & u64::from(u32::MAX)).expect("32 bits are left")
        };
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => half(self.ip),
            _ => half(self.args[(offset as usize - 16) / 8]),
        }
    }
}

/// What the kernel does with a call, the strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The process dies of SIGSYS.
    KillProcess,
    /// The thread dies.
    KillThread,
    /// The thread gets SIGSYS with this number.
    Trap(u16),
    /// The call fails with this error and is not made.
    Errno(u16),
    /// The listener is asked; without one the call fails with `ENOSYS`.
    Notify,
    /// The tracer is asked; without one the call fails with `ENOSYS`.
    Trace(u16),
    /// The call is made and logged.
    Log,
    /// The call is made.
    Allow,
}

impl Action {
    /// What the kernel takes a program's result for.
    fn of(result: u32) -> Self {
        let data = (result & libc::SECCOMP_RET_DATA) as u16; // the low 16 bits by definition
        match result & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Self::KillThread,
            libc::SECCOMP_RET_TRAP => Self::Trap(data),
            libc::SECCOMP_RET_ERRNO => Self::Errno(data.min(ERRNO_MAX)),
            libc::SECCOMP_RET_USER_NOTIF => Self::Notify,
            libc::SECCOMP_RET_TRACE => Self::Trace(data),
            libc::SECCOMP_RET_LOG => Self::Log,
            libc::SECCOMP_RET_ALLOW => Self::Allow,
            _ => Self::KillProcess, // as everything that the kernel does not know
        }
    }
}

/// A program that the kernel would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<sock_filter>);

impl Filter {
    /// Checks a program as the kernel does when it is installed.
    ///
    /// # Errors
    /// What the kernel would refuse, with the first instruction that is wrong.
    pub fn new(program: &[sock_filter]) -> Result<Self, FilterError> {
        if program.is_empty() || program.len() > PROGRAM_LEN_MAX {
            return Err(FilterError::Length(program.len()));
        }
        for (at, one) in program.iter().enumerate() {
            check(program.len(), at, one)?;
        }
        let last = program.last().map_or(0, |one| one.code);
        if last != code::RET && last != code::RET_A {
            return Err(FilterError::End);
        }
        check_memory(program)?;
        Ok(Self(program.to_vec()))
    }

    /// Runs the program: `SECCOMP_RET_…` with its data.
    ///
    /// # Panics
    /// Never: what could be out of bounds was refused.
    #[must_use]
    pub fn run(&self, call: &Call) -> u32 {
        let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; MEMORY_WORDS]);
        let mut at = 0;
        // Every jump goes forward, so that this ends.
        loop {
            let one = &self.0[at];
            at += 1;
            let operand = if one.code & code::X == 0 { one.k } else { x };
            let cell = one.k as usize % MEMORY_WORDS; // used by the memory instructions only
            match one.code & code::CLASS {
                code::LD => a = load(one, call, &memory),
                code::LDX => x = load(one, call, &memory),
                code::ST => memory[cell] = a,
                code::STX => memory[cell] = x,
                code::ALU => match compute(one.code, a, operand) {
                    Some(result) => a = result,
                    None => return libc::SECCOMP_RET_KILL_THREAD, // division by zero returns 0
                },
                code::JMP if one.code == code::JA => at += one.k as usize,
                code::JMP => {
                    let holds = holds(one.code, a, operand);
                    at += usize::from(if holds { one.jt } else { one.jf });
                }
                code::RET => return if one.code == code::RET_A { a } else { one.k },
                _ if one.code == code::TAX => x = a,
                _ => a = x,
            }
        }
    }
}

/// The kernel's answer when these filters are installed in this order: of all results the
/// strictest, which is the least number when taken as signed; of equals the newest. For calls that
/// the kernel does not ask filters about see [`is_unfiltered`].
#[must_use]
pub fn decide(filters: &[Filter], call: &Call) -> Action {
    let strength = |result: u32| (result & libc::SECCOMP_RET_ACTION_FULL).cast_signed();
    let mut all = libc::SECCOMP_RET_ALLOW;
    for filter in filters.iter().rev() {
        let one = filter.run(call);
        if strength(one) < strength(all) {
            all = one;
        }
    }
    Action::of(all)
}

/// Whether newer kernels make a call without asking any filter: `uretprobe` (since 6.14) and
/// `uprobe` (since 6.18) of x86_64, see `seccomp_uprobe_exception` of kernel/seccomp.c. Made from
/// elsewhere than the kernel's own trampoline they do nothing: one ends the process with SIGILL,
/// the other fails with `ENXIO`.
#[must_use]
pub fn is_unfiltered(call: &Call) -> bool {
    call.arch == Arch::X86_64.audit() && matches!(call.number, 335 | 336)
}

fn check(length: usize, at: usize, one: &sock_filter) -> Result<(), FilterError> {
    let constant = |fits: bool| {
        let wrong = FilterError::Constant { at, k: one.k };
        fits.then_some(()).ok_or(wrong)
    };
    let jump = |by: usize| {
        let inside = by < length - at - 1;
        inside.then_some(()).ok_or(FilterError::Jump { at })
    };
    let unknown = FilterError::Code { at, code: one.code };
    match one.code & code::CLASS {
        code::LD if one.code == code::LD | code::ABS => {
            constant(one.k < DATA_BYTES && one.k.is_multiple_of(4))
        }
        code::LD | code::LDX => match one.code & !code::CLASS {
            code::MEM => constant((one.k as usize) < MEMORY_WORDS),
            0 | code::LEN => Ok(()),
            _ => Err(unknown),
        },
        code::ST | code::STX if one.code <= code::STX => constant((one.k as usize) < MEMORY_WORDS),
        code::ALU if one.code == code::NEG => Ok(()),
        code::ALU => match one.code & !(code::CLASS | code::X) {
            code::DIV if one.code & code::X == 0 => constant(one.k != 0),
            code::LSH | code::RSH if one.code & code::X == 0 => constant(one.k < 32),
            // addition, subtraction, multiplication, division, or, and, shifts, exclusive or
            0x00 | 0x10 | 0x20 | code::DIV | 0x40 | 0x50 | code::LSH | code::RSH | 0xa0 => Ok(()),
            _ => Err(unknown),
        },
        code::JMP if one.code == code::JA => jump(one.k as usize),
        // equal, greater, greater or equal, bits set; with a constant or X
        code::JMP
            if matches!(
                one.code & !(code::CLASS | code::X),
                0x10 | 0x20 | 0x30 | 0x40
            ) =>
        {
            jump(one.jt.into()).and_then(|()| jump(one.jf.into()))
        }
        code::RET if one.code == code::RET || one.code == code::RET_A => Ok(()),
        code::MISC if one.code == code::TAX || one.code == code::TXA => Ok(()),
        _ => Err(unknown),
    }
}

/// No way through the program reads a word of memory that it has not written before.
fn check_memory(program: &[sock_filter]) -> Result<(), FilterError> {
    const ALL: u16 = u16::MAX;
    let mut at_target = vec![ALL; program.len()];
    let mut written = 0_u16;
    for (at, one) in program.iter().enumerate() {
        written &= at_target[at];
        match one.code & code::CLASS {
            code::ST | code::STX => written |= 1 << one.k,
            code::LD | code::LDX
                if one.code & !code::CLASS == code::MEM && written & (1 << one.k) == 0 =>
            {
                return Err(FilterError::Memory { at });
            }
            code::JMP => {
                let by = if one.code == code::JA {
                    [one.k as usize; 2]
                } else {
                    [usize::from(one.jt), usize::from(one.jf)]
                };
                for by in by {
                    at_target[at + 1 + by] &= written;
                }
                written = ALL; // the next instruction is reached by jumps only
            }
            _ => {}
        }
    }
    Ok(())
}

fn load(one: &sock_filter, call: &Call, memory: &[u32; MEMORY_WORDS]) -> u32 {
    match one.code & !code::CLASS {
        code::ABS => call.word(one.k),
        code::MEM => memory[one.k as usize],
        code::LEN => DATA_BYTES,
        _ => one.k,
    }
}

/// Arithmetic; nothing for a division by zero, which ends the program.
fn compute(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & !(code::CLASS | code::X) {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        code::DIV => return a.checked_div(operand),
        0x40 => a | operand,
        0x50 => a & operand,
        code::LSH => a.wrapping_shl(operand), // the kernel takes the low five bits
        code::RSH => a.wrapping_shr(operand),
        0xa0 => a ^ operand,
        _ => a.wrapping_neg(),
    })
}

fn holds(code: u16, a: u32, operand: u32) -> bool {
    match code & !(code::CLASS | code::X) {
        0x10 => a == operand,
        0x20 => a > operand,
        0x30 => a >= operand,
        _ => a & operand != 0,
    }
}

#[cfg(test)]
#[path = "evaluate_tests.rs"]
mod tests;
