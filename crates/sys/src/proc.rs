//! `/proc`, also where its name means another place by now.
//!
//! A server that is started in an initramfs stays there when the system moves on and takes `/proc` along.
//! It has made `/proc` its working directory before, and paths begin there.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rules::Errno;

use crate::errno::IntoErrno;

/// Whether the working directory is `/proc`.
static STANDS_HERE: AtomicBool = AtomicBool::new(false);

/// Makes `/proc` the working directory, or `/` where there is none.
pub(crate) fn stand_here() -> Result<(), Errno> {
    match rustix::process::chdir("/proc").errno() {
        Err(Errno::NOENT) => rustix::process::chdir("/").errno(),
        done => {
            STANDS_HERE.store(done.is_ok(), Ordering::Relaxed);
            done
        }
    }
}

/// Returns the path of something in `/proc`.
pub(crate) fn path(rest: &str) -> String {
    let before = if STANDS_HERE.load(Ordering::Relaxed) {
        "./"
    } else {
        "/proc/"
    };
    format!("{before}{rest}")
}

/// Returns where something open is, as the system tells it.
pub(crate) fn path_of_open(open: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let link = path(&format!("self/fd/{}", open.as_raw_fd()));
    let found = rustix::fs::readlink(link, Vec::new()).ok()?;
    Some(found.into_bytes())
}
