//! Pseudo-links: hard links of a lower branch that stay one file after one of them was copied up.
//!
//! The copy gets one more name in the branch's store, `.wh..wh.plnk/LOWER.COPY` (both numbers decimal), and
//! all names of the lower file lead to it from then on. A name gets its own link on the copy's branch when
//! data or attributes are reached through it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::{Attr, BranchIndex, Errno, Kind, Name, whiteout};
use tree::{Access, Object, Tree};

use crate::api::InodeId;
use crate::branch::BranchDir;
use crate::error::Result;
use crate::inode::{Inode, Key, NewBody};
use crate::listing::DirStream;
use crate::union::Union;

/// Lower files with several names that were copied up during this mount.
#[derive(Default)]
pub(crate) struct PseudoLinks {
    by_original: HashMap<Key, Record>,
    originals: HashMap<Key, Key>,
}

struct Record {
    branch: BranchIndex,
    stored: Name,
    /// Links as applications count them.
    links: u32,
}

impl<T: Tree> Union<T> {
    /// Returns attributes under whose key the inode is known: those of the original for a copy with several names.
    pub(crate) fn canonical(&self, attr: &Attr) -> Attr {
        let Key { dev, ino } = self.canonical_key(Key::of(attr));
        Attr { dev, ino, ..*attr }
    }

    /// Returns the key under which the inode of what has this key is known.
    pub(crate) fn canonical_key(&self, key: Key) -> Key {
        if !self.has_pseudo_links() {
            return key;
        }
        let links = self.pseudo_links.read();
        links.originals.get(&key).copied().unwrap_or(key)
    }

    /// Returns whether there may be any: every lookup asks, and finds none to look for in most unions.
    fn has_pseudo_links(&self) -> bool {
        self.had_pseudo_links.load(Ordering::Acquire)
    }

    /// Returns where an object is that was copied up under another name.
    pub(crate) fn pseudo_linked_body(&self, canonical: &Attr) -> Option<NewBody<T>> {
        if !self.has_pseudo_links() {
            return None;
        }
        let links = self.pseudo_links.read();
        let record = links.by_original.get(&Key::of(canonical))?;
        let place = Some((self.store(record.branch), record.stored.clone()));
        Some(NewBody::Other {
            branch: record.branch,
            place,
            pseudo_linked: true,
        })
    }

    /// Keeps the names of a lower file together: `copy` in `dir` is what all of them mean from now on.
    pub(crate) fn keep_together(
        &self,
        inode: &Arc<Inode<T>>,
        original: &Attr,
        dir: &Arc<BranchDir<T>>,
        copy_name: &Name,
        copy: &Attr,
    ) -> Result<()> {
        let store = self.store(dir.index());
        let key = inode.key();
        let stored = Name::new(format!("{}.{}", inode.number, copy.ino).as_bytes())?;
        let handle = store.open()?;
        match dir.tree().link(&*dir.open()?, copy_name, &handle, &stored) {
            // An earlier mount may have left one of the same name.
            Err(Errno::EXIST) => {
                dir.tree().remove_file(&handle, &stored)?;
                dir.tree()
                    .link(&*dir.open()?, copy_name, &handle, &stored)?;
            }
            linked => linked?,
        }
        self.had_pseudo_links.store(true, Ordering::Release);
        let mut links = self.pseudo_links.write();
        links.originals.insert(Key::of(copy), key);
        let record = Record {
            branch: dir.index(),
            stored,
            links: original.nlink,
        };
        links.by_original.insert(key, record);
        Ok(())
    }

    /// Returns the number of links that applications see for a pseudo-linked inode.
    pub(crate) fn links_of(&self, inode: &Inode<T>, on_branch: u32) -> u32 {
        let links = self.pseudo_links.read();
        links
            .by_original
            .get(&inode.key())
            .map_or(on_branch, |record| record.links)
    }

    /// Counts a link that came (`1`) or went (`-1`).
    pub(crate) fn count_link(&self, inode: &Inode<T>, change: i32) {
        if let Some(record) = self.pseudo_links.write().by_original.get_mut(&inode.key()) {
            record.links = record.links.saturating_add_signed(change);
        }
    }

