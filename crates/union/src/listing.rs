//! Reading directories.
//!
//! A reader sees the names of one moment: nothing is missed or doubled while entries come and go. Offsets are positions in
//! that snapshot, so that `telldir` and `seekdir` are exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use rules::Kind;
use tree::Tree;

use crate::api::{Entry, InodeId, Listed};
use crate::error::Result;
use crate::index::{ListedName, Listing};
use crate::inode::{Inode, Key};
use crate::union::Union;

/// Whether those who read a directory want to know more than names.
///
/// The kernel asks for both as long as it can get both, and looks up by itself what it did not get. Of most directories
/// everything is told at once: it costs little, and most who list look at what they found. Of a large one the rest is told
/// as names first; lookups then show that somebody wants more.
#[derive(Default)]
pub(crate) struct Demand {
    /// Names were told without their objects.
    names_alone: AtomicBool,
    /// So was a whole listing, which the kernel may keep.
    listed_alone: AtomicBool,
    /// Names that were looked up since.
    lookups: AtomicU32,
}

/// So many names of a directory are told with their objects in any case.
const AT_ONCE: usize = 512;
/// So many are told alone, to see whether somebody looks them up.
const PROBE: usize = 16;
/// So many of those show that somebody does.
const DEMANDED: u32 = 8;

impl Demand {
    /// Notes that a name was looked up; returns whether that shows that somebody looks at names of a listing that the kernel
    /// keeps.
    pub(crate) fn looked_up(&self) -> bool {
        // One that is just being read is left alone: told that it is wrong, the kernel would not begin it again.
        self.names_alone.load(Ordering::Relaxed)
            && self.lookups.fetch_add(1, Ordering::Relaxed) + 1 >= DEMANDED
            && self.listed_alone.swap(false, Ordering::Relaxed)
    }

