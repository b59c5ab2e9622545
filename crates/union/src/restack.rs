//! Changing the stack of branches while it is in use.
//!
//! Nobody else is at work meanwhile, see `gate`. Places of branches are numbers, so everything that remembers one gets the new
//! one first. Then the directories that a changed branch takes part in, or whose parents it takes part in, are looked at
//! again from the root down, what became of each known name is compared with what it was, and the observer is told.
//!
//! Nothing on the branches changes but the format's own files in the root of one that becomes writable, or stops being so:
//! a crash at any point leaves branches that can be mounted in either order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::lookup::Resolution;
use rules::{BranchIndex, Name, Powers};
use tree::{Object, Tree};

use crate::api::{BranchId, InodeId};
use crate::branch::{Branch, BranchDir, Placed};
use crate::error::Result;
use crate::index::Index;
use crate::inode::{Inode, Key};
use crate::settings::Settings;
use crate::union::Union;
use crate::users::InTheWay;

/// What tells the number of a directory from that of another one which it was a part of.
const PARTED: u64 = 1 << 50;

/// Why the stack did not change.
#[derive(Debug, thiserror::Error)]
pub enum RestackError {
    /// Somebody uses what would go. `EBUSY`.
    #[error("in use: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    InUse(Vec<InTheWay>),
    /// There is no such branch, or no such place for one. `EDOM`
    #[error("there is no such branch")]
    NoBranch,
    /// A branch or the union said no.
    #[error(transparent)]
    Union(#[from] crate::Error),
}

/// What became of the number of a branch.
type Renumbering = HashMap<BranchIndex, BranchIndex>;

/// The children that the union knows in each directory.
type Known<T> = HashMap<InodeId, Vec<(Name, Arc<Inode<T>>)>>;

impl<T: Tree> Union<T> {
    /// Puts a branch at a position; those from there on move down.
    pub fn insert_branch(
        &self,
        index: usize,
        branch: Branch<T>,
    ) -> std::result::Result<BranchId, RestackError> {
        let _closed = self.gate.close();
        self.finish_pending()?;
        let mut next = self.roots().to_vec();
        if index > next.len() || next.len() >= usize::from(u16::MAX) {
            return Err(RestackError::NoBranch);
        }
        let root = self.open_root(branch, index)?;
        let id = root.branch.id;
        next.insert(index, Arc::clone(&root));
        self.restack(next, &[root.branch.id]);
        Ok(id)
    }

    /// Takes a branch out. `in_use`: what processes hold in ways that the union does not see, such as working
    /// directories, as paths from the union's root.
    pub fn remove_branch(
        &self,
        id: BranchId,
        in_use: &[Vec<Name>],
    ) -> std::result::Result<(), RestackError> {
        self.flush_links()?;
        let _closed = self.gate.close();
        self.finish_pending()?;
        let mut next = self.roots().to_vec();
        let at = place(&next, id).ok_or(RestackError::NoBranch)?;
        if next.len() == 1 {
            return Err(RestackError::InUse(vec![InTheWay::last_branch()]));
        }
        let found = self.users_of(&next[at].branch, in_use);
        if !found.is_empty() {
            return Err(RestackError::InUse(found));
        }
        self.flush_pseudo_links()?;
        self.save_renamed_on(&next[at])?;
        next.remove(at);
        self.restack(next, &[id]);
        Ok(())
    }

    /// Moves a branch to another position.
    pub fn move_branch(&self, id: BranchId, index: usize) -> std::result::Result<(), RestackError> {
        self.flush_links()?;
        let _closed = self.gate.close();
        self.finish_pending()?;
        let mut next = self.roots().to_vec();
        let at = place(&next, id).ok_or(RestackError::NoBranch)?;
        if index >= next.len() {
            return Err(RestackError::NoBranch);
        }
        self.flush_pseudo_links()?;
        let root = next.remove(at);
        next.insert(index, root);
        self.restack(next, &[id]);
        Ok(())
    }

