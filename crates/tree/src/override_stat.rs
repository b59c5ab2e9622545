//! A tree whose objects have owner, group and permissions in an extended attribute.
//!
//! The server of an ordinary user can keep any owner that way: all that it makes is its own on disk, with bits that let
//! everybody's server open it, and shows what the attribute says. What has no attribute shows what it
//! is, and gets one when owner or permissions change. This is `xattr_permissions` of fuse-overlayfs.
//!
//! - Users' attributes ([`Record::User`]) stand on files and directories only. So pipes, sockets and devices are
//!   stored as empty files whose attribute says what they are. Symbolic links show the owner of their inode, and a change of
//!   it is ignored, as in fuse-overlayfs. A device 0:0 is made as one: it is overlay's whiteout.
//! - ACLs are neither shown nor set: those of the inode would name owners that the object does not have.
//! - What the server makes for itself by `make_node` of a file (whiteouts and marks) is made as asked, without an attribute.
//!
//! # The first instant
//!
//! A file gets its attribute before it gets its name, where the filesystem has files without names (`O_TMPFILE`); there, nobody
//! ever sees it without. Elsewhere, and for what cannot be without a name, the attribute follows the creation: in
//! between, the object shows the server's own owner with bits 0755. That gives nothing away: it is empty, nobody but the
//! server may write to it, and whoever asks for the creation has no answer yet. Through a mount nobody sees it at
//! all: until the creation is answered, the kernel lets nobody else look up a name in the directory or list it. Looking into
//! the branch shows it; so does a crash in between, which leaves an empty object of the server that was never promised
//! to anybody. Where the attribute is refused, the object goes again.
//!
//! A change of owner or permissions reads the attribute and writes it: two at once on one object may lose one of
//! them. The kernel makes such changes of an inode one after another.

mod value;

use rules::{Attr, Changes, Creation, Errno, Identity, Kind, Name, StatFs};

use crate::{Access, DirEntry, Node, Object, RenameHow, Seek, SyncHow, Tree, XattrHow};
use value::Value;

/// Bits on disk of everything that is made.
const OPEN: Creation = Creation {
    perm: 0o755,
    umask: 0,
    owner: None,
};
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;
const ACL_PREFIX: &[u8] = b"system.posix_acl_";

/// Which attribute holds owner and permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    /// `user.containers.override_stat`, which everybody may set on files and directories of their own.
    User,
    /// `security.fuseoverlayfs.override_stat`, which the superuser may set on all objects.
    Privileged,
}

/// A tree with owners and permissions in an attribute.
#[derive(Debug)]
pub struct OverrideStat<T> {
    inner: T,
    record: Record,
}

impl Record {
    /// Returns the name of the attribute that is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user.containers.override_stat",
            Self::Privileged => "security.fuseoverlayfs.override_stat",
        }
    }

    /// All that are read, the strongest first. fuse-overlayfs before 1.14 wrote the second one.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::User => &[
                "user.containers.override_stat",
                "user.fuseoverlayfs.override_stat",
            ],
            Self::Privileged => &["security.fuseoverlayfs.override_stat"],
        }
    }

    /// Returns whether an object can have the attribute.
    fn stands_on(self, kind: Kind) -> bool {
        self == Self::Privileged || matches!(kind, Kind::File | Kind::Dir)
    }

    /// Returns what an object of a kind is stored as, if not as what it is.
    fn disguise(self, node: Node) -> Option<(Kind, u64)> {
        if self == Self::Privileged {
            return None;
        }
        match node {
            Node::File | Node::CharDevice(0) => None,
            Node::Fifo => Some((Kind::Fifo, 0)),
            Node::Socket => Some((Kind::Socket, 0)),
            Node::CharDevice(number) => Some((Kind::CharDevice, number)),
            Node::BlockDevice(number) => Some((Kind::BlockDevice, number)),
        }
    }
}

impl<T: Tree> OverrideStat<T> {
    /// Lets owners and permissions of a tree be in an attribute.
    pub fn new(inner: T, record: Record) -> Self {
        Self { inner, record }
    }

    /// Returns the tree itself.
    pub fn inner(&self) -> &T {
        &self.inner
    }

