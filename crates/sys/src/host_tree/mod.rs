//! The host's directory trees.
//!
//! A [`HostTree`] opens its root once. From there on each call names an open directory and
//! at most one component in it, so nothing that happens to the names above the branch, and no
//! symbolic link put in the way, leads out of the tree. Filesystems mounted below the
//! root belong to it. Errors are those of the kernel, untouched.

mod attributes;
mod contents;
mod copying;
mod creating;
mod listing;
mod new_calls;
mod opening;
mod place;
mod root;
#[cfg(test)]
mod tests;
mod whiteouts;
mod xattrs;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rules::{Attr, Changes, Creation, Errno, Name, StatFs};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use tree::{Access, DirEntry, Node, Object, RenameHow, Seek, SyncHow, Tree, XattrHow};

use crate::errno::IntoErrno;
use crate::identity::{SET_ID, keep_set_id};
use crate::proc;
use new_calls::NewCalls;
use place::Place;
pub use root::{Finder, Root};
use whiteouts::Whiteouts;

/// A directory of the host with everything below it.
#[derive(Debug)]
pub struct HostTree {
    root: HostDir,
    calls: NewCalls,
    /// Whether copies may share blocks here, as far as is known.
    clones: AtomicBool,
    whiteouts: Whiteouts,
}

/// An open directory. The descriptor is `O_PATH`: it names the directory and reads nothing. All who hold the root of a
/// tree share one: a thousand branches take a thousand descriptors.
#[derive(Debug)]
pub struct HostDir(Arc<OwnedFd>);

/// An open regular file.
#[derive(Debug)]
pub struct HostFile(OwnedFd);

impl HostTree {
    /// Opens a directory as the root of a tree; symbolic links on the way to it are followed.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).errno()?;
        Ok(Self::at(root))
    }

    /// Takes an open directory as the root of a tree.
    pub fn at(root: OwnedFd) -> Self {
        Self {
            root: HostDir(Arc::new(root)),
            calls: NewCalls::of_this_kernel(),
            clones: AtomicBool::new(true),
            whiteouts: Whiteouts::default(),
        }
    }
}

/// Returns whether the kernel could take set-id bits away at such a change.
fn may_cost_set_id(changes: &Changes) -> bool {
    let gives = changes.perm.is_some_and(|perm| perm & SET_ID != 0);
    // Of two bits one may go and the other stay.
    let takes_one = changes.drop_set_id;
    gives || takes_one || changes.size.is_some() || changes.uid.is_some() || changes.gid.is_some()
}

impl AsFd for HostDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for HostFile {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Tree for HostTree {
    type Dir = HostDir;
    type File = HostFile;

    fn root(&self) -> Result<HostDir, Errno> {
        Ok(HostDir(Arc::clone(&self.root.0)))
    }

    fn path_of(&self, dir: &HostDir) -> Option<Vec<u8>> {
        proc::path_of_open(dir.as_fd())
    }

    fn open_dir(&self, dir: &HostDir, name: &Name) -> Result<HostDir, Errno> {
        opening::dir(self.calls, dir.as_fd(), name).map(|dir| HostDir(Arc::new(dir)))
    }

    fn list(&self, dir: &HostDir) -> Result<Vec<DirEntry>, Errno> {
        listing::list(dir.as_fd())
    }

    fn attr(&self, object: Object<'_, Self>) -> Result<Attr, Errno> {
        attributes::attr(Place::of(object))
    }

    fn set_attr(&self, object: Object<'_, Self>, changes: &Changes) -> Result<(), Errno> {
        if may_cost_set_id(changes) {
            keep_set_id()?;
        }
        attributes::set_attr(self.calls, object, changes)
    }

    fn read_link(&self, dir: &HostDir, name: &Name) -> Result<Vec<u8>, Errno> {
        let target = rustix::fs::readlinkat(dir, name.as_os_str(), Vec::new()).errno()?;
        Ok(target.into_bytes())
    }

    fn create_file(&self, dir: &HostDir, name: &Name, how: &Creation) -> Result<HostFile, Errno> {
        creating::file(self.calls, dir.as_fd(), name, how).map(HostFile)
    }

    fn unnamed_file(&self, dir: &HostDir, how: &Creation) -> Result<HostFile, Errno> {
        creating::unnamed_file(dir.as_fd(), how).map(HostFile)
    }

    fn make_dir(&self, dir: &HostDir, name: &Name, how: &Creation) -> Result<(), Errno> {
        creating::dir(dir.as_fd(), name, how)
    }

    fn make_node(
        &self,
        dir: &HostDir,
        name: &Name,
        node: Node,
        how: &Creation,
    ) -> Result<(), Errno> {
        if node == Node::CharDevice(0) && *how == Creation::exact(0) {
            return self.whiteouts.make(self.calls, dir.as_fd(), name);
        }
        creating::node(dir.as_fd(), name, node, how)
    }

