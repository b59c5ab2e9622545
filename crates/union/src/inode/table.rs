//! All objects that the front end knows, by number and by what they are on a branch.
//!
//! An object is in one of several parts of the table, by its inode number on its branch, so that threads rarely meet.
//! Of those that nobody uses there is only a note, see `resting`; whoever asks for one gets an inode.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use rules::{Attr, Kind};
use smallvec::SmallVec;
use tree::Tree;

use super::resting::{Meeting, Met, Resting};
use super::slab::{Slab, Ticket};
use super::{Body, Directory, DirectoryState, Inode, Key, NewBody, Other, OtherState};
use crate::api::InodeId;
use crate::error::{Refusal, Result};
use crate::listing::Demand;

/// All inodes.
pub(crate) struct Table<T: Tree> {
    pub(super) root: OnceLock<Arc<Inode<T>>>,
    pub(super) parts: [RwLock<Part<T>>; PARTS],
    /// Inode numbers of copies, which keep the number of what they are copies of.
    pub(crate) copies: Rare,
    /// How often what had this key was moved to another branch, keeping its number: whatever gets the key next has another.
    retired: Rare,
    /// Filesystems in the order in which they were met.
    devices: ArcSwap<Vec<u64>>,
    /// The part whose objects are given up next.
    pub(super) hand: AtomicUsize,
    /// Inode numbers may come from anybody's image.
    hasher: RandomState,
    /// Is told which directory is dropped.
    pub(super) dropped: OnceLock<Box<dyn Fn(InodeId) + Send + Sync>>,
}

pub(super) struct Part<T: Tree> {
    pub(super) objects: Slab<Known<T>>,
    /// Where the objects of this part are that are found by the key with which they were met.
    pub(super) by_key: HashTable<u32>,
    /// What is found by any other key.
    pub(super) by_other_key: HashMap<Key, Arc<Inode<T>>>,
    /// Inodes of which a note might do, those that were made last at the end.
    pub(super) awake: VecDeque<Ticket>,
}

pub(super) enum Known<T: Tree> {
    Awake(Arc<Inode<T>>),
    Resting(Resting<T>),
}

/// What few keys have.
#[derive(Default)]
pub(crate) struct Rare {
    values: RwLock<HashMap<Key, u64>>,
    /// So that nobody takes the lock while there are none.
    any: AtomicBool,
}

pub(super) const PARTS: usize = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// So many inodes of each part may wait to be noted down.
pub(super) const WAITING: usize = 32;
/// AUFS gives the root this number; ours too.
const ROOT_NUMBER: u64 = 2;

impl Rare {
    pub(crate) fn get(&self, key: &Key) -> Option<u64> {
        let any = self.any.load(Ordering::Acquire);
        any.then(|| self.values.read().get(key).copied())?
    }

    pub(crate) fn insert(&self, key: Key, value: u64) {
        self.any.store(true, Ordering::Release);
        self.values.write().insert(key, value);
    }

    pub(crate) fn remove(&self, key: &Key) {
        if self.get(key).is_some() {
            self.values.write().remove(key);
        }
    }

    fn count(&self, key: Key) {
        self.any.store(true, Ordering::Release);
        *self.values.write().entry(key).or_default() += 1;
    }
}

impl<T: Tree> Table<T> {
    pub(crate) fn new() -> Self {
        Self {
            root: OnceLock::new(),
            parts: std::array::from_fn(|_| RwLock::new(Part::new())),
            copies: Rare::default(),
            retired: Rare::default(),
            devices: ArcSwap::default(),
            hand: AtomicUsize::new(0),
            hasher: RandomState::new(),
            dropped: OnceLock::new(),
        }
    }

    /// Makes the root, once.
    pub(crate) fn set_root(&self, attr: &Attr, body: NewBody<T>) -> &Arc<Inode<T>> {
        let key = Key::of(attr);
        let root = self.root.get_or_init(|| {
            let root = self.build(InodeId::ROOT, ROOT_NUMBER, (key, attr.kind), body);
            root.confirm(|| true);
            Arc::new(root)
        });
        self.map(key, root);
        root
    }

    /// Returns an inode that the front end holds.
    pub(crate) fn get(&self, id: InodeId) -> Result<Arc<Inode<T>>> {
        if id == InodeId::ROOT {
            return self.root.get().cloned().ok_or(Refusal::Gone.into());
        }
        let (part, ticket) = place_of(id);
        if let Some(Known::Awake(inode)) = self.parts[part].read().objects.get(ticket) {
            return Ok(Arc::clone(inode));
        }
        let inode = self.wake(&mut self.parts[part].write(), ticket);
        inode.ok_or_else(|| Refusal::Gone.into())
    }

