//! One trait: a directory tree that can be read and changed.
//!
//! The union is written against [`Tree`] alone. The host's tree lives in `sys`, a
//! tree in memory in `testkit`; both answer alike, errno by errno.

mod override_stat;

use rules::{Attr, Changes, Creation, Errno, Kind, Name, StatFs};

pub use override_stat::{OverrideStat, Record};

/// One name in a directory, as reading the directory shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name; never `.` or `..`.
    pub name: Name,
    /// The kind, where the directory tells it without asking the object.
    pub kind: Option<Kind>,
    /// Inode number.
    pub ino: u64,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading only, leaving the time of last access alone where the system allows that.
    ReadQuietly,
    /// Reading and writing; writing alone where the server may not read.
    ReadWrite,
}

/// How `rename` treats what has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameHow {
    /// Replace it.
    Replace,
    /// Fail with `EEXIST`.
    NoReplace,
    /// Let both trade places.
    Exchange,
}

/// How setting an extended attribute treats one that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrHow {
    /// Make it or replace it.
    Set,
    /// Fail with `EEXIST` when there is one.
    Create,
    /// Fail with `ENODATA` when there is none.
    Replace,
}

/// What a node without contents is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A regular file of size zero.
    File,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with its number.
    CharDevice(u64),
    /// A block device with its number.
    BlockDevice(u64),
}

/// What a search for data or holes looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is data (`SEEK_DATA`).
    Data,
    /// The next hole, or the end (`SEEK_HOLE`).
    Hole,
}

/// What to sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncHow {
    /// Data and all attributes (`fsync`).
    All,
    /// Data and what is needed to read it back (`fdatasync`).
    Data,
}

