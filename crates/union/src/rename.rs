//! Renaming files and directories.
//!
//! Everything happens on one branch, and one rename there is the moment of change: whiteouts and marks that
//! the result needs are in place before, those that it makes void go afterwards.

mod exchange;

use std::sync::Arc;

use rules::lookup::{Resolution, resolve};
use rules::rename::{Plan, can_move, plan, preferred_target};
use rules::whiteout::Purpose;
use rules::{Attr, BranchIndex, Name, placement};
use tree::{Object, RenameHow, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::index::{Index, Shown, Sightings};
use crate::inode::Inode;
use crate::notes::End;
use crate::remove::lock_both;
use crate::union::Union;

/// How often a rename starts over because another thread changed what the names mean.
const ATTEMPTS: usize = 16;

/// One end of a rename.
struct Side<'a, T: Tree> {
    parent: &'a Arc<Inode<T>>,
    name: &'a Name,
    sightings: Sightings,
    shown: Shown,
}

impl<'a, T: Tree> Side<'a, T> {
    fn resolution(&self) -> Resolution {
        resolve(&self.sightings)
    }

    fn end(&self) -> End<'_, T> {
        End {
            parent: self.parent,
            name: self.name,
            sightings: &self.sightings,
        }
    }
}

/// An object and a reference to it, given back at the end.
struct Held<'a, T: Tree> {
    union: &'a Union<T>,
    inode: Arc<Inode<T>>,
}

impl<T: Tree> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.union.inodes.forget(&self.inode, 1);
    }
}

