//! Bringing objects to a branch where they can change.
//!
//! A copy is built under a temporary name, made durable, and renamed into place: at every instant
//! the union shows the original or the whole copy. Nothing is locked while data is copied but the
//! object itself, so that nobody copies it twice.

use std::sync::Arc;

use rules::lookup::{Seen, Sighting};
use rules::whiteout::Purpose;
use rules::{
    Attr, BranchIndex, Changes, Creation, Errno, Identity, Kind, Name, SetTime, placement,
};
use tree::{Access, Node, Object, RenameHow, SyncHow, Tree, XattrHow};

use crate::branch::BranchDir;
use crate::dialect::overlay;
use crate::error::{Refusal, Result};
use crate::inode::{Data, Inode, Key, Other};
use crate::union::Union;

/// How a copy differs from its original from the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Copied {
    /// Changes that the copy carries when it appears; a size among them spares copying what is cut off.
    pub(crate) changes: Changes,
    /// The copy is made durable when it is published, later.
    pub(crate) publish_later: bool,
}

impl<T: Tree> Union<T> {
    /// Makes sure that an object which is no directory is on a writable branch; `EROFS` when there is none for it.
    pub(crate) fn copy_up(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        self.copy_up_changed(inode, Copied::default()).map(drop)
    }

    /// As `copy_up`; returns whether a copy was made, which has the changes already.
    pub(crate) fn copy_up_changed(&self, inode: &Arc<Inode<T>>, copied: Copied) -> Result<bool> {
        let other = inode.other()?;
        if self.is_settled(other) {
            self.link_names(inode)?;
            return Ok(false);
        }
        let moving = other.moving.lock();
        if self.is_settled(other) {
            drop(moving);
            self.link_names(inode)?;
            return Ok(false);
        }
        if other.state.read().place.is_none() || inode.name().is_none() {
            self.copy_nameless(inode, other, copied)?;
            return Ok(true);
        }
        loop {
            let (parent, name) = inode.name().ok_or(Refusal::Gone)?;
            let branch = self.copy_up_branch(inode, &parent)?;
            let target = self.directory_on(&parent, branch)?;
            if self.publish_copy(inode, &parent, &name, &target, copied, true)? {
                return Ok(true);
            }
            // It got another name meanwhile: look again.
        }
    }

    /// Makes sure that an object is on a branch under the name that was used last.
    pub(crate) fn copy_up_to(&self, inode: &Arc<Inode<T>>, branch: BranchIndex) -> Result<()> {
        let other = inode.other()?;
        let moving = other.moving.lock();
        let here = other.state.read().branch == branch;
        if here {
            drop(moving);
            return self.link_names(inode);
        }
        let (parent, name) = inode.name().ok_or(Refusal::Gone)?;
        let target = self.directory_on(&parent, branch)?;
        if self.publish_copy(inode, &parent, &name, &target, Copied::default(), false)? {
            Ok(())
        } else {
            Err(Refusal::NotFound.into())
        }
    }

    /// Copies an object that is not on a writable branch to `target` under a new name there, instead of under its
    /// own. The caller holds `moving` of the object, and `change` of the directory `parent`.
    pub(crate) fn copy_as(
        &self,
        inode: &Arc<Inode<T>>,
        target: &Arc<BranchDir<T>>,
        name: &Name,
    ) -> Result<Attr> {
        let (from, from_name) = self.place_of(inode)?;
        let original = from
            .tree()
            .attr(Object::Entry(&*from.open()?, &from_name))?;
        let mut build = self.build_copy(
            target,
            name,
            &from,
            &from_name,
            &original,
            Copied::default(),
        )?;
        let handle = target.open()?;
        let tree = target.tree();
        let copy = tree.attr(Object::Entry(&*handle, &build.temporary))?;
        self.keep_together(inode, &original, target, &build.temporary, &copy)?;
        tree.rename(&handle, &build.temporary, &handle, name, RenameHow::Replace)?;
        build.made = false;
        self.arrived(inode, target, name, build.data.take());
        inode.other()?.state.write().pseudo_linked = true;
        Ok(tree.attr(Object::Entry(&*handle, name))?)
    }

    /// Returns whether an object is where it can change.
    fn is_settled(&self, other: &Other<T>) -> bool {
        let state = other.state.read();
        match (&state.place, &state.data) {
            (Some(_), _) => self.writable(state.branch),
            (None, Some(data)) => data.writable,
            (None, None) => true,
        }
    }