    /// Lets a branch be used for something else from now on. Who writes to a file of a branch that becomes read-only goes on
    /// with a copy; one whose data bypasses the union stands in the way.
    pub fn set_powers(
        &self,
        id: BranchId,
        powers: Powers,
    ) -> std::result::Result<(), RestackError> {
        let _closed = self.gate.close();
        self.finish_pending()?;
        let roots = self.roots().to_vec();
        let root = &roots[place(&roots, id).ok_or(RestackError::NoBranch)?];
        let powers = self.dialect.effective(powers);
        let before = root.powers();
        if before == powers {
            return Ok(());
        }
        if before.writable && !powers.writable {
            let found = self.bypassing_writers_of(&root.branch);
            if !found.is_empty() {
                return Err(RestackError::InUse(found));
            }
            self.flush_pseudo_links()?;
            self.save_renamed_on(root)?;
            self.dialect.retire(root);
        }
        root.branch.set_powers(powers);
        if powers.writable
            && let Err(error) = self.dialect.prepare(root, self.settings().pseudo_links)
        {
            root.branch.set_powers(before);
            return Err(error.into());
        }
        self.restack(roots, &[id]);
        Ok(())
    }

    /// Changes what was chosen at mount; the format on disk stays. Everything known is looked at again if that depends on it, or
    /// if it is asked for.
    pub fn reconfigure(
        &self,
        change: impl FnOnce(&mut Settings),
        look_again: bool,
    ) -> std::result::Result<(), RestackError> {
        let _closed = self.gate.close();
        self.finish_pending()?;
        let before = Arc::clone(&self.settings());
        let mut settings = Settings::clone(&before);
        change(&mut settings);
        settings.dialect = before.dialect;
        if before.pseudo_links && !settings.pseudo_links {
            self.flush_pseudo_links()?;
        }
        let roots = self.roots().to_vec();
        if before.pseudo_links != settings.pseudo_links {
            let prepare = |pseudo_links| {
                let mut writable = roots.iter().filter(|root| root.powers().writable);
                writable.try_for_each(|root| self.dialect.prepare(root, pseudo_links))
            };
            if let Err(error) = prepare(settings.pseudo_links) {
                // Those that are prepared already need what the settings that stay rely on.
                if let Err(error) = prepare(before.pseudo_links) {
                    tracing::warn!(%error, "a branch is not prepared for pseudo-links");
                }
                return Err(error.into());
            }
        }
        self.set_settings(settings);
        self.reset_placement();
        if before.rename_merged != self.settings().rename_merged {
            self.save_renamed();
        } else if !look_again && before.direct_changes == self.settings().direct_changes {
            return Ok(());
        }
        // What was remembered was remembered under other assumptions.
        let all: Vec<_> = roots.iter().map(|root| root.branch.id).collect();
        self.restack(roots, &all);
        Ok(())
    }

    /// Gives all names of copies with several names their links and empties the store, while others go on working. What
    /// `auplink MNT flush` does.
    pub fn flush_links(&self) -> Result<()> {
        {
            // The long part: finding the names.
            let _passage = self.pass();
            self.link_all_names()?;
        }
        let _closed = self.gate.close();
        self.flush_pseudo_links()
    }

    /// Stacks the branches anew; those of `changed` are new, gone, elsewhere or used for something else.
    fn restack(&self, next: Vec<Arc<BranchDir<T>>>, changed: &[BranchId]) {
        self.close_idle_files();
        let before = self.roots().to_vec();
        let mut order = Renumbering::new();
        for (index, root) in next.iter().enumerate() {
            let index = BranchIndex(index as u16);
            if let Some(old) = place(&before, root.branch.id) {
                order.insert(BranchIndex(old as u16), index);
            }
        }
        let inodes = self.inodes.all();
        let mut concerned: HashSet<InodeId> = HashSet::new();
        for inode in &inodes {
            if takes_part(inode, changed) {
                concerned.insert(inode.id);
            }
        }
        for (index, root) in next.iter().enumerate() {
            root.branch.set_index(BranchIndex(index as u16));
        }
        self.set_roots(next);
        self.keep_chain_index(changed);
        self.reset_placement();
        self.renumber_pseudo_links(&order);
        for inode in &inodes {
            self.renumber(inode, &order);
        }
        let mut places: Vec<_> = order.iter().collect();
        places.sort_unstable_by_key(|(old, _)| **old);
        // A branch that is gone may come back above.
        let fewer = places.len() < before.len();
        if fewer || !places.is_sorted_by_key(|(_, new)| **new) {
            inodes
                .iter()
                .for_each(|inode| self.part_from_original(inode));
        }
        self.lend_what_bypasses(&inodes);
        self.next_generation();
        self.look_again(&inodes, changed, concerned);
        drop(inodes);
        self.inodes.settle();
    }

