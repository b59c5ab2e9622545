//! Whiteouts of the kind that overlayfs leaves: character devices 0:0.
//!
//! They are all alike, so one more is one more name of the one that was made last, as with overlayfs: that takes no inode.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rules::{Creation, Errno, Kind, Name};
use rustix::fs::{AtFlags, Mode, OFlags};
use tree::Node;

use super::new_calls::NewCalls;
use super::place::Place;
use super::{attributes, creating, opening};
use crate::errno::IntoErrno;

/// After so many whiteouts of which none could get another name, none is kept for that.
const ATTEMPTS: u32 = 16;

/// The whiteout of a tree that was made last.
#[derive(Debug, Default)]
pub(super) struct Whiteouts {
    last: Mutex<Option<Arc<OwnedFd>>>,
    /// How many were made since one got another name.
    in_vain: AtomicU32,
}

impl Whiteouts {
    /// Leaves a whiteout. `EEXIST` when the name is taken.
    pub(super) fn make(
        &self,
        calls: NewCalls,
        dir: BorrowedFd<'_>,
        name: &Name,
    ) -> Result<(), Errno> {
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(last) = last {
            match rustix::fs::linkat(last, "", dir, name.as_os_str(), AtFlags::EMPTY_PATH).errno() {
                Ok(()) => {
                    self.in_vain.store(0, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Errno::EXIST) => return Err(Errno::EXIST),
                // It is gone, or has all the names it can have, or is elsewhere, or may not be linked: making one tells more.
                Err(_) => {}
            }
        }
        creating::node(dir, name, Node::CharDevice(0), &Creation::exact(0))?;
        if self.in_vain.fetch_add(1, Ordering::Relaxed) < ATTEMPTS {
            let made = opening::entry(calls, dir, name, OFlags::PATH, Mode::empty());
            let made = made.ok().filter(|made| is_whiteout(made.as_fd()));
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = made.map(Arc::new);
        }
        Ok(())
    }
}

fn is_whiteout(entry: BorrowedFd<'_>) -> bool {
    attributes::attr(Place::itself(entry))
        .is_ok_and(|attr| attr.kind == Kind::CharDevice && attr.rdev == 0)
}
