//! Copies that are published later, and originals that readers keep.
//!
//! Making a large copy durable takes far longer than making it. Until it is, the union shows the copy and the
//! branch shows the original: a crash in between loses changes that nobody asked to keep, and tears nothing.

use std::sync::Arc;

use rules::Name;
use tree::{Access, Object, RenameHow, SyncHow, Tree};

use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::inode::{Inode, NewBody};
use crate::union::Union;

/// Copies of this size and more are published later.
const LARGE: u64 = 4 << 20;

impl<T: Tree> Union<T> {
    /// Makes all pending copies durable and publishes them. The first error is returned, after all were tried.
    pub fn finish_pending(&self) -> Result<()> {
        let waiting = std::mem::take(&mut *self.pending.lock());
        let mut done = Ok(());
        for inode in waiting {
            match self.publish(&inode) {
                Ok(()) => self.inodes.forget(&inode, 1),
                Err(error) => {
                    // It is all there is of the change: it stays, to be tried again.
                    self.pending.lock().push(inode);
                    done = done.and(Err(error));
                }
            }
        }
        done
    }

    /// Returns whether a copy of this size may be published later, because somebody will see to it.
    pub(crate) fn may_publish_later(&self, length: u64) -> bool {
        self.settings().durable && length >= LARGE && self.observer().is_some()
    }

    /// Leaves a copy under its temporary name until it is durable.
    pub(crate) fn publish_later(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
    ) -> Result<()> {
        inode.take_reference()?;
        inode.other()?.state.write().unpublished = Some((Arc::clone(parent), name.clone()));
        self.pending.lock().push(Arc::clone(inode));
        let asked = self
            .observer()
            .is_some_and(|observer| observer.work_is_pending());
        tracing::trace!(
            inode = inode.id.0,
            asked,
            "published later, by `close` at the latest"
        );
        Ok(())
    }

    /// Makes a pending copy durable and gives it its name.
    pub(crate) fn publish(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        let other = inode.other()?;
        if other.state.read().unpublished.is_none() {
            return Ok(());
        }
        let moving = other.moving.lock();
        let (place, unpublished) = {
            let state = other.state.read();
            (state.place.clone(), state.unpublished.clone())
        };
        let (Some((target, temporary)), Some((parent, name))) = (place, unpublished) else {
            return Ok(());
        };
        let data = self.open_data(inode, other, Access::Read)?;
        target.tree().sync_file(&data.file, SyncHow::All)?;
        let change = parent.dir()?.change.lock();
        let handle = target.open()?;
        let tree = target.tree();
        let still_named = inode
            .name()
            .is_some_and(|(p, n)| Arc::ptr_eq(&p, &parent) && n == name);
        if still_named {
            self.keeping_time(&target, || {
                let how = RenameHow::Replace;
                Ok(tree.rename(&handle, &temporary, &handle, &name, how)?)
            })?;
            let attr = tree.attr(Object::Entry(&*handle, &name))?;
            self.inodes.add_key(inode, &attr);
            self.note_entry(&parent, target.index(), &name, &attr)?;
        } else {
            tree.remove_file(&handle, &temporary)?;
        }
        let mut state = other.state.write();
        state.place = still_named.then(|| (Arc::clone(&target), name));
        state.unpublished = None;
        state.name_not_durable = true;
        drop(state);
        drop(change);
        self.in_progress.lock().remove(&temporary);
        drop(moving);
        Ok(())
    }

    /// Publishes what waits for its name in a directory.
    pub(crate) fn publish_in(&self, dir: &Arc<Inode<T>>) -> Result<()> {
        let waiting = self.pending.lock().clone();
        for inode in waiting {
            let here = inode
                .name()
                .is_some_and(|(parent, _)| Arc::ptr_eq(&parent, dir));
            if here {
                self.publish(&inode)?;
            }
        }
        Ok(())
    }

    /// Returns the inode that a change is about. Readers to whom the original was lent keep it; what changes is
    /// another inode then, which has its place.
    pub(crate) fn apart(&self, inode: Arc<Inode<T>>) -> Result<Arc<Inode<T>>> {
        let Ok(other) = inode.other() else {
            return Ok(inode);
        };
        // One look and one note: a reader who came in between would keep what is copied up, and who writes to the copy
        // would write to the reader's original.
        let mut state = other.state.write();
        if !state.lent || state.opens == 0 || self.writable(state.branch) {
            state.leaving = true;
            drop(state);
            return Ok(inode);
        }
        let place: Option<(Arc<BranchDir<T>>, Name)> = state.place.clone();
        let body = NewBody::Other {
            branch: state.branch,
            place: Some(place.ok_or(Refusal::Gone)?),
            pseudo_linked: false,
        };
        let successor = self.inodes.succeed(&inode, body);
        drop(state);
        Ok(successor)
    }
}
