//! Building copies under temporary names.
//!
//! What is built goes away again unless it is renamed into place; what a crash leaves is removed when its
//! directory is read next.

use std::sync::Arc;

use rules::whiteout::Purpose;
use rules::{
    Attr, BranchIndex, Changes, Creation, Errno, Identity, Kind, Name, SetTime, XattrClasses,
};
use tree::{Access, Node, Object, RenameHow, SyncHow, Tree, XattrHow};

use crate::branch::BranchDir;
use crate::dialect::overlay;
use crate::error::{Refusal, Result};
use crate::inode::{Data, Inode, Other};
use crate::open_file::OpenFile;
use crate::union::Union;
use crate::xattr::CAPABILITY;

/// How a copy differs from its original from the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Copied {
    /// Changes that the copy carries when it appears; a size among them spares copying what is cut off.
    pub(crate) changes: Changes,
    /// The copy is made durable when it is published, later.
    pub(crate) publish_later: bool,
    /// The copy has no name until it is published: of a regular file only.
    pub(crate) nameless: bool,
}

/// What is copied.
pub(crate) struct Original<T: Tree> {
    pub(crate) attr: Attr,
    /// A regular file, open for reading.
    pub(crate) file: Option<T::File>,
}

impl<T: Tree> Union<T> {
    /// Returns an object that is about to be copied: a regular file is opened first, which tells its attributes as well.
    pub(crate) fn original(
        &self,
        kind: Kind,
        from: &Arc<BranchDir<T>>,
        name: &Name,
        copied: &Copied,
    ) -> Result<Original<T>> {
        let (tree, dir) = (from.tree(), from.open()?);
        if kind != Kind::File || copied.changes.size == Some(0) {
            let attr = tree.attr(Object::Entry(&*dir, name))?;
            return Ok(Original { attr, file: None });
        }
        let (file, attr) = tree.open_known(&dir, name, Access::ReadQuietly)?;
        let file = Some(file);
        Ok(Original { attr, file })
    }

