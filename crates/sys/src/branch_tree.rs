//! What a branch is: a directory of the host, or an image that is read here.
//!
//! One type for both, so that a union takes either at any time. What it costs a union without images is one comparison
//! for each call, which is nothing beside the system call that follows.
//!
//! A file of an image is unpacked when it is opened, into a file without a name: from there on it is a file of the host, that the kernel
//! maps, passes through and copies. All who have it open share one, and the last ones stay for whoever opens them next.

mod contents;
mod image;

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use images::Unreadable;
use rules::{Attr, Changes, Creation, Errno, Kind, Name, StatFs};
use tree::{Access, DirEntry, Node, Object, RenameHow, Seek, SyncHow, Tree, XattrHow};

use crate::image::ImageKind;
use crate::{HostDir, HostFile, HostTree};
use contents::Contents;
use image::{Image, ImageDir};

/// A branch's tree.
pub struct BranchTree {
    host: HostTree,
    image: Option<Arc<Image>>,
}

/// An open directory of a branch. Of an image, the descriptor is that of the image file.
pub struct BranchDir(Dir);

enum Dir {
    Host(HostDir),
    Image(ImageDir),
}

/// An open file of a branch. Of an image, the descriptor is that of what was unpacked.
pub struct BranchFile(Open);

enum Open {
    Host(HostFile),
    Image(Arc<Contents>),
}

/// What a call is about, once it is known where it is.
enum At<'a> {
    Host(Object<'a, HostTree>),
    Image(&'a Arc<Image>, images::NodeId),
}

impl From<HostTree> for BranchTree {
    fn from(host: HostTree) -> Self {
        Self { host, image: None }
    }
}

impl fmt::Debug for BranchTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.image.is_some() {
            "image"
        } else {
            "directory"
        };
        write!(f, "BranchTree({kind})")
    }
}

impl BranchTree {
    /// Opens a directory of the host; symbolic links on the way to it are followed.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        HostTree::open(path).map(Self::from)
    }

    /// Reads an image without the kernel. Its files are unpacked in a directory (`scratch`), or in memory where that takes none.
    pub fn read_image(file: File, kind: ImageKind, scratch: &Path) -> Result<Self, Unreadable> {
        let descriptor = file.try_clone().map_err(|_| Errno::MFILE)?;
        let image = Image::open(file, kind, scratch)?;
        Ok(Self {
            host: HostTree::at(descriptor.into()),
            image: Some(Arc::new(image)),
        })
    }

    /// Returns whether files are unpacked when they are opened, so that opening one for each read would be far too slow.
    pub fn unpacks_files(&self) -> bool {
        self.image.is_some()
    }

    fn find<'a>(&self, object: Object<'a, Self>) -> Result<At<'a>, Errno> {
        Ok(match object {
            Object::Dir(BranchDir(Dir::Host(dir))) => At::Host(Object::Dir(dir)),
            Object::Entry(BranchDir(Dir::Host(dir)), name) => At::Host(Object::Entry(dir, name)),
            Object::File(BranchFile(Open::Host(file))) => At::Host(Object::File(file)),
            Object::Dir(BranchDir(Dir::Image(dir))) => At::Image(&dir.image, dir.node),
            Object::Entry(BranchDir(Dir::Image(dir)), name) => {
                At::Image(&dir.image, dir.find(name)?)
            }
            Object::File(BranchFile(Open::Image(file))) => At::Image(&file.image, file.node),
        })
    }
}

impl BranchDir {
    /// Returns the directory if it can be written to.
    fn writable(&self) -> Result<&HostDir, Errno> {
        match &self.0 {
            Dir::Host(dir) => Ok(dir),
            Dir::Image(_) => Err(Errno::ROFS),
        }
    }
}

impl BranchFile {
    /// Returns the file to read.
    fn readable(&self) -> &HostFile {
        match &self.0 {
            Open::Host(file) => file,
            Open::Image(contents) => &contents.file,
        }
    }

    /// Returns the file if it can be written to.
    fn writable(&self) -> Result<&HostFile, Errno> {
        match &self.0 {
            Open::Host(file) => Ok(file),
            Open::Image(_) => Err(Errno::ROFS),
        }
    }
}

impl AsFd for BranchDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Dir::Host(dir) => dir.as_fd(),
            Dir::Image(dir) => dir.image.file.as_fd(),
        }
    }
}

impl AsFd for BranchFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.readable().as_fd()
    }
}

/// What opening says that is for regular files.
fn no_file(kind: Kind) -> Errno {
    match kind {
        Kind::Symlink => Errno::LOOP,
        Kind::Dir => Errno::ISDIR,
        _ => Errno::INVAL,
    }
}