/// The object a call is about. Symbolic links are never followed.
pub enum Object<'a, T: Tree + ?Sized> {
    /// An open directory itself.
    Dir(&'a T::Dir),
    /// What has this name in this directory.
    Entry(&'a T::Dir, &'a Name),
    /// An open file.
    File(&'a T::File),
}

impl<T: Tree + ?Sized> Clone for Object<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Tree + ?Sized> Copy for Object<'_, T> {}

/// A directory tree that can be read and changed.
///
/// Every call names an open directory and at most one component in it; nothing follows a
/// symbolic link or leaves the tree. Each call is one visible change. Errors are the
/// errno that Linux gives for the same call; where a method lists none, any may come.
///
/// `Dir` and `File` values of one tree may be passed to another tree of the same type (two branches
/// of one union are two trees): `link`, `rename` and `copy_data` answer `EXDEV` where the host would.
pub trait Tree: Send + Sync + 'static {
    /// An open directory. It stays usable when it is renamed; after its removal, calls give `ENOENT`.
    type Dir: Send + Sync + 'static;
    /// An open regular file. It stays usable when its name goes.
    type File: Send + Sync + 'static;

    /// Opens the root directory of the tree.
    fn root(&self) -> Result<Self::Dir, Errno>;

    /// Returns where an open directory is, as people name it; nothing depends on it. `None` where that cannot be told.
    fn path_of(&self, _dir: &Self::Dir) -> Option<Vec<u8>> {
        None
    }

    /// Opens a subdirectory. `ENOENT`, `ENOTDIR`; a symbolic link is `ENOTDIR` (or `ELOOP`).
    fn open_dir(&self, dir: &Self::Dir, name: &Name) -> Result<Self::Dir, Errno>;

    /// Reads all names of a directory, without `.` and `..`, in the directory's own order.
    fn list(&self, dir: &Self::Dir) -> Result<Vec<DirEntry>, Errno>;

    /// Returns the attributes of an entry, or `None` when there is none of that name.
    fn look(&self, dir: &Self::Dir, name: &Name) -> Result<Option<Attr>, Errno> {
        match self.attr(Object::Entry(dir, name)) {
            Ok(attr) => Ok(Some(attr)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Returns the attributes of an object.
    fn attr(&self, object: Object<'_, Self>) -> Result<Attr, Errno>;

    /// Changes attributes. When several are given the order is: drop set-id bits, size, owner
    /// and group, permissions, times, so that permissions given together with an owner hold.
    fn set_attr(&self, object: Object<'_, Self>, changes: &Changes) -> Result<(), Errno>;

    /// Returns the target of a symbolic link.
    fn read_link(&self, dir: &Self::Dir, name: &Name) -> Result<Vec<u8>, Errno>;

    /// Makes a new regular file (`EEXIST` when the name is taken) and opens it for reading and writing.
    fn create_file(
        &self,
        dir: &Self::Dir,
        name: &Name,
        how: &Creation,
    ) -> Result<Self::File, Errno>;

    /// Makes a file without a name on the filesystem of `dir` (`O_TMPFILE`), open for reading and writing.
    /// `EOPNOTSUPP` where the filesystem has none.
    fn unnamed_file(&self, dir: &Self::Dir, how: &Creation) -> Result<Self::File, Errno>;

    /// Makes a directory.
    fn make_dir(&self, dir: &Self::Dir, name: &Name, how: &Creation) -> Result<(), Errno>;

    /// Makes a device, pipe, socket or empty file.
    fn make_node(
        &self,
        dir: &Self::Dir,
        name: &Name,
        node: Node,
        how: &Creation,
    ) -> Result<(), Errno>;

    /// Makes a symbolic link; only the owner of `how` matters.
    fn make_symlink(
        &self,
        dir: &Self::Dir,
        name: &Name,
        target: &[u8],
        how: &Creation,
    ) -> Result<(), Errno>;

    /// Gives an existing object that is no directory a second name.
    fn link(&self, dir: &Self::Dir, name: &Name, to: &Self::Dir, new: &Name) -> Result<(), Errno>;

    /// Gives an open file a name; works for a file without one (`O_TMPFILE`).
    fn link_file(&self, file: &Self::File, to: &Self::Dir, new: &Name) -> Result<(), Errno>;

    /// Removes a name that is no directory (`unlink`).
    fn remove_file(&self, dir: &Self::Dir, name: &Name) -> Result<(), Errno>;

    /// Removes an empty directory (`rmdir`).
    fn remove_dir(&self, dir: &Self::Dir, name: &Name) -> Result<(), Errno>;

    /// Renames, as `renameat2` does.
    fn rename(
        &self,
        dir: &Self::Dir,
        name: &Name,
        to: &Self::Dir,
        new: &Name,
        how: RenameHow,
    ) -> Result<(), Errno>;

    /// Returns the value of an extended attribute; `ENODATA` when there is none.
    fn xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<Vec<u8>, Errno>;

    /// Returns the names of the extended attributes; empty where the filesystem has none.
    fn xattr_names(&self, object: Object<'_, Self>) -> Result<Vec<Vec<u8>>, Errno>;

    /// Sets an extended attribute.
    fn set_xattr(
        &self,
        object: Object<'_, Self>,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno>;

    /// Removes an extended attribute; `ENODATA` when there is none.
    fn remove_xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<(), Errno>;

    /// Opens a regular file. `ELOOP` for a symbolic link; `ENXIO`, `EISDIR` or `EINVAL` for other kinds.
    fn open_file(&self, dir: &Self::Dir, name: &Name, access: Access) -> Result<Self::File, Errno>;

    /// Returns whether a file that nobody uses may stay open for whoever opens it next: it holds nothing but its descriptor.
    fn may_stay_open(&self, _file: &Self::File) -> bool {
        true
    }

    /// As `open_file`, and returns the attributes of the file that was opened.
    fn open_known(
        &self,
        dir: &Self::Dir,
        name: &Name,
        access: Access,
    ) -> Result<(Self::File, Attr), Errno> {
        let file = self.open_file(dir, name, access)?;
        let attr = self.attr(Object::File(&file))?;
        Ok((file, attr))
    }

    /// Reads at an offset into the buffer; returns how many bytes, 0 at the end. Short only at the end.
    fn read(&self, file: &Self::File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno>;

    /// Writes at an offset; returns how many bytes.
    fn write(&self, file: &Self::File, buffer: &[u8], offset: u64) -> Result<usize, Errno>;

    /// Allocates, punches or shifts space (`fallocate` with its mode bits).
    fn allocate(&self, file: &Self::File, mode: u32, offset: u64, length: u64)
    -> Result<(), Errno>;

    /// Finds the next data or hole at or after an offset; `ENXIO` past the end.
    fn seek(&self, file: &Self::File, offset: u64, what: Seek) -> Result<u64, Errno>;

    /// Copies a range between two open files; returns how many bytes, 0 at the source's end.
    fn copy_range(
        &self,
        from: &Self::File,
        from_offset: u64,
        to: &Self::File,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno>;

    /// Fills the empty file `to`, which has no set-id bits, with the first `length` bytes of `from`, keeping holes: by reflink where
    /// the filesystem can (whole files only), else by copying in the kernel, else through a buffer.
    fn copy_data(&self, from: &Self::File, to: &Self::File, length: u64) -> Result<(), Errno>;

    /// Makes a file durable.
    fn sync_file(&self, file: &Self::File, how: SyncHow) -> Result<(), Errno>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Self::Dir) -> Result<(), Errno>;

    /// Makes everything on the filesystem of a directory durable (`syncfs`).
    fn sync_all(&self, dir: &Self::Dir) -> Result<(), Errno>;

    /// Returns space and limits of the filesystem of a directory.
    fn stat_fs(&self, dir: &Self::Dir) -> Result<StatFs, Errno>;
}
