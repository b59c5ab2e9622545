//! Objects the front end knows.
//!
//! An object is found by number, or by what it is on a branch: all names of one file lead to
//! one inode, see `table`. It stays while the front end holds references; `forget` gives them back.
//!
//! Locks, in the order in which one thread may take them: an object's `moving`, its `changing`, a directory's `change`
//! (two of them by number), a directory's or object's `state`, `names`, the table's shards.
//! Nothing below `change` is held across a call to a tree.

mod census;
mod references;
mod resting;
mod slab;
mod table;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use rules::{Attr, BranchIndex, Kind, Name};
use smallvec::SmallVec;
use tree::Tree;

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::index::Index;
use crate::listing::Demand;
use crate::open_file::OpenFile;
use crate::told::Told;

pub(crate) use resting::{Meeting, Met};
pub(crate) use table::Table;

/// What an object is on its filesystem: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

impl Key {
    pub(crate) fn of(attr: &Attr) -> Self {
        Self {
            dev: attr.dev,
            ino: attr.ino,
        }
    }
}

/// A directory of the union and a name in it.
pub(crate) type InodeName<T> = (Arc<Inode<T>>, Name);

/// One object of the union.
pub(crate) struct Inode<T: Tree> {
    pub(crate) id: InodeId,
    /// The inode number that applications see.
    pub(crate) number: u64,
    pub(crate) kind: Kind,
    references: AtomicU64,
    /// Whether it was seen to be what its name means after it could be found in the table. Before that it may be
    /// an original whose copy was made and forgotten in between.
    confirmed: AtomicBool,
    /// Where the union shows it, as far as is known; the name that was used last comes last.
    pub(crate) names: Mutex<SmallVec<[InodeName<T>; 1]>>,
    /// What took its place when its readers had to keep the original.
    successor: OnceLock<Arc<Inode<T>>>,
    first_key: Key,
    keys: Mutex<SmallVec<[Key; 1]>>,
    /// Attributes as the front end knows them, while changes of the branches are watched for.
    pub(crate) told: Mutex<Option<Told>>,
    body: Body<T>,
}

enum Body<T: Tree> {
    Dir(Box<Directory<T>>),
    Other(Box<Other<T>>),
}

/// What makes an inode a directory.
pub(crate) struct Directory<T: Tree> {
    /// Held by whoever changes names in it, on any branch.
    pub(crate) change: Mutex<()>,
    pub(crate) state: RwLock<DirectoryState<T>>,
    pub(crate) demand: Demand,
    /// When its names were asked for last, see `memory`.
    pub(crate) used: AtomicU64,
}

pub(crate) struct DirectoryState<T: Tree> {
    /// The directories that are merged, topmost first; none once their branches are gone.
    pub(crate) members: Vec<Arc<BranchDir<T>>>,
    /// Names in it, once somebody asked.
    pub(crate) index: Option<Index>,
    /// How often it is open for reading its names.
    pub(crate) opens: u32,
    /// Whether it was removed.
    pub(crate) removed: bool,
    /// Links that the members below the topmost add to the count, while nobody else changes them.
    pub(crate) links_below: Option<u32>,
    /// The union's generation in which the members were right last.
    pub(crate) checked: u64,
    /// Whether reading it showed records that say what is merged, of which nobody knew.
    pub(crate) shows_records: bool,
}

/// What makes an inode something else than a directory.
pub(crate) struct Other<T: Tree> {
    /// Held by whoever copies it up.
    pub(crate) moving: Mutex<()>,
    /// Held by whoever changes it where it is, from the look at its place on, and alone by who moves it from one
    /// writable branch to another. Who holds it to change something may take neither this nor `moving` again.
    pub(crate) changing: RwLock<()>,
    pub(crate) state: RwLock<OtherState<T>>,
}

pub(crate) struct OtherState<T: Tree> {
    /// The branch that has it.
    pub(crate) branch: BranchIndex,
    /// A name of it on that branch; `None` after the last one is gone.
    pub(crate) place: Option<(Arc<BranchDir<T>>, Name)>,
    /// The open file, shared by all who have it open.
    pub(crate) data: Option<Data<T>>,
    pub(crate) opens: u32,
    /// Whether somebody who has it open, or had it since nobody else did, may write.
    pub(crate) written: bool,
    /// Whether data may bypass the union, since somebody has it open: it has to stay on its branch.
    pub(crate) bypassed: bool,
    /// Whether it is reachable through the branch's store of pseudo-links, which counts as one link.
    pub(crate) pseudo_linked: bool,
    /// Whether the contents may have changed without the kernel's cache noticing.
    pub(crate) pages_stale: bool,
    /// Whether it is among the files that may stay open while nobody uses them.
    pub(crate) idle: bool,
    /// Whether it was lent to readers who will not see a copy of it.
    pub(crate) lent: bool,
    /// Whether it is about to be copied up, so that it is lent to nobody any more.
    pub(crate) leaving: bool,
    /// Whether it is about to have another place: who opens or changes it now waits for `moving`.
    pub(crate) migrating: bool,
    /// The name under which a copy is to appear once it is durable; until then `place` is a temporary one.
    pub(crate) unpublished: Option<InodeName<T>>,
    /// Whether the name came by a copy-up and may not be on disk yet; a sync of the file must see to it.
    pub(crate) name_not_durable: bool,
    /// Whether it was made or copied by the union, and has had no capabilities since: each first write asks for them.
    pub(crate) without_capabilities: bool,
    /// The last attributes, once nothing is left to ask.
    pub(crate) last: Option<Box<Attr>>,
}

