//! Changes that somebody makes directly in a branch, heard of while they happen (`udba=notify`).
//!
//! What was read from a directory that is watched stays right until a change of it is told. Each change is compared with
//! what is known: the union's own changes agree with it, and nothing follows. Whatever differs is
//! taken over and told to the observer, so that no cache above the union keeps the old.
//!
//! Membership of directories is looked at again when it is needed: a change that concerns it moves the union's
//! *generation* on, and a directory that was checked in an earlier one is checked before it answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::lookup::{Resolution, Seen};
use rules::whiteout::{Meaning, meaning};
use rules::{Attr, BranchIndex, Errno, Kind, Name};
use tree::Tree;

use crate::api::{BranchId, DirectChange, InodeId};
use crate::branch::BranchDir;
use crate::error::Result;
use crate::index::{Index, Shown};
use crate::inode::{Inode, Key};
use crate::members::is_same;
use crate::told::Told;
use crate::union::Union;

/// What one branch has under a name, with kind and inode number of an entry.
struct Look {
    what: Option<Seen>,
    attr: Option<Attr>,
}

impl<T: Tree> Union<T> {
    /// Notes that somebody changed a directory of a branch: this union, or anybody else.
    pub fn branch_changed(&self, id: InodeId, branch: BranchId, change: DirectChange<'_>) {
        let _passage = self.pass();
        let Some(branch) = self.index_of(branch) else {
            // It is not in the stack any more.
            return;
        };
        let Ok(inode) = self.directory(id) else {
            self.unwatch(id);
            return;
        };
        let done = match change {
            DirectChange::Name(name) => match meaning(name) {
                Meaning::Entry => match Name::new(name) {
                    Ok(name) => self.name_changed(&inode, branch, &name),
                    Err(_) => Ok(()),
                },
                Meaning::Whiteout(name) => self.name_changed(&inode, branch, &name),
                Meaning::Opaque => self.opacity_changed(&inode, branch),
                Meaning::Temporary(_) | Meaning::Origin | Meaning::Own => Ok(()),
            },
            DirectChange::Attributes if self.dialect.honours_all() => {
                self.opacity_changed(&inode, branch)
            }
            DirectChange::Attributes => Ok(()),
            DirectChange::Lost => self.changes_lost(&inode),
        };
        if let Err(error) = done {
            tracing::debug!(inode = id.0, branch = branch.0, %error, "a directory is read again");
            self.contents_differ(&inode);
        }
        if let Err(error) = self.compare_attributes(&inode) {
            tracing::trace!(inode = id.0, %error, "attributes are not known");
        }
    }

    /// Keeps the index that was read anew, and tells what is different in it.
    pub(crate) fn renew(&self, inode: &Arc<Inode<T>>, index: Index) -> Result<()> {
        let directory = inode.dir()?;
        self.count_index(&index);
        let differences = {
            let mut state = directory.state.write();
            let old = state.index.replace(index);
            match (&old, &state.index) {
                (Some(old), Some(new)) if self.watches() => old.differences(new),
                _ => return Ok(()),
            }
        };
        if differences.is_empty() {
            return Ok(());
        }
        directory.state.write().links_below = None;
        self.next_generation();
        self.contents_differ(inode);
        if let Some(observer) = self.observer() {
            for name in &differences {
                observer.entry_changed(inode.id, name);
            }
        }
        Ok(())
    }

    fn name_changed(&self, inode: &Arc<Inode<T>>, branch: BranchIndex, name: &Name) -> Result<()> {
        let directory = inode.dir()?;
        let change = directory.change.lock();
        let member = {
            let state = directory.state.read();
            if state.removed {
                return Ok(());
            }
            match (&state.index, state.member(branch)) {
                (Some(index), Some(member)) if !index.is_stale() => Arc::clone(member),
                _ => {
                    drop(state);
                    self.entry_differs(inode, name);
                    // What was known before is compared with what is there.
                    return self.with_index_locked(inode, |_| ());
                }
            }
        };
        let now = self.look_at(&member, name)?;
        let (before, after, with_dirs, known) = {
            let mut state = directory.state.write();
            if state
                .members
                .first()
                .is_some_and(|top| top.index() != branch)
            {
                state.links_below = None;
            }
            let Some(index) = &mut state.index else {
                return Ok(());
            };
            let entry = now.attr.as_ref().map(|attr| (attr.kind, attr.ino));
            let before = index.shown(name);
            let known = index.seen_on(branch, name);
            if index.agrees(branch, name, now.what, entry) {
                drop(state);
                drop(change);
                if now.what == Some(Seen::Dir) && before.resolution != Resolution::Dir(branch) {
                    self.compare_member(inode, &member, name, &before)?;
                }
                return self.compare_named(inode, name);
            }
            let had_dir = index.has_dir(name);
            index.see(branch, name, now.what, entry);
            let with_dirs = had_dir || index.has_dir(name);
            let after = index.shown(name);
            (before, after, with_dirs, known)
        };
        tracing::debug!(inode = inode.id.0, branch = branch.0, %name, "changed directly");
        let alone = before.is_absent() && !now.what.is_some_and(|what| what == Seen::Whiteout);
        if with_dirs && !alone {
            self.next_generation();
        }
        let after = self.completed(inode, name, after)?;
        self.merge_above(branch, &before, &now);
        if known == Some(Seen::Dir)
            && let Some(child) = self.dir_shown(&before)
        {
            // What was merged there may show up under another name.
            self.inodes.part_keys(&child);
        }
        self.file_left(inode, &member, name, &before)?;
        drop(change);
        if before != after || with_dirs {
            self.entry_differs(inode, name);
        }
        if with_dirs {
            self.child_differs(&after)?;
        }
        self.compare_named(inode, name)
    }

