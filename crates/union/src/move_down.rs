//! Moving a file of a writable branch to one below.
//!
//! The copy appears below, durable and hidden by the original, before the original goes in one step: at every instant
//! the union shows the file with the same contents. Whoever opens it meanwhile waits for that step.

use std::sync::Arc;

use rules::lookup::Sighting;
use rules::move_down::{Move, Refusal, Subject, Way, Wish, decide};
use rules::whiteout::Purpose;
use rules::{Attr, BranchIndex, Name};
use tree::{Object, RenameHow, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::copy::Copied;
use crate::error::{self, Error};
use crate::inode::Inode;
use crate::union::Union;

/// Why a file stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// It may not move.
    #[error("{}", .0.reason())]
    Refused(Refusal),
    /// A branch or the union said no; the union shows what it showed.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<Refusal> for Stays {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rules::Errno> for Stays {
    fn from(errno: rules::Errno) -> Self {
        Self::Failed(errno.into())
    }
}

type Done<R> = std::result::Result<R, Stays>;

/// A file that others wait for until it has its new place.
struct Migrating<'a, T: Tree>(&'a Inode<T>);

impl<T: Tree> Drop for Migrating<'_, T> {
    fn drop(&mut self) {
        if let Ok(other) = self.0.other() {
            other.state.write().migrating = false;
        }
    }
}

