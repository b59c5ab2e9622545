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

use rules::lookup::{Resolution, Seen, Sighting, dirs, resolve};
use rules::whiteout::{Meaning, meaning};
use rules::{Attr, BranchIndex, Errno, Kind, Name, Time};
use tree::{Object, Tree};

use crate::api::{DirectChange, InodeId};
use crate::branch::BranchDir;
use crate::error::Result;
use crate::index::{Index, Shown};
use crate::inode::{Inode, Key};
use crate::union::{Union, merged};

/// Attributes that the front end was told last, as far as they tell a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    size: u64,
    mtime: Time,
    ctime: Time,
    perm: u32,
    owner: (u32, u32),
    nlink: u32,
}

impl Told {
    fn of(attr: &Attr) -> Self {
        Self {
            size: attr.size,
            mtime: attr.mtime,
            ctime: attr.ctime,
            perm: attr.perm,
            owner: (attr.uid, attr.gid),
            nlink: attr.nlink,
        }
    }

    fn same_contents(&self, other: &Self) -> bool {
        (self.size, self.mtime) == (other.size, other.mtime)
    }
}

/// A directory of the union, a name in it, and what was seen under that.
pub(crate) type Place<'a, T> = (&'a Arc<Inode<T>>, &'a Name, &'a [Sighting]);

/// What one branch has under a name, with kind and inode number of an entry.
struct Look {
    what: Option<Seen>,
    attr: Option<Attr>,
}

