//! Files that leave a full branch for one with more space (`moveonenospc`).
//!
//! The file is copied and durable under its name on the new branch before the original goes, and it is shown whole all the
//! time: above, the copy covers its original; below, the original covers the copy until it goes. Whoever changes the file
//! waits meanwhile; who has it open has the copy open afterwards.

use std::sync::Arc;
use std::time::Duration;

use rules::lookup::{Resolution, Sighting, resolve};
use rules::removal::Removal;
use rules::{Attr, BranchIndex, Name};
use tree::{Access, Object, RenameHow, Tree};

use crate::branch::BranchDir;
use crate::copy::Copied;
use crate::error::{Error, Result};
use crate::inode::{Data, Inode, Key, Other};
use crate::placement::is_full;
use crate::union::Union;

/// A file that is to move.
struct Leaving<'a, T: Tree> {
    inode: &'a Arc<Inode<T>>,
    parent: Arc<Inode<T>>,
    name: Name,
    home: BranchIndex,
    from: Arc<BranchDir<T>>,
    original: Attr,
}

impl<T: Tree> Union<T> {
    /// Changes the data of a file. When its branch is full and `moveonenospc` is on, the file moves, and the deed is done
    /// again; `needed` is how many bytes it may take. A deed that failed for want of space has to know where to go on.
    pub(crate) fn changing<R>(
        &self,
        inode: &Arc<Inode<T>>,
        needed: u64,
        mut deed: impl FnMut(&Data<T>) -> Result<R>,
    ) -> Result<R> {
        let other = inode.file()?;
        let mut full = Vec::new();
        loop {
            self.copy_up(inode)?;
            let quiet = other.changing.read();
            let data = self.open_data(inode, other, Access::ReadWrite)?;
            let done = deed(&data);
            let branch = other.state.read().branch;
            drop(quiet);
            match done {
                Err(error) if is_full(&error) && self.settings().move_when_full => {
                    full.push(branch);
                    if !self.leave(inode, other, &full, needed) {
                        return Err(error);
                    }
                }
                done => return self.watched(branch, done),
            }
        }
    }

    /// Returns whether data of files on writable branches may bypass the union.
    pub(crate) fn writers_bypass(&self) -> bool {
        let settings = self.settings();
        settings.writers_bypass && !settings.move_when_full
    }

    /// Moves a file away from the last of these branches, to none of them. `false`: it stays where it is, whole.
    fn leave(
        &self,
        inode: &Arc<Inode<T>>,
        other: &Other<T>,
        full: &[BranchIndex],
        needed: u64,
    ) -> bool {
        match self.try_leave(inode, other, full, needed) {
            Ok(moved) => moved,
            Err(error) => {
                let branch = full.last().map(|branch| branch.0);
                tracing::warn!(branch, %error, "a file does not fit its branch, and could not be moved to another");
                false
            }
        }
    }

    fn try_leave(
        &self,
        inode: &Arc<Inode<T>>,
        other: &Other<T>,
        full: &[BranchIndex],
        needed: u64,
    ) -> Result<bool> {
        self.publish(inode)?;
        let moving = other.moving.lock();
        let quiet = other.changing.write();
        let (home, place, tied) = {
            let state = other.state.read();
            let tied = state.pseudo_linked || state.bypassed || state.unpublished.is_some();
            (state.branch, state.place.clone(), tied)
        };
        if !full.contains(&home) {
            // Somebody else wrote, too, and it has moved already.
            return Ok(true);
        }
        let (Some((from, from_name)), Some((parent, name))) = (place, inode.name()) else {
            return Ok(false);
        };
        let member = parent.dir()?.state.read().member(home).cloned();
        let is_here = member.is_some_and(|member| Arc::ptr_eq(&member, &from));
        let original = from
            .tree()
            .attr(Object::Entry(&*from.open()?, &from_name))?;
        if tied || !is_here || from_name != name || original.nlink > 1 {
            tracing::debug!(%name, links = original.nlink, "does not move off a full branch");
            return Ok(false);
        }
        let leaving = Leaving {
            inode,
            parent,
            name,
            home,
            from,
            original,
        };
        for target in self.refuges(&leaving, full, needed)? {
            match self.move_to(&leaving, target) {
                Err(error) if is_full(&error) => {}
                moved => return moved,
            }
        }
        drop((quiet, moving));
        Ok(false)
    }