    /// Gives the root its attribute, if it has none, so that others know that the tree has them. It finds out
    /// as well whether the filesystem and our privileges let us: `EOPNOTSUPP`, `EPERM`.
    pub fn mark_root(&self) -> Result<(), Errno> {
        let root = self.inner.root()?;
        let root = Object::Dir(&root);
        if self.value(root)?.is_some() {
            return Ok(());
        }
        let inode = self.inner.attr(root)?;
        self.put(root, &inode, &Value::of(&inode, None))
    }

    /// Reads what the attribute says of an object that can have one.
    fn value(&self, object: Object<'_, T>) -> Result<Option<Value>, Errno> {
        for name in self.record.names() {
            match self.inner.xattr(object, name.as_bytes()) {
                // One that cannot be read is none: it is no reason not to show the object at all.
                Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::ACCES | Errno::PERM) => {}
                text => return Ok(Value::parse(&text?)),
            }
        }
        Ok(None)
    }

    fn put(&self, object: Object<'_, T>, inode: &Attr, value: &Value) -> Result<(), Errno> {
        let (name, text) = (self.record.name(), value.text(inode));
        self.inner
            .set_xattr(object, name.as_bytes(), text.as_bytes(), XattrHow::Set)
    }

    /// Returns the value, and the attributes as they are shown, of an object whose inode has these.
    fn shown(
        &self,
        object: Object<'_, T>,
        inode: Attr,
    ) -> Result<(Option<(Kind, u64)>, Attr), Errno> {
        let value = if self.record.stands_on(inode.kind) {
            self.value(object)?
        } else {
            None
        };
        Ok(value.map_or((None, inode), |value| (value.disguised, value.over(inode))))
    }

    /// Returns what a file stands for that is none.
    fn disguise_of(&self, object: Object<'_, T>) -> Result<Option<Kind>, Errno> {
        let value = self.value(object)?;
        Ok(value
            .and_then(|value| value.disguised)
            .map(|(kind, _)| kind))
    }

    /// Returns what the attribute of a new object says, as the kernel would decide it: a directory with the set-group-id bit
    /// hands down its group.
    fn new_value(&self, dir: &T::Dir, how: &Creation, kind: Kind) -> Result<Value, Errno> {
        let parent = self.attr(Object::Dir(dir))?;
        let inherits = parent.perm & SET_GROUP_ID != 0;
        let asked = how.perm & !(how.umask & 0o777);
        let perm = match kind {
            Kind::Symlink => 0o777,
            Kind::Dir => asked & 0o1777 | if inherits { SET_GROUP_ID } else { 0 },
            _ => asked & 0o7777,
        };
        let gid = how.owner.map(|Identity { gid, .. }| gid);
        Ok(Value {
            uid: how.owner.map(|Identity { uid, .. }| uid),
            gid: if inherits { Some(parent.gid) } else { gid },
            perm,
            disguised: None,
        })
    }

    /// Gives a new object its attribute.
    fn settle_new(&self, object: Object<'_, T>, value: &Value) -> Result<(), Errno> {
        let inode = self.inner.attr(object)?;
        self.put(object, &inode, value)
    }

    /// Makes a file that has its attribute when it gets its name, where that can be done.
    fn new_file(&self, dir: &T::Dir, name: &Name, value: &Value) -> Result<T::File, Errno> {
        if let Ok(file) = self.new_unnamed(dir, value) {
            match self.inner.link_file(&file, dir, name) {
                Ok(()) => return Ok(file),
                Err(Errno::EXIST) => return Err(Errno::EXIST),
                // Whatever it is, making the file the other way works or has the right errno.
                Err(_) => {}
            }
        }
        let file = self.inner.create_file(dir, name, &OPEN)?;
        let settled = self.settle_new(Object::File(&file), value);
        or_undo(settled, || self.inner.remove_file(dir, name))?;
        Ok(file)
    }

    fn new_unnamed(&self, dir: &T::Dir, value: &Value) -> Result<T::File, Errno> {
        let file = self.inner.unnamed_file(dir, &OPEN)?;
        self.settle_new(Object::File(&file), value)?;
        Ok(file)
    }

    /// Changes an object that has no place for the attribute.
    fn set_bare(&self, object: Object<'_, T>, kind: Kind, changes: &Changes) -> Result<(), Errno> {
        if kind != Kind::Symlink {
            return self.inner.set_attr(object, changes);
        }
        let ours = Changes {
            uid: None,
            gid: None,
            ..*changes
        };
        self.inner.set_attr(object, &ours)
    }
}

