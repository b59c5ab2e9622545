//! What a name means, as far as the union knows without asking a branch.
//!
//! Where nobody else changes the branches, an object that the union has met stays at its place until the union moves it. A change that
//! needs to know no more than which object that is asks nobody.

use std::sync::Arc;

use rules::Name;
use rules::lookup::{Resolution, Sighting, resolve};
use tree::Tree;

use crate::branch::BranchDir;
use crate::index::Shown;
use crate::inode::{Inode, Key};
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Returns the object that a name means, if it is known to be what the branch has there. `shown` is what the directory's index says
    /// of the name, and `sightings` are what it says together with the branches that do not answer.
    pub(crate) fn known_there(
        &self,
        parent: &Inode<T>,
        name: &Name,
        shown: Shown,
        sightings: &[Sighting],
    ) -> Option<Arc<Inode<T>>> {
        if !self.trusts_branches() || shown.ino == 0 || shown.resolution != resolve(sightings) {
            return None;
        }
        let branch = shown.resolution.branch()?;
        let member = parent.dir().ok()?.state.read().member(branch).cloned()?;
        let key = Key {
            dev: member.branch.dev,
            ino: shown.ino,
        };
        let inode = self.inodes.known_as(key)?;
        // The filesystem of a subdirectory may be another one, whose inode numbers mean something else: the place decides.
        let is_there = |dir: &Arc<BranchDir<T>>, at: &Name| Arc::ptr_eq(dir, &member) && at == name;
        let known = match shown.resolution {
            Resolution::Dir(_) => {
                let top = self.top_of(&inode).ok()?;
                let removed = inode.dir().ok()?.state.read().removed;
                !removed && top.place().is_some_and(|(dir, at)| is_there(&dir, &at))
            }
            _ => {
                let state = inode.other().ok()?.state.read();
                let moves = state.pseudo_linked || state.unpublished.is_some() || state.migrating;
                let place = state.place.as_ref();
                !moves && state.branch == branch && place.is_some_and(|(dir, at)| is_there(dir, at))
            }
        };
        known.then_some(inode)
    }
}
