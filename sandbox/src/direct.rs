//! Reads files as they are on the disk, past the page cache.
//!
//! Called by the checks of the store and of the module cache. Some attacks on the kernel change
//! cached pages of a file that they may only read, and leave the disk as it was; what everybody
//! reads then differs from what a check after the next start of the machine would find. Dropping
//! pages (`posix_fadvise`) is only a wish, so the blocks are read themselves, with `O_DIRECT`.
//! Must never take a file system's silence for a promise: one that does not say that it reads past
//! the cache is reported as [`Uncached::Not`].

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
    os::{fd::AsFd as _, unix::fs::FileExt as _},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::sys::file::{DirectReads, direct_reads};

/// Largest alignment that is served; disks ask for 512 to 4,096 bytes, some arrays for 64 KiB.
const ALIGN_MAX: usize = 64 * 1024;
/// Bytes at a time, a multiple of every alignment: large enough for a disk to be busy.
const CHUNK_BYTES: usize = 1024 * 1024;

/// How a read past the page cache went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uncached {
    /// Every byte on the disk was handed out.
    Read,
    /// Nothing was read: the file cannot be read past the page cache, for this reason.
    Not(&'static str),
}

/// A buffer that the kernel accepts for such reads; made once for many files.
#[derive(Debug)]
pub struct Reader {
    memory: Vec<u8>,
    from: usize,
}

impl Default for Reader {
    fn default() -> Self {
        let memory = vec![0; CHUNK_BYTES + ALIGN_MAX];
        let from = memory.as_ptr().align_offset(ALIGN_MAX);
        Self { memory, from }
    }
}

impl Reader {
    /// Hands every byte of `file` on the disk to `sink`, in order. The file stays in this mode.
    ///
    /// # Errors
    /// When the kernel refuses, or the file changes its length meanwhile.
    pub fn read(&mut self, file: &File, mut sink: impl FnMut(&[u8])) -> io::Result<Uncached> {
        let align = match direct_reads(file.as_fd())? {
            DirectReads::Aligned(bytes) => bytes as usize,
            DirectReads::None => return Ok(Uncached::Not("this file has no reads past the cache")),
            DirectReads::Untold => {
                let why = "the file system does not tell whether it reads past the cache";
                return Ok(Uncached::Not(why));
            }
        };
        if align > ALIGN_MAX || !align.is_power_of_two() {
            return Ok(Uncached::Not("the disk wants a larger alignment"));
        }
        let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
        if let Err(errno) = fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_DIRECT)) {
            return match errno {
                nix::errno::Errno::EINVAL => Ok(Uncached::Not("the file system has no O_DIRECT")),
                errno => Err(errno.into()),
            };
        }
        let chunk = self.from..self.from + CHUNK_BYTES;
        let mut at = 0_u64;
        loop {
            let count = match file.read_at(&mut self.memory[chunk.clone()], at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            sink(&self.memory[chunk.start..chunk.start + count]);
            at += count as u64;
            // Only the last read may be short: the next one would not be aligned.
            if count % align != 0 || count == 0 {
                break;
            }
        }
        let mut file = file;
        if at != file.seek(SeekFrom::End(0))? {
            return Err(io::Error::other("the file's length changes"));
        }
        Ok(Uncached::Read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn files_of_every_length_are_read_whole_or_not_at_all() {
        let mut reader = Reader::default();
        let here = env!("CARGO_MANIFEST_DIR");
        for length in [
            0,
            1,
            511,
            512,
            4095,
            4096,
            4097,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
        ] {
            let content: Vec<u8> = (0..=250_u8).cycle().take(length).collect();
            let mut file = tempfile::tempfile_in(here).unwrap();
            file.write_all(&content).unwrap();
            let mut seen = Vec::new();
            match reader
                .read(&file, |part| seen.extend_from_slice(part))
                .unwrap()
            {
                Uncached::Read => assert_eq!(seen, content, "{length}"),
                Uncached::Not(why) => assert!(seen.is_empty() && !why.is_empty()),
            }
        }
    }

    #[test]
    fn memory_that_is_no_disk_is_never_said_to_be_read() {
        let mut file = tempfile::tempfile_in("/dev/shm").unwrap();
        file.write_all(b"in memory only").unwrap();
        let read = Reader::default().read(&file, |_| panic!("nothing is handed out"));
        assert!(matches!(read, Ok(Uncached::Not(_))), "{read:?}");
    }
}
