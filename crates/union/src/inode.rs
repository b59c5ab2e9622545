//! Objects the front end knows, and the table that finds them again.
//!
//! An object is found by number, or by what it is on a branch: all names of one file lead to
//! one inode. It stays while the front end holds references; `forget` gives them back.
//!
//! Locks, in the order in which one thread may take them: an object's `moving`, its `changing`, a directory's `change`
//! (two of them by number), a directory's or object's `state`, `names`, the table's shards.
//! Nothing below `change` is held across a call to a tree.

use std::collections::HashMap;
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
use crate::open_file::OpenFile;
use crate::told::Told;

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
    /// Held by whoever changes it where it is, and alone by who moves it from one writable branch to another.
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
    /// Lets the index be read again before it answers. What it said is kept for comparison where others rely on it.
    pub(crate) fn forget_index(&mut self) {
        self.links_below = None;
        match &mut self.index {
            Some(index) if index.is_heard() => index.make_stale(),
            index => *index = None,
        }
    }

    /// Returns whether every change of the names is heard of.
    pub(crate) fn is_heard(&self) -> bool {
        self.index.as_ref().is_some_and(|index| index.is_heard())
    }

    /// Returns the merged directory on a branch.
    pub(crate) fn member(&self, branch: BranchIndex) -> Option<&Arc<BranchDir<T>>> {
        self.members.iter().find(|member| member.index() == branch)
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

/// All inodes, by number and by what they are on a branch.
pub(crate) struct Table<T: Tree> {
    ids: [RwLock<HashMap<u64, Arc<Inode<T>>>>; SHARDS],
    keys: [Mutex<HashMap<Key, Arc<Inode<T>>>>; SHARDS],
    /// Inode numbers of copies, which keep the number of what they are copies of.
    pub(crate) copies: RwLock<HashMap<Key, u64>>,
    /// How often what had this key was moved to another branch, keeping its number: whatever gets the key next has another.
    retired: RwLock<HashMap<Key, u64>>,
    /// Filesystems in the order in which they were met.
    devices: RwLock<Vec<u64>>,
    next_id: AtomicU64,
    /// Is told which directory is dropped.
    dropped: OnceLock<Box<dyn Fn(InodeId) + Send + Sync>>,
}

const SHARDS: usize = 16;
/// AUFS gives the root this number; ours too.
const ROOT_NUMBER: u64 = 2;

impl<T: Tree> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            ids: std::array::from_fn(|_| RwLock::default()),
            keys: std::array::from_fn(|_| Mutex::default()),
            copies: RwLock::default(),
            retired: RwLock::default(),
            devices: RwLock::default(),
            next_id: AtomicU64::new(InodeId::ROOT.0),
            dropped: OnceLock::new(),
        }
    }

    /// Returns an inode that the front end holds.
    pub(crate) fn get(&self, id: InodeId) -> Result<Arc<Inode<T>>> {
        let found = self.ids[shard(id.0)].read().get(&id.0).cloned();
        found.ok_or_else(|| Refusal::Gone.into())
    }

    /// Returns the inode of an object with one reference more, made by `make` when it is not known.
    pub(crate) fn intern(&self, attr: &Attr, make: impl FnOnce() -> NewBody<T>) -> Arc<Inode<T>> {
        let key = Key::of(attr);
        let mut keys = self.keys[shard(key.ino)].lock();
        if let Some(known) = keys.get(&key)
            && known.kind == attr.kind
            && known.reference()
        {
            return Arc::clone(known);
        }
        let inode = self.build(key, attr.kind, make());
        keys.insert(key, Arc::clone(&inode));
        self.ids[shard(inode.id.0)]
            .write()
            .insert(inode.id.0, Arc::clone(&inode));
        inode
    }

    /// Returns a new inode with one reference for an object that was just made: whatever had its inode number
    /// before is gone.
    pub(crate) fn fresh(&self, attr: &Attr, body: NewBody<T>) -> Arc<Inode<T>> {
        let key = Key::of(attr);
        if self.copies.read().contains_key(&key) {
            self.copies.write().remove(&key);
        }
        let inode = self.build(key, attr.kind, body);
        inode.confirm(|| true);
        self.keys[shard(key.ino)]
            .lock()
            .insert(key, Arc::clone(&inode));
        self.ids[shard(inode.id.0)]
            .write()
            .insert(inode.id.0, Arc::clone(&inode));
        inode
    }

    /// Returns the inode of an object if it is known, without a reference.
    pub(crate) fn known(&self, attr: &Attr) -> Option<Arc<Inode<T>>> {
        let key = Key::of(attr);
        let keys = self.keys[shard(key.ino)].lock();
        keys.get(&key)
            .filter(|inode| inode.kind == attr.kind)
            .cloned()
    }

    /// Returns the inode of what has this key if it is known, without a reference.
    pub(crate) fn known_as(&self, key: Key) -> Option<Arc<Inode<T>>> {
        self.keys[shard(key.ino)].lock().get(&key).cloned()
    }

    /// Tells from now on which directories are dropped.
    pub(crate) fn when_dropped(&self, tell: impl Fn(InodeId) + Send + Sync + 'static) {
        if self.dropped.set(Box::new(tell)).is_err() {
            tracing::warn!("a second listener is not told anything");
        }
    }

    /// Makes an object on a branch another home of an inode, whose number it keeps from now on.
    pub(crate) fn add_key(&self, inode: &Arc<Inode<T>>, attr: &Attr) {
        let key = Key::of(attr);
        self.copies.write().insert(key, inode.number);
        inode.keys.lock().push(key);
        self.keys[shard(key.ino)]
            .lock()
            .insert(key, Arc::clone(inode));
    }

    /// Lets an object that nobody holds keep the number of what it is a copy of.
    pub(crate) fn keep_number(&self, attr: &Attr, original: Key) {
        let number = self.number(original);
        self.copies.write().insert(Key::of(attr), number);
    }

    /// Forgets one thing that an inode was on a branch: it is gone there, and its inode number may be used again.
    pub(crate) fn remove_key(&self, inode: &Arc<Inode<T>>, key: Key) {
        self.copies.write().remove(&key);
        inode.keys.lock().retain(|known| *known != key);
        self.drop_key(inode, key);
    }

    /// Forgets what an inode is on the branches: its last name is gone, its inode numbers may be used again.
    pub(crate) fn remove_keys(&self, inode: &Arc<Inode<T>>) {
        let keys = std::mem::take(&mut *inode.keys.lock());
        for key in keys {
            if self.copies.read().contains_key(&key) {
                self.copies.write().remove(&key);
            }
            self.drop_key(inode, key);
        }
    }

    /// Forgets what an inode is on the branches if it is several things there, which may part; returns whether it was.
    pub(crate) fn part_keys(&self, inode: &Arc<Inode<T>>) -> bool {
        let several = inode.keys.lock().len() > 1;
        if several {
            self.remove_keys(inode);
        }
        several
    }

    /// Notes a name, as the one used last. Its directory stays known while the name is.
    pub(crate) fn add_name(&self, inode: &Inode<T>, parent: &Arc<Inode<T>>, name: &Name) {
        let is_last = |names: &[InodeName<T>]| {
            let last = names.last();
            last.is_some_and(|(p, n)| n == name && Arc::ptr_eq(p, parent))
        };
        if is_last(&inode.names.lock()) || !parent.reference() {
            return;
        }
        let new = (Arc::clone(parent), name.clone());
        let parted = |(p, n): &InodeName<T>| {
            inode.kind == Kind::Dir || (Arc::ptr_eq(p, parent) && n == name)
        };
        self.change_names(inode, Some(new), parted);
    }

    /// Forgets a name.
    pub(crate) fn remove_name(&self, inode: &Inode<T>, parent: &Arc<Inode<T>>, name: &Name) {
        self.change_names(inode, None, |(p, n)| Arc::ptr_eq(p, parent) && n == name);
    }

    /// Forgets all names but one.
    pub(crate) fn keep_name(&self, inode: &Inode<T>, parent: &Arc<Inode<T>>, name: &Name) {
        self.change_names(inode, None, |(p, n)| !(Arc::ptr_eq(p, parent) && n == name));
    }

    fn change_names(
        &self,
        inode: &Inode<T>,
        new: Option<InodeName<T>>,
        parted: impl Fn(&InodeName<T>) -> bool,
    ) {
        let mut gone: SmallVec<[InodeName<T>; 1]> = SmallVec::new();
        {
            let mut names = inode.names.lock();
            gone.extend(names.iter().filter(|name| parted(name)).cloned());
            names.retain(|name| !parted(name));
            names.extend(new);
        }
        for (parent, _) in gone {
            self.forget(&parent, 1);
        }
    }

    /// Gives back references; the last one drops the inode, and gives back what it refers to.
    pub(crate) fn forget(&self, inode: &Arc<Inode<T>>, count: u64) {
        if !self.give_back(inode, count) {
            return;
        }
        let mut dropped = vec![Arc::clone(inode)];
        while let Some(inode) = dropped.pop() {
            let names = std::mem::take(&mut *inode.names.lock());
            let held = names.into_iter().map(|(parent, _)| parent);
            let held = held.chain(inode.successor().cloned());
            dropped.extend(held.filter(|held| self.give_back(held, 1)));
        }
    }

    /// Gives back references; returns whether that dropped the inode.
    fn give_back(&self, inode: &Arc<Inode<T>>, count: u64) -> bool {
        if inode.id == InodeId::ROOT {
            return false;
        }
        let give_back = |n: u64| match n {
            DROPPED => None,
            n if n <= count => Some(DROPPED),
            n => Some(n - count),
        };
        let before = inode
            .references
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, give_back);
        let dropped = before.is_ok_and(|n| n <= count);
        if dropped {
            let keys = std::mem::take(&mut *inode.keys.lock());
            for key in keys {
                self.drop_key(inode, key);
            }
            self.ids[shard(inode.id.0)].write().remove(&inode.id.0);
            if let (Kind::Dir, Some(tell)) = (inode.kind, self.dropped.get()) {
                tell(inode.id);
            }
        }
        dropped
    }

    /// Makes a new inode that takes the place of one whose readers keep the original: it has the number,
    /// the names and what the object is on the branches.
    pub(crate) fn succeed(&self, inode: &Arc<Inode<T>>, body: NewBody<T>) -> Arc<Inode<T>> {
        let make = || {
            let key = inode.first_key;
            let mut successor = self.build(key, inode.kind, body);
            successor.confirm(|| true);
            if let Some(new) = Arc::get_mut(&mut successor) {
                new.number = inode.number;
                if let Body::Other(other) = &mut new.body {
                    // Whoever has it made is about to change it, and must find it so.
                    other.state.get_mut().leaving = true;
                }
                new.names = Mutex::new(std::mem::take(&mut *inode.names.lock()));
                new.keys = Mutex::new(std::mem::take(&mut *inode.keys.lock()));
            }
            for key in successor.keys.lock().iter() {
                self.keys[shard(key.ino)]
                    .lock()
                    .insert(*key, Arc::clone(&successor));
            }
            let id = successor.id.0;
            self.ids[shard(id)]
                .write()
                .insert(id, Arc::clone(&successor));
            successor
        };
        Arc::clone(inode.successor.get_or_init(make))
    }

    /// Returns the inode number that applications see for an object on a branch.
    pub(crate) fn number(&self, key: Key) -> u64 {
        if let Some(number) = self.copies.read().get(&key) {
            return *number;
        }
        let device = self.device(key.dev);
        let retired = self.retired.read().get(&key).copied().unwrap_or(0);
        // One filesystem: its own numbers. Others: the high bits tell them apart.
        let number = key.ino ^ (device << 52) ^ (retired << 44);
        if number <= ROOT_NUMBER {
            number | 1 << 51
        } else {
            number
        }
    }

    /// Returns all inodes.
    pub(crate) fn all(&self) -> Vec<Arc<Inode<T>>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.ids {
            all.extend(shard.read().values().cloned());
        }
        all
    }

    /// Forgets what an inode was on a branch before it moved away from there. It keeps its number, so whatever the branch gives
    /// the inode number to next is shown under another.
    pub(crate) fn retire(&self, inode: &Arc<Inode<T>>, key: Key) {
        self.drop_key(inode, key);
        *self.retired.write().entry(key).or_default() += 1;
    }

    /// Returns how many inodes are held.
    pub(crate) fn len(&self) -> usize {
        self.ids.iter().map(|shard| shard.read().len()).sum()
    }

    fn device(&self, dev: u64) -> u64 {
        let place = |devices: &[u64]| devices.iter().position(|known| *known == dev);
        if let Some(found) = place(&self.devices.read()) {
            return found as u64;
        }
        let mut devices = self.devices.write();
        if let Some(found) = place(&devices) {
            return found as u64;
        }
        devices.push(dev);
        devices.len() as u64 - 1
    }

    /// Forgets one thing that an inode is on a branch.
    pub(crate) fn drop_key(&self, inode: &Arc<Inode<T>>, key: Key) {
        let mut keys = self.keys[shard(key.ino)].lock();
        if keys
            .get(&key)
            .is_some_and(|known| Arc::ptr_eq(known, inode))
        {
            keys.remove(&key);
        }
    }

    fn build(&self, key: Key, kind: Kind, body: NewBody<T>) -> Arc<Inode<T>> {
        let id = InodeId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let body = match body {
            NewBody::Dir(members) => Body::Dir(Box::new(Directory {
                change: Mutex::new(()),
                state: RwLock::new(DirectoryState {
                    members,
                    index: None,
                    opens: 0,
                    removed: false,
                    links_below: None,
                    checked: 0,
                    shows_records: false,
                }),
            })),
            NewBody::Other {
                branch,
                place,
                pseudo_linked,
            } => Body::Other(Box::new(Other {
                moving: Mutex::new(()),
                changing: RwLock::new(()),
                state: RwLock::new(OtherState {
                    branch,
                    place,
                    data: None,
                    opens: 0,
                    written: false,
                    bypassed: false,
                    pseudo_linked,
                    pages_stale: false,
                    idle: false,
                    lent: false,
                    leaving: false,
                    migrating: false,
                    unpublished: None,
                    name_not_durable: false,
                    without_capabilities: false,
                    last: None,
                }),
            })),
        };
        let number = if id == InodeId::ROOT {
            ROOT_NUMBER
        } else {
            self.number(key)
        };
        Arc::new(Inode {
            id,
            number,
            kind,
            references: AtomicU64::new(1),
            confirmed: AtomicBool::new(false),
            names: Mutex::default(),
            successor: OnceLock::new(),
            first_key: key,
            keys: Mutex::new(SmallVec::from_elem(key, 1)),
            told: Mutex::new(None),
            body,
        })
    }
}

fn shard(number: u64) -> usize {
    (number % SHARDS as u64) as usize
}