    /// Returns where the store keeps an inode's copy.
    pub(crate) fn stored_place(&self, inode: &Inode<T>) -> Option<(Arc<BranchDir<T>>, Name)> {
        let links = self.pseudo_links.read();
        let record = links.by_original.get(&inode.key())?;
        Some((self.store(record.branch), record.stored.clone()))
    }

    /// Gives the branches of copies other numbers. Copies on a branch that is gone are forgotten: their originals show again.
    pub(crate) fn renumber_pseudo_links(&self, order: &HashMap<BranchIndex, BranchIndex>) {
        let mut links = self.pseudo_links.write();
        let PseudoLinks {
            by_original,
            originals,
        } = &mut *links;
        by_original.retain(|_, record| match order.get(&record.branch) {
            Some(branch) => {
                record.branch = *branch;
                true
            }
            None => false,
        });
        originals.retain(|_, original| by_original.contains_key(original));
    }

    /// Gives names of a copy their own links on its branch: the one that was used last, or all that are known.
    pub(crate) fn link_names(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        if !self.settings().link_names_early {
            return self.link_used_name(inode);
        }
        let pseudo_linked = inode
            .other()
            .is_ok_and(|other| other.state.read().pseudo_linked);
        let names = if pseudo_linked {
            inode.names.lock().clone()
        } else {
            Default::default()
        };
        names
            .iter()
            .try_for_each(|(parent, name)| self.link_name(inode, parent, name))
    }

    /// Gives the name that was used last its own link on the copy's branch.
    pub(crate) fn link_used_name(&self, inode: &Arc<Inode<T>>) -> Result<()> {
        let pseudo_linked = inode
            .other()
            .is_ok_and(|other| other.state.read().pseudo_linked);
        match inode.name().filter(|_| pseudo_linked) {
            Some((parent, name)) => self.link_name(inode, &parent, &name),
            None => Ok(()),
        }
    }

    fn link_name(&self, inode: &Arc<Inode<T>>, parent: &Arc<Inode<T>>, name: &Name) -> Result<()> {
        let branch = inode.other()?.state.read().branch;
        let sightings = self.sightings(parent, name)?;
        if sightings.first().is_none_or(|top| top.branch <= branch) {
            return Ok(());
        }
        if !self.can_hold(parent, branch) {
            // Something else has the directory's name there: the store alone keeps this name together with the others.
            return Ok(());
        }
        let target = self.directory_on(parent, branch)?;
        let (from, stored) = self.place_of(inode)?;
        let change = parent.dir()?.change.lock();
        let handle = target.open()?;
        let linked = self.keeping_time(&target, || {
            let from = from.open()?;
            Ok(target.tree().link(&from, &stored, &handle, name)?)
        });
        match linked {
            Ok(()) => {
                let attr = target.tree().attr(Object::Entry(&*handle, name))?;
                self.note_entry(parent, branch, name, &attr)?;
            }
            // Somebody was faster.
            Err(error) if error.errno() == Errno::EXIST => {}
            Err(error) => return Err(error),
        }
        drop(change);
        Ok(())
    }

    /// Gives all names of all copies their links and empties the store, so that hard links are on disk what
    /// they are in the union. Nobody else is at work meanwhile, see [`Union::flush_links`].
    pub fn flush_pseudo_links(&self) -> Result<()> {
        if self.pseudo_links.read().by_original.is_empty() {
            return Ok(());
        }
        self.link_all_names()?;
        let mut records = std::mem::take(&mut *self.pseudo_links.write());
        let originals: Vec<Key> = records.by_original.keys().copied().collect();
        let flush = |original: &Key| {
            if let Some(record) = records.by_original.get(original) {
                self.flush_record(*original, record)?;
            }
            records.by_original.remove(original);
            Ok(())
        };
        let done = originals.iter().try_for_each(flush);
        // What could not be flushed stays together.
        let PseudoLinks {
            by_original,
            originals,
        } = &mut records;
        originals.retain(|_, original| by_original.contains_key(original));
        *self.pseudo_links.write() = records;
        done
    }