    /// Chooses the branch for a copy of an object.
    pub(crate) fn copy_up_branch(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
    ) -> Result<BranchIndex> {
        let source = match inode.other() {
            Ok(other) => other.state.read().branch,
            Err(_) => self.top_of(inode)?.index(),
        };
        self.branch_for(source, parent)
    }

    /// Chooses the branch that takes a change to something on `source` in a directory.
    pub(crate) fn branch_for(
        &self,
        source: BranchIndex,
        parent: &Arc<Inode<T>>,
    ) -> Result<BranchIndex> {
        let members = parent.dir()?.state.read().branches();
        placement::copy_up(self.settings.copy_up, source, &members, |b| {
            self.can_hold(parent, b)
        })
        .ok_or_else(|| Refusal::ReadOnly.into())
    }

    /// Returns whether a branch can have a directory and show what is new in it: the branch is writable, nothing else has
    /// the name there of the directory or of one that holds it, and no opaque directory or whiteout above hides it.
    pub(crate) fn can_hold(&self, inode: &Arc<Inode<T>>, branch: BranchIndex) -> bool {
        if !self.writable(branch) {
            return false;
        }
        let mut inode = Arc::clone(inode);
        loop {
            let Ok(directory) = inode.dir() else {
                return false;
            };
            let members = directory.state.read().members.clone();
            if members.iter().any(|member| member.index() == branch) {
                return true;
            }
            let mut above = members.iter().filter(|member| member.index() < branch);
            if above.any(|member| self.dialect.is_opaque(member).unwrap_or(true)) {
                return false;
            }
            let Some((parent, name)) = inode.name() else {
                return true;
            };
            let Ok(sightings) = self.sightings(&parent, &name) else {
                return false;
            };
            let in_the_way = |s: &Sighting| match s.what {
                Seen::File | Seen::Damaged => s.branch == branch,
                Seen::Whiteout => s.branch < branch,
                Seen::Dir => false,
            };
            if sightings.iter().any(in_the_way) {
                return false;
            }
            inode = parent;
        }
    }

    /// Builds the copy and publishes it, unless the name stopped meaning this object; then `false`.
    fn publish_copy(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        target: &Arc<BranchDir<T>>,
        mut copied: Copied,
        may_wait: bool,
    ) -> Result<bool> {
        let (from, from_name) = self.place_of(inode)?;
        let original = from
            .tree()
            .attr(Object::Entry(&*from.open()?, &from_name))?;
        let waits = may_wait && original.nlink == 1 && self.may_publish_later(original.size);
        copied.publish_later = waits;
        let mut build = self.build_copy(target, name, &from, &from_name, &original, copied)?;
        if waits {
            let temporary = build.temporary.clone();
            self.arrived(inode, target, &temporary, build.data.take());
            build.keep();
            if !self.publish_later(inode, parent, name)? {
                self.finish_pending()?;
            }
            return Ok(true);
        }
        let handle = target.open()?;
        let tree = target.tree();
        let change = parent.dir()?.change.lock();
        if inode
            .name()
            .is_none_or(|(p, n)| !Arc::ptr_eq(&p, parent) || n != *name)
        {
            return Ok(false);
        }
        let copy = tree.attr(Object::Entry(&*handle, &build.temporary))?;
        if original.nlink > 1 && self.settings.pseudo_links {
            self.keep_together(inode, &original, target, &build.temporary, &copy)?;
            inode.other()?.state.write().pseudo_linked = true;
        }
        tree.rename(&handle, &build.temporary, &handle, name, RenameHow::Replace)?;
        build.made = false;
        if !inode.other()?.state.read().pseudo_linked {
            self.inodes.add_key(inode, &copy);
        }
        self.arrived(inode, target, name, build.data.take());
        self.note_entry(parent, target.index(), name, &copy)?;
        drop(change);
        if original.nlink > 1 {
            if self.settings.pseudo_links {
                self.link_names(inode)?;
            } else {
                self.part_from_other_names(inode, parent, name, &original);
            }
        }
        Ok(true)
    }

    /// Without pseudo-links a copy stands for one name only: the others mean the original again.
    fn part_from_other_names(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        original: &Attr,
    ) {
        self.inodes.drop_key(inode, Key::of(original));
        let others = {
            let mut others = inode.names.lock().clone();
            self.inodes.keep_name(inode, parent, name);
            others.retain(|(p, n)| !(Arc::ptr_eq(p, parent) && n == name));
            others
        };
        if let Some(observer) = self.observer() {
            for (parent, name) in &others {
                observer.entry_changed(parent.id, name);
            }
        }
    }

