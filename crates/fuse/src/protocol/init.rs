//! The first exchange: what both sides can do.

use super::arguments::{Arguments, Malformed};
use super::payload::Record;

/// The major version spoken here; another one is another protocol.
pub const MAJOR: u32 = 7;
/// The oldest minor version that is served (Linux 5.4).
pub const OLDEST_MINOR: u32 = 31;
/// The newest minor version that is understood (Linux 6.18).
pub const NEWEST_MINOR: u32 = 45;

/// Capabilities, by their bits in `flags` and, from bit 32 on, `flags2`.
pub mod flag {
    /// Several reads at a time.
    pub const ASYNC_READ: u64 = 1 << 0;
    /// `O_TRUNC` comes with `OPEN`.
    pub const ATOMIC_O_TRUNC: u64 = 1 << 3;
    /// `LOOKUP` of `.` and `..` is answered.
    pub const EXPORT_SUPPORT: u64 = 1 << 4;
    /// Writes above 4 KiB.
    pub const BIG_WRITES: u64 = 1 << 5;
    /// The umask comes with requests and is not applied by the kernel.
    pub const DONT_MASK: u64 = 1 << 6;
    /// Cached pages go when size or time of modification changed.
    pub const AUTO_INVAL_DATA: u64 = 1 << 12;
    /// `READDIRPLUS` is answered.
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    /// Asynchronous direct I/O.
    pub const ASYNC_DIO: u64 = 1 << 15;
    /// Lookups and listings of one directory at the same time.
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    /// Access control lists are stored, and enforced by the kernel.
    pub const POSIX_ACL: u64 = 1 << 20;
    /// `max_pages` of the reply counts.
    pub const MAX_PAGES: u64 = 1 << 22;
    /// Targets of symbolic links are cached.
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    /// Set-id bits are dropped when the kernel says so, without it asking first.
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// The longer `SETXATTR`.
    pub const SETXATTR_EXT: u64 = 1 << 29;
    /// `flags2` counts.
    pub const INIT_EXT: u64 = 1 << 30;
    /// The kernel knows entries that expire without being dropped.
    pub const HAS_EXPIRE_ONLY: u64 = 1 << 35;
    /// Shared `mmap` of files in direct I/O.
    pub const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
    /// Data may go to a file of the server without asking it.
    pub const PASSTHROUGH: u64 = 1 << 37;
    /// Requests come over io_uring; until there is a slot for each processor, or the kernel has refused one, callers wait.
    pub const OVER_IO_URING: u64 = 1 << 41;
}

/// What the kernel offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitRequest {
    /// Major version.
    pub major: u32,
    /// Minor version.
    pub minor: u32,
    /// Largest read-ahead in bytes.
    pub max_readahead: u32,
    /// Capabilities, see [`flag`].
    pub flags: u64,
}

impl InitRequest {
    /// Reads `struct fuse_init_in`, in its short form too.
    pub fn parse(mut arguments: Arguments<'_>) -> Result<Self, Malformed> {
        let major = arguments.u32()?;
        let minor = arguments.u32()?;
        let max_readahead = arguments.u32()?;
        let low = u64::from(arguments.u32()?);
        let high = if low & flag::INIT_EXT == 0 {
            0
        } else {
            u64::from(arguments.u32()?)
        };
        Ok(Self {
            major,
            minor,
            max_readahead,
            flags: high << 32 | low,
        })
    }
}

/// What is taken of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InitReply {
    /// Minor version that is spoken.
    pub minor: u32,
    /// Largest read-ahead in bytes.
    pub max_readahead: u32,
    /// Capabilities, see [`flag`].
    pub flags: u64,
    /// Requests in the background before others wait.
    pub max_background: u16,
    /// Requests in the background before the filesystem counts as congested.
    pub congestion_threshold: u16,
    /// Largest write in bytes.
    pub max_write: u32,
    /// Granularity of times in nanoseconds.
    pub time_gran: u32,
    /// Largest request in pages.
    pub max_pages: u16,
    /// How many filesystems may lie below a file that is passed through, counted from this one.
    pub max_stack_depth: u32,
}

impl InitReply {
    /// Returns how many bytes of names or data a request or its reply may have: what the kernel asks of a slot of its rings.
    pub fn largest_payload(&self) -> usize {
        let smallest = 8192;
        let pages = usize::from(self.max_pages) * sys::processors::page_size();
        smallest.max(self.max_write as usize).max(pages)
    }

    /// Builds `struct fuse_init_out`.
    pub fn record(&self) -> Record<64> {
        Record::new()
            .u32(0, MAJOR)
            .u32(4, self.minor)
            .u32(8, self.max_readahead)
            .u32(12, self.flags as u32)
            .u16(16, self.max_background)
            .u16(18, self.congestion_threshold)
            .u32(20, self.max_write)
            .u32(24, self.time_gran)
            .u16(28, self.max_pages)
            .u32(32, (self.flags >> 32) as u32)
            .u32(36, self.max_stack_depth)
    }
}

/// Builds the reply to a kernel of a larger major version, which then asks again in ours.
pub fn other_major() -> Record<64> {
    Record::new().u32(0, MAJOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn the_second_word_of_flags_counts_only_when_announced() {
        let long = bytes(&[7, 45, 131_072, 1 << 30 | 1, 1 << 5]);
        let expected = InitRequest {
            major: 7,
            minor: 45,
            max_readahead: 131_072,
            flags: flag::INIT_EXT | flag::ASYNC_READ | flag::PASSTHROUGH,
        };
        assert_eq!(InitRequest::parse(Arguments::new(&long)), Ok(expected));
        let short = bytes(&[7, 31, 4096, 1]);
        assert_eq!(InitRequest::parse(Arguments::new(&short)).unwrap().flags, 1);
        assert_eq!(
            InitRequest::parse(Arguments::new(&short[..15])),
            Err(Malformed)
        );
        assert_eq!(
            InitRequest::parse(Arguments::new(&long[..16])),
            Err(Malformed)
        );
    }

    #[test]
    fn the_reply_is_laid_out_as_the_kernel_reads_it() {
        let reply = InitReply {
            minor: 40,
            max_readahead: 1,
            flags: 2 | 3 << 32,
            max_background: 4,
            congestion_threshold: 5,
            max_write: 6,
            time_gran: 7,
            max_pages: 8,
            max_stack_depth: 9,
        };
        let mut expected = bytes(&[7, 40, 1, 2, 5 << 16 | 4, 6, 7, 8, 3, 9]);
        expected.resize(64, 0);
        assert_eq!(reply.record().bytes()[..], expected[..]);
    }
}
