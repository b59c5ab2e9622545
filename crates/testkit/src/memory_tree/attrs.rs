//! Changing attributes.

use rules::{Changes, Errno, Kind, SetTime, Time};

use super::acl::{self, Acl};
use super::content::MAX_SIZE;
use super::disk::Table;
use super::inode::{Body, Ino};

impl Table {
    /// Changes attributes, one after another in the order the contract gives.
    ///
    /// `may_resize` is the error for a new size that the way to the object gives.
    pub(crate) fn set_attr(
        &mut self,
        ino: Ino,
        changes: &Changes,
        may_resize: Result<(), Errno>,
    ) -> Result<(), Errno> {
        if changes.drop_set_id && self.inode(ino).kind() == Kind::File {
            let inode = self.inode_mut(ino);
            inode.drop_set_id();
            inode.drop_capability();
            self.touch(ino);
        }
        if let Some(size) = changes.size {
            may_resize?;
            self.set_size(ino, size)?;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            self.set_owner(ino, changes.uid, changes.gid)?;
        }
        if let Some(perm) = changes.perm {
            self.set_perm(ino, perm & 0o7777)?;
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            self.set_times(ino, changes.atime, changes.mtime);
        }
        Ok(())
    }

    fn set_size(&mut self, ino: Ino, size: u64) -> Result<(), Errno> {
        let inode = self.inode_mut(ino);
        match &mut inode.body {
            Body::File(_) if size > i64::MAX as u64 => return Err(Errno::INVAL),
            Body::File(_) if size > MAX_SIZE => return Err(Errno::FBIG),
            Body::File(content) => content.resize(size),
            Body::Dir { .. } => return Err(Errno::ISDIR),
            Body::Symlink(_) => return Err(Errno::LOOP),
            Body::Special(..) => return Err(Errno::NXIO),
        }
        self.touch_data(ino);
        Ok(())
    }

    /// Marks the data of a file as changed now, which also ends its capabilities.
    pub(crate) fn touch_data(&mut self, ino: Ino) {
        let now = self.tick();
        let inode = self.inode_mut(ino);
        inode.drop_capability();
        inode.mtime = now;
        inode.ctime = now;
    }

    fn set_owner(&mut self, ino: Ino, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // To the kernel the highest number means "no change".
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let inode = self.inode_mut(ino);
        inode.uid = uid.unwrap_or(inode.uid);
        inode.gid = gid.unwrap_or(inode.gid);
        if !inode.is_dir() {
            inode.drop_set_id();
            inode.drop_capability();
        }
        self.touch(ino);
        Ok(())
    }

    fn set_perm(&mut self, ino: Ino, perm: u32) -> Result<(), Errno> {
        let inode = self.inode_mut(ino);
        if inode.kind() == Kind::Symlink {
            return Err(Errno::OPNOTSUPP);
        }
        inode.perm = perm;
        if let Some(value) = inode.xattrs.get_mut(acl::ACCESS)
            && let Ok(Some(list)) = Acl::parse(value)
        {
            *value = list.changed_to(perm).value();
        }
        self.touch(ino);
        Ok(())
    }

    fn set_times(&mut self, ino: Ino, atime: Option<SetTime>, mtime: Option<SetTime>) {
        let now = self.tick();
        let time = |wish: Option<SetTime>, old: Time| match wish {
            None => old,
            Some(SetTime::Now) => now,
            Some(SetTime::To(time)) => time,
        };
        let inode = self.inode_mut(ino);
        inode.atime = time(atime, inode.atime);
        inode.mtime = time(mtime, inode.mtime);
        inode.ctime = now;
    }
}