    fn flush_record(&self, original: Key, record: &Record) -> Result<()> {
        let store = self.store(record.branch);
        let handle = store.open()?;
        if let Some(copy) = store.tree().look(&handle, &record.stored)? {
            self.stand_alone(original, record, &copy)?;
            store.tree().remove_file(&handle, &record.stored)?;
        }
        Ok(())
    }

    /// Gives all names of all copies their links; the store stays. What `auplink MNT cpup` does.
    pub fn link_all_names(&self) -> Result<()> {
        if self.pseudo_links.read().by_original.is_empty() {
            return Ok(());
        }
        self.link_names_below(&self.inode(InodeId::ROOT)?)
    }

    /// Returns the inode numbers of the copies that are kept together by the store.
    pub fn pseudo_linked(&self) -> Vec<u64> {
        let links = self.pseudo_links.read();
        let numbers = links.by_original.keys().map(|key| self.inodes.number(*key));
        numbers.collect()
    }

    /// Lets a copy be found by its own names, all of which have their links.
    fn stand_alone(&self, original: Key, record: &Record, copy: &Attr) -> Result<()> {
        let Some(inode) = self.inodes.known_as(original) else {
            self.inodes.keep_number(copy, original);
            return Ok(());
        };
        let other = inode.other()?;
        let place = match inode.name() {
            Some((parent, name)) => {
                let state = parent.dir()?.state.read();
                state
                    .member(record.branch)
                    .map(|dir| (Arc::clone(dir), name))
            }
            None => None,
        };
        if place.is_none() && other.state.read().opens > 0 {
            // Its last name is gone: from now on it is reached by what is open.
            self.open_data(&inode, other, Access::ReadWrite)?;
        }
        self.inodes.add_key(&inode, copy);
        let mut state = other.state.write();
        (state.place, state.pseudo_linked) = (place, false);
        Ok(())
    }

    fn link_names_below(&self, top: &Arc<Inode<T>>) -> Result<()> {
        // Directories may be nested deeper than calls: those around the one that is visited, each with what is left in it.
        let mut around = vec![(Arc::clone(top), self.link_names_in(top)?)];
        let mut done = Ok(());
        while let Some((dir, left)) = around.last_mut() {
            let next = left.pop().filter(|_| done.is_ok());
            let Some(name) = next else {
                if let Some((visited, _)) = around.pop()
                    && !around.is_empty()
                {
                    self.inodes.forget(&visited, 1);
                }
                continue;
            };
            match self.find(dir, &name) {
                Ok(Some((inode, _))) => {
                    let names = self.link_names_in(&inode);
                    let names = names.map_err(|error| done = Err(error));
                    around.push((inode, names.unwrap_or_default()));
                }
                Ok(None) => {}
                Err(error) => done = Err(error),
            }
        }
        done
    }

    /// Gives the names in one directory their links; returns the names of the directories in it.
    fn link_names_in(&self, dir: &Arc<Inode<T>>) -> Result<Vec<Name>> {
        let mut dirs = Vec::new();
        let stream = DirStream::of(Arc::clone(dir))?;
        for listed in self.listing_of(&stream)?.iter() {
            if whiteout::is_reserved(listed.name.as_bytes()) {
                continue;
            }
            if listed.kind == Some(Kind::Dir) {
                dirs.push(listed.name.clone());
                continue;
            }
            if listed.ino != 0 && !self.has_original(listed.ino) {
                continue;
            }
            let Some((inode, _)) = self.find(dir, &listed.name)? else {
                continue;
            };
            let done = self.link_used_name(&inode);
            self.inodes.forget(&inode, 1);
            done?;
        }
        Ok(dirs)
    }

    fn has_original(&self, ino: u64) -> bool {
        self.pseudo_links
            .read()
            .by_original
            .keys()
            .any(|key| key.ino == ino)
    }

    fn store(&self, branch: BranchIndex) -> Arc<BranchDir<T>> {
        let name = Name::new(whiteout::PSEUDO_LINKS).expect("the format's names are names");
        self.root_of(branch).child(name)
    }
}
