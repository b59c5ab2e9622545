//! What is known about the names in one directory of the union.
//!
//! A merged directory is read once and then answers for every name, also for missing ones. Changes
//! made through the union are noted here as they are made.

use std::sync::{Arc, Weak};

use rules::lookup::{Resolution, Seen, Sighting, dirs, resolve};
use rules::{BranchIndex, Kind, Name, Time};
use smallvec::SmallVec;

use crate::chain::Stored;
use crate::failing::Unread;
use crate::name_table::NameTable;
pub(crate) use crate::name_table::Sightings;

/// The names of one directory.
#[derive(Default)]
pub(crate) struct Index {
    names: NameTable,
    /// When each member changed last, to notice changes behind the union's back.
    pub(crate) stamps: Vec<Stamp>,
    /// The members that are watched instead, if all are.
    heard: Option<Vec<BranchIndex>>,
    /// Whether it is kept only for comparison with what is read next.
    stale: bool,
    /// The members that did not answer.
    unread: Option<Unread>,
    /// The visible names, while somebody reads them.
    listing: Weak<Listing>,
    /// What a stored index said when it was read.
    pub(crate) stored: Option<Stored>,
    /// What names meant when their topmost branch got another place or left.
    uncovered: Vec<(Name, Resolution)>,
}

/// What a name means, and the inode number of that on its branch, 0 where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) resolution: Resolution,
    pub(crate) ino: u64,
}

impl Shown {
    pub(crate) fn is_absent(&self) -> bool {
        self.resolution == Resolution::Absent
    }
}

/// When a member of a directory changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) branch: BranchIndex,
    pub(crate) ino: u64,
    pub(crate) mtime: Time,
    pub(crate) ctime: Time,
}

/// The visible names of a directory at one moment.
pub(crate) type Listing = Vec<ListedName>;

#[derive(Debug, Clone)]
pub(crate) struct ListedName {
    pub(crate) name: Name,
    pub(crate) kind: Option<Kind>,
    /// Inode number on the branch that serves the name, and the filesystem of that branch.
    pub(crate) ino: u64,
    pub(crate) dev: u64,
}

impl Index {
    /// Returns what the branches that answer say about a name.
    pub(crate) fn known(&self, name: &[u8]) -> Sightings {
        let slot = self.names.get(name);
        slot.map_or_else(Sightings::new, |slot| slot.sightings.into())
    }

    /// Returns what the branches say about a name. One that did not answer may have it, below what is known.
    pub(crate) fn sightings(&self, name: &[u8]) -> Sightings {
        let mut sightings = self.known(name);
        if let Some(unread) = &self.unread {
            unread.complete(&mut sightings);
        }
        sightings
    }

    /// Notes which members did not answer.
    pub(crate) fn miss(&mut self, unread: Option<Unread>) {
        self.unread = unread;
    }

    /// Returns which members did not answer.
    pub(crate) fn unread(&self) -> Option<&Unread> {
        self.unread.as_ref()
    }

