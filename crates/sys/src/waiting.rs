//! Waiting until a descriptor has something to read.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rules::Errno;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::errno::{IntoErrno, uninterrupted};

/// Waits until there is something to read, an end or an error included, at most for this
/// long; returns whether there is.
pub(crate) fn wait_readable(fd: impl AsFd, timeout: Option<Duration>) -> Result<bool, Errno> {
    let fd: BorrowedFd<'_> = fd.as_fd();
    let start = Instant::now();
    uninterrupted(|| {
        let left = timeout.map(|timeout| timespec(timeout.saturating_sub(start.elapsed())));
        let mut waiting = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        poll(&mut waiting, left.as_ref())
            .errno()
            .map(|ready| ready > 0)
    })
}

/// Waits until one of two has something to read, and returns whether the first has.
pub(crate) fn wait_for_one(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> Result<bool, Errno> {
    uninterrupted(|| {
        let mut waiting = [first, second].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        poll(&mut waiting, None).errno()?;
        Ok(!waiting[0].revents().is_empty())
    })
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