impl Tree for BranchTree {
    type Dir = BranchDir;
    type File = BranchFile;

    fn root(&self) -> Result<BranchDir, Errno> {
        Ok(BranchDir(match &self.image {
            None => Dir::Host(self.host.root()?),
            Some(image) => Dir::Image(ImageDir::root(image)),
        }))
    }

    fn open_dir(&self, dir: &BranchDir, name: &Name) -> Result<BranchDir, Errno> {
        Ok(BranchDir(match &dir.0 {
            Dir::Host(dir) => Dir::Host(self.host.open_dir(dir, name)?),
            Dir::Image(dir) => Dir::Image(dir.open(name)?),
        }))
    }

    fn list(&self, dir: &BranchDir) -> Result<Vec<DirEntry>, Errno> {
        match &dir.0 {
            Dir::Host(dir) => self.host.list(dir),
            Dir::Image(dir) => dir.list(),
        }
    }

    fn attr(&self, object: Object<'_, Self>) -> Result<Attr, Errno> {
        match self.find(object)? {
            At::Host(object) => self.host.attr(object),
            At::Image(image, node) => image.attr(node),
        }
    }

    fn set_attr(&self, object: Object<'_, Self>, changes: &Changes) -> Result<(), Errno> {
        match self.find(object)? {
            At::Host(object) => self.host.set_attr(object, changes),
            At::Image(..) => Err(Errno::ROFS),
        }
    }

    fn path_of(&self, dir: &BranchDir) -> Option<Vec<u8>> {
        match &dir.0 {
            Dir::Host(dir) => self.host.path_of(dir),
            Dir::Image(dir) => crate::proc::path_of_open(dir.image.file.as_fd()),
        }
    }

    fn read_link(&self, dir: &BranchDir, name: &Name) -> Result<Vec<u8>, Errno> {
        match &dir.0 {
            Dir::Host(dir) => self.host.read_link(dir, name),
            Dir::Image(dir) => dir.image.filesystem.link_target(dir.find(name)?),
        }
    }

    fn create_file(
        &self,
        dir: &BranchDir,
        name: &Name,
        how: &Creation,
    ) -> Result<BranchFile, Errno> {
        let file = self.host.create_file(dir.writable()?, name, how)?;
        Ok(BranchFile(Open::Host(file)))
    }

    fn unnamed_file(&self, dir: &BranchDir, how: &Creation) -> Result<BranchFile, Errno> {
        let file = self.host.unnamed_file(dir.writable()?, how)?;
        Ok(BranchFile(Open::Host(file)))
    }

    fn make_dir(&self, dir: &BranchDir, name: &Name, how: &Creation) -> Result<(), Errno> {
        self.host.make_dir(dir.writable()?, name, how)
    }

    fn make_node(
        &self,
        dir: &BranchDir,
        name: &Name,
        node: Node,
        how: &Creation,
    ) -> Result<(), Errno> {
        self.host.make_node(dir.writable()?, name, node, how)
    }

    fn make_symlink(
        &self,
        dir: &BranchDir,
        name: &Name,
        target: &[u8],
        how: &Creation,
    ) -> Result<(), Errno> {
        self.host.make_symlink(dir.writable()?, name, target, how)
    }

    fn link(&self, dir: &BranchDir, name: &Name, to: &BranchDir, new: &Name) -> Result<(), Errno> {
        let to = to.writable()?;
        match &dir.0 {
            Dir::Host(dir) => self.host.link(dir, name, to, new),
            Dir::Image(_) => Err(Errno::XDEV),
        }
    }

    fn link_file(&self, file: &BranchFile, to: &BranchDir, new: &Name) -> Result<(), Errno> {
        let to = to.writable()?;
        match &file.0 {
            Open::Host(file) => self.host.link_file(file, to, new),
            Open::Image(_) => Err(Errno::XDEV),
        }
    }

    fn remove_file(&self, dir: &BranchDir, name: &Name) -> Result<(), Errno> {
        self.host.remove_file(dir.writable()?, name)
    }

    fn remove_dir(&self, dir: &BranchDir, name: &Name) -> Result<(), Errno> {
        self.host.remove_dir(dir.writable()?, name)
    }

    fn rename(
        &self,
        dir: &BranchDir,
        name: &Name,
        to: &BranchDir,
        new: &Name,
        how: RenameHow,
    ) -> Result<(), Errno> {
        match (&dir.0, &to.0) {
            (Dir::Host(dir), Dir::Host(to)) => self.host.rename(dir, name, to, new, how),
            (Dir::Image(_), Dir::Image(_)) => Err(Errno::ROFS),
            (Dir::Host(_), Dir::Image(_)) | (Dir::Image(_), Dir::Host(_)) => Err(Errno::XDEV),
        }
    }

