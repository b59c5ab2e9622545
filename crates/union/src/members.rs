//! What a directory merges, after somebody else changed a branch.
//!
//! Every directory looks at its members again before its next answer, once a change may have concerned what is merged.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::lookup::{Resolution, Sighting, dirs, resolve};
use rules::{Attr, BranchIndex, Name, whiteout};
use tree::{Object, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::Result;
use crate::inode::{DirectoryState, Inode, Key};
use crate::union::Union;

/// A directory of the union, a name in it, and what was seen under that.
pub(crate) type Place<'a, T> = (&'a Arc<Inode<T>>, &'a Name, &'a [Sighting]);

impl<T: Tree> DirectoryState<T> {
    /// Notes that a branch has a subdirectory more or less. Those of the topmost are counted each time.
    pub(crate) fn links_changed(&mut self, branch: BranchIndex) {
        let top = self.members.first();
        if top.is_none_or(|top| top.index() != branch) {
            self.links_below = None;
        }
    }
}

impl<T: Tree> Union<T> {
    /// Makes sure that a directory merges what it should, after a change that may concern it.
    /// The caller holds no lock.
    pub(crate) fn recheck(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        if !self.watches() {
            return Ok(());
        }
        let generation = self.generation.load(Ordering::Acquire);
        {
            let state = inode.dir()?.state.read();
            if state.removed || state.checked == generation {
                return Ok(());
            }
        }
        let Some((parent, name)) = inode.name() else {
            if inode.id == InodeId::ROOT {
                let members = self.merged(self.roots().iter().cloned())?;
                self.reconcile(inode, None, members, generation)?;
            }
            return Ok(());
        };
        if whiteout::is_reserved(name.as_bytes()) {
            // The format's own directories are not merged.
            return Ok(());
        }
        let sightings = self.sightings(&parent, &name)?;
        let members = self.members_of(inode, &parent, &name, &sightings)?;
        if members.is_empty() {
            let mut state = inode.dir()?.state.write();
            // Should it be found under another name, its caches are told what is different there.
            state.removed = true;
            state.forget_index();
            return Ok(());
        }
        let place = Some((&parent, &name, &sightings[..]));
        self.reconcile(inode, place, members, generation).map(drop)
    }

    /// Lets a directory merge what its records say, which reading it showed. The caller holds no lock.
    pub(crate) fn merge_recorded(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut merged = true;
        if let Some((parent, name)) = inode.name() {
            let sightings = self.sightings(&parent, &name)?;
            let members = self.members_of(inode, &parent, &name, &sightings)?;
            if !members.is_empty() {
                let place = Some((&parent, &name, &sightings[..]));
                merged = self.reconcile(inode, place, members, generation)?;
            }
        }
        inode.dir()?.state.write().shows_records &= !merged;
        Ok(())
    }

    /// Lets the directories that one of the union is on the branches part, if one of them is found under another name
    /// than the union gave it: the others may have stayed.
    pub(crate) fn part_moved(&self, attr: &Attr, parent: &Arc<Inode<T>>, name: &Name) {
        if !self.watches() {
            return;
        }
        if let Some(known) = self.inodes.known(attr)
            && let Some((p, n)) = known.name()
            && !(Arc::ptr_eq(&p, parent) && n == *name)
        {
            self.inodes.part_keys(&known);
        }
    }

    /// Returns whether a copy went from above its original by somebody else's doing; they are two from now on.
    pub(crate) fn has_parted(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        branch: BranchIndex,
    ) -> Result<bool> {
        if !self.watches() {
            return Ok(false);
        }
        let change = parent.dir()?.change.lock();
        let still = self.with_index_locked(parent, |index| index.shown(name).resolution)?;
        let parted = {
            let state = inode.other()?.state.read();
            let copied = state.branch != branch && !state.pseudo_linked;
            copied && state.unpublished.is_none() && still == Resolution::File(branch)
        };
        if parted {
            self.inodes.part_keys(inode);
        }
        drop(change);
        Ok(parted)
    }

    /// Returns what a directory merges under its name; nothing if the name does not mean it any more.
    pub(crate) fn members_of(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        sightings: &[Sighting],
    ) -> Result<Vec<Arc<BranchDir<T>>>> {
        let Some(attr) = self.topmost(parent, name, sightings)? else {
            return Ok(Vec::new());
        };
        match self.inodes.known(&attr) {
            Some(known) if Arc::ptr_eq(&known, inode) => {
                self.merging(parent, name, sightings, &attr)
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the attributes of the topmost directory of a name, if the name means one.
    pub(crate) fn topmost(
        &self,
        parent: &Inode<T>,
        name: &Name,
        sightings: &[Sighting],
    ) -> Result<Option<Attr>> {
        if !matches!(resolve(sightings), Resolution::Dir(_)) {
            return Ok(None);
        }
        self.look_topmost(&candidates(parent, name, sightings)?, name)
    }

    /// Lets a directory merge these members from now on, which follow from what was seen at its place. Those that are the
    /// same stay, for others refer to them. `false`: something else is seen there meanwhile.
    pub(crate) fn reconcile(
        &self,
        inode: &Arc<Inode<T>>,
        place: Option<Place<'_, T>>,
        members: Vec<Arc<BranchDir<T>>>,
        generation: u64,
    ) -> Result<bool> {
        let directory = inode.dir()?;
        let mut change = None;
        if let Some((parent, name, sightings)) = place {
            change = Some(parent.dir()?.change.lock());
            let now = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()))?;
            if now[..] != *sightings {
                // The union itself may have added one.
                return Ok(false);
            }
        }
        let old = directory.state.read().members.clone();
        let mut kept = Vec::with_capacity(members.len());
        for new in members {
            let known = old.iter().find(|old| old.index() == new.index());
            kept.push(match known {
                Some(known) if is_same(known, &new) => {
                    if let Some((above, name)) = new.place() {
                        known.moved(&above, &name);
                    }
                    Arc::clone(known)
                }
                _ => new,
            });
        }
        let same = kept.len() == old.len() && kept.iter().zip(&old).all(|(a, b)| Arc::ptr_eq(a, b));
        let mut state = directory.state.write();
        state.checked = generation;
        state.removed = false;
        if !same {
            state.members = kept;
            state.forget_index();
            drop(state);
            self.contents_differ(inode);
        }
        drop(change);
        Ok(true)
    }
}

/// Returns the directories that have a name, topmost first.
pub(crate) fn candidates<T: Tree>(
    parent: &Inode<T>,
    name: &Name,
    sightings: &[Sighting],
) -> Result<Vec<Arc<BranchDir<T>>>> {
    let state = parent.dir()?.state.read();
    let member = |branch| state.member(branch).map(|dir| dir.child(name.clone()));
    Ok(dirs(sightings).filter_map(member).collect())
}

/// Returns whether two memories of a directory on a branch mean the same one.
pub(crate) fn is_same<T: Tree>(one: &Arc<BranchDir<T>>, two: &Arc<BranchDir<T>>) -> bool {
    if Arc::ptr_eq(one, two) {
        return true;
    }
    let key = |dir: &Arc<BranchDir<T>>| {
        let handle = dir.open()?;
        dir.tree().attr(Object::Dir(&*handle)).map(|a| Key::of(&a))
    };
    matches!((key(one), key(two)), (Ok(one), Ok(two)) if one == two)
}