/// Takes a new object away again that could not get its attribute. Failing at that leaves what a crash would leave.
fn or_undo(
    settled: Result<(), Errno>,
    undo: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    settled.or_else(|errno| undo().and(Err(errno)).or(Err(errno)))
}

/// Returns the same object for the tree inside.
fn inside<'a, T: Tree>(object: Object<'a, OverrideStat<T>>) -> Object<'a, T> {
    match object {
        Object::Dir(dir) => Object::Dir(dir),
        Object::Entry(dir, name) => Object::Entry(dir, name),
        Object::File(file) => Object::File(file),
    }
}

/// Returns whether an attribute is one of those that say owner and permissions, whichever is in use.
fn is_record(name: &[u8]) -> bool {
    let all = [Record::User, Record::Privileged];
    let mut names = all.iter().flat_map(|record| record.names());
    names.any(|record| record.as_bytes() == name)
}

fn without_set_id(perm: u32) -> u32 {
    let is_program = perm & GROUP_EXECUTE != 0;
    perm & !(SET_USER_ID | if is_program { SET_GROUP_ID } else { 0 })
}

/// What opening or cutting says that is for regular files.
fn no_file(kind: Kind) -> Errno {
    match kind {
        Kind::Symlink => Errno::LOOP,
        Kind::Dir => Errno::ISDIR,
        Kind::Fifo => Errno::INVAL,
        Kind::File | Kind::CharDevice | Kind::BlockDevice | Kind::Socket => Errno::NXIO,
    }
}

impl<T: Tree> Tree for OverrideStat<T> {
    type Dir = T::Dir;
    type File = T::File;

    fn root(&self) -> Result<T::Dir, Errno> {
        self.inner.root()
    }

    fn path_of(&self, dir: &T::Dir) -> Option<Vec<u8>> {
        self.inner.path_of(dir)
    }

    fn open_dir(&self, dir: &T::Dir, name: &Name) -> Result<T::Dir, Errno> {
        self.inner.open_dir(dir, name)
    }

    /// The directory itself does not know what its files stand for: each is asked.
    fn list(&self, dir: &T::Dir) -> Result<Vec<DirEntry>, Errno> {
        let mut entries = self.inner.list(dir)?;
        for entry in &mut entries {
            if entry.kind != Some(Kind::File) {
                continue;
            }
            entry.kind = match self.disguise_of(Object::Entry(dir, &entry.name)) {
                Ok(disguise) => disguise.or(entry.kind),
                // Gone meanwhile, as far as anybody can tell: whoever looks at it will see.
                Err(_) => None,
            };
        }
        Ok(entries)
    }

    fn attr(&self, object: Object<'_, Self>) -> Result<Attr, Errno> {
        let object = inside(object);
        let inode = self.inner.attr(object)?;
        Ok(self.shown(object, inode)?.1)
    }