impl<T: Tree> Union<T> {
    /// Notes that somebody changed a directory of a branch: this union, or anybody else.
    pub fn branch_changed(&self, id: InodeId, branch: BranchIndex, change: DirectChange<'_>) {
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
                Meaning::Temporary(_) | Meaning::Own => Ok(()),
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

    /// Returns whether changes of what is cached about an object will be heard of: its attributes, and for a
    /// directory the names in it. Always, unless the branches are watched and this part of them is not.
    pub fn hears(&self, id: InodeId) -> bool {
        !self.watches() || self.inodes.get(id).is_ok_and(|inode| self.hears_of(&inode))
    }

    /// Returns whether a change of the names that lead to an object will be heard of.
    pub fn hears_names(&self, id: InodeId) -> bool {
        if !self.watches() {
            return true;
        }
        let Ok(inode) = self.inodes.get(id) else {
            return false;
        };
        let names = inode.names.lock().clone();
        names.iter().all(|(parent, _)| self.hears_of(parent))
    }

    pub(crate) fn hears_of(&self, inode: &Inode<T>) -> bool {
        if !self.watches() {
            return true;
        }
        match inode.dir() {
            Ok(directory) => directory.state.read().is_heard(),
            Err(_) => {
                let names = inode.names.lock().clone();
                let heard = |parent: &Arc<Inode<T>>| {
                    parent.dir().is_ok_and(|dir| dir.state.read().is_heard())
                };
                names.iter().all(|(parent, _)| heard(parent))
            }
        }
    }

    /// Asks for the members of a directory to be watched; returns the branches if all are.
    pub(crate) fn listen(
        &self,
        id: InodeId,
        members: &[Arc<BranchDir<T>>],
    ) -> Result<Option<Vec<BranchIndex>>> {
        let Some(watcher) = self.watcher().filter(|_| self.watches()) else {
            return Ok(None);
        };
        let mut heard = Vec::with_capacity(members.len());
        for member in members {
            if !watcher.watch(id, member.index(), &*member.open()?) {
                return Ok(None);
            }
            heard.push(member.index());
        }
        Ok(Some(heard))
    }

    /// Notes that a directory has a member more, which is to be watched like the others.
    pub(crate) fn listen_to(&self, inode: &Inode<T>, branch: BranchIndex) {
        let Ok(directory) = inode.dir() else { return };
        let member = {
            let state = directory.state.read();
            match &state.index {
                Some(index) if index.hears(branch) == Some(false) => state.member(branch).cloned(),
                _ => return,
            }
        };
        let watched = member.is_some_and(|member| {
            self.listen(inode.id, &[member])
                .is_ok_and(|heard| heard.is_some())
        });
        let mut state = directory.state.write();
        match &mut state.index {
            Some(index) if watched => index.hear(branch),
            _ => state.forget_index(),
        }
    }

    /// Notes what the front end is told about an object.
    pub(crate) fn tell(&self, inode: &Inode<T>, attr: &Attr) {
        if !self.watches() {
            return;
        }
        let now = Told::of(attr);
        let before = inode.told.lock().replace(now);
        // The attributes are on their way; contents would stay as they are cached.
        if before.is_some_and(|before| self.contents_changed_by_others(inode, &before, &now)) {
            self.contents_differ(inode);
        }
    }

    /// As `tell`, after a change through the union.
    pub(crate) fn tell_own(&self, inode: &Inode<T>, attr: &Attr) {
        if self.watches() {
            *inode.told.lock() = Some(Told::of(attr));
        }
    }

    fn contents_changed_by_others(&self, inode: &Inode<T>, before: &Told, now: &Told) -> bool {
        let Ok(other) = inode.other() else {
            return false;
        };
        if before.same_contents(now) {
            return false;
        }
        let mut state = other.state.write();
        // What is written through the union cannot be told from what is written directly.
        let ours = state.written && self.writable(state.branch);
        state.pages_stale |= !ours;
        !ours
    }

    /// Keeps the index that was read anew, and tells what is different in it.
    pub(crate) fn renew(&self, inode: &Arc<Inode<T>>, index: Index) -> Result<()> {
        let directory = inode.dir()?;
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

    /// Makes sure that a directory merges what it should, after a change that may concern it.
    /// The caller holds no lock.
    pub(crate) fn recheck(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        if !self.watches() {
            return Ok(());
        }
        let generation = self.generation.load(Ordering::Acquire);
        {
            let state = inode.dir()?.state.read();
            if state.removed || state.checked == generation {
                return Ok(());
            }
        }
        let Some((parent, name)) = inode.name() else {
            if inode.id == InodeId::ROOT {
                let members = merged(&self.dialect, self.roots.iter().cloned())?;
                self.reconcile(inode, None, members, generation)?;
            }
            return Ok(());
        };
        let sightings = self.sightings(&parent, &name)?;
        let members = self.members_of(inode, &parent, &name, &sightings)?;
        if members.is_empty() {
            let mut state = inode.dir()?.state.write();
            // Should it be found under another name, its caches are told what is different there.
            state.removed = true;
            state.forget_index();
            return Ok(());
        }
        let place = Some((&parent, &name, &sightings[..]));
        self.reconcile(inode, place, members, generation).map(drop)
    }

    /// Lets the directories that one of the union is on the branches part, if one of them is found under another name
    /// than the union gave it: the others may have stayed.
    pub(crate) fn part_moved(&self, attr: &Attr, parent: &Arc<Inode<T>>, name: &Name) {
        if !self.watches() {
            return;
        }
        if let Some(known) = self.inodes.known(attr)
            && let Some((p, n)) = known.name()
            && !(Arc::ptr_eq(&p, parent) && n == *name)
        {
            self.inodes.part_keys(&known);
        }
    }

    /// Returns whether a copy went from above its original by somebody else's doing; they are two from now on.
    pub(crate) fn has_parted(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        branch: BranchIndex,
    ) -> Result<bool> {
        if !self.watches() {
            return Ok(false);
        }
        let change = parent.dir()?.change.lock();
        let still = self.with_index_locked(parent, |index| index.shown(name).resolution)?;
        let parted = {
            let state = inode.other()?.state.read();
            let copied = state.branch != branch && !state.pseudo_linked;
            copied && state.unpublished.is_none() && still == Resolution::File(branch)
        };
        if parted {
            self.inodes.part_keys(inode);
        }
        drop(change);
        Ok(parted)
    }

    /// Returns what a directory merges under its name; nothing if the name does not mean it any more.
    fn members_of(
        &self,
        inode: &Arc<Inode<T>>,
        parent: &Arc<Inode<T>>,
        name: &Name,
        sightings: &[Sighting],
    ) -> Result<Vec<Arc<BranchDir<T>>>> {
        let candidates: Vec<_> = {
            let state = parent.dir()?.state.read();
            let member = |branch| state.member(branch).map(|dir| dir.child(name.clone()));
            dirs(sightings).filter_map(member).collect()
        };
        let (Resolution::Dir(_), Some(top)) = (resolve(sightings), candidates.first()) else {
            return Ok(Vec::new());
        };
        let attr = top.tree().attr(Object::Dir(&*top.open()?))?;
        match self.inodes.known(&attr) {
            Some(known) if Arc::ptr_eq(&known, inode) => merged(&self.dialect, candidates),
            _ => Ok(Vec::new()),
        }
    }

    /// Lets a directory merge these members from now on, which follow from what was seen at its place. Those that are the
    /// same stay, for others refer to them. `false`: something else is seen there meanwhile.
    pub(crate) fn reconcile(
        &self,
        inode: &Arc<Inode<T>>,
        place: Option<Place<'_, T>>,
        members: Vec<Arc<BranchDir<T>>>,
        generation: u64,
    ) -> Result<bool> {
        let directory = inode.dir()?;
        let mut change = None;
        if let Some((parent, name, sightings)) = place {
            change = Some(parent.dir()?.change.lock());
            let now = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()))?;
            if now[..] != *sightings {
                // The union itself may have added one.
                return Ok(false);
            }
        }
        let old = directory.state.read().members.clone();
        let mut kept = Vec::with_capacity(members.len());
        for new in members {
            let known = old.iter().find(|old| old.index() == new.index());
            kept.push(match known {
                Some(known) if is_same(known, &new) => {
                    if let Some((above, name)) = new.place() {
                        known.moved(&above, &name);
                    }
                    Arc::clone(known)
                }
                _ => new,
            });
        }
        let same = kept.len() == old.len() && kept.iter().zip(&old).all(|(a, b)| Arc::ptr_eq(a, b));
        let mut state = directory.state.write();
        state.checked = generation;
        state.removed = false;
        if !same {
            state.members = kept;
            state.forget_index();
            drop(state);
            self.contents_differ(inode);
        }
        drop(change);
        Ok(true)
    }

