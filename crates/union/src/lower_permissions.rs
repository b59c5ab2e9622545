//! Permissions of merged directories on all their branches (`nodirperm1`).
//!
//! Whoever asks a front end has been let in by the topmost directory already. In AUFS's default every other one must let
//! them in as well. Nothing is asked of anybody whom all permission bits let in, which is the usual case.

use std::sync::Arc;

use rules::access::{Subject, Wish};
use tree::{Object, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::Result;
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Tells whether a directory below the topmost one refuses `wish`. `who` is asked only when it matters, and answers
    /// `None` for those whom permission bits do not bind. A branch that keeps an access control list there is not judged: the list
    /// may grant what the bits do not.
    pub fn is_refused_below(
        &self,
        dir: InodeId,
        wish: Wish,
        who: impl FnOnce() -> Option<Subject>,
    ) -> Result<bool> {
        if !self.settings().all_directories_decide {
            return Ok(false);
        }
        let inode = self.directory(dir)?;
        let members = inode.dir()?.state.read().members.clone();
        let mut strict = Vec::new();
        for member in members.into_iter().skip(1) {
            let attr = member.tree().attr(Object::Dir(&*member.open()?))?;
            if !wish.is_granted_to_all(attr.perm) {
                strict.push((member, attr));
            }
        }
        if strict.is_empty() {
            return Ok(false);
        }
        let Some(who) = who() else {
            return Ok(false);
        };
        for (member, attr) in strict {
            if !wish.is_granted(&attr, &who) && !has_list(&member)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether the front end holds a directory, or something in it, beyond the reference that it was just given.
    pub fn is_in_use(&self, id: InodeId) -> bool {
        self.inodes
            .get(id)
            .is_ok_and(|inode| inode.has_other_references())
    }
}

fn has_list<T: Tree>(member: &Arc<BranchDir<T>>) -> Result<bool> {
    let names = member.tree().xattr_names(Object::Dir(&*member.open()?))?;
    Ok(names.iter().any(|name| name == b"system.posix_acl_access"))
}