    fn make_symlink(
        &self,
        dir: &HostDir,
        name: &Name,
        target: &[u8],
        how: &Creation,
    ) -> Result<(), Errno> {
        creating::symlink(dir.as_fd(), name, target, how)
    }

    fn link(&self, dir: &HostDir, name: &Name, to: &HostDir, new: &Name) -> Result<(), Errno> {
        rustix::fs::linkat(dir, name.as_os_str(), to, new.as_os_str(), AtFlags::empty()).errno()
    }

    fn link_file(&self, file: &HostFile, to: &HostDir, new: &Name) -> Result<(), Errno> {
        creating::link_open_file(file.as_fd(), to.as_fd(), new)
    }

    fn remove_file(&self, dir: &HostDir, name: &Name) -> Result<(), Errno> {
        rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::empty()).errno()
    }

    fn remove_dir(&self, dir: &HostDir, name: &Name) -> Result<(), Errno> {
        rustix::fs::unlinkat(dir, name.as_os_str(), AtFlags::REMOVEDIR).errno()
    }

    fn rename(
        &self,
        dir: &HostDir,
        name: &Name,
        to: &HostDir,
        new: &Name,
        how: RenameHow,
    ) -> Result<(), Errno> {
        let flags = match how {
            RenameHow::Replace => RenameFlags::empty(),
            RenameHow::NoReplace => RenameFlags::NOREPLACE,
            RenameHow::Exchange => RenameFlags::EXCHANGE,
        };
        rustix::fs::renameat_with(dir, name.as_os_str(), to, new.as_os_str(), flags).errno()
    }

    fn xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        xattrs::get(self.calls, object, name)
    }

    fn xattr_names(&self, object: Object<'_, Self>) -> Result<Vec<Vec<u8>>, Errno> {
        xattrs::names(self.calls, object)
    }

    fn set_xattr(
        &self,
        object: Object<'_, Self>,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        keep_set_id()?;
        xattrs::set(self.calls, object, name, value, how)
    }

    fn remove_xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<(), Errno> {
        keep_set_id()?;
        xattrs::remove(self.calls, object, name)
    }

    fn open_file(&self, dir: &HostDir, name: &Name, access: Access) -> Result<HostFile, Errno> {
        let (file, _) = opening::file(self.calls, dir.as_fd(), name, access)?;
        Ok(HostFile(file))
    }

    fn open_known(
        &self,
        dir: &HostDir,
        name: &Name,
        access: Access,
    ) -> Result<(HostFile, Attr), Errno> {
        let (file, attr) = opening::file(self.calls, dir.as_fd(), name, access)?;
        Ok((HostFile(file), attr))
    }

    fn read(&self, file: &HostFile, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        contents::read(file.as_fd(), buffer, offset)
    }

    fn write(&self, file: &HostFile, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
        keep_set_id()?;
        contents::write(file.as_fd(), buffer, offset)
    }

    fn allocate(&self, file: &HostFile, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        keep_set_id()?;
        contents::allocate(file.as_fd(), mode, offset, length)
    }

    fn seek(&self, file: &HostFile, offset: u64, what: Seek) -> Result<u64, Errno> {
        contents::seek(file.as_fd(), offset, what)
    }

    fn copy_range(
        &self,
        from: &HostFile,
        from_offset: u64,
        to: &HostFile,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        keep_set_id()?;
        copying::copy_range((from.as_fd(), from_offset), (to.as_fd(), to_offset), length)
    }

    fn copy_data(&self, from: &HostFile, to: &HostFile, length: u64) -> Result<(), Errno> {
        // It has no set-id bits yet, so it is all the same who writes.
        copying::copy_data(from.as_fd(), to.as_fd(), length, &self.clones)
    }

    fn sync_file(&self, file: &HostFile, how: SyncHow) -> Result<(), Errno> {
        match how {
            SyncHow::All => rustix::fs::fsync(file).errno(),
            SyncHow::Data => rustix::fs::fdatasync(file).errno(),
        }
    }

    fn sync_dir(&self, dir: &HostDir) -> Result<(), Errno> {
        rustix::fs::fsync(opening::dir_for_reading(dir.as_fd())?).errno()
    }

    fn sync_all(&self, dir: &HostDir) -> Result<(), Errno> {
        rustix::fs::syncfs(opening::dir_for_reading(dir.as_fd())?).errno()
    }

    fn stat_fs(&self, dir: &HostDir) -> Result<StatFs, Errno> {
        attributes::stat_fs(dir.as_fd())
    }
}