    /// Gives an object the new numbers of its branches; one whose branch is gone is gone with it.
    fn renumber(&self, inode: &Arc<Inode<T>>, order: &Renumbering) {
        if let Ok(other) = inode.other() {
            let index = order.get(&other.state.read().branch).copied();
            if index.is_none() {
                self.inodes.remove_keys(inode);
                self.lose_names(inode, |_| true);
            }
            let mut state = other.state.write();
            state.branch = index.unwrap_or(BranchIndex(0));
            if index.is_none() {
                (state.place, state.data) = (None, None);
            } else if !self.writable(state.branch)
                && let Some(data) = &mut state.data
            {
                // Whoever writes next copies up.
                data.writable = false;
            }
        } else if let Ok(directory) = inode.dir() {
            let mut state = directory.state.write();
            let roots = self.roots();
            let is_there = |member: &Arc<BranchDir<T>>| place(&roots, member.branch.id).is_some();
            let (kept, lost) = state.members.drain(..).partition::<Vec<_>, _>(is_there);
            state.members = kept;
            state.members.sort_by_key(|member| member.index());
            state.links_below = None;
            if let Some(index) = &mut state.index {
                index.renumber(|old| order.get(&old).copied());
            }
            drop(state);
            lost.iter().for_each(|lost| self.part_from(inode, lost));
        }
    }

    /// Lets a copy be itself alone: what it is a copy of may be above it now.
    fn part_from_original(&self, inode: &Arc<Inode<T>>) {
        let Ok(other) = inode.other() else { return };
        let place = other.state.read().place.clone();
        let keys = inode.keys();
        if !self.inodes.part_keys(inode) {
            return;
        }
        for key in keys {
            self.part_number(inode, key);
        }
        let attr = place.and_then(|(dir, name)| {
            let handle = dir.open().ok()?;
            dir.tree().look(&handle, &name).ok().flatten()
        });
        if let Some(attr) = attr {
            self.inodes.add_key(inode, &attr);
        }
    }

    /// Lets readers whose data bypasses the union keep what they have open: who opened the same object for writing would bypass it
    /// as well, and write to a branch that is read-only.
    fn lend_what_bypasses(&self, inodes: &[Arc<Inode<T>>]) {
        for other in inodes.iter().filter_map(|inode| inode.other().ok()) {
            let mut state = other.state.write();
            state.lent |= state.bypassed && !self.writable(state.branch);
        }
    }

    fn look_again(
        &self,
        inodes: &[Arc<Inode<T>>],
        changed: &[BranchId],
        mut concerned: HashSet<InodeId>,
    ) {
        let mut known = Known::<T>::new();
        for inode in inodes {
            for (parent, name) in inode.names.lock().iter() {
                let children = known.entry(parent.id).or_default();
                children.push((name.clone(), Arc::clone(inode)));
            }
        }
        let mut directories: Vec<_> = inodes
            .iter()
            .filter(|inode| inode.dir().is_ok())
            .map(|inode| (depth(inode), inode))
            .collect();
        directories.sort_by_key(|(depth, _)| *depth);
        for (_, inode) in directories {
            let below = inode
                .name()
                .is_some_and(|(parent, _)| concerned.contains(&parent.id));
            let is_concerned = below || concerned.contains(&inode.id) || inode.id == InodeId::ROOT;
            // A record may lead to a branch that the parent has no part on.
            if !is_concerned && !self.is_recorded(inode) {
                continue;
            }
            let merges_others = self.gather(inode).unwrap_or_else(|error| {
                // It is read again when it is used next.
                tracing::warn!(inode = inode.id.0, %error, "a directory cannot be read after a change of branches");
                true
            });
            if merges_others || takes_part(inode, changed) {
                concerned.insert(inode.id);
            }
            if concerned.contains(&inode.id) {
                let children = known.get(&inode.id).map_or(&[][..], Vec::as_slice);
                self.compare(inode, children);
            }
        }
    }