    /// Looks at one name as reading the whole directory would.
    fn look_at(&self, member: &Arc<BranchDir<T>>, name: &Name) -> Result<Look> {
        let (handle, tree, powers) = (member.open()?, member.tree(), member.powers());
        let attr = tree.look(&handle, name)?;
        let native = attr.is_some_and(|attr| {
            self.dialect.honours_all() && attr.kind == Kind::CharDevice && attr.rdev == 0
        });
        let attr = attr.filter(|_| !native);
        let mark = match tree.look(&handle, &rules::whiteout::of(name)) {
            Err(Errno::NAMETOOLONG) => None,
            mark => mark?,
        };
        let mark = match mark {
            Some(mark) if mark.kind == Kind::File => Some(Seen::Whiteout),
            Some(_) => Some(Seen::Damaged),
            None => native.then_some(Seen::Whiteout),
        };
        let mark = mark.filter(|_| powers.whiteouts);
        let entry = attr.map(|attr| match attr.kind {
            Kind::Dir => Seen::Dir,
            _ => Seen::File,
        });
        // Of a pair, see `read_member`.
        Ok(match (entry, mark) {
            (Some(_), Some(what)) if !powers.writable => Look {
                what: Some(what),
                attr: None,
            },
            (Some(what), _) => Look {
                what: Some(what),
                attr,
            },
            (None, what) => Look { what, attr: None },
        })
    }

    /// Looks at what shows now if nobody knew what it was, because it was hidden.
    fn completed(&self, inode: &Arc<Inode<T>>, name: &Name, shown: Shown) -> Result<Shown> {
        let Some(branch) = shown.resolution.branch().filter(|_| shown.ino == 0) else {
            return Ok(shown);
        };
        if let Some(attr) = self.attr_on(inode, branch, name)?
            && let Some(index) = &mut inode.dir()?.state.write().index
        {
            index.put(branch, name, attr.kind, attr.ino);
            return Ok(index.shown(name));
        }
        Ok(shown)
    }

    /// Tells when a directory that is merged below another one was replaced.
    fn compare_member(
        &self,
        parent: &Arc<Inode<T>>,
        member: &Arc<BranchDir<T>>,
        name: &Name,
        shown: &Shown,
    ) -> Result<()> {
        let Some(child) = self.dir_shown(shown) else {
            return Ok(());
        };
        let merged = child.dir()?.state.read().member(member.index()).cloned();
        if merged.is_some_and(|merged| !is_same(&merged, &member.child(name.clone()))) {
            self.next_generation();
            self.inodes.part_keys(&child);
            self.entry_differs(parent, name);
            self.child_differs(shown)?;
        }
        Ok(())
    }

    /// Keeps a directory the same when another one is put on top of it.
    fn merge_above(&self, branch: BranchIndex, before: &Shown, now: &Look) {
        let (Resolution::Dir(below), Some(attr)) = (before.resolution, &now.attr) else {
            return;
        };
        let known = self.inodes.known_as(self.key_on(below, before.ino));
        if attr.kind == Kind::Dir
            && branch < below
            && let Some(known) = known
            && self.inodes.known(attr).is_none()
        {
            self.inodes.add_key(&known, attr);
        }
    }

    /// Notes that a file is not any more where it was.
    fn file_left(
        &self,
        parent: &Arc<Inode<T>>,
        member: &Arc<BranchDir<T>>,
        name: &Name,
        before: &Shown,
    ) -> Result<()> {
        let Some(inode) = self.file_shown(before) else {
            return Ok(());
        };
        let other = inode.other()?;
        let was_here = {
            let state = other.state.read();
            let place = state.place.as_ref();
            place.is_some_and(|(dir, at)| Arc::ptr_eq(dir, member) && at == name)
        };
        if !was_here {
            return Ok(());
        }
        self.inodes.remove_name(&inode, parent, name);
        let next = self.other_place(&inode, (parent, name))?;
        let mut state = other.state.write();
        state.place = next;
        state.pages_stale = true;
        Ok(())
    }

