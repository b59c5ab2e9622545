//! Finding names, and the attributes of what they name.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::lookup::{Resolution, Sighting, resolve};
use rules::{Attr, BranchIndex, Errno, Name, whiteout};
use tree::{Object, Tree};

use crate::api::{Entry, InodeId};
use crate::branch::BranchDir;
use crate::error::{Error, Refusal, Result};
use crate::inode::{Inode, Key, Meeting, Met, NewBody};
use crate::members::candidates;
use crate::union::{Union, links_in};

/// How often a lookup starts over because a branch changed, behind the union's back or by another thread.
const ATTEMPTS: usize = 16;

impl<T: Tree> Union<T> {
    /// Looks a name up; `None` when there is none. `EPERM` for a reserved name, `ENAMETOOLONG`.
    pub fn lookup(&self, parent: InodeId, name: &[u8]) -> Result<Option<Entry>> {
        if whiteout::is_reserved(name) && self.shows_marks() {
            let found = self.find_mark(&self.directory(parent)?, name)?;
            return Ok(found.map(|(inode, attr)| Entry { id: inode.id, attr }));
        }
        let name = self.dialect.check(name)?;
        let directory = self.directory(parent)?;
        let found = self.find_entry(&directory, &name)?;
        if found.is_some() {
            if directory.dir()?.demand.looked_up() {
                // A listing that the front end keeps has names alone: whoever reads on is told more.
                self.contents_differ(&directory);
            }
            self.mind_limit_sometimes();
        }
        Ok(found)
    }

    /// Takes one more reference to an object that is known.
    pub fn lookup_again(&self, id: InodeId) -> Result<Entry> {
        let inode = self.inode(id)?;
        let attr = self.attr_of(&inode)?;
        inode.take_reference()?;
        Ok(Entry { id, attr })
    }

    /// Looks up the directory that a directory is in; the root is in itself. `ENOENT` for one that was removed.
    pub fn lookup_above(&self, id: InodeId) -> Result<Entry> {
        if id == InodeId::ROOT {
            return self.lookup_again(id);
        }
        let inode = self.directory(id)?;
        let above = inode.names.lock().last().map(|(above, _)| above.id);
        self.lookup_again(above.ok_or(Refusal::NotFound)?)
    }

    /// Returns whether no name that is known leads to an object any more.
    pub fn is_gone(&self, id: InodeId) -> bool {
        let Ok(inode) = self.inode(id) else {
            return true;
        };
        match inode.dir() {
            Ok(directory) => directory.state.read().removed,
            Err(_) => inode.names.lock().is_empty(),
        }
    }

    /// Returns the attributes of an object.
    pub fn attr(&self, id: InodeId) -> Result<Attr> {
        self.attr_of(&*self.inode(id)?)
    }

    /// Returns the target of a symbolic link.
    pub fn read_link(&self, id: InodeId) -> Result<Vec<u8>> {
        let inode = self.inode(id)?;
        let (dir, name) = self.place_of(&inode)?;
        Ok(dir.tree().read_link(&*dir.open()?, &name)?)
    }

    /// Looks a checked name up and takes a reference to what it names.
    pub(crate) fn find(
        &self,
        parent: &Arc<Inode<T>>,
        name: &Name,
    ) -> Result<Option<(Arc<Inode<T>>, Attr)>> {
        let found = self.find_entry(parent, name)?;
        let inode = |entry: Entry| Ok((self.inodes.get(entry.id)?, entry.attr));
        found.map(inode).transpose()
    }

    /// As `find`, for callers that need no inode: there may be no more of it than a note.
    pub(crate) fn find_entry(&self, parent: &Arc<Inode<T>>, name: &Name) -> Result<Option<Entry>> {
        for _ in 0..ATTEMPTS {
            let sightings = self.sightings(parent, name)?;
            match resolve(&sightings) {
                Resolution::Absent => return Ok(None),
                Resolution::Damaged => return Err(Refusal::Damaged.into()),
                Resolution::File(branch) => {
                    if let Some(found) = self.find_other(parent, name, branch)? {
                        return Ok(Some(found));
                    }
                }
                Resolution::Dir(_) => {
                    if let Some((inode, attr)) = self.find_dir(parent, name, &sightings)? {
                        return Ok(Some(Entry { id: inode.id, attr }));
                    }
                }
            }
            // The branch no longer has what it had: read it again.
            parent.dir()?.state.write().forget_index();
        }
        Err(Refusal::NotFound.into())
    }

