//! The names in one directory and what the branches say about each, in few bytes.
//!
//! A union that was walked knows every name in it: this is what it keeps of a name that nobody uses. Names stay in the
//! order in which they came, except that the last one takes the place of one that goes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use rules::lookup::Sighting;
use rules::{Kind, Name};
use smallvec::SmallVec;

pub(crate) type Sightings = SmallVec<[Sighting; 2]>;

/// Names, found by their bytes.
#[derive(Default)]
pub(crate) struct NameTable {
    entries: Vec<Entry>,
    /// Where each name is in `entries`; nothing while it is quicker to look at all.
    places: HashTable<u32>,
    /// What is said about names that several branches have, or of which nothing is left to say.
    several: Vec<Sightings>,
    unused: Vec<u32>,
    /// Names come from anybody: nobody can tell which ones would meet in the table.
    hasher: RandomState,
}

/// As many entries as names: 32 bytes of each.
struct Entry {
    name: Name,
    ino: u64,
    /// What the only branch says that has the name.
    only: Sighting,
    /// In the low bits the kind; above them where `several` has more, counted from 1.
    packed: u32,
}

/// What is known about a name.
pub(crate) struct Slot<'a> {
    /// Topmost branch first.
    pub(crate) sightings: &'a [Sighting],
    /// Kind and inode number of the topmost one, where they are known.
    pub(crate) kind: Option<Kind>,
    pub(crate) ino: u64,
}

/// The same while it changes.
#[derive(Default)]
pub(crate) struct Changing {
    pub(crate) sightings: Sightings,
    pub(crate) kind: Option<Kind>,
    pub(crate) ino: u64,
}

/// Up to here looking at all names is as quick as computing where one is.
const FEW: usize = 8;

const KINDS: [Kind; 7] = [
    Kind::File,
    Kind::Dir,
    Kind::Symlink,
    Kind::CharDevice,
    Kind::BlockDevice,
    Kind::Fifo,
    Kind::Socket,
];
const KIND_BITS: u32 = 4;
const KIND_OF: u32 = (1 << KIND_BITS) - 1;

