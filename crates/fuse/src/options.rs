//! What a mount is served with.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::id_map::IdMap;

/// As long as the kernel cares to remember (136 years).
pub const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// What the kernel may remember without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// How long a name means the same object.
    pub entry_timeout: Duration,
    /// How long attributes stay.
    pub attr_timeout: Duration,
    /// How long a name that was not there stays absent; zero: not remembered.
    pub negative_timeout: Duration,
    /// Whether listings of directories are remembered until a change through this mount.
    pub cache_dirs: bool,
    /// Whether targets of symbolic links are remembered.
    pub cache_symlinks: bool,
    /// Whether cached data goes when size or time of modification changed.
    pub revalidate_data: bool,
}

impl CachePolicy {
    /// Nobody else changes the branches (`udba=none`), or whoever does is heard (`udba=notify`).
    pub fn forever() -> Self {
        Self {
            entry_timeout: FOREVER,
            attr_timeout: FOREVER,
            negative_timeout: FOREVER,
            cache_dirs: true,
            cache_symlinks: true,
            revalidate_data: false,
        }
    }

    /// The branches may change, and changes show after this time (`udba=reval`).
    pub fn revalidated(after: Duration) -> Self {
        Self {
            entry_timeout: after,
            attr_timeout: after,
            negative_timeout: after,
            cache_dirs: false,
            cache_symlinks: false,
            revalidate_data: true,
        }
    }

    /// The branches may change, and changes show at once.
    pub fn exact() -> Self {
        Self::revalidated(Duration::ZERO)
    }
}

impl Default for CachePolicy {
    /// Changes show after a second.
    fn default() -> Self {
        Self::revalidated(Duration::from_secs(1))
    }
}

/// What a mount is served with.
#[derive(Debug, Clone, Default)]
pub struct ServeOptions {
    /// What the kernel may remember.
    pub cache: CachePolicy,
    /// Whether the kernel may read and write files of branches itself; it takes `CAP_SYS_ADMIN` too.
    pub passthrough: bool,
    /// Whether files are used without being opened: the kernel asks for data that it does not have, and for nothing else. Only for a
    /// mount that nobody can ever write to and whose branches nobody else changes; data does not bypass the server then.
    pub without_opens: bool,
    /// Whether access control lists are enforced.
    pub acl: bool,
    /// How many threads answer at most, by io_uring those of each processor; 0: eight. One uses the device.
    pub threads: usize,
    /// Requests come through `/dev/fuse` even where the kernel offers io_uring.
    pub device_only: bool,
    /// Who owns what, as seen through the mount.
    pub ids: IdMap,
    /// Objects are found by their handles also after the kernel forgot them, for a server of NFS; the number tells handles
    /// of this mount from those of another.
    pub generation: Option<NonZeroU32>,
}

impl ServeOptions {
    /// Returns how many threads answer at most.
    pub(crate) fn thread_count(&self) -> usize {
        match self.threads {
            // They are started when there is nobody for a request, because the others wait for disks.
            0 => 8,
            count => count,
        }
    }
}
