//! Reading directories.
//!
//! A reader sees the names of one moment: nothing is missed or doubled while entries come and go. Offsets are positions in
//! that snapshot, so that `telldir` and `seekdir` are exact.

use std::sync::Arc;

use parking_lot::Mutex;
use rules::{Attr, Kind};
use tree::Tree;

use crate::api::{Entry, InodeId, Listed};
use crate::error::Result;
use crate::index::{ListedName, Listing};
use crate::inode::{Inode, Key};
use crate::union::Union;

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
        for (at, listed) in listing.iter().enumerate().skip(start) {
            let entry = if with_entries {
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
        let found = match self.find(&stream.inode, &listed.name) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(name = %listed.name, %error, "listed without attributes");
                None
            }
        };
        Ok(found.map(|(inode, attr): (_, Attr)| Entry { id: inode.id, attr }))
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
            return match self.find(&stream.inode, &listed.name) {
                Ok(Some((inode, attr))) => {
                    self.inodes.forget(&inode, 1);
                    attr.ino
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
