//! Removing names: `unlink` and `rmdir`.
//!
//! A removed name never shows a lower branch's entry again, not even after a crash halfway.
//! Read-only branches are never written.

use std::sync::Arc;

use parking_lot::MutexGuard;
use rules::lookup::{Resolution, Sighting, resolve};
use rules::removal::{Removal, removal};
use rules::whiteout::{self, Purpose};
use rules::{Attr, BranchIndex, Errno, Kind, Name};
use tree::{RenameHow, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::inode::Inode;
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Removes a name that is no directory. `ENOENT`, `EISDIR`, `EROFS`.
    pub fn unlink(&self, parent: InodeId, name: &[u8]) -> Result<()> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let top = file_branch(&self.sightings(&parent, &name)?)?;
        let branch = self.branch_for(top, &parent)?;
        let target = self.directory_on(&parent, branch)?;
        let change = parent.dir()?.change.lock();
        let (sightings, shown) = self.with_index_locked(&parent, |index| {
            (index.sightings(name.as_bytes()), index.shown(&name))
        })?;
        let top = file_branch(&sightings)?;
        if top < branch {
            // It has moved up meanwhile: there it would go on to show.
            drop(change);
            return self.unlink(parent.id, name.as_bytes());
        }
        let (handle, root) = (target.open()?, self.root_of(branch));
        let removal = removal(&sightings, branch);
        // What is hidden only stays what it is: it does not matter what that is.
        let hidden = match removal {
            Removal::Hide => self.known_there(&parent, &name, shown, &sightings),
            _ => None,
        };
        let (inode, attr) = match hidden {
            Some(inode) => (Some(inode), None),
            None => {
                let attr = self.attr_on(&parent, top, &name)?;
                let attr = attr.ok_or(Refusal::NotFound)?;
                (self.inodes.known(&self.canonical(&attr)), Some(attr))
            }
        };
        match removal {
            Removal::Delete => target.tree().remove_file(&handle, &name)?,
            Removal::HideAndDelete => self.dialect.hide_and_remove(&root, &handle, &name)?,
            Removal::Hide => self.dialect.hide(&root, &handle, &name)?,
        }
        self.note_removal(&parent, branch, &name, removal)?;
        self.show_change(&parent, branch);
        if let Some(inode) = inode {
            let deleted = attr.filter(|_| removal != Removal::Hide);
            self.name_gone(&inode, &parent, &name, deleted.as_ref())?;
        }
        drop(change);
        Ok(())
    }

    /// Removes a directory without visible entries. `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`.
    pub fn rmdir(&self, parent: InodeId, name: &[u8]) -> Result<()> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let (sightings, shown) = self.with_index(&parent, |index| {
            (index.sightings(name.as_bytes()), index.shown(&name))
        })?;
        let top = dir_branch(&sightings)?;
        let known = self.known_there(&parent, &name, shown, &sightings);
        let child = match known.filter(|known| known.take_reference().is_ok()) {
            Some(known) => known,
            None => self.find(&parent, &name)?.ok_or(Refusal::NotFound)?.0,
        };
        let done = self.remove_dir(&parent, &name, &child, top);
        self.inodes.forget(&child, 1);
        done
    }

    fn remove_dir(
        &self,
        parent: &Arc<Inode<T>>,
        name: &Name,
        child: &Arc<Inode<T>>,
        top: BranchIndex,
    ) -> Result<()> {
        self.refuse_full(child)?;
        self.refuse_missing(child)?;
        let branch = self.branch_for(top, parent)?;
        let target = self.directory_on(parent, branch)?;
        let locks = lock_both(parent, child)?;
        let sightings = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()))?;
        dir_branch(&sightings)?;
        if !self.with_index_locked(child, |index| index.is_empty())? {
            return Err(Refusal::NotEmpty.into());
        }
        let (handle, root, tree) = (target.open()?, self.root_of(branch), target.tree());
        let known = self.with_index_locked(parent, |index| index.known(name.as_bytes()))?;
        let removal = removal(&known, branch);
        if known != sightings && removal != Removal::Delete {
            // A whiteout would hide what a branch has that does not answer.
            return Err(Errno::IO.into());
        }
        match removal {
            Removal::Delete => self.remove_own_dir(&target, name, child)?,
            Removal::Hide => self.dialect.hide(&root, &handle, name)?,
            Removal::HideAndDelete => {
                match self.dialect.exchange_for_whiteout(tree, &handle, name)? {
                    Some(away) => self.scrap_emptied(&target, &away, child),
                    None => self.hide_and_remove_dir(&root, &target, name, child)?,
                }
            }
        }
        self.note_removal(parent, branch, name, removal)?;
        self.show_change(parent, branch);
        parent.dir()?.state.write().links_changed(branch);
        self.directory_gone(child);
        drop(locks);
        Ok(())
    }

    /// Hides a directory and removes it, where that takes several steps.
    fn hide_and_remove_dir(
        &self,
        root: &Arc<BranchDir<T>>,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        child: &Arc<Inode<T>>,
    ) -> Result<()> {
        let (handle, tree) = (target.open()?, target.tree());
        self.dialect.put_beside(root, &handle, name)?;
        if let Err(error) = self.remove_own_dir(target, name, child) {
            self.dialect
                .remove_beside(tree, &handle, name)
                .or(Err(error))?;
            return Err(error);
        }
        self.dialect.settle(tree, &handle, name);
        Ok(())
    }

    /// Refuses a directory with visible entries.
    pub(crate) fn refuse_full(&self, dir: &Arc<Inode<T>>) -> Result<()> {
        if self.with_index(dir, |index| index.is_empty())? {
            Ok(())
        } else {
            Err(Refusal::NotEmpty.into())
        }
    }

    /// Removes a branch's directory in which nothing is visible. It leaves under a temporary name first, in one step,
    /// when it still holds whiteouts.
    fn remove_own_dir(
        &self,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        child: &Inode<T>,
    ) -> Result<()> {
        let (handle, tree) = (target.open()?, target.tree());
        match tree.remove_dir(&handle, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            removed => return Ok(removed?),
        }
        // Nothing gives it its name back, as it would to what is moved away until something takes its place.
        let away = self.move_away(target, name, Purpose::Building)?;
        self.scrap_emptied(target, &away, child);
        Ok(())
    }

    /// Removes what was a directory of the union on a branch: the whiteouts that are known to be in it first.
    fn scrap_emptied(&self, target: &Arc<BranchDir<T>>, away: &Name, child: &Inode<T>) {
        let emptied = self.remove_known_whiteouts(target.index(), child).is_ok();
        let removed = target
            .open()
            .and_then(|dir| target.tree().remove_dir(&*dir, away));
        if !emptied || removed.is_err() {
            // There is more in it than was known.
            self.scrap_moved(target, away);
        }
    }

    fn remove_known_whiteouts(&self, branch: BranchIndex, dir: &Inode<T>) -> Result<()> {
        if !self.trusts_branches() {
            return Err(Refusal::NotEmpty.into());
        }
        let (member, whiteouts) = {
            let state = dir.dir()?.state.read();
            let index = state.index.as_ref().ok_or(Refusal::NotEmpty)?;
            let member = state.member(branch).ok_or(Refusal::NotEmpty)?;
            (Arc::clone(member), index.whiteouts_on(branch))
        };
        let (handle, tree) = (member.open()?, member.tree());
        for name in &whiteouts {
            self.dialect.remove_own_whiteout(tree, &handle, name)?;
        }
        Ok(())
    }

    /// Gives a directory a temporary name.
    pub(crate) fn move_away(
        &self,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        purpose: Purpose,
    ) -> Result<Name> {
        let away = self.dialect.temporary(name, purpose);
        let handle = target.open()?;
        target
            .tree()
            .rename(&handle, name, &handle, &away, RenameHow::Replace)?;
        Ok(away)
    }

    /// Removes what was moved away; what cannot be removed now goes at the next mount.
    pub(crate) fn scrap_moved(&self, target: &Arc<BranchDir<T>>, away: &Name) {
        if let Err(error) = self.scrap(target, away) {
            tracing::warn!(name = %away, %error, "a removed directory stays under a temporary name");
        }
    }

    /// Removes a temporary entry: a file, or a directory with nothing but the format's marks in it.
    pub(crate) fn scrap(&self, dir: &Arc<BranchDir<T>>, name: &Name) -> Result<()> {
        let (handle, tree) = (dir.open()?, dir.tree());
        let Some(attr) = tree.look(&handle, name)? else {
            return Ok(());
        };
        if attr.kind != Kind::Dir {
            return Ok(tree.remove_file(&handle, name)?);
        }
        let inside = tree.open_dir(&handle, name)?;
        for entry in tree.list(&inside)? {
            let device = entry.kind == Some(Kind::CharDevice);
            if !device && !whiteout::is_reserved(entry.name.as_bytes()) {
                return Err(Refusal::NotEmpty.into());
            }
            tree.remove_file(&inside, &entry.name)?;
        }
        Ok(tree.remove_dir(&handle, name)?)
    }

    pub(crate) fn attr_on(
        &self,
        parent: &Arc<Inode<T>>,
        branch: BranchIndex,
        name: &Name,
    ) -> Result<Option<Attr>> {
        let member = parent.dir()?.state.read().member(branch).cloned();
        let Some(member) = member else {
            return Ok(None);
        };
        Ok(member.tree().look(&*member.open()?, name)?)
    }

    /// Notes what the removal of a name did on a branch.
    pub(crate) fn note_removal(
        &self,
        parent: &Arc<Inode<T>>,
        branch: BranchIndex,
        name: &Name,
        removal: Removal,
    ) -> Result<()> {
        if let Some(index) = &mut parent.dir()?.state.write().index {
            match removal {
                Removal::Delete => index.remove(branch, name),
                Removal::Hide | Removal::HideAndDelete => index.hide(branch, name),
            }
        }
        self.touched(parent, branch);
        Ok(())
    }

    /// Notes that a directory is no more.
    pub(crate) fn directory_gone(&self, child: &Arc<Inode<T>>) {
        if let Ok(directory) = child.dir() {
            let mut state = directory.state.write();
            state.removed = true;
            state.index = None;
        }
        self.forget_records(child);
        self.inodes.remove_keys(child);
    }

    /// Notes that an object lost a name. `deleted` is what it was when the branch lost the name, too; one that is hidden only stays there.
    pub(crate) fn name_gone(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        deleted: Option<&Attr>,
    ) -> Result<()> {
        self.count_link(inode, -1);
        let done = self.place_gone(inode, parent, name, deleted);
        // Now only: who does not find it at its place waits for the directory of its name (`moved_from`).
        self.inodes.remove_name(inode, parent, name);
        done
    }

    fn place_gone(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        deleted: Option<&Attr>,
    ) -> Result<()> {
        let other = inode.other()?;
        let Some(attr) = deleted else {
            return Ok(());
        };
        let place = other.state.read().place.clone();
        let member = parent.dir()?.state.read().members.clone();
        let was_here = place.as_ref().is_some_and(|(dir, at)| {
            at == name && member.iter().any(|member| Arc::ptr_eq(member, dir))
        });
        if !was_here {
            return Ok(());
        }
        let next = self.other_place(inode, (parent, name))?;
        let last = next.is_none() && attr.nlink <= 1;
        let mut state = other.state.write();
        let still = matches!((&state.place, &place), (Some((now, at)), Some((dir, was)))
            if Arc::ptr_eq(now, dir) && at == was);
        if !still {
            // It was copied up by another name just now: its place is where the copy is.
            return Ok(());
        }
        state.place = next;
        if state.place.is_none() {
            let nlink = attr.nlink.saturating_sub(1);
            state.last = Some(Box::new(Attr {
                nlink,
                ino: inode.number,
                ..*attr
            }));
        }
        drop(state);
        if last {
            self.inodes.remove_keys(inode);
        }
        Ok(())
    }

    /// Finds another name of an object on its branch than this one, among those that are known.
    pub(crate) fn other_place(
        &self,
        inode: &Inode<T>,
        gone: (&Arc<Inode<T>>, &Name),
    ) -> Result<Option<(Arc<BranchDir<T>>, Name)>> {
        let (branch, pseudo_linked) = {
            let state = inode.other()?.state.read();
            (state.branch, state.pseudo_linked)
        };
        let names = inode.names.lock().clone();
        let is_gone = |(p, n): &(Arc<Inode<T>>, Name)| Arc::ptr_eq(p, gone.0) && n == gone.1;
        for (parent, name) in names.iter().rev().filter(|name| !is_gone(name)) {
            let state = parent.dir()?.state.read();
            let Some(index) = &state.index else { continue };
            if resolve(&index.sightings(name.as_bytes())) == Resolution::File(branch)
                && let Some(member) = state.member(branch)
            {
                return Ok(Some((Arc::clone(member), name.clone())));
            }
        }
        Ok(if pseudo_linked {
            self.stored_place(inode)
        } else {
            None
        })
    }
}