    fn xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        match self.find(object)? {
            At::Host(object) => self.host.xattr(object, name),
            At::Image(image, node) => image.xattr(node, name),
        }
    }

    fn xattr_names(&self, object: Object<'_, Self>) -> Result<Vec<Vec<u8>>, Errno> {
        match self.find(object)? {
            At::Host(object) => self.host.xattr_names(object),
            At::Image(image, node) => {
                let xattrs = image.xattrs(node)?;
                Ok(xattrs.into_iter().map(|(name, _)| name).collect())
            }
        }
    }

    fn set_xattr(
        &self,
        object: Object<'_, Self>,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        match self.find(object)? {
            At::Host(object) => self.host.set_xattr(object, name, value, how),
            At::Image(..) => Err(Errno::ROFS),
        }
    }

    fn remove_xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<(), Errno> {
        match self.find(object)? {
            At::Host(object) => self.host.remove_xattr(object, name),
            At::Image(..) => Err(Errno::ROFS),
        }
    }

    fn open_file(&self, dir: &BranchDir, name: &Name, access: Access) -> Result<BranchFile, Errno> {
        Ok(BranchFile(match &dir.0 {
            Dir::Host(dir) => Open::Host(self.host.open_file(dir, name, access)?),
            Dir::Image(dir) => {
                let node = dir.find(name)?;
                let attr = dir.image.attr(node)?;
                if attr.kind != Kind::File {
                    return Err(no_file(attr.kind));
                }
                if access == Access::ReadWrite {
                    return Err(Errno::ROFS);
                }
                Open::Image(contents::of(&dir.image, node, attr.size)?)
            }
        }))
    }

    fn may_stay_open(&self, file: &BranchFile) -> bool {
        match &file.0 {
            Open::Host(file) => self.host.may_stay_open(file),
            // It would hold what was unpacked; the last ones stay anyway.
            Open::Image(_) => false,
        }
    }

    fn open_known(
        &self,
        dir: &BranchDir,
        name: &Name,
        access: Access,
    ) -> Result<(BranchFile, Attr), Errno> {
        if let Dir::Host(dir) = &dir.0 {
            let (file, attr) = self.host.open_known(dir, name, access)?;
            return Ok((BranchFile(Open::Host(file)), attr));
        }
        let file = self.open_file(dir, name, access)?;
        let attr = self.attr(Object::File(&file))?;
        Ok((file, attr))
    }

    fn read(&self, file: &BranchFile, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.host.read(file.readable(), buffer, offset)
    }

    fn write(&self, file: &BranchFile, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
        self.host.write(file.writable()?, buffer, offset)
    }

    fn allocate(
        &self,
        file: &BranchFile,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        self.host.allocate(file.writable()?, mode, offset, length)
    }

    fn seek(&self, file: &BranchFile, offset: u64, what: Seek) -> Result<u64, Errno> {
        self.host.seek(file.readable(), offset, what)
    }

    fn copy_range(
        &self,
        from: &BranchFile,
        from_offset: u64,
        to: &BranchFile,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        let (from, to) = (from.readable(), to.writable()?);
        self.host
            .copy_range(from, from_offset, to, to_offset, length)
    }

    fn copy_data(&self, from: &BranchFile, to: &BranchFile, length: u64) -> Result<(), Errno> {
        self.host.copy_data(from.readable(), to.writable()?, length)
    }

    fn sync_file(&self, file: &BranchFile, how: SyncHow) -> Result<(), Errno> {
        match &file.0 {
            Open::Host(file) => self.host.sync_file(file, how),
            Open::Image(_) => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &BranchDir) -> Result<(), Errno> {
        match &dir.0 {
            Dir::Host(dir) => self.host.sync_dir(dir),
            Dir::Image(_) => Ok(()),
        }
    }

    fn sync_all(&self, dir: &BranchDir) -> Result<(), Errno> {
        match &dir.0 {
            Dir::Host(dir) => self.host.sync_all(dir),
            Dir::Image(_) => Ok(()),
        }
    }

    fn stat_fs(&self, dir: &BranchDir) -> Result<StatFs, Errno> {
        match &dir.0 {
            Dir::Host(dir) => self.host.stat_fs(dir),
            Dir::Image(dir) => Ok(dir.image.stat_fs()),
        }
    }
}
