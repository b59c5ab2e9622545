//! Which open files the kernel reads and writes on its own.
//!
//! While any open of a file exists the kernel wants all of them in one mode: cached by it, or
//! passed through to one and the same backing file; it answers another mode with `EIO`. So
//! the first open decides and the others follow, and a backing file is let go at the last
//! release. The kernel ends an open before it says so: counts here are never too low.
//!
//! What was registered stays so as long as the union keeps the file open, so that opening it again costs nothing.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rules::Errno;
use sys::FuseDevice;
use sys::fuse_device::SetId;
use union::{Attached, InodeId, OpenFile};

const PARTS: usize = 64;

/// Where files are registered for the kernel's own use.
pub(crate) trait Backing: Clone + Send + Sync + 'static {
    /// Registers a file.
    fn open(&self, file: BorrowedFd<'_>, set_id: SetId) -> Result<u32, Errno>;
    /// Ends a registration.
    fn close(&self, id: u32);
}

/// A registered file. It is given up with the last reference.
struct Registered<B: Backing> {
    backing: B,
    id: u32,
}

impl<B: Backing> Drop for Registered<B> {
    fn drop(&mut self) {
        self.backing.close(self.id);
    }
}

impl<B: Backing> fmt::Debug for Registered<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registered({})", self.id)
    }
}

impl<B: Backing> Attached for Registered<B> {}

impl Backing for Arc<FuseDevice> {
    fn open(&self, file: BorrowedFd<'_>, set_id: SetId) -> Result<u32, Errno> {
        self.backing_open(file, set_id)
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
pub(crate) struct Passthrough<B: Backing> {
    backing: B,
    /// Whether it was agreed on at INIT; without it there is nothing to keep in mind.
    agreed: bool,
    /// Whether new files may still be registered.
    enabled: AtomicBool,
    /// Opens for writing that the kernel serves itself.
    writers: AtomicUsize,
    parts: [Mutex<HashMap<InodeId, Opens<B>>>; PARTS],
}

struct Opens<B: Backing> {
    count: u32,
    writers: u32,
    /// What data goes to; `None`: it travels by requests.
    registered: Option<Arc<Registered<B>>>,
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
        candidate: impl FnOnce() -> Option<Arc<OpenFile<F>>>,
    ) -> Mode {
        if !self.agreed {
            return Mode::Cached;
        }
        let mut part = self.part(id);
        let opens = part.entry(id).or_insert_with(|| Opens {
            count: 0,
            writers: 0,
            lent: opening.lent,
            registered: self.registered(opening, candidate),
            attributes_stale: false,
        });
        let Some(registered) = &opens.registered else {
            opens.count += 1;
            return Mode::Cached;
        };
        if opening.write && opens.lent {
            return Mode::Refused;
        }
        opens.count += 1;
        if opening.write {
            opens.writers += 1;
            opens.attributes_stale |= !opening.with_attributes;
            self.writers.fetch_add(1, Ordering::Relaxed);
        }
        Mode::Backing(registered.id)
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
        if write && opens.registered.is_some() {
            opens.writers -= 1;
            self.writers.fetch_sub(1, Ordering::Relaxed);
        }
        let ended = write && opens.writers == 0;
        let stale = ended && std::mem::take(&mut opens.attributes_stale);
        if opens.count == 0 {
            // Given up under the lock, if nobody keeps it: an open that decides anew must not find it half gone.
            part.remove(&id);
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

    /// Registers a file, unless it is registered still.
    fn registered<F: AsFd>(
        &self,
        opening: Opening,
        candidate: impl FnOnce() -> Option<Arc<OpenFile<F>>>,
    ) -> Option<Arc<Registered<B>>> {
        if !self.enabled.load(Ordering::Relaxed) {
            return None;
        }
        let file = candidate()?;
        if let Some(registered) = file.attached() {
            return Some(registered);
        }
        // Nobody writes through what is lent.
        let set_id = if opening.lent {
            SetId::Keep
        } else {
            SetId::Drop
        };
        match self.backing.open(file.as_fd(), set_id) {
            Ok(id) => {
                let backing = self.backing.clone();
                let registered = Arc::new(Registered { backing, id });
                file.attach(Arc::clone(&registered));
                Some(registered)
            }
            Err(Errno::PERM) => {
                self.enabled.store(false, Ordering::Relaxed);
                tracing::info!("passthrough needs CAP_SYS_ADMIN: files are served by requests");
                None
            }
            Err(errno) => {
                tracing::debug!(%errno, "file cannot be passed through");
                None
            }
        }
    }

    fn part(&self, id: InodeId) -> MutexGuard<'_, HashMap<InodeId, Opens<B>>> {
        self.parts[id.0 as usize % PARTS].lock()
    }
}

#[cfg(test)]
mod tests;