impl NameTable {
    /// Returns what is known about a name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<Slot<'_>> {
        self.place(name).map(|at| self.slot(&self.entries[at]))
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.place(name).is_some()
    }

    /// Returns all names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, Slot<'_>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (&entry.name, self.slot(entry)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Changes what is known about a name, which may be new; one about which nothing is said any more goes.
    pub(crate) fn update<R>(&mut self, name: &Name, change: impl FnOnce(&mut Changing) -> R) -> R {
        let at = self.place(name.as_bytes());
        let mut changing = at.map_or_else(Changing::default, |at| self.take(at));
        let result = change(&mut changing);
        let is_over = changing.sightings.is_empty();
        match at {
            Some(at) if is_over => self.remove(at),
            Some(at) => self.put(at, changing),
            None if is_over => {}
            None => self.add(name.clone(), changing),
        }
        result
    }

    /// Changes what is known about every name; those about which nothing is said any more go.
    pub(crate) fn update_all(&mut self, mut change: impl FnMut(&Name, &mut Changing)) {
        let mut at = 0;
        while at < self.entries.len() {
            let mut changing = self.take(at);
            change(&self.entries[at].name, &mut changing);
            if changing.sightings.is_empty() {
                self.remove(at);
            } else {
                self.put(at, changing);
                at += 1;
            }
        }
    }

    /// Gives back the room that was kept for names to come.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.several.shrink_to_fit();
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.places
            .shrink_to_fit(|at| hasher.hash_one(entries[*at as usize].name.as_bytes()));
    }

    /// Returns how many bytes of memory the names take.
    pub(crate) fn memory(&self) -> usize {
        let shared = |entry: &Entry| entry.name.shared_memory();
        let spilled = |several: &Sightings| {
            if several.spilled() {
                several.capacity() * size_of::<Sighting>()
            } else {
                0
            }
        };
        self.entries.capacity() * size_of::<Entry>()
            + self.entries.iter().map(shared).sum::<usize>()
            + self.places.allocation_size()
            + self.several.capacity() * size_of::<Sightings>()
            + self.several.iter().map(spilled).sum::<usize>()
    }

    fn place(&self, name: &[u8]) -> Option<usize> {
        let is_it = |entry: &Entry| entry.name.as_bytes() == name;
        if self.entries.len() <= FEW {
            return self.entries.iter().position(is_it);
        }
        let hash = self.hasher.hash_one(name);
        let found = self
            .places
            .find(hash, |at| is_it(&self.entries[*at as usize]));
        found.map(|at| *at as usize)
    }

    fn slot<'a>(&'a self, entry: &'a Entry) -> Slot<'a> {
        let sightings = match (entry.packed >> KIND_BITS) as usize {
            0 => std::slice::from_ref(&entry.only),
            more => &self.several[more - 1],
        };
        Slot {
            sightings,
            kind: KINDS
                .get(((entry.packed & KIND_OF) as usize).wrapping_sub(1))
                .copied(),
            ino: entry.ino,
        }
    }

    /// Takes out what is known about a name, which is put back or removed next.
    fn take(&mut self, at: usize) -> Changing {
        let Slot { kind, ino, .. } = self.slot(&self.entries[at]);
        let entry = &mut self.entries[at];
        let sightings = match entry.packed >> KIND_BITS {
            0 => Sightings::from_elem(entry.only, 1),
            more => {
                self.unused.push(more - 1);
                std::mem::take(&mut self.several[(more - 1) as usize])
            }
        };
        entry.packed = 0;
        Changing {
            sightings,
            kind,
            ino,
        }
    }

    fn put(&mut self, at: usize, known: Changing) {
        let kind = known.kind.and_then(|kind| {
            let code = KINDS.iter().position(|known| *known == kind)?;
            Some(code as u32 + 1)
        });
        let mut packed = kind.unwrap_or(0);
        let only = known.sightings[0];
        if known.sightings.len() > 1 {
            let place = match self.unused.pop() {
                Some(place) => {
                    self.several[place as usize] = known.sightings;
                    place
                }
                None => {
                    self.several.push(known.sightings);
                    (self.several.len() - 1) as u32
                }
            };
            packed |= (place + 1) << KIND_BITS;
        }
        let entry = &mut self.entries[at];
        (entry.only, entry.packed, entry.ino) = (only, packed, known.ino);
    }

    fn add(&mut self, name: Name, known: Changing) {
        let at = self.entries.len();
        self.entries.push(Entry {
            name,
            ino: 0,
            only: known.sightings[0],
            packed: 0,
        });
        self.put(at, known);
        match at {
            0..FEW => {}
            FEW => (0..=FEW).for_each(|at| self.enter(at)),
            _ => self.enter(at),
        }
    }

    fn enter(&mut self, at: usize) {
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = |at: &u32| hasher.hash_one(entries[*at as usize].name.as_bytes());
        self.places
            .insert_unique(hash(&(at as u32)), at as u32, hash);
    }

    fn remove(&mut self, at: usize) {
        let last = self.entries.len() - 1;
        if last < FEW {
            self.entries.swap_remove(at);
            return;
        }
        if last == FEW {
            self.places.clear();
        } else {
            self.renumber(at, None);
            if at != last {
                self.renumber(last, Some(at as u32));
            }
        }
        self.entries.swap_remove(at);
    }

    fn renumber(&mut self, at: usize, new: Option<u32>) {
        let hash = self.hasher.hash_one(self.entries[at].name.as_bytes());
        let Ok(mut place) = self.places.find_entry(hash, |known| *known as usize == at) else {
            return;
        };
        match new {
            Some(new) => *place.get_mut() = new,
            None => drop(place.remove()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rules::BranchIndex;
    use rules::lookup::Seen;

    use super::*;

    fn name(number: usize) -> Name {
        Name::new(format!("a name that takes room {number}").as_bytes()).unwrap()
    }

    fn seen(branch: usize) -> Sighting {
        Sighting {
            branch: BranchIndex(branch as u16),
            what: Seen::File,
        }
    }

    /// Names come and go as in an ordinary map, around the size where the table begins as well.
    #[test]
    fn a_table_knows_what_an_ordinary_map_knows() {
        let mut table = NameTable::default();
        let mut model: BTreeMap<usize, (Vec<Sighting>, u64)> = BTreeMap::new();
        let mut state = 1u64;
        for step in 0..20_000u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let most = if step % 4_000 < 2_000 { 12 } else { 200 };
            let number = (state >> 33) as usize % most;
            let branches = (state >> 50) as usize % 4;
            let sightings: Vec<_> = (0..branches).map(seen).collect();
            table.update(&name(number), |known| {
                known.sightings = sightings.iter().copied().collect();
                (known.kind, known.ino) = (Some(Kind::Socket), step);
            });
            if branches == 0 {
                model.remove(&number);
            } else {
                model.insert(number, (sightings, step));
            }
            assert_eq!(table.len(), model.len());
            let known = table.get(name(number).as_bytes());
            let known = known.map(|slot| (slot.sightings.to_vec(), slot.ino, slot.kind));
            let expected = model.get(&number).cloned();
            assert_eq!(
                known,
                expected.map(|(seen, ino)| (seen, ino, Some(Kind::Socket)))
            );
        }
        for (number, (sightings, ino)) in &model {
            let slot = table.get(name(*number).as_bytes()).unwrap();
            assert_eq!((slot.sightings, slot.ino), (&sightings[..], *ino));
        }
        assert_eq!(table.iter().count(), model.len());
        table.update_all(|name, known| {
            if name.as_bytes().ends_with(b"7") {
                known.sightings.clear();
            }
        });
        assert!(
            table
                .iter()
                .all(|(name, _)| !name.as_bytes().ends_with(b"7"))
        );
        assert!(!table.contains(name(7).as_bytes()));
    }

    /// What a name of a directory costs is what a union of many files is made of.
    #[test]
    fn a_short_name_takes_forty_bytes() {
        let mut table = NameTable::default();
        for number in 0..100 {
            let name = Name::new(format!("file_{number:03}.txt").as_bytes()).unwrap();
            table.update(&name, |known| known.sightings.push(seen(0)));
        }
        table.shrink();
        assert!(table.memory() <= 100 * 40, "{} bytes", table.memory());
    }
}