impl<T: Tree> Union<T> {
    /// Moves a file from its branch to one below, if it shows there as it does now; returns from where to where.
    pub fn move_down(&self, parent: InodeId, name: &[u8], wish: &Wish) -> Done<Move> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let found = self.find(&parent, &name)?;
        let (inode, _) = found.ok_or(Error::Refused(error::Refusal::NotFound))?;
        let done = self.move_inode_down(&inode, &parent, &name, wish);
        self.inodes.forget(&inode, 1);
        done
    }

    fn move_inode_down(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        wish: &Wish,
    ) -> Done<Move> {
        let Ok(other) = inode.other() else {
            return Err(Refusal::NotRegular.into());
        };
        self.publish(inode)?;
        let moving = other.moving.lock();
        let sightings = self.sightings(parent, name)?;
        let way = |branch| self.way_to(parent, branch);
        let plan = self.plan_move(inode, (parent, name), &sightings, wish, way)?;
        let from = self.directory_on(parent, plan.from)?;
        let target = self.directory_on(parent, plan.to)?;
        let source = from.open()?;
        let copied = Copied::default();
        let whole = self.original(inode.kind, &from, name, &copied)?;
        let mut build =
            self.build_copy(Some(parent), &target, name, &from, name, &whole, copied)?;
        let original = whole.attr;

        // What somebody changes by its name or through the open file is changed before the last look, or where it is then.
        let quiet = other.changing.write();
        let change = parent.dir()?.change.lock();
        let sightings = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()))?;
        // The way to its branch is there now. To look for another one would take locks above this one.
        let way = |branch| {
            if branch == plan.to {
                Way::Free
            } else {
                Way::Taken
            }
        };
        if self.plan_move(inode, (parent, name), &sightings, wish, way)? != plan {
            return Err(Refusal::InUse.into());
        }
        let waited_for = hold(inode)?;
        let now = from.tree().attr(Object::Entry(&*source, name))?;
        if (now.ctime, shape(&now)) != (original.ctime, shape(&original)) {
            return Err(Refusal::InUse.into());
        }
        let temporary = build.temporary.clone();
        let copy = self.publish_below(parent, &target, name, &temporary, || build.made = false)?;
        if !wish.keeps_upper {
            let gone = self.take_away(&from, name, &original);
            if let Err(stays) = gone {
                if from.tree().look(&source, name)?.is_some() {
                    self.withdraw(parent, &target, name)?;
                }
                return Err(stays);
            }
            self.settle_removal(&from, plan.to);
            self.note_moved(inode, parent, name, plan, &target, &original, &copy)?;
        }
        drop(waited_for);
        drop(change);
        drop((quiet, moving));
        Ok(plan)
    }

    fn plan_move(
        &self,
        inode: &Inode<T>,
        (parent, name): (&Arc<Inode<T>>, &Name),
        sightings: &[Sighting],
        wish: &Wish,
        way: impl Fn(BranchIndex) -> Way,
    ) -> Done<Move> {
        let other = inode.other()?;
        let top = sightings.first().map(|sighting| sighting.branch);
        let attr = match top {
            Some(top) => self.attr_on(parent, top, name)?,
            None => None,
        };
        let subject = {
            let state = other.state.read();
            Subject {
                kind: inode.kind,
                links: attr.map_or(0, |attr| attr.nlink),
                pseudo_linked: state.pseudo_linked,
                opens: state.opens,
            }
        };
        let stack: Vec<_> = self.roots().iter().map(|root| root.powers()).collect();
        Ok(decide(wish, &subject, &stack, sightings, way)?)
    }

    /// Gives a copy its name below the original, which hides it, and makes that durable.
    fn publish_below(
        &self,
        parent: &Arc<Inode<T>>,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        temporary: &Name,
        placed: impl FnOnce(),
    ) -> Done<Attr> {
        let (handle, tree) = (target.open()?, target.tree());
        let copy = self.keeping_time(target, || {
            self.dialect
                .make_room(&self.root_of(target.index()), &handle, name)?;
            tree.rename(&handle, temporary, &handle, name, RenameHow::Replace)?;
            placed();
            self.dialect.remove_beside(tree, &handle, name)?;
            Ok(tree.attr(Object::Entry(&*handle, name))?)
        })?;
        self.note_entry(parent, target.index(), name, &copy)?;
        if self.settings().durable {
            // The original must not go before the names that lead to the copy are on disk.
            let mut dir = Some(Arc::clone(target));
            while let Some(synced) = dir {
                if let Err(errno) = tree.sync_dir(&*synced.open()?) {
                    self.withdraw(parent, target, name)?;
                    return Err(errno.into());
                }
                dir = synced.place().map(|(above, _)| above);
            }
        }
        Ok(copy)
    }

    /// Removes a copy below an original that stays.
    fn withdraw(
        &self,
        parent: &Arc<Inode<T>>,
        target: &Arc<BranchDir<T>>,
        name: &Name,
    ) -> Done<()> {
        let handle = target.open()?;
        let removed = self.keeping_time(target, || Ok(target.tree().remove_file(&handle, name)?));
        match removed {
            Ok(()) => {
                if let Some(index) = &mut parent.dir()?.state.write().index {
                    index.remove(target.index(), name);
                }
                self.touched(parent, target.index());
            }
            // The original hides it; whoever removes that leaves a whiteout.
            Err(error) => tracing::debug!(%name, %error, "a copy stays below its original"),
        }
        Ok(())
    }

    /// Removes the original, unless somebody changed it at the last moment. What stops in between gives it its name back
    /// when the directory is read next.
    fn take_away(&self, from: &Arc<BranchDir<T>>, name: &Name, original: &Attr) -> Done<()> {
        let (handle, tree) = (from.open()?, from.tree());
        self.keeping_time(from, || {
            let away = self.move_away(from, name, Purpose::MovedAway)?;
            let last = tree.attr(Object::Entry(&*handle, &away))?;
            if shape(&last) == shape(original) {
                // Should it stay, then under a name from which nothing brings it back.
                let gone = self.dialect.temporary(name, Purpose::Building);
                let how = RenameHow::Replace;
                let renamed = tree.rename(&handle, &away, &handle, &gone, how);
                self.scrap_moved(from, if renamed.is_ok() { &gone } else { &away });
                return Ok(Ok(()));
            }
            tree.rename(&handle, &away, &handle, name, RenameHow::Replace)?;
            Ok(Err(Refusal::InUse.into()))
        })?
    }

    /// Notes that a file is on another branch now.
    #[expect(
        clippy::too_many_arguments,
        reason = "what, where it was, and where it is"
    )]
    fn note_moved(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        plan: Move,
        target: &Arc<BranchDir<T>>,
        original: &Attr,
        copy: &Attr,
    ) -> Done<()> {
        self.inodes.drop_key(inode, crate::inode::Key::of(original));
        self.inodes.add_key(inode, copy);
        {
            let mut state = inode.other()?.state.write();
            state.branch = plan.to;
            state.place = Some((Arc::clone(target), name.clone()));
            state.data = None;
        }
        if let Some(index) = &mut parent.dir()?.state.write().index {
            index.remove(plan.from, name);
        }
        self.touched(parent, plan.from);
        Ok(self.note_entry(parent, plan.to, name, copy)?)
    }
}

/// Lets everybody who comes from now on wait, unless somebody is there already.
fn hold<T: Tree>(inode: &Inode<T>) -> Done<Migrating<'_, T>> {
    let mut state = inode.other()?.state.write();
    if state.opens > 0 {
        return Err(Refusal::InUse.into());
    }
    state.migrating = true;
    drop(state);
    Ok(Migrating(inode))
}

/// What a change would change, and a rename does not.
fn shape(attr: &Attr) -> (u64, u64, rules::Time, (u32, u32, u32)) {
    let access = (attr.perm, attr.uid, attr.gid);
    (attr.ino, attr.size, attr.mtime, access)
}
