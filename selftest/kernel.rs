//! Every unsafe line of the hostile program: system calls, memory, the entry point.
//!
//! Called by all attempts. [`call`] is safe to call for the compiler only: it can do anything a
//! process can do to itself, which is the point, and each attempt has a process of its own.
//! Another architecture needs another [`call`], another entry, other numbers, and no more.

use core::{
    arch::{asm, global_asm},
    ffi::CStr,
};

/// One system call of this architecture; a negative result is an errno.
#[inline(always)]
pub fn call(number: usize, args: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11; memory that a call changes
    // belongs to this process, which has one thread and ends after its attempt.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// One call of the 32-bit ABI, from 64-bit code.
pub fn call32(number: usize) -> isize {
    let result: isize;
    // SAFETY: as above; rbx is the compiler's own and is kept by hand; all arguments are zero.
    unsafe {
        asm!(
            "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
            inlateout("rax") number as isize => result,
            inlateout("rcx") 0_usize => _, inlateout("rdx") 0_usize => _,
            inlateout("rsi") 0_usize => _, inlateout("rdi") 0_usize => _,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    // The 32-bit ABI answers in eax only.
    result as i32 as isize
}

/// `time` through the page of old entry points at a fixed address (`vsyscall`).
pub fn call_old_page() -> isize {
    let result: isize;
    // SAFETY: where the page is missing, the process ends by a signal, which is an answer too.
    unsafe {
        asm!(
            "call {page}", page = in(reg) 0xffff_ffff_ff60_0400_usize,
            lateout("rax") result, in("rdi") 0_usize, clobber_abi("C"),
        );
    }
    result
}

/// Starts a thread that never leaves one instruction and needs no stack.
pub fn spin_thread() -> isize {
    /// CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, as the Go runtime starts its threads.
    const FLAGS: usize = 0x0005_0f00;
    let result: isize;
    // SAFETY: the new thread shares our stack and touches none of it: it jumps to itself.
    unsafe {
        asm!(
            "syscall", "test rax, rax", "jnz 3f", "2: pause", "jmp 2b", "3:",
            inlateout("rax") crate::numbers::CLONE as isize => result,
            in("rdi") FLAGS, in("rsi") 0_usize, in("rdx") 0_usize, in("r10") 0_usize,
            in("r8") 0_usize, lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// Writes one byte into each page of a mapping of our own.
pub fn touch(start: usize, bytes: usize) {
    for page in (start..start + bytes).step_by(4096) {
        // SAFETY: the caller has just mapped `bytes` writable bytes at `start`.
        unsafe { core::ptr::write_volatile(page as *mut u8, 1) };
    }
}

/// What the program was started with.
pub struct Args {
    count: usize,
    first: *const *const core::ffi::c_char,
}

impl Args {
    /// The argument at a place; 0 is the program's name.
    pub fn at(&self, place: usize) -> Option<&'static CStr> {
        if place >= self.count {
            return None;
        }
        // SAFETY: the kernel put `count` pointers at `first`, each to a text with a NUL, and leaves
        // both where they are until the program ends.
        Some(unsafe { CStr::from_ptr(*self.first.add(place)) })
    }

    /// The value of `name=value`, NUL included.
    pub fn value(&self, name: &str) -> Option<&'static CStr> {
        (1..self.count)
            .filter_map(|place| self.at(place))
            .find_map(|text| {
                let rest = text.to_bytes_with_nul().strip_prefix(name.as_bytes())?;
                CStr::from_bytes_with_nul(rest.strip_prefix(b"=")?).ok()
            })
    }

    /// The same as a number; 0 when it is none.
    pub fn number(&self, name: &str) -> usize {
        self.value(name).map_or(0, number)
    }
}

/// Decimal digits as a number.
pub fn number(text: &CStr) -> usize {
    let digits = text
        .to_bytes()
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |all, byte| all * 10 + usize::from(byte - b'0'))
}

global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {begin}",
    "ud2",
    begin = sym begin,
);

/// The kernel leaves the number of arguments, then the arguments, on the stack.
extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the entry point gives the stack as the kernel left it (System V ABI, "Process
    // Initialization").
    let count = unsafe { *stack };
    // SAFETY: the pointers follow the count.
    let first = unsafe { stack.add(1) };
    crate::main(&Args {
        count,
        first: first.cast(),
    })
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::exit(crate::PANICKED)
}

/// The compiler calls these by name; there is no C library that would have them.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for both areas.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _);
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= count {
        // SAFETY: the caller vouches for both; copying upwards never overwrites what is unread.
        return unsafe { memcpy(to, from, count) };
    }
    for at in (0..count).rev() {
        // SAFETY: within the areas that the caller vouches for.
        unsafe { core::ptr::write_volatile(to.add(at), core::ptr::read_volatile(from.add(at))) };
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller vouches for the area.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") value as u8);
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    for at in 0..count {
        // SAFETY: within the areas that the caller vouches for.
        let (a, b) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, count: usize) -> i32 {
    // SAFETY: as the caller of this one vouches.
    unsafe { memcmp(one, other, count) }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller vouches for a NUL; nothing after it is read.
    while unsafe { text.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

/// The core library names it, for panics that unwind; ours end the process.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
