//! New names: files, directories, nodes, symbolic links, and files without a name.
//!
//! A new entry takes the place of a whiteout: it is made first and the whiteout goes afterwards, so that a
//! lower entry never shows in between. A directory that takes a whiteout's place is opaque
//! before it can be seen.

use std::sync::Arc;

use parking_lot::MutexGuard;
use rules::lookup::{Resolution, Sighting, has_whiteout, resolve};
use rules::{Attr, BranchIndex, Creation, Name};
use tree::{Node, Object, RenameHow, Tree};

use crate::api::{Caller, Entry, InodeId, OpenFlags, Opened};
use crate::branch::BranchDir;
use crate::error::{Refusal, Result};
use crate::inode::{Data, Inode, NewBody};
use crate::open_file::OpenFile;
use crate::placement::{NewEntry, is_full};
use crate::union::Union;

/// The place for a new entry, which stays free while this is held.
pub(crate) struct Site<'a, T: Tree> {
    pub(crate) target: Arc<BranchDir<T>>,
    pub(crate) handle: Arc<T::Dir>,
    /// Whether the branch has a whiteout of the name.
    pub(crate) hidden: bool,
    _change: MutexGuard<'a, ()>,
}

impl<T: Tree> Union<T> {
    /// Makes a directory. `EEXIST`, `EROFS`, `EPERM` for a reserved name.
    pub fn make_dir(
        &self,
        caller: &Caller,
        parent: InodeId,
        name: &[u8],
        perm: u32,
    ) -> Result<Entry> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let how = creation(caller, perm);
        let (site, ()) = self.make_at(&parent, &name, true, |site| {
            self.make_dir_at(site, &name, &how)
        })?;
        let Site { target, .. } = &site;
        let attr = self.settle_new(&parent, &name, &site)?;
        let body = NewBody::Dir(vec![target.child(name.clone())]);
        let (inode, entry) = self.introduce(&parent, &name, attr, body);
        if self.trusts_branches() {
            // There is nothing in it, unless somebody was faster, who has read it then.
            let mut state = inode.dir()?.state.write();
            state.index.get_or_insert_default();
        }
        Ok(entry)
    }

    fn make_dir_at(&self, site: &Site<'_, T>, name: &Name, how: &Creation) -> Result<()> {
        let Site {
            target,
            handle,
            hidden,
            ..
        } = site;
        if !*hidden && !self.settings().always_opaque {
            return Ok(target.tree().make_dir(handle, name, how)?);
        }
        let mut build = self.begin(target, name);
        target.tree().make_dir(handle, &build.temporary, how)?;
        build.made = true;
        let made = target.tree().open_dir(handle, &build.temporary)?;
        self.dialect
            .mark_opaque(&self.root_of(target.index()), &made)?;
        let how = RenameHow::NoReplace;
        target
            .tree()
            .rename(handle, &build.temporary, handle, name, how)?;
        build.made = false;
        Ok(())
    }

    /// Makes a device, pipe, socket or empty file.
    pub fn make_node(
        &self,
        caller: &Caller,
        parent: InodeId,
        name: &[u8],
        node: Node,
        perm: u32,
    ) -> Result<Entry> {
        let how = creation(caller, perm);
        let make = |tree: &T, dir: &T::Dir, name: &Name| Ok(tree.make_node(dir, name, node, &how)?);
        self.make_other(parent, name, make)
            .map(|(_, entry, ())| entry)
    }

    /// Makes a symbolic link.
    pub fn make_symlink(
        &self,
        caller: &Caller,
        parent: InodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Entry> {
        let how = creation(caller, 0o777);
        let make =
            |tree: &T, dir: &T::Dir, name: &Name| Ok(tree.make_symlink(dir, name, target, &how)?);
        self.make_other(parent, name, make)
            .map(|(_, entry, ())| entry)
    }

    /// Makes a regular file and opens it, or opens the one that is there unless `exclusive` (then `EEXIST`).
    #[expect(
        clippy::too_many_arguments,
        reason = "what open(2) takes, and who asks"
    )]
    pub fn create(
        &self,
        caller: &Caller,
        parent: InodeId,
        name: &[u8],
        perm: u32,
        exclusive: bool,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened<T>)> {
        let how = creation(caller, perm);
        let make = |tree: &T, dir: &T::Dir, name: &Name| Ok(tree.create_file(dir, name, &how)?);
        match self.make_other(parent, name, make) {
            Ok((inode, entry, file)) => Ok((entry, self.opened_new(&inode, file)?)),
            Err(error) if !exclusive && error == Refusal::Exists.into() => {
                let entry = self.lookup(parent, name)?.ok_or(Refusal::NotFound)?;
                match self.open(entry.id, flags) {
                    Ok(opened) => Ok((entry, opened)),
                    Err(error) => {
                        self.forget(entry.id, 1);
                        Err(error)
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a regular file without a name (`O_TMPFILE`) and opens it.
    pub fn unnamed_file(
        &self,
        caller: &Caller,
        parent: InodeId,
        perm: u32,
    ) -> Result<(Entry, Opened<T>)> {
        let parent = self.directory(parent)?;
        let how = creation(caller, perm);
        let ((branch, target), file) = self.with_space(&parent, &[], false, |branch| {
            let target = self.directory_on(&parent, branch)?;
            let file = target.tree().unnamed_file(&*target.open()?, &how)?;
            Ok(((branch, target), file))
        })?;
        let mut attr = target.tree().attr(Object::File(&file))?;
        let body = NewBody::Other {
            branch,
            place: None,
            pseudo_linked: false,
        };
        let inode = self.inodes.fresh(&attr, body);
        attr.ino = inode.number;
        let opened = self.opened_new(&inode, file)?;
        Ok((Entry { id: inode.id, attr }, opened))
    }

    fn opened_new(&self, inode: &Arc<Inode<T>>, file: T::File) -> Result<Opened<T>> {
        let file = OpenFile::new(file);
        let settled = self.writers_bypass();
        let mut state = inode.other()?.state.write();
        state.opens += 1;
        state.bypassed |= settled;
        state.written = true;
        state.without_capabilities = true;
        state.data = Some(Data {
            file: Arc::clone(&file),
            writable: true,
        });
        Ok(Opened {
            settled: settled.then_some(file),
            lent: false,
            keep_cache: false,
            reads_matter: false,
        })
    }

    fn make_other<R>(
        &self,
        parent: InodeId,
        name: &[u8],
        make: impl Fn(&T, &T::Dir, &Name) -> Result<R>,
    ) -> Result<(Arc<Inode<T>>, Entry, R)> {
        let (parent, name) = (self.directory(parent)?, self.dialect.check(name)?);
        let (site, made) = self.make_at(&parent, &name, false, |site| {
            make(site.target.tree(), &site.handle, &name)
        })?;
        let attr = self.settle_new(&parent, &name, &site)?;
        let place = Some((Arc::clone(&site.target), name.clone()));
        let body = NewBody::Other {
            branch: site.target.index(),
            place,
            pseudo_linked: false,
        };
        let (inode, entry) = self.introduce(&parent, &name, attr, body);
        Ok((inode, entry, made))
    }

    /// Makes something new where it belongs: on the branch that the policy chooses, whose directory is made there where needed.
    /// The name stays free until then.
    fn make_at<'a, R>(
        &self,
        parent: &'a Arc<Inode<T>>,
        name: &Name,
        is_dir: bool,
        make: impl Fn(&Site<'a, T>) -> Result<R>,
    ) -> Result<(Site<'a, T>, R)> {
        let sightings = self.sightings(parent, name)?;
        refuse_taken(resolve(&sightings))?;
        self.with_space(parent, &sightings, is_dir, |branch| {
            let site = self.site_on(parent, name, branch)?;
            let made = make(&site)?;
            Ok((site, made))
        })
    }

    /// Makes something new on the branch that the policy chooses; on another one when that fails, and, with `moveonenospc`,
    /// when it is full.
    fn with_space<R>(
        &self,
        parent: &Arc<Inode<T>>,
        sightings: &[Sighting],
        is_dir: bool,
        make: impl Fn(BranchIndex) -> Result<R>,
    ) -> Result<R> {
        let new = NewEntry::new(self, parent, sightings, is_dir);
        let mut full = Vec::new();
        let mut branch = new.branch(&full)?;
        loop {
            match make(branch) {
                Err(error) if is_full(&error) && self.settings().move_when_full => {
                    full.push(branch);
                    branch = new.branch(&full).or(Err(error))?;
                    tracing::debug!(full = ?full, branch = branch.0, "made on a branch with more space");
                }
                Err(error)
                    if !self.is_failing(branch)
                        && self.goes_on_without(&self.root_of(branch), &error) =>
                {
                    branch = new.branch(&full).or(Err(error))?;
                }
                done => return done,
            }
        }
    }

    /// Makes the directory on a branch where needed, and keeps a name in it free.
    pub(crate) fn site_on<'a>(
        &self,
        parent: &'a Arc<Inode<T>>,
        name: &Name,
        branch: BranchIndex,
    ) -> Result<Site<'a, T>> {
        let target = self.directory_on(parent, branch)?;
        let change = parent.dir()?.change.lock();
        let sightings = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()))?;
        refuse_taken(resolve(&sightings))?;
        let handle = target.open()?;
        let hidden = has_whiteout(&sightings, branch);
        if hidden {
            self.dialect
                .make_room(&self.root_of(branch), &handle, name)?;
        }
        Ok(Site {
            target,
            handle,
            hidden,
            _change: change,
        })
    }

    /// Takes the whiteout away under which a new entry stands, and notes the entry.
    pub(crate) fn settle_new(
        &self,
        parent: &Arc<Inode<T>>,
        name: &Name,
        site: &Site<'_, T>,
    ) -> Result<Attr> {
        let tree = site.target.tree();
        if site.hidden
            && let Err(error) = self.dialect.remove_beside(tree, &site.handle, name)
        {
            // The entry shows all the same; the next mount takes the whiteout away.
            tracing::warn!(%name, %error, "a whiteout stays beside a new entry");
        }
        let attr = tree.attr(Object::Entry(&*site.handle, name))?;
        self.note_entry(parent, site.target.index(), name, &attr)?;
        self.show_change(parent, site.target.index());
        Ok(attr)
    }

    fn introduce(
        &self,
        parent: &Arc<Inode<T>>,
        name: &Name,
        mut attr: Attr,
        body: NewBody<T>,
    ) -> (Arc<Inode<T>>, Entry) {
        let inode = self.inodes.fresh(&attr, body);
        self.inodes.add_name(&inode, parent, name);
        attr.ino = inode.number;
        self.tell(&inode, &attr);
        let entry = Entry { id: inode.id, attr };
        (inode, entry)
    }
}

fn creation(caller: &Caller, perm: u32) -> Creation {
    Creation {
        perm,
        umask: caller.umask,
        owner: Some(caller.owner),
    }
}

/// Refuses a name that means something already.
pub(crate) fn refuse_taken(resolution: Resolution) -> Result<()> {
    match resolution {
        Resolution::Absent => Ok(()),
        Resolution::Damaged => Err(Refusal::Damaged.into()),
        Resolution::File(_) | Resolution::Dir(_) => Err(Refusal::Exists.into()),
    }
}