    /// Notes that an object is on another branch now.
    fn arrived(
        &self,
        inode: &Arc<Inode<T>>,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        data: Option<T::File>,
    ) {
        let Ok(other) = inode.other() else { return };
        let mut state = other.state.write();
        state.branch = target.index();
        state.place = Some((Arc::clone(target), name.clone()));
        let data = data.map(|file| Data {
            file: Arc::new(file),
            writable: true,
        });
        state.data = if state.opens > 0 { data } else { None };
        state.name_not_durable = true;
    }

    fn build_copy(
        &self,
        target: &Arc<BranchDir<T>>,
        name: &Name,
        from: &Arc<BranchDir<T>>,
        from_name: &Name,
        original: &Attr,
        copied: Copied,
    ) -> Result<Build<'_, T>> {
        let source_dir = from.open()?;
        let handle = target.open()?;
        let tree = target.tree();
        let mut build = self.begin(target, name);
        let temporary = build.temporary.clone();
        let private = Creation {
            perm: 0o600,
            umask: 0,
            owner: None,
        };
        match original.kind {
            Kind::File => {
                let file = tree.create_file(&handle, &temporary, &private)?;
                build.made = true;
                let length = copied
                    .changes
                    .size
                    .map_or(original.size, |size| size.min(original.size));
                if length > 0 {
                    let source =
                        from.tree()
                            .open_file(&source_dir, from_name, Access::ReadQuietly)?;
                    tree.copy_data(&source, &file, length)?;
                }
                build.data = Some(file);
            }
            Kind::Symlink => {
                let link = from.tree().read_link(&source_dir, from_name)?;
                tree.make_symlink(&handle, &temporary, &link, &private)?;
            }
            kind => {
                let node = match kind {
                    Kind::CharDevice => Node::CharDevice(original.rdev),
                    Kind::BlockDevice => Node::BlockDevice(original.rdev),
                    Kind::Fifo => Node::Fifo,
                    _ => Node::Socket,
                };
                tree.make_node(&handle, &temporary, node, &private)?;
            }
        }
        build.made = true;
        let (source, copy) = (
            Object::Entry(&*source_dir, from_name),
            Object::Entry(&*handle, &temporary),
        );
        self.copy_attributes(from.tree(), source, original, tree, copy)?;
        if !copied.changes.is_empty() {
            tree.set_attr(copy, &copied.changes)?;
        }
        if let Some(file) = &build.data
            && self.settings.durable
            && !copied.publish_later
        {
            // A rename may reach the disk before the data does: a torn file would hide the whole one.
            tree.sync_file(file, SyncHow::All)?;
        }
        Ok(build)
    }

    /// Copies an open object whose last name is gone, so that it can change.
    fn copy_nameless(&self, inode: &Arc<Inode<T>>, other: &Other<T>, copied: Copied) -> Result<()> {
        let data = self.open_data(inode, other, Access::ReadQuietly)?;
        let source = Object::File(&*data.file);
        let tree = self.roots[0].tree();
        let original = tree.attr(source)?;
        let branch = other.state.read().branch;
        let above = (0..=branch.0)
            .rev()
            .map(BranchIndex)
            .find(|b| self.writable(*b));
        let root = self.root_of(above.ok_or(Refusal::ReadOnly)?);
        let file = self.nameless_file(root)?;
        let length = copied
            .changes
            .size
            .map_or(original.size, |size| size.min(original.size));
        root.tree().copy_data(&data.file, &file, length)?;
        self.copy_attributes(tree, source, &original, root.tree(), Object::File(&file))?;
        root.tree().set_attr(Object::File(&file), &copied.changes)?;
        let mut state = other.state.write();
        state.branch = root.index();
        state.place = None;
        state.data = Some(Data {
            file: Arc::new(file),
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

    /// Returns a directory of the union on a branch, made with its parents where it is missing.
    pub(crate) fn directory_on(
        &self,
        inode: &Arc<Inode<T>>,
        branch: BranchIndex,
    ) -> Result<Arc<BranchDir<T>>> {
        if let Some(member) = inode.dir()?.state.read().member(branch) {
            return Ok(Arc::clone(member));
        }
        let (parent, name) = inode.name().ok_or(Refusal::NotFound)?;
        let above = self.directory_on(&parent, branch)?;
        let change = parent.dir()?.change.lock();
        if let Some(member) = inode.dir()?.state.read().member(branch) {
            return Ok(Arc::clone(member));
        }
        if inode.dir()?.state.read().removed {
            return Err(Refusal::NotFound.into());
        }
        let top = self.top_of(inode)?;
        let source_dir = top.open()?;
        let original = top.tree().attr(Object::Dir(&*source_dir))?;
        let tree = above.tree();
        let handle = above.open()?;
        let mut build = self.begin(&above, &name);
        tree.make_dir(&handle, &build.temporary, &Creation::exact(0o700))?;
        build.made = true;
        let copy = Object::Entry(&*handle, &build.temporary);
        let downwards = branch > top.index();
        if downwards {
            // Below what shows, only what access depends on matters.
            let owner = Changes {
                uid: Some(original.uid),
                gid: Some(original.gid),
                ..Changes::default()
            };
            tree.set_attr(
                copy,
                &Changes {
                    perm: Some(original.perm),
                    ..owner
                },
            )?;
        } else {
            self.copy_attributes(top.tree(), Object::Dir(&*source_dir), &original, tree, copy)?;
        }
        let hidden = self.with_index_locked(&parent, |index| {
            rules::lookup::has_whiteout(&index.sightings(name.as_bytes()), branch)
        })?;
        if hidden {
            let made = tree.open_dir(&handle, &build.temporary)?;
            self.dialect.mark_opaque(self.root_of(branch), &made)?;
            self.dialect
                .make_room(self.root_of(branch), &handle, &name)?;
        }
        tree.rename(
            &handle,
            &build.temporary,
            &handle,
            &name,
            RenameHow::Replace,
        )?;
        build.made = false;
        if hidden {
            self.dialect.remove_beside(tree, &handle, &name)?;
        }
        let attr = tree.attr(Object::Entry(&*handle, &name))?;
        if !downwards {
            self.inodes.add_key(inode, &attr);
        }
        let member = above.child(name.clone());
        inode.dir()?.state.write().add_member(Arc::clone(&member));
        self.note_entry(&parent, branch, &name, &attr)?;
        self.touched(inode, branch);
        drop(change);
        Ok(member)
    }

    /// Notes that a branch has an entry in a directory whose `change` the caller holds.
    pub(crate) fn note_entry(
        &self,
        parent: &Arc<Inode<T>>,
        branch: BranchIndex,
        name: &Name,
        attr: &Attr,
    ) -> Result<()> {
        if let Some(index) = &mut parent.dir()?.state.write().index {
            index.put(branch, name, attr.kind, attr.ino);
        }
        self.touched(parent, branch);
        Ok(())
    }

    /// Copies owner, extended attributes, permissions and times.
    fn copy_attributes(
        &self,
        from_tree: &T,
        from: Object<'_, T>,
        original: &Attr,
        to_tree: &T,
        to: Object<'_, T>,
    ) -> Result<()> {
        let copy = to_tree.attr(to)?;
        let owner = Identity {
            uid: original.uid,
            gid: original.gid,
        };
        if (Identity {
            uid: copy.uid,
            gid: copy.gid,
        }) != owner
        {
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
                Err(errno) => return Err(errno.into()),
            }
        }
        for name in names.iter().filter(|name| !overlay::is_private(name)) {
            let value = match from_tree.xattr(from, name) {
                Err(Errno::NODATA) => continue,
                value => value?,
            };
            to_tree.set_xattr(to, name, &value, XattrHow::Set)?;
        }
        let symlink = original.kind == Kind::Symlink;
        let times = Changes {
            perm: (!symlink).then_some(original.perm),
            atime: Some(SetTime::To(original.atime)),
            mtime: Some(SetTime::To(original.mtime)),
            ..Changes::default()
        };
        Ok(to_tree.set_attr(to, &times)?)
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
        }
    }
}

/// Something under a temporary name, which goes away again unless it was renamed into place.
pub(crate) struct Build<'a, T: Tree> {
    union: &'a Union<T>,
    dir: Arc<BranchDir<T>>,
    pub(crate) temporary: Name,
    /// Whether there may be something to take away.
    pub(crate) made: bool,
    kept: bool,
    data: Option<T::File>,
}

impl<T: Tree> Build<'_, T> {
    /// Leaves it under its temporary name, which stays reserved.
    fn keep(mut self) {
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
