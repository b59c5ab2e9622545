//! What is known about the names in one directory of the union.
//!
//! A merged directory is read once and then answers for every name, also for missing ones. Changes
//! made through the union are noted here as they are made.

use std::sync::Arc;

use indexmap::IndexMap;
use rules::lookup::{Resolution, Seen, Sighting, resolve};
use rules::{BranchIndex, Kind, Name, Time};
use smallvec::SmallVec;

pub(crate) type Sightings = SmallVec<[Sighting; 2]>;

/// The names of one directory.
#[derive(Default)]
pub(crate) struct Index {
    names: IndexMap<Name, Slot>,
    /// When each member changed last, to notice changes behind the union's back.
    pub(crate) stamps: Vec<Stamp>,
    listing: Option<Arc<Listing>>,
}

#[derive(Default)]
struct Slot {
    sightings: Sightings,
    kind: Option<Kind>,
    ino: u64,
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

pub(crate) struct ListedName {
    pub(crate) name: Name,
    pub(crate) kind: Option<Kind>,
    /// Inode number on the branch that serves the name.
    pub(crate) ino: u64,
    pub(crate) branch: BranchIndex,
}

impl Index {
    /// Returns what the branches say about a name.
    pub(crate) fn sightings(&self, name: &[u8]) -> Sightings {
        self.names
            .get(name)
            .map(|slot| slot.sightings.clone())
            .unwrap_or_default()
    }

    /// Returns what the branches say about each name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &[Sighting]> {
        self.names.values().map(|slot| &slot.sightings[..])
    }

    /// Returns whether no name is visible.
    pub(crate) fn is_empty(&self) -> bool {
        self.all()
            .all(|sightings| resolve(sightings) == Resolution::Absent)
    }

    /// Adds what a branch has while the branches are read topmost first.
    pub(crate) fn found(&mut self, branch: BranchIndex, name: Name, kind: Option<Kind>, ino: u64) {
        let what = if kind == Some(Kind::Dir) {
            Seen::Dir
        } else {
            Seen::File
        };
        let slot = self.names.entry(name).or_default();
        if slot.sightings.is_empty() {
            (slot.kind, slot.ino) = (kind, ino);
        }
        slot.sightings.push(Sighting { branch, what });
    }

    /// Adds a whiteout that a branch has, or something damaged in its place, while the branches are read. Returns whether
    /// the branch has the name itself as well.
    pub(crate) fn found_whiteout(
        &mut self,
        branch: BranchIndex,
        name: Name,
        what: Seen,
        wins: bool,
    ) -> bool {
        let slot = self.names.entry(name).or_default();
        let pair = slot
            .sightings
            .last()
            .is_some_and(|sighting| sighting.branch == branch);
        if pair && wins {
            slot.sightings.pop();
        }
        if !pair || wins {
            slot.sightings.push(Sighting { branch, what });
        }
        pair
    }

    /// Notes that a branch has an entry now, and no whiteout of it.
    pub(crate) fn put(&mut self, branch: BranchIndex, name: &Name, kind: Kind, ino: u64) {
        let what = if kind == Kind::Dir {
            Seen::Dir
        } else {
            Seen::File
        };
        let slot = self.names.entry(name.clone()).or_default();
        set(&mut slot.sightings, branch, what);
        if slot.sightings[0].branch == branch {
            (slot.kind, slot.ino) = (Some(kind), ino);
        }
        self.listing = None;
    }

    /// Notes that a branch has a whiteout of a name now, and no entry.
    pub(crate) fn hide(&mut self, branch: BranchIndex, name: &Name) {
        let slot = self.names.entry(name.clone()).or_default();
        set(&mut slot.sightings, branch, Seen::Whiteout);
        self.listing = None;
    }

    /// Notes that a branch has neither entry nor whiteout of a name now.
    pub(crate) fn remove(&mut self, branch: BranchIndex, name: &Name) {
        if let Some(slot) = self.names.get_mut(name) {
            slot.sightings.retain(|sighting| sighting.branch != branch);
            if slot.sightings.is_empty() {
                self.names.swap_remove(name);
            } else {
                // What shows now was not on top when the branches were read.
                (slot.kind, slot.ino) = (None, 0);
            }
        }
        self.listing = None;
    }

    /// Returns the visible names, in the order in which the branches have them.
    pub(crate) fn listing(&mut self) -> Arc<Listing> {
        let names = &self.names;
        let listing = self.listing.get_or_insert_with(|| {
            let visible = names.iter().filter_map(|(name, slot)| {
                let branch = resolve(&slot.sightings).branch()?;
                let Slot { kind, ino, .. } = *slot;
                Some(ListedName {
                    name: name.clone(),
                    kind,
                    ino,
                    branch,
                })
            });
            Arc::new(visible.collect())
        });
        Arc::clone(listing)
    }

    /// Returns the listing if it was made since the last change.
    pub(crate) fn ready_listing(&self) -> Option<Arc<Listing>> {
        self.listing.clone()
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
            .listing()
            .iter()
            .map(|listed| listed.name.to_string())
            .collect()
    }

    #[test]
    fn changes_show_in_the_next_listing() {
        let (upper, lower) = (BranchIndex(0), BranchIndex(1));
        let mut index = Index::default();
        index.found(lower, name("a"), Some(Kind::File), 1);
        index.found(lower, name("b"), Some(Kind::Dir), 2);
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
            index.found(BranchIndex(0), name("a"), Some(Kind::File), 1);
            assert!(index.found_whiteout(BranchIndex(0), name("a"), Seen::Whiteout, wins));
            assert_eq!(resolve(&index.sightings(b"a")), expected);
        }
    }
}