pub(crate) struct Data<T: Tree> {
    pub(crate) file: Arc<OpenFile<T::File>>,
    pub(crate) writable: bool,
}

/// Counts no references any more: the inode is being dropped.
const DROPPED: u64 = u64::MAX;

impl<T: Tree> DirectoryState<T> {
    fn new(members: Vec<Arc<BranchDir<T>>>) -> Self {
        Self {
            members,
            index: None,
            opens: 0,
            removed: false,
            links_below: None,
            checked: 0,
            shows_records: false,
        }
    }

    /// Lets the index be read again before it answers. What it said is kept for comparison where others rely on it.
    pub(crate) fn forget_index(&mut self) {
        self.links_below = None;
        match &mut self.index {
            Some(index) if index.is_heard() => index.make_stale(),
            index => *index = None,
        }
    }

    /// Returns how many bytes of memory it takes, without the index.
    pub(crate) fn memory(&self) -> usize {
        let each = size_of::<Arc<BranchDir<T>>>() + size_of::<BranchDir<T>>();
        size_of::<Inode<T>>() + size_of::<Directory<T>>() + self.members.capacity() * each
    }

    /// Returns whether every change of the names is heard of.
    pub(crate) fn is_heard(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.is_heard())
    }

    /// Returns the merged directory on a branch.
    pub(crate) fn member(&self, branch: BranchIndex) -> Option<&Arc<BranchDir<T>>> {
        let found = self
            .members
            .binary_search_by_key(&branch, |member| member.index());
        found.ok().map(|at| &self.members[at])
    }

    /// Merges a directory of one more branch.
    pub(crate) fn add_member(&mut self, member: Arc<BranchDir<T>>) {
        let at = self
            .members
            .partition_point(|known| known.index() < member.index());
        self.members.insert(at, member);
        self.links_below = None;
    }

    /// Returns the branches that are merged.
    pub(crate) fn branches(&self) -> SmallVec<[BranchIndex; 8]> {
        self.members.iter().map(|member| member.index()).collect()
    }
}

impl<T: Tree> Inode<T> {
    pub(crate) fn dir(&self) -> Result<&Directory<T>> {
        match &self.body {
            Body::Dir(dir) => Ok(dir),
            Body::Other(_) => Err(Refusal::NotDirectory.into()),
        }
    }

    pub(crate) fn other(&self) -> Result<&Other<T>> {
        match &self.body {
            Body::Other(other) => Ok(other),
            Body::Dir(_) => Err(Refusal::IsDirectory.into()),
        }
    }

    /// Returns the regular file, for calls that only make sense on one.
    pub(crate) fn file(&self) -> Result<&Other<T>> {
        match self.kind {
            Kind::File => self.other(),
            Kind::Dir => Err(Refusal::IsDirectory.into()),
            _ => Err(Refusal::Invalid.into()),
        }
    }

    /// Returns the name that was used last.
    pub(crate) fn name(&self) -> Option<InodeName<T>> {
        self.names.lock().last().cloned()
    }

    /// Returns what took its place, if something did.
    pub(crate) fn successor(&self) -> Option<&Arc<Self>> {
        self.successor.get()
    }

    /// Returns what the object is on the branches, as far as it is found by that.
    pub(crate) fn keys(&self) -> SmallVec<[Key; 1]> {
        self.keys.lock().clone()
    }

    /// Returns what the object was on a branch when it was met.
    pub(crate) fn key(&self) -> Key {
        self.first_key
    }

    /// Makes sure that the inode may be used: `still` tells whether its name means what it meant.
    pub(crate) fn confirm(&self, still: impl FnOnce() -> bool) -> bool {
        if !self.confirmed.load(Ordering::Acquire) {
            self.confirmed.fetch_or(still(), Ordering::AcqRel);
        }
        self.confirmed.load(Ordering::Acquire)
    }

    /// Takes one more reference for the front end, which holds one already.
    pub(crate) fn take_reference(&self) -> Result<()> {
        if self.reference() {
            Ok(())
        } else {
            Err(Refusal::Gone.into())
        }
    }

    /// Returns whether there are references beside the caller's.
    pub(crate) fn has_other_references(&self) -> bool {
        self.references.load(Ordering::Acquire) > 1
    }

    fn reference(&self) -> bool {
        let counted = |n| if n == DROPPED { None } else { Some(n + 1) };
        self.references
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, counted)
            .is_ok()
    }
}

/// A new inode in the making.
pub(crate) enum NewBody<T: Tree> {
    Dir(Vec<Arc<BranchDir<T>>>),
    Other {
        branch: BranchIndex,
        place: Option<(Arc<BranchDir<T>>, Name)>,
        pseudo_linked: bool,
    },
}