    /// Notes that a listing came to its end.
    fn listed(&self) {
        if self.names_alone.load(Ordering::Relaxed)
            && self.lookups.load(Ordering::Relaxed) < DEMANDED
        {
            self.listed_alone.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the object at a position is wanted beside its name.
    fn is_for(&self, at: usize) -> bool {
        at < AT_ONCE || self.lookups.load(Ordering::Relaxed) >= DEMANDED
    }

    /// Returns where a listing that goes on at a position is interrupted, so that demand can show.
    fn pause(&self, start: usize) -> usize {
        match start {
            ..AT_ONCE => AT_ONCE,
            AT_ONCE if !self.is_for(start) => {
                self.lookups.store(0, Ordering::Relaxed);
                self.names_alone.store(true, Ordering::Relaxed);
                AT_ONCE + PROBE
            }
            // Whoever begins in the middle shows demand as well.
            _ => {
                self.names_alone.store(true, Ordering::Relaxed);
                usize::MAX
            }
        }
    }
}

/// An open directory.
pub struct DirStream<T: Tree> {
    inode: Arc<Inode<T>>,
    snapshot: Mutex<Option<Arc<Listing>>>,
}

impl<T: Tree> DirStream<T> {
    /// Returns a stream over a directory that was opened, or is read for the union's own purposes.
    pub(crate) fn of(inode: Arc<Inode<T>>) -> Result<Self> {
        inode.dir()?.state.write().opens += 1;
        Ok(Self {
            inode,
            snapshot: Mutex::new(None),
        })
    }
}

impl<T: Tree> Drop for DirStream<T> {
    fn drop(&mut self) {
        if let Ok(directory) = self.inode.dir() {
            directory.state.write().opens -= 1;
        }
    }
}

/// Offsets 0 and 1 belong to `.` and `..`.
const FIRST: u64 = 2;

impl<T: Tree> Union<T> {
    /// Opens a directory for reading its names.
    pub fn open_dir(&self, id: InodeId) -> Result<Arc<DirStream<T>>> {
        let inode = self.directory(id)?;
        self.bring_up_dir(&inode)?;
        if self.watches() {
            // Before the front end decides whether it keeps what it reads.
            self.with_index(&inode, |_| ())?;
        }
        Ok(Arc::new(DirStream::of(inode)?))
    }

    /// Returns the directory of a stream whose names were changed past the front end since they were read. The front end may
    /// have heard of that before it got the names, and must hear of it again.
    pub fn outdated(&self, stream: &DirStream<T>) -> Option<InodeId> {
        if !self.watches() {
            return None;
        }
        let read = stream.snapshot.lock().clone()?;
        let state = stream.inode.dir().ok()?.state.read();
        let now = state.index.as_ref().and_then(|index| index.ready_listing());
        let same = now.is_some_and(|now| Arc::ptr_eq(&now, &read));
        (!same).then_some(stream.inode.id)
    }

    /// Gives names from `offset` on to `sink` until it returns `false`. Offset 0 takes a new snapshot.
    pub fn read_dir(
        &self,
        stream: &DirStream<T>,
        offset: u64,
        with_entries: bool,
        sink: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<()> {
        let listing = self.snapshot(stream, offset == 0)?;
        let parent = stream
            .inode
            .name()
            .map_or(stream.inode.number, |(parent, _)| parent.number);
        let own = self.listed_own_number(&stream.inode);
        for (offset, (name, ino)) in (0..FIRST)
            .zip([(&b"."[..], own), (b"..", parent)])
            .skip_while(|(at, _)| *at < offset)
        {
            let kind = Some(Kind::Dir);
            if !sink(Listed {
                name,
                kind,
                ino,
                next_offset: offset + 1,
                entry: None,
            }) {
                return Ok(());
            }
        }
        let start = usize::try_from(offset.saturating_sub(FIRST)).unwrap_or(usize::MAX);
        self.mind_limit_sometimes();
        let demand = &stream.inode.dir()?.demand;
        let pause = if with_entries {
            demand.pause(start)
        } else {
            usize::MAX
        };
        if with_entries && start >= listing.len() {
            demand.listed();
        }
        let range = listing.iter().enumerate().take(pause).skip(start);
        for (at, listed) in range {
            let entry = if with_entries && demand.is_for(at) {
                self.listed_entry(stream, listed)?
            } else {
                None
            };
            let ino = match &entry {
                Some(entry) => entry.attr.ino,
                None => self.listed_number(stream, listed),
            };
            let kind = entry
                .as_ref()
                .map_or(listed.kind, |entry| Some(entry.attr.kind));
            let next_offset = at as u64 + 1 + FIRST;
            let name = listed.name.as_bytes();
            if !sink(Listed {
                name,
                kind,
                ino,
                next_offset,
                entry,
            }) {
                if let Some(entry) = entry {
                    self.forget(entry.id, 1);
                }
                break;
            }
        }
        Ok(())
    }

    /// Returns the names that an open directory shows.
    pub(crate) fn listing_of(&self, stream: &DirStream<T>) -> Result<Arc<Listing>> {
        self.snapshot(stream, true)
    }

    fn snapshot(&self, stream: &DirStream<T>, again: bool) -> Result<Arc<Listing>> {
        let mut snapshot = stream.snapshot.lock();
        if let Some(known) = &*snapshot
            && !again
        {
            return Ok(Arc::clone(known));
        }
        let listing = loop {
            let ready = self.with_index(&stream.inode, |index| index.ready_listing())?;
            if let Some(listing) = ready {
                break listing;
            }
            let dev = |branch| self.root_of(branch).branch.dev;
            // It may have been forgotten since.
            if let Some(index) = &mut stream.inode.dir()?.state.write().index {
                break index.listing(dev);
            }
        };
        let listing = if self.shows_marks() {
            let mut all = self.marks_in(&stream.inode)?;
            all.extend(listing.iter().cloned());
            Arc::new(all)
        } else {
            listing
        };
        *snapshot = Some(Arc::clone(&listing));
        Ok(listing)
    }

    /// Looks a listed name up; one that went meanwhile, or that cannot be looked up, is still listed.
    fn listed_entry(&self, stream: &DirStream<T>, listed: &ListedName) -> Result<Option<Entry>> {
        if self.dialect.check(listed.name.as_bytes()).is_err() {
            return Ok(None);
        }
        match self.find_entry(&stream.inode, &listed.name) {
            Ok(found) => Ok(found),
            Err(error) => {
                tracing::debug!(name = %listed.name, %error, "listed without attributes");
                Ok(None)
            }
        }
    }

    fn listed_own_number(&self, inode: &Inode<T>) -> u64 {
        // The root of a filesystem has a number that the union's root has as well.
        let is_own = inode.key().ino > inode.number;
        if inode.id == InodeId::ROOT && is_own && self.settings().root_lists_branch_number {
            self.inodes.number(inode.key())
        } else {
            inode.number
        }
    }

    fn listed_number(&self, stream: &DirStream<T>, listed: &ListedName) -> u64 {
        if listed.ino == 0 {
            return match self.find_entry(&stream.inode, &listed.name) {
                Ok(Some(entry)) => {
                    self.inodes.forget_by_id(entry.id, 1);
                    entry.attr.ino
                }
                Ok(None) | Err(_) => 1,
            };
        }
        let on_branch = Key {
            dev: listed.dev,
            ino: listed.ino,
        };
        self.inodes.number(self.canonical_key(on_branch))
    }
}