impl<T: Tree> Union<T> {
    /// Renames. `EXDEV` when a directory merges entries from below, `ENOTEMPTY`, `EEXIST`, `EROFS`, `EINVAL`.
    pub fn rename(
        &self,
        parent: InodeId,
        name: &[u8],
        new_parent: InodeId,
        new_name: &[u8],
        how: RenameHow,
    ) -> Result<()> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let (new_parent, new_name) = (self.directory(new_parent)?, self.dialect.check(new_name)?);
        for _ in 0..ATTEMPTS {
            if self.try_rename((&parent, &name), (&new_parent, &new_name), how)? {
                return Ok(());
            }
        }
        Err(Refusal::NotFound.into())
    }

    /// Renames, unless another thread gave one of the names another meaning meanwhile; then `false`.
    fn try_rename(
        &self,
        (parent, name): (&Arc<Inode<T>>, &Name),
        (new_parent, new_name): (&Arc<Inode<T>>, &Name),
        how: RenameHow,
    ) -> Result<bool> {
        let source = self.side(parent, name)?;
        let destination = self.side(new_parent, new_name)?;
        let moving = self.held(&source)?.ok_or(Refusal::NotFound)?;
        let moving = self.held_apart(moving)?;
        let mut replaced = self.held(&destination)?;
        if how == RenameHow::Exchange {
            replaced = replaced.map(|held| self.held_apart(held)).transpose()?;
        }
        match (how, &replaced) {
            (RenameHow::NoReplace, Some(_)) => return Err(Refusal::Exists.into()),
            (RenameHow::Exchange, None) => return Err(Refusal::NotFound.into()),
            _ => {}
        }
        if is_within(new_parent, &moving.inode) {
            return Err(Refusal::Invalid.into());
        }
        if let Some(replaced) = &replaced {
            if is_within(parent, &replaced.inode) {
                let exchange = how == RenameHow::Exchange;
                return Err(if exchange {
                    Refusal::Invalid
                } else {
                    Refusal::NotEmpty
                }
                .into());
            }
            if Arc::ptr_eq(&moving.inode, &replaced.inode) {
                return Ok(true);
            }
            self.check_replaced(&moving, replaced, how)?;
        }
        if moving.inode.dir().is_ok() {
            let whole = [parent, new_parent, &moving.inode];
            let replaced = replaced.iter().map(|replaced| &replaced.inode);
            for dir in whole.into_iter().chain(replaced) {
                self.refuse_unread(dir)?;
            }
        }
        let target = self.rename_target(&source, &destination)?;
        self.check_moves(&moving.inode, target)?;
        if let (RenameHow::Exchange, Some(replaced)) = (how, &replaced) {
            self.check_moves(&replaced.inode, target)?;
        }
        let from = self.directory_on(parent, target)?;
        let to = self.directory_on(new_parent, target)?;
        self.bring(&moving.inode, &source, target)?;
        if let (RenameHow::Exchange, Some(replaced)) = (how, &replaced) {
            self.bring(&replaced.inode, &destination, target)?;
        }
        let locks = lock_both(parent, new_parent)?;
        let source = self.side_locked(parent, name)?;
        let destination = self.side_locked(new_parent, new_name)?;
        let same = match &replaced {
            Some(replaced) => self.still_names(&destination, replaced)?,
            None => destination.resolution() == Resolution::Absent,
        };
        // A file may have been moved down since it was brought.
        let brought = moving.inode.dir().is_ok() || source.resolution().branch() == Some(target);
        // What is replaced may have moved as well: above the target it would hide what comes.
        let exchanges =
            |held: &Held<'_, T>| how == RenameHow::Exchange && held.inode.dir().is_err();
        let exact = replaced.as_ref().is_some_and(exchanges);
        let there = destination.resolution().branch();
        let reached = there.is_none_or(|there| target == there || target < there && !exact);
        if !same || !brought || !reached || !self.still_names(&source, &moving)? {
            return Ok(false);
        }
        let ends = Ends {
            target,
            from,
            to,
            source,
            destination,
        };
        match (how, replaced) {
            (RenameHow::Exchange, Some(replaced)) => self.exchange(&ends, &moving, &replaced)?,
            (_, replaced) => self.replace(&ends, &moving, replaced.as_ref())?,
        }
        self.show_change(parent, target);
        self.show_change(new_parent, target);
        drop(locks);
        Ok(true)
    }

    /// Returns whether a name still means an object; the caller holds `change` of its directory.
    fn still_names(&self, side: &Side<'_, T>, held: &Held<'_, T>) -> Result<bool> {
        let Some(branch) = side.resolution().branch() else {
            return Ok(false);
        };
        if let Some(known) = self.known_at(side) {
            return Ok(Arc::ptr_eq(&known, &held.inode));
        }
        let Some(attr) = self.attr_on(side.parent, branch, side.name)? else {
            return Ok(false);
        };
        let known = self.inodes.known(&self.canonical(&attr));
        Ok(known.is_some_and(|known| Arc::ptr_eq(&known, &held.inode)))
    }

    fn side<'a>(&self, parent: &'a Arc<Inode<T>>, name: &'a Name) -> Result<Side<'a, T>> {
        let facts = |index: &Index| (index.sightings(name.as_bytes()), index.shown(name));
        let (sightings, shown) = self.with_index(parent, facts)?;
        Ok(Side {
            parent,
            name,
            sightings,
            shown,
        })
    }

    fn side_locked<'a>(&self, parent: &'a Arc<Inode<T>>, name: &'a Name) -> Result<Side<'a, T>> {
        let facts = |index: &Index| (index.sightings(name.as_bytes()), index.shown(name));
        let (sightings, shown) = self.with_index_locked(parent, facts)?;
        Ok(Side {
            parent,
            name,
            sightings,
            shown,
        })
    }

    /// Returns what is at one end if no branch has to be asked for that, and it is no directory.
    fn known_at(&self, side: &Side<'_, T>) -> Option<Arc<Inode<T>>> {
        let known = self.known_there(side.parent, side.name, side.shown, &side.sightings);
        known.filter(|known| known.dir().is_err())
    }

    fn held(&self, side: &Side<'_, T>) -> Result<Option<Held<'_, T>>> {
        let known = self.known_at(side);
        if let Some(inode) = known.filter(|known| known.take_reference().is_ok()) {
            self.inodes.add_name(&inode, side.parent, side.name);
            return Ok(Some(Held { union: self, inode }));
        }
        let found = self.find(side.parent, side.name)?;
        Ok(found.map(|(inode, _)| Held { union: self, inode }))
    }

    /// Takes the inode that moves, when readers keep the original.
    fn held_apart<'a>(&self, held: Held<'a, T>) -> Result<Held<'a, T>> {
        let inode = self.apart(Arc::clone(&held.inode))?;
        if Arc::ptr_eq(&inode, &held.inode) {
            return Ok(held);
        }
        inode.take_reference()?;
        Ok(Held {
            union: held.union,
            inode,
        })
    }

    fn check_replaced(
        &self,
        moving: &Held<'_, T>,
        replaced: &Held<'_, T>,
        how: RenameHow,
    ) -> Result<()> {
        let (moves_dir, replaces_dir) = (moving.inode.dir().is_ok(), replaced.inode.dir().is_ok());
        match (how, moves_dir, replaces_dir) {
            (RenameHow::Exchange, _, _) | (_, false, false) => Ok(()),
            (_, true, true) => self.refuse_full(&replaced.inode),
            (_, true, false) => Err(Refusal::NotDirectory.into()),
            (_, false, true) => Err(Refusal::IsDirectory.into()),
        }
    }

    fn rename_target(
        &self,
        source: &Side<'_, T>,
        destination: &Side<'_, T>,
    ) -> Result<BranchIndex> {
        let holds = |b| self.can_hold(source.parent, b) && self.can_hold(destination.parent, b);
        let preferred = preferred_target(&source.sightings, &destination.sightings, holds);
        if let Some(target) = preferred {
            return Ok(target);
        }
        let top = source.resolution().branch().ok_or(Refusal::NotFound)?;
        // The new name must be seen there, too: not below what hides it.
        let hiding = destination.sightings.first().map_or(top, |s| s.branch);
        let shows = |b| b <= hiding && holds(b);
        let above = source.parent.dir()?.state.read().branches();
        placement::copy_up(self.settings().copy_up, top, &above, shows)
            .ok_or_else(|| Refusal::ReadOnly.into())
    }

    /// Refuses a directory that merges something from below the target branch, unless that can be noted.
    fn check_moves(&self, inode: &Arc<Inode<T>>, target: BranchIndex) -> Result<()> {
        // It is read in any case: that shows whether it has records.
        if inode.dir().is_err()
            || self.with_index(inode, |i| can_move(i.all(), target))?
            || self.renames_merged()
        {
            Ok(())
        } else {
            Err(Refusal::CrossBranch.into())
        }
    }

    /// Makes sure that an object is on the target branch under its own name.
    fn bring(&self, inode: &Arc<Inode<T>>, side: &Side<'_, T>, target: BranchIndex) -> Result<()> {
        if inode.dir().is_ok() {
            return self.directory_on(inode, target).map(drop);
        }
        self.publish(inode)?;
        self.inodes.add_name(inode, side.parent, side.name);
        let current = side.resolution().branch();
        if current != Some(target) {
            self.copy_up_to(inode, target)?;
        }
        Ok(())
    }

    fn replace(
        &self,
        ends: &Ends<'_, T>,
        moving: &Held<'_, T>,
        replaced: Option<&Held<'_, T>>,
    ) -> Result<()> {
        let Ends {
            target,
            from,
            to,
            source,
            destination,
        } = ends;
        let (tree, root) = (from.tree(), self.root_of(*target));
        let (from_handle, to_handle) = (from.open()?, to.open()?);
        let is_dir = moving.inode.dir().is_ok();
        let notes = self.notes(&moving.inode, *target, &source.end(), &destination.end())?;
        let mut plan = self.plan(source, destination, *target, is_dir);
        // What has records is marked with them.
        plan.mark_opaque &= notes.is_none();
        let lost = match replaced {
            Some(held) if !is_dir => self.attr_at(destination, &held.inode)?,
            _ => None,
        };
        if let Some(notes) = &notes {
            self.put_notes(&moving.inode, notes)?;
        }
        let moved = (|| {
            if plan.hide_source {
                self.dialect.put_beside(&root, &from_handle, source.name)?;
            }
            if plan.mark_opaque {
                let handle = tree.open_dir(&from_handle, source.name)?;
                self.dialect.mark_opaque(&root, &handle)?;
            }
            if plan.reveal {
                self.dialect
                    .make_room(&root, &to_handle, destination.name)?;
            }
            self.move_over(ends, is_dir && replaced.is_some())
        })();
        if let Err(error) = moved {
            if let Some(notes) = &notes {
                self.take_notes_back(&moving.inode, notes);
            }
            if plan.hide_source {
                self.dialect
                    .remove_beside(tree, &from_handle, source.name)
                    .or(Err(error))?;
            }
            return Err(error);
        }
        if plan.hide_source {
            self.dialect.settle(tree, &from_handle, source.name);
        }
        if plan.reveal
            && let Err(error) = self
                .dialect
                .remove_beside(tree, &to_handle, destination.name)
        {
            tracing::warn!(name = %destination.name, %error, "a whiteout stays beside a renamed entry");
        }
        if let Some(held) = replaced {
            match (lost, is_dir) {
                (Some((attr, branch)), false) => {
                    let (parent, name) = (destination.parent, destination.name);
                    let deleted = Some(&attr).filter(|_| branch == *target);
                    self.name_gone(&held.inode, parent, name, deleted)?;
                }
                (_, true) => self.directory_gone(&held.inode),
                (None, false) => {}
            }
        }
        self.note_move(ends, &moving.inode, plan.hide_source, notes.is_some())?;
        if let Some(notes) = &notes {
            self.tidy_notes(&moving.inode, notes);
        }
        Ok(())
    }

    /// Renames on the target branch, over what is there. A directory there that still holds whiteouts steps aside first.
    fn move_over(&self, ends: &Ends<'_, T>, over_dir: bool) -> Result<()> {
        let Ends {
            target,
            from,
            to,
            source,
            destination,
        } = ends;
        let (tree, from_handle, to_handle) = (from.tree(), from.open()?, to.open()?);
        let there = destination.sightings.iter().any(|s| s.branch == *target);
        let away = if over_dir && there && !self.is_bare(to, destination.name)? {
            Some(self.move_away(to, destination.name, Purpose::MovedAway)?)
        } else {
            None
        };
        let how = RenameHow::Replace;
        let done = tree.rename(&from_handle, source.name, &to_handle, destination.name, how);
        if let Some(away) = away {
            match done {
                Ok(()) => {
                    // Should it stay, then under a name from which nothing brings it back.
                    let gone = self.dialect.temporary(destination.name, Purpose::Building);
                    let how = RenameHow::Replace;
                    let renamed = tree.rename(&to_handle, &away, &to_handle, &gone, how);
                    self.scrap_moved(to, if renamed.is_ok() { &gone } else { &away });
                }
                Err(errno) => {
                    tree.rename(
                        &to_handle,
                        &away,
                        &to_handle,
                        destination.name,
                        RenameHow::NoReplace,
                    )
                    .or(Err(errno))?;
                }
            }
        }
        Ok(done?)
    }

    /// Returns whether a branch's directory holds nothing at all.
    fn is_bare(&self, dir: &Arc<BranchDir<T>>, name: &Name) -> Result<bool> {
        let inside = dir.tree().open_dir(&*dir.open()?, name)?;
        Ok(dir.tree().list(&inside)?.is_empty())
    }

    fn plan(
        &self,
        source: &Side<'_, T>,
        destination: &Side<'_, T>,
        target: BranchIndex,
        is_dir: bool,
    ) -> Plan {
        let (old, new) = (&source.sightings, &destination.sightings);
        plan(old, new, target, is_dir, self.settings().always_opaque)
    }

    fn attr_at(
        &self,
        side: &Side<'_, T>,
        inode: &Arc<Inode<T>>,
    ) -> Result<Option<(Attr, BranchIndex)>> {
        let Some(branch) = side.resolution().branch() else {
            return Ok(None);
        };
        let attr = self.attr_on(side.parent, branch, side.name)?;
        tracing::trace!(inode = inode.id.0, "is replaced");
        Ok(attr.map(|attr| (attr, branch)))
    }

    fn note_move(
        &self,
        ends: &Ends<'_, T>,
        inode: &Arc<Inode<T>>,
        hidden: bool,
        noted: bool,
    ) -> Result<()> {
        let Ends {
            target,
            to,
            source,
            destination,
            ..
        } = ends;
        let known = {
            let state = source.parent.dir()?.state.read();
            let index = state.index.as_ref().filter(|_| self.trusts_branches());
            index.and_then(|index| index.entry_on(*target, source.name))
        };
        let (kind, ino) = match known {
            Some(known) => known,
            None => {
                let moved = Object::Entry(&*to.open()?, destination.name);
                let attr = to.tree().attr(moved)?;
                (attr.kind, attr.ino)
            }
        };
        let mut state = source.parent.dir()?.state.write();
        if let Some(index) = &mut state.index {
            if hidden {
                index.hide(*target, source.name);
            } else {
                index.remove(*target, source.name);
            }
        }
        state.links_changed(*target);
        drop(state);
        self.touched(source.parent, *target);
        self.at_new_place(inode, source, destination, to, noted);
        self.note_entry_as(destination.parent, *target, destination.name, (kind, ino))
    }

    /// Notes that an object has another name, on the target branch as in the union.
    fn at_new_place(
        &self,
        inode: &Arc<Inode<T>>,
        source: &Side<'_, T>,
        destination: &Side<'_, T>,
        to: &Arc<BranchDir<T>>,
        noted: bool,
    ) {
        // It never lacks a name: who does not find it at its place waits for the directory of one (`moved_from`).
        self.inodes
            .add_name(inode, destination.parent, destination.name);
        self.inodes.remove_name(inode, source.parent, source.name);
        if let Ok(directory) = inode.dir() {
            let mut state = directory.state.write();
            if !noted {
                // Below the target branch nothing of it was visible, and now nothing merges.
                state.members.retain(|member| member.index() == to.index());
            }
            if let Some(member) = state.members.first() {
                member.moved(to, destination.name);
            }
            state.links_below = None;
            state.forget_index();
        } else if let Ok(other) = inode.other() {
            let mut state = other.state.write();
            state.branch = to.index();
            state.place = Some((Arc::clone(to), destination.name.clone()));
        }
    }
}

/// Both ends of a rename on the branch where it happens, locked.
struct Ends<'a, T: Tree> {
    target: BranchIndex,
    from: Arc<BranchDir<T>>,
    to: Arc<BranchDir<T>>,
    source: Side<'a, T>,
    destination: Side<'a, T>,
}

/// Returns whether a directory is another one or below it.
fn is_within<T: Tree>(dir: &Arc<Inode<T>>, other: &Arc<Inode<T>>) -> bool {
    let mut dir = Arc::clone(dir);
    loop {
        if Arc::ptr_eq(&dir, other) {
            return true;
        }
        match dir.name() {
            Some((parent, _)) => dir = parent,
            None => return false,
        }
    }
}