    /// Takes a reference to an object that is met under a name, if a note of it does: it is known under no other, and
    /// nobody uses it. `is_plain` tells of a new one whether it is where it is met.
    pub(crate) fn meet(
        &self,
        key: Key,
        meeting: &Meeting<'_, T>,
        is_plain: impl FnOnce() -> bool,
    ) -> Option<Met> {
        if self.copies.get(&key).is_some() || self.retired.get(&key).is_some() {
            return None;
        }
        let device = u16::try_from(self.device(key.dev)).ok()?;
        let number = number_of(u64::from(device), key.ino);
        let mut part = self.part(key).write();
        let part = &mut *part;
        if part.by_other_key.contains_key(&key) {
            return None;
        }
        if let Some(ticket) = self.find(part, key) {
            let Some(Known::Resting(resting)) = part.objects.get_mut(ticket) else {
                return None;
            };
            let confirmed = resting.meet(meeting)?;
            return Some(Met {
                id: id_of(part_number(key), ticket),
                number,
                confirmed,
            });
        }
        if !is_plain() {
            return None;
        }
        let resting = Resting::new(meeting, key.ino, device)?;
        let ticket = part.objects.insert(|_| Known::Resting(resting));
        self.enter(part, key, ticket);
        Some(Met {
            id: id_of(part_number(key), ticket),
            number,
            confirmed: false,
        })
    }

    /// Notes that an object was seen to be what its name means, see [`Inode::confirm`].
    pub(crate) fn confirm(&self, id: InodeId) {
        let (part, ticket) = place_of(id);
        match self.parts[part].write().objects.get_mut(ticket) {
            Some(Known::Resting(resting)) => resting.confirm(),
            Some(Known::Awake(inode)) => drop(inode.confirm(|| true)),
            None => {}
        }
    }

    /// Returns the inode of an object with one reference more, made by `make` when it is not known.
    pub(crate) fn intern(&self, attr: &Attr, make: impl FnOnce() -> NewBody<T>) -> Arc<Inode<T>> {
        let key = Key::of(attr);
        let mut part = self.part(key).write();
        if let Some(known) = self.mapped(&mut part, key)
            && known.kind == attr.kind
            && known.reference()
        {
            return known;
        }
        self.add(&mut part, key, attr.kind, make())
    }

    /// Returns a new inode with one reference for an object that was just made: whatever had its inode number
    /// before is gone.
    pub(crate) fn fresh(&self, attr: &Attr, body: NewBody<T>) -> Arc<Inode<T>> {
        let key = Key::of(attr);
        self.copies.remove(&key);
        let inode = self.add(&mut self.part(key).write(), key, attr.kind, body);
        inode.confirm(|| true);
        inode
    }

    /// Returns the inode of an object if it is known, without a reference.
    pub(crate) fn known(&self, attr: &Attr) -> Option<Arc<Inode<T>>> {
        let known = self.known_as(Key::of(attr));
        known.filter(|inode| inode.kind == attr.kind)
    }

    /// Returns the inode of what has this key if it is known, without a reference.
    pub(crate) fn known_as(&self, key: Key) -> Option<Arc<Inode<T>>> {
        self.mapped(&mut self.part(key).write(), key)
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
        self.copies.insert(key, inode.number);
        inode.keys.lock().push(key);
        self.map(key, inode);
    }

    /// Lets an object that nobody holds keep the number of what it is a copy of.
    pub(crate) fn keep_number(&self, attr: &Attr, original: Key) {
        self.copies.insert(Key::of(attr), self.number(original));
    }

    /// Forgets one thing that an inode was on a branch: it is gone there, and its inode number may be used again.
    pub(crate) fn remove_key(&self, inode: &Arc<Inode<T>>, key: Key) {
        self.copies.remove(&key);
        inode.keys.lock().retain(|known| *known != key);
        self.drop_key(inode, key);
    }