    fn set_attr(&self, object: Object<'_, Self>, changes: &Changes) -> Result<(), Errno> {
        let object = inside(object);
        let of_inode = Changes {
            atime: changes.atime,
            mtime: changes.mtime,
            ..Changes::default()
        };
        if *changes == of_inode {
            return self.inner.set_attr(object, changes);
        }
        let inode = self.inner.attr(object)?;
        if !self.record.stands_on(inode.kind) {
            return self.set_bare(object, inode.kind, changes);
        }
        let (disguised, mut attr) = self.shown(object, inode)?;
        if attr.kind != inode.kind && changes.size.is_some() {
            return Err(no_file(attr.kind));
        }
        // To the kernel the highest number means "no change", which is not what was asked.
        if changes.uid == Some(u32::MAX) || changes.gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        if attr.kind == Kind::Symlink && changes.perm.is_some() {
            return Err(Errno::OPNOTSUPP);
        }
        let new_owner = changes.uid.is_some() || changes.gid.is_some();
        let is_file = attr.kind == Kind::File;
        if changes.drop_set_id && is_file && attr.perm != without_set_id(attr.perm) {
            // On its own and first: contents must not change while the bits are there.
            attr.perm = without_set_id(attr.perm);
            self.put(object, &inode, &Value::of(&attr, disguised))?;
        }
        let contents = Changes {
            size: changes.size,
            // File capabilities, which are where they always are, go as well.
            drop_set_id: changes.drop_set_id || (new_owner && is_file),
            ..Changes::default()
        };
        if !contents.is_empty() {
            self.inner.set_attr(object, &contents)?;
        }
        if new_owner || changes.perm.is_some() {
            attr.uid = changes.uid.unwrap_or(attr.uid);
            attr.gid = changes.gid.unwrap_or(attr.gid);
            if new_owner && attr.kind != Kind::Dir {
                attr.perm = without_set_id(attr.perm);
            }
            attr.perm = changes.perm.map_or(attr.perm, |perm| perm & 0o7777);
            self.put(object, &inode, &Value::of(&attr, disguised))?;
        }
        if of_inode.is_empty() {
            return Ok(());
        }
        self.inner.set_attr(object, &of_inode)
    }

    fn read_link(&self, dir: &T::Dir, name: &Name) -> Result<Vec<u8>, Errno> {
        let errno = match self.inner.read_link(dir, name) {
            Err(Errno::INVAL) => Errno::INVAL,
            read => return read,
        };
        // A file that stands for a link has the target inside.
        let object = Object::Entry(dir, name);
        let inode = self.inner.attr(object)?;
        if inode.kind != Kind::File || self.disguise_of(object)? != Some(Kind::Symlink) {
            return Err(errno);
        }
        let file = self.inner.open_file(dir, name, Access::Read)?;
        let mut target = vec![0; usize::try_from(inode.size.min(4095)).unwrap_or(0)];
        let length = self.inner.read(&file, &mut target, 0)?;
        target.truncate(length);
        Ok(target)
    }

    fn create_file(&self, dir: &T::Dir, name: &Name, how: &Creation) -> Result<T::File, Errno> {
        let value = self.new_value(dir, how, Kind::File)?;
        self.new_file(dir, name, &value)
    }

    fn unnamed_file(&self, dir: &T::Dir, how: &Creation) -> Result<T::File, Errno> {
        let value = self.new_value(dir, how, Kind::File)?;
        self.new_unnamed(dir, &value)
    }

    fn make_dir(&self, dir: &T::Dir, name: &Name, how: &Creation) -> Result<(), Errno> {
        let value = self.new_value(dir, how, Kind::Dir)?;
        self.inner.make_dir(dir, name, &OPEN)?;
        let settled = self.settle_new(Object::Entry(dir, name), &value);
        or_undo(settled, || self.inner.remove_dir(dir, name))
    }

    fn make_node(
        &self,
        dir: &T::Dir,
        name: &Name,
        node: Node,
        how: &Creation,
    ) -> Result<(), Errno> {
        let disguised = self.record.disguise(node);
        if node == Node::CharDevice(0) || (node == Node::File && how.owner.is_none()) {
            let own = Creation {
                owner: None,
                ..*how
            };
            return self.inner.make_node(dir, name, node, &own);
        }
        let value = Value {
            disguised,
            ..self.new_value(dir, how, Kind::File)?
        };
        if node == Node::File || disguised.is_some() {
            return self.new_file(dir, name, &value).map(drop);
        }
        self.inner.make_node(dir, name, node, &OPEN)?;
        let settled = self.settle_new(Object::Entry(dir, name), &value);
        or_undo(settled, || self.inner.remove_file(dir, name))
    }

    fn make_symlink(
        &self,
        dir: &T::Dir,
        name: &Name,
        target: &[u8],
        how: &Creation,
    ) -> Result<(), Errno> {
        self.inner.make_symlink(dir, name, target, &OPEN)?;
        if !self.record.stands_on(Kind::Symlink) {
            return Ok(());
        }
        let settled = self
            .new_value(dir, how, Kind::Symlink)
            .and_then(|value| self.settle_new(Object::Entry(dir, name), &value));
        or_undo(settled, || self.inner.remove_file(dir, name))
    }

