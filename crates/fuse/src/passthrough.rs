//! Which open files the kernel reads and writes on its own.
//!
//! While any open of a file exists the kernel wants all of them in one mode: cached by it, or
//! passed through to one and the same backing file; it answers another mode with `EIO`. So
//! the first open decides and the others follow, and a backing file is let go at the last
//! release. The kernel ends an open before it says so: counts here are never too low.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rules::Errno;
use sys::FuseDevice;
use sys::fuse_device::SetId;
use union::InodeId;

const PARTS: usize = 64;

/// Where files are registered for the kernel's own use.
pub(crate) trait Backing: Send + Sync {
    /// Registers a file; writes through it drop set-id bits, as those of an ordinary user do.
    fn open(&self, file: BorrowedFd<'_>) -> Result<u32, Errno>;
    /// Ends a registration.
    fn close(&self, id: u32);
}

impl Backing for Arc<FuseDevice> {
    fn open(&self, file: BorrowedFd<'_>) -> Result<u32, Errno> {
        self.backing_open(file, SetId::Drop)
    }

    fn close(&self, id: u32) {
        if let Err(errno) = self.backing_close(id) {
            // The kernel frees it with the mount.
            tracing::debug!(id, %errno, "cannot close backing file");
        }
    }
}

/// How data of an open file travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// By requests, with the kernel's cache in front.
    Cached,
    /// To this backing file.
    Backing(u32),
    /// Neither: it is for writing, and others read a lower file.
    Refused,
}

/// What an open is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    /// It is for writing.
    pub(crate) write: bool,
    /// Its reply carries attributes, so none from before are left in the kernel.
    pub(crate) with_attributes: bool,
    /// The file is a lower one, for reading only.
    pub(crate) lent: bool,
}

/// The modes of all open files.
pub(crate) struct Passthrough<B> {
    backing: B,
    /// Whether it was agreed on at INIT; without it there is nothing to keep in mind.
    agreed: bool,
    /// Whether new files may still be registered.
    enabled: AtomicBool,
    /// Opens for writing that the kernel serves itself.
    writers: AtomicUsize,
    parts: [Mutex<HashMap<InodeId, Opens>>; PARTS],
}

struct Opens {
    count: u32,
    writers: u32,
    mode: Mode,
    /// The backing file is a lower one. The kernel would open it again for a writer, and write to it.
    lent: bool,
    /// The kernel may hold attributes from before somebody wrote behind our back.
    attributes_stale: bool,
}

impl<B: Backing> Passthrough<B> {
    pub(crate) fn new(backing: B, agreed: bool) -> Self {
        Self {
            backing,
            agreed,
            enabled: AtomicBool::new(agreed),
            writers: AtomicUsize::new(0),
            parts: std::array::from_fn(|_| Mutex::new(HashMap::new())),
        }
    }

    /// Counts an open and returns its mode. `candidate` is asked when the mode is still free; it
    /// names the file that data may go to.
    pub(crate) fn open<F: AsFd>(
        &self,
        id: InodeId,
        opening: Opening,
        candidate: impl FnOnce() -> Option<F>,
    ) -> Mode {
        if !self.agreed {
            return Mode::Cached;
        }
        let mut part = self.part(id);
        let opens = part.entry(id).or_insert_with(|| Opens {
            count: 0,
            writers: 0,
            lent: opening.lent,
            mode: self.first_mode(candidate),
            attributes_stale: false,
        });
        if opening.write && opens.lent && opens.mode != Mode::Cached {
            return Mode::Refused;
        }
        opens.count += 1;
        if opening.write && opens.mode != Mode::Cached {
            opens.writers += 1;
            opens.attributes_stale |= !opening.with_attributes;
            self.writers.fetch_add(1, Ordering::Relaxed);
        }
        opens.mode
    }

    /// Counts a release; returns whether the kernel's attributes of the file may be wrong now.
    pub(crate) fn release(&self, id: InodeId, write: bool) -> bool {
        if !self.agreed {
            return false;
        }
        let mut part = self.part(id);
        let Some(opens) = part.get_mut(&id) else {
            return false;
        };
        opens.count -= 1;
        if write && opens.mode != Mode::Cached {
            opens.writers -= 1;
            self.writers.fetch_sub(1, Ordering::Relaxed);
        }
        let ended = write && opens.writers == 0;
        let stale = ended && std::mem::take(&mut opens.attributes_stale);
        if opens.count == 0 {
            let mode = opens.mode;
            part.remove(&id);
            // Closed under the lock: an open that decides anew must not find it half gone.
            if let Mode::Backing(backing) = mode {
                self.backing.close(backing);
            }
        }
        stale
    }

    /// Returns whether a file may change without our hearing of it.
    pub(crate) fn is_written(&self, id: InodeId) -> bool {
        self.writers.load(Ordering::Relaxed) > 0
            && self
                .part(id)
                .get(&id)
                .is_some_and(|opens| opens.writers > 0)
    }

    fn first_mode<F: AsFd>(&self, candidate: impl FnOnce() -> Option<F>) -> Mode {
        if !self.enabled.load(Ordering::Relaxed) {
            return Mode::Cached;
        }
        let Some(file) = candidate() else {
            return Mode::Cached;
        };
        match self.backing.open(file.as_fd()) {
            Ok(backing) => Mode::Backing(backing),
            Err(Errno::PERM) => {
                self.enabled.store(false, Ordering::Relaxed);
                tracing::info!("passthrough needs CAP_SYS_ADMIN: files are served by requests");
                Mode::Cached
            }
            Err(errno) => {
                tracing::debug!(%errno, "file cannot be passed through");
                Mode::Cached
            }
        }
    }

    fn part(&self, id: InodeId) -> MutexGuard<'_, HashMap<InodeId, Opens>> {
        self.parts[id.0 as usize % PARTS].lock()
    }
}

#[cfg(test)]
mod tests;