    /// Builds a copy under a temporary name in `target`, or without one. `lock` is the union's directory, unless the caller holds
    /// its `change`.
    #[expect(clippy::too_many_arguments, reason = "whence, whither and how")]
    pub(crate) fn build_copy(
        &self,
        lock: Option<&Inode<T>>,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        from: &Arc<BranchDir<T>>,
        from_name: &Name,
        original: &Original<T>,
        copied: Copied,
    ) -> Result<Build<'_, T>> {
        let Original {
            attr: original,
            file,
        } = original;
        let source_dir = from.open()?;
        let handle = target.open()?;
        let tree = target.tree();
        let mut build = self.begin(target, name);
        let temporary = build.temporary.clone();
        let link = match original.kind {
            Kind::Symlink => from.tree().read_link(&source_dir, from_name)?,
            _ => Vec::new(),
        };
        if copied.nameless {
            // Nobody can open what has no name: it may have its permissions from the start.
            let how = Creation::exact(original.perm & 0o777);
            build.data = Some(tree.unnamed_file(&handle, &how)?);
        } else {
            let change = match lock {
                Some(parent) => Some(parent.dir()?.change.lock()),
                None => None,
            };
            build.data = self.keeping_time(target, || {
                Ok(make_empty(tree, &handle, &temporary, original, &link)?)
            })?;
            build.made = true;
            drop(change);
        }
        let copy = match &build.data {
            Some(file) => Object::File(file),
            None => Object::Entry(&*handle, &temporary),
        };
        let made = tree.attr(copy)?;
        let length = copied
            .changes
            .size
            .map_or(original.size, |size| size.min(original.size));
        if let (Some(to), Some(from)) = (&build.data, file)
            && length > 0
        {
            tree.copy_data(from, to, length)?;
        }
        let source = match file {
            Some(file) => Object::File(file),
            None => Object::Entry(&*source_dir, from_name),
        };
        let ignored = target.powers().ignored_xattrs;
        let filled = fill_attributes(
            (from.tree(), source, original),
            (tree, copy, &made),
            ignored,
        )?;
        if !copied.changes.is_empty() {
            tree.set_attr(copy, &copied.changes)?;
        }
        if let Some(file) = &build.data
            && self.settings().durable
            && !copied.publish_later
        {
            // Its name may reach the disk before the data does: a torn file would hide the whole one.
            tree.sync_file(file, SyncHow::All)?;
        }
        build.copy = Some(made);
        build.capable = filled.capable;
        Ok(build)
    }

    /// Copies an open object whose last name is gone, so that it can change.
    pub(crate) fn copy_nameless(
        &self,
        inode: &Arc<Inode<T>>,
        other: &Other<T>,
        copied: Copied,
    ) -> Result<()> {
        let data = self.open_data(inode, other, Access::ReadQuietly)?;
        let source = Object::File(&**data.file);
        let tree = self.tree();
        let original = tree.attr(source)?;
        let branch = other.state.read().branch;
        let above = (0..=branch.0)
            .rev()
            .map(BranchIndex)
            .find(|b| self.writable(*b));
        let root = self.root_of(above.ok_or(Refusal::ReadOnly)?);
        let file = self.nameless_file(&root)?;
        let length = copied
            .changes
            .size
            .map_or(original.size, |size| size.min(original.size));
        root.tree().copy_data(&data.file, &file, length)?;
        let (copy, ignored) = (Object::File(&file), root.powers().ignored_xattrs);
        copy_attributes(&*tree, source, &original, root.tree(), copy, ignored)?;
        root.tree().set_attr(Object::File(&file), &copied.changes)?;
        let mut state = other.state.write();
        state.branch = root.index();
        state.place = None;
        state.data = Some(Data {
            file: OpenFile::new(file),
            writable: true,
        });
        if let Some(last) = &mut state.last {
            last.nlink = 0;
        }
        drop(state);
        tracing::debug!(inode = inode.id.0, "copied an open file without a name");
        Ok(())
    }

    /// Makes a file that has no name, or none for long where the filesystem knows no such files.
    fn nameless_file(&self, root: &Arc<BranchDir<T>>) -> Result<T::File> {
        let (handle, tree, private) = (root.open()?, root.tree(), Creation::exact(0o600));
        match tree.unnamed_file(&handle, &private) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
            made => return Ok(made?),
        }
        let orphan = Name::new(b"orphan").map_err(|_| Refusal::Invalid)?;
        let mut build = self.begin(root, &orphan);
        let file = tree.create_file(&handle, &build.temporary, &private)?;
        build.made = true;
        Ok(file)
    }

    /// Reserves a temporary name in a directory of a branch.
    pub(crate) fn begin<'a>(&'a self, dir: &Arc<BranchDir<T>>, of: &Name) -> Build<'a, T> {
        let temporary = self.dialect.temporary(of, Purpose::Building);
        self.in_progress.lock().insert(temporary.clone());
        Build {
            union: self,
            dir: Arc::clone(dir),
            temporary,
            made: false,
            kept: false,
            data: None,
            copy: None,
            capable: true,
        }
    }
}

/// Copies owner, extended attributes, permissions and times. Attributes of the `ignored` classes are left out where the copy
/// cannot have them.
pub(crate) fn copy_attributes<T: Tree>(
    from_tree: &T,
    from: Object<'_, T>,
    original: &Attr,
    to_tree: &T,
    to: Object<'_, T>,
    ignored: XattrClasses,
) -> std::result::Result<(), Errno> {
    let copy = to_tree.attr(to)?;
    fill_attributes((from_tree, from, original), (to_tree, to, &copy), ignored).map(drop)
}