    /// Returns what the branches say about each name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[Sighting]> {
        self.names.iter().map(|(_, slot)| slot.sightings)
    }

    /// Returns all names, with what the branches say about each.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&Name, &[Sighting])> {
        let slots = self.names.iter();
        slots.map(|(name, slot)| (name, slot.sightings))
    }

    /// Returns whether no name is visible.
    pub(crate) fn is_empty(&self) -> bool {
        self.all()
            .all(|sightings| resolve(sightings) == Resolution::Absent)
    }

    /// Returns what a name means.
    pub(crate) fn shown(&self, name: &Name) -> Shown {
        let Some(slot) = self.names.get(name.as_bytes()) else {
            let resolution = Resolution::Absent;
            return Shown { resolution, ino: 0 };
        };
        let resolution = resolve(slot.sightings);
        let ino = resolution.branch().map_or(0, |_| slot.ino);
        Shown { resolution, ino }
    }

    /// Returns the kind and the inode number of what a branch has under a name, if it shows and both are known.
    pub(crate) fn entry_on(&self, branch: BranchIndex, name: &Name) -> Option<(Kind, u64)> {
        let slot = self.names.get(name.as_bytes())?;
        let tops = slot
            .sightings
            .first()
            .is_some_and(|top| top.branch == branch);
        slot.kind
            .filter(|_| tops && slot.ino != 0)
            .map(|kind| (kind, slot.ino))
    }

    /// Returns the names that a branch has whiteouts of, and no entries.
    pub(crate) fn whiteouts_on(&self, branch: BranchIndex) -> Vec<Name> {
        let hides = |seen: &Sighting| seen.branch == branch && seen.what == Seen::Whiteout;
        let names = self.names.iter();
        names
            .filter(|(_, slot)| slot.sightings.iter().any(hides))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Returns whether a branch has a directory under a name.
    pub(crate) fn has_dir(&self, name: &Name) -> bool {
        let slot = self.names.get(name.as_bytes());
        slot.is_some_and(|slot| slot.sightings.iter().any(|seen| seen.what == Seen::Dir))
    }

    /// Returns the names of what is no directory.
    pub(crate) fn files(&self) -> Vec<Name> {
        let visible = self
            .names
            .iter()
            .filter(|(_, slot)| matches!(resolve(slot.sightings), Resolution::File(_)));
        visible.map(|(name, _)| name.clone()).collect()
    }

    /// Returns the names that mean something else in another index of the same directory.
    pub(crate) fn differences(&self, new: &Self) -> Vec<Name> {
        let merges = |index: &Self, name: &Name| -> SmallVec<[BranchIndex; 4]> {
            let slot = index.names.get(name.as_bytes());
            slot.map_or_else(SmallVec::new, |slot| dirs(slot.sightings).collect())
        };
        let differs = |name: &&Name| {
            let (old, now) = (self.shown(name), new.shown(name));
            let same_ino = old.ino == now.ino || old.ino == 0 || now.ino == 0;
            old.resolution != now.resolution || !same_ino || merges(self, name) != merges(new, name)
        };
        let gone = self.names.iter().map(|(name, _)| name);
        let gone = gone.filter(|name| !new.names.contains(name.as_bytes()));
        let names = new.names.iter().map(|(name, _)| name).chain(gone);
        names.filter(differs).cloned().collect()
    }

    /// Returns the names that mean something else in an index that was read after a change of branches. Directories that
    /// merge others than before still mean the same.
    pub(crate) fn differences_after_restack(&self, new: &Self) -> Vec<Name> {
        let is_dir = |resolution| matches!(resolution, Resolution::Dir(_));
        let differing = self.differences(new).into_iter();
        let differing = differing.map(|name| (self.shown(&name).resolution, name));
        let uncovered = self
            .uncovered
            .iter()
            .map(|(name, before)| (*before, name.clone()));
        let all = differing.chain(uncovered);
        all.filter(|(before, name)| !(is_dir(*before) && is_dir(new.shown(name).resolution)))
            .map(|(_, name)| name)
            .collect()
    }

    /// Returns what a branch has under a name.
    pub(crate) fn seen_on(&self, branch: BranchIndex, name: &Name) -> Option<Seen> {
        let mut sightings = self.names.get(name.as_bytes())?.sightings.iter();
        sightings
            .find(|seen| seen.branch == branch)
            .map(|seen| seen.what)
    }

    /// Returns whether a branch is known to have just this under a name: `entry` is the kind and the inode number.
    pub(crate) fn agrees(
        &self,
        branch: BranchIndex,
        name: &Name,
        what: Option<Seen>,
        entry: Option<(Kind, u64)>,
    ) -> bool {
        let Some(slot) = self.names.get(name.as_bytes()) else {
            return what.is_none();
        };
        if self.seen_on(branch, name) != what {
            return false;
        }
        match (entry, slot.sightings.first()) {
            (Some((_, ino)), Some(top)) if top.branch == branch => slot.ino == ino,
            _ => true,
        }
    }

    /// Notes what a branch has under a name now.
    pub(crate) fn see(
        &mut self,
        branch: BranchIndex,
        name: &Name,
        what: Option<Seen>,
        entry: Option<(Kind, u64)>,
    ) {
        match (what, entry) {
            (None, _) => self.remove(branch, name),
            (Some(_), Some((kind, ino))) => self.put(branch, name, kind, ino),
            (Some(what), None) => {
                self.names
                    .update(name, |slot| set(&mut slot.sightings, branch, what));
                self.listing = Weak::new();
            }
        }
    }

    /// Notes that these members are watched, and all of them.
    pub(crate) fn hear_all(&mut self, members: Vec<BranchIndex>) {
        self.heard = Some(members);
    }

    /// Notes that one more member is watched.
    pub(crate) fn hear(&mut self, branch: BranchIndex) {
        if let Some(heard) = &mut self.heard {
            heard.push(branch);
        }
    }

    /// Returns whether a member is watched; `None` when some are not, so that none is relied on.
    pub(crate) fn hears(&self, branch: BranchIndex) -> Option<bool> {
        self.heard.as_ref().map(|heard| heard.contains(&branch))
    }

    pub(crate) fn is_heard(&self) -> bool {
        self.heard.is_some()
    }

    pub(crate) fn make_stale(&mut self) {
        (self.stale, self.listing) = (true, Weak::new());
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Gives the branches other numbers; what those say that get none is forgotten. The index is kept for comparison only.
    pub(crate) fn renumber(&mut self, number: impl Fn(BranchIndex) -> Option<BranchIndex>) {
        self.unread = self
            .unread
            .take()
            .and_then(|unread| unread.renumbered(&number));
        let uncovered = &mut self.uncovered;
        self.names.update_all(|name, slot| {
            let before = resolve(&slot.sightings);
            let top = slot.sightings.first().map(|sighting| sighting.branch);
            slot.sightings
                .retain(|sighting| match number(sighting.branch) {
                    Some(branch) => {
                        sighting.branch = branch;
                        true
                    }
                    None => false,
                });
            slot.sightings
                .sort_unstable_by_key(|sighting| sighting.branch);
            let now = slot.sightings.first().map(|sighting| sighting.branch);
            if top.and_then(&number) != now {
                uncovered.push((name.clone(), before));
                (slot.kind, slot.ino) = (None, 0);
            }
        });
        self.stamps.retain_mut(|stamp| match number(stamp.branch) {
            Some(branch) => {
                stamp.branch = branch;
                true
            }
            None => false,
        });
        self.stamps.sort_unstable_by_key(|stamp| stamp.branch);
        if let Some(heard) = &mut self.heard {
            *heard = heard.iter().filter_map(|branch| number(*branch)).collect();
        }
        self.listing = Weak::new();
    }

    /// Adds what a branch has while the branches are read topmost first.
    pub(crate) fn found(&mut self, branch: BranchIndex, name: &Name, kind: Option<Kind>, ino: u64) {
        let what = if kind == Some(Kind::Dir) {
            Seen::Dir
        } else {
            Seen::File
        };
        self.names.update(name, |slot| {
            if slot.sightings.is_empty() {
                (slot.kind, slot.ino) = (kind, ino);
            }
            slot.sightings.push(Sighting { branch, what });
        });
    }

    /// Adds a whiteout that a branch has, or something damaged in its place, while the branches are read. Returns whether
    /// the branch has the name itself as well.
    pub(crate) fn found_whiteout(
        &mut self,
        branch: BranchIndex,
        name: &Name,
        what: Seen,
        wins: bool,
    ) -> bool {
        self.names.update(name, |slot| {
            let last = slot.sightings.last();
            let pair = last.is_some_and(|sighting| sighting.branch == branch);
            if pair && wins {
                slot.sightings.pop();
            }
            if !pair || wins {
                slot.sightings.push(Sighting { branch, what });
            }
            pair
        })
    }

    /// Returns whether nothing is lost when it is dropped: it says what the branches say, and nobody relies on hearing of
    /// what is different next time.
    pub(crate) fn may_be_read_again(&self) -> bool {
        !self.stale && self.heard.is_none() && self.uncovered.is_empty() && self.unread.is_none()
    }

    /// Notes that all members were read.
    pub(crate) fn complete(&mut self) {
        self.names.shrink();
    }

    /// Returns how many names are known.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// Returns how many bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.names.memory() + self.stamps.capacity() * size_of::<Stamp>()
    }

    /// Notes that a branch has an entry now, and no whiteout of it.
    pub(crate) fn put(&mut self, branch: BranchIndex, name: &Name, kind: Kind, ino: u64) {
        let what = if kind == Kind::Dir {
            Seen::Dir
        } else {
            Seen::File
        };
        self.names.update(name, |slot| {
            set(&mut slot.sightings, branch, what);
            if slot.sightings[0].branch == branch {
                (slot.kind, slot.ino) = (Some(kind), ino);
            }
        });
        self.listing = Weak::new();
    }

    /// Notes that a branch has a whiteout of a name now, and no entry.
    pub(crate) fn hide(&mut self, branch: BranchIndex, name: &Name) {
        self.names.update(name, |slot| {
            set(&mut slot.sightings, branch, Seen::Whiteout);
        });
        self.listing = Weak::new();
    }

    /// Notes that a branch has neither entry nor whiteout of a name now.
    pub(crate) fn remove(&mut self, branch: BranchIndex, name: &Name) {
        self.names.update(name, |slot| {
            slot.sightings.retain(|sighting| sighting.branch != branch);
            // What shows now was not on top when the branches were read.
            (slot.kind, slot.ino) = (None, 0);
        });
        self.listing = Weak::new();
    }

    /// Returns the visible names, in the order in which the branches have them.
    ///
    /// `dev` tells the filesystem of a branch.
    pub(crate) fn listing(&mut self, dev: impl Fn(BranchIndex) -> u64) -> Arc<Listing> {
        if let Some(listing) = self.listing.upgrade() {
            return listing;
        }
        let mut listing = Listing::with_capacity(self.names.len());
        listing.extend(self.names.iter().filter_map(|(name, slot)| {
            let branch = resolve(slot.sightings).branch()?;
            Some(ListedName {
                name: name.clone(),
                kind: slot.kind,
                ino: slot.ino,
                dev: dev(branch),
            })
        }));
        let listing = Arc::new(listing);
        self.listing = Arc::downgrade(&listing);
        listing
    }

    /// Returns the listing if it was made since the last change.
    pub(crate) fn ready_listing(&self) -> Option<Arc<Listing>> {
        self.listing.upgrade()
    }
}

