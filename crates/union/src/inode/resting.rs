//! What is kept of an object that nobody uses at the moment: the kernel remembers it, and that is all.
//!
//! Of most objects nothing is asked but attributes, once, while a directory is listed. They never become an [`Inode`]: what
//! is noted is enough to make one when they are opened, changed or looked up under another name. An inode of which
//! nothing else is to be remembered is noted down again later, when nobody holds it.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Mutex, RwLock};
use rules::{BranchIndex, Kind, Name};
use smallvec::{SmallVec, smallvec};
use tree::Tree;

use super::{Body, Inode, Key, Other, OtherState};
use crate::api::InodeId;
use crate::branch::BranchDir;

/// A note of an object: 48 bytes.
pub(super) struct Resting<T: Tree> {
    /// Where the union shows it; the note holds a reference.
    pub(super) parent: Arc<Inode<T>>,
    pub(super) name: Name,
    /// The merged directory that has it, under the same name.
    dir: Arc<BranchDir<T>>,
    pub(super) ino: u64,
    pub(super) references: u32,
    /// Which of the known filesystems it is on.
    pub(super) device: u16,
    pub(super) kind: Kind,
    flags: u8,
}

const CONFIRMED: u8 = 1;
const PAGES_STALE: u8 = 1 << 1;
const WITHOUT_CAPABILITIES: u8 = 1 << 2;

/// Beyond this, references are counted by an inode.
const MOST_REFERENCES: u32 = u32::MAX / 2;

/// An object that is met under a name.
pub(crate) struct Meeting<'a, T: Tree> {
    pub(crate) parent: &'a Arc<Inode<T>>,
    pub(crate) name: &'a Name,
    pub(crate) dir: &'a Arc<BranchDir<T>>,
    pub(crate) kind: Kind,
}

/// An object that was met, with one reference more.
pub(crate) struct Met {
    pub(crate) id: InodeId,
    pub(crate) number: u64,
    /// See [`Inode::confirm`].
    pub(crate) confirmed: bool,
}

impl<T: Tree> Resting<T> {
    /// Notes an object that is met for the first time. `None` if its directory is being dropped.
    pub(super) fn new(meeting: &Meeting<'_, T>, ino: u64, device: u16) -> Option<Self> {
        meeting.parent.reference().then(|| Self {
            parent: Arc::clone(meeting.parent),
            name: meeting.name.clone(),
            dir: Arc::clone(meeting.dir),
            ino,
            references: 1,
            device,
            kind: meeting.kind,
            flags: 0,
        })
    }

    /// Takes one more reference if the object is met where it was; returns whether it was confirmed.
    pub(super) fn meet(&mut self, meeting: &Meeting<'_, T>) -> Option<bool> {
        let same = self.kind == meeting.kind
            && Arc::ptr_eq(&self.parent, meeting.parent)
            && Arc::ptr_eq(&self.dir, meeting.dir)
            && self.name == *meeting.name;
        if !same || self.references >= MOST_REFERENCES {
            return None;
        }
        self.references += 1;
        Some(self.has(CONFIRMED))
    }

    pub(super) fn confirm(&mut self) {
        self.set(CONFIRMED, true);
    }

    /// Makes the inode of which this is a note.
    pub(super) fn wake(self, id: InodeId, number: u64, key: Key) -> Inode<T> {
        let confirmed = self.has(CONFIRMED);
        let (pages_stale, without_capabilities) =
            (self.has(PAGES_STALE), self.has(WITHOUT_CAPABILITIES));
        let branch = self.dir.index();
        let mut state = OtherState::new(branch, Some((self.dir, self.name.clone())), false);
        state.pages_stale = pages_stale;
        state.without_capabilities = without_capabilities;
        Inode {
            id,
            number,
            kind: self.kind,
            references: AtomicU64::new(u64::from(self.references)),
            confirmed: AtomicBool::new(confirmed),
            names: Mutex::new(smallvec![(self.parent, self.name)]),
            successor: OnceLock::new(),
            first_key: key,
            keys: Mutex::new(SmallVec::from_elem(key, 1)),
            told: Mutex::new(None),
            body: Body::Other(Box::new(Other::new(state))),
        }
    }

    /// Notes down an inode that nobody holds, whose number is what its key says. `None` if more is to be
    /// remembered of it than a note holds.
    pub(super) fn of(inode: &mut Inode<T>, device: u16) -> Option<Self> {
        let references = u32::try_from(*inode.references.get_mut()).ok()?;
        let keys = inode.keys.get_mut();
        let known_otherwise = inode.successor.get().is_some()
            || inode.told.get_mut().is_some()
            || keys[..] != [inode.first_key];
        let names = inode.names.get_mut();
        let Body::Other(other) = &mut inode.body else {
            return None;
        };
        if known_otherwise || references >= MOST_REFERENCES || names.len() != 1 {
            return None;
        }
        let (dir, flags) = rests(other.state.get_mut(), &names[0].1)?;
        let (parent, name) = names.pop()?;
        let confirmed = *inode.confirmed.get_mut();
        Some(Self {
            parent,
            name,
            dir,
            ino: inode.first_key.ino,
            references,
            device,
            kind: inode.kind,
            flags: flags | if confirmed { CONFIRMED } else { 0 },
        })
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn set(&mut self, flag: u8, on: bool) {
        self.flags = self.flags & !flag | if on { flag } else { 0 };
    }
}

/// Returns where an object is and what else is to be remembered, if that is all. Every part of the state is named here, so that
/// a new one is not forgotten.
fn rests<T: Tree>(state: &mut OtherState<T>, name: &Name) -> Option<(Arc<BranchDir<T>>, u8)> {
    let OtherState {
        branch,
        place,
        data: None,
        opens: 0,
        written: false,
        bypassed: false,
        pseudo_linked: false,
        pages_stale,
        idle: false,
        lent: false,
        leaving: false,
        migrating: false,
        unpublished: None,
        name_not_durable: false,
        without_capabilities,
        last: None,
    } = state
    else {
        return None;
    };
    let here = |(dir, at): &mut (Arc<BranchDir<T>>, Name)| dir.index() == *branch && at == name;
    let (dir, _) = place.take_if(here)?;
    let when = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = when(*pages_stale, PAGES_STALE) | when(*without_capabilities, WITHOUT_CAPABILITIES);
    Some((dir, flags))
}

impl<T: Tree> Other<T> {
    pub(super) fn new(state: OtherState<T>) -> Self {
        Self {
            moving: Mutex::new(()),
            changing: RwLock::new(()),
            state: RwLock::new(state),
        }
    }
}

impl<T: Tree> OtherState<T> {
    pub(super) fn new(
        branch: BranchIndex,
        place: Option<(Arc<BranchDir<T>>, Name)>,
        pseudo_linked: bool,
    ) -> Self {
        Self {
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
        }
    }
}
