//! Reading directories of branches into an index, and keeping it true.
//!
//! What an interrupted operation left in a writable branch is put right when its directory is read.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::whiteout::{Purpose, Temporary};
use rules::{Attr, BranchIndex, Errno, Name};
use tree::{Object, RenameHow, Tree};

use crate::branch::BranchDir;
use crate::dialect::Found;
use crate::error::{Refusal, Result};
use crate::failing::Unread;
use crate::index::{Index, Sightings, Stamp};
use crate::inode::{Directory, DirectoryState, Inode};
use crate::union::Union;

/// How often a directory is read again because what it merges was not known.
const ATTEMPTS: usize = 16;

impl<T: Tree> Union<T> {
    /// Returns what the branches say about a name.
    pub(crate) fn sightings(&self, parent: &Arc<Inode<T>>, name: &Name) -> Result<Sightings> {
        self.with_index(parent, |index| index.sightings(name.as_bytes()))
    }

    /// Asks the index of a directory, which is read first where needed.
    pub(crate) fn with_index<R>(
        &self,
        inode: &Arc<Inode<T>>,
        ask: impl Fn(&Index) -> R,
    ) -> Result<R> {
        let directory = inode.dir()?;
        let round = self.account.round();
        if directory.used.load(Ordering::Relaxed) != round {
            directory.used.store(round, Ordering::Relaxed);
        }
        for _ in 0..ATTEMPTS {
            self.recheck(inode)?;
            if directory.state.read().shows_records {
                self.merge_recorded(inode)?;
            }
            if self.is_current(directory)? {
                let state = directory.state.read();
                check_there(&state)?;
                if let Some(index) = &state.index {
                    return Ok(ask(index));
                }
            }
            let change = directory.change.lock();
            let answer = self.with_index_locked(inode, &ask);
            let complete = !directory.state.read().shows_records;
            drop(change);
            if complete {
                return answer;
            }
        }
        Err(Refusal::NotFound.into())
    }

    /// Asks the index of a directory whose `change` the caller holds.
    pub(crate) fn with_index_locked<R>(
        &self,
        inode: &Arc<Inode<T>>,
        ask: impl Fn(&Index) -> R,
    ) -> Result<R> {
        let directory = inode.dir()?;
        loop {
            check_there(&directory.state.read())?;
            if !self.is_current(directory)? {
                let members = directory.state.read().members.clone();
                let above = inode.name().map(|(parent, _)| self.unread_in(&parent));
                let index = self.read_index(inode, &members, above.unwrap_or_default())?;
                self.renew(inode, index)?;
            }
            // A lookup that found it out of date may have made it forgotten since: that takes no `change`.
            if let Some(index) = &directory.state.read().index {
                return Ok(ask(index));
            }
        }
    }

    /// As `sightings`, while nobody else is at work.
    pub(crate) fn sightings_alone(&self, parent: &Arc<Inode<T>>, name: &Name) -> Result<Sightings> {
        self.with_index_alone(parent, |index| index.sightings(name.as_bytes()))
    }

    /// As `with_index_locked`, while nobody else is at work.
    pub(crate) fn with_index_alone<R>(
        &self,
        inode: &Arc<Inode<T>>,
        ask: impl Fn(&Index) -> R,
    ) -> Result<R> {
        let _change = inode.dir()?.change.lock();
        self.with_index_locked(inode, ask)
    }

