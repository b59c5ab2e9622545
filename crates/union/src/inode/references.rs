//! How long objects stay in the table: as long as the front end, a name below them or a successor refers to them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::{Kind, Name};
use smallvec::SmallVec;
use tree::Tree;

use super::table::{Known, Table, place_of};
use super::{DROPPED, Inode, InodeName};
use crate::api::InodeId;

impl<T: Tree> Table<T> {
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

    /// Gives back references that the front end had.
    pub(crate) fn forget_by_id(&self, id: InodeId, count: u64) {
        if id == InodeId::ROOT {
            return;
        }
        let (number, ticket) = place_of(id);
        let mut part = self.parts[number].write();
        match part.objects.get_mut(ticket) {
            Some(Known::Resting(resting)) if u64::from(resting.references) > count => {
                resting.references -= count as u32;
            }
            Some(Known::Resting(_)) => {
                self.leave(&mut part, ticket);
                let dropped = part.objects.remove(ticket);
                drop(part);
                if let Some(Known::Resting(resting)) = dropped {
                    self.forget(&resting.parent, 1);
                }
            }
            Some(Known::Awake(inode)) => {
                let inode = Arc::clone(inode);
                drop(part);
                self.forget(&inode, count);
            }
            None => {}
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
            let (number, ticket) = place_of(inode.id);
            let mut part = self.parts[number].write();
            self.leave(&mut part, ticket);
            let removed = part.objects.remove(ticket);
            drop(part);
            drop(removed);
            if let (Kind::Dir, Some(tell)) = (inode.kind, self.dropped.get()) {
                tell(inode.id);
            }
        }
        dropped
    }
}
