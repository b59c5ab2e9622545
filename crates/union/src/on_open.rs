//! Copying up by opening: the branch attributes `coo_reg`, `coo_all` and `moo`.
//!
//! The copy goes to the nearest writable branch above; where there is none, or nothing may be made, opening
//! goes on as if the attribute were not there. `moo` removes the original once the copy and its name are
//! durable: whatever stops in between, the union shows the same file, and it is on disk at least once.
//!
//! What somebody has open on a writable branch stays there until nobody has: its data may bypass the union. What is
//! changed without being open waits. A file with several names is copied, never moved.

use std::sync::Arc;

use parking_lot::MutexGuard;
use rules::{Attr, BranchIndex, CopyUpOnOpen, Kind, Name, placement};
use tree::{Object, Tree};

use crate::branch::BranchDir;
use crate::copy::Copied;
use crate::error::Result;
use crate::inode::{Inode, InodeName, Key, Other};
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Does what a file's branch asks for before the file is opened. The file stays where it is now while what is
    /// returned lives.
    pub(crate) fn brought_up<'a>(
        &self,
        inode: &Arc<Inode<T>>,
        other: &'a Other<T>,
    ) -> Result<Option<MutexGuard<'a, ()>>> {
        let branch = other.state.read().branch;
        if !self.on_open(branch).concerns(inode.kind) {
            return Ok(None);
        }
        let moving = other.moving.lock();
        while let Some((branch, (parent, name))) = self.movable(inode, other) {
            let target = placement::on_open(branch, |b| self.can_hold(&parent, b));
            let Some(target) = target else { break };
            let target = self.directory_on(&parent, target)?;
            let _quiet = other.changing.write();
            let (from, from_name) = self.place_of(inode)?;
            let original = from
                .tree()
                .attr(Object::Entry(&*from.open()?, &from_name))?;
            let may_go = self.writable(branch) && original.nlink == 1;
            let moves = may_go && self.on_open(branch) == CopyUpOnOpen::Move;
            let copied = Copied::default();
            if self.publish_copy(inode, &parent, &name, &target, copied, !moves)? {
                if moves {
                    let source = (&from, &from_name, &original);
                    self.remove_moved(inode, (&parent, &name), &target, source);
                }
                break;
            }
            // It got another name meanwhile: look again.
        }
        Ok(Some(moving))
    }

    /// Does what a directory's topmost branch asks for before the directory is opened.
    pub(crate) fn bring_up_dir(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        let top = self.top_of(inode)?.index();
        if !self.on_open(top).concerns(Kind::Dir) {
            return Ok(());
        }
        match placement::on_open(top, |b| self.can_hold(inode, b)) {
            Some(target) => self.directory_on(inode, target).map(drop),
            None => Ok(()),
        }
    }

    fn on_open(&self, branch: BranchIndex) -> CopyUpOnOpen {
        let roots = self.roots();
        let powers = roots.get(branch.get()).map(|root| root.powers());
        powers.map_or(CopyUpOnOpen::Never, |powers| powers.copy_up_on_open)
    }

    /// Returns where a file is that may be copied up by being opened, and its name. The caller holds `moving`.
    fn movable(&self, inode: &Inode<T>, other: &Other<T>) -> Option<(BranchIndex, InodeName<T>)> {
        let state = other.state.read();
        let branch = state.branch;
        let in_use = state.opens > 0 && (state.lent || self.writable(branch));
        let elsewhere = state.place.is_none() || state.pseudo_linked || state.unpublished.is_some();
        let stays = in_use || elsewhere || !self.on_open(branch).concerns(inode.kind);
        drop(state);
        inode.name().filter(|_| !stays).map(|name| (branch, name))
    }

    /// Removes the original of a copy that is in place. Failing leaves a copy, as with `coo_reg`.
    fn remove_moved(
        &self,
        inode: &Arc<Inode<T>>,
        name: (&Arc<Inode<T>>, &Name),
        target: &Arc<BranchDir<T>>,
        source: (&Arc<BranchDir<T>>, &Name, &Attr),
    ) {
        match self.try_remove_moved(inode, name, target, source) {
            Ok(()) => {}
            Err(error) => tracing::warn!(
                name = %name.1, branch = source.0.index().0, %error,
                "a file that was moved up stays where it was as well"
            ),
        }
    }

    fn try_remove_moved(
        &self,
        inode: &Arc<Inode<T>>,
        (parent, name): (&Arc<Inode<T>>, &Name),
        target: &Arc<BranchDir<T>>,
        (from, from_name, original): (&Arc<BranchDir<T>>, &Name, &Attr),
    ) -> Result<()> {
        if self.settings().durable {
            // Its directories may be as new as the copy.
            let mut dir = Some(Arc::clone(target));
            while let Some(synced) = dir {
                synced.tree().sync_dir(&*synced.open()?)?;
                dir = synced.place().map(|(above, _)| above);
            }
        }
        let change = parent.dir()?.change.lock();
        let (handle, tree) = (from.open()?, from.tree());
        let still = tree.look(&handle, from_name)?;
        let is_it = |now: &Attr| Key::of(now) == Key::of(original) && now.nlink == 1;
        if !still.is_some_and(|now| is_it(&now)) {
            return Ok(());
        }
        self.keeping_time(from, || Ok(tree.remove_file(&handle, from_name)?))?;
        if let Some(index) = &mut parent.dir()?.state.write().index {
            index.remove(from.index(), name);
        }
        self.touched(parent, from.index());
        self.inodes.retire(inode, Key::of(original));
        drop(change);
        Ok(())
    }
}