/// Locks two directories for changes, in the order of their numbers.
pub(crate) fn lock_both<'a, T: Tree>(
    one: &'a Arc<Inode<T>>,
    two: &'a Arc<Inode<T>>,
) -> Result<(MutexGuard<'a, ()>, Option<MutexGuard<'a, ()>>)> {
    if Arc::ptr_eq(one, two) {
        return Ok((one.dir()?.change.lock(), None));
    }
    let (first, second) = if one.id < two.id {
        (one, two)
    } else {
        (two, one)
    };
    let guard = first.dir()?.change.lock();
    Ok((guard, Some(second.dir()?.change.lock())))
}

fn file_branch(sightings: &[Sighting]) -> Result<BranchIndex> {
    match resolve(sightings) {
        Resolution::Absent => Err(Refusal::NotFound.into()),
        Resolution::Damaged => Err(Refusal::Damaged.into()),
        Resolution::Dir(_) => Err(Refusal::IsDirectory.into()),
        Resolution::File(branch) => Ok(branch),
    }
}

fn dir_branch(sightings: &[Sighting]) -> Result<BranchIndex> {
    match resolve(sightings) {
        Resolution::Absent => Err(Refusal::NotFound.into()),
        Resolution::Damaged => Err(Refusal::Damaged.into()),
        Resolution::File(_) => Err(Refusal::NotDirectory.into()),
        Resolution::Dir(branch) => Ok(branch),
    }
}
