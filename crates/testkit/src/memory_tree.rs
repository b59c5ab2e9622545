//! A directory tree in memory that answers as ext4 answers the superuser.
//!
//! Everything is there that a union can notice: errno by errno, link counts, times from a
//! logical clock, inode numbers that are never reused, set-group-id directories, access
//! control lists that shape modes, holes. Disks can be full. What is missing: immutable files, quotas.

mod acl;
mod attrs;
mod content;
mod disk;
mod file_io;
mod inode;
mod make;
mod names;
mod rename;
#[cfg(test)]
mod tests;
mod xattrs;

use rules::{Attr, Changes, Creation, Errno, Kind, Name, StatFs};
use tree::{Access, DirEntry, Node, Object, RenameHow, Seek, SyncHow, Tree, XattrHow};

use self::content::Content;
pub use self::disk::MemoryDisk;
use self::inode::{Body, Ino};

/// A tree in memory: a directory of a [`MemoryDisk`] and all below it.
#[derive(Debug, Clone)]
pub struct MemoryTree {
    root: Dir,
}

/// An open directory of a [`MemoryTree`].
#[derive(Debug, Clone)]
pub struct Dir {
    disk: MemoryDisk,
    ino: Ino,
}

/// An open file of a [`MemoryTree`].
#[derive(Debug, Clone)]
pub struct File {
    disk: MemoryDisk,
    ino: Ino,
    access: Access,
}

impl MemoryTree {
    /// Makes an empty tree on a disk of its own.
    #[expect(clippy::new_without_default, reason = "each tree is on a new device")]
    pub fn new() -> Self {
        MemoryDisk::new().tree()
    }

    /// Returns the disk that the tree is on.
    pub fn disk(&self) -> &MemoryDisk {
        &self.root.disk
    }

    pub(crate) fn at(root: Dir) -> Self {
        Self { root }
    }
}

impl Dir {
    fn make(&self, name: &Name, body: Body, how: &Creation) -> Result<Ino, Errno> {
        self.disk.lock().make(self.ino, name, body, how)
    }

    fn lookup(&self, name: &Name) -> Result<Ino, Errno> {
        self.disk.lock().lookup(self.ino, name)
    }
}

/// Finds the disk and the inode of an object.
fn locate<'a>(object: Object<'a, MemoryTree>) -> Result<(&'a MemoryDisk, Ino), Errno> {
    match object {
        Object::Dir(dir) => Ok((&dir.disk, dir.ino)),
        Object::Entry(dir, name) => Ok((&dir.disk, dir.lookup(name)?)),
        Object::File(file) => Ok((&file.disk, file.ino)),
    }
}

impl Tree for MemoryTree {
    type Dir = Dir;
    type File = File;

    fn root(&self) -> Result<Dir, Errno> {
        Ok(self.root.clone())
    }

    fn open_dir(&self, dir: &Dir, name: &Name) -> Result<Dir, Errno> {
        let table = dir.disk.lock();
        let ino = table.lookup(dir.ino, name)?;
        if !table.inode(ino).is_dir() {
            return Err(Errno::NOTDIR);
        }
        Ok(Dir {
            disk: dir.disk.clone(),
            ino,
        })
    }

    fn list(&self, dir: &Dir) -> Result<Vec<DirEntry>, Errno> {
        let table = dir.disk.lock();
        if table.inode(dir.ino).is_dead_dir() {
            return Err(Errno::NOENT);
        }
        let entry = |(name, ino): (&Name, &Ino)| {
            let kind = Some(table.inode(*ino).kind());
            DirEntry {
                name: name.clone(),
                kind,
                ino: *ino,
            }
        };
        Ok(table.names(dir.ino).iter().map(entry).collect())
    }

    fn attr(&self, object: Object<'_, Self>) -> Result<Attr, Errno> {
        let (disk, ino) = locate(object)?;
        Ok(disk.lock().inode(ino).attr(disk.dev(), ino))
    }

    fn set_attr(&self, object: Object<'_, Self>, changes: &Changes) -> Result<(), Errno> {
        if changes.is_empty() {
            return Ok(());
        }
        let may_resize = match object {
            Object::File(file) if file.access != Access::ReadWrite => Err(Errno::INVAL),
            _ => Ok(()),
        };
        let (disk, ino) = locate(object)?;
        disk.lock().set_attr(ino, changes, may_resize)
    }

    fn read_link(&self, dir: &Dir, name: &Name) -> Result<Vec<u8>, Errno> {
        let table = dir.disk.lock();
        match &table.inode(table.lookup(dir.ino, name)?).body {
            Body::Symlink(target) => Ok(target.to_vec()),
            _ => Err(Errno::INVAL),
        }
    }

    fn create_file(&self, dir: &Dir, name: &Name, how: &Creation) -> Result<File, Errno> {
        let ino = dir.make(name, Body::File(Content::default()), how)?;
        Ok(File {
            disk: dir.disk.clone(),
            ino,
            access: Access::ReadWrite,
        })
    }

