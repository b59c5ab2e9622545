//! Changing attributes.

use std::sync::Arc;

use rules::{Attr, Changes, Errno, Kind};
use tree::{Access, Object, Tree};

use crate::api::InodeId;
use crate::copy::Copied;
use crate::error::{Refusal, Result};
use crate::inode::Inode;
use crate::union::Union;

impl<T: Tree> Union<T> {
    /// Changes attributes and returns all of them. A size that is less than a lower file's spares copying
    /// what is cut off. `EROFS`, `EINVAL`, `EISDIR`.
    pub fn set_attr(&self, id: InodeId, changes: &Changes) -> Result<Attr> {
        let inode = self.apart(self.inode(id)?)?;
        if changes.is_empty() {
            // A change of owner to the same owner still moves the file up, as it does in AUFS.
            self.make_changeable(&inode)?;
        } else if inode.kind == Kind::Dir {
            self.set_dir_attr(&inode, changes)?;
        } else {
            self.set_other_attr(&inode, changes)?;
        }
        let attr = self.attr_of_quietly(&inode)?;
        self.tell_own(&inode, &attr);
        Ok(attr)
    }

    fn set_dir_attr(&self, inode: &Arc<Inode<T>>, changes: &Changes) -> Result<()> {
        if changes.size.is_some() {
            return Err(Refusal::IsDirectory.into());
        }
        let member = self.changeable_dir(inode)?;
        member
            .tree()
            .set_attr(Object::Dir(&*member.open()?), changes)?;
        self.touched(inode, member.index());
        Ok(())
    }

    fn set_other_attr(&self, inode: &Arc<Inode<T>>, changes: &Changes) -> Result<()> {
        if changes.size.is_some() {
            inode.file()?;
        }
        if self.copy_up_changed(
            inode,
            Copied {
                changes: *changes,
                ..Copied::default()
            },
        )? {
            return Ok(());
        }
        let other = inode.other()?;
        // A place is a name: what moves between the look at it and the change would leave the change behind.
        let quiet = other.changing.read();
        let (place, data) = {
            let state = other.state.read();
            (state.place.clone(), state.data.clone())
        };
        match (data, place) {
            // An open file can be cut even when its mode would not let us open it again.
            (Some(data), place) if data.writable && (changes.size.is_some() || place.is_none()) => {
                Ok(self.tree().set_attr(Object::File(&**data.file), changes)?)
            }
            (_, Some((dir, name))) => {
                let entry = Object::Entry(&*dir.open()?, &name);
                let done = dir.tree().set_attr(entry, changes);
                drop(quiet);
                match done {
                    Err(Errno::NOENT) if self.moved_from(inode, &dir, &name) => {
                        self.set_other_attr(inode, changes)
                    }
                    done => Ok(done?),
                }
            }
            (Some(_), None) => {
                let data = self.open_data(inode, other, Access::ReadWrite)?;
                Ok(self.tree().set_attr(Object::File(&**data.file), changes)?)
            }
            (None, None) => Err(Refusal::Gone.into()),
        }
    }

    /// Makes sure that an object is where it can change.
    pub(crate) fn make_changeable(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        if inode.kind == Kind::Dir {
            self.changeable_dir(inode).map(drop)
        } else {
            self.copy_up(inode)
        }
    }

    /// Returns the topmost directory of a merged one, on a branch where it can change.
    pub(crate) fn changeable_dir(
        &self,
        inode: &Arc<Inode<T>>,
    ) -> Result<Arc<crate::branch::BranchDir<T>>> {
        let top = self.top_of(inode)?;
        if top.powers().writable {
            return Ok(top);
        }
        match inode.name() {
            Some((parent, _)) => {
                let branch = self.copy_up_branch(inode, &parent)?;
                self.directory_on(inode, branch)
            }
            // The root of the union is whatever its topmost branch has.
            None => Err(Refusal::ReadOnly.into()),
        }
    }
}