/// As `copy_attributes`, to something of which is known what it was made as.
pub(crate) fn fill_attributes<T: Tree>(
    (from_tree, from, original): (&T, Object<'_, T>, &Attr),
    (to_tree, to, copy): (&T, Object<'_, T>, &Attr),
    ignored: XattrClasses,
) -> std::result::Result<Filled, Errno> {
    let (owner, made_for) = (owner(original), owner(copy));
    if made_for != owner {
        let changes = Changes {
            uid: Some(owner.uid),
            gid: Some(owner.gid),
            ..Changes::default()
        };
        to_tree.set_attr(to, &changes)?;
    }
    let inherited = to_tree.xattr_names(to)?;
    let names = from_tree.xattr_names(from)?;
    for name in inherited.iter().filter(|name| !names.contains(name)) {
        // A default ACL of the directory that the original does not have.
        match to_tree.remove_xattr(to, name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    for name in names.iter().filter(|name| !overlay::is_private(name)) {
        let value = match from_tree.xattr(from, name) {
            Err(Errno::NODATA) => continue,
            value => value?,
        };
        match to_tree.set_xattr(to, name, &value, XattrHow::Set) {
            Err(errno) if ignored.excuses(name, errno) => {
                let name = String::from_utf8_lossy(name);
                tracing::debug!(%name, ?errno, "an attribute stays behind");
            }
            set => set?,
        }
    }
    // An ACL changes permissions, and a new owner takes set-id bits away.
    let as_made = made_for == owner && copy.perm == original.perm;
    let keeps_perm = as_made && inherited.is_empty() && names.is_empty();
    let symlink = original.kind == Kind::Symlink;
    let times = Changes {
        perm: (!symlink && !keeps_perm).then_some(original.perm),
        atime: Some(SetTime::To(original.atime)),
        mtime: Some(SetTime::To(original.mtime)),
        ..Changes::default()
    };
    to_tree.set_attr(to, &times)?;
    let capable = names.iter().any(|name| name == CAPABILITY);
    Ok(Filled { capable })
}

fn owner(attr: &Attr) -> Identity {
    Identity {
        uid: attr.uid,
        gid: attr.gid,
    }
}

/// Makes what is to become a copy, without contents and for us alone; returns a regular file open.
pub(crate) fn make_empty<T: Tree>(
    tree: &T,
    dir: &T::Dir,
    name: &Name,
    original: &Attr,
    link: &[u8],
) -> std::result::Result<Option<T::File>, Errno> {
    let private = Creation {
        perm: 0o600,
        umask: 0,
        owner: None,
    };
    let node = match original.kind {
        Kind::File => return tree.create_file(dir, name, &private).map(Some),
        Kind::Symlink => {
            tree.make_symlink(dir, name, link, &private)?;
            return Ok(None);
        }
        Kind::CharDevice => Node::CharDevice(original.rdev),
        Kind::BlockDevice => Node::BlockDevice(original.rdev),
        Kind::Fifo => Node::Fifo,
        _ => Node::Socket,
    };
    tree.make_node(dir, name, node, &private)?;
    Ok(None)
}

/// Something under a temporary name, which goes away again unless it was renamed into place.
pub(crate) struct Build<'a, T: Tree> {
    union: &'a Union<T>,
    dir: Arc<BranchDir<T>>,
    pub(crate) temporary: Name,
    /// Whether there may be something to take away.
    pub(crate) made: bool,
    kept: bool,
    pub(crate) data: Option<T::File>,
    /// What the copy is on its branch. Its times and permissions are those of an empty file.
    pub(crate) copy: Option<Attr>,
    /// Whether the copy may have capabilities.
    pub(crate) capable: bool,
}

/// What the attributes of an original have shown.
pub(crate) struct Filled {
    /// It has capabilities.
    capable: bool,
}

impl<T: Tree> Build<'_, T> {
    /// Gives it its name, in place of whatever has that.
    pub(crate) fn place(&mut self, name: &Name) -> std::result::Result<(), Errno> {
        let (handle, tree) = (self.dir.open()?, self.dir.tree());
        if let Some(file) = self.data.as_ref().filter(|_| !self.made) {
            match tree.link_file(file, &handle, name) {
                Err(Errno::EXIST) => tree.link_file(file, &handle, &self.temporary)?,
                placed => return placed,
            }
            self.made = true;
        }
        tree.rename(&handle, &self.temporary, &handle, name, RenameHow::Replace)?;
        self.made = false;
        Ok(())
    }

    /// Leaves it under its temporary name, which stays reserved.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl<T: Tree> Drop for Build<'_, T> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if self.made
            && let Err(error) = self.union.scrap(&self.dir, &self.temporary)
        {
            let name = &self.temporary;
            tracing::debug!(%name, %error, "a temporary name stays until the next mount");
        }
        self.union.in_progress.lock().remove(&self.temporary);
    }
}