    /// Returns whether a directory's index is there and still tells the truth.
    fn is_current(&self, directory: &Directory<T>) -> Result<bool> {
        let (members, stamps) = {
            let state = directory.state.read();
            match &state.index {
                None => return Ok(false),
                Some(index) if index.is_stale() => return Ok(false),
                Some(index) if index.unread().is_some_and(Unread::is_over) => return Ok(false),
                Some(index) if self.trusts_branches() || index.is_heard() => return Ok(true),
                Some(index) => {
                    let mut members = state.members.clone();
                    if let Some(unread) = index.unread() {
                        members.retain(|member| !unread.branches.contains(&member.index()));
                    }
                    (members, index.stamps.clone())
                }
            }
        };
        for (member, stamp) in members.iter().zip(&stamps) {
            match stamp_of(member) {
                Ok(now) if now == *stamp => {}
                Err(error) if !self.goes_on_without(member, &error) => return Err(error),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
        Ok(stamps.len() == members.len())
    }

    /// Notes that the union itself changed a member of a directory, so that the change is not
    /// taken for somebody else's. The caller holds `change`.
    pub(crate) fn touched(&self, inode: &Inode<T>, branch: BranchIndex) {
        if self.trusts_branches() {
            return;
        }
        let Ok(directory) = inode.dir() else { return };
        if directory.state.read().is_heard() {
            return self.listen_to(inode, branch);
        }
        let member = directory.state.read().member(branch).cloned();
        let stamp = member.and_then(|member| stamp_of(&member).ok());
        let mut state = directory.state.write();
        let Some(index) = &mut state.index else {
            return;
        };
        match stamp {
            Some(stamp) => match index.stamps.iter_mut().find(|known| known.branch == branch) {
                Some(known) => *known = stamp,
                None => {
                    let at = index.stamps.partition_point(|known| known.branch < branch);
                    index.stamps.insert(at, stamp);
                }
            },
            // Nobody can say what it looks like: read it again next time.
            None => state.index = None,
        }
    }

    fn read_index(
        &self,
        inode: &Inode<T>,
        members: &[Arc<BranchDir<T>>],
        mut above: Vec<BranchIndex>,
    ) -> Result<Index> {
        let mut index = Index::default();
        // Before anything is read, so that no change falls in between.
        if let Some(heard) = self.listen(inode.id, members)? {
            index.hear_all(heard);
        }
        let mut unread = Vec::new();
        for (at, member) in members.iter().enumerate() {
            index.stored = self.read_stored(inode, &mut index, &members[at..]);
            if index.stored.is_some() {
                break;
            }
            let stamps = index.stamps.len();
            match self.read_with_stamp(inode, &mut index, member) {
                Err(error) if self.goes_on_without(member, &error) => {
                    index.stamps.truncate(stamps);
                    unread.push(member.index());
                }
                read => read?,
            }
        }
        if unread.len() == members.len() {
            // Nothing is left to go on with.
            return Err(Errno::IO.into());
        }
        above.retain(|branch| members.iter().all(|member| member.index() != *branch));
        index.miss(Unread::new(unread, above));
        index.complete();
        Ok(index)
    }

    fn read_with_stamp(
        &self,
        inode: &Inode<T>,
        index: &mut Index,
        member: &Arc<BranchDir<T>>,
    ) -> Result<()> {
        let stamped = !self.trusts_branches() && !index.is_heard();
        if stamped {
            index.stamps.push(stamp_of(member)?);
        }
        let (repaired, recorded) = self.read_member(index, member)?;
        if recorded && self.notice_records(member)? {
            inode.dir()?.state.write().shows_records = true;
        }
        if repaired
            && stamped
            && let Some(stamp) = index.stamps.last_mut()
        {
            *stamp = stamp_of(member)?;
        }
        Ok(())
    }

    /// Reads one branch's part of a directory; returns whether something left over was put right, and whether
    /// it has records of parts below.
    fn read_member(&self, index: &mut Index, member: &Arc<BranchDir<T>>) -> Result<(bool, bool)> {
        let powers = member.powers();
        let branch = member.index();
        let mut whiteouts = Vec::new();
        let mut left_over = Vec::new();
        let mut recorded = false;
        for found in self.dialect.read(member)? {
            match found {
                Found::Entry(entry) => index.found(branch, &entry.name, entry.kind, entry.ino),
                Found::Whiteout(name, what) if powers.whiteouts => whiteouts.push((name, what)),
                Found::Temporary(name, temporary) if powers.writable => {
                    left_over.push((name, temporary));
                }
                Found::Origin => recorded = true,
                Found::Whiteout(..) | Found::Temporary(..) => {}
            }
        }
        let mut repaired = false;
        for (name, what) in whiteouts {
            // Where changes are made, an entry beside its whiteout is one whose operation did
            // not get to its end, and it still counts. In a layer, the whiteout does, as in AUFS.
            let wins = !powers.writable;
            if index.found_whiteout(branch, &name, what, wins) && !wins {
                self.dialect
                    .remove_beside(member.tree(), &*member.open()?, &name)?;
                repaired = true;
            }
        }
        for (name, temporary) in left_over {
            repaired |= self.clear_away(index, member, &name, &temporary)?;
        }
        Ok((repaired, recorded))
    }

    /// Removes what an interrupted operation left, or gives it its name back.
    fn clear_away(
        &self,
        index: &mut Index,
        member: &Arc<BranchDir<T>>,
        name: &Name,
        temporary: &Temporary,
    ) -> Result<bool> {
        if self.in_progress.lock().contains(name) {
            return Ok(false);
        }
        let (branch, handle, tree) = (member.index(), member.open()?, member.tree());
        let taken = index
            .sightings(temporary.name.as_bytes())
            .iter()
            .any(|s| s.branch == branch);
        if temporary.purpose == Purpose::MovedAway && !taken {
            let to = &temporary.name;
            tree.rename(&handle, name, &handle, to, RenameHow::NoReplace)?;
            if let Some(attr) = tree.look(&handle, to)? {
                index.put(branch, to, attr.kind, attr.ino);
            }
            return Ok(true);
        }
        tracing::info!(%name, branch = branch.0, "removing what an interrupted operation left");
        if let Err(error) = self.scrap(member, name) {
            tracing::warn!(%name, branch = branch.0, %error, "cannot remove what is left over");
        }
        Ok(true)
    }
}

fn check_there<T: Tree>(state: &DirectoryState<T>) -> Result<()> {
    if state.removed {
        Err(Refusal::NotFound.into())
    } else {
        Ok(())
    }
}

fn stamp_of<T: Tree>(member: &Arc<BranchDir<T>>) -> Result<Stamp> {
    let attr = member.tree().attr(Object::Dir(&*member.open()?))?;
    let Attr {
        ino, mtime, ctime, ..
    } = attr;
    Ok(Stamp {
        branch: member.index(),
        ino,
        mtime,
        ctime,
    })
}