    /// Forgets what an inode is on the branches: its last name is gone, its inode numbers may be used again.
    pub(crate) fn remove_keys(&self, inode: &Arc<Inode<T>>) {
        let keys = std::mem::take(&mut *inode.keys.lock());
        for key in keys {
            self.copies.remove(&key);
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

    /// Makes a new inode that takes the place of one whose readers keep the original: it has the number,
    /// the names and what the object is on the branches.
    pub(crate) fn succeed(&self, inode: &Arc<Inode<T>>, body: NewBody<T>) -> Arc<Inode<T>> {
        let make = || {
            let key = inode.first_key;
            let names = std::mem::take(&mut *inode.names.lock());
            let keys = std::mem::take(&mut *inode.keys.lock());
            let mut part = self.part(key).write();
            let successor = self.insert(&mut part, part_number(key), |id| {
                let what = (key, inode.kind);
                let mut new = self.build(id, inode.number, what, body);
                new.confirm(|| true);
                if let Body::Other(other) = &mut new.body {
                    // Whoever has it made is about to change it, and must find it so.
                    other.state.get_mut().leaving = true;
                }
                new.names = Mutex::new(names);
                new.keys = Mutex::new(keys.clone());
                new
            });
            drop(part);
            for key in keys {
                self.map(key, &successor);
            }
            successor
        };
        Arc::clone(inode.successor.get_or_init(make))
    }

    /// Returns the inode number that applications see for an object on a branch.
    pub(crate) fn number(&self, key: Key) -> u64 {
        if let Some(number) = self.copies.get(&key) {
            return number;
        }
        let retired = self.retired.get(&key).unwrap_or(0);
        number_of(self.device(key.dev), key.ino ^ (retired << 44))
    }

    /// Forgets what an inode was on a branch before it moved away from there. It keeps its number, so whatever the branch gives
    /// the inode number to next is shown under another.
    pub(crate) fn retire(&self, inode: &Arc<Inode<T>>, key: Key) {
        self.drop_key(inode, key);
        self.retired.count(key);
    }

    /// Returns which of the known filesystems this is.
    fn device(&self, dev: u64) -> u64 {
        let place = |devices: &[u64]| devices.iter().position(|known| *known == dev);
        if let Some(found) = place(&self.devices.load()) {
            return found as u64;
        }
        self.devices.rcu(|devices| {
            let mut devices = devices.to_vec();
            if place(&devices).is_none() {
                devices.push(dev);
            }
            devices
        });
        place(&self.devices.load()).unwrap_or_default() as u64
    }

    /// Forgets one thing that an inode is on a branch.
    pub(crate) fn drop_key(&self, inode: &Arc<Inode<T>>, key: Key) {
        let mut part = self.part(key).write();
        let part = &mut *part;
        let is_it = |known: &Arc<Inode<T>>| Arc::ptr_eq(known, inode);
        if part.by_other_key.get(&key).is_some_and(is_it) {
            part.by_other_key.remove(&key);
        } else if let Some(ticket) = self.find(part, key)
            && let Some(Known::Awake(known)) = part.objects.get(ticket)
            && is_it(known)
        {
            self.leave(part, ticket);
        }
    }

    /// Lets an object be found by a key, and nothing else.
    fn map(&self, key: Key, inode: &Arc<Inode<T>>) {
        let mut part = self.part(key).write();
        if let Some(other) = self.find(&part, key) {
            self.leave(&mut part, other);
        }
        let (number, ticket) = place_of(inode.id);
        if inode.first_key == key
            && number == part_number(key)
            && part.objects.get(ticket).is_some()
        {
            part.by_other_key.remove(&key);
            self.enter(&mut part, key, ticket);
        } else {
            part.by_other_key.insert(key, Arc::clone(inode));
        }
    }

    /// Returns the inode that is found by a key.
    fn mapped(&self, part: &mut Part<T>, key: Key) -> Option<Arc<Inode<T>>> {
        if let Some(known) = part.by_other_key.get(&key) {
            return Some(Arc::clone(known));
        }
        let ticket = self.find(part, key)?;
        self.wake(part, ticket)
    }

    /// Adds an inode that is found by its key from now on.
    fn add(&self, part: &mut Part<T>, key: Key, kind: Kind, body: NewBody<T>) -> Arc<Inode<T>> {
        part.by_other_key.remove(&key);
        if let Some(before) = self.find(part, key) {
            self.leave(part, before);
        }
        let number = self.number(key);
        let inode = self.insert(part, part_number(key), |id| {
            self.build(id, number, (key, kind), body)
        });
        self.enter(part, key, place_of(inode.id).1);
        inode
    }

    fn insert(
        &self,
        part: &mut Part<T>,
        number: usize,
        make: impl FnOnce(InodeId) -> Inode<T>,
    ) -> Arc<Inode<T>> {
        let mut made = None;
        let ticket = part.objects.insert(|ticket| {
            let inode = Arc::new(make(id_of(number, ticket)));
            made = Some(Arc::clone(&inode));
            Known::Awake(inode)
        });
        let inode = made.expect("a value is made for each ticket");
        if inode.kind != Kind::Dir {
            self.wait(part, ticket);
        }
        inode
    }

    /// Returns the inode of an object.
    pub(super) fn wake(&self, part: &mut Part<T>, ticket: Ticket) -> Option<Arc<Inode<T>>> {
        if let Known::Awake(inode) = part.objects.get(ticket)? {
            return Some(Arc::clone(inode));
        }
        let mut woken = None;
        part.objects.turn(ticket, |known| {
            let inode = match known {
                Known::Awake(inode) => inode,
                Known::Resting(resting) => {
                    let key = self.key_of(&resting);
                    let number = number_of(u64::from(resting.device), key.ino);
                    let id = id_of(part_number(key), ticket);
                    Arc::new(resting.wake(id, number, key))
                }
            };
            woken = Some(Arc::clone(&inode));
            Known::Awake(inode)
        });
        self.wait(part, ticket);
        woken
    }

    /// Lets an inode be noted down again once nobody uses it, and does so with those before it.
    fn wait(&self, part: &mut Part<T>, ticket: Ticket) {
        part.awake.push_back(ticket);
        // Twice as fast as they come, so that those that are used for long do not add up.
        self.note_down(part, 2, WAITING);
    }

    pub(super) fn note_of(&self, inode: &mut Inode<T>) -> Option<Resting<T>> {
        let key = inode.first_key;
        let device = u16::try_from(self.device(key.dev)).ok()?;
        if inode.number != number_of(u64::from(device), key.ino) {
            return None;
        }
        Resting::of(inode, device)
    }

    fn part(&self, key: Key) -> &RwLock<Part<T>> {
        &self.parts[part_number(key)]
    }

    fn key_of(&self, resting: &Resting<T>) -> Key {
        let devices = self.devices.load();
        Key {
            dev: devices[usize::from(resting.device)],
            ino: resting.ino,
        }
    }

    fn key_at(&self, part: &Part<T>, place: u32) -> Option<(Ticket, Key)> {
        let (ticket, known) = part.objects.at(place)?;
        Some(match known {
            Known::Awake(inode) => (ticket, inode.first_key),
            Known::Resting(resting) => (ticket, self.key_of(resting)),
        })
    }

    /// Returns where what is found by its first key is.
    fn find(&self, part: &Part<T>, key: Key) -> Option<Ticket> {
        let is_it = |place: &u32| self.key_at(part, *place).is_some_and(|(_, k)| k == key);
        let place = part.by_key.find(self.hasher.hash_one(key), is_it)?;
        part.objects.at(*place).map(|(ticket, _)| ticket)
    }

    fn enter(&self, part: &mut Part<T>, key: Key, ticket: Ticket) {
        let hash = self.hasher.hash_one(key);
        let mut by_key = std::mem::take(&mut part.by_key);
        by_key.insert_unique(hash, ticket.place, |place| self.hash_at(part, *place));
        part.by_key = by_key;
    }

    pub(super) fn hash_at(&self, part: &Part<T>, place: u32) -> u64 {
        let key = self.key_at(part, place).map(|(_, key)| key);
        key.map_or(0, |key| self.hasher.hash_one(key))
    }

    /// Lets what is at a place not be found by its first key, if it was.
    pub(super) fn leave(&self, part: &mut Part<T>, ticket: Ticket) {
        let Some((_, key)) = self.key_at(part, ticket.place) else {
            return;
        };
        let hash = self.hasher.hash_one(key);
        let is_it = |place: &u32| *place == ticket.place;
        if let Ok(entry) = part.by_key.find_entry(hash, is_it) {
            entry.remove();
        }
    }

    fn build(&self, id: InodeId, number: u64, what: (Key, Kind), body: NewBody<T>) -> Inode<T> {
        let body = match body {
            NewBody::Dir(members) => Body::Dir(Box::new(Directory {
                change: Mutex::new(()),
                state: RwLock::new(DirectoryState::new(members)),
                demand: Demand::default(),
                used: AtomicU64::new(0),
            })),
            NewBody::Other {
                branch,
                place,
                pseudo_linked,
            } => {
                let state = OtherState::new(branch, place, pseudo_linked);
                Body::Other(Box::new(Other::new(state)))
            }
        };
        let (key, kind) = what;
        Inode {
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
        }
    }
}

impl<T: Tree> Part<T> {
    fn new() -> Self {
        Self {
            objects: Slab::new(),
            by_key: HashTable::new(),
            by_other_key: HashMap::new(),
            awake: VecDeque::new(),
        }
    }
}

/// Returns the number that applications see if nothing else is known of an object. One filesystem: its own numbers. Others: the high
/// bits tell them apart.
fn number_of(device: u64, ino: u64) -> u64 {
    let number = ino ^ (device << 52);
    if number <= ROOT_NUMBER {
        number | 1 << 51
    } else {
        number
    }
}

fn part_number(key: Key) -> usize {
    (key.ino % PARTS as u64) as usize
}

pub(super) fn id_of(part: usize, ticket: Ticket) -> InodeId {
    let low = ticket.place << PART_BITS | part as u32;
    InodeId(u64::from(ticket.generation) << 32 | u64::from(low))
}

pub(super) fn place_of(id: InodeId) -> (usize, Ticket) {
    let low = id.0 as u32;
    let ticket = Ticket {
        place: low >> PART_BITS,
        generation: (id.0 >> 32) as u32,
    };
    ((low as usize) % PARTS, ticket)
}