    /// Notes attributes of a file that was written through the union, at its last close.
    pub(crate) fn written(&self, inode: &Inode<T>) {
        let attr = self.attr_of_quietly(inode).ok();
        let mut told = inode.told.lock();
        let now = attr.as_ref().map(Told::of);
        if *told != now
            && let Some(observer) = self.observer()
        {
            // A change that nobody told apart from ours may be among them.
            observer.attributes_changed(inode.id);
        }
        *told = now;
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
            if state.members[0].index() != branch {
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
        let (handle, tree, powers) = (member.open()?, member.tree(), member.branch.powers);
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
        let next = self.other_place(&inode)?;
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
            let last = self.roots.len() == branch.get() + 1;
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

    fn contents_differ(&self, inode: &Inode<T>) {
        if let Some(observer) = self.observer() {
            observer.contents_changed(inode.id);
        }
    }

    fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    fn unwatch(&self, id: InodeId) {
        if let Some(watcher) = self.watcher() {
            watcher.unwatch(id);
        }
    }
}

/// Returns whether two memories of a directory on a branch mean the same one.
fn is_same<T: Tree>(one: &Arc<BranchDir<T>>, two: &Arc<BranchDir<T>>) -> bool {
    if Arc::ptr_eq(one, two) {
        return true;
    }
    let key = |dir: &Arc<BranchDir<T>>| {
        let handle = dir.open()?;
        dir.tree().attr(Object::Dir(&*handle)).map(|a| Key::of(&a))
    };
    matches!((key(one), key(two)), (Ok(one), Ok(two)) if one == two)
}