    fn is_recorded(&self, inode: &Inode<T>) -> bool {
        inode.dir().is_ok_and(|directory| {
            let members = directory.state.read().members.clone();
            members
                .iter()
                .any(|member| self.has_records(member, None).unwrap_or(true))
        })
    }

    /// Finds out what a directory merges now; returns whether that is something else than before.
    fn gather(&self, inode: &Arc<Inode<T>>) -> Result<bool> {
        let generation = self.generation.load(Ordering::Acquire);
        let members = if inode.id == InodeId::ROOT {
            self.merged(self.roots().iter().cloned())?
        } else if let Some((parent, name)) = inode.name() {
            if parent.dir()?.state.read().removed {
                let was = std::mem::replace(&mut inode.dir()?.state.write().removed, true);
                return Ok(!was);
            }
            let sightings = self.sightings_alone(&parent, &name)?;
            match self.topmost(&parent, &name, &sightings)? {
                Some(top) => self.merging(&parent, &name, &sightings, &top)?,
                None => Vec::new(),
            }
        } else {
            return Ok(false);
        };
        let Some(top) = members.first() else {
            let mut state = inode.dir()?.state.write();
            state.removed = true;
            state.forget_index();
            return Ok(true);
        };
        let attr = top.tree().attr(Object::Dir(&*top.open()?))?;
        if self.inodes.known(&attr).is_none() {
            self.inodes.add_key(inode, &attr);
        }
        let (kept, before, was_hidden) = {
            let mut state = inode.dir()?.state.write();
            (state.index.take(), state.members.clone(), state.removed)
        };
        self.reconcile(inode, None, members, generation)?;
        let now = {
            let mut state = inode.dir()?.state.write();
            state.index = kept;
            state.members.clone()
        };
        self.part_from_lost(inode, &before, &now);
        let same = |(a, b): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(a, b);
        let mut pairs = before.iter().zip(&now);
        Ok(was_hidden || before.len() != now.len() || !pairs.all(same))
    }

    /// Lets a directory not be found any more by what records led to and do not any more: that may have a name of its own now.
    fn part_from_lost(
        &self,
        inode: &Arc<Inode<T>>,
        before: &[Arc<BranchDir<T>>],
        now: &[Arc<BranchDir<T>>],
    ) {
        let Some((parent, name)) = inode.name() else {
            return;
        };
        let Ok(above) = parent.dir().map(|dir| dir.state.read().members.clone()) else {
            return;
        };
        for lost in before {
            let path = lost.path();
            let still = now
                .iter()
                .any(|dir| dir.index() == lost.index() && dir.path() == path);
            let by_name = match above.iter().find(|dir| dir.index() == lost.index()) {
                Some(dir) => path.last() == Some(&name) && path.starts_with(&dir.path()),
                None => path == way(inode),
            };
            if still || by_name {
                continue;
            }
            self.part_from(inode, lost);
        }
    }

    /// Lets a directory not be found any more by one on a branch, which may have another name when it is met again.
    fn part_from(&self, inode: &Arc<Inode<T>>, lost: &Arc<BranchDir<T>>) {
        let attr = lost
            .open()
            .and_then(|dir| lost.tree().attr(Object::Dir(&*dir)));
        if let Ok(attr) = attr {
            let key = Key::of(&attr);
            self.inodes.drop_key(inode, key);
            let goes_on = inode
                .dir()
                .is_ok_and(|dir| !dir.state.read().members.is_empty());
            if goes_on {
                self.part_number(inode, key);
            }
        }
    }