    fn unnamed_file(&self, dir: &Dir, how: &Creation) -> Result<File, Errno> {
        let mut table = dir.disk.lock();
        if table.inode(dir.ino).is_dead_dir() {
            // ext4 is alone with this errno.
            return Err(Errno::PERM);
        }
        let ino = table.make_unnamed(dir.ino, Body::File(Content::default()), how);
        table.inode_mut(ino).linkable = true;
        Ok(File {
            disk: dir.disk.clone(),
            ino,
            access: Access::ReadWrite,
        })
    }

    fn make_dir(&self, dir: &Dir, name: &Name, how: &Creation) -> Result<(), Errno> {
        dir.make(name, Body::empty_dir(dir.ino), how).map(drop)
    }

    fn make_node(&self, dir: &Dir, name: &Name, node: Node, how: &Creation) -> Result<(), Errno> {
        dir.make(name, make::node(node), how).map(drop)
    }

    fn make_symlink(
        &self,
        dir: &Dir,
        name: &Name,
        target: &[u8],
        how: &Creation,
    ) -> Result<(), Errno> {
        dir.make(name, make::symlink(target)?, how).map(drop)
    }

    fn link(&self, dir: &Dir, name: &Name, to: &Dir, new: &Name) -> Result<(), Errno> {
        if !dir.disk.is_same(&to.disk) {
            dir.lookup(name)?;
            to.disk.lock().vacancy(to.ino, new)?;
            return Err(Errno::XDEV);
        }
        let mut table = dir.disk.lock();
        let ino = table.lookup(dir.ino, name)?;
        table.link(ino, to.ino, new)
    }

    fn link_file(&self, file: &File, to: &Dir, new: &Name) -> Result<(), Errno> {
        if !file.disk.is_same(&to.disk) {
            to.disk.lock().vacancy(to.ino, new)?;
            return Err(Errno::XDEV);
        }
        file.disk.lock().link(file.ino, to.ino, new)
    }

    fn remove_file(&self, dir: &Dir, name: &Name) -> Result<(), Errno> {
        dir.disk.lock().unlink(dir.ino, name)
    }

    fn remove_dir(&self, dir: &Dir, name: &Name) -> Result<(), Errno> {
        dir.disk.lock().rmdir(dir.ino, name)
    }

    fn rename(
        &self,
        dir: &Dir,
        name: &Name,
        to: &Dir,
        new: &Name,
        how: RenameHow,
    ) -> Result<(), Errno> {
        if !dir.disk.is_same(&to.disk) {
            return Err(Errno::XDEV);
        }
        dir.disk.lock().rename((dir.ino, name), (to.ino, new), how)
    }

    fn xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        xattrs::check(name, &[])?;
        let (disk, ino) = locate(object)?;
        disk.lock().xattr(ino, name)
    }

    fn xattr_names(&self, object: Object<'_, Self>) -> Result<Vec<Vec<u8>>, Errno> {
        let (disk, ino) = locate(object)?;
        Ok(disk.lock().xattr_names(ino))
    }

    fn set_xattr(
        &self,
        object: Object<'_, Self>,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        xattrs::check(name, value)?;
        let (disk, ino) = locate(object)?;
        disk.lock().set_xattr(ino, name, value, how)
    }

    fn remove_xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<(), Errno> {
        xattrs::check(name, &[])?;
        let (disk, ino) = locate(object)?;
        disk.lock().remove_xattr(ino, name)
    }

    fn open_file(&self, dir: &Dir, name: &Name, access: Access) -> Result<File, Errno> {
        let table = dir.disk.lock();
        let ino = table.lookup(dir.ino, name)?;
        match table.inode(ino).kind() {
            Kind::File => Ok(File {
                disk: dir.disk.clone(),
                ino,
                access,
            }),
            Kind::Dir => Err(Errno::ISDIR),
            Kind::Symlink => Err(Errno::LOOP),
            // The pipe itself opens, and only then turns out to be no file.
            Kind::Fifo => Err(Errno::INVAL),
            Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Err(Errno::NXIO),
        }
    }

    fn read(&self, file: &File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        file.read(buffer, offset)
    }

    fn write(&self, file: &File, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
        file.write(buffer, offset)
    }

    fn allocate(&self, file: &File, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        file.allocate(mode, offset, length)
    }

    fn seek(&self, file: &File, offset: u64, what: Seek) -> Result<u64, Errno> {
        file.seek(offset, what)
    }

    fn copy_range(
        &self,
        from: &File,
        from_offset: u64,
        to: &File,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        from.copy_range(from_offset, to, to_offset, length)
    }

    fn copy_data(&self, from: &File, to: &File, length: u64) -> Result<(), Errno> {
        from.copy_data(to, length)
    }

    fn sync_file(&self, _file: &File, _how: SyncHow) -> Result<(), Errno> {
        Ok(())
    }

    fn sync_dir(&self, _dir: &Dir) -> Result<(), Errno> {
        Ok(())
    }

    fn sync_all(&self, _dir: &Dir) -> Result<(), Errno> {
        Ok(())
    }

    fn stat_fs(&self, dir: &Dir) -> Result<StatFs, Errno> {
        Ok(dir.disk.stat_fs())
    }
}
