//! A file that is mapped for reading, and shared by all who map it.
//!
//! Its bytes must stay the same while it is mapped: whoever cut the file short would end those who read it (`SIGBUS`). So a file is
//! mapped only if nobody but root and the one who maps it can write to it, and those who write one make another and rename it into
//! place. A copy in memory that cannot change (`memfd` with seals) would need no such trust, and would not be shared between the
//! servers of several mounts, which is what mapping is for.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::ptr::NonNull;

use rules::Errno;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::errno::IntoErrno;

/// A file in memory.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

/// Why a file is not mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMapped {
    /// The system said no.
    #[error("{0}")]
    System(Errno),
    /// It is a directory or a device.
    #[error("not a regular file")]
    Kind,
    /// Somebody else may write to it.
    #[error("it belongs to somebody else, or others may write to it")]
    Unsafe,
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
}

// SAFETY: the mapping is only read, and lives until it is dropped, wherever that is.
unsafe impl Send for Mapping {}
// SAFETY: several threads may read.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a whole file.
    pub fn of(path: &Path) -> Result<Self, NotMapped> {
        // Not waiting for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = rustix::fs::open(path, flags, Mode::empty()).errno();
        let file = File::from(opened.map_err(NotMapped::System)?);
        let stat = rustix::fs::fstat(&file)
            .errno()
            .map_err(NotMapped::System)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(NotMapped::Kind);
        }
        let own = stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw();
        if !own || stat.st_mode & 0o022 != 0 {
            return Err(NotMapped::Unsafe);
        }
        let length = usize::try_from(stat.st_size).map_err(|_| NotMapped::System(Errno::FBIG))?;
        if length == 0 {
            return Err(NotMapped::Empty);
        }
        // SAFETY: the kernel chooses where, so that nothing else is replaced.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED,
                file.as_fd(),
                0,
            )
        };
        let start = start.errno().map_err(NotMapped::System)?;
        let start = NonNull::new(start.cast()).ok_or(NotMapped::System(Errno::NOMEM))?;
        Ok(Self { start, length })
    }

    /// Returns the bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so much is mapped until this is dropped. Nobody writes to the file, see above.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }

    /// Takes the pages out of this process' memory; they come back from the page cache when they are read.
    pub fn release(&self) {
        // SAFETY: pages of a shared file that is only read: the same bytes come back.
        let done = unsafe {
            rustix::mm::madvise(
                self.start.as_ptr().cast(),
                self.length,
                Advice::LinuxDontNeed,
            )
        };
        // If they stay, that is more memory and nothing else.
        done.ok();
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it is mapped since `of`, and no slice of it outlives this.
        let done = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        done.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_mapped_if_nobody_else_can_write_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "bytes").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mapped = Mapping::of(&path).unwrap();
        assert_eq!(mapped.bytes(), b"bytes");
        mapped.release();
        assert_eq!(mapped.bytes(), b"bytes");
        fs::rename(dir.path().join("f"), dir.path().join("g")).unwrap();
        fs::remove_file(dir.path().join("g")).unwrap();
        assert_eq!(mapped.bytes(), b"bytes", "removed");
        for mode in [0o664, 0o646] {
            fs::write(&path, "bytes").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(Mapping::of(&path).unwrap_err(), NotMapped::Unsafe);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(Mapping::of(&path).unwrap_err(), NotMapped::Empty);
        assert_eq!(Mapping::of(dir.path()).unwrap_err(), NotMapped::Kind);
        let missing = dir.path().join("missing");
        assert_eq!(
            Mapping::of(&missing).unwrap_err(),
            NotMapped::System(Errno::NOENT)
        );
    }
}