    /// Returns the branches to which a file can move, that with the most space first.
    fn refuges(
        &self,
        leaving: &Leaving<'_, T>,
        full: &[BranchIndex],
        needed: u64,
    ) -> Result<Vec<BranchIndex>> {
        let Leaving {
            parent, name, home, ..
        } = leaving;
        let sightings = self.sightings(parent, name)?;
        let taken = leaving.original.blocks.saturating_mul(512);
        let measured = self.measured(Duration::ZERO);
        let roots = self.roots();
        let dev = roots.get(home.get()).map(|root| root.branch.dev);
        let fits = |root: &Arc<BranchDir<T>>| {
            let branch = root.index();
            let free = measured.free(branch)?;
            let able = !full.contains(&branch)
                && !self.is_failing(branch)
                && Some(root.branch.dev) != dev
                && free >= taken.saturating_add(needed)
                && shows_at(&sightings, *home, branch)
                && self.can_hold(parent, branch);
            able.then_some((free, branch))
        };
        let mut found: Vec<_> = roots.iter().filter_map(fits).collect();
        found.sort_by_key(|(free, _)| std::cmp::Reverse(*free));
        Ok(found.into_iter().map(|(_, branch)| branch).collect())
    }

    /// Moves a file to a branch. `false`: its name means something else meanwhile.
    fn move_to(&self, leaving: &Leaving<'_, T>, branch: BranchIndex) -> Result<bool> {
        let Leaving {
            inode,
            parent,
            name,
            home,
            from,
            original,
        } = leaving;
        let target = self.directory_on(parent, branch)?;
        let copied = Copied::default();
        let lock = Some(&**parent);
        let whole = self.original(inode.kind, from, name, &copied)?;
        let mut build = self.build_copy(lock, &target, name, from, name, &whole, copied)?;
        let (handle, tree) = (target.open()?, target.tree());
        let change = parent.dir()?.change.lock();
        let named = inode.name();
        let sightings = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()))?;
        if named.is_none_or(|(p, n)| !Arc::ptr_eq(&p, parent) || n != *name)
            || resolve(&sightings) != Resolution::File(*home)
            || !shows_at(&sightings, *home, branch)
        {
            return Ok(false);
        }
        self.keeping_time(&target, || {
            let how = RenameHow::NoReplace;
            Ok(tree.rename(&handle, &build.temporary, &handle, name, how)?)
        })?;
        build.made = false;
        let copy = tree.attr(Object::Entry(&*handle, name));
        let gone = copy.map_err(Error::from).and_then(|copy| {
            self.remove_original(leaving, &target)?;
            Ok(copy)
        });
        let copy = match gone {
            Ok(copy) => copy,
            Err(error) => {
                // Two of them, of which one shows: take the copy back, before anybody changes it.
                if tree.remove_file(&handle, name).is_err() {
                    parent.dir()?.state.write().forget_index();
                }
                self.touched(parent, branch);
                return Err(error);
            }
        };
        // Who finds the name on either branch while this goes on has to find this inode.
        self.inodes.add_key(inode, &copy);
        self.arrived(inode, &target, name, build.data.take());
        self.note_removal(parent, *home, name, Removal::Delete)?;
        self.note_entry(parent, branch, name, &copy)?;
        self.inodes.remove_key(inode, Key::of(original));
        drop(change);
        tracing::info!(%name, from = home.0, to = branch.0, "moved off a full branch");
        Ok(true)
    }

    /// Removes what was copied, once the copy cannot get lost any more.
    fn remove_original(&self, leaving: &Leaving<'_, T>, target: &Arc<BranchDir<T>>) -> Result<()> {
        if self.settings().durable {
            // With the names that lead to it, which may be as new.
            let mut dir = Some(Arc::clone(target));
            while let Some(synced) = dir {
                target.tree().sync_dir(&*synced.open()?)?;
                dir = synced.place().map(|(above, _)| above);
            }
        }
        let from = &leaving.from;
        self.keeping_time(from, || {
            Ok(from.tree().remove_file(&*from.open()?, &leaving.name)?)
        })?;
        self.settle_removal(from, target.index());
        Ok(())
    }

    /// Makes it durable that a file is gone from a branch above the one that has it now: it would come back after a crash, and
    /// hide what was written to its copy since and is durable. It is gone in any case, so that failing is only logged.
    pub(crate) fn settle_removal(&self, from: &Arc<BranchDir<T>>, home: BranchIndex) {
        if !self.settings().durable || from.index() > home {
            return;
        }
        let synced = from.open().and_then(|dir| from.tree().sync_dir(&*dir));
        if let Err(error) = synced {
            let branch = from.index().0;
            tracing::warn!(branch, %error, "a file that moved down may come back after a crash");
        }
    }
}

/// Returns whether a file that shows on `home` would show on `branch` instead: nothing of its name is there, or in between.
fn shows_at(sightings: &[Sighting], home: BranchIndex, branch: BranchIndex) -> bool {
    let (above, below) = (home.min(branch), home.max(branch));
    let mut others = sightings.iter().filter(|seen| seen.branch != home);
    !others.any(|seen| above <= seen.branch && seen.branch <= below)
}
