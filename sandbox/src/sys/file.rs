//! What only `statx` tells of a file.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// What a file's system says of reads past the page cache (statx(2), `STATX_DIOALIGN`, Linux 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectReads {
    /// Memory, offset and length must be multiples of so many bytes.
    Aligned(u32),
    /// There are none for this file.
    None,
    /// It does not tell: an older kernel, or a file system that may read through the cache anyway.
    Untold,
}

/// Asks about an open file.
pub(crate) fn direct_reads(file: BorrowedFd<'_>) -> io::Result<DirectReads> {
    let mut stat = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows; the kernel writes one
    // statx to memory that outlives the call.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            stat.as_mut_ptr(),
        )
    };
    super::check(result.into())?;
    // SAFETY: the memory was zeroed, and zero is a valid value of every field.
    let stat = unsafe { stat.assume_init() };
    if stat.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(DirectReads::Untold);
    }
    Ok(
        match stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) {
            0 => DirectReads::None,
            bytes => DirectReads::Aligned(bytes),
        },
    )
}
