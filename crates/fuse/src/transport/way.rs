//! How requests and replies travel, and why not faster.

use std::fmt;

use rules::Errno;
use sys::request_ring::Support;

/// How requests and replies of a mount travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over io_uring.
    IoUring,
    /// Through `/dev/fuse`.
    Device(NoRing),
}

/// Why a mount is not served over io_uring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRing {
    /// The kernel cannot.
    Absent,
    /// The kernel may not.
    Off,
    /// Who mounts wants `/dev/fuse`, or one thread.
    Unwanted,
    /// No ring can be made.
    Impossible(Errno),
    /// The kernel does not take what it offered.
    Refused(Errno),
}

impl NoRing {
    /// Returns why the kernel has not offered it.
    pub(crate) fn not_offered() -> Self {
        match sys::request_ring::support() {
            Support::Absent => Self::Absent,
            // On since a moment ago, maybe.
            Support::Off | Support::On => Self::Off,
        }
    }
}

impl Way {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Device(_) => "/dev/fuse",
        }
    }

    /// Returns what keeps the mount from a faster one.
    pub fn obstacle(self) -> Option<NoRing> {
        match self {
            Self::IoUring => None,
            Self::Device(why) => Some(why),
        }
    }
}

impl fmt::Display for NoRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("not in this kernel (Linux 6.14 has it)"),
            Self::Off => f.write_str("switched off in the kernel (enable_uring)"),
            Self::Unwanted => f.write_str("one thread was asked for"),
            Self::Impossible(errno) => write!(f, "no ring can be made: {errno}"),
            Self::Refused(errno) => write!(f, "refused by the kernel: {errno}"),
        }
    }
}