fn set(sightings: &mut Sightings, branch: BranchIndex, what: Seen) {
    match sightings.binary_search_by_key(&branch, |sighting| sighting.branch) {
        Ok(at) => sightings[at].what = what,
        Err(at) => sightings.insert(at, Sighting { branch, what }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).unwrap()
    }

    fn visible(index: &mut Index) -> Vec<String> {
        index
            .listing(|_| 0)
            .iter()
            .map(|listed| listed.name.to_string())
            .collect()
    }

    #[test]
    fn changes_show_in_the_next_listing() {
        let (upper, lower) = (BranchIndex(0), BranchIndex(1));
        let mut index = Index::default();
        index.found(lower, &name("a"), Some(Kind::File), 1);
        index.found(lower, &name("b"), Some(Kind::Dir), 2);
        assert_eq!(visible(&mut index), ["a", "b"]);
        index.hide(upper, &name("a"));
        assert_eq!(visible(&mut index), ["b"]);
        index.put(upper, &name("a"), Kind::File, 3);
        index.put(upper, &name("c"), Kind::File, 4);
        assert_eq!(visible(&mut index), ["a", "b", "c"]);
        index.remove(upper, &name("a"));
        assert_eq!(
            visible(&mut index),
            ["a", "b", "c"],
            "the lower one shows again"
        );
    }

    #[test]
    fn of_a_pair_the_one_that_wins_is_kept() {
        for (wins, expected) in [
            (true, Resolution::Absent),
            (false, Resolution::File(BranchIndex(0))),
        ] {
            let mut index = Index::default();
            index.found(BranchIndex(0), &name("a"), Some(Kind::File), 1);
            assert!(index.found_whiteout(BranchIndex(0), &name("a"), Seen::Whiteout, wins));
            assert_eq!(resolve(&index.sightings(b"a")), expected);
        }
    }
}