    fn link(&self, dir: &T::Dir, name: &Name, to: &T::Dir, new: &Name) -> Result<(), Errno> {
        self.inner.link(dir, name, to, new)
    }

    fn link_file(&self, file: &T::File, to: &T::Dir, new: &Name) -> Result<(), Errno> {
        self.inner.link_file(file, to, new)
    }

    fn remove_file(&self, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
        self.inner.remove_file(dir, name)
    }

    fn remove_dir(&self, dir: &T::Dir, name: &Name) -> Result<(), Errno> {
        self.inner.remove_dir(dir, name)
    }

    fn rename(
        &self,
        dir: &T::Dir,
        name: &Name,
        to: &T::Dir,
        new: &Name,
        how: RenameHow,
    ) -> Result<(), Errno> {
        self.inner.rename(dir, name, to, new, how)
    }

    fn xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<Vec<u8>, Errno> {
        if is_record(name) {
            return Err(Errno::NODATA);
        }
        if name.starts_with(ACL_PREFIX) {
            return Err(Errno::OPNOTSUPP);
        }
        self.inner.xattr(inside(object), name)
    }

    fn xattr_names(&self, object: Object<'_, Self>) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = self.inner.xattr_names(inside(object))?;
        names.retain(|name| !is_record(name) && !name.starts_with(ACL_PREFIX));
        Ok(names)
    }

    fn set_xattr(
        &self,
        object: Object<'_, Self>,
        name: &[u8],
        value: &[u8],
        how: XattrHow,
    ) -> Result<(), Errno> {
        refuse_private(name)?;
        self.inner.set_xattr(inside(object), name, value, how)
    }

    fn remove_xattr(&self, object: Object<'_, Self>, name: &[u8]) -> Result<(), Errno> {
        refuse_private(name)?;
        self.inner.remove_xattr(inside(object), name)
    }

    fn open_file(&self, dir: &T::Dir, name: &Name, access: Access) -> Result<T::File, Errno> {
        let file = self.inner.open_file(dir, name, access)?;
        match self.disguise_of(Object::File(&file))? {
            Some(kind) => Err(no_file(kind)),
            None => Ok(file),
        }
    }

    fn may_stay_open(&self, file: &T::File) -> bool {
        self.inner.may_stay_open(file)
    }

    fn read(&self, file: &T::File, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.inner.read(file, buffer, offset)
    }

    fn write(&self, file: &T::File, buffer: &[u8], offset: u64) -> Result<usize, Errno> {
        self.inner.write(file, buffer, offset)
    }

    fn allocate(&self, file: &T::File, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        self.inner.allocate(file, mode, offset, length)
    }

    fn seek(&self, file: &T::File, offset: u64, what: Seek) -> Result<u64, Errno> {
        self.inner.seek(file, offset, what)
    }

    fn copy_range(
        &self,
        from: &T::File,
        from_offset: u64,
        to: &T::File,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        self.inner
            .copy_range(from, from_offset, to, to_offset, length)
    }

    fn copy_data(&self, from: &T::File, to: &T::File, length: u64) -> Result<(), Errno> {
        self.inner.copy_data(from, to, length)
    }

    fn sync_file(&self, file: &T::File, how: SyncHow) -> Result<(), Errno> {
        self.inner.sync_file(file, how)
    }

    fn sync_dir(&self, dir: &T::Dir) -> Result<(), Errno> {
        self.inner.sync_dir(dir)
    }

    fn sync_all(&self, dir: &T::Dir) -> Result<(), Errno> {
        self.inner.sync_all(dir)
    }

    fn stat_fs(&self, dir: &T::Dir) -> Result<StatFs, Errno> {
        self.inner.stat_fs(dir)
    }
}

fn refuse_private(name: &[u8]) -> Result<(), Errno> {
    if is_record(name) {
        Err(Errno::PERM)
    } else if name.starts_with(ACL_PREFIX) {
        Err(Errno::OPNOTSUPP)
    } else {
        Ok(())
    }
}