    fn find_other(
        &self,
        parent: &Arc<Inode<T>>,
        name: &Name,
        branch: BranchIndex,
    ) -> Result<Option<Entry>> {
        let Some(dir) = parent.dir()?.state.read().member(branch).cloned() else {
            return Ok(None);
        };
        let attr = match self.stored_attr(parent, name, branch) {
            Some(attr) => Some(attr),
            None => dir.tree().look(&*dir.open()?, name)?,
        };
        let Some(mut attr) = attr else {
            return Ok(None);
        };
        let canonical = self.canonical(&attr);
        let meeting = Meeting {
            parent,
            name,
            dir: &dir,
            kind: canonical.kind,
        };
        if let Some(met) = self.meet(&canonical, &meeting) {
            if !met.confirmed {
                if !self.still(parent, name, Resolution::File(branch)) {
                    // As below.
                    self.inodes.forget_by_id(met.id, 1);
                    return Ok(None);
                }
                self.inodes.confirm(met.id);
            }
            attr.ino = met.number;
            return Ok(Some(Entry { id: met.id, attr }));
        }
        let inode = self
            .inodes
            .intern(&canonical, || self.new_body(&canonical, branch, &dir, name));
        let Ok(other) = inode.other() else {
            return Ok(None);
        };
        if !inode.confirm(|| self.still(parent, name, Resolution::File(branch))) {
            // It was copied up, and the copy forgotten, since the branches were asked: a second inode of it
            // would copy it up once more, over the first copy.
            self.inodes.forget(&inode, 1);
            return Ok(None);
        }
        let (elsewhere, moved) = {
            let state = other.state.read();
            let elsewhere = state.branch != branch || state.pseudo_linked;
            let moved = state.place.as_ref().is_none_or(|(d, n)| {
                // Somebody else may have renamed it.
                let known = Arc::ptr_eq(d, &dir) && n == name;
                !(known || elsewhere || self.trusts_branches())
            });
            (elsewhere, moved)
        };
        if elsewhere && self.has_parted(&inode, parent, name, branch)? {
            self.inodes.forget(&inode, 1);
            return Ok(None);
        }
        if moved {
            let change = parent.dir()?.change.lock();
            let still = self.with_index_locked(parent, |index| {
                resolve(&index.sightings(name.as_bytes())) == Resolution::File(branch)
            });
            if !still.is_ok_and(|still| still) {
                // Its last name went just now.
                drop(change);
                self.inodes.forget(&inode, 1);
                return Ok(None);
            }
            let mut state = other.state.write();
            if state.branch != branch || state.pseudo_linked {
                // It was copied up under another of its names just now: its place is where the copy is.
                drop((state, change));
                self.inodes.forget(&inode, 1);
                return Ok(None);
            }
            state.place = Some((dir, name.clone()));
            state.last = None;
        }
        self.inodes.add_name(&inode, parent, name);
        if elsewhere || moved {
            return match self.attr_of(&inode) {
                Ok(attr) => Ok(Some(Entry { id: inode.id, attr })),
                Err(error) => {
                    self.inodes.forget(&inode, 1);
                    let gone = error == Errno::NOENT.into();
                    if gone { Ok(None) } else { Err(error) }
                }
            };
        }
        attr.ino = inode.number;
        self.tell(&inode, &attr);
        Ok(Some(Entry { id: inode.id, attr }))
    }

    /// Takes a reference to an object that is no directory, if a note of it does.
    fn meet(&self, canonical: &Attr, meeting: &Meeting<'_, T>) -> Option<Met> {
        if self.watches() {
            // What the front end is told is to be remembered as well.
            return None;
        }
        let is_plain = || self.pseudo_linked_body(canonical).is_none();
        self.inodes.meet(Key::of(canonical), meeting, is_plain)
    }

    fn new_body(
        &self,
        attr: &Attr,
        branch: BranchIndex,
        dir: &Arc<BranchDir<T>>,
        name: &Name,
    ) -> NewBody<T> {
        self.pseudo_linked_body(attr)
            .unwrap_or_else(|| NewBody::Other {
                branch,
                place: Some((Arc::clone(dir), name.clone())),
                pseudo_linked: false,
            })
    }

