//! Which of the younger system calls this kernel has.
//!
//! Asked once per process. A call that a seccomp filter refuses counts as missing, so
//! the older way is taken in old containers too.

use std::ptr::null;
use std::sync::OnceLock;

use rules::Errno;

use crate::errno;

/// `setxattrat`; the numbers are the same on all architectures that Plywood runs on.
pub(super) const SYS_SETXATTRAT: libc::c_long = 463;
/// `getxattrat`.
pub(super) const SYS_GETXATTRAT: libc::c_long = 464;
/// `listxattrat`.
pub(super) const SYS_LISTXATTRAT: libc::c_long = 465;
/// `removexattrat`.
pub(super) const SYS_REMOVEXATTRAT: libc::c_long = 466;
/// `fchmodat2`.
pub(super) const SYS_FCHMODAT2: libc::c_long = 452;

/// The younger system calls, each with whether it may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NewCalls {
    /// `openat2`, since Linux 5.6.
    pub(super) openat2: bool,
    /// `fchmodat2`, since Linux 6.6.
    pub(super) fchmodat2: bool,
    /// `getxattrat` and its family, since Linux 6.13.
    pub(super) xattrat: bool,
}

impl NewCalls {
    /// None of them, as in an old kernel.
    #[cfg(test)]
    pub(super) const NONE: Self = Self {
        openat2: false,
        fchmodat2: false,
        xattrat: false,
    };

    /// Returns what this kernel has.
    pub(super) fn of_this_kernel() -> Self {
        static FOUND: OnceLock<NewCalls> = OnceLock::new();
        *FOUND.get_or_init(Self::probe)
    }

    /// Makes each call with arguments that it refuses with `EINVAL` before it looks at
    /// anything else; a missing call answers `ENOSYS`, a filtered one mostly `EPERM`.
    fn probe() -> Self {
        let empty = c"".as_ptr();
        let nothing = null::<u8>();
        // SAFETY: a structure of size 0 is refused before its pointer is used.
        let openat2 =
            unsafe { libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, empty, nothing, 0_usize) };
        let openat2 = refused_as_invalid(openat2);
        // SAFETY: unknown flags are refused before the path is read, which is a valid string.
        let fchmodat2 = unsafe { libc::syscall(SYS_FCHMODAT2, libc::AT_FDCWD, empty, 0, -1) };
        let fchmodat2 = refused_as_invalid(fchmodat2);
        // SAFETY: a structure of size 0 is refused before its pointer is used.
        let xattrat = unsafe {
            libc::syscall(
                SYS_SETXATTRAT,
                libc::AT_FDCWD,
                empty,
                0,
                empty,
                nothing,
                0_usize,
            )
        };
        let xattrat = refused_as_invalid(xattrat);
        Self {
            openat2,
            fchmodat2,
            xattrat,
        }
    }
}

fn refused_as_invalid(result: libc::c_long) -> bool {
    result == -1 && errno::last() == Errno::INVAL
}
