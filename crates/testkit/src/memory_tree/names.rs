//! Names that come and go: links and removals.

use rules::{Errno, Name};

use super::disk::{MAX_LINKS, Table};
use super::inode::{Body, Ino};

impl Table {
    /// Gives an object one more name. `EPERM` for directories.
    pub(crate) fn link(&mut self, ino: Ino, to: Ino, new: &Name) -> Result<(), Errno> {
        self.vacancy(to, new)?;
        let inode = self.inode(ino);
        if inode.is_dir() {
            return Err(Errno::PERM);
        }
        if inode.nlink == 0 && !inode.linkable {
            return Err(Errno::NOENT);
        }
        if inode.nlink >= MAX_LINKS {
            return Err(Errno::MLINK);
        }
        self.insert_name(to, new, ino);
        self.inode_mut(ino).linkable = false;
        self.touch(ino);
        Ok(())
    }

    /// Removes a name. `EISDIR` for directories.
    pub(crate) fn unlink(&mut self, dir: Ino, name: &Name) -> Result<(), Errno> {
        if self.inode(self.lookup(dir, name)?).is_dir() {
            return Err(Errno::ISDIR);
        }
        let ino = self.take_name(dir, name);
        self.touch(ino);
        Ok(())
    }

    /// Removes an empty directory. `ENOTDIR`, `ENOTEMPTY`.
    pub(crate) fn rmdir(&mut self, dir: Ino, name: &Name) -> Result<(), Errno> {
        let ino = self.lookup(dir, name)?;
        self.expect_empty_dir(ino)?;
        self.take_name(dir, name);
        self.bury(ino);
        Ok(())
    }

    /// Makes sure that an object is a directory without names.
    pub(crate) fn expect_empty_dir(&self, ino: Ino) -> Result<(), Errno> {
        match &self.inode(ino).body {
            Body::Dir { names, .. } if names.is_empty() => Ok(()),
            Body::Dir { .. } => Err(Errno::NOTEMPTY),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Marks a directory without a name as removed; handles of it stay.
    pub(crate) fn bury(&mut self, ino: Ino) {
        self.inode_mut(ino).nlink = 0;
        self.touch(ino);
    }
}