    fn find_dir(
        &self,
        parent: &Arc<Inode<T>>,
        name: &Name,
        sightings: &[Sighting],
    ) -> Result<Option<(Arc<Inode<T>>, Attr)>> {
        let candidates = candidates(parent, name, sightings)?;
        let top = candidates.first().map(|top| top.index());
        let attr = match top.and_then(|top| self.stored_attr(parent, name, top)) {
            Some(attr) => Some(attr),
            None => self.look_topmost(&candidates, name)?,
        };
        let Some(attr) = attr else {
            return Ok(None);
        };
        self.part_moved(&attr, parent, name);
        let generation = self.generation.load(Ordering::Acquire);
        let known = self.inodes.known(&attr).filter(|known| {
            self.knows_members(parent, known, generation) && known.take_reference().is_ok()
        });
        let mut fresh = None;
        let (inode, members) = match known {
            Some(known) => (known, Vec::new()),
            None => {
                let members = self.merging(parent, name, sightings, &attr)?;
                if members.is_empty() {
                    return Ok(None);
                }
                let make = || {
                    fresh = Some(());
                    NewBody::Dir(members.clone())
                };
                (self.inodes.intern(&attr, make), members)
            }
        };
        let Ok(directory) = inode.dir() else {
            return Ok(None);
        };
        if !inode.confirm(|| self.still(parent, name, resolve(sightings))) {
            // It was copied up since the branches were asked: start over.
            self.inodes.forget(&inode, 1);
            return Ok(None);
        }
        if self.watches() {
            if fresh.is_some() {
                directory.state.write().checked = generation;
            } else if !members.is_empty() {
                let place = Some((parent, name, sightings));
                if !self.reconcile(&inode, place, members, generation)? {
                    self.inodes.forget(&inode, 1);
                    return Ok(None);
                }
            }
        } else if fresh.is_none() && !self.trusts_branches() {
            let same = {
                let state = directory.state.read();
                let known = state.members.iter().map(|m| m.index());
                known.eq(members.iter().map(|m| m.index()))
            };
            if !same {
                let _change = parent.dir()?.change.lock();
                let now = self.with_index_locked(parent, |index| index.sightings(name.as_bytes()));
                if now.as_deref() != Ok(sightings) {
                    // The union itself has added one meanwhile.
                    self.inodes.forget(&inode, 1);
                    return Ok(None);
                }
                let mut state = directory.state.write();
                state.members = members;
                state.index = None;
            }
        }
        self.inodes.add_name(&inode, parent, name);
        let attr = self.with_links(&inode, attr);
        let attr = attr.inspect_err(|_| self.inodes.forget(&inode, 1))?;
        Ok(Some((inode, attr)))
    }

