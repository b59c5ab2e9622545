//! What the front end was told of objects, and whether it would hear of a change.
//!
//! A change that agrees with what was told is the union's own, or no news.

use std::sync::Arc;

use rules::{Attr, BranchIndex, Time};
use tree::Tree;

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::Result;
use crate::inode::Inode;
use crate::union::Union;

/// Attributes that the front end was told last, as far as they tell a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    size: u64,
    mtime: Time,
    ctime: Time,
    perm: u32,
    owner: (u32, u32),
    nlink: u32,
}

impl Told {
    pub(crate) fn of(attr: &Attr) -> Self {
        Self {
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
            perm: attr.perm,
            owner: (attr.uid, attr.gid),
            nlink: attr.nlink,
        }
    }

    fn same_contents(&self, other: &Self) -> bool {
        (self.size, self.mtime) == (other.size, other.mtime)
    }
}

impl<T: Tree> Union<T> {
    /// Returns whether changes of what is cached about an object will be heard of: its attributes, and for a
    /// directory the names in it. Always, unless the branches are watched and this part of them is not.
    pub fn hears(&self, id: InodeId) -> bool {
        if self.shows_marks() {
            // The union's own work makes and removes them without telling.
            return false;
        }
        !self.watches() || self.inodes.get(id).is_ok_and(|inode| self.hears_of(&inode))
    }

    /// Returns whether a change of the names that lead to an object will be heard of.
    pub fn hears_names(&self, id: InodeId) -> bool {
        if self.shows_marks() {
            return false;
        }
        if !self.watches() {
            return true;
        }
        let Ok(inode) = self.inodes.get(id) else {
            return false;
        };
        let names = inode.names.lock().clone();
        names.iter().all(|(parent, _)| self.hears_of(parent))
    }

    pub(crate) fn hears_of(&self, inode: &Inode<T>) -> bool {
        if !self.watches() {
            return true;
        }
        match inode.dir() {
            Ok(directory) => directory.state.read().is_heard(),
            Err(_) => {
                let names = inode.names.lock().clone();
                let heard = |parent: &Arc<Inode<T>>| {
                    parent.dir().is_ok_and(|dir| dir.state.read().is_heard())
                };
                names.iter().all(|(parent, _)| heard(parent))
            }
        }
    }

    /// Asks for the members of a directory to be watched; returns the branches if all are.
    pub(crate) fn listen(
        &self,
        id: InodeId,
        members: &[Arc<BranchDir<T>>],
    ) -> Result<Option<Vec<BranchIndex>>> {
        let Some(watcher) = self.watcher().filter(|_| self.watches()) else {
            return Ok(None);
        };
        let mut heard = Vec::with_capacity(members.len());
        for member in members {
            let handle = match member.open() {
                Err(errno) if self.goes_on_without(member, &errno.into()) => return Ok(None),
                handle => handle?,
            };
            if !watcher.watch(id, member.branch.id, &handle) {
                return Ok(None);
            }
            heard.push(member.index());
        }
        Ok(Some(heard))
    }

    /// Notes that a directory has a member more, which is to be watched like the others.
    pub(crate) fn listen_to(&self, inode: &Inode<T>, branch: BranchIndex) {
        let Ok(directory) = inode.dir() else { return };
        let member = {
            let state = directory.state.read();
            match &state.index {
                Some(index) if index.hears(branch) == Some(false) => state.member(branch).cloned(),
                _ => return,
            }
        };
        let watched = member.is_some_and(|member| {
            self.listen(inode.id, &[member])
                .is_ok_and(|heard| heard.is_some())
        });
        let mut state = directory.state.write();
        match &mut state.index {
            Some(index) if watched => index.hear(branch),
            _ => state.forget_index(),
        }
    }

    /// Notes what the front end is told about an object.
    pub(crate) fn tell(&self, inode: &Inode<T>, attr: &Attr) {
        if !self.watches() {
            return;
        }
        let now = Told::of(attr);
        let before = inode.told.lock().replace(now);
        // The attributes are on their way; contents would stay as they are cached.
        if before.is_some_and(|before| self.contents_changed_by_others(inode, &before, &now)) {
            self.contents_differ(inode);
        }
    }

    /// As `tell`, after a change through the union.
    pub(crate) fn tell_own(&self, inode: &Inode<T>, attr: &Attr) {
        if self.watches() {
            *inode.told.lock() = Some(Told::of(attr));
        }
    }

    pub(crate) fn contents_changed_by_others(
        &self,
        inode: &Inode<T>,
        before: &Told,
        now: &Told,
    ) -> bool {
        let Ok(other) = inode.other() else {
            return false;
        };
        if before.same_contents(now) {
            return false;
        }
        let mut state = other.state.write();
        // What is written through the union cannot be told from what is written directly.
        let ours = state.written && self.writable(state.branch);
        state.pages_stale |= !ours;
        !ours
    }

    /// Notes attributes of a file that was written through the union, at its last close.
    pub(crate) fn written(&self, inode: &Inode<T>) {
        let attr = self.attr_of_quietly(inode).ok();
        let mut told = inode.told.lock();
        let now = attr.as_ref().map(Told::of);
        if *told != now
            && let Some(observer) = self.observer()
        {
            // A change that nobody told apart from ours may be among them.
            observer.attributes_changed(inode.id);
        }
        *told = now;
    }
}