    /// Gives what an object was on a branch a number of its own.
    fn part_number(&self, inode: &Inode<T>, key: Key) {
        if self.inodes.number(key) == inode.number {
            let number = inode.number ^ PARTED;
            self.inodes.copies.insert(key, number);
        }
    }

    /// Reads a directory again and tells what is different in it.
    fn compare(&self, inode: &Arc<Inode<T>>, children: &[(Name, Arc<Inode<T>>)]) {
        let Ok(directory) = inode.dir() else { return };
        let old = directory.state.write().index.take();
        let readable = self.with_index_alone(inode, |_| ());
        let mut changed: Vec<Name> = Vec::new();
        {
            let state = directory.state.read();
            if let (Ok(()), Some(new)) = (readable, &state.index) {
                changed = match &old {
                    Some(old) => old.differences_after_restack(new),
                    // Nobody remembers which names were asked for and missing: all that are there now may be among them.
                    None => {
                        let known: HashSet<_> = children.iter().map(|(name, _)| name).collect();
                        let there = Index::default().differences_after_restack(new);
                        there.into_iter().filter(|n| !known.contains(n)).collect()
                    }
                };
            }
        }
        for (name, child) in children {
            let still = self.still_means(inode, name, child);
            if !still {
                changed.push(name.clone());
                if child.other().is_ok() {
                    self.lose_names(child, |(parent, known)| {
                        Arc::ptr_eq(parent, inode) && known == name
                    });
                }
            }
        }
        if let Some(observer) = self.observer() {
            for name in &changed {
                observer.entry_changed(inode.id, name);
            }
        }
        self.contents_differ(inode);
    }

    /// Returns whether a name in a directory still means what it meant; a directory stays the same when others join it.
    fn still_means(&self, parent: &Arc<Inode<T>>, name: &Name, child: &Arc<Inode<T>>) -> bool {
        let shown = self.with_index_alone(parent, |index| index.shown(name));
        let branch = match shown.map(|shown| shown.resolution) {
            Ok(Resolution::File(branch)) => branch,
            Ok(Resolution::Dir(_)) => return child.dir().is_ok(),
            _ => return false,
        };
        let attr = self.attr_on(parent, branch, name).ok().flatten();
        let known = attr.and_then(|attr| self.inodes.known(&self.canonical(&attr)));
        known.is_some_and(|known| Arc::ptr_eq(&known, child))
    }

    /// Forgets names of an object, and tells.
    fn lose_names(&self, inode: &Arc<Inode<T>>, lost: impl Fn(&(Arc<Inode<T>>, Name)) -> bool) {
        let names = inode.names.lock().clone();
        for (parent, name) in names.iter().filter(|name| lost(name)) {
            if let Some(observer) = self.observer() {
                observer.entry_changed(parent.id, name);
            }
            self.inodes.remove_name(inode, parent, name);
        }
    }
}

fn place<T: Tree>(roots: &[Arc<BranchDir<T>>], id: BranchId) -> Option<usize> {
    roots.iter().position(|root| root.branch.id == id)
}

/// Returns whether a directory has a member on one of these branches.
fn takes_part<T: Tree>(inode: &Inode<T>, branches: &[BranchId]) -> bool {
    let of = |placed: &Placed<T>| branches.contains(&placed.id);
    inode.dir().is_ok_and(|directory| {
        let state = directory.state.read();
        state.members.iter().any(|member| of(&member.branch))
    })
}

fn depth<T: Tree>(inode: &Arc<Inode<T>>) -> usize {
    let mut depth = 0;
    let mut above = inode.name();
    while let Some((parent, _)) = above {
        depth += 1;
        above = parent.name();
    }
    depth
}

/// Returns the names that lead from the root of the union to an object.
fn way<T: Tree>(inode: &Arc<Inode<T>>) -> Vec<Name> {
    let mut names = Vec::new();
    let mut above = inode.name();
    while let Some((parent, name)) = above {
        names.push(name);
        above = parent.name();
    }
    names.reverse();
    names
}
