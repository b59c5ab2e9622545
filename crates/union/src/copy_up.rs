//! Bringing objects to a branch where they can change.
//!
//! A copy is built under a temporary name, made durable, and renamed into place: at every instant
//! the union shows the original or the whole copy. Nothing is locked while data is copied but the
//! object itself, so that nobody copies it twice.

use std::sync::Arc;

use rules::lookup::resolve;

use rules::{Attr, BranchIndex, Changes, Creation, Errno, Kind, Name, placement, whiteout};
use tree::{Object, RenameHow, Tree, XattrHow};

use crate::branch::BranchDir;
use crate::copy::{Copied, fill_attributes};
use crate::error::{Error, Refusal, Result};
use crate::inode::{Data, Inode, Key, Other};
use crate::open_file::OpenFile;
use crate::placement::is_full;
use crate::union::Union;

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
        if inode
            .name()
            .is_some_and(|(_, name)| whiteout::is_reserved(name.as_bytes()))
        {
            return Err(Refusal::Reserved.into());
        }
        if other.state.read().place.is_none() || inode.name().is_none() {
            self.copy_nameless(inode, other, copied)?;
            return Ok(true);
        }
        let mut full: Vec<BranchIndex> = Vec::new();
        loop {
            let (parent, name) = inode.name().ok_or(Refusal::Gone)?;
            let mut branch = self.copy_up_branch(inode, &parent)?;
            if full.contains(&branch) {
                let source = other.state.read().branch;
                let next = self.roomier_above(source, &parent, &full);
                branch = next.ok_or(Errno::NOSPC)?;
            }
            let published = self
                .directory_on(&parent, branch)
                .and_then(|target| self.publish_copy(inode, &parent, &name, &target, copied, true));
            match published {
                Ok(true) => return Ok(true),
                // It got another name meanwhile: look again.
                Ok(false) => {}
                Err(error) if is_full(&error) && self.settings().move_when_full => {
                    full.push(branch);
                }
                Err(error) => return Err(error),
            }
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
        // It may be where it can change already.
        let _quiet = other.changing.write();
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
        let copied = Copied::default();
        let original = self.original(inode.kind, &from, &from_name, &copied)?;
        let mut build =
            self.build_copy(None, target, name, &from, &from_name, &original, copied)?;
        let handle = target.open()?;
        let tree = target.tree();
        let copy = tree.attr(Object::Entry(&*handle, &build.temporary))?;
        self.keep_together(inode, &original.attr, target, &build.temporary, &copy)?;
        build.place(name)?;
        self.arrived(inode, target, name, build.data.take());
        inode.other()?.state.write().pseudo_linked = true;
        Ok(tree.attr(Object::Entry(&*handle, name))?)
    }

    /// Returns whether an object is where it can change.
    fn is_settled(&self, other: &Other<T>) -> bool {
        let state = other.state.read();
        match (&state.place, &state.data) {
            _ if state.migrating => false,
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
        placement::copy_up(self.settings().copy_up, source, &members, |b| {
            self.can_hold(parent, b)
        })
        .ok_or_else(|| Refusal::ReadOnly.into())
    }

    /// Builds the copy and publishes it, unless the name stopped meaning this object; then `false`.
    #[expect(
        clippy::too_many_arguments,
        reason = "what, where, under which name, and how"
    )]
    pub(crate) fn publish_copy(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        target: &Arc<BranchDir<T>>,
        mut copied: Copied,
        may_wait: bool,
    ) -> Result<bool> {
        let (from, from_name) = self.place_of(inode)?;
        let original = self.original(inode.kind, &from, &from_name, &copied)?;
        let attr = &original.attr;
        let alone = attr.nlink == 1;
        let waits = may_wait && alone && self.may_publish_later(attr.size);
        copied.publish_later = waits;
        // What gets further names gets them under a temporary one.
        copied.nameless =
            inode.kind == Kind::File && alone && !waits && target.branch.has_nameless();
        let lock = Some(&**parent);
        let built = self.build_copy(lock, target, name, &from, &from_name, &original, copied);
        let mut build = match built {
            Err(error) if copied.nameless && lacks_nameless(&error) => {
                target.branch.note_no_nameless();
                copied.nameless = false;
                self.build_copy(lock, target, name, &from, &from_name, &original, copied)?
            }
            built => built?,
        };
        inode.other()?.state.write().without_capabilities = !build.capable;
        if waits {
            let temporary = build.temporary.clone();
            self.arrived(inode, target, &temporary, build.data.take());
            build.keep();
            self.publish_later(inode, parent, name)?;
            return Ok(true);
        }
        let change = parent.dir()?.change.lock();
        if inode
            .name()
            .is_none_or(|(p, n)| !Arc::ptr_eq(&p, parent) || n != *name)
        {
            return Ok(false);
        }
        let shown = self.with_index_locked(parent, |index| {
            resolve(&index.sightings(name.as_bytes())).branch()
        })?;
        if shown.is_none_or(|shown| shown < from.index()) {
            // Something else has the name now, which a copy must not replace.
            return Err(Refusal::Gone.into());
        }
        let copy = build.copy.ok_or(Refusal::Gone)?;
        if !alone && self.settings().pseudo_links {
            self.keep_together(inode, attr, target, &build.temporary, &copy)?;
            inode.other()?.state.write().pseudo_linked = true;
        }
        self.keeping_time(target, || Ok(build.place(name)?))?;
        if !inode.other()?.state.read().pseudo_linked {
            self.inodes.add_key(inode, &copy);
        }
        self.arrived(inode, target, name, build.data.take());
        self.note_entry(parent, target.index(), name, &copy)?;
        drop(change);
        if !alone {
            if self.settings().pseudo_links {
                self.link_names(inode)?;
            } else {
                self.part_from_other_names(inode, parent, name, attr);
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
    pub(crate) fn arrived(
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
            file: OpenFile::new(file),
            writable: true,
        });
        state.data = if state.opens > 0 { data } else { None };
        state.name_not_durable = true;
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
        let (top, original) = self.top_with_attr(inode)?;
        let source_dir = top.open()?;
        let tree = above.tree();
        let handle = above.open()?;
        let mut build = self.begin(&above, &name);
        let hidden = self.with_index_locked(&parent, |index| {
            rules::lookup::has_whiteout(&index.sightings(name.as_bytes()), branch)
        })?;
        let downwards = branch > top.index();
        let attr = self.keeping_time(&above, || {
            tree.make_dir(&handle, &build.temporary, &Creation::exact(0o700))?;
            build.made = true;
            let copy = Object::Entry(&*handle, &build.temporary);
            let made = tree.attr(copy)?;
            if downwards {
                copy_access(top.tree(), Object::Dir(&*source_dir), &original, tree, copy)?;
            } else {
                let ignored = above.powers().ignored_xattrs;
                let source = Object::Dir(&*source_dir);
                fill_attributes(
                    (top.tree(), source, &original),
                    (tree, copy, &made),
                    ignored,
                )?;
            }
            if hidden {
                let made = tree.open_dir(&handle, &build.temporary)?;
                self.dialect.mark_opaque(&self.root_of(branch), &made)?;
                self.dialect
                    .make_room(&self.root_of(branch), &handle, &name)?;
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
            Ok(made)
        })?;
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
        self.note_entry_as(parent, branch, name, (attr.kind, attr.ino))
    }

    /// As `note_entry`, of what has this kind and inode number.
    pub(crate) fn note_entry_as(
        &self,
        parent: &Arc<Inode<T>>,
        branch: BranchIndex,
        name: &Name,
        (kind, ino): (Kind, u64),
    ) -> Result<()> {
        let mut state = parent.dir()?.state.write();
        if let Some(index) = &mut state.index {
            index.put(branch, name, kind, ino);
        }
        if kind == Kind::Dir {
            state.links_changed(branch);
        }
        drop(state);
        self.touched(parent, branch);
        Ok(())
    }
}

/// Returns whether this is how a filesystem says that it has no files without names.
fn lacks_nameless(error: &Error) -> bool {
    matches!(
        error,
        Error::Branch(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL)
    )
}

/// Copies what access to a directory and to what is made in it depends on: owner, permissions and ACLs. Below what shows,
/// nothing else matters.
fn copy_access<T: Tree>(
    from_tree: &T,
    from: Object<'_, T>,
    original: &Attr,
    to_tree: &T,
    to: Object<'_, T>,
) -> Result<()> {
    let owner = Changes {
        uid: Some(original.uid),
        gid: Some(original.gid),
        ..Changes::default()
    };
    to_tree.set_attr(to, &owner)?;
    for list in ACLS {
        let set = match from_tree.xattr(from, list) {
            Ok(value) => to_tree.set_xattr(to, list, &value, XattrHow::Set),
            // Not even one that the directory above hands down.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => to_tree.remove_xattr(to, list),
            Err(errno) => Err(errno),
        };
        match set {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let perm = Changes {
        perm: Some(original.perm),
        ..Changes::default()
    };
    Ok(to_tree.set_attr(to, &perm)?)
}

const ACLS: [&[u8]; 2] = [b"system.posix_acl_default", b"system.posix_acl_access"];
