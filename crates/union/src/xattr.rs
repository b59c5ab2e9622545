//! Extended attributes and ACLs, which are extended attributes to everybody but the kernel.

use std::sync::Arc;

use rules::{Errno, Kind};
use tree::{Object, Tree, XattrHow};

use crate::api::InodeId;
use crate::dialect::overlay;
use crate::error::{Refusal, Result};
use crate::inode::Inode;
use crate::origin;
use crate::union::Union;

/// What a file holds of the powers of root; the kernel asks before a file is written first.
pub(crate) const CAPABILITY: &[u8] = b"security.capability";
const ACL_PREFIX: &[u8] = b"system.posix_acl_";

impl<T: Tree> Union<T> {
    /// Returns the value of an extended attribute. `ENODATA`; `EOPNOTSUPP` for an ACL where ACLs are off.
    pub fn xattr(&self, id: InodeId, name: &[u8]) -> Result<Vec<u8>> {
        if let Some(what) = origin::asked(name) {
            return self.origin(id, what);
        }
        self.check_xattr(name)?;
        let inode = self.inode(id)?;
        if name == CAPABILITY
            && self.always_trusted()
            && inode
                .other()
                .is_ok_and(|other| other.state.read().without_capabilities)
        {
            return Err(Errno::NODATA.into());
        }
        self.on_object_or_below(&inode, |tree, object| tree.xattr(object, name))
    }

    /// Returns the names of an object's extended attributes.
    pub fn xattr_names(&self, id: InodeId) -> Result<Vec<Vec<u8>>> {
        let mut names =
            self.on_object_or_below(&*self.inode(id)?, |tree, object| tree.xattr_names(object))?;
        names.retain(|name| !overlay::is_private(name) && origin::asked(name).is_none());
        Ok(names)
    }

    /// Sets an extended attribute.
    pub fn set_xattr(&self, id: InodeId, name: &[u8], value: &[u8], how: XattrHow) -> Result<()> {
        self.check_xattr(name)?;
        let inode = self.apart(self.inode(id)?)?;
        self.make_changeable(&inode)?;
        let quiet = inode.other().ok().map(|other| other.changing.read());
        if let Ok(other) = inode.other() {
            other.state.write().without_capabilities &= name != CAPABILITY;
        }
        self.on_object(&inode, |tree, object| {
            tree.set_xattr(object, name, value, how)
        })?;
        drop(quiet);
        self.touched_dir(&inode)
    }

    /// Removes an extended attribute. `ENODATA` when there is none.
    pub fn remove_xattr(&self, id: InodeId, name: &[u8]) -> Result<()> {
        self.check_xattr(name)?;
        let inode = self.apart(self.inode(id)?)?;
        self.make_changeable(&inode)?;
        let quiet = inode.other().ok().map(|other| other.changing.read());
        self.on_object(&inode, |tree, object| tree.remove_xattr(object, name))?;
        drop(quiet);
        self.touched_dir(&inode)
    }

    fn check_xattr(&self, name: &[u8]) -> Result<()> {
        if overlay::is_private(name) || origin::asked(name).is_some() {
            return Err(Refusal::NotPermitted.into());
        }
        if !self.settings().acl && name.starts_with(ACL_PREFIX) {
            return Err(Refusal::NotSupported.into());
        }
        Ok(())
    }

    fn touched_dir(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        if inode.kind == Kind::Dir {
            self.touched(inode, self.top_of(inode)?.index());
        }
        Ok(())
    }

    /// As `on_object`, for reading: a directory is asked for on the topmost branch that answers.
    fn on_object_or_below<R>(
        &self,
        inode: &Inode<T>,
        call: impl Fn(&T, Object<'_, T>) -> std::result::Result<R, Errno>,
    ) -> Result<R> {
        if inode.kind != Kind::Dir {
            return self.on_object(inode, call);
        }
        self.ask_top(inode, |member| {
            Ok(call(member.tree(), Object::Dir(&*member.open()?))?)
        })
    }

    /// Calls a branch's tree about an object, by the shortest way that still leads there.
    fn on_object<R>(
        &self,
        inode: &Inode<T>,
        call: impl Fn(&T, Object<'_, T>) -> std::result::Result<R, Errno>,
    ) -> Result<R> {
        let Ok(other) = inode.other() else {
            let top = self.top_of(inode)?;
            return Ok(call(top.tree(), Object::Dir(&*top.open()?))?);
        };
        let (place, data) = {
            let state = other.state.read();
            (state.place.clone(), state.data.clone())
        };
        match (place, data) {
            (Some((dir, name)), _) => match call(dir.tree(), Object::Entry(&*dir.open()?, &name)) {
                Err(Errno::NOENT) if self.moved_from(inode, &dir, &name) => {
                    self.on_object(inode, call)
                }
                done => Ok(done?),
            },
            (None, Some(data)) => Ok(call(&self.tree(), Object::File(&**data.file))?),
            (None, None) => Err(Refusal::Gone.into()),
        }
    }
}