    /// Returns the attributes of the topmost of these directories, which all have the name, that answers.
    pub(crate) fn look_topmost(
        &self,
        candidates: &[Arc<BranchDir<T>>],
        name: &Name,
    ) -> Result<Option<Attr>> {
        let mut failed = None;
        for dir in candidates {
            let Some((above, _)) = dir.place() else {
                return Ok(None);
            };
            let look = above.open().and_then(|above| dir.tree().look(&above, name));
            match look.map_err(Error::from) {
                Err(error) if self.goes_on_without(dir, &error) => {
                    failed.get_or_insert(error);
                }
                found => return found,
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Returns whether what a known directory merges was checked since anything could have changed it.
    fn knows_members(&self, parent: &Inode<T>, known: &Inode<T>, generation: u64) -> bool {
        if !self.watches() {
            return self.trusts_branches();
        }
        let checked = known.dir().is_ok_and(|directory| {
            let state = directory.state.read();
            state.checked == generation && !state.removed
        });
        checked && self.hears_of(parent)
    }

    /// Returns whether a name means what it meant.
    fn still(&self, parent: &Arc<Inode<T>>, name: &Name, meant: Resolution) -> bool {
        self.sightings(parent, name)
            .is_ok_and(|now| resolve(&now) == meant)
    }

    /// Returns whether an object that was not at a place any more has moved from there. A rename that has moved it
    /// on the branch and not noted that yet is waited for; the caller holds no `change`.
    pub(crate) fn moved_from(
        &self,
        inode: &Inode<T>,
        dir: &Arc<BranchDir<T>>,
        name: &Name,
    ) -> bool {
        let names = inode.names.lock().clone();
        for (parent, _) in &names {
            if let Ok(directory) = parent.dir() {
                drop(directory.change.lock());
            }
        }
        let Ok(other) = inode.other() else {
            return false;
        };
        let state = other.state.read();
        !matches!(&state.place, Some((d, n)) if Arc::ptr_eq(d, dir) && n == name)
    }

    /// Returns the attributes of an object as applications see them.
    pub(crate) fn attr_of(&self, inode: &Inode<T>) -> Result<Attr> {
        let attr = self.attr_of_quietly(inode)?;
        self.tell(inode, &attr);
        Ok(attr)
    }

    /// As `attr_of`, for the union's own purposes: nobody is told.
    pub(crate) fn attr_of_quietly(&self, inode: &Inode<T>) -> Result<Attr> {
        let Ok(other) = inode.other() else {
            let (_, attr) = self.top_with_attr(inode)?;
            return self.with_links(inode, attr);
        };
        let (data, place, pseudo_linked, last) = {
            let state = other.state.read();
            let last = state.last.as_deref().copied();
            (
                state.data.clone(),
                state.place.clone(),
                state.pseudo_linked,
                last,
            )
        };
        let mut attr = match (place, data, last) {
            (Some((dir, name)), data, _) => {
                let stored = match data {
                    None => self.stored_attr_at(inode, &dir, &name),
                    Some(_) => None,
                };
                if let Some(attr) = stored {
                    return Ok(Attr {
                        ino: inode.number,
                        ..attr
                    });
                }
                match dir.tree().attr(Object::Entry(&*dir.open()?, &name)) {
                    Err(Errno::NOENT) if self.moved_from(inode, &dir, &name) => {
                        return self.attr_of_quietly(inode);
                    }
                    attr => attr?,
                }
            }
            (None, Some(data), _) => {
                let mut attr = self.tree().attr(Object::File(&**data.file))?;
                // A lower file whose names are all hidden still has them on its branch.
                attr.nlink = last.map_or(attr.nlink, |last| last.nlink);
                attr
            }
            (None, None, Some(last)) => last,
            (None, None, None) => return Err(Refusal::Gone.into()),
        };
        attr.ino = inode.number;
        if pseudo_linked {
            attr.nlink = self.links_of(inode, attr.nlink);
        }
        Ok(attr)
    }

    /// Gives a directory's attributes the union's number and its count of links.
    fn with_links(&self, inode: &Inode<T>, mut attr: Attr) -> Result<Attr> {
        attr.ino = inode.number;
        let directory = inode.dir()?;
        let (members, cached) = {
            let state = directory.state.read();
            if state.removed {
                attr.nlink = 0;
                return Ok(attr);
            }
            if state.members.len() <= 1 {
                return Ok(attr);
            }
            (state.members.clone(), state.links_below)
        };
        let links = match cached {
            Some(links) => links,
            None => {
                let (stored, mut links) = self
                    .stored_links(inode, &members)
                    .unwrap_or((members.len(), 0));
                for member in members[..stored].iter().skip(1) {
                    let attr = member
                        .open()
                        .and_then(|dir| member.tree().attr(Object::Dir(&*dir)));
                    match attr.map_err(Error::from) {
                        Err(error) if self.goes_on_without(member, &error) => {}
                        attr => links = links.saturating_add(links_in(&attr?)),
                    }
                }
                let mut state = directory.state.write();
                if self.trusts_branches() || state.is_heard() {
                    state.links_below = Some(links);
                }
                links
            }
        };
        // Some filesystems do not count subdirectories and say 1.
        if attr.nlink >= 2 {
            attr.nlink = attr.nlink.saturating_add(links);
        }
        Ok(attr)
    }

    /// Returns the topmost directory that is merged.
    pub(crate) fn top_of(&self, inode: &Inode<T>) -> Result<Arc<BranchDir<T>>> {
        let state = inode.dir()?.state.read();
        let top = state.members.first().cloned();
        top.ok_or_else(|| Refusal::Gone.into())
    }

    /// Returns a directory and name on a branch that lead to an object which is no directory.
    pub(crate) fn place_of(&self, inode: &Inode<T>) -> Result<(Arc<BranchDir<T>>, Name)> {
        let place = inode.other()?.state.read().place.clone();
        place.ok_or_else(|| Refusal::Gone.into())
    }
}
