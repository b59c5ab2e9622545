//! Open files of branches, and which of them stay open although nobody uses them.
//!
//! To open a file, let the kernel take it over and undo both again costs more than reading a small one. So a lower
//! file stays open after its last close, up to a limit, until it is changed, forgotten or the stack changes. Only where
//! nobody else changes the branches: elsewhere an open file could outlive what its name means.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::Arc;

use parking_lot::{Mutex, RwLockWriteGuard};
use tree::Tree;

use crate::api::InodeId;
use crate::inode::{Data, Inode, OtherState};
use crate::union::Union;

/// How many idle files are closed at once when the process can open no more.
const MANY: usize = 64;

/// An open file of a branch, shared by all who have it open, with what a front end keeps beside it.
#[derive(Debug)]
pub struct OpenFile<F> {
    // Goes before the file: it may be about it.
    attached: Mutex<Option<Arc<dyn Attached>>>,
    file: F,
}

/// What a front end keeps beside an open file. It is dropped with the file.
pub trait Attached: Any + Send + Sync + std::fmt::Debug {}

impl<F> OpenFile<F> {
    /// Shares an open file.
    pub fn new(file: F) -> Arc<Self> {
        Arc::new(Self {
            attached: Mutex::new(None),
            file,
        })
    }

    /// Keeps something until the file is closed, in place of what was kept before.
    pub fn attach<A: Attached>(&self, attached: Arc<A>) {
        *self.attached.lock() = Some(attached);
    }

    /// Returns what is kept, if it is of this type.
    pub fn attached<A: Attached>(&self) -> Option<Arc<A>> {
        let attached: Arc<dyn Any + Send + Sync> = self.attached.lock().clone()?;
        attached.downcast().ok()
    }
}

impl<F> Deref for OpenFile<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.file
    }
}

/// The objects whose files stay open while nobody uses them, those that were closed first in front. Some may be in use
/// again, or gone.
#[derive(Debug, Default)]
pub(crate) struct IdleFiles(Mutex<VecDeque<InodeId>>);

impl<T: Tree> Union<T> {
    /// Returns how many files of lower branches may be open although nobody uses them.
    pub fn idle_files(&self) -> usize {
        self.idle_files.0.lock().len()
    }

    /// Closes what nobody has open any more, or leaves it open for whoever comes next.
    pub(crate) fn close_or_keep(
        &self,
        inode: &Inode<T>,
        mut state: RwLockWriteGuard<'_, OtherState<T>>,
    ) {
        if !self.may_stay_open(inode, &state) {
            let closed = state.data.take();
            drop(state);
            return drop(closed);
        }
        if std::mem::replace(&mut state.idle, true) {
            return;
        }
        drop(state);
        let limit = self.settings().idle_files;
        let excess = {
            let mut idle = self.idle_files.0.lock();
            idle.push_back(inode.id);
            let excess = idle.len().saturating_sub(limit);
            idle.drain(..excess).collect::<Vec<_>>()
        };
        excess.into_iter().for_each(|id| self.close_idle(id));
    }

    fn may_stay_open(&self, inode: &Inode<T>, state: &OtherState<T>) -> bool {
        let Some(data) = &state.data else {
            return false;
        };
        self.settings().idle_files > 0
            && self.trusts_branches()
            && !data.writable
            && !self.writable(state.branch)
            && inode.successor().is_none()
            && self.tree().may_stay_open(&data.file)
    }

    /// Closes the files that nobody uses; returns how many objects they may have been open for.
    pub fn close_idle_files(&self) -> usize {
        self.close_first_idle(usize::MAX)
    }

    /// Closes some files that nobody uses, because there are too many open ones; returns whether there were any.
    pub(crate) fn close_some_idle(&self) -> bool {
        self.close_first_idle(MANY) > 0
    }

    fn close_first_idle(&self, count: usize) -> usize {
        let first: Vec<_> = {
            let mut idle = self.idle_files.0.lock();
            let count = idle.len().min(count);
            idle.drain(..count).collect()
        };
        first.iter().for_each(|id| self.close_idle(*id));
        first.len()
    }

    fn close_idle(&self, id: InodeId) {
        let Ok(inode) = self.inodes.get(id) else {
            return;
        };
        let Ok(other) = inode.other() else { return };
        let closed = other.state.write().take_idle();
        drop(closed);
    }
}

impl<T: Tree> OtherState<T> {
    /// Returns the file of an object that is not among the idle ones any more, unless somebody has it open.
    fn take_idle(&mut self) -> Option<Data<T>> {
        self.idle = false;
        if self.opens > 0 || self.place.is_none() {
            return None;
        }
        self.data.take()
    }
}