    fn opacity_changed(&self, inode: &Arc<Inode<T>>, branch: BranchIndex) -> Result<()> {
        let (member, goes_on) = {
            let state = inode.dir()?.state.read();
            if state.removed {
                return Ok(());
            }
            let goes_on = state
                .members
                .last()
                .is_some_and(|last| last.index() > branch);
            (state.member(branch).cloned(), goes_on)
        };
        let Some(member) = member else {
            return Ok(());
        };
        if self.dialect.is_opaque(&member)? != goes_on {
            let last = self.roots().len() == branch.get() + 1;
            if goes_on || last {
                return Ok(());
            }
        }
        let before = inode.dir()?.state.read().members.clone();
        self.next_generation();
        self.recheck(inode)?;
        let same = {
            let state = inode.dir()?.state.read();
            state.members.len() == before.len()
        };
        if same {
            return Ok(());
        }
        if let Some((parent, name)) = inode.name() {
            self.entry_differs(&parent, &name);
        }
        self.contents_differ(inode);
        self.with_index(inode, |_| ())
    }

    /// Reads a directory again about which something was not told.
    fn changes_lost(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        self.next_generation();
        {
            let mut state = inode.dir()?.state.write();
            if state.removed {
                return Ok(());
            }
            state.links_below = None;
            state.forget_index();
        }
        self.contents_differ(inode);
        let files = self.with_index(inode, |index| index.files())?;
        files
            .iter()
            .try_for_each(|name| self.compare_named(inode, name))
    }

    /// Tells when the file under a name is not as the front end was told.
    fn compare_named(&self, inode: &Arc<Inode<T>>, name: &Name) -> Result<()> {
        let shown = {
            let state = inode.dir()?.state.read();
            state.index.as_ref().map(|index| index.shown(name))
        };
        match shown.and_then(|shown| self.file_shown(&shown)) {
            Some(file) => self.compare_attributes(&file),
            None => Ok(()),
        }
    }

    /// Tells when an object is not as the front end was told.
    fn compare_attributes(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        let Some(told) = *inode.told.lock() else {
            return Ok(());
        };
        let now = Told::of(&self.attr_of_quietly(inode)?);
        if now == told {
            return Ok(());
        }
        *inode.told.lock() = Some(now);
        let Some(observer) = self.observer() else {
            return Ok(());
        };
        if self.contents_changed_by_others(inode, &told, &now) {
            observer.contents_changed(inode.id);
        } else {
            observer.attributes_changed(inode.id);
        }
        Ok(())
    }

    fn child_differs(&self, shown: &Shown) -> Result<()> {
        let Some(child) = self.dir_shown(shown) else {
            return Ok(());
        };
        self.contents_differ(&child);
        self.recheck(&child)?;
        if child.dir()?.state.read().is_heard() {
            // Somebody knows names in it: they are told what became of them.
            self.with_index(&child, |_| ())?;
        }
        Ok(())
    }

    fn dir_shown(&self, shown: &Shown) -> Option<Arc<Inode<T>>> {
        let Resolution::Dir(branch) = shown.resolution else {
            return None;
        };
        let known = self.inodes.known_as(self.key_on(branch, shown.ino));
        known.filter(|inode| inode.dir().is_ok())
    }

    fn file_shown(&self, shown: &Shown) -> Option<Arc<Inode<T>>> {
        let Resolution::File(branch) = shown.resolution else {
            return None;
        };
        let key = self.canonical_key(self.key_on(branch, shown.ino));
        self.inodes
            .known_as(key)
            .filter(|inode| inode.other().is_ok())
    }

    fn key_on(&self, branch: BranchIndex, ino: u64) -> Key {
        let dev = self.root_of(branch).branch.dev;
        Key { dev, ino }
    }

    fn entry_differs(&self, parent: &Inode<T>, name: &Name) {
        if let Some(observer) = self.observer() {
            observer.entry_changed(parent.id, name);
            observer.contents_changed(parent.id);
        }
    }

    pub(crate) fn contents_differ(&self, inode: &Inode<T>) {
        if let Some(observer) = self.observer() {
            observer.contents_changed(inode.id);
        }
    }

    pub(crate) fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn unwatch(&self, id: InodeId) {
        if let Some(watcher) = self.watcher() {
            watcher.unwatch(id);
        }
    }
}
