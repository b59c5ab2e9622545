//! Hearing of changes that are made directly in the branches (`udba=notify`).
//!
//! The kernel tells them in a queue, one thread of its own passes them on to the union. What follows
//! for the kernel's caches takes the usual way, through notices, so that no request ever waits for this.

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use parking_lot::Mutex;
use rules::Errno;
use sys::notify::{Event, Notifier, Watch, What};
use tree::Tree;
use union::{BranchId, DirectChange, InodeId, Union, Watcher};

/// How long changes are gathered, so that many of one file are one: well below what anybody notices.
const GATHER: Duration = Duration::from_millis(2);

/// A directory of the union on a branch.
type Member = (InodeId, BranchId);

/// The queue of changes and whom they concern.
#[derive(Debug)]
pub(crate) struct Watching {
    queue: Notifier,
    watches: Mutex<Watches>,
    /// Whether somebody was told that there are not enough watches.
    complained: AtomicBool,
}

/// One directory may be in several places of the union, and one of the union be several on branches.
#[derive(Debug, Default)]
struct Watches {
    members: HashMap<Watch, Vec<Member>>,
    of: HashMap<InodeId, Vec<Watch>>,
}

impl Watching {
    /// Opens an empty queue.
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            queue: Notifier::new()?,
            watches: Mutex::default(),
            complained: AtomicBool::new(false),
        })
    }

    /// Passes changes on until [`Watching::end`].
    pub(crate) fn listen<T: Tree>(&self, union: &Union<T>) {
        while let Ok(true) = self.queue.wait() {
            sleep(GATHER);
            match self.queue.read() {
                Ok(events) => self.pass_on(union, &events),
                Err(errno) => {
                    tracing::warn!(%errno, "direct changes of branches are not heard any more");
                    return self.pass_on(union, &[overflow()]);
                }
            }
        }
    }

    /// Lets [`Watching::listen`] return.
    pub(crate) fn end(&self) {
        if let Err(errno) = self.queue.end() {
            tracing::debug!(%errno, "cannot end listening");
        }
    }

    fn pass_on<T: Tree>(&self, union: &Union<T>, events: &[Event]) {
        let mut passed = HashSet::new();
        for event in events {
            let (members, change) = match (event.what, &event.name) {
                (What::Overflow, _) => (self.all(), DirectChange::Lost),
                (What::Unwatched, _) => (self.ended(event.watch), DirectChange::Lost),
                // The directory above is watched as well and tells.
                (What::DirGone, _) => continue,
                (_, Some(name)) => (
                    self.members(event.watch),
                    DirectChange::Name(name.as_bytes()),
                ),
                (_, None) => (self.members(event.watch), DirectChange::Attributes),
            };
            for (id, branch) in members {
                // All changes have been made already: to look once is enough.
                if passed.insert((id, branch, change)) {
                    union.branch_changed(id, branch, change);
                }
            }
        }
    }

    fn members(&self, watch: Watch) -> Vec<Member> {
        let watches = self.watches.lock();
        watches.members.get(&watch).cloned().unwrap_or_default()
    }

    /// Returns one member of each directory.
    fn all(&self) -> Vec<Member> {
        let watches = self.watches.lock();
        let members: HashMap<_, _> = watches.members.values().flatten().copied().collect();
        members.into_iter().collect()
    }

    /// Notes that a watch is over; returns whom it concerned, if that was not their own wish.
    fn ended(&self, watch: Watch) -> Vec<Member> {
        let mut watches = self.watches.lock();
        let members = watches.members.remove(&watch).unwrap_or_default();
        for (id, _) in &members {
            if let Some(of) = watches.of.get_mut(id) {
                of.retain(|known| *known != watch);
            }
        }
        members
    }

    fn complain(&self, errno: Errno) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                %errno,
                "a directory cannot be watched: it is looked at again on each use \
                 (fs.inotify.max_user_watches limits how many can)"
            );
        }
    }
}

impl<T: Tree> Watcher<T> for Watching
where
    T::Dir: AsFd,
{
    fn watch(&self, id: InodeId, branch: BranchId, dir: &T::Dir) -> bool {
        // Locked meanwhile, so that no other thread ends the watch before it is noted.
        let mut watches = self.watches.lock();
        match self.queue.watch(dir.as_fd()) {
            Ok(watch) => {
                let members = watches.members.entry(watch).or_default();
                if !members.contains(&(id, branch)) {
                    members.push((id, branch));
                    watches.of.entry(id).or_default().push(watch);
                }
                true
            }
            // In an image that is read here, where nothing ever changes: its descriptor is the image's.
            Err(Errno::NOTDIR) => true,
            Err(errno) => {
                self.complain(errno);
                false
            }
        }
    }

    fn unwatch(&self, id: InodeId) {
        let mut watches = self.watches.lock();
        for watch in watches.of.remove(&id).unwrap_or_default() {
            let Some(members) = watches.members.get_mut(&watch) else {
                continue;
            };
            members.retain(|(other, _)| *other != id);
            if members.is_empty() {
                watches.members.remove(&watch);
                if let Err(errno) = self.queue.unwatch(watch) {
                    tracing::trace!(%errno, "the watch was over already");
                }
            }
        }
    }
}

fn overflow() -> Event {
    Event {
        watch: Watch::default(),
        name: None,
        what: What::Overflow,
    }
}
